"""What a run of the tests has left behind on the machine: processes, sockets, displays, folders.

Only what belongs to this run counts, since others may test on the same machine: what carries the run's
mark in its environment, or lies below its folders. Programs of X sessions start with an environment of
their own, but name a file of their session there, which lies below these folders.
"""

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from broker_stub.agent.x_server import PROGRAM_MARK, SERVER_MARK

RUN_MARK = "TEST_RUN_OF_DCVTUI"
"""Variable of everything that a run starts; its value names the run."""

_PROC = Path("/proc")
_DISPLAYS = Path("/tmp/.X11-unix")
_LOCKS = Path("/tmp")


@dataclass(frozen=True)
class Run:
    """One run of the tests.

    Attributes:
        name: The value of its mark.
        folders: Where everything is that it writes; the first must be empty at its end.
        began_at: Seconds since 1970.
    """

    name: str
    folders: tuple[Path, ...]
    began_at: float

    def leftovers(self) -> list[str]:
        """One line for each thing that should not be there."""
        return [*self._processes(), *self._sockets(), *self._displays(), *self._folders()]

    def settled(self, within_s: float = 10.0, wait: Callable[[float], None] = time.sleep) -> list[str]:
        """What is left when everything that was just ending has had its time."""
        end = time.monotonic() + within_s
        while (found := self.leftovers()) and time.monotonic() < end:
            wait(0.1)
        return found

    def _is_below(self, path: str) -> bool:
        return any(Path(path).is_relative_to(folder) for folder in self.folders)

    def _processes(self) -> Iterator[str]:
        ours = _ancestors()
        for process, variables in _environments():
            is_marked = variables.get(RUN_MARK) == self.name
            is_session = any(self._is_below(variables.get(mark, "/")) for mark in (PROGRAM_MARK, SERVER_MARK))
            if (is_marked or is_session) and process not in ours:
                yield f"process {process}: {_command(process)}"

    def _sockets(self) -> Iterator[str]:
        fields = (line.split(maxsplit=7) for line in (_PROC / "net/unix").read_text().splitlines())
        for path in sorted({each[7] for each in fields if len(each) == 8 and self._is_below(each[7])}):
            yield f"socket {path}"

    def _displays(self) -> Iterator[str]:
        """Sockets and locks of X servers that are gone. Nothing tells whose they were but their time."""
        if _is_somebody_else_testing(self.name):
            return
        for path in _new(_DISPLAYS.glob("X*"), self.began_at):
            if _is_dead(path):
                yield f"display {path}"
        for path in _new(_LOCKS.glob(".X*-lock"), self.began_at):
            with contextlib.suppress(OSError, ValueError):
                if not (_PROC / path.read_text().strip()).exists():
                    yield f"lock {path}"

    def _folders(self) -> Iterator[str]:
        for path in sorted(self.folders[0].iterdir()):
            yield f"folder {path}"


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                content = (entry / "environ").read_bytes().decode("utf-8", "replace")
                pairs = (one.partition("=") for one in content.split("\0"))
                yield int(entry.name), {name: value for name, _, value in pairs}


def _ancestors() -> set[int]:
    """This process and those above it: the mark may come from outside."""
    found, process = set(), os.getpid()
    while process > 1 and process not in found:
        found.add(process)
        stat = (_PROC / str(process) / "stat").read_text()
        process = int(stat[stat.rindex(")") + 2 :].split()[1])
    return found


def _command(process: int) -> str:
    with contextlib.suppress(OSError):
        words = (_PROC / str(process) / "cmdline").read_bytes().decode("utf-8", "replace")
        return " ".join(words.split("\0"))[:200]
    return "?"


def _is_somebody_else_testing(name: str) -> bool:
    return any(variables.get(RUN_MARK, name) != name for _, variables in _environments())


def _new(paths: Iterable[Path], since: float) -> Iterator[Path]:
    for path in paths:
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime >= since:
                yield path


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


class Check:
    """Fails a run that leaves something; a plugin of pytest.

    What tests write by default goes below one folder of the run from here on, and what they start is marked.
    """

    def __init__(self) -> None:
        usual = Path(tempfile.gettempdir())
        # pytest's own folders stay where people look for them, also after the run.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(usual))
        # Short: paths of sockets below it have little room.
        folder = Path(tempfile.mkdtemp(prefix="dt-", dir=usual))
        folder.chmod(0o711)  # owners of sessions pass through
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        os.environ[RUN_MARK] = folder.name
        self._run = Run(folder.name, (folder,), time.time())
        self._found: list[str] = []

    def watch(self, folder: Path) -> None:
        """What lies below this folder belongs to the run as well."""
        self._run = replace(self._run, folders=(*self._run.folders, folder))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Nothing of the run is left on the machine."""
        self._found = self._run.settled()
        if self._found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        else:
            self._run.folders[0].rmdir()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what is left."""
        if self._found:
            terminalreporter.section("left behind", red=True)
        for line in self._found:
            terminalreporter.write_line(line)
