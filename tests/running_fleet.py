"""A real broker with a simulated fleet in the test's process, and how a console gets to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.conversation import Pace
from broker_stub.agent.simulated_agents import SimulatedAgent, leave_by_role, running_agents
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_fleet import Role
from dcvtui.config import Connection, Credentials
from dcvtui.trust import Trust
from tests.running import RunningBroker, running_broker


@dataclass(frozen=True)
class RunningFleet:
    """A broker whose servers and sessions are all there."""

    running: RunningBroker
    fleet: SimulatedFleet
    agents: tuple[SimulatedAgent, ...]

    def connection(self, **fields: Any) -> Connection:
        """How a console reaches it."""
        credentials = Credentials(self.running.client_id, self.running.client_secret)
        trust = Trust(ca_file=self.running.ca_file)
        name = fields.pop("name", "lab")
        return Connection(name, self.running.url, credentials, trust, **fields)

    async def sessions(self) -> list[dict[str, Any]]:
        """The sessions as the broker lists them."""
        answer = await self.running.client.post("/describeSessions", json={})
        return list(answer.json()["Sessions"])

    async def servers(self) -> dict[str, dict[str, Any]]:
        """The servers as the broker lists them, by host name."""
        answer = await self.running.client.post("/describeServers", json={})
        return {server["Hostname"]: server for server in answer.json()["Servers"]}


@contextlib.asynccontextmanager
async def running_fleet(
    tmp_path: Path, *, servers: int = 12, seed: int = 7, is_still: bool = True, **settings: Any
) -> AsyncIterator[RunningFleet]:
    """Run a broker and the agents of a simulated fleet for the length of the block.

    Args:
        tmp_path: Where the broker keeps everything.
        servers: How many servers; the first twelve are the story of the demo.
        seed: Another one, another fleet.
        is_still: Nothing changes by itself.
        settings: Of the broker's properties file, with `_` for `-`.
    """
    async with running_broker(tmp_path, **settings) as running:
        where = urlsplit(running.agent_url)
        address = BrokerAddress(str(where.hostname), int(where.port or 0), running.ca_file)
        fleet = SimulatedFleet.invent(seed=seed, servers=servers, is_still=is_still)
        access = BrokerAccess(address, "fleet")
        agents = tuple(SimulatedAgent(server, access, Pace(5)) for server in fleet.servers)
        found = RunningFleet(running, fleet, agents)
        async with running_agents(agents):
            await until(lambda: all(agent.is_connected for agent in agents))
            expected = fleet.plan.session_count
            while len(await found.sessions()) < expected:  # noqa: ASYNC110  the broker is asked, it has no event
                await asyncio.sleep(0.05)
            await _play_the_story(found)
            yield found


async def _play_the_story(found: RunningFleet) -> None:
    leave_by_role(found.agents)
    servers = await found.servers()
    for server in found.fleet.servers:
        if server.plan.role is Role.CLOSED:
            item = {"ServerId": servers[server.plan.hostname]["Id"], "Force": True}
            (await found.running.client.post("/closeServers", json=[item])).raise_for_status()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  conditions of several objects have no common event
            await asyncio.sleep(0.02)
