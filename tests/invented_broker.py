"""A broker that only describes: an invented fleet of any size, ready in a moment, over real TLS.

For what has to be counted or timed on the console's side: it runs as a process
of its own, so that its work is not the test's, and answers with bytes that were
encoded beforehand. A line on its standard input changes one session. Everything
else a broker does is tested against the real one, see `tests.running`.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.awkward_broker import Asked, awkward_broker, reply

_PAGE = 1000
_OWNERS = ("ana", "bob", "chloe", "dmitri", "elif", "farid", "grace", "hugo")
_GIB = 1 << 30


class InventedFleet:
    """Servers and sessions by number, as JSON that is only joined."""

    def __init__(self, servers: int, sessions: int) -> None:
        # A fixed distance to now: ages step with the minutes of the console and not between them.
        self._born = datetime.now(UTC) - timedelta(hours=5, seconds=1)
        self._servers = [json.dumps(_server(number)).encode() for number in range(servers)]
        self._connections = [number % 3 for number in range(sessions)]
        self._sessions = [self._session(number) for number in range(sessions)]

    def _session(self, number: int) -> bytes:
        server = number % max(1, len(self._servers))
        moment = self._born - timedelta(days=number % 40)
        session = {
            "Id": session_id(number),
            "Name": session_name(number),
            "Owner": _OWNERS[number % len(_OWNERS)],
            "Type": "VIRTUAL",
            "State": "READY",
            "Server": {name: value for name, value in _server(server).items() if name != "Host"},
            "CreationTime": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "NumOfConnections": self._connections[number],
            "MaxConcurrentClients": 10,
        }
        return json.dumps(session).encode()

    def change(self, number: int) -> None:
        """One more client comes to a session."""
        self._connections[number] += 1
        self._sessions[number] = self._session(number)

    async def answer(self, asked: Asked) -> bytes:
        """Describe servers or sessions: a page, or what is asked for by ids."""
        body = asked.json if asked.body else {}
        kind, entities = (
            ("Servers", self._servers) if "Servers" in asked.path else ("Sessions", self._sessions)
        )
        first = int(body.get("NextToken") or 0)
        if ids := body.get("ServerIds") or body.get("SessionIds"):
            found = [entities[int(one.rpartition("-")[2])] for one in ids]
        else:
            found = entities[first : first + _PAGE]
        token = f',"NextToken":"{first + _PAGE}"' if not ids and first + _PAGE < len(entities) else ""
        content = b'{"%s":[%s]%s}' % (kind.encode(), b",".join(found), token.encode())
        return reply(content=content, headers="Content-Type: application/json\r\n")


def session_id(number: int) -> str:
    """The id of an invented session."""
    return f"3f0c8e0a-1b5c-4e7e-9d2e-{number:012}"


def session_name(number: int) -> str:
    """The name of an invented session; names sort as numbers do."""
    return f"cad-{number:06}"


def _server(number: int) -> dict[str, Any]:
    name = f"gpu-{number:05}"
    return {
        "Id": f"7d1f5b0c-52aa-4d0e-8a54-{number:012}",
        "Ip": "198.51.100.1",
        "Hostname": name,
        "DefaultDnsName": f"{name}.example",
        "Port": "8443",
        "WebUrlPath": "/",
        "Endpoints": [{"IpAddress": "198.51.100.1", "Port": 8443, "Protocol": "HTTP", "WebUrlPath": "/"}],
        "Version": "2025.0.1",
        "SessionManagerAgentVersion": "2025.0.2",
        "Availability": "AVAILABLE",
        "ConsoleSessionCount": 0,
        "VirtualSessionCount": 5,
        "Host": {
            "Os": {"Family": "linux", "Name": "Debian GNU/Linux", "Version": "12"},
            "Memory": {"TotalBytes": 64 * _GIB, "UsedBytes": number % 64 * _GIB},
            "CpuInfo": {"ModelName": "EPYC 7R32", "NumberOfCpus": 16, "Architecture": "x86_64"},
            "CpuLoadAverage": {"OneMinute": number % 16, "FiveMinutes": 1.5, "FifteenMinutes": 1.0},
            "Gpus": [{"Vendor": "NVIDIA", "ModelName": "A10G"}],
        },
        "Tags": [
            {"Key": "dcv:max-virtual-sessions", "Value": "8"},
            {"Key": "rack", "Value": str(number % 40)},
        ],
    }


class InventedBroker:
    """The process, and how a console gets to it."""

    def __init__(self, folder: Path, servers: int, sessions: int) -> None:
        command = [sys.executable, "-m", "tests.invented_broker", str(folder), str(servers), str(sessions)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parent.parent,
        )
        assert self._process.stdout is not None
        self.url, self.ca_file = json.loads(self._process.stdout.readline())

    @property
    def environment(self) -> dict[str, str]:
        """What a console needs to find it."""
        return {
            "DCV_SM_BROKER_URL": self.url,
            "DCV_SM_CA_BUNDLE": self.ca_file,
            "DCV_SM_CLIENT_ID": "id",
            "DCV_SM_CLIENT_PASSWORD": "secret",
        }

    def change(self, number: int) -> None:
        """One more client comes to a session."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")

    def close(self) -> None:
        """End the process: it ends with its standard input."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(20)


@contextlib.contextmanager
def invented_broker(folder: Path, *, servers: int, sessions: int) -> Iterator[InventedBroker]:
    """Run one for the length of the block; everything it writes is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = InventedBroker(folder, servers, sessions)
    try:
        yield broker
    finally:
        broker.close()


async def _serve(folder: Path, servers: int, sessions: int) -> None:
    fleet = InventedFleet(servers, sessions)
    async with awkward_broker(folder, fleet.answer) as broker:
        print(json.dumps([broker.url, str(broker.ca_file)]), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            fleet.change(int(line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("servers", type=int)
    parser.add_argument("sessions", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.folder, given.servers, given.sessions))
