"""What goes over the line: nothing while nothing happens, one row for one row, and a key costs what it costs.

Bytes are counted, never time: the installed command runs in a pseudo-terminal.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.invented_broker import InventedBroker, invented_broker, session_name
from tests.pseudo_terminal import Terminal

PROGRAM = str(Path(sys.executable).with_name("dcvtui"))
_MINUTE_S = 60


class Line:
    """A console in a terminal, and what it sends between two of its minutes.

    Relative times step once a minute, counted from the first paint; what steps then is a change and
    not the console's restlessness.
    """

    def __init__(self, terminal: Terminal, broker: InventedBroker | None = None) -> None:
        self.terminal, self._broker = terminal, broker
        terminal.wait_for("? help", 60)
        self._painted_at = time.monotonic()

    @property
    def broker(self) -> InventedBroker:
        """The invented broker behind it."""
        assert self._broker is not None
        return self._broker

    def quiet_bytes(self, seconds: float) -> int:
        """Bytes sent in so many seconds that hold no minute step, after what was under way has come."""
        self.terminal.settle(0.7)
        left = _MINUTE_S - (time.monotonic() - self._painted_at) % _MINUTE_S
        if left < seconds + 2:
            self.terminal.read(left + 2)
        return self.terminal.read(seconds)

    def bytes_of(self, *keys: str) -> int:
        """Bytes sent for keys, one after the other."""
        self.quiet_bytes(0.5)
        before = self.terminal.bytes_read
        self.terminal.press(*keys)
        self.terminal.settle(0.5)
        return self.terminal.bytes_read - before


@contextmanager
def console(folder: Path, *, servers: int, sessions: int, columns: int = 120) -> Iterator[Line]:
    """The console on an invented fleet, when all of it is there; `Line.broker` changes it."""
    with invented_broker(folder, servers=servers, sessions=sessions) as broker:
        with Terminal([PROGRAM], columns, 40, environment=broker.environment) as terminal:
            line = Line(terminal, broker)
            terminal.wait_for(f"sessions {sessions:,} ready", 60)
            yield line


def test_an_idle_console_on_the_demo_sends_nothing() -> None:
    with Terminal([PROGRAM, "demo", "--still"], 120, 40) as terminal:
        line = Line(terminal)
        terminal.wait_for("Attention", 60)
        counts = {}
        # Not the list of servers: this host is one of them, and its load is never still.
        # Long enough for three questions about what is on screen and a sweep of the whole fleet.
        for key, title in (("", "Attention"), ("2", "Sessions")):
            terminal.press(*key)
            terminal.wait_for(f"\n {title}")
            counts[title] = line.quiet_bytes(6)
        assert counts == dict.fromkeys(counts, 0), terminal.text
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_one_changed_row_repaints_one_row(tmp_path: Path) -> None:
    with console(tmp_path, servers=20, sessions=1000) as line:
        terminal, number = line.terminal, 7
        assert line.quiet_bytes(3) == 0
        clients = terminal.line_of(session_name(number)).split()[5]
        before = terminal.bytes_read
        line.broker.change(number)
        terminal.wait_until(
            lambda _: terminal.line_of(session_name(number)).split()[5] == str(int(clients) + 1),
            "one client more",
        )
        terminal.settle(1)
        assert 0 < terminal.bytes_read - before < 400


def test_a_change_off_the_screen_sends_nothing(tmp_path: Path) -> None:
    with console(tmp_path, servers=20, sessions=100) as line:
        line.broker.change(99)
        # A fleet of one page is swept every five seconds.
        assert line.quiet_bytes(6) == 0


def test_keys_cost_the_same_on_a_small_and_on_a_large_fleet(tmp_path: Path) -> None:
    costs = {}
    for servers, sessions in ((12, 100), (2000, 10_000)):
        with console(tmp_path / str(servers), servers=servers, sessions=sessions, columns=98) as line:
            costs[servers] = [
                line.bytes_of("down", "down", "down"),
                line.bytes_of("end"),
                line.bytes_of("home"),
            ]
    for small, large in zip(costs[12], costs[2000], strict=True):
        assert large <= small * 1.1 + 64, json.dumps(costs)
    assert costs[2000][0] < 3 * 1000
