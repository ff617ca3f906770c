"""Command lines of the official client: the request that each must produce, and how it ends."""

import base64
from pathlib import Path
from typing import Any

import pytest

from dcvtui.private_files import replace_private
from tests.awkward_broker import Asked, AwkwardBroker, reply
from tests.commands.recording import Shell, run


@pytest.fixture
def recording(broker: AwkwardBroker) -> AwkwardBroker:
    """Answers everything with empty lists."""

    async def empty(_asked: Asked) -> bytes:
        return reply({"RequestId": "r", "SuccessfulList": [], "UnsuccessfulList": []})

    broker.answer = empty
    return broker


# ------------------------------------------------------------------ official command lines

CREATE = ["create-session", "--name", "n", "--owner", "o"]
CREATED: dict[str, Any] = {"Name": "n", "Owner": "o", "Type": "VIRTUAL"}
BASE64 = base64.b64encode(b"[permissions]\n").decode()

OFFICIAL: list[tuple[list[str], str, str, Any]] = [
    (["describe-servers"], "POST", "/describeServers", {}),
    (["describe-servers", "--server-ids", "a, b"], "POST", "/describeServers", {"ServerIds": ["a", "b"]}),
    (
        ["describe-servers", "--max-results", "5", "--next-token", "t"],
        "POST",
        "/describeServers",
        {"MaxResults": 5, "NextToken": "t"},
    ),
    (["describe-sessions"], "POST", "/describeSessions", {}),
    (
        ["describe-sessions", "--session-ids", "a,b", "--owner", "ana", "--max-results", "1000"],
        "POST",
        "/describeSessions",
        {"SessionIds": ["a", "b"], "Filters": [{"Key": "owner", "Value": "ana"}], "MaxResults": 1000},
    ),
    (["open-servers", "--server-ids", "a"], "POST", "/openServers", [{"ServerId": "a"}]),
    (["close-servers", "--server-ids", "a,b"], "POST", "/closeServers", [{"ServerId": i} for i in "ab"]),
    (
        ["close-servers", "--server-ids", "a", "--force"],
        "POST",
        "/closeServers",
        [{"ServerId": "a", "Force": True}],
    ),
    ([*CREATE, "--type", "Virtual"], "POST", "/createSessions", [CREATED]),
    (
        ["create-session", "--name", " {n} of {owner}", "--owner", "o", "--type", "VIRTUAL"],
        "POST",
        "/createSessions",
        [CREATED | {"Name": " {n} of {owner}"}],
    ),
    ([*CREATE, "--type", "CONSOLE"], "POST", "/createSessions", [CREATED | {"Type": "CONSOLE"}]),
    (
        [
            *[*CREATE, "--type", "VIRTUAL", "--init-file-path", "start.sh", "--autorun-file", "run.sh"],
            *["--autorun-file-arguments", "a b", "--autorun-file-arguments", "c", "--dcv-gl-enabled"],
            *["--permissions-file", BASE64, "--requirements", "server:Host.Os.Family = 'windows'"],
            *["--storage-root", "%home%", "--enqueue-request", "--max-concurrent-clients", "7"],
        ],
        "POST",
        "/createSessions",
        [
            CREATED
            | {
                "InitFile": "start.sh",
                "AutorunFile": "run.sh",
                "AutorunFileArguments": ["a b", "c"],
                "MaxConcurrentClients": 7,
                "DcvGlEnabled": True,
                "PermissionsFile": BASE64,
                "Requirements": "server:Host.Os.Family = 'windows'",
                "StorageRoot": "%home%",
                "EnqueueRequest": True,
            }
        ],
    ),
    *(
        (
            [*CREATE, "--type", "virtual", spelling, "3", "--enqueue-request", "false"],
            "POST",
            "/createSessions",
            [CREATED | {"MaxConcurrentClients": 3}],
        )
        for spelling in ("--max-concurrents-clients", "--max_concurrent-clients")
    ),
    (
        ["delete-session", "--session-id", "s", "--owner", "ana", "--force"],
        "POST",
        "/deleteSessions",
        [{"SessionId": "s", "Owner": "ana", "Force": True}],
    ),
    (
        ["update-session-permissions", "--session-id", "s", "--owner", "ana", "--permission-file", BASE64],
        "PUT",
        "/sessionPermissions",
        [{"SessionId": "s", "Owner": "ana", "PermissionsFile": BASE64}],
    ),
    (
        ["get-session-connection-data", "--session-id", "s", "--user", "CORP\\ana"],
        "GET",
        "/sessionConnectionData/s/CORP%5Cana",
        None,
    ),
    (
        ["get-session-screenshots", "--session-ids", "a,b", "--max-width", "800", "--max-height", "600"],
        "POST",
        "/getSessionScreenshots",
        [{"SessionId": identity, "MaxWidth": 800, "MaxHeight": 600} for identity in ("a", "b")],
    ),
    # Ours: a filter that the broker evaluates, and lists given in any way.
    (
        ["describe-sessions", "--tag", "team=cad", "--tag", "dcv:os=a=b"],
        "POST",
        "/describeSessions",
        {"Filters": [{"Key": "tag:team", "Value": "cad"}, {"Key": "tag:dcv:os", "Value": "a=b"}]},
    ),
    (
        ["open-servers", "--server-ids", "a,b", "--server-ids", "b", "--server-id", "c"],
        "POST",
        "/openServers",
        [{"ServerId": identity} for identity in "abc"],
    ),
    ([*CREATE, "--type", "virtual", "--disable-retry-on-failure"], "POST", "/createSessions",
     [CREATED | {"DisableRetryOnFailure": True}]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "path", "body"), OFFICIAL, ids=lambda value: str(value)[:40])
