"""Requirements over the wire: what an expression does to the placement of a session."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.test_requirements import DECIDED, REFUSED
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts
from tests.running import running_broker

# One fleet for all expressions: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_SERVER = "no dcv server found for placement"
INVALID = "Invalid requirements: "
WITH_METRICS = ("R14", "R15")
"""These ask for numbers of bytes that simulated hosts do not have exactly."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux), without limits for an owner."""
    folder = tmp_path_factory.mktemp("requirements")
    plain_b = replace(B, max_sessions_per_user=10)
    async with running_broker(folder) as broker, running_hosts(broker, A, plain_b) as hosts:
        yield Fleet(broker, *hosts)


async def fits(fleet: Fleet, expression: str, session_type: str) -> str | None:
    """The server that a session with these requirements goes to at once, or why it does not."""
    item = {"Name": "n", "Owner": "alice", "Type": session_type, "Requirements": expression}
    answer = await fleet.call("createSessions", [item])
    if failed := answer["UnsuccessfulList"]:
        return str(failed[0]["FailureReason"])
    (created,) = answer["SuccessfulList"]
    found = await fleet.until(created["Id"], lambda session: "Server" in session)
    await fleet.delete(found, Force=True)
    return str(found["Server"]["Id"])


@pytest.mark.covers("C141")
@pytest.mark.parametrize(
    ("expression", "on_a", "on_b"),
    [pytest.param(*case[1:], id=case[0]) for case in DECIDED if case[0] not in WITH_METRICS],
)
async def test_an_expression_decides_where_a_session_goes(
    fleet: Fleet, expression: str, on_a: bool, on_b: bool
) -> None:
    """A session goes to a server for which its expression is true, and nowhere if there is none."""
    only_a = f"({expression}) and server:Id = 'srv-a'" if expression.strip() else "server:Id = 'srv-a'"
    only_b = only_a.replace("srv-a", "srv-b")
    assert await fits(fleet, only_a, "CONSOLE") == ("srv-a" if on_a else NO_SERVER)
    assert await fits(fleet, only_b, "VIRTUAL") == ("srv-b" if on_b else NO_SERVER)
    assert await fits(fleet, expression, "VIRTUAL") == ("srv-b" if on_b else NO_SERVER)


@pytest.mark.covers("C141")
async def test_byte_counts_are_compared_digit_by_digit(fleet: Fleet) -> None:
    """Numbers of 64 bits do not lose digits: one byte more or less decides, in any way of writing it."""
    total = (await fleet.server("srv-b"))["Host"]["Memory"]["TotalBytes"]
    assert total > 2**32
    key = "server:Host.Memory.TotalBytes"
    for expression, is_true in (
        (f"{key} = {total}", True),
        (f"{key} = '{total}'", True),
        (f"{key} >= {total}.0", True),
        (f"{key} <= {total / 10**9:.9f}e9", True),
        (f"{key} > {total}", False),
        (f"{key} > {total - 1}", True),
        (f"{key} >= {total + 1}", False),
        (f"{key} > 1024E6", True),
    ):
        assert await fits(fleet, expression, "VIRTUAL") == ("srv-b" if is_true else NO_SERVER), expression


@pytest.mark.covers("C141", "C142")
@pytest.mark.parametrize(
    ("expression", "text"), [pytest.param(case[1], case[3], id=case[0]) for case in REFUSED]
)
async def test_a_wrong_expression_fails_its_item(fleet: Fleet, expression: str, text: str) -> None:
    """What is no expression fails the item with its place or what is wrong, and never waits in the queue."""
    item = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "Requirements": expression}
    answer = await fleet.call("createSessions", [item, {**item, "EnqueueRequest": True}])
    assert answer["SuccessfulList"] == []
    for failed in answer["UnsuccessfulList"]:
        assert failed["FailureReason"].startswith(INVALID)
        assert text in failed["FailureReason"]


@pytest.mark.covers("C142")
async def test_a_wrong_expression_is_found_without_any_server(tmp_path: Path) -> None:
    """A wrong expression is told as such though there is no server that it could be tried on."""
    async with running_broker(tmp_path) as broker:
        lonely = Fleet(broker)
        for _, expression, _, text in REFUSED:
            for may_wait in (False, True):
                reason = await lonely.refusal(Requirements=expression, EnqueueRequest=may_wait)
                assert reason.startswith(INVALID)
                assert text in reason


@pytest.mark.covers("C143")
async def test_two_errors_have_published_texts(fleet: Fleet) -> None:
    """An unknown property and a `:=` that cannot be have the texts that other programs look for."""
    reason = await fleet.refusal(Requirements="server:Host.Gpus.Vendor := 'NVIDIA'")
    assert "Server property server:Host.Gpus.Vendor not found" in reason
    for expression in ("server:Host.CpuInfo.NumberOfCpus := '4'", "tag:ram_gb := 8"):
        assert "Unexpected CONTAINS operator" in await fleet.refusal(Requirements=expression)


@pytest.mark.covers("C144")
async def test_the_guides_example_works_as_it_is_printed(fleet: Fleet) -> None:
    """The guide prints expressions in double quotes; with them its example is accepted and fits server A."""
    printed = "\"tag:color = 'pink' and (server:Host.Os.Family = 'windows' or tag:color := 'red')\""
    assert await fits(fleet, printed, "CONSOLE") == "srv-a"
    assert await fits(fleet, printed, "VIRTUAL") == NO_SERVER


@pytest.mark.covers("C145")
async def test_a_changed_tag_lets_a_waiting_session_in(fleet: Fleet) -> None:
    """When a server's tags change so that the expression of a waiting session is true, it is placed there."""
    host = fleet.hosts[1].server
    waiting = await fleet.create(EnqueueRequest=True, Requirements="tag:team = 'cad'")
    assert (await fleet.session(waiting["Id"]) or {})["Substate"] == "SESSION_PLACING"
    host.plan.tags["team"] = "cad"
    try:
        ready = await fleet.until_state(waiting["Id"], "READY")
        assert {"Key": "team", "Value": "cad"} in ready["Server"]["Tags"]
    finally:
        del host.plan.tags["team"]
    await fleet.delete(ready, Force=True)


@pytest.mark.covers("C146")
async def test_long_and_deep_expressions_are_safe(fleet: Fleet) -> None:
    """5000 characters fail their item, a hundred levels work, and a hundred thousand crash nothing."""
    assert await fleet.refusal(Requirements="x" * 5000) == f"{INVALID}expression too long"
    longest = "tag:size = 'big'" + " " * (4096 - len("tag:size = 'big'"))
    assert await fits(fleet, longest, "VIRTUAL") == "srv-b"
    assert await fleet.refusal(Requirements=longest + " ") == f"{INVALID}expression too long"
    deep = "(" * 100 + "tag:size = 'big'" + ")" * 100
    assert await fits(fleet, deep, "VIRTUAL") == "srv-b"
    deepest = "(" * 100_000 + "tag:size = 'big'" + ")" * 100_000
    item = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "Requirements": deepest}
    answer = await fleet.broker.client.post("/createSessions", content=json.dumps([item]))
    assert answer.json()["UnsuccessfulList"][0]["FailureReason"] == f"{INVALID}expression too long"
    reason = await fleet.refusal(Requirements="not (" * 800)
    assert reason.startswith(f"{INVALID}nested too deeply at character ")
