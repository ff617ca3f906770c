"""Processes that outlive the agent: told apart from recycled ids, found, waited for, ended.

A process id alone says little after an agent's restart. Here a process is its id
with its start time, and a zombie counts as dead: in a container whose first
process does not reap, dead children stay listed (DCV server specification, 4.5).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: its id and when it started, in clock ticks since boot."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether it still runs: not gone, not a zombie, not another one under its id."""
        return find(self.pid) == self


def find(pid: int) -> Process | None:
    """The running process of an id, `None` if there is none or only a zombie."""
    try:
        state, started = _state_and_start(pid)
    except OSError:
        return None
    return None if state in "ZXx" else Process(pid, started)


def _state_and_start(pid: int) -> tuple[str, int]:
    state, _, started = _fields(pid)
    return state, started


def _fields(pid: int) -> tuple[str, int, int]:
    """State, parent and start of a process."""
    stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    # The name in brackets may hold anything, brackets and blanks included.
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


def find_by_variable(name: str, value: str) -> list[Process]:
    """All running processes that were started with this environment variable.

    Children inherit it even if they leave their process group or session, which
    makes it the one mark that programs of a desktop do not lose by accident.
    """
    mark = f"{name}={value}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile, or another user's: then it is not of a session of ours
        if mark in variables and (process := find(int(entry.name))):
            found.append(process)
    return found


def with_descendants(found: Iterable[Process]) -> list[Process]:
    """These processes and all that they have started, as far as what is between them still runs."""
    children = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children[_fields(int(entry.name))[1]].append(int(entry.name))
    # The id of a dead one may be a stranger's by now.
    all_of_them = dict.fromkeys(process for process in found if process.is_alive)
    waiting = [process.pid for process in all_of_them]
    while waiting:
        for pid in children[waiting.pop()]:
            if (process := find(pid)) and process not in all_of_them:
                all_of_them[process] = None
                waiting.append(pid)
    return list(all_of_them)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        except OSError:  # kernels before 5.3: a hair's breadth of a race is left
            if process.is_alive:
                os.kill(process.pid, number)
            return
        try:
            if process.is_alive:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


async def wait_until_gone(process: Process) -> None:
    """Return when the process has ended, whoever its parent is."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # kernels before 5.3
        while process.is_alive:  # noqa: ASYNC110  nothing tells there; the caller cancels
            await asyncio.sleep(_POLL_S)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        if process.is_alive:  # else the handle is of a stranger under the same id
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def end(processes: Iterable[Process], grace_s: float) -> None:
    """End processes: ask, wait for `grace_s`, then kill; returns when all are gone."""
    waiting = [process for process in processes if process.is_alive]
    for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, None)):
        if number is signal.SIGTERM and not grace_s:
            continue
        for process in waiting:
            send_signal(process, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                for process in waiting:
                    await wait_until_gone(process)
        waiting = [process for process in waiting if process.is_alive]
        if not waiting:
            return


def boot_id() -> str:
    """Names this run of the machine: process ids and start times of another one mean nothing."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Children:
    """The processes this agent started itself: only their parent can reap them and learn how they ended."""

    def __init__(self) -> None:
        self._children: dict[Process, subprocess.Popen[bytes]] = {}

    def keep(self, child: subprocess.Popen[bytes]) -> Process:
        """Take charge of a child; answers which process it is.

        It is not reaped before this, so its id is still its own even if it has ended already.
        """
        process = Process(child.pid, _state_and_start(child.pid)[1])
        self._children[process] = child
        return process

    def exit_code(self, process: Process) -> int | None:
        """How a child ended, negative for a signal; reaps it. `None`: it runs, or is not our child."""
        child = self._children.get(process)
        if child is None or child.poll() is None:
            return None
        del self._children[process]
        return child.returncode

    def reap(self) -> None:
        """Reap all that have ended, so that they do not stay listed as zombies."""
        for process in list(self._children):
            self.exit_code(process)

    def let_go(self) -> None:
        """Leave all to themselves: they live on without this process."""
        for child in self._children.values():
            # Popen would complain about a child that nobody waited for.
            child.returncode = 0
        self._children.clear()
