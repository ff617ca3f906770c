"""Pictures in real pseudo-terminals: what the terminal said decides, and its answers press no key."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Answering, Terminal
from tests.take_screenshots import demo
from tests.test_graphics import kitty_image, sixel_image
from tests.test_probe import CELL, KITTY_NO, KITTY_YES, XTERM, XTERM_WITH_SIXEL

KITTY = (KITTY_YES + CELL + XTERM,)
SIXEL = (KITTY_NO + CELL + XTERM_WITH_SIXEL,)
PLAIN = (XTERM,)
DELETED = b"Ga=d"


@pytest.fixture(scope="module")
def broker() -> Iterator[dict[str, str]]:
    with demo() as environment:
        yield environment


@contextlib.contextmanager
def console(broker: dict[str, str], answering: Answering, *options: str) -> Iterator[Terminal]:
    """A console in the list of sessions."""
    command = [str(COMMANDS / "dcvtui"), *options]
    with Terminal(command, 80, 24, environment=broker, answering=answering) as terminal:
        terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
        terminal.press("2")
        terminal.wait_for("● READY")
        yield terminal


def pictures(terminal: Terminal) -> list[bytes]:
    """What was drawn: the strings that are neither questions nor deletions."""
    strings = [one for one in terminal.strings if not one.startswith((DELETED, b"Gi=4211"))]
    return [one for one in strings if b"a=T" in one or b"q" in one[:8]]


def test_kitty_pictures_are_taken_down_under_a_dialog_and_at_the_end(broker: dict[str, str]) -> None:
    with console(broker, Answering(KITTY)) as terminal:
        terminal.press("s")
        terminal.wait_for("taken")
        terminal.wait_until(lambda _: any(b"m=0;" in one for one in terminal.strings), "all of a picture")
        chunks = [
            one for one in terminal.strings if one.startswith(b"G") and not one.startswith((b"Gi=", DELETED))
        ]
        image, keys = kitty_image("".join(f"\x1b_{one.decode()}\x1b\\" for one in chunks))
        # 80x22 cells of 10x20 pixels: no more was asked for, and all of it is used in one direction.
        assert image.width == 800 or image.height == 440
        deletion = f"Ga=d,d=I,i={keys['i']},q=2".encode()
        assert deletion not in terminal.strings
        terminal.resize(50, 12)
        terminal.wait_for("60x15")
        assert deletion in terminal.strings
        shown = len(pictures(terminal))
        terminal.resize(80, 24)
        terminal.wait_for("taken")
        terminal.wait_until(lambda _: len(pictures(terminal)) > shown, "the picture again")
        terminal.press("esc")
        terminal.wait_for("OWNER")
        assert terminal.strings[-1].startswith(DELETED)
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.strings[-1] == b"Ga=d,d=A,q=2"


def test_sixels_fill_the_place_and_are_drawn_again_when_cells_under_them_are(broker: dict[str, str]) -> None:
    with console(broker, Answering(SIXEL)) as terminal:
        terminal.press("s")
        terminal.wait_for("taken")
        terminal.wait_until(lambda _: pictures(terminal), "a picture")
        image = sixel_image(f"\x1bP{pictures(terminal)[-1].decode()}\x1b\\")
        assert image.width == 800 or image.height == 440
        shown = len(pictures(terminal))
        terminal.press("ctrl+l")
        terminal.wait_until(lambda _: len(pictures(terminal)) > shown, "the picture again")
        terminal.press("esc")
        terminal.wait_for("OWNER")


@pytest.mark.parametrize("option", ["blocks", "half"])
def test_blocks_come_where_they_are_asked_for(broker: dict[str, str], option: str) -> None:
    with console(broker, Answering(KITTY), "--images", option) as terminal:
        terminal.press("s")
        terminal.wait_for("taken")
        terminal.wait_until(lambda text: "▀" in text or "▌" in text, "a picture in cells")
        assert not pictures(terminal)
        only_half = set("▘▝▖▗▌▐▚▞▛▜▙▟")
        assert (not only_half & set(terminal.text)) is (option == "half")


def test_pictures_can_be_switched_off(broker: dict[str, str]) -> None:
    with console(broker, Answering(KITTY), "--images", "off") as terminal:
        terminal.press("s")
        terminal.wait_for("Pictures are switched off")
        assert not pictures(terminal)


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 1.0, 5.0])
@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_late_answers_press_no_key(broker: dict[str, str], delay_s: float, is_in_pieces: bool) -> None:
    """Each letter of these answers is a key of the list: `c` connects, `G` goes to the end, `O` sorts."""
    whole = KITTY_YES + CELL + XTERM
    pieces = (whole[:3], whole[3:20], whole[20:29], whole[29:]) if is_in_pieces else (whole,)
    answering = Answering(pieces, delay_s / len(pieces))
    with Terminal([str(COMMANDS / "dcvtui")], 80, 24, environment=broker, answering=answering) as terminal:
        terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
        # A terminal sends an answer in one go: what is typed comes before or behind it.
        terminal.wait_until(lambda _: terminal.has_answered, "the last answer")
        terminal.read(0.7)
        lines = terminal.text.splitlines()
        assert lines[1].startswith(" Attention")
        assert lines[3].startswith("▸")
        assert "? help" in lines[-1]
        terminal.press("2", "d")
        terminal.wait_for("owner")


def test_a_terminal_that_never_answers_gets_blocks_and_its_keys_work(broker: dict[str, str]) -> None:
    with console(broker, Answering(())) as terminal:
        terminal.press("d")
        terminal.wait_for("owner")
        terminal.press("esc")
        terminal.wait_for("OWNER")
        terminal.press("s")
        terminal.wait_until(lambda text: "▀" in text or "▌" in text or "▄" in text, "a picture in cells")
        assert not pictures(terminal)


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed: apt-get install tmux")
def test_inside_tmux_pictures_are_in_blocks_and_nothing_presses_a_key(
    broker: dict[str, str], tmp_path: Path
) -> None:
    server = ["tmux", "-L", "pictures", "-f", "/dev/null"]
    command = [*server, "new-session", "-x", "90", "-y", "25", str(COMMANDS / "dcvtui")]
    environment = {**broker, "TMUX_TMPDIR": str(tmp_path), "LC_ALL": "C.UTF-8"}
    try:
        with Terminal(command, 90, 25, environment=environment, answering=Answering(KITTY, 0.15)) as terminal:
            terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
            terminal.press("2")
            terminal.wait_for("● READY")
            terminal.press("s")
            terminal.wait_for("taken")
            terminal.wait_until(lambda text: "▀" in text or "▌" in text or "▄" in text, "a picture in cells")
            assert not pictures(terminal)
            terminal.press("esc")
            terminal.wait_for("OWNER")
            terminal.press("q")
            terminal.wait_exit()
    finally:
        subprocess.run([*server, "kill-server"], env=environment, capture_output=True, check=False)
