"""Two tests that must fail, for `test_reply_gate`: nothing else collects this file by its name.

A broker of theirs sends a field that the API definition does not list, in this
process and in a child; the tests themselves look at nothing.
"""

import sys
from pathlib import Path

import pytest

from broker_stub.broker import session
from broker_stub.broker.session import SessionRecord, session_wire
from tests import broker_process
from tests.broker_process import write_config
from tests.running import running_broker

QUEUED = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}


def with_more(record: SessionRecord) -> dict[str, object]:
    return {**session_wire(record), "Surplus": 1}


async def test_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "session_wire", with_more)
    async with running_broker(tmp_path) as broker:
        await broker.client.post("/createSessions", json=[QUEUED])
        await broker.client.post("/describeSessions")


CHILD = """
from broker_stub.broker import creation
from broker_stub.cli import broker_main
usual = creation.session_wire
creation.session_wire = lambda record: {**usual(record), "Surplus": None}
broker_main()
"""


async def test_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\n{CHILD}")
    program.chmod(0o700)
    monkeypatch.setattr(broker_process, "COMMAND", program)
    config = write_config(tmp_path, enable_authorization=False)
    async with broker_process.broker_process(config) as broker, broker.client() as client:
        await client.post("/createSessions", json=[QUEUED])
