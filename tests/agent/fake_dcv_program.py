"""A stand-in for the `dcv` command: what it prints, how it fails, how long it takes.

Run as a program by `tests.agent.fake_dcv`, which also says what is to go wrong.
Sessions are entries of a JSON file that every run locks, so that many may run at
once. It takes the documented options in both spellings and refuses all others, as
the real command does (Administrator Guide, command reference).
"""

import base64
import contextlib
import fcntl
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

State = dict[str, Any]

VALUES = {
    "create-session": (
        "--type", "--name", "--user", "--owner", "--permissions-file", "--storage-root", "--gl",
        "--max-concurrent-clients", "--init",
    ),
    "set-permissions": ("--session", "--file"),
    "get-screenshot": ("--max-width", "--max-height", "--format", "--output"),
}  # fmt: skip
FLAGS = {
    "list-sessions": ("--json",),
    "describe-session": ("--json",),
    "list-connections": ("--json",),
    "list-endpoints": ("--json",),
    "get-screenshot": ("--json", "--primary"),
    "set-permissions": ("--none", "--reset-builtin"),
}
COMMANDS = {*VALUES, *FLAGS, "close-session", "version"}
LINUX_ONLY = ("--type", "--user", "--init", "--gl")
SCREEN = (1280, 720)


def fail(text: str, code: int = 1) -> NoReturn:
    """End as the real command does when something is wrong."""
    sys.stderr.write(text + "\n")
    sys.exit(code)


