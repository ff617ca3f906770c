"""Limits requests per caller address with token buckets. Pure: the clock comes in."""

import math
from collections.abc import Callable

_MOST_ADDRESSES = 10_000


class Throttle:
    """One bucket per caller: `rate` requests per second, as many at once.

    Args:
        rate: Requests per second.
        now: A monotonic clock, in seconds.

    Attributes:
        rate: Requests per second; may be changed.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self.rate = rate
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, caller: str) -> int:
        """Count a request.

        Returns:
            0 if it is within the limit, otherwise the seconds after which to try again.
        """
        now = self._now()
        left, seen = self._buckets.get(caller, (self.rate, now))
        left = min(self.rate, left + (now - seen) * self.rate)
        if left < 1:
            self._buckets[caller] = (left, now)
            return max(1, math.ceil((1 - left) / self.rate))
        if caller not in self._buckets and len(self._buckets) >= _MOST_ADDRESSES:
            self._forget_quiet(now)
        self._buckets[caller] = (left - 1, now)
        return 0

    def _forget_quiet(self, now: float) -> None:
        """Drop the callers whose bucket is full again; a full bucket says nothing."""
        full = [
            caller
            for caller, (left, seen) in self._buckets.items()
            if left + (now - seen) * self.rate >= self.rate
        ]
        # A flood of callers must not cost a look at all of them each time.
        for caller in full or list(self._buckets)[: _MOST_ADDRESSES // 10]:
            del self._buckets[caller]
