"""Registry, placement and store against floors of the same run: ratios that gate nothing."""

import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker_stub.broker.events import (
    Accepted,
    AgentDisconnected,
    ClockAdvanced,
    Rules,
    SaveSession,
    ServerReported,
    SessionDeletionRequested,
    SessionRequested,
    SessionsReported,
    Stored,
)
from broker_stub.broker.placement import Question
from broker_stub.broker.registry import Registry
from broker_stub.broker.requirement_facts import requirement_facts
from broker_stub.broker.store import Store
from dcvtui.api.models import CreateSessionRequestData
from dcvtui.api.requirements import parse
from tests.bench.large_registry import NOW, fleet
from tests.broker.scene import report

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROUNDS = 5


def cpu_s(work: Callable[[], object], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def alternated(
    work: Callable[[], object], floor: Callable[[], object], times: int
) -> tuple[float, float, float]:
    """Median ratio, and the best time of each, of runs that take turns."""
    pairs = [(cpu_s(work, times), cpu_s(floor, times)) for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in pairs)
    return ratio, min(one for one, _ in pairs), min(other for _, other in pairs)


def show(name: str, ratio: float, aim: str, detail: str) -> None:
    print(f"\n{name}: {ratio:.2f}x (aim {aim}); {detail}")


def test_f1_a_page_is_a_join() -> None:
    registry = fleet(1000)

    def page() -> bytes:
        return b"".join(
            (b'{"RequestId":"x","Servers":[', b",".join(registry.describe_servers(None, 1000).parts), b"]}")
        )

    body = page()

    def one_join() -> bytes:
        parts = registry.describe_servers(None, 1000).parts
        parts[0] = b'{"RequestId":"x","Servers":[' + parts[0]
        parts[-1] += b"]}"
        return b",".join(parts)

    ratio, page_s, copy_s = alternated(one_join, lambda: bytes(bytearray(body)), 50)
    show(
        "F1 page of 1,000 servers against two copies of it",
        ratio,
        "-",
        f"{page_s * 1e6:.0f} us, {len(body)} B",
    )
    print(f"    copy {copy_s * 1e6:.0f} us")


@pytest.mark.parametrize("filters", [[("owner", "user17")], [("tag:rack", "r3"), ("owner", "user421")]])
def test_f4_filters_do_not_scan(filters: list[tuple[str, str]]) -> None:
    large, small = fleet(10_000, 5), fleet(1_000, 5)
    hits = len(large.describe_sessions(None, filters, 1000).parts)
    ratio, large_s, _ = alternated(
        lambda: large.describe_sessions(None, filters, 1000),
        lambda: small.describe_sessions(None, filters, 1000),
        2000,
    )
    show("F4 filter among 50,000 against 5,000", ratio, "1.5", f"{hits} hits, {large_s * 1e6:.1f} us")


def test_f6_an_update_against_decoding_it() -> None:
    registry = fleet(1000)
    text = json.dumps(
        {
            "host": {
                "memory": {"totalBytes": 32144048128, "usedBytes": 1234567},
                "swap": {"totalBytes": 0, "usedBytes": 0},
                "cpuLoadAverage": {"oneMinute": 1.25, "fiveMinutes": 0.5, "fifteenMinutes": 0.25},
            }
        }
    )

    def update() -> None:
        for number in range(1000):
            event = ServerReported(f"srv-{number:05}", f"c{number}", False, json.loads(text))
            registry.handle(event, NOW)

    def decode() -> None:
        for _ in range(1000):
            json.loads(text)

    ratio, update_s, _ = alternated(update, decode, 5)
    show(
        "F6 metrics update against decoding its JSON",
        ratio,
        "1.5 to 3 whole",
        f"{update_s * 1e3:.2f} us each",
    )


def test_f14_the_longest_event_when_all_agents_go_away() -> None:
    """Of CPU: noticing it fifteen seconds later, and removing all of them half an hour later."""
    registry = fleet(10_000, 5)
    for number in range(10_000):
        registry.handle(AgentDisconnected(f"srv-{number:05}", f"c{number}", False), NOW)
    gc.collect()
    gc.disable()  # as in the broker's process
    longest = {"counted": cpu_s(registry.tally)}
    for name, after_s in (("noticed", 20), ("removed", 1900)):
        now = NOW + timedelta(seconds=after_s)
        while (due := registry.next_wakeup(now)) is not None and due <= now:
            took = cpu_s(partial(registry.handle, ClockAdvanced(), now))
            longest[name] = max(took, longest.get(name, 0.0))
    gc.enable()
    said = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in longest.items())
    print(f"\nF14 longest event when all agents of 10,000 go away: {said} (aim 20 ms, limit 50 ms)")


def test_a_state_change_costs_the_same_in_a_large_fleet() -> None:
    """A session that somebody connects to, and one that is created and deleted."""

    def reported(registry: Registry) -> Callable[[], object]:
        turn = 0

        def work() -> None:
            nonlocal turn
            turn += 1
            for number in range(20):
                changed = [report(f"x{number}-0", f"user{number * 7}", numOfConnections=turn % 3)]
                event = SessionsReported(f"srv-{number:05}", f"c{number}", False, True, changed, [])
                registry.handle(event, NOW)

        return work

    def created(registry: Registry) -> Callable[[], object]:
        def work() -> None:
            for number in range(20):
                request = CreateSessionRequestData(name="n", owner=f"user{number}", type="VIRTUAL")
                made = registry.handle(SessionRequested(request), NOW).result
                assert isinstance(made, Accepted)
                assert made.session
                registry.handle(SessionDeletionRequested(made.session["Id"], f"user{number}", True), NOW)

        return work

    large, small = fleet(10_000, 5), fleet(20, 5)
    for name, make in (("report", reported), ("creation and deletion", created)):
        make(large)()
        ratio, large_s, _ = alternated(make(large), make(small), 200)
        show(f"{name} of a session among 50,000 against 100", ratio, "1", f"{large_s / 20 * 1e6:.1f} us")


