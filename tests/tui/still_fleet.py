"""A broker over real TLS with a fleet that is always the same, at a time that is always the same.

Screens made from it can be compared letter by letter. What an operator does is
carried out on the fleet in memory.
"""

import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcvtui.client import BrokerClient
from dcvtui.config import Connection, Credentials
from dcvtui.trust import Trust
from dcvtui.tui.app import ConsoleApp, ConsoleOptions
from tests.awkward_broker import Asked, AwkwardBroker, HangUp, awkward_broker, reply

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
_OWNERS = ("ana", "bob", "chloe", "dmitri", "elif", "CORP\\farid")
_GIB = 1 << 30


def grey_picture(shade: int) -> str:
    """A small screen in one shade of grey, as the broker sends it."""
    output = BytesIO()
    Image.new("RGB", (320, 180), (shade, shade, shade)).save(output, "PNG")
    return base64.b64encode(output.getvalue()).decode()


def _server(number: int, reason: str = "", **fields: Any) -> dict[str, Any]:
    name = f"gpu-{number:03}"
    return {
        "Id": f"srv-{number:03}",
        "Ip": f"198.51.100.{number}",
        "Hostname": name,
        "DefaultDnsName": f"{name}.example",
        "Port": "8443",
        "WebUrlPath": "/",
        "Endpoints": [
            {"IpAddress": f"198.51.100.{number}", "Port": 8443, "Protocol": "HTTP", "WebUrlPath": "/"}
        ],
        "Version": "2025.0.1",
        "SessionManagerAgentVersion": "2025.0.2",
        "Availability": "UNAVAILABLE" if reason else "AVAILABLE",
        **({"UnavailabilityReason": reason} if reason else {}),
        "ConsoleSessionCount": 0,
        "VirtualSessionCount": 4,
        "Host": {
            "Os": {
                "Family": "linux",
                "Name": "Debian GNU/Linux",
                "Version": "12",
                "KernelVersion": "6.1.0-18",
            },
            "Memory": {"TotalBytes": 64 * _GIB, "UsedBytes": number * _GIB},
            "CpuInfo": {"ModelName": "EPYC 7R32", "NumberOfCpus": 16, "Architecture": "x86_64"},
            "CpuLoadAverage": {"OneMinute": number / 4, "FiveMinutes": 1.5, "FifteenMinutes": 1.0},
            "Gpus": [{"Vendor": "NVIDIA", "ModelName": "A10G"}],
        },
        "Tags": [
            {"Key": "dcv:max-virtual-sessions", "Value": "6"},
            {"Key": "rack", "Value": str(number % 3)},
        ],
    } | fields


