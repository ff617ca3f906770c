"""The broker's log files: where lines go, in which form, who may read them, what never stands in them."""

import contextlib
import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_stub.broker import audit, logs
from broker_stub.broker.settings import Running
from broker_stub.log_files import DAILY, LogFile

logger = logging.getLogger("broker_stub.test")


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """What the test sets up is taken down again."""
    root, ours, trail = logging.getLogger(), logging.getLogger("broker_stub"), audit.trail
    before = [(each, list(each.handlers), each.level, each.propagate) for each in (root, ours, trail)]
    outside = audit._current.set(None)
    yield
    audit._current.reset(outside)
    for each, handlers, level, propagate in before:
        for handler in set(each.handlers) - set(handlers):
            each.removeHandler(handler)
            handler.close()
        each.setLevel(level)
        each.propagate = propagate


def settings(folder: Path, **values: str) -> Running:
    return Running.model_validate({"ext-log-path": folder, **{f"ext-log-{k}": v for k, v in values.items()}})


def test_lines_carry_the_request_and_names_cannot_forge_them(tmp_path: Path) -> None:
    logs.log_to(settings(tmp_path / "log"), io.StringIO())
    call = audit.begin("192.0.2.7")
    logger.info("Hello %s", "x\nERROR all is lost")
    (line,) = (tmp_path / "log" / "broker.log").read_text().splitlines()
    assert line.endswith(f"INFO broker_stub.test: Hello x␊ERROR all is lost [{call.request_id}]")
    assert line[10] == "T"
    assert line[23] == "Z"


def test_json_lines_hold_one_object_each(tmp_path: Path) -> None:
    logs.log_to(settings(tmp_path, format="json"), io.StringIO())
    call = audit.begin("192.0.2.7")
    try:
        int("one")
    except ValueError:
        logger.exception("It failed\nhere")
    audit.write("create-sessions", "done", call)
    (line,) = (tmp_path / "broker.log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["message"], entry["level"], entry["request"]) == (
        "It failed\nhere",
        "ERROR",
        call.request_id,
    )
    assert "ValueError" in entry["traceback"]
    (line,) = (tmp_path / "audit.log").read_text().splitlines()
    assert json.loads(line)["action"] == "create-sessions"


def test_the_audit_trail_is_a_file_of_its_own(tmp_path: Path) -> None:
    logs.log_to(settings(tmp_path), io.StringIO())
    call = audit.begin("192.0.2.7")
    audit.note_actor("a client")
    audit.note_items([f"id-{number}" for number in range(30)], failed=2)
    audit.note(reason='said "no"')
    audit.write("delete-sessions", "done", call)
    (line,) = (tmp_path / "audit.log").read_text().splitlines()
    _, _, pairs = line.partition(" ")
    named = ",".join(f"id-{number}" for number in range(20))
    assert pairs == (
        f'action=delete-sessions outcome=done actor="a client" address=192.0.2.7 request={call.request_id} '
        f'done=30 failed=2 ids={named} reason="said \\"no\\""'
    )
    assert not (tmp_path / "broker.log").read_text()


@pytest.mark.covers("B12")
def test_libraries_stay_quiet_at_every_level(tmp_path: Path) -> None:
    """With the most talkative level no library writes its statements, frames and headers into the log."""
    logs.log_to(settings(tmp_path, level="debug"), io.StringIO())
    for name in (
        "sqlalchemy.engine.Engine",
        "httpx",
        "httpcore.http11",
        "websockets.server",
        "uvicorn.error",
    ):
        logging.getLogger(name).info("INSERT INTO signing_keys VALUES (s3cr3t)")
        logging.getLogger(name).debug("> Authorization: Bearer s3cr3t")
    logger.debug("We say what we do.")
    assert "s3cr3t" not in (tmp_path / "broker.log").read_text()
    assert "We say what we do." in (tmp_path / "broker.log").read_text()


def test_the_level_can_change_while_it_runs(tmp_path: Path) -> None:
    logs.log_to(settings(tmp_path, level="error"), io.StringIO())
    logger.info("not yet")
    logs.set_level("info")
    logger.info("now")
    assert [line.rpartition(" ")[2] for line in (tmp_path / "broker.log").read_text().splitlines()] == ["now"]


def test_a_folder_that_cannot_be_written_leaves_everything_to_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = io.StringIO()
    logs.log_to(settings(tmp_path / "file"), journal)
    logger.info("still heard")
    audit.write("create-sessions", "done", audit.begin("192.0.2.7"))
    said = journal.getvalue()
    assert "Everything goes to standard error" in said
    assert "still heard" in said
    assert "create-sessions: done" in said


def test_the_journal_gets_warnings_only_where_there_is_a_file(tmp_path: Path) -> None:
    journal = io.StringIO()
    logs.log_to(settings(tmp_path), journal)
    logger.info("for the file")
    logger.warning("for both")
    assert "for the file" not in journal.getvalue()
    assert "for both" in journal.getvalue()


def test_files_are_private_and_set_aside_by_size_and_day(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log" / "x.log", period=DAILY, max_bytes=100, kept=2)
    file.setFormatter(logging.Formatter("%(message)s"))
    record = logging.makeLogRecord({"msg": "a" * 60})
    for _ in range(5):
        file.handle(record)
    names = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert names == ["x.log", "x.log.1", "x.log.2"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o027 for path in (tmp_path / "log").iterdir()} == {0}
    assert not stat.S_IMODE((tmp_path / "log").stat().st_mode) & 0o027
    record = logging.makeLogRecord({"msg": "b", "created": record.created + 86_400})
    file.handle(record)
    file.close()
    assert (tmp_path / "log" / "x.log").read_text() == "b\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without room")
def test_a_full_disk_is_said_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.log"
    path.symlink_to("/dev/full")
    file = LogFile(path, period=DAILY, max_bytes=1, kept=2)
    for _ in range(3):
        file.handle(logging.makeLogRecord({"msg": "a"}))
    said = capsys.readouterr().err
    with contextlib.suppress(OSError):  # what is still in its buffer has no room either
        file.close()
    assert list(tmp_path.iterdir()) == [path], "a device is not set aside"
    assert said == f"The log file {path} cannot be written: [Errno 28] No space left on device\n"
