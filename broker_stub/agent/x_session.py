"""Starts and ends one X session: the server, the program in it, the one beside it.

The X backend keeps the books; here is what happens on the machine, in the order
that keeps people's work: programs end before the X server they draw on.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from broker_stub.agent import processes, x_server
from broker_stub.agent.backend import BackendError, Endpoint, Failure, SessionSpec
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.desktop import BACKGROUND, desktop_command
from broker_stub.agent.layouts import Head
from broker_stub.agent.owners import Owner, UserMode, find_owner, start_file
from broker_stub.agent.processes import Children, Process
from broker_stub.agent.screenshots import Screen
from broker_stub.agent.session_permissions import check as check_permissions
from broker_stub.agent.x_authority import authority_record, new_cookie
from broker_stub.agent.x_layout import apply_layout
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_protocol import XProtocolError, paint
from broker_stub.agent.x_server import PROGRAM_MARK
from broker_stub.agent.x_state import LogFile, SessionFolder, XSession, session_folders
from dcvtui.api.states import SessionType

LONGEST_NAME = 256
_ENDPOINT = Endpoint(port=8443)


@dataclass(frozen=True, slots=True, kw_only=True)
class XSettings:
    """How the X backend runs sessions on this host."""

    state_folder: Path
    """Where it keeps its sessions; their owners must be able to pass through the folders above it."""
    init_folder: Path
    """Scripts that may be a session's program; the session ends with it."""
    autorun_folder: Path
    """Programs that may be started in a new session."""
    server: ServerKind = ServerKind.XVFB
    """Which X server new sessions run on; those of the other kind that are there already stay."""
    geometry: tuple[int, int] = (1280, 720)
    """Screen of a new session; an Xvfb can never become larger."""
    layout: tuple[Head, ...] = ()
    """Monitors of a new session, the primary one first; without any its screen is one."""
    desktop_commands: tuple[tuple[str, ...], ...] = ()
    """What runs in a session without init script: the first that is installed. Without any the best
    that this host has."""
    user_mode: UserMode = UserMode.AUTO
    """As whom sessions run."""
    minimum_uid: int = 1000
    """An agent that runs as root starts no session for users below this id."""
    console: Screen | None = None
    """The display on the host's own screen, for its console session."""
    limits: ChildLimits = field(default_factory=ChildLimits)
    """What the processes of a session may use."""
    endpoint: Endpoint = _ENDPOINT
    """Reported so that URLs can be formed, even where an Xvfb takes no clients."""
    start_limit_s: float = 15.0
    """Time for an X server to get ready."""
    settle_s: float = 1.0
    """How long a session's program must have lived before the session counts as usable."""
    grace_s: float = 5.0
    """Time for programs to end before they are killed; none with force."""
    screenshot_limit_s: float = 5.0


@dataclass(frozen=True, slots=True)
class StartPlan:
    """All that was looked up and checked before anything is started."""

    owner: Owner
    init: tuple[str, ...]
    autorun: tuple[str, ...]
    storage_root: str


def plan_start(spec: SessionSpec, settings: XSettings) -> StartPlan:
    """Check a request against this host: owner, files, storage. Blocks for some milliseconds.

    Raises:
        BackendError: the session cannot be started as asked.
    """
    check_name(spec.name)
    check_permissions(spec.permissions)
    owner = find_owner(spec.owner, settings.minimum_uid, settings.user_mode)
    if spec.init_file is None:
        init = desktop_command(settings.desktop_commands)
    else:
        init = (start_file(owner, settings.init_folder, spec.init_file, Failure.INIT_FILE_INVALID),)
    autorun: tuple[str, ...] = ()
    if spec.autorun_file is not None:
        program = start_file(owner, settings.autorun_folder, spec.autorun_file, Failure.AUTORUN_FILE_INVALID)
        autorun = (program, *spec.autorun_file_arguments)
    return StartPlan(owner, init, autorun, _storage_root(owner, spec.storage_root))


def check_name(name: str) -> None:
    """Names have a limit, as on a DCV server.

    Raises:
        BackendError: this one is too long.
    """
    if len(name) > LONGEST_NAME:
        raise BackendError(
            Failure.DCV_COMMAND_FAILED,
            f"The name of a session has at most {LONGEST_NAME} characters, not {len(name)}",
        )


def _storage_root(owner: Owner, wanted: str | None) -> str:
    """The folder in use; storage is off (empty) if it is not there or not the owner's to enter."""
    if not wanted:
        return ""
    path = Path(wanted.replace("%home%", owner.home))
    is_usable = path.is_absolute() and owner.may("-d", path) and owner.may("-x", path)
    return str(path) if is_usable else ""


async def start_session(
    spec: SessionSpec, plan: StartPlan, settings: XSettings, folder: SessionFolder, children: Children
) -> XSession:
    """Start everything and return when the session is usable.

    Whatever goes wrong, the caller clears up with `clear_session`.

    Raises:
        BackendError: it could not be started; the message ends with what its programs said last.
    """
    folder.make(plan.owner)
    folder.write_permissions(spec.permissions)
    cookie = new_cookie()
    folder.write_authority(authority_record(cookie), plan.owner)
    await asyncio.to_thread(_check_reach, plan.owner, folder.authority)
    with _told_by(folder.server_log) as log:
        server = await x_server.start_x_server(
            settings.server,
            plan.owner,
            folder.authority,
            children,
            rfb_socket=folder.rfb_socket,
            title=_window_title(spec),
            limits=settings.limits,
            geometry=settings.geometry,
            log=log,
            limit_s=settings.start_limit_s,
        )
    variables = session_variables(plan.owner, server.display, folder, spec.session_id)
    if settings.layout:
        await apply_layout(settings.server, settings.layout, settings.geometry, plan.owner, variables)
    # Only for the eye: a display that does not take it will show in the next step.
    with suppress(OSError, XProtocolError):
        await asyncio.to_thread(paint, server.display, cookie, BACKGROUND, settings.screenshot_limit_s)
    with _told_by(folder.log) as log:
        init = children.keep(_launch(settings.limits.command(*plan.init), plan.owner, variables, log))
        session = _record(spec, plan, settings, server, init)
        folder.write(session)
        if plan.autorun:
            _start_beside(settings.limits.command(*plan.autorun), plan.owner, variables, log, children)
        await _settle(session, settings.settle_s, plan.init[0], children)
    return session


