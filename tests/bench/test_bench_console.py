"""The console against floors of the same run: ratios, bytes and CPU time that gate nothing by time.

The installed command runs in a pseudo-terminal of 120x40, as a person starts it;
runs take turns with their floor, and what is printed is the median of at least five.
"""

import compileall
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import dcvtui
from tests.bench.stopwatch import Stopwatch
from tests.invented_broker import InventedBroker, invented_broker

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROUNDS = 5
CONSOLE = [str(Path(sys.executable).with_name("dcvtui"))]
FLOOR = [sys.executable, "-m", "tests.bench.floor_program"]

_table: list[tuple[str, str, str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print what was measured as one table at the end."""
    # The floor's library was compiled when it was installed; so is what people install of ours.
    compileall.compile_dir(dcvtui.__path__[0], quiet=1)
    yield
    heads = ("what", "measured", "aim", "detail")
    rows = [heads, *_table]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    print()
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def note(what: str, measured: str, aim: str, detail: str = "") -> None:
    _table.append((what, measured, aim, detail))


def ratio(pairs: Sequence[tuple[float, float]]) -> str:
    return f"{statistics.median(one / floor for one, floor in pairs):.2f}x"


def both(pairs: Sequence[tuple[float, float]], unit: str = "s", scale: float = 1) -> str:
    one, floor = (statistics.median(values) * scale for values in zip(*pairs, strict=True))
    return f"{one:.3g} against {floor:.3g} {unit}"


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def started(
    command: list[str], wanted: str, environment: dict[str, str] | None = None
) -> tuple[float, float]:
    """Seconds until a text is on the screen, and the CPU time spent until then."""
    with Stopwatch(command, environment=environment) as watch:
        return watch.seconds_until(wanted), watch.cpu_s


def note_starts(what: str, aim: str, one: Callable[[], tuple[float, float]], floor: list[str]) -> None:
    runs = [(one(), started([*FLOOR, *floor], "program ready")) for _ in range(ROUNDS)]
    seconds = [(ours[0], theirs[0]) for ours, theirs in runs]
    cpu = [(ours[1], theirs[1]) for ours, theirs in runs]
    note(what, ratio(seconds), aim, f"{both(seconds)}; CPU {ratio(cpu)}, {both(cpu)}")


class Consoles:
    """Consoles that run side by side until the test ends."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def broker(self, servers: int, sessions: int) -> InventedBroker:
        folder = self._folder / f"{servers}-{sessions}"
        return self._stack.enter_context(invented_broker(folder, servers=servers, sessions=sessions))

    def open(self, broker: InventedBroker, sessions: int, command: list[str] = CONSOLE) -> Stopwatch:
        """A console whose fleet is complete, in the list of sessions."""
        watch = self._stack.enter_context(Stopwatch(command, environment=broker.environment))
        watch.seconds_until(f"{sessions:,} ready")
        watch.settle(1)
        return watch


@pytest.fixture
def consoles(tmp_path: Path) -> Iterator[Consoles]:
    with ExitStack() as stack:
        yield Consoles(tmp_path, stack)


def test_t1_first_useful_screen() -> None:
    demo = subprocess.Popen(
        [*CONSOLE, "demo", "--no-ui", "--still", "--servers", "100", "--sessions", "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert demo.stdout is not None
    try:
        way = json.loads(demo.stdout.readline())
        environment = {
            "DCV_SM_BROKER_URL": way["url"],
            "DCV_SM_CA_BUNDLE": way["ca_file"],
            "DCV_SM_CLIENT_ID": way["client_id"],
            "DCV_SM_CLIENT_PASSWORD": way["client_secret"],
        }
        note_starts(
            "T1 first rows of 1,000, demo broker, against a bare program",
            "1.6x",
            lambda: started(CONSOLE, "▸", environment),
            ["bare"],
        )
    finally:
        demo.terminate()
        demo.communicate(timeout=60)


@pytest.mark.parametrize(("screen", "wanted"), [("first rows", "▸"), ("all rows known", "10,000 ready")])
def test_t2_start_with_ten_thousand_rows(consoles: Consoles, screen: str, wanted: str) -> None:
    environment = consoles.broker(200, 10_000).environment
    note_starts(
        f"T2 {screen} of 10,000 over TLS, against DataTable from memory",
        "0.2x",
        lambda: started(CONSOLE, wanted, environment),
        ["datatable", "10000"],
    )


def pressed(watch: Stopwatch, keys: Sequence[str]) -> list[float]:
    return [watch.response(key).first_s for key in keys]


def note_keys(
    what: str, aim: str, one: Stopwatch, floor: Stopwatch, keys: Sequence[str], rounds: int
) -> None:
    """Press the same keys in turns; the 95th percentile of each round, and the slowest key of all."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(pressed(one, keys))
        theirs.append(pressed(floor, keys))
    pairs = [(p95(mine), p95(other)) for mine, other in zip(ours, theirs, strict=True)]
    worst = [max(map(max, every)) * 1e3 for every in (ours, theirs)]
    detail = f"p95 {both(pairs, 'ms', 1e3)}; slowest {worst[0]:.0f} against {worst[1]:.0f} ms"
    note(what, ratio(pairs), aim, detail)


def test_t3_cursor_key_at_a_hundred_thousand_rows(consoles: Consoles) -> None:
    large = consoles.open(consoles.broker(200, 100_000), 100_000)
    small = consoles.open(consoles.broker(200, 1000), 1000)
    keys = ["down"] * 20 + ["up"] * 20
    note_keys("T3 cursor key at 100,000 rows against 1,000", "1.5x", large, small, keys, ROUNDS)


def test_t9_cursor_key_while_the_fleet_is_swept(consoles: Consoles) -> None:
    broker = consoles.broker(10_000, 50_000)
    swept = consoles.open(broker, 50_000)
    unswept = consoles.open(broker, 50_000, [*FLOOR, "unswept"])
    keys = ["down"] * 30 + ["up"] * 30
    note_keys("T9 cursor key while 60,000 are swept against unswept", "2x", swept, unswept, keys, ROUNDS)


def test_t5_filter_key_at_fifty_thousand_rows(consoles: Consoles) -> None:
    large = consoles.open(consoles.broker(200, 50_000), 50_000)
    small = consoles.open(consoles.broker(200, 1000), 1000)
    times: dict[Stopwatch, list[float]] = {large: [], small: []}
    for _ in range(ROUNDS):
        for watch, found in times.items():
            watch.response("/")
            found.extend(watch.response(key).last_s for key in "cad-0009")
            watch.response("esc", quiet_s=0.5)
    pairs = list(zip(times[large], times[small], strict=True))
    note("T5 filter key at 50,000 rows against 1,000", ratio(pairs), "3x, 50 ms", both(pairs, "ms", 1e3))


def test_t4_bytes_of_a_held_cursor_key(consoles: Consoles) -> None:
    watch = consoles.open(consoles.broker(200, 1000), 1000)
    inside, beyond = [], []
    for _ in range(ROUNDS):
        inside.append(watch.hold("down", 30) / 30)
        beyond.append(watch.hold("down", 120) / 120)
        watch.response("home", quiet_s=0.5)
    ours = statistics.median(beyond)
    detail = f"{ours:.0f} B beyond the screen, {statistics.median(inside):.0f} B inside it"
    if shutil.which("htop") is None:
        note("T4 held cursor key", f"{ours:.0f} B", "4x htop", f"{detail}; htop is not installed")
        return
    with Stopwatch(["htop", "-d", "100"]) as htop:
        htop.settle(1)
        theirs = []
        for _ in range(ROUNDS):
            # There are few processes: down and up again stay inside its screen.
            theirs.append((htop.hold("down", 10) + htop.hold("up", 10)) / 20)
    floor = statistics.median(theirs)
    note(
        "T4 bytes of a held cursor key against htop",
        f"{ours / floor:.1f}x",
        "4x",
        f"{detail}, htop {floor:.0f} B",
    )


def test_t6_a_fleet_of_which_a_twentieth_changes_each_second(tmp_path: Path) -> None:
    rows, changes, seconds = 10_000, 500, 15
    command = [sys.executable, "-m", "tests.bench.changing_broker", str(tmp_path), str(rows), str(changes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as broker:
        assert broker.stdin
        assert broker.stdout
        try:
            way = json.loads(broker.stdout.readline())
            environment = {
                "DCV_SM_BROKER_URL": way["url"],
                "DCV_SM_CA_BUNDLE": way["ca_file"],
                "DCV_SM_OAUTH2_TOKEN": "none",
            }
            with Stopwatch(CONSOLE, environment=environment) as ours:
                ours.seconds_until(f"{rows:,} ready")
                ours.settle(1)
                broker.stdin.write(b"go\n")
                broker.stdin.flush()
                one = changed_for(ours, seconds)
        finally:
            broker.communicate()
    with Stopwatch([*FLOOR, "datatable", str(rows), str(changes)]) as table:
        table.seconds_until("program ready", 300)
        other = changed_for(table, seconds)
    detail = f"{one[0]:,.0f} against {other[0]:,.0f} B/s; CPU {one[1]:.1%} against {other[1]:.1%} of a core"
    measured = f"{one[0] / other[0]:.3f}x, {one[1] / other[1]:.2f}x"
    note("T6 bytes and CPU with 500 changes/s, against DataTable", measured, "0.1x, 0.2x", detail)


def changed_for(watch: Stopwatch, seconds: float) -> tuple[float, float]:
    """Bytes and CPU time for each second."""
    watch.read(2)
    cpu, sent = watch.cpu_s, watch.read(seconds)
    return sent / seconds, (watch.cpu_s - cpu) / seconds


def test_t7_idle() -> None:
    with Stopwatch([*CONSOLE, "demo", "--still"]) as watch:
        watch.seconds_until("Attention")
        watch.settle(2)
        # The first minute of the console ends later than this.
        cpu, sent = watch.cpu_s, watch.read(40)
        used = (watch.cpu_s - cpu) / 40
    note("T7 idle for 40 s on the demo", f"{sent / 40:.1f} B/s", "0 B/s, 0.5 %", f"{used:.2%} of a core")


def test_t7_idle_on_a_large_fleet(consoles: Consoles) -> None:
    watch = consoles.open(consoles.broker(2000, 10_000), 10_000)
    cpu, sent = watch.cpu_s, watch.read(40)
    used = (watch.cpu_s - cpu) / 40
    note(
        "T7 idle for 40 s, 12,000 swept page by page",
        f"{sent / 40:.1f} B/s",
        "0 B/s",
        f"{used:.2%} of a core",
    )


def test_bytes_of_a_changed_row(consoles: Consoles) -> None:
    broker = consoles.broker(200, 10_000)
    watch = consoles.open(broker, 10_000)
    counts = []
    for number in range(5, 5 + ROUNDS):
        before = watch.bytes_read
        broker.change(number)
        while watch.bytes_read == before:
            watch.read(0.2)
        watch.settle(0.5)
        counts.append(watch.bytes_read - before)
    note(
        "bytes of one changed row among 10,000", f"{statistics.median(counts):.0f} B", "one row", str(counts)
    )


def test_t8_peak_memory(consoles: Consoles) -> None:
    ours = consoles.open(consoles.broker(10_000, 50_000), 50_000).peak_mib
    with Stopwatch([*FLOOR, "datatable", "50000"]) as watch:
        watch.seconds_until("program ready", 300)
        theirs = watch.peak_mib
    detail = f"{ours:.0f} against {theirs:.0f} MiB, one run"
    note(
        "T8 peak memory, 10,000 + 50,000, against DataTable of 50,000",
        f"{ours / theirs:.2f}x",
        "0.7x",
        detail,
    )
