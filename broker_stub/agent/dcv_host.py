"""A host with a DCV server: whether this is one, and its backend put together from agent.conf."""

from contextlib import AsyncExitStack

from broker_stub.agent.dcv_backend import DcvBackend
from broker_stub.agent.dcv_command import DcvCommand
from broker_stub.agent.dcv_start import DcvSettings
from broker_stub.agent.settings import AgentSettings


def is_dcv_host(settings: AgentSettings) -> bool:
    """Whether sessions are run by `dcv`: as told, else if the command is there.

    A host that was told so and lacks the command is still one: it is reported as unhealthy until
    the DCV server is (back) in its place.
    """
    wanted = settings.backend.type
    return wanted == "dcv" or (wanted == "auto" and not DcvCommand(settings.agent.dcv_root).missing)


async def open_backend(settings: AgentSettings, stack: AsyncExitStack) -> DcvBackend:
    """Start the backend; the stack ends it, and sessions live on."""
    console = settings.backend.console
    backend = await DcvBackend.open(
        DcvSettings(
            program=settings.agent.dcv_root,
            state_folder=settings.state.directory / "dcv",
            init_folder=settings.agent.init_folder,
            autorun_folder=settings.agent.autorun_folder,
            console_allowed=console is True or console == "auto",
            minimum_uid=settings.backend.minimum_uid,
        )
    )
    stack.push_async_callback(backend.stop)
    return backend
