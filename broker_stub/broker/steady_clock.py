"""The time by which the broker judges deadlines and silence: that of the system, but it never leaps.

A system clock that is set, forwards or back, says nothing about how long an agent
was silent. This clock goes on by the seconds that really pass and comes nearer to
the system's only slowly, so no deadline comes early by more than half of it and none late by
more than its own length again.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_CATCH_UP = 1.0
"""Seconds made good for each that passes while the system's clock is ahead: less than what would make
agents that report at their interval look silent for three of them."""
_HOLD_BACK = 0.5
"""Seconds held back for each that passes while it is behind; time never stands still or goes back."""


class SteadyClock:
    """Aware UTC; call it for the present time.

    Args:
        wall: The system's clock, seconds since the epoch.
        monotonic: Seconds that only pass.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._seen_at = monotonic()
        self._now = wall()

    def __call__(self) -> datetime:
        """The time as of now."""
        seen_at = self._monotonic()
        passed = max(0.0, seen_at - self._seen_at)
        ahead = self._wall() - (self._now + passed)
        self._now += passed + min(max(ahead, -_HOLD_BACK * passed), _CATCH_UP * passed)
        self._seen_at = seen_at
        return _EPOCH + timedelta(seconds=self._now)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
