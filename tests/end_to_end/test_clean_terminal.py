"""The terminal is left as it was: by key and signal, with a picture on it, in every colour, and in tmux."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.recorded_terminal import DCVTUI, RecordedTerminal
from tests.pseudo_terminal import Answering
from tests.take_screenshots import demo
from tests.test_probe import CELL, KITTY_YES, XTERM

COLOURS = {
    "256 colours": {"TERM": "xterm-256color", "COLORTERM": ""},
    "true colour": {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    "no colour": {"NO_COLOR": "1"},
}


@pytest.fixture(scope="module")
def broker() -> Iterator[dict[str, str]]:
    with demo() as environment:
        yield environment


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("end", ["q", signal.SIGTERM, signal.SIGHUP])
def test_every_end_leaves_the_terminal_as_it_was(
    broker: dict[str, str], colours: str, end: str | signal.Signals
) -> None:
    environment = {**broker, **COLOURS[colours]}
    with RecordedTerminal([DCVTUI], 100, 30, environment=environment) as terminal:
        terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
        if isinstance(end, str):
            terminal.press(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.wait_exit(30) in (0, 130)
        assert terminal.leftovers() == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_picture_is_gone_with_the_console(broker: dict[str, str], end: signal.Signals) -> None:
    answering = Answering((KITTY_YES + CELL + XTERM,))
    with RecordedTerminal([DCVTUI], 100, 30, environment=broker, answering=answering) as terminal:
        terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
        terminal.press("2")
        terminal.wait_for("READY")
        terminal.press("s")
        terminal.wait_until(lambda _: any(b"m=0;" in one for one in terminal.strings), "all of a picture")
        terminal.process.send_signal(end)
        terminal.wait_exit(30)
        assert terminal.strings[-1].startswith(b"Ga=d,d=")
        assert terminal.leftovers() == []


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed: apt-get install tmux")
@pytest.mark.parametrize("end", ["q", signal.SIGTERM])
def test_a_pane_of_tmux_is_left_as_it_was(
    broker: dict[str, str], tmp_path: Path, end: str | signal.Signals
) -> None:
    environment = {**os.environ, **broker, "TMUX_TMPDIR": str(tmp_path), "LC_ALL": "C.UTF-8", "PS1": "$ "}
    environment.pop("TMUX", None)

    def tmux(*words: str) -> str:
        command = ["tmux", "-L", "clean", "-f", "/dev/null", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def wait(condition: Callable[[], object], what: str) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until, f"waited for {what}:\n{tmux('capture-pane', '-p')}"
            time.sleep(0.1)

    flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{bracket_paste_flag}"
    tmux("new-session", "-d", "-x", "100", "-y", "30", "sh")
    try:
        wait(lambda: tmux("capture-pane", "-p").strip(), "the shell")
        before = tmux("display-message", "-p", flags)
        tmux("send-keys", DCVTUI, "Enter")
        wait(lambda: "? help" in tmux("capture-pane", "-p"), "the console")
        assert tmux("display-message", "-p", flags) != before
        if isinstance(end, str):
            tmux("send-keys", end)
        else:
            shell = psutil.Process(int(tmux("display-message", "-p", "#{pane_pid}")))
            (program,) = shell.children()
            program.send_signal(end)
        wait(lambda: tmux("display-message", "-p", flags) == before, "the pane as it was")
        tmux("send-keys", "echo still here", "Enter")
        wait(lambda: tmux("capture-pane", "-p").count("still here") == 2, "an answer of the shell")
    finally:
        tmux("kill-server")
