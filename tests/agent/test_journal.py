"""What an agent has promised survives the agent."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.agent.journal import KEPT_S, MAX_ENTRIES, Journal
from broker_stub.agent.journal_file import JournalFile

PAYLOAD = {"sessionId": "s", "owner": "ana", "type": "VIRTUAL", "permissionsFile": "c2VjcmV0"}
RESULT = {"commandId": "c", "success": True, "code": "OK", "data": {}}


def states(journal: Journal) -> dict[str, str]:
    return {entry.command_id: entry.state for entry in journal.entries()}


async def test_entries_are_there_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(JournalFile(path))
    for command_id in "abc":
        await journal.accept(command_id, "createSession", PAYLOAD)
    await journal.finish("b", RESULT)
    await journal.forget("c")
    await journal.forget("c")
    await journal.finish("unknown", RESULT)
    journal.close()
    again = Journal(JournalFile(path))
    assert states(again) == {"a": "accepted", "b": "finished"}
    entry = again.find("b")
    assert entry is not None
    assert entry.result == RESULT
    assert entry.kind == "createSession"
    again.close()


async def test_the_file_is_private_and_holds_no_permissions(tmp_path: Path) -> None:
    journal = Journal(JournalFile(tmp_path / "journal"))
    await journal.accept("a", "createSession", PAYLOAD)
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
    assert "c2VjcmV0" not in (tmp_path / "journal").read_text()
    journal.close()


async def test_half_a_line_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(JournalFile(path))
    await journal.accept("a", "createSession", PAYLOAD)
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"finished": "a", "resu')
    again = Journal(JournalFile(path))
    await again.accept("b", "deleteSession", PAYLOAD)
    again.close()
    last = Journal(JournalFile(path))
    assert states(last) == {"a": "accepted", "b": "accepted"}
    last.close()


@pytest.mark.parametrize("line", ["[]", "5", '{"accepted": "a"}', '{"finished": []}', "\xff", "null"])
def test_nonsense_in_the_file_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    path.write_text(line + "\n", encoding="latin-1")
    journal = Journal(JournalFile(path))
    assert states(journal) == {}
    journal.close()


async def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    journal = Journal()
    await journal.accept("running", "createSession", PAYLOAD)
    for number in range(MAX_ENTRIES + 10):
        await journal.accept(f"c{number}", "createSession", PAYLOAD)
        await journal.finish(f"c{number}", RESULT)
    assert len(journal) == MAX_ENTRIES
    assert journal.find("running") is not None  # a result nobody fetched goes first
    assert journal.find("c0") is None


async def test_the_file_is_rewritten_when_most_of_it_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_stub.agent.journal._REWRITE_AFTER_LINES", 20)
    path = tmp_path / "journal"
    journal = Journal(JournalFile(path))
    for number in range(30):
        await journal.accept(f"c{number}", "createSession", PAYLOAD)
        await journal.forget(f"c{number}")
    await journal.accept("last", "createSession", PAYLOAD)
    assert len(path.read_bytes().splitlines()) <= 21
    journal.close()
    again = Journal(JournalFile(path))
    assert states(again) == {"last": "accepted"}
    again.close()


async def test_what_nobody_asked_about_for_a_day_is_dropped() -> None:
    now = 1000.0
    journal = Journal(clock=lambda: now)
    await journal.accept("a", "createSession", PAYLOAD)
    now += KEPT_S - 1
    assert states(journal) == {"a": "accepted"}
    now += 2
    assert states(journal) == {}


async def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    journal = Journal(JournalFile(tmp_path / "journal"))
    journal.close()
    with pytest.raises(OSError):
        await journal.accept("a", "createSession", PAYLOAD)
    assert states(journal) == {}


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["accept", "finish", "forget", "restart"]), st.integers(0, 4)), max_size=25
    )
)
def test_the_file_says_what_memory_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"

    async def play() -> None:
        kept, told = Journal(JournalFile(path)), Journal()
        for step, number in steps:
            command_id = str(number)
            for journal in (kept, told):
                if step == "accept" and journal.find(command_id) is None:
                    await journal.accept(command_id, "deleteSession", PAYLOAD)
                elif step == "finish":
                    await journal.finish(command_id, RESULT)
                elif step == "forget":
                    await journal.forget(command_id)
            if step == "restart":
                kept.close()
                kept = Journal(JournalFile(path))
            assert states(kept) == states(told)
        kept.close()

    asyncio.run(play())


async def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    """A process that is killed the moment it has said that it took a command."""
    path = tmp_path / "journal"
    program = (
        "import asyncio, pathlib, sys\n"
        "from broker_stub.agent.journal import Journal\n"
        "from broker_stub.agent.journal_file import JournalFile\n"
        "journal = Journal(JournalFile(pathlib.Path(sys.argv[1])))\n"
        "asyncio.run(journal.accept('a', 'createSession', {'sessionId': 's'}))\n"
        "print('taken', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"taken\n"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert json.loads(path.read_bytes().splitlines()[-1])["accepted"] == "a"
    journal = Journal(JournalFile(path))
    assert states(journal) == {"a": "accepted"}
    journal.close()


async def test_a_full_disk_refuses_a_promise_and_spoils_no_former_one(tmp_path: Path) -> None:
    """A file that may not grow any more, as on a full disk: nothing is half written, what was there stays,
    and once there is room again all goes on."""
    path = tmp_path / "journal"
    program = (
        "import asyncio, pathlib, resource, signal, sys\n"
        "from broker_stub.agent.journal import Journal\n"
        "from broker_stub.agent.journal_file import JournalFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "async def work():\n"
        "    journal = Journal(JournalFile(pathlib.Path(sys.argv[1])))\n"
        "    await journal.accept('a', 'createSession', {'sessionId': 's'})\n"
        "    size = pathlib.Path(sys.argv[1]).stat().st_size\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))\n"
        "    for step in (journal.accept('b', 'createSession', {}), journal.finish('a', {'code': 'OK'})):\n"
        "        try:\n"
        "            await step\n"
        "        except OSError as error:\n"
        "            print('refused')\n"
        "    print(sorted(one.command_id for one in journal.entries()))\n"
        "    assert pathlib.Path(sys.argv[1]).stat().st_size == size\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    await journal.accept('c', 'createSession', {})\n"
        "asyncio.run(work())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines() == ["refused", "refused", "['a']"]
    journal = Journal(JournalFile(path))
    assert states(journal) == {"a": "accepted", "c": "accepted"}
    journal.close()


async def test_a_disk_too_full_to_rewrite_still_takes_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_stub.agent.journal._REWRITE_AFTER_LINES", 3)
    path = tmp_path / "journal"
    journal = Journal(JournalFile(path))
    (tmp_path / "journal.new").mkdir()  # nothing can be written beside it
    for number in range(6):
        await journal.accept(f"c{number}", "createSession", PAYLOAD)
    journal.close()
    again = Journal(JournalFile(path))
    assert len(again) == 6
    again.close()
