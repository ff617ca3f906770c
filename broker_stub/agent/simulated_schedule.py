"""When something goes wrong on the servers of a simulated fleet: a plan of faults, and what follows from it.

Pure: told the time since the start, it says what is wrong with which server.
`simulated_agents` makes it happen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class FaultKind(StrEnum):
    """What can go wrong with a server."""

    SLOW = "slow"
    """Every command takes ten seconds longer."""
    FAILING = "failing"
    """Creations fail with a sentence."""
    STUCK = "stuck"
    """Commands are taken and never finished."""
    UNHEALTHY = "unhealthy"
    """The agent cannot talk to its DCV server."""
    UNREACHABLE = "unreachable"
    """The agent is gone."""
    FLAPPING = "flapping"
    """The agent comes and goes every few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFault:
    """One fault that comes, and perhaps comes again. Times are seconds since the start of the fleet."""

    kind: FaultKind
    first_s: float = 60.0
    """When it comes for the first time."""
    for_s: float = 60.0
    """How long it lasts."""
    every_s: float | None = None
    """From one coming to the next; nothing makes it come once."""
    share: float = 0.1
    """For how many of all servers, from 0 to 1; chosen anew each time, at least one."""

    def turn(self, time_s: float) -> int | None:
        """Which coming it is, from 0; nothing while all is well."""
        since_s = time_s - self.first_s
        if since_s < 0:
            return None
        turn, within_s = divmod(since_s, self.every_s) if self.every_s else (0.0, since_s)
        return int(turn) if within_s < self.for_s else None

    def next_change(self, time_s: float) -> float | None:
        """When it comes or goes next, later than a moment; nothing if it never does again."""
        since_s = time_s - self.first_s
        if since_s < 0:
            return self.first_s
        turn = since_s // self.every_s if self.every_s else 0.0
        begin_s = self.first_s + turn * (self.every_s or 0.0)
        changes = [begin_s + self.for_s, *([begin_s + self.every_s] if self.every_s else [])]
        return min((one for one in changes if one > time_s), default=None)


class Schedule:
    """The faults of one fleet.

    Args:
        faults: What is to go wrong.
        servers: How many servers there are.
        seed: The same seed chooses the same servers.
    """

    def __init__(self, faults: Sequence[ScheduledFault], servers: int, seed: int) -> None:
        self._faults = faults
        self._servers = servers
        self._seed = seed

    def wrong_at(self, time_s: float) -> dict[int, frozenset[FaultKind]]:
        """What is wrong at a moment, by the server's number; servers with nothing wrong are not there."""
        found: dict[int, set[FaultKind]] = {}
        for number, fault in enumerate(self._faults):
            turn = fault.turn(time_s)
            for server in () if turn is None else self._chosen(number, fault, turn):
                found.setdefault(server, set()).add(fault.kind)
        return {server: frozenset(kinds) for server, kinds in found.items()}

    def next_change(self, time_s: float) -> float | None:
        """When anything changes next, later than a moment."""
        changes = (fault.next_change(time_s) for fault in self._faults)
        return min((one for one in changes if one is not None), default=None)

    def _chosen(self, number: int, fault: ScheduledFault, turn: int) -> Iterable[int]:
        random = Random(f"{self._seed}/{number}/{turn}")  # noqa: S311  a fleet's fate, not a secret
        count = min(self._servers, max(1, round(fault.share * self._servers)))
        return random.sample(range(self._servers), count)
