"""The simulated fleet: its shape, its life, its faults, its pictures."""

import asyncio
import io
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image as Pictures

from broker_stub.agent.backend import BackendError, Failure, SessionSpec
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_desktop import Desktop, take_screenshot
from broker_stub.agent.simulated_fleet import Role, plan_fleet
from broker_stub.agent.simulated_server import SimulatedServer
from dcvtui.api.states import SessionType

START = datetime(2026, 3, 30, 15, 47, 6, tzinfo=UTC)


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def spec(session_id: str = "s-1", owner: str = "ana", kind: SessionType = SessionType.VIRTUAL) -> SessionSpec:
    return SessionSpec(session_id=session_id, name="cad", owner=owner, type=kind)


def still_fleet(servers: int = 12, sessions: int | None = None) -> SimulatedFleet:
    return SimulatedFleet.invent(servers=servers, sessions=sessions, is_still=True, clock=HandClock())


def server_with(role: Role, os_family: str = "linux", fleet: SimulatedFleet | None = None) -> SimulatedServer:
    servers = (fleet or still_fleet()).servers
    return next(one for one in servers if one.plan.role is role and one.plan.os_family == os_family)


# ------------------------------------------------------------------ the plan


def test_the_same_seed_gives_the_same_fleet() -> None:
    assert plan_fleet(3, 40, 100) == plan_fleet(3, 40, 100)
    assert plan_fleet(3, 40, 100) != plan_fleet(4, 40, 100)


def test_the_default_fleet_has_every_part_of_the_story() -> None:
    plan = plan_fleet(7, 12)
    parts = Counter((server.role, server.os_family) for server in plan.servers)
    assert parts[Role.IDLE, "linux"] >= 3
    assert parts[Role.IDLE, "windows"] >= 1
    for role in Role:
        assert any(server.role is role for server in plan.servers), role
    by_role = {server.role: server for server in plan.servers}
    full = by_role[Role.FULL]
    assert len(full.sessions) == full.max_virtual_sessions > 0
    assert len(by_role[Role.CLOSED].sessions) == 1
    assert by_role[Role.STUCK].sessions
    assert not any(server.sessions for server in plan.servers if server.role is Role.IDLE)


@pytest.mark.parametrize(("servers", "sessions"), [(1, 0), (1, 5), (2, 20), (12, 12), (12, 200), (300, 1500)])
def test_a_fleet_has_exactly_the_size_asked_for(servers: int, sessions: int) -> None:
    plan = plan_fleet(1, servers, sessions)
    assert len(plan.servers) == servers
    assert plan.session_count == sessions


def test_names_addresses_and_ids_are_distinct_in_a_large_fleet() -> None:
    plan = plan_fleet(1, 2000, 10_000)
    for values in (
        [server.hostname for server in plan.servers],
        [server.ip for server in plan.servers],
        [server.server_id for server in plan.servers],
        list(plan.owners),
        [session.id for server in plan.servers for session in server.sessions if session.id != "console"],
        [session.name for server in plan.servers for session in server.sessions],
    ):
        assert len(set(values)) == len(values)
    assert {server.os_family for server in plan.servers} == {"linux", "windows"}


def test_windows_hosts_have_one_console_session_and_no_room_for_virtual_ones() -> None:
    for server in plan_fleet(1, 300, 1500).servers:
        if server.os_family == "windows":
            assert server.max_virtual_sessions == 0
            assert [session.type for session in server.sessions] in ([], [SessionType.CONSOLE])


# ------------------------------------------------------------------ hosts


def test_metrics_move_with_time_and_stay_within_the_machine() -> None:
    clock = HandClock()
    server = SimulatedFleet.invent(clock=clock).servers[1]
    seen = []
    for _ in range(50):
        facts = server.host_facts()
        assert 0 < facts["memory"]["usedBytes"] < facts["memory"]["totalBytes"]
        assert 0 <= facts["cpuLoadAverage"]["oneMinute"] <= 2 * facts["cpuInfo"]["numberOfCpus"]
        seen.append(facts["cpuLoadAverage"]["oneMinute"])
        clock.now += timedelta(seconds=5)
    assert len(set(seen)) > 10


def test_a_still_host_reports_the_same_at_any_time() -> None:
    clock = HandClock()
    server = SimulatedFleet.invent(is_still=True, clock=clock).servers[1]
    before = server.host_facts()
    clock.now += timedelta(hours=5)
    assert server.host_facts() == before


async def test_what_a_host_offers_depends_on_its_system() -> None:
    linux = await server_with(Role.IDLE).probe()
    windows = await server_with(Role.IDLE, "windows").probe()
    assert (linux.virtual_allowed, windows.virtual_allowed) == (True, False)
    assert "virtual" not in windows.capabilities
    assert linux.healthy
    assert linux.endpoints[0].protocol == "HTTP"


# ------------------------------------------------------------------ commands


async def test_console_and_virtual_sessions_exclude_each_other() -> None:
    server = server_with(Role.IDLE)
    await server.create(spec("s-1"))
    with pytest.raises(BackendError) as refused:
        await server.create(spec("s-2", kind=SessionType.CONSOLE))
    assert refused.value.code is Failure.CONSOLE_BUSY
    windows = server_with(Role.IDLE, "windows")
    await windows.create(spec("s-3", kind=SessionType.CONSOLE))
    with pytest.raises(BackendError) as refused:
        await windows.create(spec("s-4", kind=SessionType.CONSOLE))
    assert refused.value.code is Failure.CONSOLE_BUSY


