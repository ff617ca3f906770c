"""Commands among hostile names, on full disks, with closed streams, and interrupted at a question."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.awkward_broker import AwkwardBroker
from tests.commands.recording import SERVER, Fleet, Shell, session
from tests.pseudo_terminal import Terminal

PROGRAM = [sys.executable, "-m", "dcvtui"]
HOSTILE = "\x1b[2J\x9b31m\u202eevil\r\n\x07"
NO_TIME = ["--wait", "--timeout", "0"]
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


async def in_a_shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f'"{sys.executable}" -m dcvtui'
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", line.replace("dcvtui", program)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("chosen", ["table", "csv", "tsv", "ids", "json", "yaml"])
@pytest.mark.parametrize(
    "line",
    [
        ["describe-sessions"],
        ["describe-servers"],
        ["delete-session", "--filter", "clients>=0", "--yes"],
        ["delete-session", "--filter", "clients>=0", "--dry-run"],
        ["close-servers", "--filter", "load<9 or sessions>=0", "--yes"],
        ["create-session", "--name", HOSTILE, "--owner", HOSTILE, "--type", "virtual", *NO_TIME],
    ],
    ids=lambda line: line[0],
)  # fmt: skip
async def test_names_from_elsewhere_cannot_steer_the_terminal(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, line: list[str], chosen: str
) -> None:
    fields = {"Name": HOSTILE, "Owner": HOSTILE, "StateReason": HOSTILE}
    fleet.sessions = [session(1, **fields), session(2, NumOfConnections=1, **fields)]
    fleet.servers = [SERVER | {"Hostname": HOSTILE, "VirtualSessionCount": 1}]
    fleet.failures = {"id-1": HOSTILE}
    code = {"create-session": 4}.get(line[0], 3 if "--yes" in line and line[0] == "delete-session" else 0)
    out = await shell(*line, "--output", chosen, code=code)
    assert CONTROLS.search(out.replace("\t", " ") if chosen == "tsv" else out) is None
    assert CONTROLS.search(shell.err) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_a_full_disk_is_one_sentence(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.sessions = [session(1)]
    for line in ("describe-sessions", "permissions preset", "--help"):
        done = await in_a_shell(f"dcvtui {line} >/dev/full")
        assert (done.returncode, done.stderr) == (
            255,
            "dcvtui: The output cannot be written: No space left on device.\n",
        )


async def test_closed_streams_are_no_matter(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.sessions = [session(1)]
    for redirection, out in ((">&-", ""), ("2>&-", "id-1\n"), ("<&-", "id-1\n"), ("<&- >&- 2>&-", "")):
        done = await in_a_shell(f"dcvtui describe-sessions --output ids {redirection}")
        assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


async def test_bytes_that_are_no_text_are_no_ids(broker: AwkwardBroker) -> None:
    done = await in_a_shell(r"printf 'a\n\xff\n' | dcvtui delete-session -")
    assert (done.returncode, done.stdout) == (252, "")
    assert "no UTF-8" in done.stderr
    assert broker.asked == []


async def test_ctrl_c_at_a_question_changes_nothing(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.sessions = [session(1)]

    def interrupt() -> int:
        with Terminal([*PROGRAM, "delete-session", "--filter", "owner:ana"], 100, 30) as terminal:
            terminal.wait_for("Delete 1 session? [y/N]")
            terminal.press("ctrl+c")
            return terminal.wait_exit()

    assert await asyncio.to_thread(interrupt) == 130
    assert {asked.path for asked in broker.asked} == {"/describeSessions"}


async def test_sigterm_ends_a_wait_like_ctrl_c(broker: AwkwardBroker, fleet: Fleet) -> None:
    line = [
        "create-session",
        "--name",
        "cad",
        "--owner",
        "ana",
        "--type",
        "virtual",
        "--wait",
        "--output",
        "ids",
    ]
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *line, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    await asyncio.wait_for(process.stderr.readline(), 60)
    process.terminate()
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (130, b"id-1\n")


def test_doctor_reads_the_options_of_the_tmux_it_runs_in(tmp_path: Path) -> None:
    if not (tmux := shutil.which("tmux")):
        pytest.skip("tmux is not installed: apt-get install tmux")
    server = [tmux, "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    found = tmp_path / "found.txt"
    command = f"'{sys.executable}' -m dcvtui doctor --output table >'{found}' 2>&1; '{tmux}' wait-for -S done"
    environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
    try:
        subprocess.run(
            [*server, "set", "-s", "escape-time", "500", ";", "set", "-g", "allow-passthrough", "off", ";",
             "new-session", "-d", command, ";", "wait-for", "done"],
            env=environment | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}, check=True, timeout=100,
            capture_output=True,
        )  # fmt: skip
        text = found.read_text()
    finally:
        subprocess.run([*server, "kill-server"], env=environment, capture_output=True, check=False)
    assert "clipboard  ok      through tmux to the terminal" in text
    assert re.search(r"tmux +ok +tmux \d", text)
    assert "allow-passthrough on" in text
    assert "escape-time 20" in text
