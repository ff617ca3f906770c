"""What an operator sees while a network is cut or a disk is full, and that nothing is lost by it."""

import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.journal import Journal
from tests.agent.relay import relay_to
from tests.agent.small_host import SmallHost, access_to, until, until_async
from tests.broker.raw_agent import create, servers, sessions
from tests.running import RunningBroker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path, rules={"agent_loss_grace_s": 0.3}) as running:
        yield running


async def until_state(broker: RunningBroker, session_id: str, state: str) -> dict[str, Any]:
    async def is_so() -> bool:
        return bool((await sessions(broker))[session_id]["State"] == state)

    await until_async(is_so, 30)
    found: dict[str, Any] = (await sessions(broker))[session_id]
    return found


class SmallDisk:
    """Where a journal is kept; takes no line while it is full."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.is_full = False

    def lines(self) -> list[bytes]:
        return list(self.kept)

    async def append(self, line: bytes) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.kept.append(line)

    async def replace(self, lines: Sequence[bytes]) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.kept = list(lines)

    def close(self) -> None:
        """Nothing to let go of."""


async def test_a_full_disk_refuses_what_is_new_and_keeps_what_is_there(broker: RunningBroker) -> None:
    """A host whose journal cannot be written does nothing it could not answer for: new sessions fail with
    the disk as their reason, those that run stay READY, and with room again all works as before."""
    host, disk = SmallHost(access_to(broker.agent_url, broker.ca_file)), SmallDisk()
    host._journal = Journal(disk)
    async with host.running():
        (there,) = await create(broker)
        await until_state(broker, there, "READY")
        disk.is_full = True
        (refused,) = await create(broker)
        shown = await until_state(broker, refused, "UNKNOWN")
        assert "No space left on device" in shown["StateReason"]
        item = {"SessionId": there, "Owner": "ana"}
        await broker.client.post("/deleteSessions", json=[item])
        shown = await until_state(broker, there, "READY")
        assert "No space left on device" in shown["StateReason"]
        assert list(host.backend.sessions) == [there]
        disk.is_full = False
        (new,) = await create(broker)
        await until_state(broker, new, "READY")
        await broker.client.post("/deleteSessions", json=[item])
        await until_state(broker, there, "DELETED")
    assert list(host.backend.sessions) == [new]


async def test_a_result_that_found_no_room_is_told_all_the_same(broker: RunningBroker) -> None:
    """The disk fills while a session is being created: the session is there, and the API says so."""
    host, disk = SmallHost(access_to(broker.agent_url, broker.ca_file)), SmallDisk()
    host._journal = Journal(disk)
    host.backend.go_on.clear()
    async with host.running():
        (session_id,) = await create(broker)
        await until(lambda: host.backend.calls)
        disk.is_full = True
        host.backend.go_on.set()
        await until_state(broker, session_id, "READY")


async def test_a_cut_network_makes_nothing_look_better_or_worse_than_it_is(broker: RunningBroker) -> None:
    """While a host is cut off its server is unreachable and its sessions are UNKNOWN, not deleted; new ones
    go elsewhere; and when the network is whole again all that lived on is READY, all that ended is gone."""
    async with relay_to(broker) as (relay, access):
        cut_off = SmallHost(access, 1)
        other = SmallHost(access_to(broker.agent_url, broker.ca_file), 2)
        async with cut_off.running():
            lives, ends = await create(broker, 2)
            await until_state(broker, lives, "READY")
            await until_state(broker, ends, "READY")
            async with other.running():
                relay.is_split = True
                relay.cut()

                async def is_missed() -> bool:
                    server = (await servers(broker))["server-1"]
                    return bool(server.get("UnavailabilityReason") == "UNREACHABLE_AGENT")

                await until_async(is_missed)
                shown = await sessions(broker)
                assert {shown[one]["State"] for one in (lives, ends)} == {"UNKNOWN"}
                (new,) = await create(broker)
                assert (await until_state(broker, new, "READY"))["Server"]["Id"] == "server-2"
                cut_off.backend.disappear(ends)
                assert list(cut_off.backend.sessions) == [lives]
                relay.is_split = False
                await until_state(broker, lives, "READY")
                await until_state(broker, ends, "DELETED")
                assert (await servers(broker))["server-1"]["Availability"] == "AVAILABLE"
        assert cut_off.backend.calls.count("create") == 2
