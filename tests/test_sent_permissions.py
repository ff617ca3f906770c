"""What was sent is remembered, privately, two texts deep, and forgotten with its session."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcvtui.sent_permissions import SentPermissions

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)


def test_the_last_two_texts_outlive_the_console(tmp_path: Path) -> None:
    path = tmp_path / "state" / "permissions.json"
    sent = SentPermissions(path)
    for text in ("one", "two", "three"):
        sent.note(["s1", "s2"], text, NOON)
    again = SentPermissions(path)
    last, before = again.last("s1"), again.before("s1")
    assert last is not None
    assert before is not None
    assert (last.text, last.time, before.text) == ("three", NOON, "two")
    assert path.stat().st_mode & 0o777 == 0o600


def test_sessions_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "permissions.json"
    sent = SentPermissions(path)
    sent.note(["s1", "s2"], "one", NOON)
    sent.keep_only({"s2"})
    assert SentPermissions(path).last("s1") is None
    assert SentPermissions(path).last("s2") is not None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"s1": [{"text": 1}]}', b'{"s1": 7}', b"\xff"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "permissions.json"
    path.write_bytes(data)
    sent = SentPermissions(path)
    assert sent.last("s1") is None
    sent.note(["s1"], "one", NOON)
    assert SentPermissions(path).last("s1") is not None


def test_without_a_place_it_is_remembered_as_long_as_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (None, tmp_path / "file" / "below"):
        sent = SentPermissions(path)
        sent.note(["s1"], "one", NOON)
        assert sent.last("s1") is not None
        assert sent.before("s1") is None