def _session(number: int, server: dict[str, Any] | None, **fields: Any) -> dict[str, Any]:
    owner = _OWNERS[number % len(_OWNERS)]
    session = {
        "Id": f"3f0c8e0a-1b5c-4e7e-9d2e-{number:012}",
        "Name": f"cad-{owner.rpartition(chr(92))[2]}-{number}",
        "Owner": owner,
        "Type": "VIRTUAL",
        "State": "READY",
        "CreationTime": _stamp(NOW - timedelta(hours=number * 3, minutes=7)),
        "NumOfConnections": number % 3,
    }
    if server is not None:
        session["Server"] = {name: value for name, value in server.items() if name != "Host"}
    return session | fields


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class StillFleet:
    """The fleet, and the ways a test can disturb it."""

    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_away: bool = False
    answer_once: bytes | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Twelve servers and thirty sessions, some in trouble."""
        reasons = {3: "UNREACHABLE_AGENT", 5: "SERVER_FULL", 8: "SERVER_CLOSED"}
        for number in range(1, 13):
            server = _server(number, reasons.get(number, ""))
            self.servers[server["Id"]] = server
        servers = list(self.servers.values())
        for number in range(30):
            self.add(_session(number, servers[number % len(servers)]))
        reason = "The agent of the dcv server is not reachable"
        for number in (2, 14, 26):
            self.session(number).update(State="UNKNOWN", StateReason=reason)
        waiting = _session(
            90, None, State="CREATING", Substate="SESSION_PLACING", Name="class-1", Owner="bob"
        )
        waiting["CreationTime"] = _stamp(NOW - timedelta(minutes=9))
        waiting.pop("NumOfConnections")
        self.add(waiting)
        self.add(_session(91, servers[0], State="DELETED", Name="old-ana-1"))

    def add(self, session: dict[str, Any]) -> None:
        """A session appears."""
        self.sessions[session["Id"]] = session

    def session(self, number: int) -> dict[str, Any]:
        """One of the sessions."""
        return self.sessions[f"3f0c8e0a-1b5c-4e7e-9d2e-{number:012}"]

    async def answer(self, asked: Asked) -> bytes:
        """Answer as a broker does."""
        if self.is_away:
            raise HangUp
        if self.answer_once is not None:
            answer, self.answer_once = self.answer_once, None
            return answer
        body = asked.json if asked.body else None
        self.asked.append((asked.path, body))
        return reply(self._reply(asked.path, body), headers=f"Date: {NOW:%a, %d %b %Y %H:%M:%S GMT}\r\n")

    def _reply(self, path: str, body: Any) -> Any:
        match path:
            case "/health":  # a broker that offers nothing but the published operations
                return {"status": "UP"}
            case "/describeServers":
                return {"Servers": _asked_for(self.servers, body.get("ServerIds"))}
            case "/describeSessions":
                return {"Sessions": _asked_for(self.sessions, body.get("SessionIds"))}
            case "/deleteSessions":
                return self._delete(body)
            case "/openServers" | "/closeServers":
                return {"RequestId": "r-2", "SuccessfulList": body, "UnsuccessfulList": []}
            case "/health":
                return {"status": "ok"}
            case "/getSessionScreenshots":
                return self._pictures(body)
        if path.startswith("/sessionConnectionData/"):
            return {"Session": self.sessions[path.split("/")[2]], "ConnectionToken": "token.of.connection"}
        raise AssertionError(path)

    def _pictures(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Each session has a picture of its own grey; two displays where its number can be parted by five."""
        done = []
        for item in items:
            number = int(item["SessionId"][-12:])
            images = [
                {
                    "Format": "png",
                    "Data": grey_picture(shade),
                    "CreationTime": _stamp(NOW),
                    "Primary": not place,
                }
                for place, shade in enumerate((number * 8 % 256, 255)[: 1 + (number % 5 == 0)])
            ]
            done.append({"SessionScreenshot": {"SessionId": item["SessionId"], "Images": images}})
        return {"RequestId": "r-3", "SuccessfulList": done, "UnsuccessfulList": []}

    def _delete(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        done, failed = [], []
        for item in items:
            session = self.sessions[item["SessionId"]]
            if session["State"] == "UNKNOWN" and not item.get("Force"):
                reason = "The agent of the dcv server is not reachable"
                failed.append({"SessionId": item["SessionId"], "FailureReason": reason})
                continue
            session["State"] = "DELETING"
            done.append({"SessionId": item["SessionId"], "State": "DELETING"})
        return {"RequestId": "r-1", "SuccessfulList": done, "UnsuccessfulList": failed}


def _asked_for(entities: dict[str, Any], ids: list[str] | None) -> list[Any]:
    return [entities[one] for one in ids if one in entities] if ids else list(entities.values())


@dataclass
class StillConsole:
    """A console on a still fleet, not yet running."""

    fleet: StillFleet
    broker: AwkwardBroker
    app: ConsoleApp


@contextlib.asynccontextmanager
async def still_console(
    folder: Path, options: ConsoleOptions | None = None, fleet: StillFleet | None = None, **connection: Any
) -> AsyncIterator[StillConsole]:
    """A console that believes to talk to `broker.example`."""
    fleet, credentials = fleet or StillFleet(), Credentials("id", "secret")
    async with awkward_broker(folder, fleet.answer) as broker:
        named = Connection("prod-eu", "https://broker.example:8443", credentials, **connection)

        def client(_connection: Connection) -> BrokerClient:
            return BrokerClient(broker.url, credentials, Trust(ca_file=broker.ca_file))

        yield StillConsole(fleet, broker, ConsoleApp(named, options, client=client))


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clock times on the screens do not depend on where the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
