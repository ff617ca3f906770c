"""Whatever breaks between broker and agent, no command is carried out twice and none is forgotten.

First every step of an ordinary day is taken as the one where something breaks, each
in a world of its own; then days with faults everywhere, from a seed.
"""

import random
from typing import Any

import pytest

from broker_stub.broker.events import Accepted, PermissionsUpdateRequested
from tests.agent.faulty_world import Fault, Plan, World

RULES: dict[str, Any] = {"agent_loss_grace_s": 15.0, "deleted_session_kept_s": 1e9, "queue_max_time_s": 1e9}
BREAKS = tuple(fault for fault in Fault if fault is not Fault.FILL_DISK)


def nothing_breaks(_step: int, _name: str) -> Fault | None:
    return None


def breaks_at(number: int, fault: Fault) -> Plan:
    """One fault at one step."""
    return lambda step, _name: fault if step == number else None


async def an_ordinary_day(plan: Plan) -> tuple[World, list[str]]:
    """Three sessions are made, one gets other permissions and one is closed again."""
    world = World(plan, **RULES)
    accepted: list[str] = []
    await world.turn()
    while len(accepted) < 3:
        answer = world.scene.request(Owner="ana")  # refused while no host is there; clients try again
        if isinstance(answer, Accepted) and answer.session is not None:
            accepted.append(str(answer.session["Id"]))
            world.deliver()
        await world.turn()
    await world.settle()
    world.scene.handle(PermissionsUpdateRequested(accepted[0], "ana", "Cg=="))
    world.scene.delete(accepted[1], "ana")
    await world.settle()
    return world, accepted


async def test_a_day_without_faults_is_what_everybody_expects() -> None:
    world, accepted = await an_ordinary_day(nothing_breaks)
    world.check(accepted)
    states = [world.scene.state(session_id) for session_id in accepted]
    assert states == ["READY", "DELETED", "READY"]
    assert sum(sum(host.backend.done.values()) for host in world.hosts) == 5
    await world.end()


@pytest.mark.covers("G29", "G30", "G31", "G32")
@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.name.lower())
async def test_at_whatever_step_something_breaks_all_ends_well(fault: Fault) -> None:
    """The channel is cut at every message, the agent is killed at every line of its journal and in the
    middle of its work, the broker is killed anywhere: each command is carried out once at most, and in the
    end the API shows what is on the hosts."""
    world, _ = await an_ordinary_day(nothing_breaks)
    names = set(world.names)
    await world.end()
    assert {"a command", "an acknowledgement", "a result", "the confirmation of a result"} <= names
    assert {"before a line of the journal", "after a line of the journal", "after a creation"} <= names
    for number in range(1, world.steps + 1):
        world, accepted = await an_ordinary_day(breaks_at(number, fault))
        assert world.faults[fault] == 1
        world.check(accepted)
        assert world.clock < 45, "it went on only when somebody's patience had ended"
        assert world.scene.state(accepted[0]) == "READY"
        await world.end()


class Dice:
    """Faults by chance: a fault at some of all steps, and now and then a disk that fills and is emptied.

    Args:
        seed: The same seed breaks the same steps.
        share: How many of all steps.
    """

    def __init__(self, seed: int, share: float = 0.05) -> None:
        self.chance = random.Random(seed)  # noqa: S311  faults that can be repeated, not a secret
        self._share = share
        self.is_on = True

    def __call__(self, _step: int, _name: str) -> Fault | None:
        if not self.is_on or self.chance.random() >= self._share:
            return None
        return self.chance.choice((*BREAKS, *BREAKS, Fault.FILL_DISK))


async def a_bad_day(seed: int) -> World:
    """Some sessions come and go while everything breaks; in the end all is looked at."""
    dice = Dice(seed)
    world = World(dice, **RULES)
    accepted: list[str] = []
    for _ in range(60):
        await world.turn(dice.chance.choice((0.0, 0.0, 0.0, 0.5, 3.0, 45.0)))
        for host in world.hosts:
            host.disk.is_full = host.disk.is_full and dice.chance.random() < 0.8
            host.is_split = host.is_split and dice.chance.random() < 0.8
        _ask_for_something(world, accepted, dice.chance)
    dice.is_on = False
    await world.settle()
    world.check(accepted)
    await world.end()
    return world


def _ask_for_something(world: World, accepted: list[str], chance: random.Random) -> None:
    roll = chance.random()
    if roll < 0.3 or not accepted:
        answer = world.scene.request(Owner="ana", DisableRetryOnFailure=chance.random() < 0.2)
        if isinstance(answer, Accepted) and answer.session is not None:
            accepted.append(str(answer.session["Id"]))
    elif roll < 0.5:
        world.scene.delete(chance.choice(accepted), "ana")
    elif roll < 0.7:
        world.scene.handle(PermissionsUpdateRequested(chance.choice(accepted), "ana", "Cg=="))
    world.deliver()


@pytest.mark.covers("G29", "G30", "G31", "G32")
@pytest.mark.parametrize("part", range(4))
async def test_no_command_runs_twice_and_none_is_lost(part: int, request: pytest.FixtureRequest) -> None:
    """Thousands of faults at random (`--faults 10000`): channels cut at any message, agents killed at any
    line of their journals, brokers killed, disks full. No command is carried out twice, and when all is
    whole again every accepted session is shown as it is on the hosts."""
    wanted = request.config.getoption("--faults") / 4
    found = days = 0
    while found < wanted:
        world = await a_bad_day(part * 1_000_000 + days)
        found += sum(world.faults.values())
        days += 1


@pytest.mark.covers("G33")
@pytest.mark.parametrize("seed", range(10))
async def test_a_split_during_creations_leaves_no_session_twice(seed: int) -> None:
    """One host is cut off for longer than a creation may take while twenty sessions are being made. They
    are made elsewhere; when the network heals, what the cut-off host made is taken away again, but for a
    session that somebody is connected to."""
    dice = Dice(seed, 0.0)
    world = World(dice, **RULES)
    cut_off, other = world.hosts
    await world.turn()
    await world.turn()
    accepted = [world.scene.create(Owner="ana") for _ in range(20)]
    world.deliver()
    for _ in range(dice.chance.randrange(1, 6)):
        await world.turn()
    world.happen(Fault.SPLIT, cut_off)
    for _ in range(100):
        await world.turn(1.0)
    assert {world.scene.state(one) for one in accepted} <= {"READY", "UNKNOWN@s1"}
    twice = cut_off.backend.sessions.keys() & other.backend.sessions.keys()
    in_use = min(twice, default=None)
    if in_use:
        cut_off.backend.appear(in_use, owner="ana", connections=1)
    cut_off.is_split = False
    for _ in range(20):
        await world.turn(1.0)
    assert {world.scene.state(one) for one in accepted} == {"READY"}
    left = cut_off.backend.sessions.keys() & other.backend.sessions.keys()
    assert left == ({in_use} if in_use else set())
    await world.end()
