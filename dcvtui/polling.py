"""Keeps a snapshot of the fleet fresh behind a broker that can be asked, and may tell by itself.

What is on screen is asked for by ids every few seconds; the rest comes in sweeps,
page by page at a gentle pace. While a broker tells what changes, a rare sweep is
all that is asked. Failures make the data stale, never empty: the poller says why
and when it tries again, and recovers by itself. It knows neither the screen nor
HTTP: a source is asked, updates come out, time comes in.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from dcvtui.errors import BrokerError, NotUnderstood, Refused, TimedOut
from dcvtui.fleet import (
    Changes,
    Difference,
    Key,
    Keyed,
    RecordT,
    ServerRecord,
    SessionRecord,
    Snapshot,
    changes_by_answer,
    changes_by_page,
    changes_by_sweep,
    server_record,
    session_key,
    session_record,
)
from dcvtui.live import LiveChanges, LiveReset
from dcvtui.sweeps import SERVERS, SESSIONS, Sweeps, SweptPage, Turn

Page = Mapping[str, Any]


class FleetSource(Protocol):
    """What is asked of a broker's client; answers are pages as on the wire."""

    @property
    def broker_time(self) -> datetime | None:
        """The `Date` of the last answer, where the broker sends one."""

    async def describe_sessions_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Page:
        """One page of DescribeSessions; only its `Digest` if that is the known one."""

    async def describe_servers_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Page:
        """One page of DescribeServers; only its `Digest` if that is the known one."""


class Clock(Protocol):
    """Time as the poller needs it; tests have one that jumps."""

    def now(self) -> datetime:
        """The present time, aware."""

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        """Return after that time, or as soon as the event is set."""


class WallClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The present time in UTC."""
        return datetime.now(UTC)

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        """Wait for the event, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            pass


@dataclass(slots=True, frozen=True)
class Pace:
    """How often the broker is asked."""

    visible_s: float = 2.0
    """What is on screen."""
    page_s: float = 1.0
    """Between two pages of a sweep; the first sweep has no pauses, somebody waits for it."""
    small_fleet_s: float = 5.0
    """Between two sweeps of a fleet that is one page of servers and one of sessions."""
    live_sweep_s: float = 600.0
    """Between two sweeps while the broker tells what changes: they find what it forgot to tell."""
    deadline_s: float = 10.0
    shortest_retry_s: float = 1.0
    longest_retry_s: float = 30.0


class LinkState(StrEnum):
    """How fresh the data are; the words of the top line."""

    CONNECTING = "connecting"
    POLLING = "polling"
    LIVE = "live"
    STALE = "stale"


@dataclass(slots=True, frozen=True)
class Link:
    """What is known of the way to the broker."""

    state: LinkState = LinkState.CONNECTING
    why: str = ""
    last_good: datetime | None = None
    """When data came last; only kept while they are stale."""
    next_try: datetime | None = None


@dataclass(slots=True, frozen=True)
class Update:
    """Something changed: the fleet, the link, or that it is now known completely."""

    snapshot: Snapshot
    difference: Difference
    link: Link
    is_complete: bool
    """The whole fleet has been read at least once."""
    profile: str = ""
    """Whose fleet it is."""


