"""What this console did and what came of it, and what changed in the fleet since it was opened.

A bounded log without secrets, tokens or permissions texts. Pure: differences,
results and times come in.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dcvtui.fields import server_state
from dcvtui.fleet import Changes, Difference, Key, ServerRecord, SessionRecord
from dcvtui.operations import ItemResult

_KEPT = 5000


@dataclass(slots=True, frozen=True)
class ActivityEntry:
    """One thing that was done or that happened."""

    number: int
    time: datetime
    what: str
    """`session`, `server`, or the verb of something done here."""
    name: str
    outcome: str
    detail: str = ""
    request_id: str = ""
    about: Key = ()
    """The session or server it is about."""

    @property
    def key(self) -> Key:
        """What identifies the entry."""
        return ("activity", str(self.number))


@dataclass(slots=True)
class ActivityLog:
    """The entries of one console, the oldest first."""

    entries: Mapping[Key, ActivityEntry] = field(default_factory=dict)
    _last: int = 0
    _gone: dict[Key, None] = field(default_factory=dict)

    def note_results(self, what: str, results: Iterable[tuple[Key, ItemResult]], now: datetime) -> None:
        """Add what came of an action, one entry per item.

        Args:
            what: the verb.
            results: the key of each item's session or server, and its result.
            now: the time.
        """
        self._keep(
            self._entry(
                now,
                what,
                result.name or result.id,
                result.outcome.value,
                detail=result.reason or result.code,
                request_id=result.request_id,
                about=key,
            )
            for key, result in results
        )

    def note_difference(self, difference: Difference, now: datetime) -> None:
        """Add what became of the fleet: come, gone, another state."""
        self._keep([*self._sessions(difference.sessions, now), *self._servers(difference.servers, now)])

    def note(self, what: str, name: str, outcome: str, now: datetime) -> None:
        """Add something that has no result of its own, such as marks of vanished items."""
        self._keep([self._entry(now, what, name, outcome)])

    def _sessions(self, changes: Changes[SessionRecord], now: datetime) -> Iterator[ActivityEntry]:
        for session in changes.added:
            text = f"new, {_state(session)}"
            if session.key in self._gone:
                del self._gone[session.key]
                text = f"is back, found on {session.server_name}" if session.server_name else "is back"
            yield self._entry(now, "session", session.name or session.id, text, about=session.key)
        for old, new in changes.changed:
            if _state(old) != _state(new):
                text, reason = f"{_state(old)} → {_state(new)}", new.state_reason
                yield self._entry(now, "session", new.name or new.id, text, detail=reason, about=new.key)
        for ended in changes.removed:
            self._gone[ended.key] = None
            yield self._entry(now, "session", ended.name or ended.id, "no longer listed", about=ended.key)
        while len(self._gone) > _KEPT:
            del self._gone[next(iter(self._gone))]

    def _servers(self, changes: Changes[ServerRecord], now: datetime) -> Iterator[ActivityEntry]:
        for server in changes.added:
            yield self._entry(now, "server", server.name, f"new, {server_state(server)}", about=server.key)
        for old, new in changes.changed:
            if server_state(old) != server_state(new):
                text = f"{server_state(old)} → {server_state(new)}"
                yield self._entry(now, "server", new.name, text, about=new.key)
        for gone in changes.removed:
            yield self._entry(now, "server", gone.name, "no longer listed", about=gone.key)

    def _entry(
        self,
        now: datetime,
        what: str,
        name: str,
        outcome: str,
        *,
        detail: str = "",
        request_id: str = "",
        about: Key = (),
    ) -> ActivityEntry:
        self._last += 1
        return ActivityEntry(self._last, now, what, name, outcome, detail, request_id, about)

    def _keep(self, fresh: Iterable[ActivityEntry]) -> None:
        if added := list(fresh):
            self.entries = {entry.key: entry for entry in [*self.entries.values(), *added][-_KEPT:]}


def _state(session: SessionRecord) -> str:
    return f"{session.state} {session.substate}".strip()
