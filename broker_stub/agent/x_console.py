"""The console session of a host: the desktop that is on its screen already, shown to one owner.

Nothing is started for it and nothing is ended with it: the X server belongs to
whoever logs in at the host. The administrator names the display and the file with
its cookie in agent.conf; without these there are virtual sessions only.
"""

import asyncio
import socket
from collections.abc import Collection
from datetime import UTC, datetime

from broker_stub.agent import processes, rfb_socket
from broker_stub.agent.backend import BackendError, Failure, SessionSpec
from broker_stub.agent.owners import Owner, UserMode, find_owner, local_user
from broker_stub.agent.processes import Process
from broker_stub.agent.screenshots import Screen, monitors_of
from broker_stub.agent.session_permissions import check as check_permissions
from broker_stub.agent.x_protocol import SOCKETS
from broker_stub.agent.x_state import SessionFolder, XSession
from dcvtui.api.states import SessionType


def check_company(wanted: SessionType, present: Collection[SessionType]) -> None:
    """Console and virtual sessions exclude each other on a host, and there is one console.

    Args:
        wanted: The type of a new session.
        present: Those of all that are there or just starting.

    Raises:
        BackendError: the new one cannot be beside them.
    """
    if wanted is SessionType.CONSOLE and present:
        raise BackendError(Failure.CONSOLE_BUSY, "A console session needs a host without any other session")
    if SessionType.CONSOLE in present:
        raise BackendError(Failure.CONSOLE_BUSY, "The host has a console session, which excludes all others")


async def open_console(
    spec: SessionSpec, screen: Screen | None, folder: SessionFolder, mode: UserMode, limit_s: float
) -> XSession:
    """Take the running display as a session.

    Args:
        spec: The request.
        screen: The host's display; `None` if it has none to share.
        folder: Where the session keeps its files.
        mode: As whom sessions run, which says whether the owner must be known here.
        limit_s: How long the display may take to answer.

    Raises:
        BackendError: there is no display, it does not answer, or programs are to be started in it.
    """
    if screen is None:
        raise BackendError(
            Failure.TYPE_NOT_SUPPORTED,
            "This host has no running display to share: it offers virtual sessions only",
        )
    if spec.init_file is not None:
        raise BackendError(Failure.INIT_FILE_INVALID, "A console session takes no init file")
    if spec.autorun_file is not None:
        raise BackendError(Failure.AUTORUN_FILE_INVALID, "A console session takes no autorun file")
    check_permissions(spec.permissions)
    owner = await asyncio.to_thread(_owner, spec.owner, mode)
    layout = await monitors_of(screen, limit_s)
    server = await asyncio.to_thread(server_of, screen.display)
    folder.make(owner)
    folder.write_permissions(spec.permissions)
    session = XSession(
        id=spec.session_id,
        name=spec.name,
        owner=spec.owner,
        type=SessionType.CONSOLE,
        creation_time=datetime.now(UTC),
        display=screen.display,
        width=max(one.x + one.width for one in layout),
        height=max(one.y + one.height for one in layout),
        x_server=server,
        # There is no program whose end would be the session's: it lasts as long as the display.
        init=server,
        boot_id=processes.boot_id(),
        layout=layout,
        authority=str(screen.authority),
        max_concurrent_clients=spec.max_concurrent_clients,
    )
    folder.write(session)
    return session


def _owner(name: str, mode: UserMode) -> Owner:
    return find_owner(name, 0, mode) if mode is UserMode.SAME else local_user(name)


def server_of(display: int) -> Process:
    """The X server of a display.

    Raises:
        BackendError: none answers there.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(1.0)
            link.connect(str(SOCKETS / f"X{display}"))
            server = rfb_socket.peer_of(link)
    except OSError:
        server = None
    if server is None:
        raise BackendError(
            Failure.DCV_SERVER_UNAVAILABLE, f"No X server runs on display :{display} of the host"
        )
    return server
