"""What the processes of an X session may do, as the system itself tells it."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from broker_stub.agent import processes
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder, XSession
from tests.agent.x_sessions import (
    ME,
    OTHER,
    folder_of,
    grabbers,
    needs_root,
    needs_xvfb,
    needs_xvnc,
    opened,
    program_of,
    script,
    session_of,
    spec_of,
    until,
)

pytestmark = needs_xvfb


def facts_of(process: processes.Process) -> dict[str, str]:
    """What the system says of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def limits_of(process: processes.Process) -> dict[str, tuple[str, str]]:
    """Soft and hard limits by the system's names."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def files_of(process: processes.Process) -> set[str]:
    """What its descriptors stand for."""
    found = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


@pytest.mark.parametrize("kind", [ServerKind.XVFB, pytest.param(ServerKind.XVNC, marks=needs_xvnc)])
async def test_what_runs_in_a_session_has_its_owners_rights_and_no_more(
    settings: XSettings, monkeypatch: pytest.MonkeyPatch, kind: ServerKind
) -> None:
    """X server, program and autorun program have user, groups and limits of the session's owner, no
    privilege, the environment of a fresh login, and no descriptor of the agent but their log and the pipe
    that tells the display's number."""
    owner = OTHER if os.geteuid() == 0 else ME
    monkeypatch.setenv("A_SECRET_OF_THE_AGENT", "x")
    script(settings.autorun_folder / "beside.sh", "exec sleep 601")
    secret = settings.state_folder / "a-secret-file"
    before = os.umask(0o077)
    try:
        with secret.open("w") as file, socket.create_server(("127.0.0.1", 0)) as listener:
            os.set_inheritable(file.fileno(), True)
            listener.set_inheritable(True)
            async with opened(replace(settings, server=kind)) as backend:
                await backend.create(spec_of(owner=owner, init_file="stay.sh", autorun_file="beside.sh"))
                session, folder = session_of(settings), folder_of(settings)
                programs = [one for one in folder.programs() if program_of(one) == "sleep"]
                assert len(programs) == 2
                for process in (session.x_server, *programs):
                    check_rights(process, pwd.getpwnam(owner))
                    opened_files = files_of(process)
                    assert str(secret) not in opened_files
                    assert f"socket:[{os.fstat(listener.fileno()).st_ino}]" not in opened_files
                for process in programs:
                    log = str(folder.path / "session.log")
                    assert files_of(process) == {"/dev/null", log}
                    check_environment(process, session, folder)
    finally:
        os.umask(before)


def check_rights(process: processes.Process, owner: pwd.struct_passwd) -> None:
    facts = facts_of(process)
    assert facts["Uid"] == " ".join([str(owner.pw_uid)] * 4)
    assert facts["Gid"] == " ".join([str(owner.pw_gid)] * 4)
    assert facts["Umask"] == "0022"
    assert limits_of(process)["Max open files"][0] == "1024"
    assert limits_of(process)["Max core file size"] == ("0", "0")
    assert int(facts["SigBlk"], 16) == 0
    if os.geteuid() == 0 and owner.pw_uid != 0:
        groups = os.getgrouplist(owner.pw_name, owner.pw_gid)
        assert sorted(map(int, facts["Groups"].split())) == sorted(groups)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(facts[kind], 16) == 0, kind


def check_environment(process: processes.Process, session: XSession, folder: SessionFolder) -> None:
    entries = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    variables = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    owner = pwd.getpwnam(session.owner)
    assert variables["USER"] == variables["LOGNAME"] == session.owner
    assert variables["HOME"] == owner.pw_dir
    assert variables["DISPLAY"] == f":{session.display}"
    assert variables["XAUTHORITY"] == str(folder.authority)
    known = {"USER", "LOGNAME", "HOME", "SHELL", "PATH", "LANG", "PWD", "XDG_RUNTIME_DIR", "XDG_SESSION_TYPE"}
    ours = {"DISPLAY", "XAUTHORITY", "DCV_SESSION_ID", "DCV_SESSION_AUTHORITY"}
    assert set(variables) <= known | ours
    assert os.getsid(process.pid) in (process.pid, session.init.pid)


@needs_root
async def test_pictures_of_a_session_are_taken_as_its_owner(settings: XSettings, backend: XBackend) -> None:
    """What a session's X server sends is never read by a process with more rights than its owner has."""
    await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))
    assert await backend.screenshot("s-1", 100, 100, "png")
    server = session_of(settings).x_server
    # A server that does not answer keeps whoever asks, long enough to be looked at.
    os.kill(server.pid, signal.SIGSTOP)
    taking = asyncio.create_task(backend.screenshot("s-1", 100, 100, "png"))
    looking: list[psutil.Process] = []

    def is_looking() -> bool:
        looking[:] = [child for one in grabbers() for child in one.children()]
        return bool(looking)

    await until(is_looking)
    (child,) = looking
    await until(lambda: facts_of(processes.Process(child.pid, 0))["Uid"].split()[0] != "0")
    facts = facts_of(processes.Process(child.pid, 0))
    assert facts["Uid"] == " ".join([str(pwd.getpwnam(OTHER).pw_uid)] * 4)
    assert facts["Gid"] == " ".join([str(pwd.getpwnam(OTHER).pw_gid)] * 4)
    assert (facts["Groups"], int(facts["CapEff"], 16), int(facts["CapPrm"], 16)) == ("", 0, 0)
    os.kill(server.pid, signal.SIGCONT)
    assert await taking


async def test_limits_of_the_host_are_passed_on(settings: XSettings) -> None:
    limits = ChildLimits(open_files=256, processes=4000)
    async with opened(replace(settings, limits=limits)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        found = limits_of(session_of(settings).init)
        assert (found["Max open files"][0], found["Max processes"][0]) == ("256", "4000")
