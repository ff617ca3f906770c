"""The agent as a program: its errors, its log, its end, a second one beside it."""

import asyncio
import logging
import re
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker_stub.agent.agent_log import AgentLog
from broker_stub.agent.settings import LogSection
from tests.agent.agent_program import config, running, start
from tests.agent.small_host import until, until_async
from tests.broker.raw_agent import servers
from tests.running import running_broker

needs_xvfb = pytest.mark.skipif(
    shutil.which("Xvfb") is None, reason="Xvfb is not installed (apt-get install xvfb)"
)


@pytest.mark.covers("G2")
async def test_mistakes_end_in_sentences_and_status_78(tmp_path: Path) -> None:
    """All mistakes of a configuration file are printed together, one sentence each, and the program ends
    with status 78."""
    process = await start(config(tmp_path, broker_host="", broker_port=70000))
    _, stderr = await process.communicate()
    assert process.returncode == 78
    lines = stderr.decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("console = true", "does not say which display"),
    ],
)
async def test_what_this_release_does_not_do_is_said(tmp_path: Path, setting: str, said: str) -> None:
    path = config(tmp_path, backend=setting, broker_host="b", tls_strict=False)
    process = await start(path)
    _, stderr = await process.communicate()
    assert process.returncode == 78
    assert said in stderr.decode()


@needs_xvfb
async def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    process = await start(config(tmp_path, broker_host="127.0.0.1", ca_file=str(wrong)))
    _, stderr = await process.communicate()
    assert process.returncode == 78
    assert "ca.pem cannot be used" in stderr.decode()


@pytest.mark.covers("G3", "G6", "G9", "G20", "G35")
@needs_xvfb
async def test_the_program_serves_its_host_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The agent's program on a real broker: available within an interval, the documented words in its log,
    a second process on the host refused, tags and limits taken over on SIGHUP, and unreachable at once
    when it is stopped."""
    async with running_broker(tmp_path / "b") as broker:
        parts = urlsplit(broker.agent_url)
        path = config(
            tmp_path, broker_host=parts.hostname, broker_port=parts.port, ca_file=str(broker.ca_file)
        )
        async with running(path) as process:

            async def is_there() -> bool:
                return any(one["Availability"] == "AVAILABLE" for one in (await servers(broker)).values())

            await until_async(is_there, 20)
            log = tmp_path / "log" / "agent.log"
            await until(lambda: re.search(r"sessionsUpdateResponse.*success", log.read_text()))

            second = await start(path)
            await second.communicate()
            assert second.returncode == 1
            assert "another agent works with" in log.read_text()

            (tmp_path / "tags").mkdir()
            (tmp_path / "tags" / "a.toml").write_text("color = 'red'\n")
            path.write_text(path.read_text().replace("[backend]", "max_virtual_sessions = 7\n[backend]"))
            process.send_signal(signal.SIGHUP)

            async def is_changed() -> bool:
                (server,) = (await servers(broker)).values()
                tags = {tag["Key"]: tag["Value"] for tag in server["Tags"]}
                return (tags.get("color"), tags["dcv:max-virtual-sessions"]) == ("red", "7")

            await until_async(is_changed)
            credentials = tmp_path / "state" / "credentials.json"
            assert credentials.stat().st_mode & 0o777 == 0o600
            secret = re.findall(r'"clientSecret": "([^"]+)"', credentials.read_text())[0]
            assert secret not in log.read_text()

            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await process.wait()
            assert process.returncode == 0
        (server,) = (await servers(broker)).values()
        assert server["UnavailabilityReason"] == "UNREACHABLE_AGENT"


# ------------------------------------------------------------------ log


def record(created: float, text: str = "words") -> logging.LogRecord:
    made = logging.LogRecord("agent", logging.INFO, __file__, 1, text, None, None)
    made.created = created
    return made


def write_log(settings: LogSection, *records: logging.LogRecord) -> None:
    log = AgentLog(settings)
    for one in records:
        log.handle(one)
    log.close()


@pytest.mark.covers("G5")
def test_a_new_day_begins_a_new_file(tmp_path: Path) -> None:
    """With daily rotation a new day begins a new `agent.log`, and the former day keeps its lines."""
    now = 1_700_000_000.0
    log = AgentLog(LogSection(directory=tmp_path, rotation="daily"))
    log.handle(record(now, "first"))
    begun = len(list(tmp_path.iterdir()))
    log.handle(record(now + 86_400, "second"))
    log.close()
    assert len(list(tmp_path.iterdir())) == begun + 1
    assert "second" in (tmp_path / "agent.log").read_text()
    assert "first" in (tmp_path / "agent.log.1").read_text()


@pytest.mark.covers("G5")
def test_files_are_kept_by_number_and_begun_anew_by_size(tmp_path: Path) -> None:
    """With a number as rotation so many old files are kept; a file that reached its size is followed by a
    new one."""
    settings = LogSection(directory=tmp_path / "new", rotation=2, max_file_size=1024)
    write_log(settings, *(record(86_400.0 * day, "x" * 600) for day in range(6)))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "agent.log",
        "agent.log.1",
        "agent.log.2",
    ]
