"""The commands against the real broker with a simulated fleet behind it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dcvtui import cli
from dcvtui.client import BrokerClient
from tests.running_fleet import RunningFleet, running_fleet


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningFleet]:
    """A fleet that stands still, and an environment that leads to it."""
    async with running_fleet(tmp_path) as running:
        connection = running.connection()
        assert connection.credentials is not None
        monkeypatch.setenv("DCV_SM_BROKER_URL", connection.url)
        monkeypatch.setenv("DCV_SM_CLIENT_ID", connection.credentials.client_id)
        monkeypatch.setenv("DCV_SM_CLIENT_PASSWORD", connection.credentials.client_secret)
        monkeypatch.setenv("DCV_SM_CA_BUNDLE", str(connection.trust.ca_file))
        yield running


class Shell:
    """Runs command lines and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *line: str, code: int = 0) -> str:
        found = await asyncio.to_thread(cli.run, list(line))
        printed = self._capsys.readouterr()
        assert found == code, printed.err
        return printed.out

    async def json(self, *line: str, code: int = 0) -> Any:
        return json.loads(await self(*line, "--output", "json", code=code))

    async def until_state(self, session_id: str, state: str) -> None:
        line = ["describe-sessions", "--session-ids", session_id, "--output", "csv"]
        async with asyncio.timeout(20):
            while state not in await self(*line):  # noqa: ASYNC110  the broker is asked, it has no event
                await asyncio.sleep(0.05)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


async def test_a_session_lives_from_create_to_delete(fleet: RunningFleet, shell: Shell) -> None:
    permissions = base64.b64encode(b"[permissions]\n%owner% allow builtin\n").decode()
    created = await shell.json(
        *["create-session", "--name", "cad-new", "--owner", "ana", "--type", "virtual", "--enqueue-request"],
        *["--permissions-file", permissions],
    )
    [session] = created["SuccessfulList"]
    assert (session["Name"], session["State"], created["UnsuccessfulList"]) == ("cad-new", "CREATING", [])
    await shell.until_state(session["Id"], "READY")

    table = await shell("describe-sessions", "--session-ids", session["Id"], "--output", "table")
    head, row = table.splitlines()
    assert head.split() == ["NAME", "OWNER", "TYPE", "STATE", "SERVER", "CLIENTS", "AGE", "ID"]
    assert row.split()[:4] == ["cad-new", "ana", "VIRTUAL", "READY"]

    sent = await shell.json(
        *["update-session-permissions", "--session-id", session["Id"], "--permission-file", permissions]
    )
    assert sent["SuccessfulList"] == [{"SessionId": session["Id"]}]

    line = ["get-session-connection-data", "--session-id", session["Id"], "--user", "bob"]
    data = await shell.json(*line)
    server = data["Session"]["Server"]
    links = await shell(*line, "--output", "table")
    assert f"https://{server['Ip']}:{server['Port']}" in links
    assert f"#{session['Id']}" in links

    shots = await shell.json("get-session-screenshots", "--session-ids", session["Id"], "--max-width", "200")
    [image] = shots["SuccessfulList"][0]["SessionScreenshot"]["Images"]
    assert base64.b64decode(image["Data"]).startswith((b"\x89PNG", b"\xff\xd8"))

    # The owner is looked up.
    deleted = await shell.json("delete-session", "--session-id", session["Id"])
    assert deleted["SuccessfulList"] == [{"SessionId": session["Id"], "State": "DELETING"}]
    await shell.until_state(session["Id"], "DELETED")
    again = await shell.json("delete-session", "--session-id", session["Id"], code=3)
    assert again["UnsuccessfulList"][0]["FailureReason"] == "The requested dcvSession does not exist"


async def test_lists_are_the_brokers_in_every_format(fleet: RunningFleet, shell: Shell) -> None:
    sessions = await fleet.sessions()
    everything = await shell.json("describe-sessions")
    assert [session["Id"] for session in everything["Sessions"]] == [session["Id"] for session in sessions]
    assert everything["RequestId"]
    ids = await shell("describe-sessions", "--output", "ids")
    assert ids.splitlines() == [session["Id"] for session in sessions]
    servers = await shell("describe-servers", "--output", "tsv", "--columns", "name,state", "--sort", "name")
    assert [row.split("\t")[0] for row in servers.splitlines()[1:]] == sorted(await fleet.servers())
    owner = sessions[0]["Owner"]
    owned = await shell.json("describe-sessions", "--owner", owner)
    assert {session["Owner"] for session in owned["Sessions"]} == {owner}


async def test_pages_of_the_real_broker_are_joined(fleet: RunningFleet) -> None:
    async with BrokerClient.to(fleet.connection()) as client:
        found = [session["Id"] async for page in client.sessions(max_results=3) for session in page]
        assert found == [session["Id"] for session in await fleet.sessions()]
        assert client.broker_time is not None


async def test_servers_are_closed_and_opened(fleet: RunningFleet, shell: Shell) -> None:
    servers = await fleet.servers()
    busy = next(s for s in servers.values() if s["VirtualSessionCount"] and s["Availability"] == "AVAILABLE")
    line = ["close-servers", "--server-ids", busy["Id"]]
    refused = await shell("--output", "table", *line, code=3)
    assert "Dcv server has running sessions." in refused
    await shell(*line, "--force")
    states = ["describe-servers", "--server-ids", busy["Id"], "--output", "csv", "--columns", "state"]
    assert await shell(*states) == "state\nSERVER_CLOSED\n"
    await shell("open-servers", "--server-ids", busy["Id"])
    assert await shell(*states) == "state\nAVAILABLE\n"
    await shell(*line[:-1], "no-such-server", code=3)


async def test_a_session_that_cannot_be_placed_is_the_brokers_word(fleet: RunningFleet, shell: Shell) -> None:
    answer = await shell.json(
        *["create-session", "--name", "n", "--owner", "ana", "--type", "VIRTUAL"],
        *["--requirements", "tag:colour = 'none'"],
        code=3,
    )
    assert answer["UnsuccessfulList"][0]["FailureReason"] == "no dcv server found for placement"


async def test_wrong_credentials_are_254_and_say_so(
    fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCV_SM_CLIENT_PASSWORD", "wrong")
    assert await asyncio.to_thread(cli.run, ["describe-servers"]) == 254
    assert "does not accept the client id or the client secret" in capsys.readouterr().err
    monkeypatch.setenv("DCV_SM_OAUTH2_TOKEN", "wrong")
    assert await asyncio.to_thread(cli.run, ["describe-servers"]) == 254
    assert "Invalid access token" in capsys.readouterr().err