class Poller:
    """Asks one broker about its fleet, again and again.

    Args:
        source: the broker's client.
        profile: the name that becomes part of every key.
        clock: where time comes from.
        pace: how often to ask.
    """

    def __init__(
        self, source: FleetSource, profile: str, clock: Clock | None = None, pace: Pace | None = None
    ) -> None:
        self._source, self._profile = source, profile
        self._clock, self._pace = clock or WallClock(), pace or Pace()
        self._wake = asyncio.Event()
        self._visible: dict[str, tuple[Key, ...]] = {SERVERS: (), SESSIONS: ()}
        self._expected: set[str] = set()
        self._told: deque[LiveReset | LiveChanges | None] = deque()
        self._is_told = False
        """The broker tells what changes."""
        self._is_caught_up = True
        """Nothing can have changed since the last sweep that was not told."""
        self._sweeps = Sweeps()
        self._failures = 0
        self._offset = timedelta()
        self._last_good: datetime | None = None
        start = self._clock.now()
        self._visible_due, self._sweep_due, self._sweep_began = start, start, start
        self.snapshot, self.link, self.is_complete = Snapshot(), Link(), False

    def show(self, servers: Iterable[Key] = (), sessions: Iterable[Key] = ()) -> None:
        """Say which rows are on screen; they are asked for by ids."""
        self._visible = {"servers": tuple(servers), "sessions": tuple(sessions)}

    def refresh(self, session_ids: Iterable[str] = ()) -> None:
        """Ask now instead of later, also for sessions that are not on screen yet."""
        self._expected.update(session_ids)
        self._visible_due = self._sweep_due = self._clock.now()
        self._wake.set()

    def tell(self, event: LiveReset | LiveChanges) -> None:
        """Take what the broker tells by itself; asking stops but for what it cannot tell."""
        self._told.append(event)
        self._wake.set()

    def end_telling(self) -> None:
        """The broker tells nothing any more: ask again."""
        if self._is_told or self._told:
            self._told.append(None)
            self._wake.set()

    def broker_now(self) -> datetime:
        """The present time by the broker's clock, where it tells it."""
        return self._clock.now() + self._offset

    async def updates(self) -> AsyncIterator[Update]:
        """Yield an update whenever something changed, for ever.

        What a source raises beside `BrokerError` is a bug and comes through.
        """
        while True:
            was_complete, link = self.is_complete, self.link
            await self._wait_until(self._next_due())
            if self._told:
                difference = self._take_told(self._told.popleft())
            elif self._next_due() > self._clock.now():
                continue
            else:
                difference = await self._ask_in_time()
            self.snapshot = difference.applied_to(self.snapshot)
            if difference or link != self.link or was_complete != self.is_complete:
                yield Update(self.snapshot, difference, self.link, self.is_complete, self._profile)

    async def _ask_in_time(self) -> Difference:
        try:
            async with asyncio.timeout(self._pace.deadline_s):
                difference = await self._ask()
        except TimeoutError:
            seconds = f"{self._pace.deadline_s:g}"
            return self._fail(TimedOut(f"The broker did not answer within {seconds} s."))
        except BrokerError as error:
            return self._fail(error)
        self._succeed()
        return difference

    def _next_due(self) -> datetime:
        return min(self._visible_due, self._sweep_due) if self._has_visible() else self._sweep_due

    async def _wait_until(self, due: datetime) -> None:
        while (seconds := (due - self._clock.now()).total_seconds()) > 0 and not self._wake.is_set():
            await self._clock.wait(seconds, self._wake)
        if not self._told:
            self._wake.clear()

    def _has_visible(self) -> bool:
        # The first sweep goes before: what is on screen is a few moments old.
        return (
            self.is_complete
            and not self._is_told
            and bool(self._visible["servers"] or self._visible["sessions"] or self._expected)
        )

    async def _ask(self) -> Difference:
        if self._has_visible() and self._visible_due <= self._sweep_due:
            self._visible_due = self._clock.now() + timedelta(seconds=self._pace.visible_s)
            return await self._ask_for_visible()
        return await self._ask_for_page()

    # ------------------------------------------------------------------ by ids

    async def _ask_for_visible(self) -> Difference:
        servers: Changes[ServerRecord] = Changes()
        sessions: Changes[SessionRecord] = Changes()
        if keys := self._visible["servers"]:
            page = await self._source.describe_servers_page(ids=_ids(keys))
            found = [server_record(wire, self._profile) for wire in _entities(page, "Servers")]
            self._see(SERVERS, found)
            asked = () if page.get("NextToken") else keys
            servers = changes_by_answer(self.snapshot.servers, asked, found)
        keys, expected = self._visible["sessions"], self._expected
        if ids := [*dict.fromkeys([*_ids(keys), *sorted(expected)])]:
            page = await self._source.describe_sessions_page(ids=ids)
            self._expected -= expected
            met = [session_record(wire, self._profile) for wire in _entities(page, "Sessions")]
            self._see(SESSIONS, met)
            asked = () if page.get("NextToken") else keys
            sessions = changes_by_answer(self.snapshot.sessions, asked, met)
        return self._touching(Difference(servers, sessions))

    def _touching(self, difference: Difference) -> Difference:
        for changes in (difference.servers, difference.sessions):
            self._sweeps.touch(record.key for record in (*changes.present(), *changes.removed))
        return difference

    def _see(self, kind: str, records: Sequence[ServerRecord] | Sequence[SessionRecord]) -> None:
        self._sweeps.seen[kind].update(record.key for record in records)

    # ------------------------------------------------------------------ told by the broker

    def _take_told(self, event: LiveReset | LiveChanges | None) -> Difference:
        now = self._clock.now()
        if event is None:
            self._is_told = False
            self._visible_due = self._sweep_due = now
            if self.link.state is LinkState.LIVE:
                self.link = Link(LinkState.POLLING)
            return Difference()
        self._is_told = True
        if isinstance(event, LiveReset):
            # What happened before is not told: a sweep that begins now finds it.
            self._is_caught_up = False
            self._sweeps.restart()
            self._sweep_due = now
            return Difference()
        if self._is_caught_up and self.link.state is not LinkState.STALE:
            self._last_good, self.link = now, Link(LinkState.LIVE)
        return self._touching(Difference(self._told_servers(event), self._told_sessions(event)))

    def _told_servers(self, event: LiveChanges) -> Changes[ServerRecord]:
        found = [server_record(wire, self._profile) for wire in event.servers]
        gone = {(self._profile, server_id) for server_id in event.gone_servers}
        self._see(SERVERS, found)
        self._sweeps.seen[SERVERS] -= gone
        return _with_gone(changes_by_page(self.snapshot.servers, found), self.snapshot.servers, gone)

    def _told_sessions(self, event: LiveChanges) -> Changes[SessionRecord]:
        met = [session_record(wire, self._profile) for wire in event.sessions]
        ended = {session_key(self._profile, *one) for one in event.gone_sessions}
        self._see(SESSIONS, met)
        self._sweeps.seen[SESSIONS] -= ended
        return _with_gone(changes_by_page(self.snapshot.sessions, met), self.snapshot.sessions, ended)

    # ------------------------------------------------------------------ sweeps

    async def _ask_for_page(self) -> Difference:
        if self._sweeps.pages == 0:
            self._sweep_began = self._clock.now()
        token, known = self._sweeps.token, self._sweeps.known_page
        digest = known.digest if known else b""
        if self._sweeps.kind == SERVERS:
            page = await self._source.describe_servers_page(next_token=token, known=digest)
            if known and page.get("Digest") == digest:
                return Difference(servers=self._take_page(known, Changes(), self.snapshot.servers))
            found = [server_record(wire, self._profile) for wire in _entities(page, "Servers")]
            servers = changes_by_page(self.snapshot.servers, found)
            return Difference(servers=self._take_page(_swept(page, found), servers, self.snapshot.servers))
        page = await self._source.describe_sessions_page(next_token=token, known=digest)
        if known and page.get("Digest") == digest:
            return Difference(sessions=self._take_page(known, Changes(), self.snapshot.sessions))
        met = [session_record(wire, self._profile) for wire in _entities(page, "Sessions")]
        sessions = changes_by_page(self.snapshot.sessions, met)
        return Difference(sessions=self._take_page(_swept(page, met), sessions, self.snapshot.sessions))

    def _take_page(
        self, page: SweptPage, changes: Changes[RecordT], records: Mapping[Key, RecordT]
    ) -> Changes[RecordT]:
        """Turn a page, and say when the next one is due; the last of a kind tells what is gone."""
        if page.next_token and page.next_token == self._sweeps.token:
            # Such a broker would be asked for ever (API specification, section 15).
            raise NotUnderstood("The broker answered with the same page token twice.")
        seen, pages = self._sweeps.seen[self._sweeps.kind], self._sweeps.pages + 1
        turn, now = self._sweeps.take(page), self._clock.now()
        pause = self._pace.page_s if self.is_complete and self._is_caught_up else 0
        if turn is Turn.KIND and pages == 1:
            pause = 0  # a fleet of one page each is looked at as one
        self._sweep_due = now + timedelta(seconds=pause)
        if turn is Turn.PAGE:
            return changes
        if turn is Turn.END:
            self._end_sweep(now, is_small=pages == 2)
        return Changes(changes.added, changes.changed, changes_by_sweep(records, seen).removed)

    def _end_sweep(self, now: datetime, *, is_small: bool) -> None:
        if is_small:
            self._sweep_due = self._sweep_began + timedelta(seconds=self._pace.small_fleet_s)
        if not self.is_complete:
            self._visible_due = now + timedelta(seconds=self._pace.visible_s)
        self._sweep_due = max(self._sweep_due, now + timedelta(seconds=self._pace.page_s))
        if self._is_told:
            self._sweep_due = now + timedelta(seconds=self._pace.live_sweep_s)
        self.is_complete = self._is_caught_up = True

    # ------------------------------------------------------------------ the link

    def _succeed(self) -> None:
        self._failures = 0
        self._last_good = self._clock.now()
        self.link = Link(LinkState.LIVE if self._is_told and self._is_caught_up else LinkState.POLLING)
        if (told := self._source.broker_time) is not None:
            offset = told - self._last_good
            # `Date` has whole seconds, and answers take their time: small differences mean nothing.
            if abs(offset - self._offset) > timedelta(seconds=3):
                self._offset = offset

    def _fail(self, error: BrokerError) -> Difference:
        self._failures += 1
        wait = min(self._pace.longest_retry_s, self._pace.shortest_retry_s * 2 ** min(self._failures - 1, 16))
        if isinstance(error, Refused) and error.retry_after_s is not None:
            wait = max(wait, error.retry_after_s)
        next_try = self._clock.now() + timedelta(seconds=wait)
        self.link = Link(LinkState.STALE, error.sentence, self._last_good, next_try)
        self._sweeps.restart()
        self._visible_due = self._sweep_due = next_try
        return Difference()


def _with_gone(
    changes: Changes[RecordT], known: Mapping[Key, RecordT], gone: Iterable[Key]
) -> Changes[RecordT]:
    removed = tuple(known[key] for key in gone if key in known)
    return Changes(changes.added, changes.changed, removed)


def _swept(page: Page, records: Sequence[Keyed]) -> SweptPage:
    token = page.get("NextToken")
    keys = tuple(record.key for record in records)
    return SweptPage(page.get("Digest", b""), keys, token if isinstance(token, str) and token else None)


def _ids(keys: Iterable[Key]) -> list[str]:
    return list(dict.fromkeys(key[-1] for key in keys))


def _entities(page: Page, name: str) -> list[Mapping[str, Any]]:
    entities = page.get(name)
    if entities is None:
        return []
    if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
        raise NotUnderstood(f"The broker's answer has no list of {name.lower()}. Is this the right address?")
    return entities
