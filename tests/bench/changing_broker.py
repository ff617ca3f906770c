"""A real broker whose hosts are made up in its own process, and of whose sessions some change all the time.

Run as `python -m tests.bench.changing_broker FOLDER SESSIONS CHANGES`: so many
sessions, of which so many change each second once a line has come on standard
input. It prints where it is as one line of JSON and ends with its input.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from broker_stub.broker.events import AgentConnected, SessionsReported
from broker_stub.broker.service import Broker
from broker_stub.broker.settings_file import load_values
from tests.broker.scene import report, server_block
from tests.running import broker_values

_EACH = 50
_STEPS = 10
"""A second's changes come in so many parts, as those of many hosts would."""


def sessions_of(server: int, round_number: int = 0) -> list[dict[str, Any]]:
    """What a made-up host reports."""
    return [
        report(
            f"{server:08x}-0000-4000-8000-{number:012x}",
            "ana",
            name=f"cad-{server:03}-{number:02}",
            numOfConnections=(number + round_number) % 5,
            creationTime="2026-03-30T10:00:00.000Z",
        )
        for number in range(_EACH)
    ]


async def run(folder: Path, sessions: int, changes: int) -> None:
    """Run until standard input ends."""
    settings = load_values(broker_values(folder, enable_authorization="false")).settings
    broker = Broker(settings)
    await broker.start()
    servers = sessions // _EACH
    for server in range(servers):
        said = {
            "epoch": 1,
            "instanceId": f"i{server}",
            "machineFingerprint": f"m{server}",
            "agentVersion": "1",
            "capabilities": ["virtual"],
            "server": server_block(hostname=f"gpu-{server:05}"),
            "sessions": sessions_of(server),
            "updateIntervalSeconds": 3600,
        }
        await broker.coordinator.apply(AgentConnected(f"srv-{server:05}", f"c{server}", said))
    print(json.dumps({"url": broker.client_url, "ca_file": str(broker.ca_file)}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    changing = asyncio.create_task(_change(broker, servers, changes // _STEPS))
    await asyncio.to_thread(sys.stdin.read)
    changing.cancel()
    await broker.stop()


async def _change(broker: Broker, servers: int, changes: int) -> None:
    """Change sessions here and there, a few of each host."""
    place = 0
    while True:
        for _ in range(changes):
            server, number = place % servers, place // servers
            session = sessions_of(server, number // _EACH + 1)[number % _EACH]
            event = SessionsReported(f"srv-{server:05}", f"c{server}", full=False, changed=[session])
            await broker.coordinator.apply(event)
            place += 1
        await asyncio.sleep(1 / _STEPS)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
