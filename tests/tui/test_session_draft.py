"""A draft becomes the requests of CreateSessions, and the fleet says what it could do with them."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from dcvtui.api.models import CreateSessionRequestData, read_request
from dcvtui.api.requirements import RequirementsError
from dcvtui.api.server_facts import facts_of
from dcvtui.fleet import ServerRecord, server_wire
from dcvtui.tui.session_draft import (
    MAX_COUNT,
    Preview,
    SessionDraft,
    field_of,
    free_places,
    preview,
    preview_sentence,
    problems,
    requests,
    requirement_fault,
)

DRAFT = SessionDraft(owner="ana", name="cad-{owner}-{n}")


def server(name: str = "gpu-1", **more: Any) -> ServerRecord:
    facts: dict[str, Any] = {"hostname": name, "availability": "AVAILABLE", "os_family": "linux"}
    return ServerRecord(key=("", name), profile="", id=name, **(facts | more))


def fleet(*servers: ServerRecord) -> list[tuple[ServerRecord, Any]]:
    return [(one, facts_of(server_wire(one))) for one in servers]


def test_the_shortest_draft_sends_only_what_is_required() -> None:
    assert requests(DRAFT) == [{"Owner": "ana", "Name": "cad-ana-1", "Type": "VIRTUAL"}]


def test_every_field_reaches_the_wire_under_its_name() -> None:
    draft = SessionDraft(
        owner=" CORP\\ana ",
        name="cad",
        type="CONSOLE",
        requirements=" tag:gpu = 'yes' ",
        enqueue=True,
        permissions="[permissions]\n",
        init_file="init.sh",
        autorun_file="run.sh",
        arguments="--title 'two words' x",
        max_clients="3",
        storage_root="%home%",
        gl="no",
        retry=False,
    )
    (item,) = requests(draft)
    assert item == {
        "Name": "cad",
        "Owner": "CORP\\ana",
        "Type": "CONSOLE",
        "Requirements": "tag:gpu = 'yes'",
        "EnqueueRequest": True,
        "PermissionsFile": base64.b64encode(b"[permissions]\n").decode(),
        "InitFile": "init.sh",
        "AutorunFile": "run.sh",
        "AutorunFileArguments": ["--title", "two words", "x"],
        "MaxConcurrentClients": 3,
        "StorageRoot": "%home%",
        "DcvGlEnabled": False,
        "DisableRetryOnFailure": True,
    }
    read = read_request(CreateSessionRequestData, item)
    assert read.to_wire() == item


def test_an_empty_permissions_text_is_sent_as_such() -> None:
    (item,) = requests(replace(DRAFT, permissions=""))
    assert item["PermissionsFile"] == ""


def test_names_are_numbered() -> None:
    draft = replace(DRAFT, count="3")
    assert [item["Name"] for item in requests(draft)] == ["cad-ana-1", "cad-ana-2", "cad-ana-3"]
    assert [item["Name"] for item in requests(replace(draft, only=(1, 3)))] == ["cad-ana-1", "cad-ana-3"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"owner": "  "}, "owner"),
        ({"name": ""}, "name"),
        ({"count": "0"}, "count"),
        ({"count": "two"}, "count"),
        ({"count": "²"}, "count"),
        ({"count": str(MAX_COUNT + 1)}, "count"),
        ({"count": "9" * 5000}, "count"),
        ({"max_clients": "0"}, "max_clients"),
        ({"max_clients": "many"}, "max_clients"),
        ({"arguments": "'open"}, "arguments"),
    ],
)
def test_what_cannot_be_sent_is_said_at_its_field(change: dict[str, Any], field: str) -> None:
    assert list(problems(replace(DRAFT, **change))) == [field]


def test_a_good_draft_has_no_problems() -> None:
    assert problems(replace(DRAFT, max_clients=" 2 ", count=" 2 ", arguments='a "b c"')) == {}


@pytest.mark.parametrize(
    ("reason", "field"),
    [
        ("Name is too long", "name"),
        ("Owner contains invalid characters", "owner"),
        ("Type must be one of CONSOLE, VIRTUAL", "type"),
        ("MaxConcurrentClients must be greater than 0", "max_clients"),
        ("PermissionsFile is too large", "permissions"),
        ("InitFile must be a relative path", "init_file"),
        ("AutorunFileArguments requires AutorunFile", "arguments"),
        ("AutorunFile must be a relative path", "autorun_file"),
        ("DcvGlEnabled is not supported for CONSOLE sessions", "gl"),
        ("Invalid requirements: Unexpected CONTAINS operator", "requirements"),
        ("no dcv server found for placement", None),
        ("The create sessions queue is full", None),
        ("", None),
    ],
)
def test_a_refusal_goes_to_the_field_its_text_begins_with(reason: str, field: str | None) -> None:
    assert field_of(reason) == field


# ------------------------------------------------------------------ what the fleet says


@pytest.mark.parametrize(
    ("facts", "type_", "places"),
    [
        ({}, "VIRTUAL", None),
        ({"tags": (("dcv:max-virtual-sessions", "4"),), "virtual_sessions": 1}, "VIRTUAL", 3),
        ({"tags": (("dcv:max-virtual-sessions", "4"),), "virtual_sessions": 9}, "VIRTUAL", 0),
        ({"tags": (("dcv:max-virtual-sessions", "x"),)}, "VIRTUAL", None),
        ({"console_sessions": 1}, "VIRTUAL", 0),
        ({"os_family": "windows"}, "VIRTUAL", 0),
        ({"availability": "UNAVAILABLE"}, "VIRTUAL", 0),
        ({}, "CONSOLE", 1),
        ({"os_family": "windows"}, "CONSOLE", 1),
        ({"virtual_sessions": 1}, "CONSOLE", 0),
    ],
)
def test_places_follow_the_rules_of_placement(facts: dict[str, Any], type_: str, places: int | None) -> None:
    assert free_places(server(**facts), replace(DRAFT, type=type_)) == places


def test_autorun_in_a_console_session_needs_windows() -> None:
    draft = replace(DRAFT, type="CONSOLE", autorun_file="run.bat")
    assert free_places(server(), draft) == 0
    assert free_places(server(os_family="windows"), draft) == 1


def test_the_preview_counts_matching_servers_those_ready_and_places() -> None:
    limit = ("dcv:max-virtual-sessions", "2")
    servers = fleet(
        server("a", tags=(("gpu", "yes"), limit), virtual_sessions=1),
        server("b", tags=(("gpu", "yes"), limit), virtual_sessions=2),
        server("c", tags=(("gpu", "no"), limit)),
    )
    draft = replace(DRAFT, requirements="tag:gpu = 'yes'")
    assert preview(draft, servers) == Preview(total=3, matching=2, ready=1, places=1)
    assert preview(DRAFT, servers).matching == 3


def test_a_requirement_that_cannot_be_read_is_an_error_with_a_place_and_a_suggestion() -> None:
    draft = replace(DRAFT, requirements="tag:gpu = 'yes' and server:Host.Os.Famly = 'linux'")
    with pytest.raises(RequirementsError) as caught:
        preview(draft, [])
    assert caught.value.position == 21
    fault = requirement_fault(caught.value)
    assert fault == "Server property server:Host.Os.Famly not found. Did you mean server:Host.Os.Family?"


@pytest.mark.parametrize(
    ("seen", "change", "sentence"),
    [
        (
            Preview(240, 12, 7, None),
            {},
            "matches 12 of 240 servers, 7 of them can take a VIRTUAL session now",
        ),
        (Preview(1, 0, 0, 0), {}, "matches 0 of 1 server"),
        (
            Preview(240, 12, 2, 2),
            {"count": "3", "enqueue": True},
            "matches 12 of 240 servers, 2 of them can take a VIRTUAL session now: one would wait",
        ),
        (
            Preview(1240, 12, 2, 2),
            {"count": "5"},
            "matches 12 of 1,240 servers, 2 of them can take a VIRTUAL session now: 3 would be refused",
        ),
    ],
)
def test_the_preview_is_one_sentence(seen: Preview, change: dict[str, Any], sentence: str) -> None:
    assert preview_sentence(replace(DRAFT, **change), seen) == sentence


def test_a_stale_preview_says_of_when_it_is() -> None:
    assert preview_sentence(DRAFT, Preview(2, 0, 0, 0), "14:02") == "matches 0 of 2 servers (as of 14:02)"
