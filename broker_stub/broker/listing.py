"""Lists in a fixed order that pages are cut from.

A page begins after the last key of the one before, so whatever comes and goes
between two pages, what stays is met exactly once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Generic, TypeVar

Key = tuple[str, ...]
RecordT = TypeVar("RecordT")


class Listing(Generic[RecordT]):
    """Records in the order of their keys. Keys and records are two lists: a page is a slice."""

    __slots__ = ("_keys", "_records")

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._records: list[RecordT] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key, record: RecordT) -> None:
        """Put a record in its place; a key that is there already gets the new record."""
        if not self._keys or key > self._keys[-1]:  # what is new is mostly the newest
            self._keys.append(key)
            self._records.append(record)
            return
        at = bisect_left(self._keys, key)
        if self._keys[at] == key:
            self._records[at] = record
            return
        self._keys.insert(at, key)
        self._records.insert(at, record)

    def discard(self, key: Key) -> None:
        """Take a record out if it is there."""
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            del self._keys[at]
            del self._records[at]

    def page(
        self, limit: int, after: Key | None = None, accept: Callable[[RecordT], bool] | None = None
    ) -> tuple[list[RecordT], Key | None]:
        """Cut a page.

        Args:
            limit: how many records at most.
            after: the last key of the page before.
            accept: which records count; all if left out.

        Returns:
            The records, and the last key if more of them follow.
        """
        start = 0 if after is None else bisect_right(self._keys, after)
        if accept is None:
            records = self._records[start : start + limit]
            more = start + limit < len(self._keys)
            return records, self._keys[start + limit - 1] if more else None
        found: list[RecordT] = []
        last: Key | None = None
        for at in range(start, len(self._keys)):
            record = self._records[at]
            if not accept(record):
                continue
            if len(found) == limit:
                return found, last
            found.append(record)
            last = self._keys[at]
        return found, None
