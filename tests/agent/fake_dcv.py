"""A fake `dcv` installed in a folder of a test, with sessions, calls and faults to look at and to set."""

import contextlib
import fcntl
import json
import shlex
import site
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker_stub.agent.dcv_start import DcvSettings
from tests.agent import fake_dcv_program

ENDPOINTS = [{"address": "*", "port": 8443, "protocol": "TCP", "web-url-path": "/"}]


class FakeDcv:
    """The command and the server behind it.

    Args:
        folder: An empty folder that is the fake's own.
        is_windows: Whether it takes and offers what a Windows host does.

    Attributes:
        program: The path of the executable.
    """

    def __init__(self, folder: Path, *, is_windows: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.program = folder / "dcv"
        state = {
            "sessions": {},
            "faults": {},
            "serial": 0,
            "is_windows": is_windows,
            "endpoints": ENDPOINTS,
        }
        (folder / "state.json").write_text(json.dumps(state))
        words = [
            sys.executable,
            "-I",
            "-S",
            fake_dcv_program.__file__,
            str(folder),
            site.getsitepackages()[0],
        ]
        # A shell that only hands its arguments on: the interpreter's own options fit in no first line.
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.program.chmod(0o755)

    @contextlib.contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads((self._folder / "state.json").read_text())
            yield state
            draft = self._folder / "state.new"
            draft.write_text(json.dumps(state))
            draft.replace(self._folder / "state.json")

    # -------------------------------------------------------------- what happens by itself

    def go_wrong(self, command: str, **fault: Any) -> None:
        """Make a command misbehave from now on; `*` stands for all.

        Args:
            command: Such as `create-session`.
            fault: `stderr` and `code`, `stdout` (`repeated` many times), `delay_s`, `hangs`, `times`
                (how often); for creations `vanish_after_s` and `display_after_s`; `without` (keys of
                the answer), `has_old_times`, `is_bare` for what is listed; `draws` for pictures.
        """
        with self._state() as state:
            state["faults"][command] = fault

    def recover(self) -> None:
        """Behave well again."""
        with self._state() as state:
            state["faults"] = {}

    def appear(self, session_id: str, **members: Any) -> None:
        """A session made by hand on the host."""
        with self._state() as state:
            state["serial"] += 1
            state["sessions"][session_id] = {
                "id": session_id,
                "owner": "ana",
                "name": "",
                "type": "virtual",
                "num-of-connections": 0,
                "created_at": time.time(),
                "last-disconnection-time": "",
                "storage-root": "",
                "permissions": None,
                "shows_at": 0,
                "x11-display": f":{state['serial']}",
                "x11-authority": str(self._folder / f"{session_id}.xauth"),
            } | members

    def change(self, session_id: str, **members: Any) -> None:
        """Something about a session is different now, such as `num-of-connections`."""
        with self._state() as state:
            state["sessions"][session_id] |= members

    def disappear(self, session_id: str) -> None:
        """A session ends by itself."""
        with self._state() as state:
            del state["sessions"][session_id]

    def offer_endpoints(self, endpoints: Any) -> None:
        """Answer this when asked for endpoints."""
        with self._state() as state:
            state["endpoints"] = endpoints

    # -------------------------------------------------------------- what tests look at

    @property
    def sessions(self) -> dict[str, dict[str, Any]]:
        """What the server has, by id."""
        with self._state() as state:
            found: dict[str, dict[str, Any]] = state["sessions"]
        return found

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every run of the command: `arguments`, `environment`, `pid`, `at`."""
        path = self._folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls_of(self, command: str) -> list[list[str]]:
        """The arguments of every run of one command."""
        return [call["arguments"] for call in self.calls if call["arguments"][:1] == [command]]

    @property
    def hanging(self) -> list[int]:
        """The processes of a run that hangs, its child included; empty before there is one."""
        path = self._folder / "hanging"
        return [int(word) for word in path.read_text().split()] if path.exists() else []


def dcv_settings(fake: FakeDcv, folder: Path, **changes: object) -> DcvSettings:
    """Settings of a backend on a fake command, with everything below one folder and short waits."""
    for name in ("init", "autorun"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o755)
    plain: dict[str, object] = {
        "program": fake.program,
        "state_folder": folder / "state",
        "init_folder": folder / "init",
        "autorun_folder": folder / "autorun",
        "minimum_uid": 0,
        "poll_s": 0.2,
        "create_poll_s": 0.05,
        "settle_s": 0.1,
    }
    return DcvSettings(**(plain | changes))  # type: ignore[arg-type]  # fields by name, checked by the class
