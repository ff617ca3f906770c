"""What a console knows beside the fleet: since when, what needs a person, what was done, how fresh it is.

The one place where an update of the poller becomes what the views show. Pure:
updates and times come in; the views read.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dcvtui.activity import ActivityEntry, ActivityLog
from dcvtui.api.states import Availability, SessionState
from dcvtui.attention import AttentionItem, FirstSeen, Limits, Since, Trouble, attention
from dcvtui.fleet import Changes, Difference, Key, RecordT, ServerRecord, Snapshot
from dcvtui.polling import Link, LinkState, Update


@dataclass(slots=True, frozen=True)
class Counts:
    """The numbers of the top line."""

    servers: int = 0
    available: int = 0
    sessions: Mapping[str, int] = field(default_factory=dict)
    """Sessions by state, DELETED ones left out."""


class Watch:
    """A fleet that is looked at for a while.

    Args:
        limits: how long something may last before it needs a person.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.snapshot = Snapshot()
        self.link = Link()
        self.is_complete = False
        self.counts = Counts()
        self.items: Mapping[Key, AttentionItem] = {}
        self.activity = ActivityLog()
        self.draining: set[Key] = set()
        """Servers closed from here on purpose."""
        self._first_seen = FirstSeen()
        self._limits = limits or Limits()

    def take(self, update: Update, now: datetime) -> None:
        """Take over what the poller says."""
        difference = update.difference
        self.snapshot, self.link = update.snapshot, update.link
        self._first_seen.note(difference, now, first_load=not self.is_complete)
        if self.is_complete:
            self.activity.note_difference(difference, now)
        # The page that completes the first load is still part of it.
        self.is_complete = update.is_complete
        if difference:
            self.counts = _counted(self.counts, difference)
            self._note_opened(difference)
        self.look(now)

    def look(self, now: datetime) -> None:
        """Judge again what needs a person, also because time has passed."""
        found = attention(self.snapshot, self._first_seen, now, self._limits, self.draining)
        if (broker := self._broker_trouble()) is not None:
            found.insert(0, broker)
        self.items = {item.key: item for item in found}

    def since(self, key: Key) -> Since | None:
        """Since when a server or session is in its present unusual state."""
        kept = self._first_seen.sessions.get(key) or self._first_seen.servers.get(key)
        return kept[1] if kept else None

    def entries(self) -> Mapping[Key, ActivityEntry]:
        """What was done and what happened."""
        return self.activity.entries

    def _note_opened(self, difference: Difference) -> None:
        opened = {
            new.key for _, new in difference.servers.changed if new.availability == Availability.AVAILABLE
        }
        self.draining -= opened

    def _broker_trouble(self) -> AttentionItem | None:
        if self.link.state is not LinkState.STALE:
            return None
        since = Since(self.link.last_good) if self.link.last_good else None
        return AttentionItem(
            ("", "broker"),
            Trouble.BROKER,
            "broker",
            "the broker",
            "STALE",
            self.link.why,
            since,
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
