"""Which server a session goes to (API, 8), and what happens when none fits or a host fails."""

import random
from typing import Any

import pytest

from broker_stub.broker.events import Accepted, Refused
from tests.broker.scene import Scene, check_limits, report, server_block, tag_list

NONE_FITS = Refused("no dcv server found for placement")
WINDOWS = server_block("windows", tag_list(color="pink", dcv_max_virtual_sessions="0"))
LINUX = server_block(
    tags=tag_list(color="blue", dcv_max_virtual_sessions="3", dcv_max_concurrent_sessions_per_user="2")
)


def where(scene: Scene, session_id: str) -> str | None:
    session = scene.session(session_id)
    return session["Server"]["Id"] if session and "Server" in session else None


def with_load(load: float, cpus: int = 1) -> dict[str, Any]:
    block = server_block()
    block["host"]["cpuLoadAverage"]["oneMinute"] = load
    block["host"]["cpuInfo"]["numberOfCpus"] = cpus
    return block


# ------------------------------------------------------------------ hard conditions


@pytest.mark.parametrize(
    ("present", "fields", "expected"),
    [
        ([], {"Type": "CONSOLE"}, {"linux": True, "windows": True}),
        ([], {"Type": "VIRTUAL"}, {"linux": True, "windows": False}),
        ([], {"Type": "CONSOLE", "AutorunFile": "a"}, {"linux": False, "windows": True}),
        ([], {"Type": "VIRTUAL", "AutorunFile": "a"}, {"linux": True, "windows": False}),
        ([report("console", "bob", "CONSOLE")], {"Type": "CONSOLE"}, {"linux": False, "windows": False}),
        ([report("console", "bob", "CONSOLE")], {"Type": "VIRTUAL"}, {"linux": False, "windows": False}),
        ([report("v", "bob")], {"Type": "CONSOLE"}, {"linux": False, "windows": False}),
        ([report("v", "bob")], {"Type": "VIRTUAL"}, {"linux": True, "windows": False}),
        ([report("v"), report("w")], {"Type": "VIRTUAL"}, {"linux": False, "windows": False}),
        ([report("v"), report("w")], {"Type": "VIRTUAL", "Owner": "bob"}, {"linux": True, "windows": False}),
        (
            [report("v"), report("w"), report("x")],
            {"Type": "VIRTUAL", "Owner": "bob"},
            {"linux": False, "windows": False},
        ),
        ([], {"Requirements": "tag:color = 'blue'"}, {"linux": True}),
        ([], {"Requirements": "tag:color = 'pink'"}, {"linux": False, "windows": False}),
        ([], {"Type": "CONSOLE", "Requirements": "tag:color = 'pink'"}, {"linux": False, "windows": True}),
        ([], {"Requirements": "server:Host.Memory.TotalBytes > 1E6"}, {"linux": True}),
    ],
)
def test_what_fits(present: list[dict[str, Any]], fields: dict[str, Any], expected: dict[str, bool]) -> None:
    for family, fits in expected.items():
        scene = Scene()
        scene.hello("s", block=LINUX if family == "linux" else WINDOWS, sessions=present)
        result = scene.request(**fields)
        assert isinstance(result, Accepted) is fits, family
        assert fits or result == NONE_FITS
        scene.check()


@pytest.mark.parametrize("trouble", ["closed", "goodbye", "channel down", "unhealthy", "restarted", "silent"])
def test_nothing_is_placed_on_a_server_in_trouble(trouble: str) -> None:
    scene = Scene()
    scene.hello()
    match trouble:
        case "closed":
            scene.close("s1")
        case "goodbye":
            scene.drop(goodbye=True)
        case "channel down":
            scene.drop()
        case "unhealthy":
            scene.reports_sessions("s1", healthy=False)
        case "restarted":
            scene.restart()
        case "silent":
            scene.wait(91)
    assert scene.request() == NONE_FITS
    assert scene.sessions() == []


