"""Sessions without processes: any number of servers in one program, with faults on request.

The `SimulatedFleet` invents the servers from a seed, each a backend for one agent,
and lets time pass: people connect and leave, sessions end and start on their
hosts. A still fleet changes only by what operators do.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random

from broker_stub.agent.simulated_fleet import FleetPlan, PlannedSession, Role, new_id, plan_fleet
from broker_stub.agent.simulated_server import Clock, SimulatedServer, utc_now
from dcvtui.api.states import SessionType


@dataclass(slots=True)
class SimulatedFleet:
    """Many invented servers, and the passing of time on them.

    Attributes:
        plan: The fleet as it was invented.
        servers: Its hosts, each a backend.
    """

    plan: FleetPlan
    servers: tuple[SimulatedServer, ...]
    is_still: bool = False
    _random: Random = field(default_factory=Random)
    _own_ids: set[str] = field(default_factory=set)

    @classmethod
    def invent(
        cls,
        *,
        seed: int = 7,
        servers: int = 12,
        sessions: int | None = None,
        is_still: bool = False,
        clock: Clock = utc_now,
    ) -> "SimulatedFleet":
        """Invent a fleet of this size from a seed, see `plan_fleet`."""
        plan = plan_fleet(seed, servers, sessions)
        return cls(
            plan=plan,
            servers=tuple(SimulatedServer(server, clock, is_still=is_still) for server in plan.servers),
            is_still=is_still,
            _random=Random(seed + 1),  # noqa: S311  the fleet's fate, not a secret
            _own_ids={session.id for server in plan.servers for session in server.sessions},
        )

    async def live(self, mean_pause_s: float = 4.0) -> None:
        """Let things happen until cancelled; at once nothing if the fleet is still."""
        while not self.is_still:
            await asyncio.sleep(self._random.expovariate(1 / mean_pause_s))
            self.step()
        await asyncio.Event().wait()

    def step(self) -> None:
        """Let one thing happen somewhere: a client comes or goes, a session ends or starts.

        Sessions that an operator made are left alone, and so is everything with a part in the
        story: idle servers stay idle, the full one full, the closed one keeps its session.
        """
        roll = self._random.random()
        if roll < 0.12:
            self._end_somewhere()
        elif roll < 0.25:
            self._start_somewhere()
        else:
            self._move_client(comes=roll < 0.63)

    def _busy(self) -> list[SimulatedServer]:
        return [
            server
            for server in self.servers
            if server.plan.role is Role.BUSY and server.plan.os_family == "linux"
        ]

    def _move_client(self, *, comes: bool) -> None:
        server = self._random.choice(self.servers) if self.servers else None
        if server is None or server.plan.role is Role.UNREACHABLE:
            return
        ids = [session.id for session in server.sessions if session.id in self._own_ids]
        if not ids:
            return
        session_id = self._random.choice(ids)
        if comes and server.has_room_for_client(session_id):
            server.connect_client(session_id)
        else:
            server.disconnect_client(session_id)

    def _end_somewhere(self) -> None:
        # A fleet that shrinks for ever is not alive: sessions end only while there are enough of them.
        enough = self.plan.session_count * 0.8
        if sum(len(server.sessions) for server in self.servers) <= enough:
            return self._start_somewhere()
        found = [
            (server, session.id)
            for server in self._busy()
            for session in server.sessions
            if session.id in self._own_ids and not session.num_of_connections
        ]
        if found:
            server, session_id = self._random.choice(found)
            server.end_on_host(session_id)
            self._own_ids.discard(session_id)
        return None

    def _start_somewhere(self) -> None:
        roomy = [server for server in self._busy() if len(server.sessions) < server.plan.max_virtual_sessions]
        if not roomy:
            return
        server = self._random.choice(roomy)
        owner = self._random.choice(self.plan.owners)
        team = server.plan.tags["team"]
        taken = {session.name for one in self.servers for session in one.sessions}
        serial = next(n for n in range(1, len(taken) + 2) if f"{team}-{owner}-{n}" not in taken)
        session_id = new_id(self._random)
        self._own_ids.add(session_id)
        server.start_on_host(
            PlannedSession(
                id=session_id,
                name=f"{team}-{owner}-{serial}",
                owner=owner,
                type=SessionType.VIRTUAL,
                age_s=0,
                connections=1,
                idle_s=None,
            )
        )
