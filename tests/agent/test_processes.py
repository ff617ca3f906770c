"""Processes told apart, waited for and ended, whoever their parent is."""

import asyncio
import os
import signal
import subprocess

import pytest

from broker_stub.agent import processes
from broker_stub.agent.processes import Children, Process
from tests.agent.x_sessions import until


def started(*command: str, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={"PATH": os.environ["PATH"]} | variables)


def test_a_zombie_and_another_start_time_are_not_alive() -> None:
    child = started("sleep", "600")
    process = processes.find(child.pid)
    assert process is not None
    assert process.is_alive
    assert not Process(child.pid, process.started + 1).is_alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive, "a zombie"
    child.wait()
    assert processes.find(child.pid) is None


def test_a_signal_for_a_dead_process_does_not_reach_the_one_under_its_id() -> None:
    child = started("sleep", "600")
    process = processes.find(child.pid)
    assert process is not None
    processes.send_signal(Process(child.pid, process.started - 1), signal.SIGKILL)
    assert process.is_alive
    processes.send_signal(process, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    processes.send_signal(process, signal.SIGKILL)


@pytest.mark.parametrize("has_handles", [True, False])
async def test_ends_are_waited_for_also_on_old_kernels(
    has_handles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_handles:

        def no_handles(pid: int) -> int:
            raise OSError("not implemented")

        monkeypatch.setattr(os, "pidfd_open", no_handles)
        monkeypatch.setattr(processes, "_POLL_S", 0.01)
    children = Children()
    process = children.keep(started("sleep", "600"))
    waiting = asyncio.create_task(processes.wait_until_gone(process))
    await processes.end([process], grace_s=5)
    await asyncio.wait_for(waiting, 30)
    assert children.exit_code(process) == -signal.SIGTERM
    assert children.exit_code(process) is None, "told once, then reaped"
    await processes.wait_until_gone(process)


async def test_a_process_is_found_by_the_variable_it_was_started_with() -> None:
    children = Children()
    # A shell that starts another process in a session of its own: both carry the mark.
    process = children.keep(started("sh", "-c", "setsid sleep 600 & exec sleep 600", A_MARK="x1"))
    await until(lambda: len(processes.find_by_variable("A_MARK", "x1")) == 2)
    found = processes.find_by_variable("A_MARK", "x1")
    assert process in found
    assert processes.find_by_variable("A_MARK", "x") == []
    await processes.end(found, 1)
    assert processes.find_by_variable("A_MARK", "x1") == []
    children.reap()
