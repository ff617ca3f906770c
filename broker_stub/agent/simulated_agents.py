"""Agents for the servers of a simulated fleet: all in one process, each with a channel of its own.

An agent can go away and come back, once or again and again; that is the one
fault a backend cannot play.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker_stub.agent.access import BrokerAccess
from broker_stub.agent.conversation import Pace
from broker_stub.agent.identity import Address, FixedIdentity, Identity
from broker_stub.agent.service import Agent
from broker_stub.agent.simulated_fleet import Role
from broker_stub.agent.simulated_schedule import FaultKind, Schedule
from broker_stub.agent.simulated_server import SimulatedServer
from broker_stub.agent.watch import Limits


class SimulatedFacts:
    """What a simulated server's agent reads of its host.

    Args:
        server: The host.
    """

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    async def read(self) -> dict[str, Any]:
        """See `HostFacts.read`."""
        return self._server.host_facts()

    def has_outside_user(self) -> bool:
        """See `HostFacts.has_outside_user`."""
        return self._server.faults.outside_user


class SimulatedAgent:
    """The agent of one simulated server, which may be away.

    Args:
        server: Its host and backend.
        access: How to get to the broker, shared by all agents of the process.
        pace: How often it speaks.
    """

    def __init__(self, server: SimulatedServer, access: BrokerAccess, pace: Pace) -> None:
        self.server = server
        self._access = access
        self._pace = pace
        self._agent: Agent | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._runs = 0

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted it and its channel is open."""
        return self._agent is not None and self._agent.is_connected

    def leave(self) -> None:
        """Go away until `come_back`; the broker is told, as by a host that shuts down."""
        self._may_run.clear()
        if self._agent is not None:
            self._agent.stop()

    def come_back(self) -> None:
        """Connect again, with the same identity."""
        self._may_run.set()

    async def flap(self, every_s: float) -> None:
        """Go away and come back again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            self.leave()
            await asyncio.sleep(every_s)
            self.come_back()

    async def run(self, start_after_s: float = 0.0) -> None:
        """Keep a channel whenever it is not away, until cancelled."""
        while True:
            await self._may_run.wait()
            self._runs += 1
            self._agent = self._new_agent()
            await self._agent.run(start_after_s if self._runs == 1 else 0.0)

    def _new_agent(self) -> Agent:
        plan = self.server.plan
        address = Address(plan.hostname, plan.ip, f"{plan.hostname}.example.net")
        identity = Identity(plan.server_id, address, plan.fingerprint, epoch=self._runs)
        return Agent(
            FixedIdentity(identity),
            self._access,
            self.server,
            SimulatedFacts(self.server),
            tags=lambda: plan.tags,
            limits=Limits(plan.max_virtual_sessions, plan.max_sessions_per_user),
            pace=self._pace,
        )


@contextlib.asynccontextmanager
async def running_agents(agents: Sequence[SimulatedAgent], spread_s: float = 0.0) -> AsyncIterator[None]:
    """Run agents inside the block; at its end all take their leave of the broker.

    Args:
        agents: The agents.
        spread_s: Over how many seconds their starts are spread.
    """
    tasks = [
        asyncio.create_task(agent.run(spread_s * index / len(agents))) for index, agent in enumerate(agents)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_SLOW_S = 10.0
_FLAP_S = 5.0


class FaultDriver:
    """Makes the faults of a schedule happen on a fleet, and ends them.

    Args:
        agents: The agents, in the order of the servers' numbers.
        schedule: What goes wrong when.
    """

    def __init__(self, agents: Sequence[SimulatedAgent], schedule: Schedule) -> None:
        self._agents = agents
        self._schedule = schedule
        self._wrong: dict[int, frozenset[FaultKind]] = {}
        self._usual = [replace(agent.server.faults) for agent in agents]
        self._flapping: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the schedule until cancelled."""
        clock = asyncio.get_running_loop().time
        started_at = clock()
        try:
            while True:
                passed_s = clock() - started_at
                self.apply(self._schedule.wrong_at(passed_s))
                next_s = self._schedule.next_change(passed_s)
                # A hair later, so that the moment itself is over.
                await (asyncio.sleep(next_s - passed_s + 0.001) if next_s else asyncio.Event().wait())
        finally:
            for task in self._flapping.values():
                task.cancel()
            await asyncio.gather(*self._flapping.values(), return_exceptions=True)

    def apply(self, wrong: Mapping[int, frozenset[FaultKind]]) -> None:
        """From now on this is wrong, and nothing else."""
        for number in self._wrong.keys() | wrong.keys():
            before, now = self._wrong.get(number, frozenset()), wrong.get(number, frozenset())
            if before != now:
                self._change(number, before, now)
        self._wrong = dict(wrong)

    def _change(self, number: int, before: frozenset[FaultKind], now: frozenset[FaultKind]) -> None:
        agent, usual = self._agents[number], self._usual[number]
        faults = agent.server.faults
        faults.slow_s = usual.slow_s + (_SLOW_S if FaultKind.SLOW in now else 0.0)
        faults.failing_create = usual.failing_create or (
            "The session's desktop ended at once" if FaultKind.FAILING in now else ""
        )
        faults.stuck = usual.stuck or FaultKind.STUCK in now
        is_unhealthy = FaultKind.UNHEALTHY in now
        faults.unhealthy = usual.unhealthy or ("The DCV server does not answer" if is_unhealthy else "")
        agent.server.changed.set()
        if flapping := self._flapping.pop(number, None):
            flapping.cancel()
        if FaultKind.UNREACHABLE in now:
            agent.leave()
        elif FaultKind.FLAPPING in now:
            self._flapping[number] = asyncio.create_task(agent.flap(_FLAP_S))
        elif before & {FaultKind.UNREACHABLE, FaultKind.FLAPPING}:
            agent.come_back()


def leave_by_role(agents: Sequence[SimulatedAgent]) -> None:
    """Those whose part in the story it is go away now."""
    for agent in agents:
        if agent.server.plan.role is Role.UNREACHABLE:
            agent.leave()
