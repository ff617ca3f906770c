"""The clock of deadlines goes on whatever is done to the clock of the system."""

import asyncio
import time
from pathlib import Path

import pytest

from broker_stub.agent.conversation import Pace
from broker_stub.broker.steady_clock import SteadyClock
from tests.agent.small_host import SmallHost, access_to, until_async
from tests.broker.raw_agent import create, raw_agent, servers, sessions
from tests.running import running_broker

HOUR = 3600.0


class Times:
    """A system whose clock may be set, and the seconds that pass on it."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.offset = 1_700_000_000.0
        self.clock = SteadyClock(lambda: self.passed + self.offset, lambda: self.passed)

    def after(self, seconds: float) -> float:
        """Seconds that the clock has gone on after so many have passed."""
        before = self.clock()
        self.passed += seconds
        return (self.clock() - before).total_seconds()


def test_a_clock_that_nobody_sets_is_the_systems() -> None:
    times = Times()
    assert times.after(HOUR) == HOUR
    assert times.clock().timestamp() == times.passed + times.offset


@pytest.mark.parametrize("leap", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR])
def test_a_leap_is_made_good_slowly(leap: float) -> None:
    times = Times()
    before = times.clock()
    times.offset += leap
    for passed in range(1, 60):
        times.passed += 1.0
        assert 0.5 * passed <= (times.clock() - before).total_seconds() <= 2.0 * passed
    for _ in range(4 * 24 * 60):
        times.after(60.0)
    assert times.clock().timestamp() == pytest.approx(times.passed + times.offset)


def test_it_never_goes_back() -> None:
    times = Times()
    times.offset -= HOUR
    steps = [times.after(0.001) for _ in range(1000)]
    assert min(steps) > 0


@pytest.mark.parametrize("leap", [24 * HOUR, -24 * HOUR])
async def test_a_system_clock_that_is_set_changes_nothing_in_the_fleet(tmp_path: Path, leap: float) -> None:
    """A day forward is longer than an agent may be silent, a day back longer than any deadline:
    the server stays available, its session READY, and a creation without an answer ends in its time."""
    offset = 0.0
    steady = SteadyClock(lambda: time.time() + offset)
    rules = {"create_deadline_s": 1.0}
    async with running_broker(tmp_path, rules=rules, steady=steady) as broker:
        host = SmallHost(access_to(broker.agent_url, broker.ca_file), pace=Pace(update_interval_s=600))
        async with host.running(), raw_agent(broker) as silent:
            (session_id,) = await create(broker)

            async def is_ready() -> bool:
                return bool((await sessions(broker))[session_id]["State"] == "READY")

            await until_async(is_ready)
            await silent.greet("silent")
            (unanswered,) = await create(
                broker, Requirements="server:Hostname = 'host'", DisableRetryOnFailure=True
            )
            await silent.take_command()
            offset = leap

            async def has_ended() -> bool:
                return bool((await sessions(broker))[unanswered]["State"] == "UNKNOWN")

            before = time.monotonic()
            await until_async(has_ended, 40)
            assert time.monotonic() - before < 30
            await asyncio.sleep(0.3)  # some looks of the broker's at the time
            shown = await servers(broker)
            assert shown["server-1"]["Availability"] == "AVAILABLE"
            assert await is_ready()
