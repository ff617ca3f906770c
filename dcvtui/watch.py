"""What a console knows beside the fleet: since when, what needs a person, what was done, how fresh it is.

The one place where an update of a poller becomes what the views show, and where
the fleets of several brokers become one. Pure: updates and times come in; the
views read.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dcvtui.activity import ActivityEntry, ActivityLog
from dcvtui.api.states import Availability, SessionState
from dcvtui.attention import AttentionItem, FirstSeen, Limits, Since, Trouble, attention
from dcvtui.fleet import Changes, Difference, Key, RecordT, ServerRecord, Snapshot
from dcvtui.history import History
from dcvtui.polling import Link, LinkState, Update

_WORST_FIRST = (LinkState.STALE, LinkState.CONNECTING, LinkState.POLLING, LinkState.LIVE)


@dataclass(slots=True, frozen=True)
class Counts:
    """The numbers of the top line."""

    servers: int = 0
    available: int = 0
    sessions: Mapping[str, int] = field(default_factory=dict)
    """Sessions by state, DELETED ones left out."""


@dataclass(slots=True, frozen=True)
class DrainProgress:
    """How far draining is: servers without a session, all of them, and sessions that are left."""

    empty: int
    servers: int
    sessions: int

    @property
    def sentence(self) -> str:
        """In words."""
        if self.empty == self.servers:
            return f"drained: {self.servers:,} of {self.servers:,} empty"
        left = "1 session" if self.sessions == 1 else f"{self.sessions:,} sessions"
        return f"drain: {self.empty:,} of {self.servers:,} empty, {left} left"


class Watch:
    """The fleet of one or several brokers, looked at for a while.

    Args:
        limits: how long something may last before it needs a person.

    Attributes:
        snapshot: all that is known; keys begin with the profile of the broker.
        links: how fresh it is, by profile.
        history: the last hour of servers, by their keys, and of fleets, by `(profile,)`.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.snapshot = Snapshot()
        self.links: dict[str, Link] = {}
        self._complete: set[str] = set()
        self.counts_by_profile: dict[str, Counts] = {}
        self.items: Mapping[Key, AttentionItem] = {}
        self.activity = ActivityLog()
        self.history = History()
        self.draining: set[Key] = set()
        """Servers closed from here on purpose."""
        self._first_seen = FirstSeen()
        self._limits = limits or Limits()

    @property
    def counts(self) -> Counts:
        """The numbers of all brokers together."""
        every = list(self.counts_by_profile.values())
        if len(every) == 1:
            return every[0]
        states: Counter[str] = Counter()
        for one in every:
            states.update(one.sessions)
        return Counts(sum(one.servers for one in every), sum(one.available for one in every), states)

    @property
    def link(self) -> Link:
        """The worst of the links: stale before connecting, connecting before fresh."""
        return min(self.links.values(), key=lambda link: _WORST_FIRST.index(link.state), default=Link())

    @property
    def is_complete(self) -> bool:
        """Whether every broker's fleet has been read at least once."""
        return bool(self.links) and self._complete >= self.links.keys()

    @property
    def is_stale(self) -> bool:
        """Whether nothing that is shown is fresh."""
        return bool(self.links) and all(link.state is LinkState.STALE for link in self.links.values())

    def of_profile(self, profile: str) -> Snapshot:
        """What is known of the fleet of one broker."""
        if self.links.keys() <= {profile}:
            return self.snapshot
        return Snapshot(
            {key: one for key, one in self.snapshot.servers.items() if one.profile == profile},
            {key: one for key, one in self.snapshot.sessions.items() if one.profile == profile},
        )

    def expect(self, profile: str, link: Link | None = None) -> None:
        """A broker is going to tell about its fleet."""
        self.links[profile] = link or Link()

    def forget(self, profile: str, now: datetime) -> Difference:
        """A broker is not looked at any more; what leaves the snapshot with it."""
        self.links.pop(profile, None)
        self.history.forget(profile)
        self._complete.discard(profile)
        servers = tuple(one for one in self.snapshot.servers.values() if one.profile == profile)
        sessions = tuple(one for one in self.snapshot.sessions.values() if one.profile == profile)
        gone = Difference(Changes(removed=servers), Changes(removed=sessions))
        self.draining -= {server.key for server in servers}
        self._apply(gone, gone.applied_to(self.snapshot), now, first_load=True)
        self.counts_by_profile.pop(profile, None)
        return gone

    def take(self, update: Update, now: datetime) -> None:
        """Take over what a poller says."""
        self.links[update.profile] = update.link
        is_only = len(self.links) == 1
        whole = update.snapshot if is_only else update.difference.applied_to(self.snapshot)
        is_known = update.profile in self._complete
        if update.difference:
            before = self.counts_by_profile.get(update.profile, Counts())
            self.counts_by_profile[update.profile] = _counted(before, update.difference)
        self._note_course(update, now)
        self._apply(update.difference, whole, now, first_load=not is_known)
        if is_known:
            self.activity.note_difference(update.difference, now)
        # The page that completes the first load is still part of it.
        if update.is_complete:
            self._complete.add(update.profile)

    def _note_course(self, update: Update, now: datetime) -> None:
        profile, link = update.profile, update.link
        if link.state is LinkState.STALE and link.last_good is not None:
            self.history.note_blind(profile, link.last_good, now)
        self.history.note_servers(update.difference.servers, now)
        # While the first pages come, the number of sessions says nothing of the fleet.
        if update.is_complete and (counts := self.counts_by_profile.get(profile)) is not None:
            self.history.note((profile,), None, sum(counts.sessions.values()), now)

    def _apply(self, difference: Difference, whole: Snapshot, now: datetime, *, first_load: bool) -> None:
        self.snapshot = whole
        self._first_seen.note(difference, now, first_load=first_load)
        self._note_opened(difference)
        self.look(now)

    def look(self, now: datetime) -> None:
        """Judge again what needs a person, also because time has passed."""
        found = attention(self.snapshot, self._first_seen, now, self._limits, self.draining)
        stale = [one for one in self.links.items() if one[1].state is LinkState.STALE]
        found[:0] = [self._broker_trouble(profile, link) for profile, link in stale]
        self.items = {item.key: item for item in found}

    def since(self, key: Key) -> Since | None:
        """Since when a server or session is in its present unusual state."""
        kept = self._first_seen.sessions.get(key) or self._first_seen.servers.get(key)
        return kept[1] if kept else None

    def drain_progress(self) -> DrainProgress | None:
        """How far the servers are that are being drained from here; None if none are."""
        servers = [self.snapshot.servers[key] for key in self.draining if key in self.snapshot.servers]
        if not servers:
            return None
        return DrainProgress(
            empty=sum(not server.sessions for server in servers),
            servers=len(servers),
            sessions=sum(server.sessions for server in servers),
        )

    def entries(self) -> Mapping[Key, ActivityEntry]:
        """What was done and what happened."""
        return self.activity.entries

    def _note_opened(self, difference: Difference) -> None:
        opened = {
            new.key for _, new in difference.servers.changed if new.availability == Availability.AVAILABLE
        }
        self.draining -= opened

    def _broker_trouble(self, profile: str, link: Link) -> AttentionItem:
        return AttentionItem(
            (profile, "broker"),
            Trouble.BROKER,
            "broker",
            profile if len(self.links) > 1 else "the broker",
            "STALE",
            link.why,
            Since(link.last_good) if link.last_good else None,
            "any.refresh-view",
            "try now",
        )


def _counted(before: Counts, difference: Difference) -> Counts:
    """The counts after a difference; counting fifty thousand sessions anew for each change takes too long."""
    servers, sessions = difference.servers, difference.sessions
    available = before.available
    available += sum(map(_is_available, servers.present()))
    available -= sum(map(_is_available, _no_longer(servers)))
    states = Counter(before.sessions)
    states.update(session.state for session in sessions.present())
    states.subtract(session.state for session in _no_longer(sessions))
    states.pop(SessionState.DELETED, None)
    count = before.servers + len(servers.added) - len(servers.removed)
    return Counts(count, available, +states)


def _is_available(server: ServerRecord) -> bool:
    return server.availability == Availability.AVAILABLE


def _no_longer(changes: Changes[RecordT]) -> Iterator[RecordT]:
    """The records that are gone, and those that were replaced, as they were."""
    yield from changes.removed
    for old, _ in changes.changed:
        yield old


def vanished(marks: Collection[Key], difference: Difference) -> list[str]:
    """The names of marked items that are gone."""
    sessions = [gone.name or gone.id for gone in difference.sessions.removed if gone.key in marks]
    return sessions + [gone.name for gone in difference.servers.removed if gone.key in marks]
