"""Names that would steer a terminal, on every screen and in every output: codes, and columns in line."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from dcvtui.api.text import visible
from tests.awkward_broker import Asked, AwkwardBroker, reply
from tests.end_to_end.recorded_terminal import DCVTUI, RecordedTerminal, serving

EVIL = "\x1b[31mEVIL\x1b]0;owned\x07\x9b5m\u202e"
SHOWN = "␛[31mEVIL␛]0;owned␇<U+009B>5m<U+202E>"
NAMES = [
    EVIL,
    "a\r\nb\tc",
    "\u2066isolated\u200b\ufeff",
    "A" * 256,
    "日本語の長い名前" * 8,
    "e\u0301" * 60,
    "ที่นี่ हिन्दी",
    "한국어",
    "\x00nul \x7f",
    "[bold]markup[/] [@click=app.quit]x[/]",
    "line\u2028separator",
]


def session(number: int, name: str) -> dict[str, Any]:
    return {
        "Id": f"{number:08x}-0000-4000-8000-000000000000",
        "Name": name,
        "Owner": name,
        "Type": "VIRTUAL",
        "State": "READY",
        "StateReason": name,
        "StorageRoot": name,
        "NumOfConnections": 0,
        "Server": {"Id": name, "Hostname": name, "Endpoints": [{"IpAddress": "198.51.100.1", "Port": 8443}]},
    }


def server(name: str) -> dict[str, Any]:
    host = {"Os": {"Family": name, "Name": name}, "LoggedInUsers": [{"Username": name}]}
    tags = [{"Key": name, "Value": name}]
    return {"Id": name, "Hostname": name, "Ip": name, "Availability": "AVAILABLE", "Host": host, "Tags": tags}


class Hostile:
    """A broker whose every word is hostile."""

    def __init__(self, names: list[str]) -> None:
        self.sessions = [session(number, name) for number, name in enumerate(names)]
        self.servers = [server(name) for name in names]

    async def __call__(self, asked: Asked) -> bytes:
        if asked.path == "/describeSessions":
            return reply({"RequestId": EVIL, "Sessions": self.sessions})
        if asked.path == "/describeServers":
            return reply({"RequestId": EVIL, "Servers": self.servers})
        if asked.path.startswith("/sessionConnectionData"):
            return reply({"Session": self.sessions[0], "ConnectionToken": "to.ke.n"})
        if asked.path == "/deleteSessions":
            failed = [{"SessionId": item["SessionId"], "FailureReason": EVIL} for item in asked.json]
            return reply({"RequestId": EVIL, "SuccessfulList": [], "UnsuccessfulList": failed})
        return reply({"error": EVIL}, "400 Bad Request")


@pytest.fixture
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[AwkwardBroker, dict[str, str]]]:
    with serving(tmp_path, Hostile(getattr(request, "param", NAMES))) as running:
        yield running


def assert_harmless(terminal: RecordedTerminal, where: str) -> None:
    said = terminal.said.replace("\r", "").replace("\n", "")
    assert visible(said) == said, where
    assert not [one for one in terminal.system_commands if "owned" in one], where


SESSION_KEYS = [
    "2", "d", "esc", "y", "esc", "Y", "p", "esc", "c", "v", "x", "esc", "s", "esc", "n", "e", "E", "esc",
    "S", "d", "esc", "y", "esc", "n", "esc", "2", ":", "esc", "ctrl+p", "esc", "?", "esc", "5", "d", "esc",
]  # fmt: skip


@pytest.mark.parametrize("broker", [[EVIL]], indirect=True)
def test_no_screen_lets_a_name_steer_the_terminal(broker: tuple[AwkwardBroker, dict[str, str]]) -> None:
    with RecordedTerminal([DCVTUI], 120, 40, environment=broker[1]) as terminal:
        terminal.wait_for("EVIL")
        for key in SESSION_KEYS:
            terminal.press(key)
            assert_harmless(terminal, f"after {key}")
        terminal.press("2", "D")
        terminal.wait_for("Delete 1 session?")
        assert SHOWN in terminal.text.replace("\n", "")
        terminal.settle(0.4)  # keys typed ahead confirm nothing
        terminal.press("y")
        terminal.wait_for("failed")
        terminal.press("esc", "5")
        assert_harmless(terminal, "after a failed deletion")
        os.write(terminal._master, b"\x03\x03")
        assert terminal.wait_exit(10) == 0
        assert_harmless(terminal, "at the end")
        assert terminal.leftovers() == []


# The emulator drops what stands behind the marks of Thai and Hindi.
@pytest.mark.parametrize("broker", [[name for name in NAMES if "ท" not in name]], indirect=True)
def test_the_columns_of_the_lists_stay_in_line(broker: tuple[AwkwardBroker, dict[str, str]]) -> None:
    with RecordedTerminal([DCVTUI], 99, 40, environment=broker[1]) as terminal:
        terminal.wait_for("한국어")
        for view, word in (("2", "READY"), ("3", "AVAILABLE")):
            terminal.press(view)
            terminal.wait_for(word)
            rows = [row for row in range(40) if word in terminal.screen.display[row]]
            assert len(rows) == len(NAMES) - 1
            # Cells of the emulator are columns; a text would count wide characters once.
            signs = [[x for x in range(99) if terminal.screen.buffer[row][x].data == "●"] for row in rows]
            assert len({tuple(one) for one in signs}) == 1, signs
        terminal.press("q")
        assert terminal.wait_exit(10) == 0


@pytest.mark.parametrize("verb", ["describe-sessions", "describe-servers"])
def test_tables_and_separated_values_hold_codes_and_tables_stay_in_line(
    broker: tuple[AwkwardBroker, dict[str, str]], verb: str
) -> None:
    printed = {output: run(verb, output, broker[1]) for output in ("table", "csv", "tsv", "ids", "json")}
    for output in ("table", "csv", "tsv", "ids"):
        lines = printed[output].splitlines()
        assert len(lines) == len(NAMES) + (output != "ids")
        for line in lines:
            assert visible(line.replace("\t", "")) == line.replace("\t", "")
    assert SHOWN in printed["csv"]
    word = "READY" if verb == "describe-sessions" else "AVAILABLE"
    places = {cells(line.partition(word)[0]) for line in printed["table"].splitlines()[1:]}
    assert len(places) == 1
    listed = json.loads(printed["json"])["Sessions" if verb == "describe-sessions" else "Servers"]
    assert [one.get("Name") or one["Hostname"] for one in listed] == NAMES
    assert printed["json"].isascii()


def cells(text: str) -> int:
    # Character by character, as most terminals do.
    return sum(cell_len("a" + character) - 1 for character in text)


def run(verb: str, output: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [DCVTUI, verb, "--output", output],
        env=os.environ | environment | {"PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout.decode()
