"""Answers that no broker gives, terminals that can do little, every way to end: all is left clean."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.awkward_broker import Answer, Asked, AwkwardBroker, HangUp, reply
from tests.end_to_end.recorded_terminal import DCVTUI, RecordedTerminal, serving

SESSION = {
    "Id": "3f0c8e0a-1b5c-4e7e-9d2e-0a1b2c3d4e5f",
    "Name": "cad-1",
    "Owner": "ana",
    "Type": "VIRTUAL",
    "State": "READY",
    "NumOfConnections": 0,
    "Server": {"Id": "s-1", "Hostname": "gpu-1"},
}
SERVER = {"Id": "s-1", "Hostname": "gpu-1", "Availability": "AVAILABLE"}
HTML = reply(content=b"<html><head><title>It works</title></head></html>")


async def fleet(asked: Asked) -> bytes:
    """A small fleet that only describes itself."""
    kind, items = ("Sessions", [SESSION]) if asked.path == "/describeSessions" else ("Servers", [SERVER])
    return reply({"RequestId": "r", kind: items})


def always(answer: bytes | None) -> Answer:
    async def give(_asked: Asked) -> bytes:
        if answer is None:
            raise HangUp
        return answer

    return give


async def cut_off(_asked: Asked) -> bytes:
    raise HangUp(b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"Sess')


AWKWARD = [
    (HTML, 'a page of HTML ("It works")'),
    (reply([]), "JSON of another shape"),
    (reply({"Sessions": 3, "Servers": {}}), "no list of objects"),
    (reply(content=b"[" * 100_000), "something that is not JSON"),
    (
        reply("", "302 Found", "Location: https://elsewhere.example/\r\n"),
        "a redirection to https://elsewhere",
    ),
    (reply({"error": "boom \x1b[31m"}, "500 Internal Server Error"), 'HTTP 500: "boom ␛[31m"'),
    (reply({"error": "Invalid access token"}, "401 Unauthorized"), '"Invalid access token"'),
    (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "closed the connection before its answer"),
    (None, "closed the connection before its answer"),
]


@pytest.fixture
def awkward(tmp_path: Path) -> Iterator[tuple[AwkwardBroker, dict[str, str]]]:
    with serving(tmp_path, fleet) as running:
        yield running


def on_one_line(terminal: RecordedTerminal) -> str:
    return " ".join(terminal.text.split())


def says(terminal: RecordedTerminal, words: str, _text: str) -> bool:
    return words in on_one_line(terminal)


def quit_with(terminal: RecordedTerminal, *keys: str) -> None:
    terminal.press(*keys)
    assert terminal.wait_exit(10) == 0
    assert terminal.leftovers() == []


# ------------------------------------------------------------------ answers


def test_one_console_survives_all_answers_and_is_back_after_them(
    awkward: tuple[AwkwardBroker, dict[str, str]],
) -> None:
    broker, environment = awkward
    with RecordedTerminal([DCVTUI], 120, 30, environment=environment) as terminal:
        terminal.wait_for("cad-1")
        for answer, words in AWKWARD:
            broker.answer = always(answer)
            terminal.press("r")
            terminal.wait_until(partial(says, terminal, words), words)
            assert "stale since" in terminal.text
            assert "cad-1" in terminal.text, "the last data stay"
        broker.answer = fleet
        terminal.press("r")
        terminal.wait_gone("stale since")
        quit_with(terminal, "q")


@pytest.mark.parametrize(("answer", "words"), AWKWARD)
def test_a_command_says_it_in_one_sentence(
    awkward: tuple[AwkwardBroker, dict[str, str]], answer: bytes | None, words: str
) -> None:
    broker, environment = awkward
    broker.answer = always(answer)
    done = run("describe-sessions", environment=environment)
    assert done.returncode == (6 if "closed the connection" in words else 254)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert words in done.stderr


def test_an_answer_that_breaks_off_is_one_sentence(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    broker, environment = awkward
    broker.answer = cut_off
    done = run("describe-sessions", environment=environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (6, "", 1)


def test_values_that_no_broker_sends_are_left_out(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    broker, environment = awkward
    odd = (
        b'{"Sessions": [{"Id": 5, "Name": {}, "Owner": "\\ud800", '
        b'"CreationTime": "0001-01-01T00:00:00+23:59", "NumOfConnections": 1e400, '
        b'"MaxConcurrentClients": NaN, "Server": 3}]}'
    )
    broker.answer = always(reply(content=odd))
    for output in ("table", "csv", "tsv", "ids", "json"):
        done = run("describe-sessions", "--output", output, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_forged_token_is_named_and_not_repeated(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    broker, environment = awkward
    broker.answer = always(reply({"error": "Invalid access token"}, "401 Unauthorized"))
    done = run("describe-sessions", environment=environment | {"DCV_SM_OAUTH2_TOKEN": "forged.to.ken"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (254, "", 1)
    assert '"Invalid access token"' in done.stderr
    assert "forged" not in done.stderr
    assert broker.token_requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "has no scheme"),
        ("127.0.0.1:8443", "has no scheme"),
        ("http://broker:8443", "begins with http://"),
        ("htps://broker:8443", "begins with htps://"),
        ("https://", "is not a URL"),
        ("https://127.0.0.1:99999", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://exa mple:8443", "is not a URL"),
        ("https://broker:8443/?a#b", "has a '?' or '#' part"),
        ("https://ana:s3cret@broker", "holds a user or password"),
        ("https://\x1b[31mx", "https://␛[31mx"),
    ],
)
def test_a_wrong_address_is_one_sentence_before_any_screen(url: str, words: str) -> None:
    environment = {"DCV_SM_BROKER_URL": url, "DCV_SM_CLIENT_ID": "i", "DCV_SM_CLIENT_PASSWORD": "p"}
    with RecordedTerminal([DCVTUI], 200, 20, environment=environment) as terminal:
        assert terminal.wait_exit() == 253
        assert terminal.leftovers() == []
        assert terminal.text.startswith("dcvtui: ")
        assert words in terminal.text
        assert "s3cret" not in terminal.text
        assert b"\x1b[?1049h" not in terminal.written


def run(*line: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DCVTUI, *line],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ------------------------------------------------------------------ terminals


def test_a_dumb_terminal_gets_a_sentence_and_its_commands_work(
    awkward: tuple[AwkwardBroker, dict[str, str]],
) -> None:
    environment = awkward[1] | {"TERM": "dumb"}
    for line in ([], ["demo"]):
        with RecordedTerminal([DCVTUI, *line], 120, 20, environment=environment) as terminal:
            assert terminal.wait_exit() == 253
            assert "(TERM=dumb)" in terminal.text
            assert b"\x1b" not in terminal.written
    with RecordedTerminal([DCVTUI, "describe-sessions"], 120, 20, environment=environment) as terminal:
        assert terminal.wait_exit() == 0
        assert "cad-1" in terminal.text
        assert b"\x1b" not in terminal.written


def test_without_a_utf8_locale_every_byte_is_ascii(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    poor = {"TERM": "vt100", "COLORTERM": "", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    with RecordedTerminal([DCVTUI], 100, 30, environment=awkward[1] | poor) as terminal:
        terminal.wait_for("cad-1")
        for keys in (
            ("d", "esc"),
            ("D", "esc"),
            ("?", "esc"),
            ("n", "esc"),
            ("s",),
            ("esc", "3"),
            (":", "esc"),
        ):
            terminal.press(*keys)
        quit_with(terminal, "esc", "q")
    assert terminal.written.isascii()


def test_without_colours_signs_and_words_remain(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    with RecordedTerminal([DCVTUI], 100, 30, environment=awkward[1] | {"NO_COLOR": "1"}) as terminal:
        terminal.wait_for(re.compile(r"▸ +cad-1 .*● READY"))
        terminal.press("space")
        terminal.wait_for(re.compile(r"✓ +cad-1"))
        quit_with(terminal, "q")
    shades = set(re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", terminal.written))
    assert all(len(set(shade)) == 1 for shade in shades), "greys only"


def test_a_dialog_survives_a_window_too_small_for_it_and_nothing_is_done_meanwhile(
    awkward: tuple[AwkwardBroker, dict[str, str]],
) -> None:
    broker, environment = awkward
    with RecordedTerminal([DCVTUI], 100, 30, environment=environment) as terminal:
        terminal.wait_for("cad-1")
        terminal.press("D")
        terminal.wait_for("Delete 1 session?")
        terminal.resize(40, 10)
        terminal.wait_for("needs 60x15")
        terminal.press("y", "f", "y", "enter")
        terminal.resize(100, 30)
        terminal.wait_for("Delete 1 session?")
        quit_with(terminal, "esc", "q")
    # Beside the fleet it is only asked whether it has a stream of changes.
    assert {one.path for one in broker.asked} == {"/describeSessions", "/describeServers", "/health"}


def test_a_window_that_is_too_small_from_the_start_can_be_left(
    awkward: tuple[AwkwardBroker, dict[str, str]],
) -> None:
    with RecordedTerminal([DCVTUI], 40, 10, environment=awkward[1]) as terminal:
        terminal.wait_for("needs 60x15")
        assert "ctrl-c leaves" in on_one_line(terminal)
        quit_with(terminal, "ctrl+c")


# ------------------------------------------------------------------ ends


def test_ctrl_c_twice_ends_it_while_an_action_is_under_way(
    awkward: tuple[AwkwardBroker, dict[str, str]],
) -> None:
    broker, environment = awkward

    async def never(asked: Asked) -> bytes:
        if asked.path == "/deleteSessions":
            await asyncio.Event().wait()
        return await fleet(asked)

    broker.answer = never
    with RecordedTerminal([DCVTUI], 100, 30, environment=environment) as terminal:
        terminal.wait_for("cad-1")
        terminal.press("D")
        terminal.wait_for("Delete 1 session?")
        terminal.settle(0.4)  # keys typed ahead confirm nothing
        terminal.press("y")
        terminal.wait_until(
            lambda _text: any(a.path == "/deleteSessions" for a in broker.asked), "the request"
        )
        terminal.press("ctrl+c")
        assert terminal.process.poll() is None, "an action is under way"
        quit_with(terminal, "ctrl+c")


def is_in_main(pid: int) -> bool:
    """Whether the program has begun: the first thing it does is to take care of SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("early_s", [0.0, 0.2, 0.45])
