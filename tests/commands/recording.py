"""What tests of commands share: a recording broker with an invented fleet, and how a line is run."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from dcvtui import cli
from tests.awkward_broker import Asked, reply

SERVER = {
    "Id": "srv-1",
    "Hostname": "gpu-1",
    "Ip": "198.51.100.7",
    "Port": "8443",
    "WebUrlPath": "/",
    "Availability": "AVAILABLE",
    "ConsoleSessionCount": 0,
    "VirtualSessionCount": 0,
    "Tags": [{"Key": "team", "Value": "cad"}],
}


def session(number: int, **fields: Any) -> dict[str, Any]:
    """A session as the broker describes it."""
    usual = {
        "Id": f"id-{number}",
        "Name": f"cad-{number}",
        "Owner": "ana",
        "Type": "VIRTUAL",
        "State": "READY",
        "NumOfConnections": 0,
        "CreationTime": "2026-03-01T09:00:00.000Z",
        "Server": SERVER,
    }
    return usual | fields


@dataclass
class Fleet:
    """Answers as a broker with these sessions and servers does; each step of `story` is taken by one look.

    Attributes:
        sessions: what DescribeSessions knows.
        servers: what DescribeServers knows.
        story: changes to a session's or server's fields by its id, one after the other at each look.
        failures: reasons by id, for what the broker refuses to do.
        page: entities a page.
    """

    sessions: list[dict[str, Any]] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    story: list[dict[str, dict[str, Any] | None]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    page: int = 1000

    async def answer(self, asked: Asked) -> bytes:
        """Answer one request."""
        body: Any = asked.json if asked.body else None
        if asked.path == "/describeSessions":
            return reply(self._described("Sessions", self.sessions, body, "SessionIds"))
        if asked.path == "/describeServers":
            return reply(self._described("Servers", self.servers, body, "ServerIds"))
        if asked.path == "/createSessions":
            return reply(self._created(body))
        is_server = "Servers" in asked.path
        key = "ServerId" if is_server else "SessionId"
        data = f"{asked.path[1:].removesuffix('Servers').capitalize()}ServerRequestData"
        done = [
            {key: item[key], **self._state(asked.path)} for item in body if item[key] not in self.failures
        ]
        refused = [
            {
                **({data: {key: item[key]}} if is_server else {key: item[key]}),
                "FailureReason": self.failures[item[key]],
            }
            for item in body
            if item[key] in self.failures
        ]
        return reply({"RequestId": "r", "SuccessfulList": done, "UnsuccessfulList": refused})

    def _state(self, path: str) -> dict[str, str]:
        return {"State": "DELETING"} if path == "/deleteSessions" else {}

    def _described(self, name: str, entities: list[dict[str, Any]], body: Any, key: str) -> dict[str, Any]:
        self._turn_the_page(entities)
        ids = body.get(key)
        found = [one for one in entities if ids is None or one["Id"] in ids]
        first = int(body.get("NextToken", 0))
        size = body.get("MaxResults", self.page)
        page: dict[str, Any] = {"RequestId": f"r{first}", name: found[first : first + size]}
        return page | ({"NextToken": str(first + size)} if first + size < len(found) else {})

    def _turn_the_page(self, entities: list[dict[str, Any]]) -> None:
        for identity, fields in (self.story.pop(0) if self.story else {}).items():
            for one in [one for one in entities if one["Id"] == identity]:
                if fields is None:
                    entities.remove(one)
                else:
                    one.update(fields)

    def _created(self, items: Iterable[dict[str, Any]]) -> dict[str, Any]:
        done = []
        for item in items:
            made = session(
                len(self.sessions) + 1, State="CREATING", **{k: item[k] for k in ("Name", "Owner", "Type")}
            )
            self.sessions.append(made)
            done.append(dict(made))
        return {"RequestId": "r", "SuccessfulList": done, "UnsuccessfulList": []}


async def run(*arguments: str) -> int:
    """Run a command line in a thread, as a command has an event loop of its own."""
    return await asyncio.to_thread(cli.run, list(arguments))


class Shell:
    """Runs command lines and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    async def __call__(self, *line: str, code: int = 0) -> str:
        found = await run(*line)
        printed = self._capsys.readouterr()
        self.err = printed.err
        assert found == code, printed.err
        assert "Traceback" not in printed.err
        return printed.out

    async def json(self, *line: str, code: int = 0) -> Any:
        """The JSON that a line prints."""
        return json.loads(await self(*line, "--output", "json", code=code))
