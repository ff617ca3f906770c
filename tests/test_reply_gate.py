"""No test can forget to look at what a broker answers: the gate does, in every process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import reply_gate, strict_schema, wire_schema
from tests.reply_gate import Gate

OWN = wire_schema.own_definition()
SESSION = {
    "Id": "s",
    "Name": "n",
    "Owner": "o",
    "Type": "VIRTUAL",
    "State": "READY",
    "CreationTime": "2026-03-30T15:47:06.822Z",
}
UUID = "0d5e5d6c-8f3c-4f3c-9d59-36ad1c2f5b11"


@pytest.mark.covers("C18")
def test_a_surplus_field_fails_the_test_that_met_it() -> None:
    """Any test fails when a broker, its own or a child, sends null or a field that the definition lacks."""
    path = Path(__file__).with_name("answers_with_an_unknown_field.py")
    command = [sys.executable, "-m", "pytest", "--tb=short", str(path)]
    environment = {name: value for name, value in os.environ.items() if name != reply_gate.FOLDER}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout
    assert "DescribeSessionsResponse.Sessions[0].Surplus: not in the schema" in done.stdout
    assert "CreateSessionsResponse.SuccessfulList[0].Surplus: not in the schema" in done.stdout
    assert "2 passed, 2 errors" in done.stdout, "the tests themselves look at nothing"


@pytest.mark.parametrize(
    ("path", "status", "body", "fault"),
    [
        ("/describeServers", 200, b'{"RequestId":"%s","Servers":[]}' % UUID.encode(), ""),
        ("/describeServers", 200, b'{"RequestId":"x","Servers":[]}', "is no lower-case UUID"),
        ("/describeServers", 200, b'{"Servers":[]}', "RequestId: missing"),
        ("/describeServers", 200, b"{}", "Servers: missing"),
        ("/describeServers", 200, b'{"Servers":null}', "array expected, not None"),
        ("/describeServers", 200, b'{"Servers":[],"Servers":[]}', "is there twice"),
        ("/describeServers", 200, b'{"Servers":[NaN]}', "NaN is no JSON"),
        ("/describeServers", 200, b"\xff", "invalid start byte"),
        ("/sessionConnectionData/a/b", 200, b'{"ConnectionToken":"x"}', "Session: missing"),
        ("/describeServers", 400, b'{"error":"text"}', ""),
        ("/describeServers", 400, b'{"error":"text","more":1}', "the one text"),
        ("/describeServers", 500, b"<html>", "Expecting value"),
        ("/health", 200, b'{"status":"UP"}', ""),
        ("/nothing", 404, b"nothing", ""),
    ],
)
def test_answers_are_judged_by_path_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: int, body: bytes, fault: str
) -> None:
    gate = opened(tmp_path, monkeypatch)
    gate.look_at(f"POST {path}", path, status, "application/json", body)
    found = "\n".join(gate.take())
    assert fault in found
    assert bool(found) == bool(fault)
    assert gate.take() == []


def test_answers_are_json_by_their_header_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = opened(tmp_path, monkeypatch)
    gate.look_at("POST /openServers", "/openServers", 400, "text/plain", b'{"error":"text"}')
    assert "the media type is 'text/plain'" in gate.take()[0]


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate of a test's own."""
    for name in (reply_gate.FOLDER, "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    gate = Gate(folder)
    gate.open(OWN)
    return gate


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"State": "CREATING", "Substate": "SESSION_PLACING"}, ""),
        ({"State": "CREATING"}, "a substate goes with CREATING"),
        ({"Substate": "SESSION_PLACING"}, "a substate goes with CREATING"),
        ({"State": "GONE"}, "is none of its words"),
        ({"Type": "virtual"}, "is none of its words"),
        ({"CreationTime": "2026-03-30T15:47:06Z"}, "is no UTC time"),
        ({"NumOfConnections": 1.0}, "integer expected"),
        ({"Server": {"Host": {}}}, "shows its server without the host"),
        ({"Server": {"Availability": "UNAVAILABLE"}}, "a reason goes with UNAVAILABLE"),
        ({"Server": {"Tags": [{"Key": "b", "Value": ""}, {"Key": "a", "Value": ""}]}}, "not sorted"),
        ({"Server": {"Endpoints": [{"Protocol": "QUIC", "WebUrlPath": "/"}]}}, "QUIC has no path"),
    ],
)
def test_what_goes_together_in_an_answer(change: dict[str, Any], fault: str) -> None:
    value = {"RequestId": UUID, "Sessions": [SESSION | change]}
    body = json.dumps(value).encode()
    found = "\n".join(strict_schema.answer_faults(OWN, "DescribeSessionsResponse", body))
    assert fault in found
    assert bool(found) == bool(fault)