async def test_windows_refuses_virtual_sessions() -> None:
    with pytest.raises(BackendError) as refused:
        await server_with(Role.IDLE, "windows").create(spec())
    assert refused.value.code is Failure.TYPE_NOT_SUPPORTED


async def test_a_stuck_server_never_finishes_and_leaves_nothing_behind() -> None:
    server = server_with(Role.STUCK)
    before = await server.list()
    for command in (server.create(spec()), server.close(before[0].id, True)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(command, 0.05)
    assert await server.list() == before


async def test_faults_on_request() -> None:
    server = server_with(Role.IDLE)
    server.faults.failing_create = "no free graphics memory"
    with pytest.raises(BackendError, match="no free graphics memory"):
        await server.create(spec())
    server.faults.failing_create = ""
    server.faults.slow_s = 5.0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.create(spec()), 0.5)
    server.faults.slow_s = 0.0
    await server.create(spec())
    server.faults.hanging_screenshot = True
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.screenshot("s-1", 100, 100, "png"), 0.05)
    server.faults.unhealthy = "dcvserver is not running"
    assert not (await server.probe()).healthy
    with pytest.raises(BackendError, match="not running"):
        await server.list()


# ------------------------------------------------------------------ life


def test_a_living_fleet_changes_and_keeps_its_story() -> None:
    clock = HandClock()
    fleet = SimulatedFleet.invent(clock=clock)
    first = {session.id: session for server in fleet.servers for session in server.sessions}
    for _ in range(600):
        clock.now += timedelta(seconds=4)
        fleet.step()
    last = {session.id: session for server in fleet.servers for session in server.sessions}
    assert first.keys() - last.keys(), "some sessions ended"
    assert last.keys() - first.keys(), "some sessions were started on their hosts"
    assert any(last[key] != first[key] for key in first.keys() & last.keys()), "clients came or went"
    assert len(last) >= len(first) * 0.7
    for server in fleet.servers:
        plan = server.plan
        if plan.role in (Role.IDLE, Role.FULL, Role.CLOSED, Role.UNREACHABLE, Role.STUCK):
            assert {session.id for session in server.sessions} == {session.id for session in plan.sessions}
        assert plan.os_family == "windows" or len(server.sessions) <= plan.max_virtual_sessions
        for session in server.sessions:
            assert session.num_of_connections <= (session.max_concurrent_clients or 99)


async def test_life_leaves_sessions_of_operators_alone() -> None:
    fleet = SimulatedFleet.invent(servers=2, sessions=2, is_still=True)
    busy = server_with(Role.BUSY, fleet=fleet)
    made = await busy.create(spec())
    for _ in range(300):
        fleet.step()
    assert made in busy.sessions


async def test_a_change_on_the_host_is_told() -> None:
    server = server_with(Role.BUSY)
    server.changed.clear()
    server.end_on_host(server.sessions[0].id)
    assert server.changed.is_set()


async def test_a_still_fleet_does_not_live() -> None:
    fleet = still_fleet()
    before = [server.sessions for server in fleet.servers]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fleet.live(mean_pause_s=0.001), 0.1)
    assert [server.sessions for server in fleet.servers] == before


# ------------------------------------------------------------------ pictures


def test_pictures_differ_by_session_and_change_with_time() -> None:
    one, other = Desktop(1, "cad-ana-1", "ana"), Desktop(2, "cad-ana-2", "ana")

    def picture(desktop: Desktop, seconds: int) -> bytes:
        return take_screenshot(desktop, START + timedelta(seconds=seconds), 320, 180, "png").data

    assert picture(one, 0) == picture(one, 0)
    assert picture(one, 0) != picture(other, 0)
    assert picture(one, 0) != picture(one, 10)


@pytest.mark.parametrize("size", [(1, 1), (16, 9), (160, 100), (640, 200), (9000, 9000), (None, 300)])
@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_pictures_have_any_size_up_to_that_of_the_display(
    size: tuple[int | None, int | None], image_format: str
) -> None:
    desktop = Desktop(4, "cad-ana-1", "ana", is_windows=True)
    image = take_screenshot(desktop, START, *size, "jpeg" if image_format == "jpeg" else "png")
    with Pictures.open(io.BytesIO(image.data)) as picture:
        assert picture.format == image_format.upper()
        assert picture.size == (image.width, image.height)
    width, height = desktop.size
    assert image.width <= min(size[0] or width, width)
    assert image.height <= min(size[1] or height, height)


async def test_a_still_picture_stands_still() -> None:
    clock = HandClock()
    fleet = SimulatedFleet.invent(is_still=True, clock=clock)
    server = server_with(Role.BUSY, fleet=fleet)
    first = await server.screenshot(server.sessions[0].id, 160, 100, "png")
    clock.now += timedelta(minutes=3)
    assert [image.data for image in await server.screenshot(server.sessions[0].id, 160, 100, "png")] == [
        first[0].data
    ]