@pytest.mark.parametrize("distinct", [1, 10, 50])
def test_f8_placing_a_thousand_requests(distinct: int) -> None:
    registry = fleet(10_000)
    facts = [requirement_facts(server) for server in registry._fleet.servers.values()]
    texts = [
        f"tag:size >= {index % 16} and server:Host.Memory.TotalBytes > {index}E6 and tag:color != 'red'"
        for index in range(distinct)
    ]
    tests = [parse(text).matches for text in texts]

    def scan() -> None:
        for test in tests:
            for one in facts:
                test(one)

    fleet_state = registry._fleet
    questions = [Question("VIRTUAL", False, text) for text in texts]

    def place() -> None:
        """Only choosing, and what a placement means for the next choice."""
        for index in range(1000):
            server = fleet_state.placement.choose(questions[index % distinct], f"user{index}")
            assert server is not None
            server.virtual_count += 1
            fleet_state.placement.touch(server)

    def create() -> None:
        for index in range(1000):
            request = CreateSessionRequestData(
                name="n", owner=f"user{index}", type="VIRTUAL", requirements=texts[index % distinct]
            )
            assert isinstance(registry.handle(SessionRequested(request), NOW).result, Accepted)

    pairs = []
    for _ in range(ROUNDS):
        fleet_state.placement._candidates.clear()
        pairs.append((cpu_s(place), cpu_s(scan)))
    ratio = statistics.median(one / other for one, other in pairs)
    place_s = min(one for one, _ in pairs)
    show(
        f"F8 1,000 requests, {distinct} expressions, 10,000 servers, against scans",
        ratio,
        "2",
        f"{place_s * 1e3:.0f} ms",
    )
    print(f"    whole creations, answers kept: {cpu_s(create) * 1e3:.0f} us each")


# ------------------------------------------------------------------ store


def row(number: int) -> SaveSession:
    return SaveSession(f"session-{number}", {"id": f"session-{number}", "owner": "alice", "text": "x" * 500})


async def seconds(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def test_f10_waiting_together_against_one_commit_each(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "broker.db")

    async def worker(first: int) -> None:
        for number in range(first, first + 20):
            await store.write([row(number)])

    async def alone() -> None:
        for number in range(200):
            await store.write([row(number)])

    async def together() -> None:
        await asyncio.gather(*(worker(index * 20) for index in range(64)))

    ratios, rates = [], []
    for _ in range(ROUNDS):
        rate, floor = 64 * 20 / await seconds(together()), 200 / await seconds(alone())
        ratios.append(rate / floor)
        rates.append(rate)
    await store.close()
    show("F10 64 waiting against one commit each", statistics.median(ratios), "4", f"{max(rates):.0f} rows/s")


async def test_f11_a_lone_write_against_fdatasync(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "broker.db")
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)

    def sync() -> None:
        for _ in range(100):
            os.pwrite(file, b"x" * 4096, 0)
            os.fdatasync(file)

    async def write() -> None:
        for number in range(100):
            await store.write([row(number)])

    ratios, times = [], []
    for _ in range(ROUNDS):
        took = await seconds(write())
        start = time.perf_counter()
        sync()
        ratios.append(took / (time.perf_counter() - start))
        times.append(took / 100)
    os.close(file)
    await store.close()
    show(
        "F11 durable write alone against fdatasync of 4 KiB",
        statistics.median(ratios),
        "3",
        f"{min(times) * 1e3:.2f} ms",
    )


async def test_f12_recovery_against_decoding_the_rows(tmp_path: Path) -> None:
    registry = fleet(10_000, 5)
    store = await Store.open(tmp_path / "broker.db")
    fleet_state = registry._fleet
    for record in fleet_state.sessions.values():
        fleet_state.touch_session(record)
    for server in fleet_state.servers.values():
        fleet_state.touch_server(server)
    changes, _ = fleet_state.take_changes()
    await store.write(changes)
    texts = [json.dumps(getattr(change, "row", None)) for change in changes]
    del registry, fleet_state, changes
    gc.collect()

    def decode() -> list[Any]:
        return [json.loads(text) for text in texts]

    ratios, times = [], []
    for _ in range(3):
        gc.disable()
        start = time.process_time()
        decode()
        floor = time.process_time() - start
        start = time.process_time()
        stored: Stored = await store.load()
        restored = Registry(Rules())
        restored.restore(stored, NOW + timedelta(seconds=1))
        took = time.process_time() - start
        gc.enable()
        assert restored.counts()["sessions"] == 50_000
        ratios.append(took / floor)
        times.append(took)
        del stored, restored
        gc.collect()
    await store.close()
    show(
        "F12 recovery of 10,000 + 50,000 against decoding",
        statistics.median(ratios),
        "2",
        f"{min(times):.2f} s",
    )
