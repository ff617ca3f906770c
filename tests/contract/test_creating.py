"""CreateSessions: what is accepted, what fails one item, and what of a request reaches the host."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.broker.api_calls import UUID, call, new_owner
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts
from tests.running import running_broker

# One fleet for all tests of this module, for it has room for each: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_SERVER = "no dcv server found for placement"
ON_B = {"Requirements": "server:Id = 'srv-b'"}
GOOD = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}
CONSOLE = {**GOOD, "Type": "CONSOLE"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux)."""
    folder = tmp_path_factory.mktemp("creating")
    async with running_broker(folder) as broker, running_hosts(broker, A, B) as hosts:
        yield Fleet(broker, *hosts)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nobody_stays(fleet: Fleet) -> AsyncIterator[None]:
    """Each test finds the hosts empty."""
    yield
    for host in fleet.hosts:
        host.server.may_create.set()
    await fleet.clear()


async def failure(fleet: Fleet, **fields: Any) -> str:
    """Why one item fails beside another that does not."""
    answer = await fleet.call("createSessions", [{**GOOD, **fields}, GOOD])
    assert len(answer["SuccessfulList"]) == 1
    return str(answer["UnsuccessfulList"][0]["FailureReason"])


# ------------------------------------------------------------------ the life of a session


@pytest.mark.covers("C64", "C65")
async def test_a_session_comes_to_be(fleet: Fleet) -> None:
    """An accepted session is being placed, then prepared on a server, then ready without a substate."""
    host = fleet.hosts[1].server
    host.may_create.clear()
    created = await fleet.create(Name="desk", Owner="alice", Type="VIRTUAL")
    assert UUID.fullmatch(created["Id"])
    assert (created["State"], created["Substate"]) == ("CREATING", "SESSION_PLACING")
    assert (created["Name"], created["Owner"], created["Type"]) == ("desk", "alice", "VIRTUAL")
    preparing = await fleet.until(created["Id"], lambda found: "Server" in found)
    assert (preparing["State"], preparing["Substate"]) == ("CREATING", "PENDING_PREPARATION")
    assert preparing["Server"]["Id"] == "srv-b"
    host.may_create.set()
    ready = await fleet.until_state(created["Id"], "READY")
    assert "Substate" not in ready
    assert ready["Server"]["Id"] == "srv-b"


@pytest.mark.covers("C66")
async def test_types_are_read_in_any_case_and_written_in_upper_case(fleet: Fleet) -> None:
    """`Console` and `virtual` are types; answers have them in upper case."""
    for sent, requirements in (("Console", "server:Id = 'srv-a'"), ("virtual", "server:Id = 'srv-b'")):
        created = await fleet.create(Type=sent, Requirements=requirements)
        assert created["Type"] == sent.upper()
        assert (await fleet.session(created["Id"]) or {})["Type"] == sent.upper()


# ------------------------------------------------------------------ items that fail


@pytest.mark.covers("C67")
@pytest.mark.parametrize("field", ["Name", "Owner", "Type"])
@pytest.mark.parametrize("value", [None, "", "  "])
async def test_name_owner_and_type_are_required(fleet: Fleet, field: str, value: str | None) -> None:
    """An item without a name, an owner or a type, or with a blank one, fails and the text names the field."""
    assert await failure(fleet, **{field: value}) == f"{field} is required"


@pytest.mark.covers("C68", "C69", "C70", "C71")
async def test_a_failed_item_comes_back_and_the_others_go_on(fleet: Fleet) -> None:
    """Items fail one by one, in the order of the request, each with what was sent and why, without a code."""
    owner = new_owner()
    items: list[dict[str, Any]] = [
        {"Name": "a", "Owner": owner, "Type": "TABLET"},
        {"Name": "b", "Owner": owner, "Type": "VIRTUAL"},
        {"Name": "c", "Owner": owner, "Type": "VIRTUAL", "Requirements": "tag:color = 'green'"},
        {"Name": "d", "Owner": owner, "Type": "VIRTUAL"},
        {"Name": "e", "Owner": owner, "Type": "VIRTUAL", "Requirements": "tag:color = 'green'",
         "EnqueueRequest": False},
    ]  # fmt: skip
    answer = await fleet.call("createSessions", items)
    assert [session["Name"] for session in answer["SuccessfulList"]] == ["b", "d"]
    assert answer["UnsuccessfulList"] == [
        {
            "CreateSessionRequestData": items[0],
            "FailureReason": "Type must be one of CONSOLE, VIRTUAL",
        },
        {"CreateSessionRequestData": items[2], "FailureReason": NO_SERVER},
        {"CreateSessionRequestData": items[4], "FailureReason": NO_SERVER},
    ]
    found = await fleet.call("describeSessions", {"Filters": [{"Key": "owner", "Value": owner}]})
    assert sorted(session["Name"] for session in found["Sessions"]) == ["b", "d"], "nothing else is listed"


