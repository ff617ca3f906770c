"""A terminal for tests: runs a program in a pseudo-terminal, reads its screen, counts its bytes, draws it.

The program under test is the installed command, started as a person starts it.
Waiting is always for a condition with a limit; what the screen held when the
limit was reached is in the failure.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyte
from pyte.screens import Char

KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "space": " ",
}


def key_bytes(key: str) -> bytes:
    """What a terminal sends for a key: a name of `KEYS`, `ctrl+x`, or the characters themselves."""
    if key.startswith("ctrl+"):
        return bytes([ord(key[-1]) & 0x1F])
    return KEYS.get(key, key).encode()


@dataclass
class Answering:
    """How the terminal answers when a program asks what it can draw.

    Attributes:
        parts: the answer, in the pieces in which it arrives.
        delay_s: how long the first piece takes, and each one after it.
    """

    parts: Sequence[bytes] = (b"\x1b[?62;22c",)
    delay_s: float = 0.0


_STRING = re.compile(rb"\x1b[_P](.*?)\x1b\\", re.DOTALL)
_OPEN_STRING = re.compile(rb"\x1b(?:[_P].*)?\Z", re.DOTALL)


class ScreenTimeout(AssertionError):
    """The screen did not come to hold what was waited for; the text shows what it held."""


class Terminal:
    """A program in a pseudo-terminal of a given size."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 120,
        rows: int = 40,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        answering: Answering | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes_read = 0
        self.strings: list[bytes] = []
        """What was sent beside text: kitty pictures begin with `G`, sixels hold `q`."""
        self.raw = bytearray()
        """Everything that was sent."""
        self._unfinished = b""
        self._answering = answering or Answering()
        self._answers_due: list[tuple[float, bytes]] = []
        self._master, slave = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the program as a closed terminal window does, and wait for it."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size, as dragging its corner does."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def read(self, seconds: float) -> int:
        """Take in what the program writes for so long; returns the number of bytes."""
        until, taken = time.monotonic() + seconds, 0
        while (left := until - time.monotonic()) > 0:
            taken += self._read_once(left)
            if self._master < 0:
                break
        return taken

    def _read_once(self, seconds: float) -> int:
        self._send_answers()
        if self._answers_due:
            seconds = min(seconds, max(0.0, self._answers_due[0][0] - time.monotonic()) + 0.001)
        if not select.select([self._master], [], [], seconds)[0]:
            return 0
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the last process of the terminal is gone
            data = b""
        if not data:
            time.sleep(min(seconds, 0.02))
            return 0
        self._answer_questions(data)
        self.raw += data
        self._stream.feed(self._without_strings(data))
        self.bytes_read += len(data)
        return len(data)

    def _without_strings(self, data: bytes) -> bytes:
        """Pictures and questions are kept apart: the emulator would print them."""
        data, self._unfinished = self._unfinished + data, b""
        self.strings += _STRING.findall(data)
        data = _STRING.sub(b"", data)
        if begun := _OPEN_STRING.search(data):
            data, self._unfinished = data[: begun.start()], data[begun.start() :]
        return data

    def _answer_questions(self, data: bytes) -> None:
        # The one question that every terminal answers: who are you.
        if b"\x1b[c" in data or b"\x1b[0c" in data:
            now, delay_s = time.monotonic(), self._answering.delay_s
            self._answers_due += [
                (now + delay_s * (place + 1), part) for place, part in enumerate(self._answering.parts)
            ]
            self._send_answers()

    def _send_answers(self) -> None:
        while self._answers_due and self._answers_due[0][0] <= time.monotonic():
            os.write(self._master, self._answers_due.pop(0)[1])

    @property
    def has_answered(self) -> bool:
        """Everything that was asked has been answered, as far as this terminal answers at all."""
        return not self._answers_due

    def press(self, *keys: str) -> None:
        """Press keys one after the other, each once the screen has taken in the one before."""
        for key in keys:
            os.write(self._master, key_bytes(key))
            # A lone escape is told from the beginning of a sequence by what does not follow it.
            self.settle(0.3 if key == "esc" else 0.08, 2)

    def type(self, text: str) -> None:
        """Type a text as fast as a paste."""
        os.write(self._master, text.encode())
        self.settle(0.08, 2)

    def settle(self, quiet_s: float = 0.25, limit_s: float = 10) -> None:
        """Read until nothing came for `quiet_s`."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until and self._read_once(quiet_s):
            pass

    @property
    def text(self) -> str:
        """What the screen shows, without trailing blanks."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def line_of(self, wanted: str) -> str:
        """The first line that holds a text; empty if none does."""
        return next((line for line in self.text.splitlines() if wanted in line), "")

    def wait_until(self, condition: Callable[[str], Any], what: str, limit_s: float = 30) -> str:
        """Read until the screen's text fulfils a condition."""
        until = time.monotonic() + limit_s
        while not condition(self.text):
            if time.monotonic() > until:
                raise ScreenTimeout(f"waited {limit_s} s for {what}; the screen:\n{self.text}")
            if self.process.poll() is not None and not self._read_once(0.1):
                raise ScreenTimeout(
                    f"the program ended ({self.process.returncode}) before {what}:\n{self.text}"
                )
            self._read_once(0.1)
        return self.text

    def wait_for(self, wanted: str | re.Pattern[str], limit_s: float = 30) -> str:
        """Read until the screen holds a text or matches a pattern."""
        if isinstance(wanted, str):
            return self.wait_until(lambda text: wanted in text, repr(wanted), limit_s)
        return self.wait_until(wanted.search, wanted.pattern, limit_s)

    def wait_gone(self, unwanted: str, limit_s: float = 30) -> str:
        """Read until the screen no longer holds a text."""
        return self.wait_until(lambda text: unwanted not in text, f"{unwanted!r} to go", limit_s)

    def wait_exit(self, limit_s: float = 30) -> int:
        """Read until the program has ended; returns its exit status."""
        until = time.monotonic() + limit_s
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise ScreenTimeout(f"the program still runs after {limit_s} s; the screen:\n{self.text}")
            self._read_once(0.1)
        self.settle(0.1, 1)
        return self.process.returncode

    def picture(self, path: Path, *, dark: bool = True, cell: tuple[int, int] = (10, 20)) -> None:
        """Draw the screen into a PNG, as a terminal with DejaVu Sans Mono would."""
        draw_screen(self.screen, path, dark=dark, cell=cell)