@pytest.mark.parametrize(
    ("members", "offers"),
    [
        ({"virtualAllowed": False}, False),
        ({"virtualAllowed": None}, True),  # then the capabilities say so
    ],
)
def test_the_agent_must_offer_the_type(members: dict[str, Any], offers: bool) -> None:
    scene = Scene()
    scene.hello(block=server_block(**members))
    assert isinstance(scene.request(), Accepted) is offers


def test_an_agent_without_the_capability_gets_none() -> None:
    scene = Scene()
    scene.hello(block=server_block(virtualAllowed=None), capabilities=["console"])
    assert scene.request() == NONE_FITS


@pytest.mark.parametrize("value", ["-1", "many", ""])
def test_a_tag_that_sets_no_limit(value: str) -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions=value)))
    for _ in range(20):
        scene.create()


# ------------------------------------------------------------------ choice and reservation


def test_fewest_sessions_first_then_lowest_load_per_cpu_then_id() -> None:
    scene = Scene()
    scene.hello("d", block=with_load(0.1), sessions=[report("x", "bob")])
    scene.hello("c", block=with_load(1.0, cpus=4))
    scene.hello("b", block=with_load(1.0, cpus=2))
    scene.hello("a", block=with_load(1.0, cpus=2))
    assert [where(scene, scene.create()) for _ in range(5)] == ["c", "a", "b", "d", "c"]


def test_the_latest_load_counts() -> None:
    scene = Scene()
    for server_id in ("a", "b"):
        scene.hello(server_id, block=with_load(1.0))
    scene.registry.describe_servers(None, 10)
    scene.reports_server("a", {"host": {"cpuLoadAverage": {"oneMinute": 3.0}}})
    assert where(scene, scene.create()) == "b"


def test_of_twenty_requests_for_ten_places_exactly_ten_are_placed() -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions="10")))
    results = [scene.request(Owner=f"owner{number}") for number in range(20)]
    assert sum(isinstance(result, Accepted) for result in results) == 10
    server = scene.server()
    assert server is not None
    assert server["VirtualSessionCount"] == 10
    assert scene.availability() == "SERVER_FULL"
    check_limits(scene)
    scene.check()


def test_a_limit_that_is_lowered_later_holds_for_new_sessions() -> None:
    scene = Scene()
    scene.hello()
    scene.create()
    scene.reports_server("s1", {"tags": tag_list(dcv_max_virtual_sessions="1")})
    assert scene.request() == NONE_FITS


def test_many_different_requirements_are_all_answered_rightly() -> None:
    """More questions than are kept, on a fleet that changes all the time."""
    rng = random.Random(7)  # noqa: S311  a test that repeats itself
    scene = Scene()
    for number in range(20):
        scene.hello(f"s{number:02}", block=server_block(tags=tag_list(rank=str(number))))
    for _ in range(400):
        least = rng.randrange(25)
        if rng.random() < 0.3:
            server_id = f"s{rng.randrange(20):02}"
            scene.reports_server(server_id, {"tags": tag_list(rank=str(rng.randrange(25)))})
        ranks = {s["Id"]: int(s["Tags"][0]["Value"]) for s in scene._all_servers()}
        counts = {s["Id"]: s["VirtualSessionCount"] for s in scene._all_servers()}
        fitting = [server_id for server_id, rank in ranks.items() if rank >= least]
        expected = min(fitting, key=lambda one: (counts[one], one), default=None)
        result = scene.request(Requirements=f"tag:rank >= {least} or server:Id = 'x{rng.randrange(90)}'")
        if expected is None:
            assert result == NONE_FITS
        else:
            assert isinstance(result, Accepted)
            assert result.session is not None
            assert where(scene, result.session["Id"]) == expected


# ------------------------------------------------------------------ queue


def test_a_full_queue_refuses() -> None:
    scene = Scene(queue_max_size=2)
    for _ in range(2):
        scene.create(EnqueueRequest=True)
    assert scene.request(EnqueueRequest=True) == Refused("The create sessions queue is full")
    assert scene.request() == NONE_FITS
    assert scene.registry.queue_length() == 2
    scene.check()


