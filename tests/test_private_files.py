"""Saved files are private, whole, and named after sessions without surprises."""

import stat
from pathlib import Path

import pytest

from dcvtui.private_files import file_stem, replace_private, shown_path


def test_w4_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "ana.dcv"
    replace_private(path, b"secret\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"secret\n"


def test_an_older_file_that_others_could_read_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "ana.dcv"
    path.write_text("old")
    path.chmod(0o644)
    replace_private(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "ana.dcv"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_private(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_private(tmp_path / "taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("parts", "stem"),
    [
        (("ana", "cad-ana-1"), "ana_cad-ana-1"),
        (("CORP\\ana", "my session"), "CORP_ana_my_session"),
        (("../../etc/passwd",), "etc_passwd"),
        ((".hidden",), "hidden"),
        (("", "\u202egnp.exe"), "gnp.exe"),
        (("", "…"), "unnamed"),
        (("x" * 300,), "x" * 80),
    ],
)
def test_file_names_are_cleaned(parts: tuple[str, ...], stem: str) -> None:
    assert file_stem(*parts) == stem


def test_paths_are_shown_as_people_write_them() -> None:
    assert shown_path(Path.home() / "a.png") == "~/a.png"
    assert shown_path(Path("/srv/a.png")) == "/srv/a.png"
