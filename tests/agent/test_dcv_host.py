"""A host with a DCV server as operators see it: the agent's program, a fake `dcv`, a real broker."""

import asyncio
import getpass
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker_stub.agent.dcv_host import is_dcv_host
from broker_stub.agent.settings import load_settings
from tests.agent.agent_program import config, running
from tests.agent.fake_dcv import FakeDcv
from tests.agent.small_host import until, until_async
from tests.broker.raw_agent import create, servers, sessions
from tests.running import RunningBroker, running_broker

ME = getpass.getuser()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path / "b") as running:
        yield running


@pytest.fixture
def dcv(tmp_path: Path) -> FakeDcv:
    return FakeDcv(tmp_path / "dcv")


@pytest.fixture
def conf(tmp_path: Path, broker: RunningBroker, dcv: FakeDcv) -> Path:
    parts = urlsplit(broker.agent_url)
    return config(
        tmp_path,
        backend="type = 'auto'\nminimum_uid = 0",
        broker_host=parts.hostname,
        broker_port=parts.port,
        ca_file=str(broker.ca_file),
        dcv_root=str(dcv.program),
        init_folder=str(tmp_path / "init"),
    )


async def until_server(broker: RunningBroker, **members: Any) -> dict[str, Any]:
    async def is_so() -> bool:
        found = list((await servers(broker)).values())
        return bool(found) and all(found[0].get(name) == value for name, value in members.items())

    await until_async(is_so, 40)
    found: dict[str, Any] = next(iter((await servers(broker)).values()))
    return found


async def until_session(broker: RunningBroker, session_id: str, state: str) -> None:
    async def is_so() -> bool:
        return bool((await sessions(broker)).get(session_id, {}).get("State") == state)

    await until_async(is_so, 40)


async def test_an_operators_session_on_a_dcv_server(broker: RunningBroker, dcv: FakeDcv, conf: Path) -> None:
    async with running(conf):
        server = await until_server(broker, Availability="AVAILABLE")
        assert server["Version"] == "2024.0-19030"
        assert server["Endpoints"][0]["Port"] == 8443
        (session_id,) = await create(broker, Name="cad", Owner=ME, MaxConcurrentClients=2)
        await until_session(broker, session_id, "READY")
        assert dcv.sessions[session_id]["name"] == "cad"
        about = {"SessionId": session_id, "Owner": ME}
        answer = (await broker.client.post("/getSessionScreenshots", json=[{"SessionId": session_id}])).json()
        assert answer["SuccessfulList"], answer
        answer = (await broker.client.post("/deleteSessions", json=[about])).json()
        assert answer["SuccessfulList"], answer
        await until_session(broker, session_id, "DELETED")
        assert dcv.sessions == {}


@pytest.mark.covers("G11")
async def test_sessions_made_and_closed_by_hand_show(broker: RunningBroker, dcv: FakeDcv, conf: Path) -> None:
    """A session that an administrator starts on the host appears in the API, and is DELETED there when
    it is closed on the host."""
    async with running(conf):
        await until_server(broker, Availability="AVAILABLE")
        dcv.appear("by hand", owner="bo")
        await until_session(broker, "by hand", "READY")
        assert (await sessions(broker))["by hand"]["Owner"] == "bo"
        dcv.disappear("by hand")
        await until_session(broker, "by hand", "DELETED")


@pytest.mark.covers("G21")
async def test_a_stopped_dcv_server_is_unhealthy_until_it_runs_again(
    broker: RunningBroker, dcv: FakeDcv, conf: Path
) -> None:
    """When `dcv` fails twice in a row the server is unhealthy and its sessions are UNKNOWN; once it answers
    all is as before, without a restart of the agent."""
    dcv.appear("a")
    async with running(conf) as process:
        await until_session(broker, "a", "READY")
        dcv.go_wrong("*", stderr="Could not connect to the DCV server")
        await until_server(broker, UnavailabilityReason="UNHEALTHY_DCV_SERVER")
        assert (await sessions(broker))["a"]["State"] == "UNKNOWN"
        dcv.recover()
        await until_server(broker, Availability="AVAILABLE")
        await until_session(broker, "a", "READY")
        assert process.returncode is None


@pytest.mark.covers("S12")
async def test_exhausted_licences_become_the_sessions_reason(
    broker: RunningBroker, dcv: FakeDcv, conf: Path
) -> None:
    """When no host has a free licence the session ends as UNKNOWN, and its reason says why."""
    dcv.go_wrong("create-session", stderr="ERROR: All licenses in use")
    async with running(conf):
        await until_server(broker, Availability="AVAILABLE")
        (session_id,) = await create(broker, Owner=ME)
        await until_session(broker, session_id, "UNKNOWN")
        assert "All licenses in use" in (await sessions(broker))[session_id]["StateReason"]
    assert len(dcv.calls_of("create-session")) > 1, "the broker tries again before it gives up"


@pytest.mark.covers("G3")
async def test_folders_of_start_files_follow_a_reload(
    broker: RunningBroker, dcv: FakeDcv, conf: Path, tmp_path: Path
) -> None:
    """A changed folder of init scripts holds from the next SIGHUP on; the channel stays open."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "desk.sh").write_text("#!/bin/sh\n")
    (folder / "desk.sh").chmod(0o755)
    log = tmp_path / "log" / "agent.log"
    changed = (await asyncio.to_thread(conf.read_text)).replace(str(tmp_path / "init"), str(folder))
    async with running(conf) as process:
        await until_server(broker, Availability="AVAILABLE")
        await asyncio.to_thread(conf.write_text, changed)
        process.send_signal(signal.SIGHUP)
        await until(lambda: "Settings read again" in log.read_text())
        (session_id,) = await create(broker, Owner=ME, InitFile="desk.sh")
        await until_session(broker, session_id, "READY")
        assert log.read_text().count("The broker accepted server") == 1
    (arguments,) = dcv.calls_of("create-session")
    assert str(folder / "desk.sh") in arguments


@pytest.mark.covers("G32")
async def test_an_agents_program_killed_during_a_creation_makes_one_session(
    broker: RunningBroker, dcv: FakeDcv, conf: Path, tmp_path: Path
) -> None:
    """The agent's process is killed while `dcv` works on a creation: its promise is in the journal's file,
    and after its restart there is one session, which is READY."""
    journal = tmp_path / "state" / "journal.jsonl"
    async with running(conf) as process:
        await until_server(broker, Availability="AVAILABLE")
        dcv.go_wrong("create-session", delay_s=1.0)
        (session_id,) = await create(broker, Owner=ME)
        await until(lambda: dcv.calls_of("create-session"))
        assert "createSession" in await asyncio.to_thread(journal.read_text)
        process.kill()
        await process.wait()
    async with running(conf):
        await until_session(broker, session_id, "READY")
    assert list(dcv.sessions) == [session_id]


def test_the_command_makes_a_dcv_host_unless_told_otherwise(tmp_path: Path, dcv: FakeDcv) -> None:
    for backend, program, is_one in (
        ("type = 'auto'", dcv.program, True),
        ("type = 'auto'", tmp_path / "none", False),
        ("type = 'dcv'", tmp_path / "none", True),
        ("type = 'xvfb'", dcv.program, False),
    ):
        path = config(tmp_path, backend=backend, broker_host="b", dcv_root=str(program))
        assert is_dcv_host(load_settings(path).settings) is is_one