class Fake:
    """One run of the command.

    Args:
        folder: Where the state is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.options: dict[str, str] = {}
        self.session_id = ""

    @contextlib.contextmanager
    def state(self) -> Iterator[State]:
        """The state, locked; what was changed is kept."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self._folder / "state.json"
            state: State = json.loads(path.read_text())
            now = time.time()
            state["sessions"] = {
                key: one for key, one in state["sessions"].items() if one.get("ends_at", now + 1) > now
            }
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                draft = path.with_suffix(".new")
                draft.write_text(json.dumps(state))
                draft.replace(path)

    def note_call(self, arguments: list[str]) -> None:
        """Keep how this command was called, for tests to look at."""
        call = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "pid": os.getpid(),
            "at": time.time(),
        }
        with (self._folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps(call) + "\n")

    def fault(self, command: str) -> State:
        """What is to go wrong in this run, if anything."""
        with self.state() as state:
            faults = state["faults"]
            name = command if command in faults else "*"
            fault: State = faults.get(name, {})
            if "times" in fault:
                fault["times"] -= 1
                if fault["times"] < 0:
                    return {}
            return dict(fault)

    def parse(self, command: str, arguments: list[str], *, is_windows: bool) -> None:
        """Take options apart: `--opt value` and `--opt=value`, the id before or after them."""
        values, flags = VALUES.get(command, ()), FLAGS.get(command, ())
        short = {"-j": "--json", "-o": "--output"}
        rest = list(arguments)
        positional = []
        while rest:
            word = rest.pop(0)
            name, has_value, value = word.partition("=")
            name = short.get(name, name)
            if is_windows and name in LINUX_ONLY:
                fail(f"Unknown option {name}")
            if name in values:
                if not has_value and not rest:
                    fail(f"Missing argument for {name}")
                self.options[name] = value if has_value else rest.pop(0)
            elif name in flags and not has_value:
                self.options[name] = ""
            elif word.startswith("-"):
                fail(f"Unknown option {word}")
            else:
                positional.append(word)
        if len(positional) > 1:
            fail("Too many arguments")
        self.session_id = positional[0] if positional else ""

    # -------------------------------------------------------------- commands

    def create_session(self, fault: State) -> None:
        """`dcv create-session`"""
        options, session_id = self.options, self.session_id
        if not session_id:
            fail("Missing session id")
        if len(options.get("--name", "")) > 256:
            fail("The session name is too long")
        for option in ("--init", "--permissions-file"):
            if option in options and not Path(options[option]).is_file():
                fail(f"{options[option]}: no such file")
        with self.state() as state:
            kind = "console" if state["is_windows"] else options.get("--type", "virtual")
            kinds = {one["type"] for one in state["sessions"].values()}
            if session_id in state["sessions"]:
                fail(f"Session {session_id} already exists")
            if "console" in kinds or (kind == "console" and kinds):
                fail("A console session cannot run together with other sessions")
            state["serial"] += 1
            now = time.time()
            session = {
                "id": session_id,
                "owner": options.get("--owner", "root"),
                "name": options.get("--name", ""),
                "type": kind,
                "num-of-connections": 0,
                "created_at": now,
                "last-disconnection-time": "",
                "storage-root": self._storage_root(),
                "permissions": _text(options.get("--permissions-file")),
                "shows_at": now + fault.get("display_after_s", 0),
                "x11-display": f":{state['serial']}",
                "x11-authority": str(self._folder / f"{session_id}.xauth"),
            }
            if "vanish_after_s" in fault:
                session["ends_at"] = now + fault["vanish_after_s"]
            state["sessions"][session_id] = session

    def _storage_root(self) -> str:
        # A missing folder disables the storage, it does not fail.
        wanted = self.options.get("--storage-root", "").replace("%home%", str(Path.home()))
        return wanted if wanted and Path(wanted).is_dir() else ""

    def close_session(self, _fault: State) -> None:
        """`dcv close-session`"""
        with self.state() as state:
            if state["sessions"].pop(self.session_id, None) is None:
                fail(f"Session {self.session_id} not found")

    def list_sessions(self, fault: State) -> None:
        """`dcv list-sessions`"""
        with self.state() as state:
            sessions = list(state["sessions"].values())
        if "--json" not in self.options:
            for one in sessions:
                print(
                    f"Session: '{one['id']}' (owner:{one['owner']} type:{one['type']} name:'{one['name']}')"
                )
        elif fault.get("is_bare"):
            print(json.dumps([{"id": one["id"]} for one in sessions]))
        else:
            print(json.dumps([self._described(one, fault) for one in sessions]))

    def describe_session(self, fault: State) -> None:
        """`dcv describe-session`"""
        print(json.dumps(self._described(self._session(), fault)))

    def _described(self, session: State, fault: State) -> State:
        own = ("created_at", "shows_at", "ends_at", "permissions")
        shown = {key: value for key, value in session.items() if key not in own}
        # Two releases write times in two forms.
        form = "%Y-%m-%dT%H:%M:%S" + ("Z" if fault.get("has_old_times") else f".{_micros(session):06d}Z")
        shown["creation-time"] = time.strftime(form, time.gmtime(session["created_at"]))
        shown["display-layout"] = [{"width": SCREEN[0], "height": SCREEN[1], "x": 0, "y": 0}]
        if session["shows_at"] > time.time():
            del shown["x11-display"], shown["x11-authority"]
        else:
            Path(session["x11-authority"]).touch()
        for name in fault.get("without", ()):
            shown.pop(name, None)
        return shown

    def set_permissions(self, _fault: State) -> None:
        """`dcv set-permissions`"""
        modes = [name for name in ("--none", "--reset-builtin", "--file") if name in self.options]
        if len(modes) != 1:
            fail("Exactly one of --none, --reset-builtin and --file is needed")
        text = {"--none": "", "--reset-builtin": None}.get(modes[0], _text(self.options.get("--file")))
        self.session_id = self.options.get("--session", "")
        self._session()
        with self.state() as state:
            state["sessions"][self.session_id]["permissions"] = text

    def get_screenshot(self, fault: State) -> None:
        """`dcv get-screenshot`"""
        session = self._session()
        image_format = self.options.get("--format", "png").lower()
        width, height = SCREEN
        limits = [
            int(self.options[name]) / full
            for name, full in (("--max-width", width), ("--max-height", height))
            if name in self.options
        ]
        scale = min([1.0, *limits])
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        from PIL import Image

        picture = Image.new("RGB", size, (20 * int(session["x11-display"][1:]) % 256, 90, 140))
        file = io.BytesIO()
        picture.save(file, fault.get("draws", image_format))
        answer = {"format": image_format, "base64": base64.b64encode(file.getvalue()).decode()}
        for name in fault.get("without", ()):
            answer.pop(name)
        print(json.dumps(answer))

    def list_connections(self, _fault: State) -> None:
        """`dcv list-connections`"""
        print(json.dumps([{"connection-id": n} for n in range(self._session()["num-of-connections"])]))

    def list_endpoints(self, _fault: State) -> None:
        """`dcv list-endpoints`"""
        with self.state() as state:
            print(json.dumps(state["endpoints"]))

    def version(self, _fault: State) -> None:
        """`dcv version`"""
        print("Amazon DCV 2024.0 (r19030)\nServer 2024.0-19030, libdcv 5.1.0")

    def _session(self) -> State:
        with self.state() as state:
            session: State | None = state["sessions"].get(self.session_id)
        if session is None:
            fail(f"Session {self.session_id} not found")
        return session


def _micros(session: State) -> int:
    return int(session["created_at"] % 1 * 1_000_000)


def _text(path: str | None) -> str | None:
    return None if path is None else Path(path).read_text()


def main() -> None:
    """Run one command."""
    fake = Fake(Path(sys.argv[1]))
    sys.path.append(sys.argv[2])
    arguments = sys.argv[3:]
    fake.note_call(arguments)
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
        fail(f"Unknown command {command}")
    fault = fake.fault(command)
    if fault.get("hangs"):
        # Its child holds the pipes open as well: killing only the parent would not free whoever reads.
        child = subprocess.Popen(["/bin/sleep", "600"])
        (Path(sys.argv[1]) / "hanging").write_text(f"{os.getpid()} {child.pid}")
        child.wait()
    time.sleep(fault.get("delay_s", 0))
    with fake.state() as state:
        is_windows = state["is_windows"]
    fake.parse(command, arguments[1:], is_windows=is_windows)
    if "stdout" in fault or "stderr" in fault:
        sys.stdout.write(fault.get("stdout", "") * fault.get("repeated", 1))
        if "stderr" in fault:
            fail(fault["stderr"], fault.get("code", 1))
        return
    run = getattr(fake, re.sub("-", "_", command))
    run(fault)


if __name__ == "__main__":
    main()
