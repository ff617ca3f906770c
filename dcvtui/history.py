"""What this console has seen of load and sessions in the last hour, for each server and for each fleet.

The API tells only the present; what was before is kept here, one value a minute
and only where it changed. Pure; the time comes in. At most ten bytes a minute and
an hour for each server: seven MiB for ten thousand that never stand still.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from typing import Final

from dcvtui.fleet import Changes, Key, ServerRecord

MINUTES: Final = 60
"""So far back goes what is kept."""

_MINUTE_S: Final = 60
# Minute, load as a half float, sessions: three digits of a load are enough for a picture.
_VALUE: Final = Struct("<IeI")
_MOST_LOAD: Final = 60_000.0
_MOST_SESSIONS: Final = 0xFFFFFFFF


@dataclass(slots=True, frozen=True)
class Course:
    """One value for each minute, the present one last; None where nothing was known."""

    loads: tuple[float | None, ...] = ()
    sessions: tuple[int | None, ...] = ()


class History:
    """The last hour as this console has seen it."""

    def __init__(self) -> None:
        self._values: dict[Key, bytearray] = {}
        self._blind: dict[str, set[int]] = {}

    def note_servers(self, changes: Changes[ServerRecord], now: datetime) -> None:
        """Keep what has become of servers."""
        for server in changes.present():
            self.note(server.key, server.load_1, server.sessions, now)
        for gone in changes.removed:
            self._values.pop(gone.key, None)

    def note(self, key: Key, load: float | None, sessions: int, now: datetime) -> None:
        """Keep one value; the newest of a minute stands for it.

        Args:
            key: of a server, or anything else that has a course.
            load: the load of its processors; None if nothing is known of it.
            sessions: how many sessions there are.
            now: the time.
        """
        kept = self._values.setdefault(key, bytearray())
        minute = _minute(now)
        if kept and _VALUE.unpack_from(kept, len(kept) - _VALUE.size)[0] >= minute:
            del kept[-_VALUE.size :]
        shown = math.nan if load is None else min(max(load, 0.0), _MOST_LOAD)
        kept += _VALUE.pack(minute, shown, min(max(sessions, 0), _MOST_SESSIONS))
        # What was before the hour counts on until the first value in it.
        while len(kept) > _VALUE.size and _VALUE.unpack_from(kept, _VALUE.size)[0] <= minute - MINUTES + 1:
            del kept[: _VALUE.size]

    def note_blind(self, profile: str, since: datetime, until: datetime) -> None:
        """Nothing was heard of a broker in this time, so nothing is known of its minutes."""
        last = _minute(until)
        blind = self._blind.setdefault(profile, set())
        blind.difference_update([minute for minute in blind if minute <= last - MINUTES])
        blind.update(range(max(_minute(since) + 1, last - MINUTES + 1), last + 1))

    def forget(self, profile: str) -> None:
        """A broker is not looked at any more."""
        self._blind.pop(profile, None)
        for key in [key for key in self._values if key[0] == profile]:
            del self._values[key]

    def course(self, key: Key, now: datetime) -> Course:
        """What was seen of something, minute by minute; empty if nothing was."""
        kept = self._values.get(key)
        if not kept:
            return Course()
        last = _minute(now)
        blind: Collection[int] = self._blind.get(key[0], ())
        values = list(_VALUE.iter_unpack(kept))
        loads: list[float | None] = []
        sessions: list[int | None] = []
        place = 0
        for minute in range(max(values[0][0], last - MINUTES + 1), last + 1):
            while place + 1 < len(values) and values[place + 1][0] <= minute:
                place += 1
            _, load, count = values[place]
            is_seen = minute not in blind
            loads.append(load if is_seen and not math.isnan(load) else None)
            sessions.append(count if is_seen else None)
        return Course(tuple(loads), tuple(sessions))

    @property
    def size(self) -> int:
        """Bytes of all values kept."""
        return sum(map(len, self._values.values()))


def range_text(values: Iterable[float | None], digits: int = 0) -> str:
    """The least and the most of some values: `0.20 to 4.20`, one number if both are the same."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    least, most = f"{min(known):,.{digits}f}", f"{max(known):,.{digits}f}"
    return least if least == most else f"{least} to {most}"


def _minute(moment: datetime) -> int:
    return max(0, int(moment.timestamp() // _MINUTE_S))
