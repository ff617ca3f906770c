"""Which servers and sessions changed last: what a live stream tells those who watch.

The log remembers that something changed, not how: whoever was away for a while
gets each entity once, as it is now. It is as long as the fleet at most, and a
reader who is further behind than it reaches has to read everything anew.
"""

from collections.abc import Iterator
from typing import NamedTuple

MOST_ENTRIES = 100_000


class Changed(NamedTuple):
    """An entity that came, changed or left; the registry tells which."""

    is_session: bool
    key: str
    """What the registry calls it."""
    id: str = ""
    """For a session that left: its id in the API, which several on different hosts may have."""
    server_id: str | None = None
    """For a session that left: the server it was on."""


class ChangeLog:
    """Numbered changes, one for each entity: a later one takes the place of an earlier one.

    Args:
        most: How many entities are remembered.

    Attributes:
        number: Of the last change.
    """

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self.number = 0
        self._most = most
        self._forgotten = 0
        self._entries: dict[tuple[bool, str], tuple[int, Changed]] = {}

    def note(self, changed: Changed) -> None:
        """Remember that an entity changed just now."""
        self.number += 1
        key = changed[:2]
        self._entries.pop(key, None)  # so that the new entry stands at the end
        self._entries[key] = (self.number, changed)
        if len(self._entries) > self._most:
            oldest = next(iter(self._entries))
            self._forgotten = self._entries.pop(oldest)[0]

    def since(self, number: int, most: int) -> tuple[list[Changed], int] | None:
        """The oldest changes after a number, at most so many, and the number they reach.

        Returns:
            `None` where the log does not reach back so far, or never came so far.
        """
        if not self._forgotten <= number <= self.number:
            return None
        newer = list(self._newest_first(number))
        newer.reverse()
        chosen = newer[:most]
        reached = chosen[-1][0] if len(newer) > most else self.number
        return [changed for _, changed in chosen], reached

    def _newest_first(self, number: int) -> Iterator[tuple[int, Changed]]:
        for entry in reversed(self._entries.values()):
            if entry[0] <= number:
                return
            yield entry
