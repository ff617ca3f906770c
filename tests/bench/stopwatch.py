"""A terminal that only stamps: when bytes came and how many, without the cost of drawing them.

The emulator of `tests.pseudo_terminal` is slower than the programs measured here.
"""

import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.pseudo_terminal import Terminal, key_bytes


@dataclass(frozen=True)
class Response:
    """What a key brought about: seconds to the first and to the last byte, and how many bytes."""

    first_s: float
    last_s: float
    bytes_count: int


class Stopwatch(Terminal):
    """A program in a pseudo-terminal whose output is stamped and searched, and not drawn."""

    def __init__(self, command: Sequence[str], *, environment: dict[str, str] | None = None) -> None:
        self._started = time.perf_counter()
        self._output = b""
        self._last_at = self._started
        super().__init__(command, 120, 40, environment=environment, cwd=Path(__file__).parents[2])

    def _read_once(self, seconds: float) -> int:
        if not select.select([self._master], [], [], seconds)[0]:
            return 0
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has ended
            self.process.wait(5)
            return 0
        self._last_at = time.perf_counter()
        self._answer_questions(data)
        self._output += data
        self.bytes_read += len(data)
        return len(data)

    def seconds_until(self, wanted: str, limit_s: float = 120) -> float:
        """Seconds from the start of the program until it has written a text in one piece."""
        while wanted.encode() not in self._output:
            assert time.perf_counter() - self._started < limit_s, f"no {wanted!r}: {self._output[-2000:]!r}"
            assert self.process.poll() is None, f"ended before {wanted!r}: {self._output[-2000:]!r}"
            self._read_once(0.2)
        return self._last_at - self._started

    def response(self, key: str, quiet_s: float = 0.06, limit_s: float = 5) -> Response:
        """Press a key and wait until nothing has come for so long after the first byte."""
        before, pressed = self.bytes_read, time.perf_counter()
        os.write(self._master, key_bytes(key))
        assert self._read_once(limit_s), f"nothing came for {key}"
        first = self._last_at
        while self._read_once(quiet_s):
            pass
        return Response(first - pressed, self._last_at - pressed, self.bytes_read - before)

    def hold(self, key: str, times: int, pause_s: float = 1 / 30) -> int:
        """Hold a key down as auto-repeat does; returns the bytes that came."""
        before = self.bytes_read
        for _ in range(times):
            os.write(self._master, key_bytes(key))
            self.read(pause_s)
        self.settle(0.5)
        return self.bytes_read - before

    @property
    def cpu_s(self) -> float:
        """CPU time of the program so far, without its children."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    @property
    def peak_mib(self) -> float:
        """The most memory it held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
