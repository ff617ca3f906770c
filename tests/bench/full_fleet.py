"""A broker that holds a full fleet from its first moment, and what it is measured against, in one process.

Run as `python -m tests.bench.full_fleet FOLDER SERVERS SESSIONS_EACH [lively]`; it says where
it listens as a line of JSON and runs until its standard input ends. Beside the
broker's own listeners there are three of the same kind: one as those are, one for
plain HTTP, and one that asks for no token. Each answers two questions of its own:

- `/floor/BYTES`: a constant body of that size, by an application that does nothing else;
- `/cpu`: seconds of CPU this process has used, and `/stall`: what held its loop up since last asked.

Its clock stands still, so that nothing changes by itself; with `lively` it runs, every
server reports each 30 s, and people come to sessions and leave them.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from broker_stub.agent.process import loop_factory
from broker_stub.broker.coordinator import Coordinator, utc_now
from broker_stub.broker.events import ServerReported, SessionsReported
from broker_stub.broker.front import CLIENT_ACTIONS, Front
from broker_stub.broker.garbage import keep_collections_short
from broker_stub.broker.http_api import HttpApi
from broker_stub.broker.listeners import Listener
from broker_stub.broker.registry import Registry
from broker_stub.broker.rules import rules_of
from broker_stub.broker.service import Broker
from broker_stub.broker.settings_file import load_values
from broker_stub.broker.sockets import open_socket
from tests.bench.large_registry import fleet
from tests.broker.scene import report
from tests.running import broker_values

INTERVAL_S = 30
"""How often each server of a lively fleet reports."""
_BEAT_S = 0.005


class Heartbeat:
    """A task that wants to run every few milliseconds, and notes when it could not."""

    def __init__(self) -> None:
        self._longest_s = self._longest_cpu_s = 0.0

    async def beat(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, cpu = loop.time() + _BEAT_S, time.process_time()
            await asyncio.sleep(_BEAT_S)
            self._longest_s = max(self._longest_s, loop.time() - due)
            self._longest_cpu_s = max(self._longest_cpu_s, time.process_time() - cpu)

    def take(self) -> dict[str, float]:
        """The longest stall since last asked, by the clock and by CPU time, which others cannot disturb."""
        taken = {"stall_s": self._longest_s, "cpu_s": self._longest_cpu_s}
        self._longest_s = self._longest_cpu_s = 0.0
        return taken


class WithFloor:
    """An application with the two questions in front of it."""

    def __init__(self, app: ASGIApp, heartbeat: Heartbeat) -> None:
        self._app = app
        self._heartbeat = heartbeat
        self._bodies: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path.startswith("/floor/"):
            body = self._bodies.get(path)
            if body is None:
                body = self._bodies[path] = b"x" * int(path.removeprefix("/floor/"))
        elif path == "/cpu":
            body = json.dumps(time.process_time()).encode()
        elif path == "/stall":
            body = json.dumps(self._heartbeat.take()).encode()
        else:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class FullBroker(Broker):
    """A broker with a fleet in it; the agents of the fleet exist in its registry only."""

    def __init__(self, folder: Path, servers: int, sessions_each: int, *, is_lively: bool) -> None:
        values = broker_values(
            folder / "broker", max_api_requests_per_second=1_000_000, enable_agent_authorization=False
        )
        settings = load_values(values).settings
        started = utc_now()
        super().__init__(settings, now=utc_now if is_lively else lambda: started)
        self._size = (servers, sessions_each)
        self.heartbeat = Heartbeat()

    async def _restored(self) -> Registry:
        return fleet(*self._size, rules_of(self._settings), self._now())

    async def open_beside(self, app: ASGIApp, *, is_tls: bool) -> str:
        """Serve something on a listener like the broker's own, with the two questions; its address."""
        front = Front(CLIENT_ACTIONS, self.metrics.observe_request)
        front.app = app
        app = WithFloor(front, self.heartbeat)
        socket = open_socket("127.0.0.1", 0)
        own = next(listener.config for listener, _ in self._listeners if listener.config.ssl)
        if is_tls and own.ssl:
            listener = Listener.for_tls(app, own.ssl, 1)
        else:
            options: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_config": None}
            listener = Listener(uvicorn.Config(app, http=own.http, access_log=False, **options))
        await self._serve(listener, socket)
        return f"{'https' if is_tls else 'http'}://127.0.0.1:{socket.getsockname()[1]}"


async def live(coordinator: Coordinator, servers: int, sessions_each: int) -> None:
    """Let every server report its metrics in turn, and one in ten a change of its sessions."""
    loop = asyncio.get_running_loop()
    began, done = loop.time(), 0
    while True:
        wanted = int((loop.time() - began) * servers / INTERVAL_S)
        for number in range(done, wanted):
            tell(coordinator, number % servers, sessions_each, turn=number // servers)
        done = wanted
        await asyncio.sleep(0.01)


def tell(coordinator: Coordinator, number: int, sessions_each: int, turn: int) -> None:
    """One report of one server."""
    server, channel = f"srv-{number:05}", f"c{number}"
    host = {
        "memory": {"totalBytes": 2**35, "usedBytes": 2**33 + number * turn},
        "swap": {"totalBytes": 0, "usedBytes": 0},
        "cpuLoadAverage": {"oneMinute": turn % 9 / 4, "fiveMinutes": 0.5, "fifteenMinutes": 0.25},
    }
    coordinator.apply(ServerReported(server, channel, False, {"host": host}))
    if number % 10 == turn % 10 and sessions_each:
        changed = report(f"x{number}-0", f"user{number * 7 % 5000}", numOfConnections=turn % 3)
        coordinator.apply(SessionsReported(server, channel, False, True, [changed], []))


async def main(folder: str, servers: int, sessions_each: int, *, is_lively: bool) -> None:
    """Run until standard input ends."""
    broker = FullBroker(Path(folder), servers, sessions_each, is_lively=is_lively)
    await broker.start()
    client_id, _ = await broker.tokens.register_client("bench")
    api: HttpApi = await Broker._client_app(broker)
    api.change_rules(replace(api._rules, needs_token=False))
    notice = {
        "url": await broker.open_beside(broker.client_app, is_tls=True),
        "agent_url": broker.agent_url,
        "ca_file": str(broker.ca_file),
        "token": broker.tokens.issue_access(client_id)[0],
        "plain_url": await broker.open_beside(broker.client_app, is_tls=False),
        "free_url": await broker.open_beside(api, is_tls=True),
    }
    sparing = keep_collections_short(arrived_s=1)
    tasks = [asyncio.create_task(broker.heartbeat.beat()), asyncio.create_task(sparing)]
    if is_lively:
        tasks.append(asyncio.create_task(live(broker.coordinator, servers, sessions_each)))
    sys.stdout.write(json.dumps(notice) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await broker.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        where, servers, sessions, *rest = sys.argv[1:]
        runner.run(main(where, int(servers), int(sessions), is_lively="lively" in rest))
