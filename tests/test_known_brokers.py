"""The brokers an operator knows: what the profile file says, and what is looked at without being in it."""

import json
from pathlib import Path

from dcvtui.config import Connection, Files
from dcvtui.details import broker_details
from dcvtui.known_brokers import BrokerRow, broker_rows, known_brokers
from dcvtui.polling import Link, LinkState
from dcvtui.watch import Counts

PIN = ":".join(["AB"] * 32)
PROFILES = f"""
default = "east"
[profiles.east]
url = "https://east.example:8443"
client_id = "me"
client_secret = "s3cret-of-east"
fingerprint = "SHA256:{PIN}"
read_only = true
[profiles.west]
url = "https://west.example:8443"
no_token = true
[profiles.broken]
client_id = "me"
"""


def files(tmp_path: Path) -> Files:
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES)
    path.chmod(0o600)
    return Files(path, tmp_path / "none.conf")


def test_every_profile_is_listed_and_a_broken_one_says_why(tmp_path: Path) -> None:
    known = {broker.name: broker for broker in known_brokers(files(tmp_path))}
    assert list(known) == ["east", "west", "broken"]
    assert known["east"].is_default
    assert known["east"].connection is not None
    assert known["east"].connection.read_only
    assert known["broken"].connection is None
    assert "url" in known["broken"].problem


def test_rows_tell_how_each_broker_is(tmp_path: Path) -> None:
    here = Connection("10.0.0.1:8443", "https://10.0.0.1:8443", None)
    rows = broker_rows(
        known_brokers(files(tmp_path)),
        [here],
        {"east": Link(LinkState.STALE, "connection refused"), "10.0.0.1:8443": Link(LinkState.LIVE)},
        {"10.0.0.1:8443": Counts(3, 2, {"READY": 4})},
    )
    assert [(row.name, row.state, row.why[:18]) for row in rows.values()] == [
        ("east", "stale", "connection refused"),
        ("west", "not open", ""),
        ("broken", "not open", "There is no url in"),
        ("10.0.0.1:8443", "live", ""),
    ]


def test_details_tell_whom_is_trusted_and_no_secret(tmp_path: Path) -> None:
    rows = broker_rows(known_brokers(files(tmp_path)), [], {}, {})
    details: dict[str, BrokerRow] = {row.name: row for row in rows.values()}
    shown = json.dumps([str(detail) for detail in broker_details(details["east"])])
    assert f"pinned SHA256:{PIN}" in shown
    assert "read-only" in shown
    assert "s3cret" not in shown
