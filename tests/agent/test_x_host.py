"""An agent whose sessions run on X servers of its own, from its file to a person's screen."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker_stub.agent import x_host
from broker_stub.agent.entrance_certificate import own_certificate
from broker_stub.agent.settings import AgentSettings, load_settings
from broker_stub.agent.x_programs import PROGRAMS, ServerKind
from broker_stub.agent.x_session import end_all_sessions
from tests.agent.agent_program import running
from tests.agent.small_host import until_async
from tests.agent.vnc_client import url_of, websocket
from tests.agent.x_sessions import ME, needs_xvnc, passable_place, script
from tests.broker.raw_agent import servers
from tests.running import RunningBroker, running_broker

BASE = "version = '0.1'\n[agent]\nbroker_host = '127.0.0.1'\n"


def settings(tmp_path: Path, **sections: str) -> AgentSettings:
    """Settings from a file that has these sections besides its first one."""
    path = tmp_path / "agent.conf"
    told = {"state": "directory = '/var/lib/agent'"} | sections
    path.write_text(BASE + "".join(f"[{name}]\n{text}\n" for name, text in told.items()))
    return load_settings(path).settings


def without_programs(monkeypatch: pytest.MonkeyPatch, *kinds: ServerKind) -> None:
    found = dict(PROGRAMS)
    for kind in kinds:
        found[kind] = type(found[kind])(found[kind].title, (), found[kind].package)
    monkeypatch.setattr(x_host, "PROGRAMS", found)


def test_the_server_people_can_connect_to_is_taken_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert x_host.server_kind(settings(tmp_path, backend="type = 'xvfb'")) is ServerKind.XVFB
    assert x_host.server_kind(settings(tmp_path, backend="type = 'xvnc'")) is ServerKind.XVNC
    without_programs(monkeypatch, ServerKind.XVNC)
    assert x_host.server_kind(settings(tmp_path)) is ServerKind.XVFB


def test_a_missing_server_is_one_sentence_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_programs(monkeypatch, *ServerKind)
    for kind, package in (("xvfb", "xvfb"), ("xvnc", "tigervnc-standalone-server")):
        (problem,) = x_host.problems(settings(tmp_path, backend=f"type = '{kind}'"))
        assert f"apt-get install {package} xterm" in problem


@needs_xvnc
def test_what_the_entrance_cannot_work_with_is_said_before_the_start(tmp_path: Path) -> None:
    half = settings(tmp_path, entrance="certificate_file = '/etc/x.pem'")
    assert "belong together" in "".join(x_host.problems(half))
    wrong = tmp_path / "x.pem"
    wrong.write_text("no certificate")
    told = f"certificate_file = '{wrong}'\nkey_file = '{wrong}'"
    assert "cannot be used with its key" in "".join(x_host.problems(settings(tmp_path, entrance=told)))
    deep = settings(tmp_path, state=f"directory = '{tmp_path / ('d' * 80)}'")
    assert "bytes too long" in "".join(x_host.problems(deep))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_becoming_the_owner_needs_root(tmp_path: Path) -> None:
    told = settings(tmp_path, backend="session_user_mode = 'setuid'")
    assert "runs as root" in "".join(x_host.problems(told))


@asynccontextmanager
async def agent_on_xvnc(broker: RunningBroker, place: Path) -> AsyncIterator[dict[str, Any]]:
    """An agent process on this machine; its server as the API shows it."""
    parts = urlsplit(broker.agent_url)
    (place / "init").mkdir()
    script(place / "init" / "stay.sh", "exec sleep 600")
    config = place / "agent.conf"
    config.write_text(
        BASE
        + f"broker_port = {parts.port}\nca_file = '{broker.ca_file}'\nbroker_update_interval = 1\n"
        + f"tags_folder = '{place}/tags'\ninit_folder = '{place}/init'\n"
        + f"[log]\ndirectory = '{place}/log'\n[state]\ndirectory = '{place}/state'\n"
        + "[backend]\ntype = 'xvnc'\nminimum_uid = 0\n"
        + "[entrance]\naddress = '127.0.0.1'\nport = 0\n"
    )
    try:
        async with running(config):
            found: dict[str, Any] = {}

            async def is_there() -> bool:
                found.update(await servers(broker))
                return any(one["Availability"] == "AVAILABLE" for one in found.values())

            await until_async(is_there, 30)
            (server,) = found.values()
            yield server
    finally:
        await end_all_sessions(place / "state" / "x")


@needs_xvnc
async def test_a_person_gets_from_the_api_to_the_screen(tmp_path: Path) -> None:
    """The connection data of a session lead through the entrance of its host to its screen, the API
    counts the client, and what the entrance shows is the host's own certificate."""
    with passable_place() as place:
        async with running_broker(tmp_path / "b") as broker, agent_on_xvnc(broker, place) as server:
            request = {"Name": "cad", "Owner": ME, "Type": "VIRTUAL", "InitFile": "stay.sh"}
            made = (await broker.client.post("/createSessions", json=[request])).json()
            session_id = made["SuccessfulList"][0]["Id"]

            async def session() -> dict[str, Any]:
                answer = await broker.client.post("/describeSessions", json={"SessionIds": [session_id]})
                return dict(answer.json()["Sessions"][0])

            async def is_ready() -> bool:
                return bool((await session())["State"] == "READY")

            await until_async(is_ready, 30)
            answer = await broker.client.get(f"/sessionConnectionData/{session_id}/{ME}")
            token = answer.json()["ConnectionToken"]
            endpoint = server["Endpoints"][0]
            assert server["Version"] == "Xvnc"
            assert (endpoint["Protocol"], endpoint["WebUrlPath"]) == ("HTTP", "/")
            trusting = ssl.create_default_context(cafile=place / "state" / "entrance.pem")
            async with websocket(url_of(endpoint["Port"], session_id, token), trusting) as client:
                screen = await client.handshake()
                assert (screen.width, screen.height) == (1280, 720)

                async def is_counted() -> bool:
                    return bool((await session())["NumOfConnections"] == 1)

                await until_async(is_counted, 20)

            async def is_gone() -> bool:
                found = await session()
                return found["NumOfConnections"] == 0 and bool(found.get("LastDisconnectionTime"))

            await until_async(is_gone, 20)
            assert token not in (place / "log" / "agent.log").read_text()


def test_the_hosts_own_certificate_stays_until_its_names_change(tmp_path: Path) -> None:
    now = datetime(2026, 3, 30, tzinfo=UTC)
    certificate, key = own_certificate(tmp_path, ["host", "198.18.0.1"], now)
    assert key.stat().st_mode & 0o777 == 0o600
    first = certificate.read_bytes()
    own_certificate(tmp_path, ["host", "198.18.0.1"], now + timedelta(days=700))
    assert certificate.read_bytes() == first
    own_certificate(tmp_path, ["host", "198.18.0.1"], now + timedelta(days=800))
    second = certificate.read_bytes()
    assert second != first
    own_certificate(tmp_path, ["host", "198.18.0.2"], now + timedelta(days=800))
    assert certificate.read_bytes() != second
