"""The poller against a small broker in memory that can be slow, wrong or away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from dcvtui.errors import BrokerError, Refused, Unreachable
from dcvtui.live import LiveChanges, LiveReset
from dcvtui.polling import LinkState, Pace, Page, Poller, Update

START = datetime(2026, 3, 30, 12, tzinfo=UTC)


class JumpingClock:
    """Time that passes only when somebody waits, and then at once."""

    def __init__(self) -> None:
        self.time = START
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self.time

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        await asyncio.sleep(0)
        if not wake.is_set():
            self.waits.append(seconds)
            self.time += timedelta(seconds=seconds)

    async def reaches(self, seconds: float) -> None:
        while self.elapsed < seconds:  # noqa: ASYNC110  time here is no event, it only jumps
            await asyncio.sleep(0)

    @property
    def elapsed(self) -> float:
        return (self.time - START).total_seconds()


class SmallBroker:
    """Pages of a fleet in memory, with trouble on request."""

    def __init__(
        self, clock: JumpingClock, servers: int = 1, sessions: int = 3, page_size: int = 100
    ) -> None:
        self.clock, self.page_size = clock, page_size
        self.servers = {f"srv-{n}": {"Id": f"srv-{n}", "Availability": "AVAILABLE"} for n in range(servers)}
        self.sessions = {f"s-{n:04}": {"Id": f"s-{n:04}", "State": "READY"} for n in range(sessions)}
        self.trouble: BrokerError | None = None
        self.answer: Callable[[], Any] | None = None
        self.asked: list[tuple[float, str, str]] = []
        self.spared = 0
        self.broker_time: datetime | None = None

    def page(
        self,
        name: str,
        entities: dict[str, Any],
        ids: Sequence[str],
        next_token: str | None,
        known: bytes | None,
    ) -> Page:
        what = "ids " + " ".join(ids) if ids else f"page {next_token or 0}"
        self.asked.append((self.clock.elapsed, name, what))
        if self.trouble:
            raise self.trouble
        if self.answer:
            return self.answer()  # type: ignore[no-any-return]  # garbage on purpose
        if ids:
            return {name: [entities[one] for one in ids if one in entities]}
        start = int(next_token or 0)
        rows = sorted(entities.values(), key=lambda entity: entity["Id"])
        page: dict[str, Any] = {name: rows[start : start + self.page_size]}
        if start + self.page_size < len(rows):
            page["NextToken"] = str(start + self.page_size)
        if known is not None:
            digest = str(page).encode()
            if digest == known:
                self.spared += 1
                return {"Digest": digest}
            page["Digest"] = digest
        return deepcopy(page)

    async def describe_servers_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Page:
        return self.page("Servers", self.servers, ids, next_token, known)

    async def describe_sessions_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Page:
        return self.page("Sessions", self.sessions, ids, next_token, known)


class Watching:
    """A poller whose updates are read one by one."""

    def __init__(self, pace: Pace | None = None, **fleet: int) -> None:
        self.clock = JumpingClock()
        self.broker = SmallBroker(self.clock, **fleet)
        self.poller = Poller(self.broker, "lab", self.clock, pace)
        self.stream: AsyncIterator[Update] = self.poller.updates()

    async def until(self, condition: Callable[[Update], bool]) -> Update:
        async with asyncio.timeout(30):
            async for update in self.stream:
                if condition(update):
                    return update
        raise AssertionError("the poller ended")

    async def load(self) -> Update:
        return await self.until(lambda update: update.is_complete)

    @property
    def names(self) -> list[str]:
        return sorted(key[-1] for key in self.poller.snapshot.sessions)


async def test_the_first_load_reads_every_page_without_a_pause() -> None:
    watching = Watching(servers=250, sessions=420)
    update = await watching.load()
    assert len(update.snapshot.servers) == 250
    assert len(update.snapshot.sessions) == 420
    assert watching.clock.elapsed == 0
    assert update.link.state is LinkState.POLLING


async def test_rows_on_screen_are_asked_for_by_ids_every_two_seconds() -> None:
    watching = Watching(servers=250, sessions=420)
    await watching.load()
    watching.poller.show(sessions=[("lab", "s-0007"), ("lab", "srv-1", "s-0001")])
    watching.broker.asked.clear()
    watching.broker.sessions["s-0007"]["State"] = "DELETING"
    await watching.until(lambda update: bool(update.difference.sessions.changed))
    watching.broker.sessions["s-0007"]["State"] = "DELETED"
    await watching.until(lambda update: bool(update.difference.sessions.changed))
    by_ids = [time for time, _, what in watching.broker.asked if what == "ids s-0007 s-0001"]
    assert by_ids == [2.0, 4.0]


async def test_a_row_asked_for_by_id_and_not_returned_is_gone() -> None:
    watching = Watching(servers=250, sessions=420)
    await watching.load()
    watching.poller.show(sessions=[("lab", "s-0007")])
    del watching.broker.sessions["s-0007"]
    update = await watching.until(lambda update: bool(update.difference.sessions.removed))
    assert [record.id for record in update.difference.sessions.removed] == ["s-0007"]
    assert watching.clock.elapsed == 2


async def test_a_large_fleet_is_swept_one_page_a_second() -> None:
    watching = Watching(servers=250, sessions=120)
    await watching.load()
    watching.broker.asked.clear()
    watching.broker.sessions["s-9999"] = {"Id": "s-9999", "State": "READY"}
    await watching.until(lambda update: bool(update.difference.sessions.added))
    assert [(time, what) for time, _, what in watching.broker.asked] == [
        (1, "page 0"), (2, "page 100"), (3, "page 200"), (4, "page 0"), (5, "page 100"),
    ]  # fmt: skip


async def test_a_fleet_of_one_page_each_is_swept_every_five_seconds() -> None:
    watching = Watching()
    await watching.load()
    watching.broker.asked.clear()
    for _ in range(2):
        watching.broker.sessions[f"t-{watching.clock.elapsed}"] = {"Id": f"t-{watching.clock.elapsed}"}
        await watching.until(lambda update: bool(update.difference.sessions.added))
    assert [time for time, _, what in watching.broker.asked if what == "page 0"] == [5, 5, 10, 10]


async def test_what_a_whole_sweep_did_not_see_is_gone() -> None:
    watching = Watching()
    await watching.load()
    del watching.broker.sessions["s-0001"]
    await watching.until(lambda update: bool(update.difference.sessions.removed))
    assert watching.names == ["s-0000", "s-0002"]


async def test_a_sweep_that_failed_takes_nothing_away() -> None:
    watching = Watching(servers=1, sessions=250)
    await watching.load()
    del watching.broker.sessions["s-0001"]
    watching.broker.trouble = Unreachable("connection refused")
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert len(update.snapshot.sessions) == 250
    watching.broker.trouble = None
    await watching.until(lambda update: bool(update.difference.sessions.removed))
    assert len(watching.names) == 249


async def test_a_session_found_meanwhile_by_id_survives_the_sweep() -> None:
    watching = Watching(sessions=250)
    await watching.load()
    # The broker lists it at a place the sweep has passed already.
    watching.broker.sessions["a-new"] = {"Id": "a-new", "State": "CREATING"}
    watching.poller.refresh(["a-new"])
    update = await watching.until(lambda update: bool(update.difference.sessions.added))
    assert [record.id for record in update.difference.sessions.added] == ["a-new"]
    assert watching.clock.elapsed == 0


async def test_an_unchanged_fleet_brings_no_update() -> None:
    watching = Watching()
    await watching.load()
    waiting = asyncio.ensure_future(anext(watching.stream))
    await watching.clock.reaches(600)
    assert not waiting.done()
    waiting.cancel()


async def test_failures_wait_longer_each_time_and_say_when_it_goes_on() -> None:
    watching = Watching()
    await watching.load()
    watching.broker.trouble = Unreachable("The broker refused the connection.")
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert update.link.why == "The broker refused the connection."
    assert update.link.last_good == START
    assert watching.clock.elapsed == 5
    waits = []
    for _ in range(7):
        assert update.link.next_try
        waits.append((update.link.next_try - watching.clock.now()).total_seconds())
        update = await watching.until(lambda _: True)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


async def test_it_recovers_by_itself() -> None:
    watching = Watching()
    watching.broker.trouble = Unreachable("no")
    stale = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert (stale.link.last_good, stale.snapshot.sessions) == (None, {})
    watching.broker.trouble = None
    update = await watching.load()
    assert update.link.state is LinkState.POLLING
    assert len(update.snapshot.sessions) == 3


async def test_retry_after_is_obeyed() -> None:
    watching = Watching()
    watching.broker.trouble = Refused("busy", status=503, text="busy", retry_after_s=45)
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert update.link.next_try == START + timedelta(seconds=45)


async def test_refresh_tries_at_once() -> None:
    watching = Watching()
    watching.broker.trouble = Refused("busy", status=503, text="busy", retry_after_s=45)
    await watching.until(lambda update: update.link.state is LinkState.STALE)
    watching.broker.trouble = None
    watching.poller.refresh()
    await watching.load()
    assert watching.clock.elapsed == 0


async def test_no_answer_in_time_is_a_failure() -> None:
    watching = Watching(Pace(deadline_s=0.01))

    async def never(**_: Any) -> Page:
        await asyncio.Event().wait()
        return {}

    watching.broker.describe_servers_page = never  # type: ignore[method-assign]  # a broker that hangs
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert update.link.why == "The broker did not answer within 0.01 s."


async def test_garbage_is_a_failure_with_a_sentence() -> None:
    watching = Watching()
    for garbage in ({"Servers": "none"}, {"Servers": [1]}):
        watching.broker.answer = lambda garbage=garbage: garbage
        update = await watching.until(lambda update: update.link.state is LinkState.STALE)
        assert "no list of servers" in update.link.why


async def test_a_page_token_that_repeats_ends_the_walk() -> None:
    watching = Watching()
    watching.broker.answer = lambda: {"Servers": [], "NextToken": "7"}
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert "same page token twice" in update.link.why


async def test_the_brokers_clock_counts_where_it_tells_it() -> None:
    watching = Watching()
    await watching.load()
    assert watching.poller.broker_now() == START
    watching.broker.broker_time = START + timedelta(minutes=7)
    watching.broker.sessions["new"] = {"Id": "new"}
    await watching.until(lambda update: bool(update.difference))
    assert watching.poller.broker_now() - watching.clock.now() > timedelta(minutes=6)


# ------------------------------------------------------------------ a broker that tells


def told(**fields: Any) -> LiveChanges:
    nothing: dict[str, Any] = {"servers": [], "sessions": [], "gone_servers": [], "gone_sessions": []}
    return LiveChanges("", **(nothing | fields))


async def test_a_broker_that_tells_is_asked_for_all_once_and_then_hardly_ever() -> None:
    watching = Watching(servers=250, sessions=420)
    watching.poller.tell(LiveReset(""))
    update = await watching.load()
    assert update.link.state is LinkState.LIVE
    watching.poller.show(sessions=[("lab", "s-0001")])
    asked = len(watching.broker.asked)
    watching.broker.sessions["s-0001"]["State"] = "DELETED"  # not told: only a sweep finds it
    await watching.until(lambda update: bool(update.difference))
    assert watching.broker.asked[asked][0] == 600
    assert all("page" in what for _, _, what in watching.broker.asked[asked:])


async def test_what_is_told_changes_only_what_it_speaks_of() -> None:
    watching = Watching()
    watching.poller.tell(LiveReset(""))
    await watching.load()
    new, changed = {"Id": "s-9", "State": "CREATING"}, {"Id": "s-0001", "State": "DELETING"}
    watching.poller.tell(told(sessions=[new, changed], gone_sessions=[("s-0002", None), ("never", None)]))
    update = await watching.until(lambda update: bool(update.difference))
    assert watching.names == ["s-0000", "s-0001", "s-9"]
    assert update.snapshot.sessions["lab", "s-0001"].state == "DELETING"
    watching.poller.tell(told(gone_servers=["srv-0"]))
    await watching.until(lambda update: bool(update.difference))
    assert watching.poller.snapshot.servers == {}


async def test_sessions_of_one_id_on_two_servers_are_told_apart() -> None:
    watching = Watching(sessions=0)
    await watching.load()
    consoles = [{"Id": "console", "Server": {"Id": server_id}} for server_id in ("a", "b")]
    watching.poller.tell(told(sessions=consoles))
    await watching.until(lambda update: bool(update.difference))
    watching.poller.tell(told(gone_sessions=[("console", "a")]))
    await watching.until(lambda update: bool(update.difference))
    assert list(watching.poller.snapshot.sessions) == [("lab", "b", "console")]


async def test_what_is_told_during_a_sweep_outlives_it() -> None:
    watching = Watching(sessions=250)
    await watching.until(lambda update: len(update.snapshot.sessions) == 100)
    watching.poller.tell(told(sessions=[{"Id": "a-before-the-page", "State": "READY"}]))
    watching.poller.tell(told(gone_sessions=[("s-0001", None)]))
    update = await watching.load()
    assert ("lab", "a-before-the-page") in update.snapshot.sessions
    assert ("lab", "s-0001") not in update.snapshot.sessions


async def test_a_broker_that_stops_telling_is_asked_at_once() -> None:
    watching = Watching()
    watching.poller.tell(LiveReset(""))
    await watching.load()
    began = watching.clock.elapsed
    watching.broker.trouble = Unreachable("The broker is away.")
    watching.poller.end_telling()
    update = await watching.until(lambda update: update.link.state is LinkState.STALE)
    assert watching.clock.elapsed == began
    watching.broker.trouble = None
    update = await watching.until(lambda update: update.link.state is not LinkState.STALE)
    assert update.link.state is LinkState.POLLING


async def test_a_reset_reads_everything_again_without_a_pause() -> None:
    watching = Watching(sessions=420)
    watching.poller.tell(LiveReset(""))
    await watching.load()
    began = watching.clock.elapsed
    del watching.broker.sessions["s-0300"]
    watching.poller.tell(LiveReset(""))
    await watching.until(lambda update: bool(update.difference.sessions.removed))
    assert watching.clock.elapsed == began
    assert watching.poller.link.state is LinkState.LIVE


async def test_a_failing_page_is_said_although_the_broker_tells() -> None:
    watching = Watching()
    watching.poller.tell(LiveReset(""))
    await watching.load()
    watching.broker.trouble = Unreachable("The broker is away.")
    watching.poller.refresh()
    await watching.until(lambda update: update.link.state is LinkState.STALE)
    watching.poller.tell(told(sessions=[{"Id": "new"}]))
    update = await watching.until(lambda update: bool(update.difference))
    assert update.link.state is LinkState.STALE


# ------------------------------------------------------------------ pages that are the same again


async def test_a_page_that_is_the_same_again_is_not_read_again() -> None:
    watching = Watching(servers=150, sessions=250)
    await watching.load()
    watching.broker.sessions["s-0240"]["State"] = "DELETED"
    await watching.until(lambda update: bool(update.difference))
    assert watching.broker.spared == 4  # two pages of servers and two of three of sessions
    assert watching.poller.snapshot.sessions["lab", "s-0240"].state == "DELETED"
    assert len(watching.poller.snapshot.servers) == 150


async def test_what_is_gone_is_found_although_the_other_pages_are_the_same() -> None:
    watching = Watching(servers=150, sessions=250)
    await watching.load()
    del watching.broker.sessions["s-0249"]
    await watching.until(lambda update: bool(update.difference.sessions.removed))
    assert watching.broker.spared == 4
    assert len(watching.names) == 249


async def test_a_page_is_read_again_if_an_answer_by_ids_said_otherwise_meanwhile() -> None:
    """It went to another state and back: the page is as it was, and what is shown is not."""
    watching = Watching(servers=150, sessions=250)
    await watching.load()
    watching.poller.show(sessions=[("lab", "s-0001")])
    watching.broker.sessions["s-0001"]["State"] = "UNKNOWN"
    await watching.until(lambda update: bool(update.difference))
    watching.poller.show()
    watching.broker.sessions["s-0001"]["State"] = "READY"
    update = await watching.until(lambda update: bool(update.difference))
    assert update.snapshot.sessions["lab", "s-0001"].state == "READY"
