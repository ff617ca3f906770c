"""Simulated hosts with real agents for tests of the API: servers A and B of the specification."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.backend import BackendError, Failure, SessionInfo, SessionSpec
from broker_stub.agent.conversation import Pace
from broker_stub.agent.simulated_agents import SimulatedAgent, running_agents
from broker_stub.agent.simulated_fleet import Machine, PlannedServer, Role, System, new_id
from broker_stub.agent.simulated_server import SimulatedServer
from tests.broker_process import BrokerProcess
from tests.running import RunningBroker

_RANDOM = Random(5)  # noqa: S311  fingerprints of invented machines

A = PlannedServer(
    index=0,
    server_id="srv-a",
    fingerprint=new_id(_RANDOM),
    role=Role.IDLE,
    hostname="host-a",
    ip="192.0.2.11",
    os_family="windows",
    system=System("Windows Server 2022 Datacenter", "10.0.20348", build_number="20348"),
    machine=Machine("cpu", 2, 8, "GenuineIntel", "Intel(R) Xeon(R)", instance_type="t2.large"),
    tags={"color": "pink", "size": "small", "ram_gb": "8", "site": "fra"},
    max_virtual_sessions=0,
)
B = PlannedServer(
    index=1,
    server_id="srv-b",
    fingerprint=new_id(_RANDOM),
    role=Role.IDLE,
    hostname="host-b",
    ip="192.0.2.12",
    os_family="linux",
    system=System("Amazon Linux 2", "2", kernel_version="4.14.203-156.332.amzn2.x86_64"),
    machine=Machine("gpu", 4, 32, "AuthenticAMD", "AMD EPYC 7R32", gpus=("NVIDIA A10G",)),
    tags={"color": "blue-red", "size": "big", "ram_gb": "32", "software": "o'neil cad", "site": "dub"},
    max_virtual_sessions=10,
    max_sessions_per_user=2,
)

NOT_LOCAL = "Specified user is not a local user"


class NotingServer(SimulatedServer):
    """A simulated host that remembers what it was told to create, and refuses what a test says.

    Attributes:
        orders: What it was told to create, the oldest first.
        strangers: Owners that are no users of the host.
        failing_close: Sessions are not closed, for this reason.
        failing_permissions: New permissions are refused, for this reason.
        may_create: Creations wait until it is set; it is unless a test clears it.
        may_close: The same for the end of sessions.
    """

    def __init__(self, plan: PlannedServer) -> None:
        super().__init__(plan, is_still=True)
        self.orders: list[SessionSpec] = []
        self.strangers: set[str] = set()
        self.failing_close = ""
        self.failing_permissions = ""
        self.may_create = asyncio.Event()
        self.may_create.set()
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def create(self, spec: SessionSpec) -> SessionInfo:
        self.orders.append(spec)
        await self.may_create.wait()
        if spec.owner in self.strangers:
            raise BackendError(Failure.OWNER_NOT_FOUND, f"{NOT_LOCAL}: {spec.owner}")
        return await super().create(spec)

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        if self.failing_permissions:
            raise BackendError(Failure.PERMISSIONS_INVALID, self.failing_permissions)
        await super().set_permissions(session_id, text)

    async def close(self, session_id: str, force: bool) -> None:
        if self.failing_close:
            raise BackendError(Failure.DCV_COMMAND_FAILED, self.failing_close)
        await self.may_close.wait()
        await super().close(session_id, force)


@dataclass(frozen=True)
class Host:
    """A simulated host: what runs on it, and its agent."""

    server: NotingServer
    agent: SimulatedAgent


@contextlib.asynccontextmanager
async def running_hosts(
    broker: RunningBroker | BrokerProcess, *plans: PlannedServer, servers: Sequence[NotingServer] = ()
) -> AsyncIterator[list[Host]]:
    """Run hosts with their agents inside the block; returns when the broker has them all.

    Args:
        broker: The broker they belong to.
        plans: What they are.
        servers: Hosts that were there before, in place of new ones.
    """
    port = int(broker.agent_url.rpartition(":")[2])
    access = BrokerAccess(BrokerAddress("127.0.0.1", port, broker.ca_file), "tests")
    servers = servers or [NotingServer(plan) for plan in plans]
    agents = [SimulatedAgent(server, access, Pace(update_interval_s=1)) for server in servers]
    async with running_agents(agents):
        await broker.until(lambda: all(agent.is_connected for agent in agents))
        yield [Host(server, agent) for server, agent in zip(servers, agents, strict=True)]


def several(plan: PlannedServer, count: int) -> list[PlannedServer]:
    """More hosts of one kind, `srv-b-0` and so on."""
    return [
        replace(
            plan,
            index=10 + number,
            server_id=f"{plan.server_id}-{number}",
            fingerprint=new_id(_RANDOM),
            hostname=f"{plan.hostname}-{number}",
        )
        for number in range(count)
    ]
