"""Tags of a server from the administrator's files."""

import logging
import os
from pathlib import Path

import pytest

from broker_stub.agent.tags import TagsFolder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.covers("G9")
def test_files_merge_in_alphabetical_order_and_the_last_wins(tmp_path: Path) -> None:
    """Tags of all files of the folder apply in alphabetical order, and the last value of a key wins."""
    write(tmp_path, "20.toml", 'color = "red"\nsize = "big"\n')
    write(tmp_path, "10.toml", 'color = "blue"\nteam = "cad"\n')
    write(tmp_path, "30.txt", 'color = "ignored"\n')
    assert TagsFolder(tmp_path)() == {"color": "red", "team": "cad", "size": "big"}


@pytest.mark.covers("G9")
def test_a_broken_file_hides_no_other_and_is_said_once_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is broken is skipped with one warning; the others apply."""
    write(tmp_path, "a.toml", "color = \n")
    write(tmp_path, "b.toml", 'size = "big"\n')
    tags = TagsFolder(tmp_path)
    for _ in range(3):
        assert tags() == {"size": "big"}
    assert len(caplog.messages) == 1
    assert "a.toml" in caplog.messages[0]


@pytest.mark.covers("G9")
def test_a_change_shows_at_the_next_look(tmp_path: Path) -> None:
    """A file that is new, changed or gone counts from the next look on."""
    tags = TagsFolder(tmp_path / "later")
    assert tags() == {}
    (tmp_path / "later").mkdir()
    write(tmp_path / "later", "a.toml", 'color = "blue"\n')
    assert tags() == {"color": "blue"}
    write(tmp_path / "later", "a.toml", 'color = "teal"\n')  # the same length
    os.utime(tmp_path / "later" / "a.toml", ns=(1, 1))
    assert tags() == {"color": "teal"}
    (tmp_path / "later" / "a.toml").unlink()
    assert tags() == {}


@pytest.mark.covers("G10")
def test_numbers_become_texts_and_the_rest_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers and booleans become texts; other values and keys with the reserved prefix are dropped with a
    warning."""
    write(
        tmp_path,
        "a.toml",
        'n = 5\nf = 1.5\nyes = true\nlist = [1]\ndate = 2026-01-01\n"dcv:os-family" = "mine"\n'
        f'long = "{"x" * 257}"\n"{"k" * 129}" = "v"\n"with space" = "ok"\n[table]\nx = 1\n',
    )
    assert TagsFolder(tmp_path)() == {"n": "5", "f": "1.5", "yes": "true", "with space": "ok"}
    assert sum("skipped" in message for message in caplog.messages) == 5
    assert sum("dcv:os-family" in message for message in caplog.messages) == 1


def test_no_more_tags_than_the_channel_carries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write(tmp_path, "a.toml", "".join(f"t{n} = {n}\n" for n in range(100)))
    assert len(TagsFolder(tmp_path)()) == 61  # and the agent's own three
    assert "100" in caplog.text


def test_a_file_too_large_to_be_meant_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", f"# {'x' * 300_000}\ncolor = 'blue'\n")
    assert TagsFolder(tmp_path)() == {}