@pytest.mark.covers("C69")
async def test_an_echo_has_the_types_of_the_definition(fleet: Fleet) -> None:
    """What was sent as a text for a number or a truth value goes back as what it was read as.

    A strictly generated client throws on a whole answer for one value of another type.
    """
    sent = {
        "name": "n",
        "Owner": "alice",
        "type": "Tablet",
        "max_concurrents": "4",
        "DcvGLEnabled": "true",
        "enqueueRequest": "FALSE",
        "DisableRetryOnFailure": None,
    }
    (failed,) = (await fleet.call("createSessions", [sent]))["UnsuccessfulList"]
    assert failed["CreateSessionRequestData"] == {
        "Name": "n",
        "Owner": "alice",
        "Type": "Tablet",
        "MaxConcurrentClients": 4,
        "DcvGlEnabled": True,
        "EnqueueRequest": False,
    }


@pytest.mark.covers("C73")
@pytest.mark.parametrize("path", ["/etc/x", "\\x", "C:\\x", "c:/x", "..", "../x", "a/../b", "a\\..\\b"])
async def test_start_files_are_named_inside_their_folders(fleet: Fleet, path: str) -> None:
    """A file to start with is named by a path inside its folder: not absolute, no way out."""
    assert await failure(fleet, InitFile=path) == "InitFile must be a relative path"
    assert await failure(fleet, AutorunFile=path) == "AutorunFile must be a relative path"


@pytest.mark.covers("C74")
async def test_console_sessions_start_without_files_of_the_request(fleet: Fleet) -> None:
    """A console session takes no init file, no shared graphics and no arguments; `false` is no graphics."""
    for fields, name in (
        ({"InitFile": "a"}, "InitFile"),
        ({"InitFilePath": "/a"}, "InitFile"),
        ({"DcvGlEnabled": True}, "DcvGlEnabled"),
        ({"AutorunFile": "a", "AutorunFileArguments": ["b"]}, "AutorunFileArguments"),
    ):
        reason = await failure(fleet, **CONSOLE | fields)
        assert reason == f"{name} is not supported for CONSOLE sessions"
    await fleet.ready(Type="CONSOLE", DcvGlEnabled=False, Requirements="server:Id = 'srv-a'")


@pytest.mark.covers("C75")
async def test_arguments_have_limits_and_keep_their_order(fleet: Fleet) -> None:
    """Fifty arguments of 150 characters reach the host in their order; one more or one longer fails."""
    start = {"AutorunFile": "bin/start.sh"}
    assert await failure(fleet, AutorunFileArguments=["b"]) == "AutorunFileArguments requires AutorunFile"
    for arguments, reason in (
        (["b"] * 51, "AutorunFileArguments exceeds the maximum of 50 arguments"),
        (["b" * 151], "AutorunFileArguments has an argument longer than 150 characters"),
    ):
        assert await failure(fleet, **start, AutorunFileArguments=arguments) == reason
    most = [f"{number:03}" * 50 for number in range(50)]
    session = await fleet.ready(**ON_B, **start, AutorunFileArguments=most)
    order = fleet.order_of(session)
    assert (order.autorun_file, list(order.autorun_file_arguments)) == ("bin/start.sh", most)


@pytest.mark.covers("C76")
async def test_a_permissions_file_is_base64(fleet: Fleet) -> None:
    """What is no Base64 fails the item; blanks and line ends are ignored; the host gets the text."""
    for wrong in ("/etc/permissions.txt", "a", "äöü=", "W10=\0"):
        assert await failure(fleet, PermissionsFile=wrong) == "PermissionsFile is not valid Base64"
    too_large = base64.b64encode(b"#" * (64 * 1024 + 1)).decode()
    assert await failure(fleet, PermissionsFile=too_large) == "PermissionsFile is too large"
    text = "[permissions]\n%owner% allow builtin\n" + "# Zoë\n" * 20
    sent = base64.encodebytes(text.encode()).decode()
    assert "\n" in sent.strip()
    session = await fleet.ready(**ON_B, PermissionsFile=f" {sent}\t")
    assert fleet.order_of(session).permissions == text


