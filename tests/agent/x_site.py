"""A broker with an agent process on this machine whose sessions run on Xvnc."""

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker_stub.agent.x_session import end_all_sessions
from broker_stub.agent.x_state import SessionFolder, XSession
from tests.agent.small_host import until_async
from tests.agent.x_sessions import ME, passable_place, script
from tests.broker.raw_agent import servers
from tests.running import RunningBroker, running_broker

UPDATE_INTERVAL_S = 10


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
        """A session as the API shows it."""
        answer = await self.broker.client.post("/describeSessions", json={"SessionIds": [session_id]})
        return dict(answer.json()["Sessions"][0])

    async def until(self, session_id: str, state: str, within_s: float = 30) -> None:
        """Wait until the API shows a session in a state."""

        async def is_so() -> bool:
            return bool((await self.session(session_id))["State"] == state)

        await until_async(is_so, within_s)

    async def screenshot(self, session_id: str, width: int = 800, height: int = 600) -> bytes:
        """The picture of the primary monitor."""
        request = [{"SessionId": session_id, "MaxWidth": width, "MaxHeight": height}]
        answer: dict[str, Any] = {}

        async def is_reached() -> bool:
            # A broker shows a host that has just come back some moments before it can ask it anything.
            answer.update((await self.broker.client.post("/getSessionScreenshots", json=request)).json())
            refused = answer["UnsuccessfulList"]
            return not (refused and "not reachable" in refused[0]["FailureReason"])

        await until_async(is_reached, 10)
        assert not answer["UnsuccessfulList"], answer
        (image,) = answer["SuccessfulList"][0]["SessionScreenshot"]["Images"]
        assert image["Primary"]
        return base64.b64decode(image["Data"])

    def on_host(self, session_id: str) -> XSession:
        """The session as its agent has written it down."""
        found = SessionFolder(self.place / "state" / "x" / "sessions" / session_id).read()
        assert found is not None
        return found


@asynccontextmanager
async def site_in(tmp_path: Path, geometry: str = "1024x768") -> AsyncIterator[Site]:
    """A broker that runs, and the file of an agent beside it."""
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
            f"[backend]\ntype = 'xvnc'\nminimum_uid = 0\ngeometry = '{geometry}'\n"
            "[entrance]\naddress = '127.0.0.1'\nport = 0\n"
        )
        try:
            yield site
        finally:
            await end_all_sessions(place / "state" / "x")
