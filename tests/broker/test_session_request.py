"""What a request must mean to be accepted (API, 4.3 and 5.2): exact texts."""

from typing import Any

import pytest

from broker_stub.broker.events import Rules
from broker_stub.broker.session_request import MeaninglessRequest, read_creation
from dcvtui.api.models import CreateSessionRequestData, read_request

GOOD = {"Name": "desk", "Owner": "alice", "Type": "VIRTUAL"}
RULES = Rules()


def read(**fields: Any) -> dict[str, Any]:
    raw = {name: value for name, value in (GOOD | fields).items() if value is not None}
    return read_creation(read_request(CreateSessionRequestData, raw), RULES)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Name": None}, "Name is required"),
        ({"Name": " \t"}, "Name is required"),
        ({"Name": "n" * 257}, "Name is too long"),
        ({"Name": "a\x1bb"}, "Name contains invalid characters"),
        ({"Name": "\ud800"}, "Name contains invalid characters"),
        ({"Owner": None}, "Owner is required"),
        ({"Owner": "o" * 257}, "Owner is too long"),
        ({"Owner": "a\nb"}, "Owner contains invalid characters"),
        ({"Type": None}, "Type is required"),
        ({"Type": "TABLET"}, "Type must be one of CONSOLE, VIRTUAL"),
        ({"InitFile": "/etc/x"}, "InitFile must be a relative path"),
        ({"InitFile": "\\x"}, "InitFile must be a relative path"),
        ({"InitFile": "c:x"}, "InitFile must be a relative path"),
        ({"InitFile": "a/../../b"}, "InitFile must be a relative path"),
        ({"InitFile": "a\\..\\b"}, "InitFile must be a relative path"),
        ({"InitFile": "a\0"}, "InitFile contains invalid characters"),
        ({"InitFile": "a", "Type": "CONSOLE"}, "InitFile is not supported for CONSOLE sessions"),
        ({"InitFilePath": "/a", "Type": "CONSOLE"}, "InitFile is not supported for CONSOLE sessions"),
        ({"MaxConcurrentClients": 0}, "MaxConcurrentClients must be greater than 0"),
        ({"DcvGlEnabled": True, "Type": "CONSOLE"}, "DcvGlEnabled is not supported for CONSOLE sessions"),
        ({"PermissionsFile": "/etc/dcv/x.perm"}, "PermissionsFile is not valid Base64"),
        ({"PermissionsFile": "abc"}, "PermissionsFile is not valid Base64"),
        ({"PermissionsFile": "ä==="}, "PermissionsFile is not valid Base64"),
        ({"PermissionsFile": "AAAA" * 21846}, "PermissionsFile is too large"),
        ({"AutorunFile": "/a"}, "AutorunFile must be a relative path"),
        (
            {"AutorunFileArguments": ["a"], "Type": "CONSOLE", "AutorunFile": "a"},
            "AutorunFileArguments is not supported for CONSOLE sessions",
        ),
        ({"AutorunFileArguments": ["a"]}, "AutorunFileArguments requires AutorunFile"),
        (
            {"AutorunFileArguments": ["a"] * 51, "AutorunFile": "a"},
            "AutorunFileArguments exceeds the maximum of 50 arguments",
        ),
        (
            {"AutorunFileArguments": ["a" * 151], "AutorunFile": "a"},
            "AutorunFileArguments has an argument longer than 150 characters",
        ),
        ({"Requirements": "tag:a = 'b' and" * 300}, "Invalid requirements: expression too long"),
        (
            {"Requirements": "server:Host.X = 1"},
            "Invalid requirements: Server property server:Host.X not found",
        ),
        (
            {"Requirements": "server:Host.Memory.TotalBytes := 1"},
            "Invalid requirements: Unexpected CONTAINS operator",
        ),
        # Several faults: the first in the order of the field table.
        ({"Owner": None, "Type": "TABLET"}, "Owner is required"),
        ({"Requirements": "(", "MaxConcurrentClients": 0}, "MaxConcurrentClients must be greater than 0"),
        ({"DcvGlEnabled": True, "Type": "CONSOLE", "InitFile": ".."}, "InitFile must be a relative path"),
    ],
)
def test_meaningless_requests(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(MeaninglessRequest) as raised:
        read(**fields)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"Type": "Virtual"}, {}),
        ({"Type": "console", "DcvGlEnabled": False}, {"Type": "CONSOLE", "DcvGlEnabled": False}),
        ({"Name": "n" * 256, "Owner": "CORP\\alice"}, {"Name": "n" * 256, "Owner": "CORP\\alice"}),
        ({"InitFile": "a/b..c"}, {"InitFile": "a/b..c"}),
        ({"InitFile": "a", "InitFilePath": "/b"}, {"InitFile": "a"}),
        ({"InitFilePath": "/b"}, {"InitFile": "/b"}),
        ({"InitFile": "", "AutorunFile": " ", "AutorunFileArguments": [], "Requirements": " "}, {}),
        ({"PermissionsFile": "W3Blcm1p\r\n c3Npb25zXQ=="}, {"PermissionsFile": "W3Blcm1pc3Npb25zXQ=="}),
        (
            {"AutorunFile": "a", "AutorunFileArguments": ["x" * 150] * 50},
            {"AutorunFile": "a", "AutorunFileArguments": ["x" * 150] * 50},
        ),
        ({"AutorunFile": "a", "Type": "CONSOLE"}, {"AutorunFile": "a", "Type": "CONSOLE"}),
        ({"Requirements": "tag:a = 'b'"}, {"Requirements": "tag:a = 'b'"}),
        ({"StorageRoot": "%home%"}, {"StorageRoot": "%home%"}),
        ({"EnqueueRequest": True}, {"EnqueueRequest": True}),
    ],
)
def test_what_a_request_means(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read(**fields) == GOOD | expected


def test_limits_are_settings() -> None:
    request = read_request(
        CreateSessionRequestData, GOOD | {"AutorunFile": "a", "AutorunFileArguments": ["abc", "d"]}
    )
    with pytest.raises(MeaninglessRequest, match="maximum of 1 arguments"):
        read_creation(request, Rules(autorun_arguments_max=1))
    with pytest.raises(MeaninglessRequest, match="longer than 2 characters"):
        read_creation(request, Rules(autorun_argument_length_max=2))
