import stat
from pathlib import Path

import pytest

from dcvtui.private_files import replace_private


def test_w4_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "ana.dcv"
    replace_private(path, "secret\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "secret\n"


def test_an_older_file_that_others_could_read_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "ana.dcv"
    path.write_text("old")
    path.chmod(0o644)
    replace_private(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ana.dcv"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "ana.dcv"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_private(path, "\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ana.dcv"]