def session_variables(owner: Owner, display: int, folder: SessionFolder, session_id: str) -> dict[str, str]:
    """The environment of everything that runs in a session."""
    return owner.environment | {
        "DISPLAY": f":{display}",
        "XAUTHORITY": str(folder.authority),
        "XDG_SESSION_TYPE": "x11",
        "DCV_SESSION_ID": session_id,
        PROGRAM_MARK: str(folder.authority),
    }


@contextmanager
def _told_by(log: LogFile) -> Iterator[int]:
    """A log open for programs; if they fail, the reason ends with what they said last."""
    descriptor = log.open()
    try:
        yield descriptor
    except BackendError as error:
        tail = log.tail()
        raise BackendError(error.code, f"{error.message}: {tail}" if tail else error.message) from None
    finally:
        os.close(descriptor)


def _check_reach(owner: Owner, authority: Path) -> None:
    if not owner.may("-r", authority):
        raise BackendError(
            Failure.INTERNAL,
            f"{owner.name} cannot pass through to {authority}: a folder above it needs chmod a+x",
        )


def _window_title(spec: SessionSpec) -> str:
    """What a client's window is called: the session's name, if that is something to read."""
    return "".join(sign for sign in spec.name if sign.isprintable()).strip() or spec.session_id


def _record(
    spec: SessionSpec, plan: StartPlan, settings: XSettings, server: x_server.XServer, init: Process
) -> XSession:
    return XSession(
        id=spec.session_id,
        name=spec.name,
        owner=spec.owner,
        creation_time=datetime.now(UTC),
        display=server.display,
        width=settings.geometry[0],
        height=settings.geometry[1],
        x_server=server.process,
        init=init,
        boot_id=processes.boot_id(),
        server=settings.server,
        storage_root=plan.storage_root,
        max_concurrent_clients=spec.max_concurrent_clients,
    )


def _launch(command: list[str], owner: Owner, variables: dict[str, str], log: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env=variables, stdout=log, stderr=log, **owner.start_options)
    except OSError as error:
        name = Path(command[0]).name
        raise BackendError(Failure.DCV_COMMAND_FAILED, f"{name} could not be run: {error.strerror}") from None


def _start_beside(
    command: list[str], owner: Owner, variables: dict[str, str], log: int, children: Children
) -> None:
    """Start the autorun program; its failure is written to the session's log and harms nothing else."""
    try:
        children.keep(_launch(command, owner, variables, log))
    except BackendError as error:
        os.write(log, f"autorun: {error.message}\n".encode())


async def _settle(session: XSession, settle_s: float, program: str, children: Children) -> None:
    """Wait long enough to see that the program does not end at once.

    Raises:
        BackendError: it did, or the X server went away.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(settle_s):
            await wait_for_end(session)
    if not session.init.is_alive:
        code = children.exit_code(session.init)
        raise BackendError(
            Failure.DCV_COMMAND_FAILED, f"{Path(program).name} ended at once with exit code {code}"
        )
    if not session.x_server.is_alive:
        raise BackendError(Failure.DCV_COMMAND_FAILED, "The X server ended at once")


async def wait_for_end(session: XSession) -> None:
    """Return when a session's program or its X server has ended."""
    waits = [
        asyncio.create_task(processes.wait_until_gone(process))
        for process in (session.init, session.x_server)
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def end_all_sessions(state_folder: Path) -> None:
    """End every session kept below a state folder at once, for whoever takes the whole place away."""
    folders = await asyncio.to_thread(lambda: list(session_folders(state_folder.resolve() / "sessions")))
    await asyncio.gather(*(clear_session(folder, 0.0) for folder in folders))


async def clear_session(folder: SessionFolder, grace_s: float) -> None:
    """End whatever runs of a session, programs first, and remove what it left on disk.

    Args:
        folder: The session's folder.
        grace_s: How long programs, and then the X server, may take before they are killed.
    """
    session = folder.read()
    if session and session.type is SessionType.CONSOLE:
        # The display and all that runs on it are the host's own.
        await asyncio.to_thread(folder.remove)
        return
    # A program with a group of its own hides its variables.
    known = (session.init,) if session and session.is_of_this_boot else ()
    # Twice: what was just starting another program while it was asked to end.
    for grace in (grace_s, 0.0):
        await processes.end(await asyncio.to_thread(folder.programs, *known), grace)
    servers = await asyncio.to_thread(folder.servers)
    # An X server needs some milliseconds to remove its socket, and nobody's work is in it.
    await processes.end(servers, max(grace_s, 1.0))
    if session:
        await asyncio.to_thread(x_server.remove_dead_socket, session.display)
    await asyncio.to_thread(folder.remove)
