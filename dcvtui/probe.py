"""Asks the terminal what it can draw before the console starts, so that no answer becomes a key press.

The last question is one that every terminal answers; its answer is waited for at
most 1.5 s. Where it has not come by then pictures are in blocks, and `LateAnswers`
takes the answers out of the input until it does.
"""

import contextlib
import fcntl
import os
import re
import select
import struct
import termios
import time
import tty
from collections.abc import Callable
from typing import Any, Final, Self

from dcvtui.terminal import Answers

LIMIT_S: Final = 1.5

# Kitty: one pixel, only asked whether it could be drawn. Then the size of a cell in pixels, and last
# who the terminal is: of these every terminal answers the last.
QUESTIONS: Final = b"\x1b_Gi=4211,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[16t\x1b[c"

_ATTRIBUTES: Final = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL: Final = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_KITTY: Final = re.compile(rb"\x1b_Gi=4211;OK\x1b\\")
_SIXEL_ATTRIBUTE: Final = b"4"

_ANSWER: Final = re.compile(r"\x1b_G[^\x1b]*\x1b\\|\x1b\[6;\d+;\d+t|\x1b\[\?[\d;]*c")
_END: Final = re.compile(r"\x1b\[\?[\d;]*c")
_BEGUN: Final = re.compile(
    # What only an answer begins with (or a key that arrives whole a moment later), then what is a key alone.
    r"(?P<sure>\x1b_(?:G[^\x1b]*\x1b?)?|\x1b\[(?:\?[\d;$]*|6(?:;\d*)*)?)\Z|(?P<maybe>\x1b)\Z"
)
_ESCAPE_S: Final = 0.5
_SURE_S: Final = 30.0


def read_answers(data: bytes, took_s: float, window_cell: tuple[int, int] | None = None) -> Answers:
    """What the bytes of a terminal say.

    Args:
        data: everything that came after the questions.
        took_s: seconds it took.
        window_cell: the size of a cell as the operating system tells it.
    """
    attributes = _ATTRIBUTES.search(data)
    cell = _CELL.search(data)
    told = (int(cell[2]), int(cell[1])) if cell else None
    size = told if told and all(told) else window_cell
    begun = None if attributes else _BEGUN.search(data.decode("latin-1"))
    return Answers(
        has_kitty=_KITTY.search(data) is not None,
        has_sixel=attributes is not None and _SIXEL_ATTRIBUTE in attributes[1].split(b";")[1:],
        cell=size,
        took_s=took_s,
        is_complete=attributes is not None,
        begun=begun[0] if begun else "",
    )


class Probe:
    """The questions to one terminal: asked when the block begins, so that it can answer meanwhile.

    What was typed in the block is thrown away with the answers: nobody has seen a screen yet.

    Args:
        read_fd: the terminal's input.
        write_fd: its output.
        clock: seconds from any start.
    """

    def __init__(self, read_fd: int, write_fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._read_fd, self._write_fd, self._clock = read_fd, write_fd, clock
        self._before: list[Any] | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        """Ask."""
        if os.isatty(self._read_fd) and os.isatty(self._write_fd):
            with contextlib.suppress(OSError, termios.error):
                self._before = termios.tcgetattr(self._read_fd)
                # Answers are neither shown nor kept until a line is complete; ctrl-c still ends us.
                tty.setcbreak(self._read_fd, termios.TCSANOW)
                os.write(self._write_fd, QUESTIONS)
        self._began = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._before is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._read_fd, termios.TCSANOW, self._before)

    def answers(self, limit_s: float = LIMIT_S) -> Answers:
        """Wait for the last answer.

        Args:
            limit_s: seconds since the questions to wait at most.
        """
        if self._before is None:
            return Answers()
        data = b""
        began = self._clock()
        try:
            while not _ATTRIBUTES.search(data):
                left = max(0.0, self._began + limit_s - self._clock())
                if not select.select([self._read_fd], [], [], left)[0]:
                    break
                if not (part := os.read(self._read_fd, 4096)):
                    break
                data += part
            termios.tcflush(self._read_fd, termios.TCIFLUSH)
        except (OSError, termios.error):
            return Answers()
        # What the program did in the block is no fault of the line.
        return read_answers(data, self._clock() - began, _window_cell(self._write_fd))


def _window_cell(descriptor: int) -> tuple[int, int] | None:
    try:
        packed = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    rows, columns, width, height = struct.unpack("HHHH", packed)
    if not (rows and columns and width and height):
        return None
    return width // columns, height // rows


class LateAnswers:
    """Takes a terminal's answers out of what is typed, whole or in pieces, until the last one has come.

    Args:
        is_waiting: the last answer is still to come.
        begun: what of an answer has come already.
        clock: seconds from any start.
    """

    def __init__(
        self, *, is_waiting: bool, begun: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_waiting = is_waiting
        self._clock = clock
        self._held = begun
        self._held_since = clock()
        self._let_through = ""

    def take(self, text: str) -> str:
        """What of the input goes on to the console; "" for a look at the clock."""
        if not self.is_waiting and not self._held:
            return text
        if text:
            self._held_since = self._clock()
            text, self._let_through = self._rejoined(text), ""
        text, self._held = self._held + text, ""
        if self.is_waiting:
            text = self._without_answers(text)
        if self.is_waiting and (begun := _BEGUN.search(text)):
            limit = _SURE_S if begun["sure"] else _ESCAPE_S
            if self._clock() - self._held_since < limit:
                self._held = text[begun.start() :]
                return text[: begun.start()]
            if begun["sure"]:
                return text[: begun.start()]  # half an answer that nobody finishes is still no key
            self._let_through = text[begun.start() :]
        return text

    def _rejoined(self, text: str) -> str:
        """The text, with what was let through as a key and proves to be the beginning of an answer."""
        whole = self._let_through + text
        begun = _BEGUN.match(whole)
        is_answer = _ANSWER.match(whole) or (begun and begun["sure"])
        return whole if self._let_through and is_answer else text

    def _without_answers(self, text: str) -> str:
        end = _END.search(text)
        if end is None:
            return _ANSWER.sub("", text)
        self.is_waiting = False
        return _ANSWER.sub("", text[: end.end()]) + text[end.end() :]
