"""What tests with real X sessions share: a place for them, and looks at the machine from outside."""

import asyncio
import getpass
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from broker_stub.agent import processes
from broker_stub.agent.backend import SessionSpec
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_programs import PROGRAMS, ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder, XSession
from dcvtui.api.states import SessionType

needs_xvfb = pytest.mark.skipif(
    PROGRAMS[ServerKind.XVFB].find() is None, reason="Xvfb is missing: apt-get install xvfb xterm"
)
needs_xvnc = pytest.mark.skipif(
    PROGRAMS[ServerKind.XVNC].find() is None,
    reason="Xvnc is missing: apt-get install tigervnc-standalone-server xterm",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start sessions for other users")

ME = getpass.getuser()
OTHER = "nobody"


GRABBER = "broker_stub.agent.screenshot_process"


def grabbers() -> list[psutil.Process]:
    """The processes of this one that take pictures."""
    children = psutil.Process().children()
    return [one for one in children if one.status() != psutil.STATUS_ZOMBIE and GRABBER in one.cmdline()]


def script(path: Path, text: str) -> Path:
    """An executable script that anybody may run."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@contextmanager
def passable_place() -> Iterator[Path]:
    """A folder that any user can pass through; pytest takes that right away from its own folders."""
    with tempfile.TemporaryDirectory(prefix="dcvtui-x-") as name:
        place = Path(name)
        place.chmod(0o711)
        yield place


def settings_in(folder: Path, **changes: object) -> XSettings:
    """Settings with everything below one folder."""
    for name in ("init", "autorun", "state"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o755)
    plain: dict[str, object] = {
        "state_folder": folder / "state",
        "init_folder": folder / "init",
        "autorun_folder": folder / "autorun",
        "geometry": (800, 600),
        "minimum_uid": 0,
        "grace_s": 2.0,
        "settle_s": 0.3,
    }
    return XSettings(**(plain | changes))  # type: ignore[arg-type]  # fields by name, checked by the class


def spec_of(
    session_id: str = "s-1",
    owner: str = ME,
    *,
    name: str = "cad-1",
    init_file: str | None = None,
    autorun_file: str | None = None,
    arguments: tuple[str, ...] = (),
    **more: str,
) -> SessionSpec:
    """A request for a virtual session."""
    return SessionSpec(
        session_id=session_id,
        name=name,
        owner=owner,
        type=SessionType.VIRTUAL,
        init_file=init_file,
        autorun_file=autorun_file,
        autorun_file_arguments=arguments,
        permissions=more.get("permissions"),
        storage_root=more.get("storage_root"),
    )


async def until(holds: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until a condition outside this program holds."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"did not come true within {limit_s} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(settings: XSettings) -> AsyncIterator[XBackend]:
    """A backend whose sessions end with the test, whatever happened."""
    backend = await XBackend.open(settings)
    try:
        yield backend
    finally:
        for session in await backend.list():
            await backend.close(session.id, force=True)
        await backend.stop()


def folder_of(settings: XSettings, session_id: str = "s-1") -> SessionFolder:
    """Where a session keeps its files."""
    return SessionFolder(settings.state_folder / "sessions" / session_id)


def session_of(settings: XSettings, session_id: str = "s-1") -> XSession:
    """A session as its agent has written it down."""
    session = folder_of(settings, session_id).read()
    assert session is not None
    return session


def program_of(process: processes.Process) -> str:
    """What a process runs."""
    return Path(f"/proc/{process.pid}/comm").read_text().strip()


def nothing_left(settings: XSettings, session_id: str, display: int) -> bool:
    """Whether the machine shows no trace of a session."""
    return nothing_is_left(folder_of(settings, session_id), display)


def nothing_is_left(folder: SessionFolder, display: int) -> bool:
    """Whether the machine shows no trace of the session that was kept there."""
    return not (
        folder.programs()
        or folder.servers()
        or Path(f"/tmp/.X11-unix/X{display}").exists()
        or Path(f"/tmp/.X{display}-lock").exists()
        or folder.path.exists()
    )
