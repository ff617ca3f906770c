"""The flat readers against the models of the API, and the arithmetic of snapshots."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.api.models import Server, Session
from dcvtui.fleet import (
    Changes,
    Difference,
    Key,
    SessionRecord,
    Snapshot,
    changes_by_answer,
    changes_by_page,
    changes_by_sweep,
    difference,
    server_record,
    server_wire,
    session_record,
    session_wire,
)

UUID = "3f0c8e0a-1b5c-4e7e-9d2e-0a1b2c3d4e5f"

SERVER = {
    "Id": "aXAtMTAtMC0w",
    "Ip": "10.0.0.7",
    "Hostname": "gpu-007",
    "DefaultDnsName": "gpu-007.example",
    "Port": "8443",
    "Endpoints": [
        {"IpAddress": "10.0.0.7", "Port": 8443, "Protocol": "HTTP", "WebUrlPath": "/"},
        {"IpAddress": "10.0.0.7", "Port": 8443, "Protocol": "QUIC"},
    ],
    "WebUrlPath": "/",
    "Version": "2025.0.1",
    "SessionManagerAgentVersion": "2025.0.2",
    "Availability": "UNAVAILABLE",
    "UnavailabilityReason": "SERVER_FULL",
    "ConsoleSessionCount": 0,
    "VirtualSessionCount": 4,
    "Host": {
        "Os": {"Family": "linux", "Name": "Debian", "Version": "12", "KernelVersion": "6.1"},
        "Memory": {"TotalBytes": 64 << 30, "UsedBytes": 1 << 30},
        "Swap": {"TotalBytes": 0, "UsedBytes": 0},
        "Aws": {"Region": "eu-west-1", "EC2InstanceType": "g4dn", "EC2InstanceId": "i-1", "EC2ImageId": "a"},
        "CpuInfo": {
            "Vendor": "GenuineIntel",
            "ModelName": "Xeon",
            "Architecture": "x86_64",
            "NumberOfCpus": 16,
            "PhysicalCoresPerCpu": 8,
        },
        "CpuLoadAverage": {"OneMinute": 0.5, "FiveMinutes": 0.25, "FifteenMinutes": 0.125},
        "Gpus": [{"Vendor": "NVIDIA", "ModelName": "T4"}],
        "LoggedInUsers": [{"Username": "ana"}],
    },
    "Tags": [{"Key": "dcv:os-family", "Value": "linux"}, {"Key": "rack", "Value": "7"}],
}

SESSION = {
    "Id": UUID,
    "Name": "cad-ana-1",
    "Owner": "ana",
    "Type": "VIRTUAL",
    "State": "READY",
    "CreationTime": "2026-03-30T15:47:06.822Z",
    "LastDisconnectionTime": "2026-03-30T16:00:00.000Z",
    "NumOfConnections": 2,
    "MaxConcurrentClients": 5,
    "StorageRoot": "%home%",
    "Server": {name: value for name, value in SERVER.items() if name != "Host"},
}


def session(number: int, **fields: Any) -> SessionRecord:
    return SessionRecord(key=("lab", str(number)), profile="lab", id=str(number), **fields)


def test_a_server_read_and_written_is_the_same() -> None:
    assert server_wire(server_record(SERVER, "lab")) == SERVER


def test_a_session_read_and_written_is_the_same() -> None:
    assert session_wire(session_record(SESSION, "lab"), server_record(SERVER, "lab")) == SESSION


def test_the_flat_reader_of_servers_agrees_with_the_model() -> None:
    model, record = Server.read(SERVER), server_record(SERVER)
    assert model.to_wire() == Server.read(server_wire(record)).to_wire()
    assert model.host and model.host.aws and model.host.memory
    assert record.hostname == model.hostname
    assert record.instance_type == model.host.aws.ec2_instance_type
    assert record.memory_total == model.host.memory.total_bytes
    assert record.agent_version == model.session_manager_agent_version


def test_the_flat_reader_of_sessions_agrees_with_the_model() -> None:
    record = session_record(SESSION)
    assert Session.read(session_wire(record, server_record(SERVER))) == Session.read(SESSION)
    assert record.creation_time == datetime(2026, 3, 30, 15, 47, 6, 822000, tzinfo=UTC)
    assert record.server_name == "gpu-007"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(SERVER)), anything))
def test_a_server_full_of_surprises_is_still_read(wire: dict[str, Any]) -> None:
    assert server_record(wire, "lab").profile == "lab"


@given(st.dictionaries(st.sampled_from(sorted(SESSION)), anything))
def test_a_session_full_of_surprises_is_still_read(wire: dict[str, Any]) -> None:
    assert session_record(wire, "lab").profile == "lab"


@pytest.mark.parametrize("number", [1e400, -1e400, float("nan"), 10**4000, -(10**400), "9" * 5000, True])
def test_numbers_without_measure_are_as_if_not_said(number: Any) -> None:
    load = {"OneMinute": number, "FiveMinutes": number, "FifteenMinutes": number}
    memory = {"TotalBytes": number, "UsedBytes": number}
    wire = {"Id": "s", "VirtualSessionCount": number, "Host": {"CpuLoadAverage": load, "Memory": memory}}
    assert server_record(wire) == server_record({"Id": "s"})
    wire = {"Id": "s", "NumOfConnections": number, "MaxConcurrentClients": number}
    assert session_record(wire) == session_record({"Id": "s"})


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00Z",
        "9999-12-31T00:00:00Z",
        "?",
    ],
)
def test_times_at_the_ends_of_the_calendar_are_as_if_not_said(time: str) -> None:
    wire = {"Id": "s", "CreationTime": time, "LastDisconnectionTime": time}
    assert session_record(wire) == session_record({"Id": "s"})


def test_a_session_found_on_a_host_is_identified_with_its_server() -> None:
    found = session_record({"Id": "console", "Server": {"Id": "srv-1"}}, "lab")
    made = session_record({"Id": UUID, "Server": {"Id": "srv-1"}}, "lab")
    assert found.key == ("lab", "srv-1", "console")
    assert made.key == ("lab", UUID)


def test_ports_are_read_from_numbers_and_texts() -> None:
    record = server_record({"Port": 8443, "Endpoints": [{"Port": "8444", "Protocol": "http"}]})
    assert record.port == "8443"
    assert (record.endpoints[0].port, record.endpoints[0].protocol) == (8444, "HTTP")


def test_only_a_ready_session_without_clients_is_idle() -> None:
    born, left = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert session(1, state="READY", creation_time=born).idle_since == born
    assert session(1, state="READY", creation_time=born, last_disconnection_time=left).idle_since == left
    assert session(1, state="READY", creation_time=born, connections=1).idle_since is None
    assert session(1, state="UNKNOWN", creation_time=born).idle_since is None


fleets = st.dictionaries(st.integers(0, 12), st.sampled_from(["READY", "UNKNOWN", "DELETED"])).map(
    lambda states: {("lab", str(n)): session(n, state=state) for n, state in states.items()}
)


@given(fleets, fleets)
def test_a_difference_applied_to_the_old_gives_the_new(
    old: dict[Key, SessionRecord], new: dict[Key, SessionRecord]
) -> None:
    before, after = Snapshot(sessions=old), Snapshot(sessions=new)
    assert difference(before, after).applied_to(before) == after
    assert not difference(after, after)


@given(fleets, fleets)
def test_a_sweep_in_pages_leaves_what_the_broker_has(
    old: dict[Key, SessionRecord], new: dict[Key, SessionRecord]
) -> None:
    snapshot, records = Snapshot(sessions=old), list(new.values())
    for start in range(0, len(records), 3):
        page = changes_by_page(snapshot.sessions, records[start : start + 3])
        snapshot = Difference(sessions=page).applied_to(snapshot)
    swept = Difference(sessions=changes_by_sweep(snapshot.sessions, set(new))).applied_to(snapshot)
    assert swept.sessions == new


def test_a_page_says_nothing_about_what_is_not_on_it() -> None:
    known: dict[Key, SessionRecord] = {("lab", "1"): session(1), ("lab", "2"): session(2)}
    assert not changes_by_page(known, [session(1)])
    assert changes_by_page(known, [session(1, state="READY")]) == Changes(
        changed=((known["lab", "1"], session(1, state="READY")),)
    )


def test_asked_for_by_id_and_not_returned_is_gone() -> None:
    known: dict[Key, SessionRecord] = {("lab", "1"): session(1), ("lab", "2"): session(2)}
    changes = changes_by_answer(known, [("lab", "1"), ("lab", "9")], [])
    assert changes == Changes(removed=(known["lab", "1"],))


def test_nothing_new_keeps_the_snapshot_object() -> None:
    snapshot = Snapshot(sessions={("lab", "1"): session(1)})
    assert Difference().applied_to(snapshot) is snapshot
