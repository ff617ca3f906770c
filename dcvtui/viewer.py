"""The native viewer of this machine: where it is, and starting it without showing it the token in the open.

Arguments and variables of a process can be read by others. The viewer is given the
path of a file that only its owner can read, and that is gone after a minute or
when the viewer ends.
"""

import asyncio
import atexit
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dcvtui.errors import ProgramError
from dcvtui.private_files import replace_private

_PROGRAM: Final = "dcvviewer"
_ON_MACOS: Final = Path("/Applications/DCV Viewer.app/Contents/MacOS/dcvviewer")
_KEPT_S: Final = 60.0
_SETTLED_S: Final = 1.0
_OURS: Final = ("DCV_SM_", "DCVTUI_")


class ViewerError(ProgramError):
    """The viewer did not start."""


def find_viewer(environ: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """The native viewer of this machine.

    Args:
        environ: The variables of the process; `PATH` and the display.
        platform: As `sys.platform` has it.

    Returns:
        `None` where there is none, or where it would open on another person's desk: over SSH.
    """
    if environ.get("SSH_TTY") or environ.get("SSH_CONNECTION"):
        return None
    if platform == "darwin" and _ON_MACOS.exists():
        return _ON_MACOS
    has_display = platform in ("darwin", "win32") or environ.get("WAYLAND_DISPLAY") or environ.get("DISPLAY")
    found = shutil.which(_PROGRAM, path=environ.get("PATH", ""))
    return Path(found) if found and has_display else None


class Viewer:
    """Starts the viewer, and takes its files away again, at the latest when this program ends.

    Args:
        program: The viewer.
        environ: The variables of the process; the viewer gets them without those that hold our secrets.
        kept_s: How long a file stays at most.
        settled_s: How long the viewer is watched for an end that is none of the person's.
    """

    def __init__(
        self,
        program: Path,
        environ: Mapping[str, str],
        *,
        kept_s: float = _KEPT_S,
        settled_s: float = _SETTLED_S,
    ) -> None:
        self._program = program
        self._environ = {name: value for name, value in environ.items() if not name.startswith(_OURS)}
        self._base = _private_base(environ)
        self._kept_s = kept_s
        self._settled_s = settled_s
        self._folders: set[Path] = set()
        self._watches: set[asyncio.Task[None]] = set()
        atexit.register(self.close)

    async def open(self, text: str) -> str:
        """Start the viewer with the text of a `.dcv` file.

        Returns:
            What to tell the person.

        Raises:
            ViewerError: it cannot be started, or ends at once.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix="dcvtui-", dir=self._base))
            self._folders.add(folder)
            file = folder / "session.dcv"
            replace_private(file, text.encode())
            process = await asyncio.to_thread(self._start, file)
        except OSError as error:
            self.close()
            raise ViewerError(
                f"The viewer {self._program} cannot be started: {error.strerror or error}. "
                "Save the file and open it by hand."
            ) from None
        ended = _end_of(process)
        watch = asyncio.create_task(self._watch(ended, folder))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        done, _ = await asyncio.wait((ended,), timeout=self._settled_s)
        if done and ended.result() != 0:
            raise ViewerError(
                f"The viewer {self._program} ended at once with status {ended.result()}. "
                "Save the file and open it by hand to see what it says."
            )
        return f"{self._program.name} started"

    def close(self) -> None:
        """Take all files away that are still there; viewers go on."""
        for folder in list(self._folders):
            self._remove(folder)

    def _start(self, file: Path) -> "subprocess.Popen[bytes]":
        # Not asyncio's own: it kills its children when the loop ends, and the viewer is to stay.
        return subprocess.Popen(
            [self._program, file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environ,
            start_new_session=True,  # a Ctrl-C in the console is not for it
        )

    async def _watch(self, ended: "asyncio.Future[int]", folder: Path) -> None:
        done, _ = await asyncio.wait((ended,), timeout=self._kept_s)
        if done and ended.result() == 0:
            # One that runs already takes the file over, and the one that was started ends at once.
            await asyncio.sleep(self._settled_s)
        self._remove(folder)

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folders.discard(folder)


def _end_of(process: "subprocess.Popen[bytes]") -> "asyncio.Future[int]":
    """The status of a process, when it has one; nobody has to wait for it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    def wait() -> None:
        status = process.wait()
        with contextlib.suppress(RuntimeError):  # this program is ending
            loop.call_soon_threadsafe(tell, status)

    threading.Thread(target=wait, name="viewer", daemon=True).start()
    return ended


def _private_base(environ: Mapping[str, str]) -> Path | None:
    """A folder that is this person's alone and in memory, where the system has one."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    try:
        status = runtime.stat()
    except OSError:
        return None
    is_ours = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return runtime if is_ours else None