async def test_each_command_line_produces_its_request(
    recording: AwkwardBroker, line: list[str], method: str, path: str, body: Any
) -> None:
    await run(*line)
    [asked] = recording.asked
    assert (asked.method, asked.path) == (method, path)
    assert (asked.json if asked.body else None) == body
    assert asked.headers["authorization"] == "Bearer token-1"


GLOBAL: list[tuple[list[str], str]] = [
    (["--debug"], "/describeServers"),
    (["--output-format", "json"], "/describeServers"),
    (["--output-format", "json", "--debug"], "/describeServers"),
]


@pytest.mark.parametrize(("options", "path"), GLOBAL)
async def test_global_options_stand_before_the_verb(
    recording: AwkwardBroker, options: list[str], path: str
) -> None:
    assert await run(*options, "describe-servers") == 0
    assert [asked.path for asked in recording.asked] == [path]


@pytest.mark.parametrize("spelling", ["--auth-server", "--auth-server-url"])
async def test_the_token_server_is_named_by_option_or_variable(
    recording: AwkwardBroker, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    url = f"{recording.url}/oauth2/token?grant_type=client_credentials"
    assert await run(spelling, url, "describe-servers") == 0
    monkeypatch.setenv("DCV_SM_AUTH_SERVER_URL", url)
    assert await run("describe-servers") == 0
    paths = [asked.path for asked in recording.token_requests]
    assert paths == ["/oauth2/token?grant_type=client_credentials"] * 2
    assert len(recording.asked) == 2


async def test_with_a_ready_token_none_is_fetched_and_a_401_is_final(
    recording: AwkwardBroker, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.setenv("DCV_SM_OAUTH2_TOKEN", "ready-made")
    monkeypatch.delenv("DCV_SM_CLIENT_ID")
    monkeypatch.delenv("DCV_SM_CLIENT_PASSWORD")
    await shell("describe-servers")
    assert recording.asked[0].headers["authorization"] == "Bearer ready-made"

    async def refused(_asked: Asked) -> bytes:
        return reply({"error": "Invalid access token"}, "401 Unauthorized")

    recording.answer = refused
    await shell("describe-servers", code=254)
    assert len(recording.asked) == 2
    assert recording.token_requests == []
    assert "Invalid access token" in shell.err
    assert "ready-made" not in shell.err


@pytest.mark.parametrize("place", ["--conf", "XDG_CONFIG_HOME"])
async def test_the_official_configuration_file_is_read_as_it_is(
    recording: AwkwardBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell, place: str
) -> None:
    for name in ("DCV_SM_BROKER_URL", "DCV_SM_CLIENT_ID", "DCV_SM_CLIENT_PASSWORD", "DCV_SM_CA_BUNDLE"):
        monkeypatch.delenv(name)
    path = tmp_path / "dcvsmcli.conf"
    text = f"""
[output]
output-format = json
debug = false

[security]
no-verify-ssl = false
ca-bundle = {recording.ca_file.name}

[authentication]
auth-server-url = {recording.url}/oauth2/token?grant_type=client_credentials
client-id = conf-id
client-password = conf%secret

[broker]
url = {recording.url}
"""
    replace_private(path, text.encode())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    options = ["--conf", str(path)] if place == "--conf" else []
    await shell(*options, "describe-servers")
    basic = base64.b64encode(b"conf-id:conf%secret").decode()
    [asked] = recording.token_requests
    assert (asked.path, asked.headers["authorization"]) == (
        "/oauth2/token?grant_type=client_credentials",
        f"Basic {basic}",
    )


async def test_an_option_is_stronger_than_the_environment_and_that_than_the_file(
    recording: AwkwardBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    path = tmp_path / "dcvsmcli.conf"
    text = "[broker]\nurl = https://127.0.0.1:9\n[security]\nca-bundle = none.pem\n"
    replace_private(path, text.encode())
    await shell("--conf", str(path), "describe-servers")
    monkeypatch.setenv("DCV_SM_BROKER_URL", "https://127.0.0.1:9")
    await shell("--conf", str(path), "--broker-url", recording.url, "describe-servers")
    assert len(recording.asked) == 2


RETURN_CODES: list[tuple[list[str], int]] = [
    (["describe-servers"], 0),
    (["--conf", "/no/such/file", "describe-servers"], 1),
    (["describe-everything"], 2),
    (["describe-servers", "--no-such-option"], 2),
    (["delete-session", "--owner", "ana"], 2),
    (["get-session-screenshots"], 2),
    (["describe-servers", "--max-results", "1001"], 252),
    (["describe-servers", "--max-results", "many"], 252),
    ([*CREATE, "--type", "other"], 252),
    ([*CREATE, "--type", "virtual", "--max-concurrent-clients", "101"], 252),
    (["--broker-url", "https://127.0.0.1:9", "--no-verify-ssl", "describe-servers"], 6),
]


@pytest.mark.parametrize(("line", "code"), RETURN_CODES)
async def test_return_codes(recording: AwkwardBroker, line: list[str], code: int) -> None:
    assert await run(*line) == code


async def test_missing_credentials_are_253(
    recording: AwkwardBroker, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.delenv("DCV_SM_CLIENT_PASSWORD")
    await shell("describe-servers", code=253)
    assert shell.err.count("\n") == 1
    assert recording.asked == []


async def test_an_error_of_the_service_is_254(recording: AwkwardBroker, shell: Shell) -> None:
    async def broken(_asked: Asked) -> bytes:
        return reply({"error": "Database is down"}, "500 Internal Server Error")

    recording.answer = broken
    await shell("open-servers", "--server-ids", "a", code=254)
    assert "Database is down" in shell.err
    await shell("get-session-connection-data", "--session-id", "s", "--user", "u", code=254)
    assert "Database is down" in shell.err
