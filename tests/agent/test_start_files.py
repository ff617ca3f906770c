"""Names of init and autorun files never reach outside their folder."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker_stub.agent.start_files import StartFileError, check_spelling, locate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "init"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret.sh").write_text("x")
    (folder / "run.sh").write_text("x")
    (folder / "deep" / "run.sh").write_text("x")
    (folder / "inside").symlink_to("deep/run.sh")
    (folder / "outside").symlink_to("../secret.sh")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    return folder


@pytest.mark.parametrize(
    ("name", "found"),
    [("run.sh", "run.sh"), ("deep/run.sh", "deep/run.sh"), ("./run.sh", "run.sh"), ("inside", "deep/run.sh")],
)
def test_files_inside_are_found(folder: Path, name: str, found: str) -> None:
    assert locate(folder, name) == folder / found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "blank"),
        ("  ", "blank"),
        ("a\0b", "blank"),
        ("/bin/true", "relative"),
        ("\\\\host\\x", "relative"),
        ("C:\\x.exe", "relative"),
        ("../secret.sh", "'..'"),
        ("deep\\..\\..\\x", "'..'"),
        ("missing.sh", "no file 'missing.sh'"),
        ("outside", "leads out"),
        ("up/secret.sh", "leads out"),
        ("circle", "no file"),
        ("deep", "not a file"),
    ],
)
def test_all_others_are_refused_with_the_reason(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(StartFileError, match=re.escape(reason)):
        locate(folder, name)


def test_an_absolute_path_is_taken_only_where_allowed_and_inside(folder: Path) -> None:
    inside = str(folder / "run.sh")
    assert locate(folder, inside, absolute_allowed=True) == folder / "run.sh"
    for name in (str(folder.parent / "secret.sh"), f"{folder}/../secret.sh", f"{folder}/deep/../run.sh"):
        with pytest.raises(StartFileError):
            locate(folder, name, absolute_allowed=True)


def test_a_missing_folder_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StartFileError, match="no file"):
        locate(tmp_path / "nowhere", "run.sh")


@given(some.text(alphabet="./\\ab: ", max_size=12))
def test_no_spelling_that_passes_leads_out(name: str) -> None:
    try:
        check_spelling(name)
    except StartFileError:
        return
    base = Path("/base")
    assert (base / name).is_relative_to(base)
    assert ".." not in Path(name).parts
