"""The look at what a run leaves behind finds what is there, and nothing of anybody else."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_stub.agent.x_server import PROGRAM_MARK, SERVER_MARK
from tests.leftovers import RUN_MARK, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run").mkdir()
    (tmp_path / "more").mkdir()
    return Run("run-of-a-test", (tmp_path / "run", tmp_path / "more"), time.time())


@contextlib.contextmanager
def process(**variables: str) -> Iterator[int]:
    child = subprocess.Popen(["sleep", "600"], env=variables)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def test_a_clean_run_leaves_nothing(run: Run) -> None:
    assert run.leftovers() == []


def test_a_process_of_the_run_is_named_and_one_of_another_run_is_not(run: Run) -> None:
    with process(**{RUN_MARK: run.name}) as ours, process(**{RUN_MARK: "another"}):
        assert run.leftovers() == [f"process {ours}: sleep 600 "]


@pytest.mark.parametrize("mark", [PROGRAM_MARK, SERVER_MARK])
def test_a_process_of_an_x_session_is_known_by_its_folder(run: Run, mark: str) -> None:
    inside = str(run.folders[1] / "x" / "authority")
    with process(**{mark: inside}) as ours, process(**{mark: "/var/lib/x/authority"}):
        assert run.leftovers() == [f"process {ours}: sleep 600 "]


def test_sockets_and_folders_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.folders[0] / "dcvtui-x-1").mkdir()
    path = run.folders[1] / "s"
    monkeypatch.chdir(run.folders[1])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path) if len(str(path)) > 100 else str(path))
        listener.listen()
        found = run.leftovers()
    assert f"folder {run.folders[0] / 'dcvtui-x-1'}" in found
    assert len(str(path)) > 100 or f"socket {path}" in found


def test_what_is_just_ending_is_waited_for(run: Run) -> None:
    passing = run.folders[0] / "passing"
    passing.mkdir()
    assert run.settled(wait=lambda _: passing.rmdir()) == []
