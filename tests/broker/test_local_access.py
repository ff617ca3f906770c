"""Who may use the administration socket: root and the broker's own user, whatever the file's mode says."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.broker_process import broker_command, broker_process, write_config
from tests.running import running_broker

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")

ASK = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
channel = socket.socket(socket.AF_UNIX)
channel.connect("admin.sock")
channel.sendall(b"GET /api-clients HTTP/1.1\\r\\nHost: broker\\r\\n\\r\\n")
answer = b""
while piece := channel.recv(4096):
    answer += piece
print(answer.decode())
"""

# The interpreter's own files may be out of the other user's reach: all is loaded before the change.
RUN = """
import os, sys
import encodings.idna, getpass, httpx, platformdirs
import broker_stub.broker.admin, broker_stub.broker.listeners, broker_stub.broker.settings_file
from broker_stub.cli import broker_main
os.chdir(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
sys.argv = ["dcv-session-manager-broker", "describe-api-clients", "--config", sys.argv[2]]
broker_main()
"""


def reachable_config(folder: Path) -> Path:
    """A configuration in a folder that others may pass through."""
    folder.chmod(0o711)
    return write_config(folder)


async def run(program: str, *arguments: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.covers("B24")
@as_root
async def test_another_user_is_refused_even_where_the_file_lets_them_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker looks at who opened its administration socket: neither root nor its user means no."""
    caplog.set_level("INFO", "broker_stub.audit")
    async with running_broker(tmp_path):
        working_path = tmp_path / "broker"
        assert stat.S_IMODE((working_path / "admin.sock").stat().st_mode) == 0o600
        working_path.chmod(0o711)
        (working_path / "admin.sock").chmod(0o666)
        status, answer, errors = await run(ASK, working_path)
        assert status == 0, errors
        assert answer.startswith("HTTP/1.1 403 ")
        assert "test" not in answer
        refused = [record.__dict__["audit"] for record in caplog.records if hasattr(record, "audit")]
        assert [(each["action"], each["outcome"]) for each in refused] == [("connect", "refused (403)")]
        assert refused[0]["actor"] in ("nobody", "uid 65534")


@pytest.mark.covers("B24")
@as_root
async def test_an_ordinary_user_is_told_so(tmp_path: Path) -> None:
    """A command of an ordinary user ends with status 77, one sentence and nothing on standard output."""
    config = reachable_config(tmp_path)
    async with running_broker(tmp_path):
        for mode, sentence in ((0o600, "you may not read"), (0o644, "you may not use")):
            config.chmod(mode)
            status, output, errors = await run(RUN, tmp_path, config.name)
            assert (status, output) == (77, ""), errors
            assert errors.startswith(f"error: {sentence} ")
            assert errors.count("\n") == 1


@pytest.mark.covers("B45")
async def test_each_administration_command_leaves_a_line(tmp_path: Path) -> None:
    """Every administration command is in the audit log with its name, the user and the outcome."""
    config = write_config(tmp_path)
    async with broker_process(config) as broker:
        for arguments in (("register-api-client", "-cn", "x"), ("describe-api-clients",)):
            assert (await broker_command(*arguments, "--config", config))[0] == 0
        assert (await broker_command("register-api-client", "-cn", "x", "--config", config))[0] == 1
        assert await broker.stop() == 0
    lines = (tmp_path / "broker" / "log" / "audit.log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == [
        "action=register-api-client",
        "action=describe-api-clients",
        "action=register-api-client",
    ]
    assert " outcome=done " in lines[0]
    assert ' outcome="refused (409)" ' in lines[2]
    assert all(" actor=" in line and " request=" in line for line in lines)
