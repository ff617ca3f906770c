"""Asking the terminal: what its answers mean, and how late ones are told from keys."""

import itertools
import os
import pty
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.graphics import Pixels, Protocol
from dcvtui.images import Colours, Form
from dcvtui.probe import QUESTIONS, LateAnswers, Probe, read_answers
from dcvtui.terminal import NO_UTF8, SLOW_S, SWITCHED_OFF, Answers, Images, from_environment

KITTY_YES = b"\x1b_Gi=4211;OK\x1b\\"
KITTY_NO = b"\x1b_Gi=4211;ENOTSUPPORTED:no\x1b\\"
CELL = b"\x1b[6;20;10t"
XTERM_WITH_SIXEL = b"\x1b[?63;1;2;4;6;9c"
XTERM = b"\x1b[?63;1;2;6;9c"
LOCAL = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}

# ------------------------------------------------------------------ what answers mean


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        (KITTY_YES + CELL + XTERM, Answers(has_kitty=True, cell=(10, 20))),
        (KITTY_NO + CELL + XTERM_WITH_SIXEL, Answers(has_sixel=True, cell=(10, 20))),
        (XTERM, Answers()),
        (b"\x1b[?4c", Answers()),  # the first number is the terminal's class, not what it can do
        (b"typed" + KITTY_YES + b"more", Answers(has_kitty=True, is_complete=False)),
        (b"", Answers(is_complete=False)),
        (b"\x1b_Gi=42", Answers(is_complete=False, begun="\x1b_Gi=42")),
        (b"\x1b[6;0;0t" + XTERM, Answers()),
    ],
)
def test_what_a_terminal_says(data: bytes, answers: Answers) -> None:
    assert read_answers(data, 0.0) == answers


def test_the_window_tells_the_size_of_a_cell_where_the_terminal_does_not() -> None:
    assert read_answers(XTERM, 0.0, (9, 18)).cell == (9, 18)
    assert read_answers(CELL + XTERM, 0.0, (9, 18)).cell == (10, 20)


# ------------------------------------------------------------------ what follows from them

GOOD = Answers(has_kitty=True, has_sixel=True, cell=(10, 20))


@pytest.mark.parametrize(
    ("answers", "environ", "protocol"),
    [
        (GOOD, {}, Protocol.KITTY),
        (Answers(has_sixel=True, cell=(8, 16)), {}, Protocol.SIXEL),
        (GOOD, {"TMUX": "/tmp/tmux"}, Protocol.SIXEL),
        (Answers(has_kitty=True, cell=(10, 20)), {"TMUX": "/tmp/tmux"}, None),
        (Answers(has_sixel=True), {}, None),  # nobody knows how many pixels a cell has
        (Answers(has_kitty=True, cell=(10, 20), took_s=SLOW_S), {}, None),
        (Answers(has_kitty=True, cell=(10, 20), is_complete=False), {}, None),
        (GOOD, {"NO_COLOR": "1"}, None),
        (None, {}, None),
    ],
)
def test_pixels_are_drawn_where_the_terminal_takes_them_and_the_line_is_quick(
    answers: Answers | None, environ: dict[str, str], protocol: Protocol | None
) -> None:
    drawing = from_environment({**LOCAL, **environ}).drawing(Images.AUTO, answers)
    assert (drawing.pixels.protocol if drawing.pixels else None) is protocol
    assert drawing.form is Form.QUADRANTS


def test_what_the_operator_asks_for_counts_whatever_the_terminal_says() -> None:
    here = from_environment(LOCAL)
    assert here.drawing(Images.KITTY, None).pixels == Pixels(Protocol.KITTY, 10, 20)
    assert here.drawing(Images.SIXEL, Answers(cell=(8, 16))).pixels == Pixels(Protocol.SIXEL, 8, 16)
    blocks = here.drawing(Images.BLOCKS, GOOD)
    assert (blocks.form, blocks.colours, blocks.pixels) == (Form.QUADRANTS, Colours.PALETTE, None)
    assert here.drawing(Images.HALF, GOOD).form is Form.HALF_BLOCKS
    off = here.drawing(Images.OFF, GOOD)
    assert (off.form, off.pixels, off.why_none) == (None, None, SWITCHED_OFF)
    console = from_environment({"TERM": "linux", "LANG": "C.UTF-8"})
    assert console.drawing().form is Form.HALF_BLOCKS
    ascii_only = from_environment({"TERM": "xterm", "LANG": "C"})
    assert (ascii_only.drawing().form, ascii_only.drawing().why_none) == (None, NO_UTF8)


