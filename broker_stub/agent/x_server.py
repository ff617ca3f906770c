"""Starts an X server for one session, with its cookie written before it runs.

The server picks its display number itself and says when it accepts clients
(`-displayfd`), so that there is neither a race for numbers nor a wait by guess.
"""

import asyncio
import os
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker_stub.agent import processes
from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.owners import Owner
from broker_stub.agent.processes import Children, Process
from broker_stub.agent.x_programs import PROGRAMS, ServerKind, arguments
from broker_stub.agent.x_protocol import SOCKETS

PROGRAM_MARK = "DCV_SESSION_AUTHORITY"
"""Variable of all programs of a session; its value is the path of the cookie's file. Not the
session's id: a second agent on the host, such as that of a test, may know the same id."""
SERVER_MARK = "DCV_X_SERVER_AUTHORITY"
"""The same for the X server: it must end after the programs, so it has another mark."""


@dataclass(frozen=True, slots=True)
class XServer:
    """A running X server."""

    display: int
    process: Process


def prepare_socket_folder() -> None:
    """Make the folder of X sockets as every user needs it; only root can, others find it or not."""
    if os.geteuid() == 0 and not SOCKETS.exists():
        SOCKETS.mkdir(exist_ok=True)
        SOCKETS.chmod(0o1777)


def server_program(kind: ServerKind = ServerKind.XVFB) -> str | None:
    """Where an X server is, `None` if it is not installed."""
    return PROGRAMS[kind].find()


async def start_x_server(
    kind: ServerKind,
    owner: Owner,
    authority: Path,
    children: Children,
    *,
    rfb_socket: Path,
    title: str,
    limits: ChildLimits,
    geometry: tuple[int, int],
    log: int,
    limit_s: float,
) -> XServer:
    """Start an X server as the owner and return when it accepts clients.

    Args:
        kind: Which server.
        owner: Whose session it is.
        authority: The cookie's file, already written and readable by the owner; it also marks the
            server, so that an orphan is found.
        children: Takes charge of the server.
        rfb_socket: Where a server that people can connect to listens.
        title: What the window of such a client is called.
        limits: What it may use.
        geometry: Width and height of the screen. An Xvfb can never become larger.
        log: Descriptor that takes what the server says.
        limit_s: How long it may take.

    Raises:
        BackendError: it ended, or did not get ready in time; the caller ends what is left of it.
    """
    prepare_socket_folder()
    ready, number = os.pipe()
    try:
        try:
            told = arguments(
                kind,
                number_to=number,
                geometry=geometry,
                authority=authority,
                rfb_socket=rfb_socket,
                title=title,
            )
            child = _launch(kind, told, number, owner, authority, limits, log)
        finally:
            os.close(number)
        process = children.keep(child)
        async with asyncio.timeout(limit_s):
            display = await _display_number(ready)
        if display is None:
            await processes.end([process], 0)
            code = children.exit_code(process)
            raise BackendError(
                Failure.DCV_COMMAND_FAILED, f"The X server ended at once with exit code {code}"
            )
        return XServer(display, process)
    except TimeoutError:
        raise BackendError(
            Failure.TIMEOUT, f"The X server was not ready within {limit_s:g} seconds"
        ) from None
    finally:
        os.close(ready)


def _launch(
    kind: ServerKind,
    told: list[str],
    number: int,
    owner: Owner,
    authority: Path,
    limits: ChildLimits,
    log: int,
) -> subprocess.Popen[bytes]:
    program = server_program(kind)
    if program is None:
        raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, PROGRAMS[kind].missing)
    return subprocess.Popen(
        limits.command(program, *told),
        env=owner.environment | {SERVER_MARK: str(authority)},
        stdout=log,
        stderr=log,
        pass_fds=(number,),
        **owner.start_options,
    )


async def _display_number(ready: int) -> int | None:
    """Read the number the server writes when it accepts clients; `None` if it ended instead."""
    loop = asyncio.get_running_loop()
    os.set_blocking(ready, False)
    readable = asyncio.Event()
    loop.add_reader(ready, readable.set)
    try:
        said = b""
        while not said.endswith(b"\n"):
            await readable.wait()
            readable.clear()
            with suppress(BlockingIOError):
                if not (more := os.read(ready, 64)):
                    return None
                said += more
        return int(said)
    finally:
        loop.remove_reader(ready)


def write_private(path: Path, content: bytes, owner: Owner | None = None) -> None:
    """Write a file that only its owner may read, by rename, so that no reader sees half of it."""
    new = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        if owner is not None and os.geteuid() == 0:
            os.fchown(handle, owner.uid, owner.gid)
        file.write(content)
    new.replace(path)


def remove_dead_socket(display: int) -> None:
    """Remove what a killed X server left, unless another server has taken the number meanwhile."""
    path = SOCKETS / f"X{display}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
        except OSError:
            return