@pytest.mark.parametrize(
    "trigger", ["registers", "opens", "loses a session", "is healthy", "tags", "back", "deletes"]
)
def test_what_the_queue_waits_for(trigger: str) -> None:
    scene = Scene()
    one_place = server_block(tags=tag_list(color="blue", dcv_max_virtual_sessions="1"))
    requirements = "tag:color = 'red'" if trigger == "tags" else ""
    busy = [report("x")] if trigger in ("loses a session", "deletes") else []
    if trigger != "registers":
        scene.hello(block=one_place, sessions=busy)
    if trigger == "opens":
        scene.close("s1")
    elif trigger == "is healthy":
        scene.reports_server("s1", {"healthy": False})
    elif trigger == "back":
        scene.drop(goodbye=True)
    elif trigger == "deletes":
        scene.delete("x")
    session_id = scene.create(EnqueueRequest=True, Requirements=requirements)
    assert scene.state(session_id) == "SESSION_PLACING"
    match trigger:
        case "registers" | "back":
            scene.hello(block=one_place)
        case "opens":
            scene.open("s1")
        case "loses a session":
            scene.reports_sessions("s1")
        case "is healthy":
            scene.reports_sessions("s1", full=False)
        case "tags":
            scene.reports_server("s1", {"tags": tag_list(color="red")})
        case "deletes":
            scene.finish(scene.take_order("deleteSession"))
    assert scene.state(session_id) == "PENDING_PREPARATION"
    assert scene.registry.queue_length() == 0
    scene.check()


def test_the_queue_is_looked_at_every_five_seconds() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.create(EnqueueRequest=True, Requirements="server:Host.Memory.UsedBytes < 5")
    scene.reports_server("s1", {"host": {"memory": {"usedBytes": 1}}})
    assert scene.state(session_id) == "SESSION_PLACING"  # a mere metric: not worth a look by itself
    scene.wait(5)
    assert scene.state(session_id) == "PENDING_PREPARATION"


def test_who_fits_nothing_holds_up_nobody_and_the_others_keep_their_order() -> None:
    scene = Scene()
    blocked = scene.create(EnqueueRequest=True, Requirements="tag:color = 'gold'")
    first = scene.create(EnqueueRequest=True)
    second = scene.create(EnqueueRequest=True)
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions="1")))
    assert [scene.state(one) for one in (blocked, first, second)] == [
        "SESSION_PLACING",
        "PENDING_PREPARATION",
        "SESSION_PLACING",
    ]
    scene.finish(scene.take_order(), "INTERNAL", "no")  # tried again on the one host that fits
    assert scene.state(first) == "PENDING_PREPARATION"


def test_a_direct_request_does_not_overtake_a_queued_one() -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions="1")))
    waiting = scene.create(EnqueueRequest=True, Requirements="server:Host.Memory.UsedBytes < 5")
    scene.reports_server("s1", {"host": {"memory": {"usedBytes": 1}}})
    assert scene.request() == NONE_FITS
    assert scene.state(waiting) == "PENDING_PREPARATION"


def test_owners_who_have_enough_do_not_hold_up_others_of_the_same_kind() -> None:
    scene = Scene()
    block = server_block(tags=tag_list(dcv_max_concurrent_sessions_per_user="1"))
    scene.hello(block=block)
    scene.create()
    waiting = scene.create(EnqueueRequest=True)
    assert scene.state(waiting) == "SESSION_PLACING"
    other = scene.create(Owner="bob")
    assert where(scene, other) == "s1"
    scene.hello("s2", block=block)
    assert where(scene, waiting) == "s2"


def test_waiting_too_long_is_a_failed_creation() -> None:
    scene = Scene(queue_max_time_s=100)
    session_id = scene.create(EnqueueRequest=True)
    scene.wait(99)
    assert scene.state(session_id) == "SESSION_PLACING"
    scene.wait(1)
    assert scene.state(session_id) == "UNKNOWN"
    assert scene.reason(session_id) == "no dcv server found for placement"
    scene.hello()
    assert scene.state(session_id) == "UNKNOWN"
    scene.check()


def test_a_deleted_request_is_never_placed() -> None:
    scene = Scene()
    session_id = scene.create(EnqueueRequest=True)
    scene.delete(session_id)
    scene.hello()
    assert scene.state(session_id) == "DELETED"
    assert scene.sent == []


