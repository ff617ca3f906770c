"""An agent process whose sessions run on Xvnc, seen through the API: from a request to a person's screen."""

import asyncio
import base64
import io
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image as Pictures

from broker_stub.agent.x_session import end_all_sessions
from broker_stub.agent.x_state import SessionFolder, XSession
from tests.agent.agent_program import running, start
from tests.agent.small_host import until_async
from tests.agent.vnc_client import url_of, websocket
from tests.agent.x_sessions import ME, needs_xvnc, nothing_is_left, passable_place, script
from tests.broker.raw_agent import servers
from tests.running import RunningBroker, running_broker

pytestmark = needs_xvnc

UPDATE_INTERVAL_S = 3


@dataclass
class Site:
    """A broker and a host beside it."""

    broker: RunningBroker
    place: Path

    @property
    def config(self) -> Path:
        return self.place / "agent.conf"

    async def server(self) -> dict[str, Any]:
        """The host as the API shows it, once it can take sessions."""
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            found.update(await servers(self.broker))
            return any(one["Availability"] == "AVAILABLE" for one in found.values())

        await until_async(is_there, 30)
        (server,) = found.values()
        return dict(server)

    async def create(self, **more: Any) -> str:
        """Create a session and wait until it is ready; its id."""
        request = {"Name": "cad", "Owner": ME, "Type": "VIRTUAL", "InitFile": "stay.sh"} | more
        made = (await self.broker.client.post("/createSessions", json=[request])).json()
        session_id = str(made["SuccessfulList"][0]["Id"])
        await self.until(session_id, "READY")
        return session_id

    async def session(self, session_id: str) -> dict[str, Any]:
        answer = await self.broker.client.post("/describeSessions", json={"SessionIds": [session_id]})
        return dict(answer.json()["Sessions"][0])

    async def until(self, session_id: str, state: str, within_s: float = 30) -> None:
        async def is_so() -> bool:
            return bool((await self.session(session_id))["State"] == state)

        await until_async(is_so, within_s)

    async def screenshot(self, session_id: str) -> bytes:
        """The picture of the primary monitor."""
        request = [{"SessionId": session_id, "MaxWidth": 800, "MaxHeight": 600}]
        answer = (await self.broker.client.post("/getSessionScreenshots", json=request)).json()
        (image,) = answer["SuccessfulList"][0]["SessionScreenshot"]["Images"]
        assert image["Primary"]
        return base64.b64decode(image["Data"])

    def on_host(self, session_id: str) -> XSession:
        """The session as its agent has written it down."""
        found = SessionFolder(self.place / "state" / "x" / "sessions" / session_id).read()
        assert found is not None
        return found


@asynccontextmanager
async def site_in(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(passable_place())
        broker = await stack.enter_async_context(
            running_broker(tmp_path / "b", rules={"agent_loss_grace_s": 0.5})
        )
        parts = urlsplit(broker.agent_url)
        (place / "init").mkdir()
        script(place / "init" / "stay.sh", "exec sleep 600")
        site = Site(broker, place)
        site.config.write_text(
            "version = '0.1'\n[agent]\nbroker_host = '127.0.0.1'\n"
            f"broker_port = {parts.port}\nca_file = '{broker.ca_file}'\n"
            f"broker_update_interval = {UPDATE_INTERVAL_S}\nmax_concurrent_sessions_per_user = 9\n"
            f"tags_folder = '{place}/tags'\ninit_folder = '{place}/init'\n"
            f"[log]\ndirectory = '{place}/log'\n[state]\ndirectory = '{place}/state'\n"
            "[backend]\ntype = 'xvnc'\nminimum_uid = 0\ngeometry = '1024x768'\n"
            "[entrance]\naddress = '127.0.0.1'\nport = 0\n"
        )
        try:
            yield site
        finally:
            await end_all_sessions(place / "state" / "x")


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


@pytest.mark.covers("S23", "S27", "G12")
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
