"""An agent process whose sessions run on Xvnc, seen through the API: from a request to a person's screen."""

import asyncio
import io
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
from PIL import Image as Pictures
from websockets.exceptions import ConnectionClosed

from broker_stub.agent.x_state import SessionFolder
from tests.agent.agent_program import running, start
from tests.agent.small_host import until_async
from tests.agent.vnc_client import url_of, websocket
from tests.agent.x_sessions import ME, needs_xvnc, nothing_is_left, script
from tests.agent.x_site import UPDATE_INTERVAL_S, site_in

pytestmark = needs_xvnc


async def test_a_person_gets_from_the_api_to_the_screen(tmp_path: Path) -> None:
    """The connection data of a session lead through the entrance of its host to its screen, the API
    counts the client, and what the entrance shows is the host's own certificate."""
    async with site_in(tmp_path) as site, running(site.config):
        server = await site.server()
        session_id = await site.create()
        answer = await site.broker.client.get(f"/sessionConnectionData/{session_id}/{ME}")
        token = answer.json()["ConnectionToken"]
        endpoint = server["Endpoints"][0]
        assert server["Version"] == "Xvnc"
        assert (endpoint["Protocol"], endpoint["WebUrlPath"]) == ("HTTP", "/")
        assert endpoint["IpAddress"] == "127.0.0.1"
        trusting = ssl.create_default_context(cafile=site.place / "state" / "entrance.pem")
        async with websocket(url_of(endpoint["Port"], session_id, token), trusting) as client:
            screen = await client.handshake()
            assert (screen.width, screen.height) == (1024, 768)

            async def is_counted() -> bool:
                return bool((await site.session(session_id))["NumOfConnections"] == 1)

            await until_async(is_counted, 20)

        async def is_gone() -> bool:
            found = await site.session(session_id)
            return found["NumOfConnections"] == 0 and bool(found.get("LastDisconnectionTime"))

        await until_async(is_gone, 20)
        assert token not in (site.place / "log" / "agent.log").read_text()


@pytest.mark.covers("S23", "S27")
async def test_the_end_of_a_session_on_its_host_shows_in_the_api_by_itself(tmp_path: Path) -> None:
    """A session whose program ends, and one whose X server is killed, are shown as deleted within two
    update periods without anybody asking for it; a third one is as it was."""
    async with site_in(tmp_path) as site, running(site.config):
        await site.server()
        ended, killed, stays = [await site.create() for _ in range(3)]
        os.kill(site.on_host(ended).init.pid, signal.SIGTERM)
        await site.until(ended, "DELETED", 2 * UPDATE_INTERVAL_S)
        os.kill(site.on_host(killed).x_server.pid, signal.SIGKILL)
        await site.until(killed, "DELETED", 2 * UPDATE_INTERVAL_S)
        assert (await site.session(stays))["State"] == "READY"
        assert await site.screenshot(stays)


@pytest.mark.covers("S24", "G43")
async def test_sessions_outlive_a_killed_agent_and_are_the_same_for_the_api(tmp_path: Path) -> None:
    """An agent is killed, and another one starts: the API shows the same sessions with the same creation
    times as ready again, on the same displays, and takes their screenshots."""
    async with site_in(tmp_path) as site:
        agent = await start(site.config)
        await site.server()
        ids = [await site.create() for _ in range(2)]
        before = {one: (await site.session(one), site.on_host(one)) for one in ids}
        agent.kill()
        await agent.communicate()
        await site.until(ids[0], "UNKNOWN")
        async with running(site.config):
            await site.server()
            for one in ids:
                await site.until(one, "READY")
                found, on_host = await site.session(one), site.on_host(one)
                assert found["CreationTime"] == before[one][0]["CreationTime"]
                assert on_host.display == before[one][1].display
                assert on_host.x_server == before[one][1].x_server
                with Pictures.open(io.BytesIO(await site.screenshot(one))) as picture:
                    assert picture.size == (800, 600)


@pytest.mark.covers("S26")
async def test_a_deleted_session_leaves_nothing_on_its_host_within_ten_seconds(tmp_path: Path) -> None:
    """Deleted through the API, a session with programs that do not want to end is gone from its host ten
    seconds later: no process, no socket, no lock, no folder."""
    async with site_in(tmp_path) as site, running(site.config):
        await site.server()
        script(
            site.place / "init" / "deaf.sh", "trap '' TERM\nsetsid sleep 600 &\nwhile :; do sleep 0.05; done"
        )
        session_id = await site.create(InitFile="deaf.sh")
        folder = SessionFolder(site.place / "state" / "x" / "sessions" / session_id)
        display = site.on_host(session_id).display
        began = asyncio.get_running_loop().time()
        request = [{"SessionId": session_id, "Owner": ME}]
        assert (await site.broker.client.post("/deleteSessions", json=request)).json()["SuccessfulList"]
        await site.until(session_id, "DELETED")
        assert nothing_is_left(folder, display)
        assert asyncio.get_running_loop().time() - began < 10


async def test_a_taken_port_is_said_with_the_key_that_helps(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with site_in(tmp_path) as site:
            port = taken.getsockname()[1]
            site.config.write_text(site.config.read_text().replace("port = 0", f"port = {port}"))
            agent = await start(site.config)
            await agent.communicate()
            assert agent.returncode == 1
            log = (site.place / "log" / "agent.log").read_text()
            assert f"Port {port} is taken" in log
            assert "entrance.port" in log


async def test_who_was_connected_through_a_killed_agent_has_left_for_the_next_one(tmp_path: Path) -> None:
    """An agent is killed while somebody looks: the session goes on, and the next agent reports nobody
    connected, and when the last one left."""
    async with site_in(tmp_path) as site:
        agent = await start(site.config)
        endpoint = (await site.server())["Endpoints"][0]
        session_id = await site.create()
        answer = await site.broker.client.get(f"/sessionConnectionData/{session_id}/{ME}")
        url = url_of(endpoint["Port"], session_id, answer.json()["ConnectionToken"])
        with pytest.raises(ConnectionClosed):
            async with websocket(url) as client:
                await client.handshake()

                async def is_counted() -> bool:
                    return bool((await site.session(session_id))["NumOfConnections"] == 1)

                await until_async(is_counted, 20)
                agent.kill()
                await agent.communicate()
                while True:
                    await client.read(1)
        await site.until(session_id, "UNKNOWN")
        async with running(site.config):

            async def has_left() -> bool:
                found = await site.session(session_id)
                return bool(found["State"] == "READY" and found["NumOfConnections"] == 0)

            await until_async(has_left, 30)
            assert (await site.session(session_id))["LastDisconnectionTime"]