# ------------------------------------------------------------------ asking


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_asking_waits_for_the_last_answer_and_empties_the_input(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    with Probe(slave, slave) as probe:
        assert os.read(master, 4096) == QUESTIONS
        os.write(master, b"j" + KITTY_YES)
        later = threading.Timer(0.2, os.write, (master, CELL + XTERM + b"typed ahead"))
        later.start()
        answers = probe.answers(limit_s=30)
        later.join()
    assert (answers.has_kitty, answers.cell, answers.is_complete) == (True, (10, 20), True)
    assert 0.05 < answers.took_s < 30
    os.set_blocking(slave, False)
    with pytest.raises(BlockingIOError):
        os.read(slave, 1)


def test_a_terminal_that_never_answers_is_waited_for_no_longer_than_the_limit(
    terminal: tuple[int, int],
) -> None:
    _, slave = terminal
    with Probe(slave, slave) as probe:
        answers = probe.answers(limit_s=0.05)
    assert answers == Answers(is_complete=False, took_s=answers.took_s)


def test_what_is_no_terminal_is_not_asked() -> None:
    read_end, write_end = os.pipe()
    with Probe(read_end, write_end) as probe:
        assert probe.answers() == Answers()
    os.set_blocking(read_end, False)
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)


# ------------------------------------------------------------------ late answers


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


ANSWERS = (KITTY_YES + CELL + XTERM).decode()


@given(st.lists(st.integers(0, len(ANSWERS)), max_size=6))
def test_answers_in_any_pieces_are_no_keys(cuts: list[int]) -> None:
    clock = Clock()
    late = LateAnswers(is_waiting=True, clock=clock)
    came = late.take("j")
    places = [0, *sorted(set(cuts) - {0, len(ANSWERS)}), len(ANSWERS)]
    for start, end in itertools.pairwise(places):
        came += late.take(ANSWERS[start:end])
        clock.now += 0.4
        came += late.take("")
    assert came + late.take("k\x1b[A") == "jk\x1b[A"
    assert not late.is_waiting


@pytest.mark.parametrize("key", ["\x1b", "\x1b[A", "\x1bOP", "\x1b[6~", "\x1b[6;5~", "\x1b[1;5C", "q", "ä"])
def test_keys_come_through_while_the_terminal_is_silent(key: str) -> None:
    clock = Clock()
    late = LateAnswers(is_waiting=True, clock=clock)
    came = late.take(key)
    clock.now += 0.6
    assert came + late.take("") == key


def test_a_key_in_front_of_an_answer_and_one_behind_it() -> None:
    late = LateAnswers(is_waiting=True, clock=Clock())
    assert late.take("d" + ANSWERS + "q") == "dq"


def test_half_an_answer_that_nobody_finishes_is_no_key() -> None:
    clock = Clock()
    late = LateAnswers(is_waiting=True, clock=clock)
    assert late.take("\x1b_Gi=4211;O") == ""
    clock.now += 60
    assert late.take("") == ""
    assert late.take("q") == "q"


def test_an_answer_that_began_before_the_console_did_is_no_key_either() -> None:
    late = LateAnswers(is_waiting=True, begun="\x1b_Gi=42", clock=Clock())
    assert late.take("11;OK\x1b\\") + late.take("q") == "q"


def test_an_answer_cut_off_behind_its_escape_presses_no_more_than_that() -> None:
    clock = Clock()
    late = LateAnswers(is_waiting=True, clock=clock)
    came = late.take("\x1b")
    clock.now += 3
    came += late.take("")
    assert came + late.take("[?63;1c") + late.take("q") == "\x1bq"


def test_once_the_last_answer_has_come_nothing_is_held_back() -> None:
    late = LateAnswers(is_waiting=False, clock=Clock())
    assert late.take("\x1b") == "\x1b"
