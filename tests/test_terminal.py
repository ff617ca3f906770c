"""What the environment tells of a terminal, and the ways to its clipboard."""

import base64
import shutil
import sys
from collections.abc import Sequence

import pytest

from dcvtui import terminal
from dcvtui.images import Colours, Form
from dcvtui.terminal import ColourDepth, CopyError, Terminal

XTERM = {"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        ({"TERM": "xterm-256color"}, ColourDepth.PALETTE),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, ColourDepth.TRUE),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, ColourDepth.TRUE),
        ({"TERM": "xterm-direct"}, ColourDepth.TRUE),
        ({"TERM": "screen"}, ColourDepth.SIXTEEN),
        ({"TERM": "linux"}, ColourDepth.SIXTEEN),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, ColourDepth.NONE),
        ({}, ColourDepth.NONE),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, ColourDepth.NONE),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, ColourDepth.PALETTE),
    ],
)
def test_colours_come_from_the_environment(environ: dict[str, str], colours: ColourDepth) -> None:
    assert terminal.from_environment(environ).colours is colours


@pytest.mark.parametrize(
    ("environ", "encoding", "is_utf8"),
    [
        ({"LANG": "en_GB.UTF-8"}, None, True),
        ({"LANG": "de_DE.utf8@euro"}, None, True),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, None, False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, None, True),
        ({"LC_ALL": "", "LANG": "C.UTF-8"}, None, True),
        ({}, None, False),
        ({}, "utf-8", True),
        ({"LANG": "en_GB.UTF-8"}, "latin-1", False),
    ],
)
def test_utf8_comes_from_the_output_or_the_locale(
    environ: dict[str, str], encoding: str | None, is_utf8: bool
) -> None:
    assert terminal.from_environment(environ, encoding).is_utf8 is is_utf8


@pytest.mark.parametrize(
    ("environ", "form", "colours"),
    [
        (XTERM, Form.QUADRANTS, Colours.PALETTE),
        ({**XTERM, "COLORTERM": "truecolor"}, Form.QUADRANTS, Colours.TRUE),
        ({"TERM": "linux", "LANG": "C.UTF-8"}, Form.HALF_BLOCKS, Colours.PALETTE),
        ({"TERM": "xterm-256color", "LANG": "C"}, None, Colours.PALETTE),
    ],
)
def test_pictures_use_the_best_form_that_is_surely_there(
    environ: dict[str, str], form: Form | None, colours: Colours
) -> None:
    here = terminal.from_environment(environ)
    assert (here.picture_form, here.picture_colours) == (form, colours)


def test_ssh_and_tmux_are_recognised() -> None:
    here = terminal.from_environment({**XTERM, "SSH_TTY": "/dev/pts/3", "TMUX": "/tmp/tmux-0/default,1,0"})
    assert here.is_ssh
    assert here.is_tmux
    assert terminal.from_environment({"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}).is_ssh
    assert not terminal.from_environment({"SSH_TTY": "", "TMUX": ""}).is_ssh


# ------------------------------------------------------------------ clipboard


def everything(name: str) -> str:
    return f"/usr/bin/{name}"


@pytest.mark.parametrize(
    ("environ", "program"),
    [
        ({"TMUX": "x", "SSH_TTY": "y"}, "tmux"),
        ({"TMUX": "x", "DISPLAY": ":0"}, "tmux"),
        ({"SSH_TTY": "y", "DISPLAY": ":10"}, None),
        ({"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, "wl-copy"),
        ({"DISPLAY": ":0"}, "xclip"),
        ({}, "pbcopy"),
    ],
)
def test_a_clipboard_program_is_used_only_on_the_right_machine(
    environ: dict[str, str], program: str | None
) -> None:
    here = terminal.from_environment(environ)
    command = terminal.clipboard_program(here, environ, everything)
    assert (command and command[0]) == program


def test_without_any_program_the_sequence_is_the_way() -> None:
    environ = {"DISPLAY": ":0"}
    assert terminal.clipboard_program(terminal.from_environment(environ), environ, lambda _: None) is None


def test_the_sequence_carries_the_text_as_base64() -> None:
    sequence = terminal.clipboard_sequence("https://[2001:db8::1]:8443/?authToken=ä#id")
    assert sequence.startswith("\x1b]52;c;")
    assert sequence.endswith("\x07")
    assert base64.b64decode(sequence[7:-1]).decode() == "https://[2001:db8::1]:8443/?authToken=ä#id"


def test_a_text_no_terminal_takes_is_an_error() -> None:
    with pytest.raises(CopyError, match="more than a terminal's clipboard takes"):
        terminal.clipboard_sequence("x" * (terminal.OSC_52_LIMIT + 1))


def ssh(tmux: bool = False) -> tuple[Terminal, dict[str, str]]:
    environ = {**XTERM, "SSH_TTY": "/dev/pts/1"} | ({"TMUX": "x"} if tmux else {})
    return terminal.from_environment(environ), environ


async def test_over_ssh_the_text_is_sent_to_the_terminal() -> None:
    written: list[str] = []
    assert await terminal.copy_text("abc", *ssh(), written.append) == "sent to the terminal's clipboard"
    assert written == ["\x1b]52;c;YWJj\x07"]


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
async def test_inside_tmux_the_text_goes_through_tmux_on_its_input() -> None:
    calls: list[tuple[list[str], bytes]] = []
    written: list[str] = []

    async def run(command: Sequence[str], data: bytes) -> int:
        calls.append((list(command), data))
        return 0

    said = await terminal.copy_text("secret", *ssh(tmux=True), written.append, run)
    assert said == "sent to the terminal's clipboard through tmux"
    assert calls == [(["tmux", "load-buffer", "-w", "-"], b"secret")]
    assert written == []


async def test_an_old_tmux_is_passed_by() -> None:
    written: list[str] = []

    async def refuses(command: Sequence[str], data: bytes) -> int:
        return 1

    said = await terminal.copy_text("abc", *ssh(tmux=True), written.append, refuses)
    assert said == "sent to the terminal's clipboard"
    assert written


async def test_programs_get_the_text_on_their_input_and_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = "import sys; sys.exit(0 if sys.stdin.read() == 'abc' else 3)"
    assert await terminal._run([sys.executable, "-c", reads], b"abc") == 0
    assert await terminal._run([sys.executable, "-c", reads], b"other") == 3
    assert await terminal._run(["/nonexistent/program"], b"abc") == 1
    monkeypatch.setattr(terminal, "_COPY_DEADLINE_S", 0.2)
    assert await terminal._run([sys.executable, "-c", "import time; time.sleep(60)"], b"abc") == 1
