"""Agents of simulated servers against a real broker: they come, go, come back, and flap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.conversation import Pace
from broker_stub.agent.simulated_agents import SimulatedAgent, leave_by_role, running_agents
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_fleet import Role
from tests.running import RunningBroker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


@asynccontextmanager
async def connected(broker: RunningBroker, fleet: SimulatedFleet) -> AsyncIterator[list[SimulatedAgent]]:
    url = urlsplit(broker.agent_url)
    access = BrokerAccess(BrokerAddress(url.hostname or "", url.port or 0, broker.ca_file), "test")
    agents = [SimulatedAgent(server, access, Pace(update_interval_s=30)) for server in fleet.servers]
    async with running_agents(agents):
        await broker.until(lambda: all(agent.is_connected for agent in agents))
        yield agents


async def servers(broker: RunningBroker) -> dict[str, dict[str, Any]]:
    answer = (await broker.client.post("/describeServers", json={})).raise_for_status().json()
    return {server["Hostname"]: server for server in answer["Servers"]}


async def until_reason(broker: RunningBroker, hostname: str, reason: str | None) -> None:
    async with asyncio.timeout(10):
        while (await servers(broker))[hostname].get("UnavailabilityReason") != reason:  # noqa: ASYNC110  an API can only be asked
            await asyncio.sleep(0.02)


async def test_the_broker_shows_each_server_as_it_was_planned(broker: RunningBroker) -> None:
    fleet = SimulatedFleet.invent(is_still=True)
    async with connected(broker, fleet):
        found = await servers(broker)
    for server in fleet.servers:
        shown = found[server.plan.hostname]
        assert shown["Id"] == server.plan.server_id
        assert shown["Ip"] == server.plan.ip
        assert shown["Host"]["Os"]["Family"] == server.plan.os_family
        assert shown["ConsoleSessionCount"] + shown["VirtualSessionCount"] == len(server.sessions)
        tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
        assert server.plan.tags.items() <= tags.items()
        assert tags["dcv:max-virtual-sessions"] == str(server.plan.max_virtual_sessions)


async def test_a_server_leaves_and_comes_back_as_the_same(broker: RunningBroker) -> None:
    fleet = SimulatedFleet.invent(servers=1, sessions=0, is_still=True)
    hostname = fleet.servers[0].plan.hostname
    async with connected(broker, fleet) as (agent,):
        agent.leave()
        await until_reason(broker, hostname, "UNREACHABLE_AGENT")
        agent.come_back()
        await until_reason(broker, hostname, None)
        assert len(await servers(broker)) == 1


async def test_a_flapping_server_goes_and_comes_again_and_again(broker: RunningBroker) -> None:
    fleet = SimulatedFleet.invent(servers=1, sessions=0, is_still=True)
    hostname = fleet.servers[0].plan.hostname
    async with connected(broker, fleet) as (agent,):
        flapping = asyncio.create_task(agent.flap(every_s=0.2))
        for _ in range(2):
            await until_reason(broker, hostname, "UNREACHABLE_AGENT")
            await until_reason(broker, hostname, None)
        flapping.cancel()


async def test_only_the_unreachable_ones_leave_by_role(broker: RunningBroker) -> None:
    fleet = SimulatedFleet.invent(is_still=True)
    async with connected(broker, fleet) as agents:
        leave_by_role(agents)
        gone = [one for one in fleet.servers if one.plan.role is Role.UNREACHABLE]
        for server in gone:
            await until_reason(broker, server.plan.hostname, "UNREACHABLE_AGENT")
        assert sum(agent.is_connected for agent in agents) == len(agents) - len(gone)