@pytest.mark.covers("C77")
async def test_a_session_can_limit_its_clients(fleet: Fleet) -> None:
    """A limit of clients is at least one and is read back; without one there is no such field."""
    for number in (0, -1):
        reason = await failure(fleet, MaxConcurrentClients=number)
        assert reason == "MaxConcurrentClients must be greater than 0"
    limited, unlimited = await fleet.ready(MaxConcurrentClients=4), await fleet.ready()
    assert limited["MaxConcurrentClients"] == 4
    assert fleet.order_of(limited).max_concurrent_clients == 4
    assert "MaxConcurrentClients" not in unlimited
    assert (await fleet.ready(MaxConcurrentClients=2**62))["MaxConcurrentClients"] == 2**62


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"Name": "n" * 257}, "Name is too long"),
        ({"Owner": "o" * 257}, "Owner is too long"),
        ({"Name": "a\nb"}, "Name contains invalid characters"),
        ({"Owner": "a\u0085b"}, "Owner contains invalid characters"),
        ({"Name": "", "Owner": "", "Type": "x"}, "Name is required"),
        ({"Owner": "o" * 257, "Type": "x"}, "Owner is too long"),
    ],
)
async def test_of_several_faults_the_first_field_is_told(
    fleet: Fleet, fields: dict[str, str], reason: str
) -> None:
    """Names and owners have a length and no control characters; of several faults one is told."""
    assert await failure(fleet, **fields) == reason


# ------------------------------------------------------------------ what reaches the host


@pytest.mark.covers("C72", "C73")
async def test_the_guides_other_names_are_understood(fleet: Fleet) -> None:
    """Field names that the guide prints in other places mean the same; that init file may be absolute."""
    permissions = "[permissions]\n"
    session = await fleet.ready(
        **ON_B,
        InitFilePath="/opt/init/desk.sh",
        MaxConcurrents=3,
        DcvGLEnabled=True,
        PermissionFile=base64.b64encode(permissions.encode()).decode(),
    )
    order = fleet.order_of(session)
    assert (order.init_file, order.max_concurrent_clients) == ("/opt/init/desk.sh", 3)
    assert (order.dcv_gl_enabled, order.permissions) == (True, permissions)
    both = await fleet.ready(**ON_B, InitFilePath="/opt/other.sh", InitFile="desk.sh")
    assert fleet.order_of(both).init_file == "desk.sh"


@pytest.mark.covers("C78", "C80")
@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("desk", "CORP\\alice"),
        ("desk", "alice@corp.example"),
        ("Zoë's 机 – 𝔇", "Zoë"),
        ("n" * 256, "o" * 256),
        ('"quoted" <b> & \u202e', "名"),
    ],
)
async def test_names_and_owners_come_back_as_they_were_sent(fleet: Fleet, name: str, owner: str) -> None:
    """Names and owners of any language, with a domain or quotes, survive the way to the host and back."""
    created = await fleet.create(Name=name, Owner=owner, **ON_B)
    ready = await fleet.until_state(created["Id"], "READY")
    for session in (created, ready):
        assert (session["Name"], session["Owner"]) == (name, owner)
    order = fleet.order_of(ready)
    assert (order.name, order.owner) == (name, owner)
    found = await fleet.call("describeSessions", {"Filters": [{"Key": "owner", "Value": owner}]})
    assert created["Id"] in [session["Id"] for session in found["Sessions"]]


@pytest.mark.covers("C79")
async def test_a_storage_root_is_shown_as_it_was_asked_for(fleet: Fleet) -> None:
    """A placeholder in the storage root is for the host to fill in; the session shows it as sent."""
    session = await fleet.ready(**ON_B, StorageRoot="%home%")
    assert session["StorageRoot"] == "%home%"
    assert fleet.order_of(session).storage_root == "%home%"


async def test_nothing_of_a_request_is_forgotten_by_a_restart(tmp_path: Path) -> None:
    """A request that waits in the queue keeps every field over a restart of the broker."""
    async with running_broker(tmp_path) as broker:
        item = {**GOOD, "StorageRoot": "%home%", "MaxConcurrentClients": 2, "InitFile": "desk.sh"}
        (created,) = (await call(broker, "createSessions", [item]))["SuccessfulList"]
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as hosts:
        fleet = Fleet(broker, *hosts)
        session = await fleet.until_state(created["Id"], "READY")
        order = fleet.order_of(session)
        assert (order.storage_root, order.max_concurrent_clients, order.init_file) == ("%home%", 2, "desk.sh")
