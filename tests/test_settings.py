"""Settings, what is saved by name, and the audit trail: read, kept, and never trusted blindly."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dcvtui.audit import LARGEST, AuditTrail
from dcvtui.errors import ConfigError
from dcvtui.operations import ItemResult, Outcome
from dcvtui.saved import Saved
from dcvtui.settings import Settings, read_settings

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)


def test_without_a_file_everything_is_as_it_is(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "settings.toml") == Settings()


def test_every_setting_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        'theme = "light"\nascii = true\nimages = "half"\nmouse = false\nlive_picture = true\n'
        'visible_every = "3s"\npage_every = "1.5s"\nsmall_fleet_every = "1m"\nidle_limit = "7d"\n'
        '[keys]\n"sessions.delete-marked" = "X"\n"any.open-wall" = ""\n'
    )
    found = read_settings(path)
    assert found == Settings(
        "light", True, "half", False, True,
        timedelta(seconds=3), timedelta(seconds=1.5), timedelta(minutes=1), timedelta(days=7),
        {"sessions.delete-marked": "X", "any.open-wall": ""},
    )  # fmt: skip


def test_an_unknown_key_is_told_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('them = "light"\n')
    (note,) = read_settings(path).notes
    assert "'them' is not known" in note
    assert "'theme'" in note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = 7", "theme must be a text, not 7"),
        ('mouse = "yes"', "mouse must be true or false"),
        ('images = "ascii"', "images must be one of auto"),
        ('idle_limit = "soon"', "idle_limit must be a time such as"),
        ('page_every = "0s"', "page_every must be a time such as"),
        ("keys = []", "keys must be a table of ids and keys"),
        ("theme = ", "are damaged"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_by_its_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_settings(path)


def test_what_is_saved_outlives_the_console_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "saved.json"
    saved = Saved(path)
    saved.set_columns("sessions", ["NAME", "tag:team"])
    saved.set_filter("sessions", "mine", "owner:ana")
    saved.set_template("class", {"name": "class-{n}"})
    again = Saved(path)
    assert again.columns("sessions") == ["NAME", "tag:team"]
    assert again.name_of("sessions", "owner:ana") == "mine"
    assert again.templates == {"class": {"name": "class-{n}"}}
    assert path.stat().st_mode & 0o777 == 0o600
    again.set_filter("sessions", "mine", None)
    again.set_columns("sessions", [])
    again.set_template("class", None)
    assert json.loads(path.read_text()) == {"columns": {}, "filters": {}, "templates": {}, "defaults": {}}


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"columns": 7}', b'{"filters": {"a": 1}}', b"\xff"])
def test_a_damaged_file_stops_nobody(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(data)
    saved = Saved(path)
    assert (list(saved.columns("sessions")), dict(saved.filters("sessions"))) == ([], {})
    saved.set_columns("sessions", ["NAME"])
    assert Saved(path).columns("sessions") == ["NAME"]


def test_the_audit_trail_is_turned_over_and_tells_when_it_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(path, "ana")
    result = ItemResult("s1", "cad\n1", Outcome.FAILED, reason="no\u202e", request_id="r-1")
    assert trail.note("delete", [(("prod", "s1"), result)], NOON, {"prod": "https://b:8443"}) == ""
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["user"] == "ana"
    path.write_text("x" * LARGEST)
    trail.note("delete", [(("prod", "s1"), result)], NOON, {})
    assert len(path.read_text().splitlines()) == 1
    assert (tmp_path / "audit.jsonl.1").stat().st_size == LARGEST
    assert "cannot be written" in AuditTrail(path / "below", "ana").note(
        "x", [(("p", "s"), result)], NOON, {}
    )
    assert AuditTrail(None, "ana").note("x", [(("p", "s"), result)], NOON, {}) == ""
