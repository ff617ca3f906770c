"""The layout of one X session: looked up, and changed as text asks for.

Used by the backend and by the commands for an administrator on the host.
"""

import asyncio
from pathlib import Path

from broker_stub.agent.backend import BackendError, Failure, Monitor
from broker_stub.agent.layouts import LayoutError, read_layout
from broker_stub.agent.owners import UserMode, find_owner
from broker_stub.agent.screenshots import Screen, monitors_of
from broker_stub.agent.x_layout import apply_layout
from broker_stub.agent.x_session import session_variables
from broker_stub.agent.x_state import SessionFolder, XSession
from dcvtui.api.states import SessionType


def screen_of(session: XSession, folder: SessionFolder) -> Screen:
    """The display of a session and the way in to it."""
    return Screen(session.display, Path(session.authority) if session.authority else folder.authority)


async def change_layout(
    session: XSession, folder: SessionFolder, layout: str, user_mode: UserMode, limit_s: float
) -> tuple[Monitor, ...]:
    """Give a session another size, or other monitors; answers those it has then.

    Args:
        session: Which session.
        folder: Where it keeps its files.
        layout: As `read_layout` takes it, such as `800x600,1024x768`; the first is the primary one.
        user_mode: As whom sessions run.
        limit_s: How long its display may take to answer.

    Raises:
        BackendError: that is no layout, or the display cannot have it.
    """
    try:
        heads = read_layout(layout)
    except LayoutError as error:
        raise BackendError(Failure.DCV_COMMAND_FAILED, f"The layout cannot be set: {error}") from None
    if session.type is SessionType.CONSOLE:
        raise BackendError(
            Failure.TYPE_NOT_SUPPORTED, "The layout of the host's own display is not the agent's to set"
        )
    owner = await asyncio.to_thread(find_owner, session.owner, 0, user_mode)
    variables = session_variables(owner, session.display, folder, session.id)
    await apply_layout(session.server, heads, (session.width, session.height), owner, variables)
    return await monitors_of(screen_of(session, folder), limit_s)
