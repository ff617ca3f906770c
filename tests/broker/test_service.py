"""The broker as a program: start, stop, kill and restart, administration, trouble with the store."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sqlite3
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from broker_stub.broker.events import AgentConnected, ServerReported
from broker_stub.broker.settings_file import SettingsError
from broker_stub.broker.sockets import ListenError, local_url, open_socket, short_path
from broker_stub.broker.working_path import prepare_working_path
from tests.broker_process import BrokerProcess, broker_command, broker_process, write_config
from tests.hosts import B, running_hosts
from tests.running import RunningBroker, running_broker

QUEUED = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}


async def register(config: Path, name: str = "console") -> tuple[str, str]:
    status, output, errors = await broker_command("register-api-client", "--config", config, "-cn", name)
    assert status == 0, errors
    found = re.search(r"client-id: (\S+)\n client-password: (\S+)\n\Z", output)
    assert found
    return found[1], found[2]


async def token_for(broker: BrokerProcess, credentials: tuple[str, str]) -> str:
    async with broker.client() as client:
        answer = await client.post("/oauth2/token?grant_type=client_credentials", auth=credentials)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


async def post(broker: BrokerProcess, token: str, operation: str, body: Any) -> dict[str, Any]:
    async with broker.client(token) as client:
        answer = await client.post(f"/{operation}", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


# ------------------------------------------------------------------ start and stop


@pytest.mark.covers("B37", "C30", "C49")
async def test_kill_minus_9_forgets_nothing(tmp_path: Path) -> None:
    """After kill -9 API clients, queued and deleted sessions, tokens and page tokens are as they were."""
    config = write_config(tmp_path)
    async with broker_process(config) as broker:
        credentials = await register(config)
        token = await token_for(broker, credentials)
        answer = await post(broker, token, "createSessions", [QUEUED, {**QUEUED, "Owner": "bob"}])
        alice, bob = (session["Id"] for session in answer["SuccessfulList"])
        before = await post(broker, token, "describeSessions", {})
        page = await post(broker, token, "describeSessions", {"MaxResults": 1})
        await post(broker, token, "deleteSessions", [{"SessionId": bob, "Owner": "bob"}])
        assert await broker.stop(signal.SIGKILL) == -signal.SIGKILL
    async with broker_process(config) as broker:
        after = await post(broker, token, "describeSessions", {})
        unchanged = {session["Id"]: session for session in before["Sessions"]}[alice]
        found = {session["Id"]: session for session in after["Sessions"]}
        assert found[alice] == unchanged
        assert found[bob]["State"] == "DELETED"
        rest = await post(broker, token, "describeSessions", {"NextToken": page["NextToken"]})
        assert [session["Id"] for session in rest["Sessions"]] == [before["Sessions"][1]["Id"]]
        assert await token_for(broker, credentials)
        assert (await post(broker, token, "createSessions", [QUEUED]))["SuccessfulList"]


@pytest.mark.covers("B47")
async def test_sigterm_ends_with_status_0(tmp_path: Path) -> None:
    """SIGTERM and SIGINT end the broker with status 0, idle connections or not."""
    for number in (signal.SIGTERM, signal.SIGINT):
        async with broker_process(write_config(tmp_path)) as broker:
            async with broker.client() as client:  # a connection kept alive does not hold the stop up
                assert (await client.get("/health")).status_code == 200
                assert await broker.stop(number) == 0
    assert not (tmp_path / "broker" / "admin.sock").exists()


@pytest.mark.covers("B3")
async def test_all_configuration_errors_at_once(tmp_path: Path) -> None:
    """All errors of the configuration are printed together, with status 78 and nothing on standard output."""
    config = write_config(
        tmp_path, "enable-authorization = perhaps\nsession-screenshot-format = bmp\nfoo = 1\n"
    )
    status, output, errors = await broker_command("start", "--config", config)
    assert (status, output) == (78, "")
    lines = errors.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") and line.endswith(".") for line in lines)
    config.chmod(0o644)
    status, _, errors = await broker_command("start", "--config", config)
    assert (status, len(errors.splitlines())) == (78, 3)
    status, _, errors = await broker_command("start", "--config", tmp_path / "nothing")
    assert (status, len(errors.splitlines())) == (78, 1)


async def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config(tmp_path, client_to_broker_connector_https_port=port)
        status, _, errors = await broker_command("start", "--config", config)
    assert status == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use." in errors
    assert "Traceback" not in errors


async def test_a_second_broker_in_one_working_path_is_refused(tmp_path: Path) -> None:
    async with running_broker(tmp_path):
        status, _, errors = await broker_command("start", "--config", write_config(tmp_path))
    assert status == 1
    assert "Another broker is running" in errors
    assert "Traceback" not in errors


@pytest.mark.covers("B7")
async def test_the_working_path_is_for_the_broker_alone(tmp_path: Path) -> None:
    """The working path is made with mode 0700; one that others can read is refused."""
    path = tmp_path / "a" / "b"
    prepare_working_path(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o755)
    with pytest.raises(SettingsError, match="mode 0755"):
        prepare_working_path(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        prepare_working_path(tmp_path / "file")


async def test_the_database_may_lie_elsewhere(tmp_path: Path) -> None:
    settings = {
        "enable_persistence": "true",
        "persistence_db": "sqlite",
        "jdbc_connection_url": f"jdbc:sqlite:{tmp_path / 'elsewhere.db'}",
    }
    for _ in range(2):
        async with running_broker(tmp_path, None, **settings) as broker:
            await broker.broker.tokens.register_client("again", allow_duplicate=True)
            clients = len(broker.broker.tokens.clients.all())
    assert clients == 4
    async with running_broker(tmp_path, None, **settings):
        (tmp_path / "other").mkdir()
        with pytest.raises(ListenError, match="Another broker is running with the database"):
            async with running_broker(tmp_path / "other", None, **settings):
                pass
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "broker" / "broker.db").exists()


async def test_the_database_of_a_newer_broker_is_left_alone(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with running_broker(tmp_path) as broker:
        assert broker.url
    with contextlib.closing(sqlite3.connect(tmp_path / "broker" / "broker.db")) as database, database:
        database.execute("UPDATE schema_version SET version = 9999")
    status, _, errors = await broker_command("start", "--config", config)
    assert status == 78, errors
    assert "Traceback" not in errors


# ------------------------------------------------------------------ listeners


@pytest.mark.covers("B8")
async def test_the_certificate_holds_for_every_name_and_the_chain_has_the_ca(tmp_path: Path) -> None:
    """Both listeners' certificate verifies for host name, `localhost` and 127.0.0.1; TLS 1.1 is refused."""
    async with running_broker(tmp_path) as broker:
        for url in (broker.url, broker.agent_url):
            port = int(url.rpartition(":")[2])
            for name in ("127.0.0.1", "localhost", socket.gethostname()):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=broker.tls, server_hostname=name
                )
                tls = writer.get_extra_info("ssl_object")
                assert tls.version() in ("TLSv1.2", "TLSv1.3")
                writer.close()
                await writer.wait_closed()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(broker.ca_file)
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old, server_hostname="localhost")


