"""Ten tasks of an operator, each by its keys: what is pressed, and what the screen says.

Against a real broker with simulated servers; the first, with a CA of its own, is
in `test_first_run`, the restart of the broker has a broker of its own.
"""

import contextlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.stand import COMMANDS, Stand
from tests.pseudo_terminal import Terminal
from tests.take_screenshots import demo


@pytest.fixture(scope="module")
def broker() -> Iterator[dict[str, str]]:
    with demo() as environment:
        yield environment


@contextlib.contextmanager
def console(
    broker: dict[str, str],
    home: Path,
    *options: str,
    columns: int = 120,
    rows: int = 40,
    environment: dict[str, str] | None = None,
) -> Iterator[Terminal]:
    """A console with a home of its own, in the list of sessions."""
    places = {name: str(home / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    for place in places.values():
        Path(place).mkdir(exist_ok=True)
    command = [str(COMMANDS / "dcvtui"), *options]
    with Terminal(
        command, columns, rows, environment={**broker, **places, **(environment or {})}
    ) as terminal:
        terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
        terminal.press("2")
        terminal.wait_for("READY")
        yield terminal


def filtered(terminal: Terminal, view: str, expression: str) -> None:
    terminal.press(view, "/")
    terminal.type(expression)
    terminal.press("enter")
    terminal.settle(0.3)


def agree(terminal: Terminal) -> None:
    """Answer yes, once the dialog has stood long enough to be read."""
    terminal.read(0.5)
    terminal.press("y")


def test_whose_is_it_why_is_it_stuck_kill_it(broker: dict[str, str], tmp_path: Path) -> None:
    with console(broker, tmp_path) as terminal:
        filtered(terminal, "2", "state:unknown")
        terminal.press("d")
        text = terminal.wait_for("UNREACHABLE_AGENT")
        assert re.search(r"state +✗ UNKNOWN, (at least )?<1 min", text)
        assert "The agent of the" in text
        assert re.search(r"owner +\w+", text)
        terminal.press("q")
        terminal.wait_for("OWNER")
        name = terminal.line_of("▸").split()[1]
        terminal.press("D")
        text = terminal.wait_for("Delete 1 session?")
        assert "force: the broker forgets the session at once" in " ".join(text.split())
        agree(terminal)
        text = terminal.wait_for("1 failed")
        assert "not reachable" in " ".join(text.split())
        terminal.press("r")
        terminal.wait_for("Delete 1 session?")
        terminal.read(0.5)
        terminal.press("f")
        terminal.wait_for("[x] force")
        terminal.press("y")
        terminal.wait_until(lambda text: "▸" not in text or name not in terminal.line_of("▸"), "it to go")
        terminal.press("5")
        terminal.wait_for(re.compile(rf"{name} +no longer listed|{name} +UNKNOWN → DELET"))
        assert re.search(rf"delete +{name} +failed", terminal.text)
    trail = next(tmp_path.rglob("audit.jsonl"))
    outcomes = [json.loads(line)["outcome"] for line in trail.read_text().splitlines()]
    assert outcomes == ["failed", "done"]
    assert stat.S_IMODE(trail.stat().st_mode) == 0o600


def test_drain_servers_for_patching(broker: dict[str, str], tmp_path: Path) -> None:
    with console(broker, tmp_path) as terminal:
        filtered(terminal, "3", "name:gpu-dub-* state:available")
        terminal.wait_for("AVAILABLE")
        terminal.press("*", "R")
        text = terminal.wait_for(re.compile(r"Drain \d+ servers?\?"))
        assert re.search(r"\d+ sessions? on them\. Closes them to new sessions \(force\), ends none", text)
        agree(terminal)
        terminal.wait_for(re.compile(r"drain: 0 of \d+ empty, \d+ sessions left"))
        terminal.press("esc")
        filtered(terminal, "3", "name:gpu-dub-*")
        terminal.wait_for("SERVER_CLOSED")
        terminal.press("1")
        terminal.wait_for("draining")
        names = re.findall(r"gpu-dub-\d+", terminal.text)
        assert names
        terminal.press("q")
        assert terminal.wait_exit() == 0
    with console(broker, tmp_path) as terminal:
        filtered(terminal, "3", "name:gpu-dub-* state:server_closed")
        terminal.wait_for("SERVER_CLOSED")
        terminal.press("*", "u")
        terminal.wait_for(re.compile(r"Open \d+ servers?\?"))
        agree(terminal)
        terminal.wait_for(re.compile(r"Open: \d+ done"))


def test_give_bob_a_view_of_anas_session_and_take_it_back(broker: dict[str, str], tmp_path: Path) -> None:
    with console(broker, tmp_path) as terminal:
        filtered(terminal, "2", "owner:ana state:ready")
        terminal.press("p")
        terminal.wait_for("What is in force is not known (created elsewhere). Sending replaces it whole.")
        terminal.press("ctrl+r")
        terminal.wait_for("View only for X")
        terminal.type("bob")
        terminal.press("enter")
        terminal.wait_for("bob gains display, pointer")
        terminal.press("ctrl+o")
        terminal.wait_for("Send these permissions to 1 session?")
        terminal.wait_for("+bob allow display pointer")
        agree(terminal)
        terminal.wait_for("permissions: 1 sent.")
        terminal.press("p")
        text = terminal.wait_for(
            re.compile(r"Sent by you \d\d:\d\d; somebody else may have sent another since")
        )
        terminal.press("ctrl+r")
        terminal.wait_for("Nothing more for X")
        terminal.type("bob")
        terminal.press("up", "up", "up", "up", "enter")
        terminal.wait_for("bob loses display, pointer")
        terminal.press("ctrl+o")
        terminal.wait_for("Send these permissions to 1 session?")
        terminal.wait_for("-bob allow display pointer")
        agree(terminal)
        terminal.wait_for("permissions: 1 sent.")
        terminal.press("Z")
        text = terminal.wait_for("Send the permissions before these to 1 session again?")
        assert "bob gains display, pointer" in text
        agree(terminal)
        terminal.wait_for("permissions: 1 sent.")
    kept = next(tmp_path.rglob("permissions-*.json"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_many_stale_sessions_are_cleared_away_with_those_in_use_left_out(
    broker: dict[str, str], tmp_path: Path
) -> None:
    with console(broker, tmp_path) as terminal:
        filtered(terminal, "2", "state:unknown or age>3d")
        terminal.press("*", "D")
        text = terminal.wait_for(re.compile(r"Delete \d+ sessions\?"))
        words = " ".join(text.split())
        assert re.search(r"\d+ owners, \d+ with clients \(left out, c takes them in\)", words)
        agree(terminal)
        text = terminal.wait_for(re.compile(r"Delete: \d+ done"))
        assert "left out" in text
        terminal.press("esc")
        filtered(terminal, "2", "state:unknown or idle>7d")
        terminal.press(":")
        terminal.type("show-command")
        terminal.press("enter")
        terminal.wait_for("reap --filter 'state:unknown or idle>7d' --force --dry-run")


def test_in_a_small_terminal_over_a_multiplexer_everything_fits(
    broker: dict[str, str], tmp_path: Path
) -> None:
    with console(broker, tmp_path, columns=90, rows=25, environment={"TMUX": "/tmp/none,1,0"}) as terminal:
        heads = terminal.text.splitlines()[2].replace("▴", "").split()
        assert heads == ["NAME", "OWNER", "STATE", "SERVER", "CLIENTS", "AGE"]
        foot = terminal.text.splitlines()[-1]
        assert foot.rstrip().endswith("? help")
        assert not re.search(r"\w…|  \w$", foot)
        terminal.press("d")
        terminal.wait_for("esc close")
        terminal.press("esc")
        for key, words in (
            ("n", "New session"),
            ("p", "Permissions of"),
            ("c", "authToken"),
            ("?", "Keys in"),
        ):
            terminal.press(key)
            terminal.wait_for(words)
            assert all(len(line) <= 90 for line in terminal.text.splitlines())
            terminal.press("esc")
            terminal.wait_for("OWNER")
        terminal.resize(100, 30)
        terminal.wait_until(lambda text: len(text.splitlines()) == 30 and "? help" in text, "a whole screen")


@pytest.mark.parametrize(("options", "environment"), [((), {"NO_COLOR": "1"}), (("--ascii",), {})])
def test_without_colour_or_with_ascii_every_state_has_its_sign_and_word(
    broker: dict[str, str], tmp_path: Path, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    with console(broker, tmp_path, *options, environment=environment) as terminal:
        is_ascii = bool(options)
        terminal.wait_for("* READY" if is_ascii else "● READY")
        terminal.wait_for("x UNKNOWN" if is_ascii else "✗ UNKNOWN")
        terminal.press("space")
        terminal.wait_for(re.compile(r"^.v " if is_ascii else r"^.✓ ", re.MULTILINE))
        assert re.search(r"^> " if is_ascii else r"^▸", terminal.text, re.MULTILINE)
        terminal.press("D")
        terminal.wait_for("> n cancel" if is_ascii else "▸ n cancel")
        if is_ascii:
            assert {character for character in terminal.text if not character.isascii()} == set()
        else:
            colours = set(re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", bytes(terminal.raw)))
            assert colours
            assert all(red == green == blue for red, green, blue in colours)


def test_the_link_to_a_laptop(broker: dict[str, str], tmp_path: Path) -> None:
    with console(
        broker, tmp_path, environment={"SSH_CONNECTION": "198.51.100.1 1 198.51.100.2 22"}
    ) as terminal:
        filtered(terminal, "2", "state:ready")
        terminal.press("c")
        text = terminal.wait_for(re.compile(r"Valid +until \d\d:\d\d"))
        assert re.search(r"user +\w+", text, re.IGNORECASE)
        token = re.search(r"authToken=(\S+)", text)
        assert token is not None
        assert "…" in token[1] or "•" in token[1] or "*" in token[1]
        terminal.press("y")
        terminal.wait_for("sent to the terminal's clipboard")
        assert b"\x1b]52;c;" in bytes(terminal.raw)
        terminal.press("v")
        terminal.wait_for("authToken=ey")
        assert b"\x1b[?1000l" in bytes(terminal.raw)
        terminal.press("x")
        terminal.wait_for(re.compile(r"Valid +until"))
        assert "authToken=ey" not in terminal.text
        terminal.press("s")
        text = terminal.wait_for(re.compile(r"saved ~/\S+\.dcv"))
        assert re.search(r"scp \S+:", " ".join(text.split()))
    saved = next((tmp_path / "HOME").glob("*.dcv"))
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_room_for_a_class(broker: dict[str, str], tmp_path: Path) -> None:
    with console(broker, tmp_path) as terminal:
        terminal.press("n")
        terminal.wait_for("New session")
        terminal.type("bob")
        terminal.press("tab")
        terminal.type("class-{n}")
        terminal.press("tab", "backspace")
        terminal.type("3")
        terminal.wait_for("class-1 to class-3")
        terminal.press("tab", "tab")
        terminal.type("tag:gpu = 'yes' and server:Host.Os.Famly = 'linux'")
        text = terminal.wait_for("mean server:Host.Os.Family?")
        assert re.search(r"   \^   ", text)
        terminal.press(*["left"] * len("ly = 'linux'"))
        terminal.type("i")
        terminal.wait_for(re.compile(r"matches \d+ of \d+ servers, \d+ of them can take a VIRTUAL"))
        terminal.press("tab", "left")
        terminal.press("ctrl+o")
        terminal.wait_for("3 sessions accepted")
        filtered(terminal, "2", "name:class-*")
        terminal.wait_until(lambda text: text.count("READY") >= 3 or "CREATING" in text, "the class", 60)


def test_the_broker_restarts_while_a_form_is_being_typed(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.start_broker()
    try:
        stand.register()
        with Terminal([str(COMMANDS / "dcvtui")], 120, 40, environment=stand.environment) as terminal:
            terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
            terminal.press("2", "n")
            terminal.wait_for("New session")
            terminal.type("ana")
            stand.kill(stand.broker)
            terminal.wait_for(re.compile(r"stale since \d\d:\d\d:\d\d"), 60)
            terminal.press("tab")
            terminal.type("cad-1")
            terminal.press("ctrl+o")
            terminal.wait_for("not sent: ", 60)
            assert re.search(r"Owner +ana", terminal.text)
            assert re.search(r"Name +cad-1", terminal.text)
            stand.start_broker()
            terminal.wait_gone("stale since", 90)
            terminal.wait_for("live", 60)
            terminal.type("23")
            terminal.wait_for(re.compile(r"Name +cad-123"))
            terminal.press("esc")
            terminal.press("q")
            assert terminal.wait_exit() == 0
    finally:
        if stand.broker and stand.broker.poll() is None:
            stand.broker.terminate()
            stand.broker.wait(20)


def test_what_a_console_keeps_is_told_by_locate(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    printed = subprocess.run(
        [COMMANDS / "dcvtui", "locate"], env=environment, capture_output=True, text=True, check=True
    )
    for name in ("settings.toml", "saved.json", "audit.jsonl"):
        assert name in printed.stdout
