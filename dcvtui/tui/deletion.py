"""Which of some sessions a deletion is for: the free ones, those in use, and those that need force.

Pure; the records are as they were when the question was asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcvtui.api.states import SessionState
from dcvtui.fleet import Key, SessionRecord
from dcvtui.tui.panel import plural

NEED_FORCE = "need force"
LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Deletion:
    """Sessions to be deleted, by what it takes.

    Attributes:
        free: nobody is connected and the broker can reach them.
        used: somebody is connected; left out until they are taken in.
        lost: several are meant and the agent of these is not reachable, so only force deletes them.
    """

    free: tuple[SessionRecord, ...]
    used: tuple[SessionRecord, ...]
    lost: tuple[SessionRecord, ...]

    @classmethod
    def of(cls, sessions: Sequence[SessionRecord]) -> "Deletion":
        """Sort them. A single one is tried as it is: the broker's own reason says more than we know."""
        free, used, lost = [], [], []
        for session in sessions:
            if session.state == SessionState.UNKNOWN and session.server_id and len(sessions) > 1:
                lost.append(session)
            elif session.connections:
                used.append(session)
            else:
                free.append(session)
        return cls(tuple(free), tuple(used), tuple(lost))

    @property
    def sentences(self) -> list[str]:
        """How many of whom."""
        every = [*self.free, *self.used, *self.lost]
        if len(every) == 1:
            return []
        parts = [plural(len({session.owner for session in every}), "owner")]
        if self.used:
            parts.append(f"{len(self.used):,} with clients (left out, c takes them in)")
        if self.lost:
            parts.append(f"{len(self.lost):,} on unreachable servers (need force, f)")
        return [", ".join(parts) + "."]

    def chosen(self, force: bool, include_connected: bool) -> list[SessionRecord]:
        """Which are sent."""
        return [*self.free, *(self.used if include_connected else ()), *(self.lost if force else ())]

    def left(self, force: bool, include_connected: bool) -> dict[str, list[str]]:
        """The names of those that are not sent, by why."""
        return {
            NEED_FORCE: [] if force else [session.name or session.id for session in self.lost],
            LEFT_OUT: [] if include_connected else [session.name or session.id for session in self.used],
        }

    def now(
        self, known: Mapping[Key, SessionRecord], chosen: Sequence[SessionRecord]
    ) -> tuple[list[SessionRecord], list[str]]:
        """What has become of those that were chosen while the question was open.

        Returns:
            All of them as they are now, and what has changed that matters, in sentences.
        """
        said: list[str] = []
        for session in chosen:
            name, new = session.name or session.id, known.get(session.key)
            if new is None:
                said.append(f"{name} is gone.")
            elif new.owner != session.owner:
                said.append(f"{name} belongs to {new.owner} now.")
            elif new.connections and not session.connections:
                said.append(f"A client has come to {name}.")
        every = [known[one.key] for one in (*self.free, *self.used, *self.lost) if one.key in known]
        return every, ["Meanwhile: " + " ".join(said)] if said else []
