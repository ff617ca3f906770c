"""The agent as a process: puts its parts together, owns the signals, tells how it ended."""

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from broker_stub.agent import dcv_host, x_host
from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.agent_log import set_level
from broker_stub.agent.backend import Endpoint
from broker_stub.agent.conversation import Pace
from broker_stub.agent.dcv_backend import DcvBackend
from broker_stub.agent.ec2 import is_switched_off
from broker_stub.agent.host import RealHost, address_towards
from broker_stub.agent.identity import Address, IdentityFile, StateInUse, lock_state
from broker_stub.agent.journal import Journal
from broker_stub.agent.journal_file import JournalFile
from broker_stub.agent.service import Agent
from broker_stub.agent.settings import AgentSettings, Loaded, SettingsError, load_settings
from broker_stub.agent.simulated_process import run_fleet
from broker_stub.agent.tags import TagsFolder
from broker_stub.agent.watch import Limits
from broker_stub.agent.x_backend import XBackend

logger = logging.getLogger(__name__)

EXIT_FAILED = 1


def run(loaded: Loaded, config: Path) -> int:
    """Run the agent of this host until SIGTERM or SIGINT.

    Args:
        loaded: Its settings.
        config: The file they came from, read again on SIGHUP.

    Returns:
        The exit status of the process.
    """
    if loaded.settings.backend.type == "simulated":
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run_fleet(loaded))
        return 0
    state = loaded.settings.state.directory
    try:
        lock = lock_state(state)
    except (StateInUse, OSError) as error:
        logger.error("The agent cannot start: %s", error)  # noqa: TRY400  the sentence is all there is to say
        return EXIT_FAILED
    with lock, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_run(loaded, config))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The fastest event loop there is; over TLS it also takes half the memory for each connection."""
    try:
        import uvloop  # noqa: PLC0415  may be missing
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run(loaded: Loaded, config: Path) -> int:
    settings = loaded.settings
    async with AsyncExitStack() as parts:
        try:
            agent, backend = await _assembled(loaded, parts)
        except (OSError, ValueError) as error:
            logger.error("The agent cannot start: %s", error)  # noqa: TRY400  the sentence is all there is to say
            return EXIT_FAILED
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        loop.add_signal_handler(signal.SIGHUP, _reload, agent, backend, config)
        logger.info("Agent for the broker at %s starts.", settings.agent.broker_host)
        await agent.run()
    logger.info("Agent stopped; sessions run on.")
    return 0


async def _assembled(loaded: Loaded, parts: AsyncExitStack) -> tuple[Agent, DcvBackend | XBackend]:
    settings = loaded.settings
    agent, state = settings.agent, settings.state.directory
    access = BrokerAccess(
        BrokerAddress(agent.broker_host, agent.broker_port, agent.ca_file, agent.tls_strict),
        _own_address(settings).hostname,
        state / "credentials.json",
        loaded.statement,
    )
    backend, endpoints = await _opened_backend(settings, access, parts)
    whole = Agent(
        IdentityFile(state, lambda: _own_address(settings)),
        access,
        backend,
        RealHost(reports_users=agent.enable_query_logged_in_users, ec2_endpoint=_ec2_endpoint(settings)),
        tags=TagsFolder(agent.tags_folder),
        limits=_limits(settings),
        endpoints=endpoints if settings.server.endpoints is None else _endpoints(settings),
        journal=Journal(JournalFile(state / "journal.jsonl")),
        pace=Pace(update_interval_s=agent.broker_update_interval),
    )
    return whole, backend


async def _opened_backend(
    settings: AgentSettings, access: BrokerAccess, parts: AsyncExitStack
) -> tuple[DcvBackend | XBackend, Sequence[Endpoint] | None]:
    """What runs the sessions, and where clients reach them if the backend does not know."""
    if dcv_host.is_dcv_host(settings):
        return await dcv_host.open_backend(settings, parts), None
    host = await x_host.open_host(settings, access, _own_address(settings), parts)
    return host.backend, host.endpoints


def _ec2_endpoint(settings: AgentSettings) -> str | None:
    """Where to ask about this machine of EC2; nothing if that is switched off here or for all AWS tools."""
    return settings.ec2.endpoint if settings.ec2.metadata and not is_switched_off(os.environ) else None


def _limits(settings: AgentSettings) -> Limits:
    return Limits(settings.agent.max_virtual_sessions, settings.agent.max_concurrent_sessions_per_user)


def _endpoints(settings: AgentSettings) -> list[Endpoint]:
    return [Endpoint(**dict(one)) for one in settings.server.endpoints or ()]


def _own_address(settings: AgentSettings) -> Address:
    found = address_towards(settings.agent.broker_host, settings.agent.broker_port)
    told = settings.server
    return Address(told.hostname or found.hostname, told.ip or found.ip, told.dns_name or found.dns_name)


def _reload(agent: Agent, backend: DcvBackend | XBackend, config: Path) -> None:
    """Apply the keys that can change while the agent runs; an unusable file changes nothing."""
    try:
        settings = load_settings(config).settings
    except SettingsError as error:
        logger.warning("The settings stay as they are: %s", error)
        return
    set_level(settings.log)
    agent.adjust(_limits(settings), settings.agent.broker_update_interval)
    backend.use_folders(settings.agent.init_folder, settings.agent.autorun_folder)
    logger.info("Settings read again from %s.", config)


def check_host(settings: AgentSettings) -> None:
    """Look whether this host has what the settings ask for.

    Raises:
        SettingsError: with everything that is missing.
    """
    if problems := [*_backend_problems(settings), *_ca_problems(settings)]:
        raise SettingsError(problems)


def _backend_problems(settings: AgentSettings) -> Iterator[str]:
    if settings.backend.type != "simulated" and not dcv_host.is_dcv_host(settings):
        yield from x_host.problems(settings)


def _ca_problems(settings: AgentSettings) -> Iterator[str]:
    agent = settings.agent
    if agent.ca_file is None or not agent.tls_strict:
        return
    try:
        ssl.create_default_context(cafile=agent.ca_file)
    except (OSError, ssl.SSLError) as error:
        yield f"agent.ca_file: {agent.ca_file} cannot be used: {error}."
