"""What is written down of X sessions, and the form of their secrets."""

import getpass
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker_stub.agent.owners import find_owner
from broker_stub.agent.processes import Process
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_server import write_private
from broker_stub.agent.x_state import SessionFolder, XSession, session_folders

SESSION = XSession(
    id="s-1",
    name='cad "1"\n',
    owner="ana",
    creation_time=datetime(2026, 3, 30, 15, 47, 6, 822000, tzinfo=UTC),
    display=3,
    width=1280,
    height=720,
    x_server=Process(10, 100),
    init=Process(11, 101),
    boot_id="b",
    storage_root="/home/ana",
    server=ServerKind.XVNC,
    max_concurrent_clients=5,
    connections=2,
    last_disconnection_time=datetime(2026, 3, 30, 16, tzinfo=UTC),
)


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    folder = SessionFolder(tmp_path / "s-1")
    folder.make(find_owner(getpass.getuser(), 0))
    return folder


@pytest.mark.parametrize(
    "session",
    [
        SESSION,
        replace(SESSION, max_concurrent_clients=None, storage_root="", last_disconnection_time=None),
    ],
)
def test_a_session_is_read_as_it_was_written(folder: SessionFolder, session: XSession) -> None:
    folder.write(session)
    assert folder.read() == session


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", SESSION.to_json()[:-40], b'{"id": "s-1", "creation_time": "x"}'],
)
def test_half_a_state_file_is_no_session(folder: SessionFolder, content: bytes) -> None:
    (folder.path / "state.json").write_bytes(content)
    assert folder.read() is None


def test_everything_written_is_private(folder: SessionFolder) -> None:
    folder.write(SESSION)
    folder.write_permissions("x")
    assert folder.path.stat().st_mode & 0o777 == 0o711
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert modes == {"state.json": 0o600, "permissions": 0o600, "run": 0o700}


def test_a_private_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / ".file.new").symlink_to(other)
    (tmp_path / "file").symlink_to(other)
    write_private(tmp_path / "file", b"secret")
    assert other.read_text() == "mine"
    assert (tmp_path / "file").read_bytes() == b"secret"


def test_folders_of_sessions_are_found_and_nothing_else(tmp_path: Path, folder: SessionFolder) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(folder.path)
    assert [one.session_id for one in session_folders(tmp_path)] == ["s-1"]
    folder.remove()
    folder.remove()
    assert not list(session_folders(tmp_path))


def test_the_last_words_are_one_clean_line(folder: SessionFolder) -> None:
    assert folder.log.tail() == ""
    (folder.path / "session.log").write_bytes(
        b"x" * 1000 + "\x1b[31mno\ngraphics\tmemory \xff é\n".encode("latin-1")
    )
    tail = folder.log.tail()
    assert len(tail) <= 400
    assert tail.endswith("[31mno graphics memory � �")
    assert tail.isprintable()