@pytest.mark.covers("B44")
async def test_health_on_both_ports_while_stopping(tmp_path: Path) -> None:
    """`/health` answers 200 on both ports without a token, and 503 while the broker stops."""
    async with running_broker(tmp_path) as broker:
        for url in (broker.url, broker.agent_url):
            answer = await broker.client.get(f"{url}/health")
            assert (answer.status_code, answer.json()["status"]) == (200, "UP")
        broker.broker._is_stopping = True
        answer = await broker.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "DOWN")
        answer = await broker.client.post("/describeServers")
        assert (answer.status_code, answer.json()) == (503, {"error": "Service unavailable"})


async def test_requests_under_way_are_answered_before_the_end(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(broker.url.rpartition(":")[2]), ssl=broker.tls
        )
        head = (
            f"POST /describeServers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await broker.token()}\r\n"
        )
        writer.write(f"{head}Content-Length: 2\r\n\r\n{{".encode())
        await broker.until(lambda: broker.broker.requests_under_way)
        stopping = asyncio.create_task(broker.broker.stop())
        await broker.until(lambda: broker.broker.health().is_stopping)
        writer.write(b"}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await stopping
        writer.close()


@pytest.mark.covers("B12")
async def test_no_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Passwords and tokens of clients and sessions do not appear in the log at any level."""
    caplog.set_level("DEBUG")
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as (host,):
        created = await broker.client.post("/createSessions", json=[QUEUED])
        session_id = created.json()["SuccessfulList"][0]["Id"]
        await broker.until(lambda: host.server.sessions)
        await broker.until(lambda: is_ready(broker, session_id))
        answer = await broker.client.get(f"/sessionConnectionData/{session_id}/alice")
        connection_token = answer.json()["ConnectionToken"]
        form = {"sessionId": session_id, "authenticationToken": connection_token}
        await broker.client.post(f"{broker.agent_url}/agent/validate-authentication-token", data=form)
        access_token = await broker.token()
        await broker.client.post("/describeServers", headers={"Authorization": f"Bearer {access_token}x"})
        await register(write_config(tmp_path))
    ours = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("broker_stub")
    )
    assert ours
    for secret in (broker.client_secret, access_token, connection_token):
        assert secret not in ours


def is_ready(broker: RunningBroker, session_id: str) -> bool:
    session = broker.broker.registry.session(session_id)
    return session is not None and session.state == "READY"


async def test_random_ports_on_both_families(tmp_path: Path) -> None:
    for host, shown in (
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104  bound for a moment, accepts nothing
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ):
        listener = open_socket(host, 0)
        assert local_url(listener) == f"https://{shown}:{listener.getsockname()[1]}"
        listener.close()
    with pytest.raises(ListenError, match="Cannot listen on"):
        open_socket("192.0.2.99", 0)


async def test_a_deep_working_path_still_has_its_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    config = write_config(deep)
    async with running_broker(deep):
        assert await register(config)
        assert stat.S_IMODE((deep / "broker" / "admin.sock").stat().st_mode) == 0o600
    with short_path(tmp_path / "admin.sock") as name:
        assert name == str(tmp_path / "admin.sock")


# ------------------------------------------------------------------ administration


@pytest.mark.covers("B13", "B14")
async def test_the_four_known_parsers_cut_the_credentials(tmp_path: Path) -> None:
    """The client can be named by three options, and the credentials that are printed are good at once."""
    config = write_config(tmp_path)
    async with running_broker(tmp_path) as broker:
        for option in ("-cn", "--client-name", "--name"):
            status, output, _ = await broker_command(
                "register-api-client", option, f"x{option}", "--config", config
            )
            assert status == 0
            id_line, password_line = output.splitlines()
            client_id = output[output.index("client-id: ") + 11 : output.index(" client-password:")].strip()
            assert id_line == f"client-id: {client_id}"
            assert output.endswith("\n")
            password = password_line.removeprefix(" client-password: ")
            assert re.search(r"client-password:\s*(.+)\n", output)[1] == password  # type: ignore[index]  # it matches
            assert broker.broker.tokens.clients.check(client_id, password)


@pytest.mark.covers("B15", "B16")
async def test_clients_are_listed_and_unregistered(tmp_path: Path) -> None:
    """Clients are listed as JSON under a heading; an unregistered one stays listed and is refused."""
    config = write_config(tmp_path)
    async with running_broker(tmp_path) as broker:
        client_id, _ = await register(config, 'with "quotes"')
        token, _ = broker.broker.tokens.issue_access(client_id)
        status, output, _ = await broker_command(
            "unregister-api-client", "--client-id", client_id, "--config", config
        )
        assert (status, output) == (0, "Client ID unregistered.\n")
        again = await broker_command("unregister-api-client", "-ci", client_id, "--config", config)
        assert again[:2] == (0, "Client ID unregistered.\n")
        answer = await broker.client.post("/describeServers", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        status, output, _ = await broker_command("describe-api-clients", "--config", config)
        heading, _, listed = output.partition("\n")
        assert heading == "Api clients"
        assert listed.startswith("[ {\n")
        assert {"name": 'with "quotes"', "id": client_id, "active": False} in json.loads(listed)
        status, output, errors = await broker_command(
            "unregister-api-client", "-ci", "no/body", "--config", config
        )
        assert (status, output, errors) == (1, "", "error: no API client with id no/body\n")
        status, output, errors = await broker_command(
            "register-api-client", "-cn", "test", "--config", config
        )
        assert (status, output, errors) == (1, "", 'error: an active API client named "test" exists\n')


@pytest.mark.covers("B24")
async def test_no_broker_and_wrong_usage(tmp_path: Path) -> None:
    """Without a broker a command ends with 69 and prints nothing; wrong usage ends with 2."""
    config = write_config(tmp_path)
    status, output, errors = await broker_command("describe-api-clients", "--config", config)
    assert (status, output) == (69, "")
    assert errors.startswith("error: the broker is not running (no answer on ")
    async with broker_process(config) as broker:
        await broker.stop(signal.SIGKILL)
        assert (await broker_command("describe-api-clients", "--config", config))[0] == 69
    for arguments in (
        ("register-api-client",),
        ("register-api-client", "-cn", " "),
        ("nothing",),
        ("start", "-x"),
    ):
        assert (await broker_command(*arguments))[0] == 2


# ------------------------------------------------------------------ store trouble


@pytest.mark.covers("B39")
async def test_a_lost_database_refuses_changes_and_recovers(tmp_path: Path) -> None:
    """While the database is lost changes and `/health` get 503, reads are answered; it recovers by itself."""
    async with running_broker(tmp_path) as broker:
        assert (await broker.client.post("/createSessions", json=[QUEUED])).status_code == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "broker" / "broker.db")) as greedy:
            greedy.execute("BEGIN IMMEDIATE")
            answer = await broker.client.post("/createSessions", json=[QUEUED], timeout=30)
            assert (answer.status_code, answer.json()) == (503, {"error": "Service unavailable"})
            assert (await broker.client.post("/describeSessions")).status_code == 200
            assert (await broker.client.get("/health")).status_code == 503
            config = write_config(tmp_path)
            status, _, errors = await broker_command("register-api-client", "-cn", "x", "--config", config)
            assert (status, errors) == (1, "error: the broker's database cannot be written\n")
        async with asyncio.timeout(20):
            while (await broker.client.get("/health")).status_code != 200:  # noqa: ASYNC110  polled as an operator does
                await asyncio.sleep(0.05)
        assert (await broker.client.post("/createSessions", json=[QUEUED])).status_code == 200


def hello(server_id: str) -> AgentConnected:
    server = {"ip": "192.0.2.1", "hostname": server_id, "endpoints": [], "tags": [], "host": {}}
    return AgentConnected(
        server_id, f"channel-{server_id}", {"server": server, "sessions": [], "openCommands": []}
    )


@pytest.mark.covers("B37")
async def test_closed_servers_stay_closed_over_a_restart(tmp_path: Path) -> None:
    """A server that was closed is still closed after a restart, once its agent is back."""
    async with running_broker(tmp_path) as broker:
        await broker.broker.coordinator.apply(hello("srv-1"))
        answer = await broker.client.post("/closeServers", json=[{"ServerId": "srv-1"}])
        assert answer.json()["SuccessfulList"] == [{"ServerId": "srv-1"}]
    async with running_broker(tmp_path) as broker:
        await broker.broker.coordinator.apply(hello("srv-1"))
        (server,) = (await broker.client.post("/describeServers")).json()["Servers"]
        assert server["UnavailabilityReason"] == "SERVER_CLOSED"
        reported = ServerReported("srv-1", "another channel", full=True, server={})
        await broker.broker.coordinator.apply(reported)
