"""What a user can get wrong at the start: each ends in one clear sentence or a screen with a way on.

Never a traceback. The same faults are tested closer to their cause in
`tests/test_client.py`, `tests/test_cli.py` and `tests/tui/test_app.py`.
"""

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.end_to_end.stand import COMMANDS, free_port
from tests.pseudo_terminal import Terminal
from tests.take_screenshots import demo

DCVTUI = str(COMMANDS / "dcvtui")


@pytest.fixture(scope="module")
def fleet() -> Iterator[dict[str, str]]:
    with demo() as environment:
        yield environment


@contextlib.contextmanager
def console(environment: dict[str, str], columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    with Terminal([DCVTUI], columns, rows, environment=environment) as terminal:
        yield terminal
        assert "Traceback" not in terminal.text


@contextlib.contextmanager
def silent_listener() -> Iterator[int]:
    """Something that takes connections and is no broker: it closes them at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DCVTUI, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environment},
        check=False,
        timeout=60,
    )


def test_trouble_with_the_broker_is_a_banner_with_a_sentence_and_the_console_stays(
    fleet: dict[str, str],
) -> None:
    with silent_listener() as listener:
        for change, sentence in (
            ({"DCV_SM_BROKER_URL": f"https://127.0.0.1:{free_port()}"}, "refused"),
            ({"DCV_SM_BROKER_URL": "https://no-such-broker.invalid:8443"}, "no-such-broker.invalid"),
            ({"DCV_SM_BROKER_URL": f"https://127.0.0.1:{listener}"}, "The broker"),
            ({"DCV_SM_CA_BUNDLE": ""}, "SHA256"),
            ({"DCV_SM_CLIENT_PASSWORD": "wrong"}, "client"),
        ):
            with console(fleet | change) as terminal:
                terminal.wait_for("no data yet")
                terminal.wait_for(sentence)
                terminal.press("3", "?")
                terminal.wait_for("Keys in")
                terminal.press("esc", "q")
                assert terminal.wait_exit() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "sentence"),
    [
        (["--no-such-option"], {}, 2, "No such option"),
        (["no-such-command"], {}, 2, "No such command"),
        (["describe-servers"], {}, 253, "dcvtui: "),
        (["describe-servers", "--broker-url", "broker.example"], {}, 252, "dcvtui: "),
        (["describe-servers", "--broker-url", "ftp://broker.example"], {}, 252, "dcvtui: "),
        (["describe-sessions", "--max-results", "0"], {}, 252, "max-results"),
        (["create-session", "--name", "x"], {}, 2, "--owner"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_its_exit_code(
    arguments: list[str], environment: dict[str, str], code: int, sentence: str
) -> None:
    done = command(*arguments, **environment)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (code, "")


def test_a_broker_that_is_not_there_is_6_and_a_wrong_secret_254(fleet: dict[str, str]) -> None:
    away = command("describe-servers", **fleet | {"DCV_SM_BROKER_URL": f"https://127.0.0.1:{free_port()}"})
    assert (away.returncode, away.stdout) == (6, "")
    foreign = command("describe-servers", **fleet | {"DCV_SM_CA_BUNDLE": ""})
    assert (foreign.returncode, foreign.stdout) == (6, "")
    assert "SHA256:" in foreign.stderr
    refused = command("describe-servers", **fleet | {"DCV_SM_CLIENT_PASSWORD": "wrong"})
    assert (refused.returncode, refused.stdout) == (254, "")
    for done in (away, foreign, refused):
        assert done.stderr.startswith("dcvtui: ")
        assert fleet["DCV_SM_CLIENT_PASSWORD"] not in done.stderr
        assert "Traceback" not in done.stderr


def test_lists_work_at_60x20_and_40x10_names_the_size_it_needs(fleet: dict[str, str]) -> None:
    with console(fleet, 60, 20) as terminal:
        terminal.wait_for("Attention")  # what is typed before there is a screen is thrown away
        terminal.press("2")
        terminal.wait_for("● READY")
        terminal.press("down", "d")
        terminal.wait_for("owner")
        terminal.press("esc")
        terminal.resize(40, 10)
        terminal.wait_for("60")
        assert "READY" not in terminal.text
        terminal.resize(60, 20)
        terminal.wait_for("● READY")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_without_a_terminal_there_is_help_and_no_screen(fleet: dict[str, str]) -> None:
    done = command(**fleet)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: dcvtui")
