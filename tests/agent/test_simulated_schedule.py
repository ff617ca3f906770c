"""Faults of a simulated fleet by schedule: when they come, on which servers, what a broker sees of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.agent.backend import BackendError
from broker_stub.agent.conversation import Pace
from broker_stub.agent.settings import SettingsError, load_settings
from broker_stub.agent.simulated_agents import FaultDriver, SimulatedAgent, running_agents
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_schedule import FaultKind, Schedule, ScheduledFault
from tests.agent.agent_program import config, running
from tests.agent.small_host import access_to, until, until_async
from tests.agent.test_simulated_backend import spec
from tests.broker.raw_agent import servers, sessions
from tests.running import RunningBroker, running_broker

ONCE = ScheduledFault(kind=FaultKind.SLOW, first_s=10, for_s=5)
AGAIN = ScheduledFault(kind=FaultKind.FAILING, first_s=10, for_s=5, every_s=20, share=0.5)


@pytest.mark.parametrize(
    ("fault", "time_s", "turn", "next_s"),
    [
        (ONCE, 0, None, 10),
        (ONCE, 10, 0, 15),
        (ONCE, 14.9, 0, 15),
        (ONCE, 15, None, None),
        (AGAIN, 12, 0, 15),
        (AGAIN, 15, None, 30),
        (AGAIN, 30, 1, 35),
        (AGAIN, 50 + 20 * 7 + 1, 9, 195),
    ],
)
def test_a_fault_comes_and_goes_at_its_times(
    fault: ScheduledFault, time_s: float, turn: int | None, next_s: float | None
) -> None:
    assert fault.turn(time_s) == turn
    assert fault.next_change(time_s) == next_s


@given(
    first_s=st.integers(0, 50),
    for_s=st.integers(1, 50),
    every_s=st.none() | st.integers(1, 60),
    time_s=st.integers(0, 300),
)
def test_nothing_changes_before_the_next_change(
    first_s: int, for_s: int, every_s: int | None, time_s: int
) -> None:
    fault = ScheduledFault(kind=FaultKind.STUCK, first_s=first_s, for_s=for_s, every_s=every_s, share=0.3)
    schedule = Schedule([fault], 10, 1)
    next_s = schedule.next_change(time_s)
    assert next_s is None or next_s > time_s
    last = min(next_s or 400, 400)
    assert all(schedule.wrong_at(time_s) == schedule.wrong_at(at) for at in range(time_s, int(last)))


def test_servers_are_chosen_from_the_seed_and_anew_each_time() -> None:
    schedule, same = Schedule([AGAIN], 100, 3), Schedule([AGAIN], 100, 3)
    first, second = schedule.wrong_at(10), schedule.wrong_at(30)
    assert len(first) == len(second) == 50
    assert first != second
    assert same.wrong_at(10) == first
    assert Schedule([AGAIN], 100, 4).wrong_at(10) != first
    assert set(first.values()) == {frozenset({FaultKind.FAILING})}
    assert len(Schedule([ONCE], 3, 1).wrong_at(10)) == 1, "a small share of a small fleet is one server"


# ------------------------------------------------------------------ what a broker sees


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path / "b", rules={"agent_loss_grace_s": 0.2}) as running:
        yield running


class Fleet:
    """Four idle servers with their agents on a broker, and a driver of their faults."""

    def __init__(self, broker: RunningBroker) -> None:
        self.fleet = SimulatedFleet.invent(servers=1, sessions=0, is_still=True)
        self.fleet.servers = SimulatedFleet.invent(servers=4, sessions=0, is_still=True).servers
        access = access_to(broker.agent_url, broker.ca_file)
        self.agents = [SimulatedAgent(one, access, Pace(update_interval_s=1)) for one in self.fleet.servers]
        self.driver = FaultDriver(self.agents, Schedule([], 4, 1))
        self._broker = broker

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        async with running_agents(self.agents):
            await until(lambda: all(agent.is_connected for agent in self.agents))
            yield self

    async def until_reason(self, number: int, reason: str | None) -> None:
        server_id = self.fleet.servers[number].plan.server_id

        async def is_so() -> bool:
            shown = (await servers(self._broker))[server_id]
            return bool(shown.get("UnavailabilityReason") == reason)

        await until_async(is_so, 30)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(FaultKind.UNHEALTHY, "UNHEALTHY_DCV_SERVER"), (FaultKind.UNREACHABLE, "UNREACHABLE_AGENT")],
)
async def test_a_fault_shows_on_its_server_and_ends(
    broker: RunningBroker, kind: FaultKind, reason: str
) -> None:
    async with Fleet(broker).running() as fleet:
        fleet.driver.apply({1: frozenset({kind})})
        await fleet.until_reason(1, reason)
        await fleet.until_reason(0, None)
        fleet.driver.apply({})
        await fleet.until_reason(1, None)


async def test_a_flapping_server_comes_and_goes_until_its_fault_ends(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_stub.agent.simulated_agents._FLAP_S", 0.5)
    async with Fleet(broker).running() as fleet:
        fleet.driver.apply({2: frozenset({FaultKind.FLAPPING})})
        for _ in range(2):
            await fleet.until_reason(2, "UNREACHABLE_AGENT")
            await fleet.until_reason(2, None)
        fleet.driver.apply({})
        await fleet.until_reason(2, None)


async def test_commands_fail_hang_or_take_longer_while_they_should() -> None:
    (server,) = SimulatedFleet.invent(servers=1, sessions=0, is_still=True).servers
    agent = SimulatedAgent(server, access_to("https://127.0.0.1:1", None), Pace())
    driver = FaultDriver([agent], Schedule([], 1, 1))
    driver.apply({0: frozenset({FaultKind.FAILING})})
    with pytest.raises(BackendError, match="ended at once"):
        await server.create(spec())
    driver.apply({0: frozenset({FaultKind.STUCK, FaultKind.SLOW})})
    assert server.faults.slow_s > 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.create(spec()), 0.5)
    driver.apply({})
    assert (await server.create(spec())).id == "s-1"
    assert server.faults.slow_s == 0


async def test_a_schedule_is_followed_to_its_end() -> None:
    (server,) = SimulatedFleet.invent(servers=1, sessions=0, is_still=True).servers
    agent = SimulatedAgent(server, access_to("https://127.0.0.1:1", None), Pace())
    fault = ScheduledFault(kind=FaultKind.UNHEALTHY, first_s=0.05, for_s=0.1, share=1.0)
    driving = asyncio.create_task(FaultDriver([agent], Schedule([fault], 1, 1)).run())
    await until(lambda: server.faults.unhealthy)
    await until(lambda: not server.faults.unhealthy)
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def test_so_many_of_all_creations_fail_by_chance() -> None:
    (server,) = SimulatedFleet.invent(servers=1, sessions=0, is_still=True).servers
    server._take_time = _no_time  # type: ignore[method-assign, assignment]  # only the dice matter here
    server.faults.failing_share = 0.25
    failed = 0
    for number in range(400):
        try:
            await server.create(spec(f"s-{number}"))
        except BackendError:
            failed += 1
    assert 70 < failed < 130


async def _no_time(_least_s: float, _most_s: float) -> None:
    pass


# ------------------------------------------------------------------ as a program

FLEET = """type = 'simulated'
[backend.simulated]
servers = 30
sessions = 40
seed = 5
still = true
[[backend.simulated.faults]]
kind = 'unhealthy'
first_s = 0
for_s = 3600
share = 0.1
"""


async def test_the_agents_program_runs_a_whole_fleet(broker: RunningBroker, tmp_path: Path) -> None:
    parts = urlsplit(broker.agent_url)
    told: dict[str, Any] = {"broker_host": parts.hostname, "broker_port": parts.port}
    conf = config(tmp_path, backend=FLEET, ca_file=str(broker.ca_file), **told)
    async with running(conf) as process:

        async def is_there() -> bool:
            shown = list((await servers(broker)).values())
            unhealthy = [one for one in shown if one.get("UnavailabilityReason") == "UNHEALTHY_DCV_SERVER"]
            return len(shown) == 30 and len(unhealthy) == 3

        await until_async(is_there, 60)
        assert len(await sessions(broker)) >= 30
        assert process.returncode is None
    assert process.returncode == 0
    assert not (tmp_path / "state").exists(), "nothing of it is kept"


def test_mistakes_in_a_fleet_are_named_with_their_lines(tmp_path: Path) -> None:
    wrong = FLEET.replace("30", "0").replace("'unhealthy'", "'tired'").replace("seed", "sead")
    with pytest.raises(SettingsError) as refused:
        load_settings(config(tmp_path, backend=wrong, broker_host="b"))
    said = "\n".join(refused.value.problems)
    assert "backend.simulated.servers (line" in said
    assert "backend.simulated.faults.0.kind (line" in said
    fine = config(tmp_path, backend=FLEET.replace("seed", "sead").replace("share", "shear"), broker_host="b")
    warnings = "\n".join(load_settings(fine).warnings)
    assert "backend.simulated.sead is unknown; did you mean seed?" in warnings
    assert "backend.simulated.faults.shear is unknown; did you mean share?" in warnings