def test_ctrl_c_at_any_moment_of_the_start_leaves_no_trace(
    awkward: tuple[AwkwardBroker, dict[str, str]], early_s: float
) -> None:
    with RecordedTerminal([DCVTUI], 100, 30, environment=awkward[1]) as terminal:
        while not is_in_main(terminal.process.pid):  # until then the key is the interpreter's
            terminal.read(0.005)
        terminal.read(early_s)
        os.write(terminal._master, b"\x03\x03")
        assert terminal.wait_exit(10) in (0, 130)
        assert terminal.leftovers() == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGINT, 0)]
)
def test_a_signal_leaves_the_terminal_as_it_was(
    awkward: tuple[AwkwardBroker, dict[str, str]], number: signal.Signals, code: int
) -> None:
    with RecordedTerminal([DCVTUI], 100, 30, environment=awkward[1]) as terminal:
        terminal.wait_for("cad-1")
        terminal.process.send_signal(number)
        assert terminal.wait_exit(10) == code
        assert terminal.leftovers() == []


def test_a_closed_window_ends_it_at_once(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    with RecordedTerminal([DCVTUI], 100, 30, environment=awkward[1]) as terminal:
        terminal.wait_for("cad-1")
        os.close(terminal._master)
        terminal._master = -1
        terminal.process.wait(5)


def test_sigterm_to_a_command_prints_what_was_done(awkward: tuple[AwkwardBroker, dict[str, str]]) -> None:
    broker, environment = awkward
    broker.answer = lambda _asked: asyncio.sleep(60, b"")
    line = [DCVTUI, "delete-session", "--session-id", str(SESSION["Id"]), "--owner", "ana"]
    process: Any = subprocess.Popen(
        line, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        while not broker.asked:
            process.poll()
            assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert '"SuccessfulList": []' in output
    assert "not known" in errors
    assert "Traceback" not in errors