_NAMED = {
    "black": "#000000", "red": "#cd3131", "green": "#0dbc79", "brown": "#e5e510", "blue": "#2472c8",
    "magenta": "#bc3fbc", "cyan": "#11a8cd", "white": "#e5e5e5", "brightblack": "#666666",
    "brightred": "#f14c4c", "brightgreen": "#23d18b", "brightbrown": "#f5f543", "brightblue": "#3b8eea",
    "brightmagenta": "#d670d6", "brightcyan": "#29b8db", "brightwhite": "#ffffff",
}  # fmt: skip
_QUADRANTS = {  # upper left, upper right, lower left, lower right
    "▘": 0b1000, "▝": 0b0100, "▖": 0b0010, "▗": 0b0001, "▀": 0b1100, "▄": 0b0011, "▌": 0b1010, "▐": 0b0101,
    "▚": 0b1001, "▞": 0b0110, "▛": 0b1110, "▜": 0b1101, "▙": 0b1011, "▟": 0b0111, "█": 0b1111,
}  # fmt: skip


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return _NAMED.get(name, f"#{name}")


def draw_screen(screen: pyte.Screen, path: Path, *, dark: bool, cell: tuple[int, int]) -> None:
    """Draw a screen of the emulator into a PNG file."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = cell
    fonts = Path("/usr/share/fonts/truetype/dejavu")
    plain = ImageFont.truetype(str(fonts / "DejaVuSansMono.ttf"), int(height * 0.8))
    bold = ImageFont.truetype(str(fonts / "DejaVuSansMono-Bold.ttf"), int(height * 0.8))
    ground, ink = ("#101418", "#d8dee4") if dark else ("#ffffff", "#1c2024")
    image = Image.new("RGB", (screen.columns * width, screen.lines * height), ground)
    draw = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            char: Char = screen.buffer[row][column]
            front, back = _colour(char.fg, ink), _colour(char.bg, ground)
            if char.reverse:
                front, back = back, front
            left, top = column * width, row * height
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill=back)
            bits = _QUADRANTS.get(char.data)
            if bits is None and char.data.strip():
                draw.text((left, top + 1), char.data, font=bold if char.bold else plain, fill=front)
            for bit, (x, y) in ((8, (0, 0)), (4, (1, 0)), (2, (0, 1)), (1, (1, 1))):
                if bits and bits & bit:
                    x0, y0 = left + x * (width // 2), top + y * (height // 2)
                    draw.rectangle((x0, y0, x0 + width // 2 - 1, y0 + height // 2 - 1), fill=front)
            if char.underscore:
                draw.line((left, top + height - 2, left + width - 1, top + height - 2), fill=front)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