def test_the_queue_survives_a_restart_in_its_order() -> None:
    scene = Scene()
    waiting = [scene.create(EnqueueRequest=True) for _ in range(3)]
    scene.restart()
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions="2")))
    assert [scene.state(one) for one in waiting] == ["PENDING_PREPARATION"] * 2 + ["SESSION_PLACING"]
    scene.wait(1800)
    assert scene.state(waiting[2]) == "UNKNOWN"


# ------------------------------------------------------------------ failure and retry


def fail_until_over(scene: Scene, code: str = "DCV_COMMAND_FAILED", message: str = "no display") -> list[str]:
    """Fail every order to create; the servers that were asked."""
    asked: list[str] = []
    while scene.sent:
        order = scene.take_order()
        assert order.attempt == len(asked) + 1
        asked.append(order.server_id)
        scene.finish(order, code, message)
        scene.check()
    return asked


def test_four_hosts_that_fail_are_asked_three_times_in_all() -> None:
    scene = Scene()
    for server_id in ("a", "b", "c", "d"):
        scene.hello(server_id)
    session_id = scene.create()
    assert fail_until_over(scene) == ["a", "b", "c"]
    assert scene.state(session_id) == "UNKNOWN"
    assert scene.reason(session_id) == "no display"


def test_one_host_that_fails_is_asked_three_times() -> None:
    scene = Scene()
    scene.hello("a")
    scene.create()
    assert fail_until_over(scene) == ["a", "a", "a"]


def test_a_host_that_failed_is_asked_again_only_if_no_other_fits() -> None:
    scene = Scene()
    scene.hello("a")
    scene.hello("b", sessions=[report("x", "bob"), report("y", "bob")])
    scene.create()
    assert fail_until_over(scene) == ["a", "b", "a"]


def test_retries_are_a_setting_and_can_be_refused() -> None:
    scene = Scene(retries_on_failure=0)
    scene.hello("a")
    scene.create()
    assert fail_until_over(scene) == ["a"]

    scene = Scene()
    scene.hello("a")
    scene.hello("b")
    scene.create(DisableRetryOnFailure=True)
    assert fail_until_over(scene) == ["a"]


@pytest.mark.parametrize(
    ("code", "attempts"),
    [
        ("OWNER_NOT_FOUND", 3),
        ("BUSY", 3),
        ("TIMEOUT", 3),
        ("SESSION_ID_CONFLICT", 1),
        ("INIT_FILE_INVALID", 1),
        ("CANCELLED", 1),
        ("a code of tomorrow", 1),
    ],
)
def test_some_failures_are_final(code: str, attempts: int) -> None:
    scene = Scene()
    scene.hello("a")
    session_id = scene.create()
    assert len(fail_until_over(scene, code, message="")) == attempts
    assert scene.reason(session_id) == code


def test_a_retry_that_finds_no_place_waits_if_it_may() -> None:
    scene = Scene()
    scene.hello("a")
    patient = scene.create(EnqueueRequest=True)
    impatient = scene.create()
    scene.close("a", force=True)
    for _ in range(2):
        scene.finish(scene.take_order(), "INTERNAL", "no display")
    assert scene.state(patient) == "SESSION_PLACING"
    assert scene.state(impatient) == "UNKNOWN"
    scene.open("a")
    assert scene.state(patient) == "PENDING_PREPARATION"
    scene.finish(scene.take_order())
    assert scene.state(patient) == "READY"
    scene.check()


def test_a_host_that_does_not_answer_is_replaced_by_another() -> None:
    scene = Scene(agent_loss_grace_s=5)
    scene.hello("a")
    session_id = scene.create()
    scene.drop("a")
    scene.hello("b")
    scene.wait(59)
    assert where(scene, session_id) == "a"
    scene.reports_server("b", {})
    scene.wait(1)
    assert where(scene, session_id) == "b"
    scene.finish(next(order for order in scene.sent if order.server_id == "b"))
    assert scene.hello("a", sessions=[report(session_id)]).orphan_sessions == [session_id]
    scene.check()
