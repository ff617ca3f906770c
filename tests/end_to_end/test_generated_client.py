"""A client generated from the published definition runs all nine operations on a broker with agents.

Everything it gets is also validated strictly: no field outside the schema, no
null, the right JSON types.
"""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_stub.demo import Demo, DemoOptions, start_demo
from dcvtui.api.permissions import DEFAULT_TEXT
from tests.end_to_end.generated_client import GeneratedClient, generate_client
from tests.wire_schema import DEFINITION_PATH, wire_models

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A broker with simulated agents, as processes; nothing in it changes by itself."""
    with start_demo(DemoOptions(servers=6, sessions=4, is_still=True)) as demo:
        yield demo


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_client(DEFINITION_PATH, tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def client(package: Path, demo: Demo) -> Iterator[GeneratedClient]:
    credentials = (demo.client_id, demo.client_secret)
    client = GeneratedClient(package, DEFINITION_PATH, demo.url, demo.ca_file, credentials)
    yield client
    client.close()


def until(answer: Callable[[], Any], within_s: float = 30) -> Any:
    """Ask again until the answer is not empty. The API has no way to be told."""
    end = time.monotonic() + within_s
    while not (found := answer()):
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.1)
    return found


@pytest.mark.covers("C19")
def test_the_generated_client_runs_all_nine_operations(client: GeneratedClient) -> None:
    """The Python client that openapi-generator makes runs all nine operations on a demo."""
    models, ask = client.models, client.ask
    server = until(lambda: _idle_linux_server(client))

    page = ask(
        client.servers.describe_servers_with_http_info, models.DescribeServersRequestData(max_results=1)
    )
    assert len(page.servers) == 1
    assert page.next_token
    ask(client.servers.describe_servers_with_http_info)

    wanted = models.CreateSessionRequestData(
        name="generated",
        owner="alice",
        type="VIRTUAL",
        requirements=f"server:Id = '{server.id}'",
        max_concurrent_clients=3,
        permissions_file=_base64(DEFAULT_TEXT),
        storage_root="%home%",
    )
    refused = models.CreateSessionRequestData(
        name="generated", owner="alice", type="TABLET", enqueue_request=False
    )
    created = ask(client.sessions.create_sessions_with_http_info, [wanted, refused])
    (session,) = created.successful_list
    assert (session.state, session.substate) == ("CREATING", "SESSION_PLACING")
    assert created.unsuccessful_list[0].create_session_request_data == refused

    def described() -> Any:
        data = models.DescribeSessionsRequestData(session_ids=[session.id])
        return ask(client.sessions.describe_sessions_with_http_info, data).sessions[0]

    ready = until(lambda: (found := described()).state != "CREATING" and found)
    assert (ready.state, ready.state_reason) == ("READY", None)
    assert (ready.server.id, ready.max_concurrent_clients, ready.storage_root) == (server.id, 3, "%home%")

    owned = models.DescribeSessionsRequestData(filters=[models.KeyValuePair(key="owner", value="alice")])
    assert [one.id for one in ask(client.sessions.describe_sessions_with_http_info, owned).sessions] == [
        session.id
    ]
    ask(client.sessions.describe_sessions_with_http_info)

    text = _base64(f"{DEFAULT_TEXT}bob allow display\n")
    updates = [
        models.UpdateSessionPermissionsRequestData(session_id=one, owner="alice", permissions_file=text)
        for one in (session.id, UNKNOWN)
    ]
    updated = ask(client.permissions.update_session_permissions_with_http_info, updates)
    assert [one.session_id for one in updated.successful_list] == [session.id]
    assert [one.session_id for one in updated.unsuccessful_list] == [UNKNOWN]

    connection = ask(client.connections.get_session_connection_data_with_http_info, session.id, "bob")
    assert connection.session.id == session.id
    assert connection.connection_token

    pictures = [
        models.GetSessionScreenshotRequestData(session_id=session.id, max_width=320, max_height=200),
        models.GetSessionScreenshotRequestData(session_id=session.id),
        models.GetSessionScreenshotRequestData(session_id=UNKNOWN, max_width=None),
    ]
    taken = ask(client.sessions.get_session_screenshots_with_http_info, pictures)
    assert [one.session_screenshot.session_id for one in taken.successful_list] == [session.id] * 2
    assert base64.b64decode(taken.successful_list[0].session_screenshot.images[0].data, validate=True)
    assert taken.unsuccessful_list[0].failure_reason == "Dcv session not found."

    closes = [
        models.CloseServerRequestData(server_id=server.id),
        models.CloseServerRequestData(server_id=server.id, force=True),
        models.CloseServerRequestData(server_id="nowhere", force=False),
    ]
    closed = ask(client.servers.close_servers_with_http_info, closes)
    assert [one.failure_code for one in closed.unsuccessful_list] == [
        "DCV_SERVER_HAS_SESSIONS",
        "DCV_SERVER_NOT_FOUND",
    ]
    opens = [models.OpenServerRequestData(server_id=one) for one in (server.id, "nowhere")]
    opened = ask(client.servers.open_servers_with_http_info, opens)
    assert opened.unsuccessful_list[0].open_server_request_data == opens[1]

    deletes = [
        models.DeleteSessionRequestData(session_id=session.id, owner="alice"),
        models.DeleteSessionRequestData(session_id=session.id, owner="bob", force=True),
    ]
    deleted = ask(client.sessions.delete_sessions_with_http_info, deletes)
    assert deleted.successful_list[0].state == "DELETING"
    assert [one.session_id for one in deleted.unsuccessful_list] == [session.id]
    until(lambda: described().state == "DELETED")

    assert client.answered == {
        name for name in wire_models() if name.endswith("sResponse") or "Connection" in name
    }


def test_a_refused_request_is_an_exception_with_the_brokers_text(client: GeneratedClient) -> None:
    with pytest.raises(client.models.ApiException) as caught:
        client.connections.get_session_connection_data(UNKNOWN, "bob")
    assert caught.value.status == 400
    assert json.loads(caught.value.body) == {"error": "Dcv session not found."}


def _idle_linux_server(client: GeneratedClient) -> Any:
    """An invented host that takes anybody's session; on this host only its own users may have one."""
    for server in client.ask(client.servers.describe_servers_with_http_info).servers:
        is_idle = server.availability == "AVAILABLE" and not server.virtual_session_count
        if is_idle and server.host.os.family == "linux" and server.hostname != socket.gethostname():
            return server
    return None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
