"""The agent's program with `backend.type = 'simulated'`: thousands of invented servers in one process.

For load tests: a few such processes, each with a seed of its own, make a fleet of
tens of thousands. Nothing of it survives the process.
"""

import asyncio
import logging
import resource
import signal

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.conversation import Pace
from broker_stub.agent.settings import Loaded, SimulatedSection
from broker_stub.agent.simulated_agents import FaultDriver, SimulatedAgent, running_agents
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_schedule import FaultKind, Schedule, ScheduledFault

logger = logging.getLogger(__name__)

_STARTS_PER_S = 60.0
"""A TLS handshake costs the broker some milliseconds; more at once than it can do would time out together."""
_LIFE_S = 48.0
"""Seconds between two things that happen by themselves on one server."""


async def run_fleet(loaded: Loaded) -> None:
    """Run the fleet that the settings describe until SIGTERM or SIGINT."""
    agent, told = loaded.settings.agent, loaded.settings.backend.simulated
    _allow_many_files()
    access = BrokerAccess(
        BrokerAddress(agent.broker_host, agent.broker_port, agent.ca_file, agent.tls_strict),
        f"simulated fleet {told.seed}",
        statement=loaded.statement,
    )
    fleet = _invented(told)
    pace = Pace(update_interval_s=agent.broker_update_interval)
    agents = [SimulatedAgent(server, access, pace) for server in fleet.servers]
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    logger.info("%d simulated servers for the broker at %s start.", len(agents), agent.broker_host)
    async with running_agents(agents, spread_s=len(agents) / _STARTS_PER_S):
        driver = FaultDriver(agents, Schedule(_faults(told), len(agents), told.seed))
        goes_on = [
            asyncio.create_task(driver.run()),
            asyncio.create_task(fleet.live(mean_pause_s=_LIFE_S / len(agents))),
        ]
        await ended.wait()
        for task in goes_on:
            task.cancel()
        await asyncio.gather(*goes_on, return_exceptions=True)


def _invented(told: SimulatedSection) -> SimulatedFleet:
    fleet = SimulatedFleet.invent(
        seed=told.seed, servers=told.servers, sessions=told.sessions, is_still=told.still
    )
    for server in fleet.servers:
        server.faults.slow_s += told.latency_s
        server.faults.failing_share = told.failing_share
    return fleet


def _faults(told: SimulatedSection) -> list[ScheduledFault]:
    return [
        ScheduledFault(
            kind=FaultKind(one.kind),
            first_s=one.first_s,
            for_s=one.for_s,
            every_s=one.every_s,
            share=one.share,
        )
        for one in told.faults
    ]


def _allow_many_files() -> None:
    """Each server's channel is an open file, and the usual limit is 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
