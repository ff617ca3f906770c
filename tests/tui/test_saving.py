"""Saved files are private, whole, and named after sessions without surprises."""

from pathlib import Path

import pytest

from dcvtui.tui.saving import file_stem, save_private, shown_path


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


def test_a_saved_file_is_for_its_owner_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "a.dcv"
    path.write_text("old")
    path.chmod(0o644)
    save_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_private(tmp_path / "taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_paths_are_shown_as_people_write_them() -> None:
    assert shown_path(Path.home() / "a.png") == "~/a.png"
    assert shown_path(Path("/srv/a.png")) == "/srv/a.png"
