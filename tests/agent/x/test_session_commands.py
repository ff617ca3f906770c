"""What an administrator on a host can do with its X sessions, by the commands of the agent."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_layout import resizing_program
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent_cli import agent_main
from tests.agent.x_sessions import ME, folder_of, needs_xvfb, needs_xvnc, opened, script, settings_in, spec_of

pytestmark = needs_xvfb


@dataclass
class Host:
    """A host with a backend, and the file that its agent would have."""

    backend: XBackend
    settings: XSettings
    config: Path


@pytest.fixture
async def host(place: Path) -> AsyncIterator[Host]:
    (place / "state").mkdir()
    settings = settings_in(place, server=ServerKind.XVNC, state_folder=place / "state" / "x")
    script(settings.init_folder / "stay.sh", "exec sleep 600")
    config = place / "agent.conf"
    state = f"[state]\ndirectory = '{place}/state'\n"
    config.write_text(f"version = '0.1'\n[agent]\nbroker_host = 'b'\ntls_strict = false\n{state}")
    async with opened(settings) as backend:
        yield Host(backend, settings, config)


def run(host: Host, *arguments: str) -> Result:
    return CliRunner().invoke(agent_main, [*arguments, "--config", str(host.config)])


@needs_xvnc
async def test_sessions_are_listed_and_described_as_dcv_does(host: Host) -> None:
    assert (await asyncio.to_thread(run, host, "list-sessions")).output == ""
    await host.backend.create(spec_of(name="cad \x1b[31m", init_file="stay.sh"))
    listed = await asyncio.to_thread(run, host, "list-sessions")
    assert listed.output == f"Session: 's-1' (owner:{ME} type:virtual name:'cad ␛[31m')\n"
    (one,) = json.loads((await asyncio.to_thread(run, host, "list-sessions", "--json")).output)
    assert (one["id"], one["owner"], one["num-of-connections"]) == ("s-1", ME, 0)
    described = json.loads((await asyncio.to_thread(run, host, "describe-session", "s-1", "-j")).output)
    assert described["display-layout"] == [{"width": 800, "height": 600, "x": 0, "y": 0}]
    assert described["x11-display"].startswith(":")
    assert described["x11-authority"] == str(folder_of(host.settings).authority.resolve())
    said = (await asyncio.to_thread(run, host, "describe-session", "s-1")).output
    assert "  display layout: 800x600+0+0\n" in said


@needs_xvnc
@pytest.mark.skipif(resizing_program() is None, reason="xrandr is missing: apt-get install x11-xserver-utils")
async def test_another_layout_is_set_while_the_session_runs(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    layout = "1024x768,640x480"
    done = await asyncio.to_thread(run, host, "set-display-layout", "--session", "s-1", layout)
    assert done.output == "1024x768+0+0,640x480+1024+0\n"
    images = await host.backend.screenshot("s-1", None, None, "png")
    assert [(image.width, image.height) for image in images] == [(1024, 768), (640, 480)]
    assert len((await host.backend.list())[0].display_layout) == 2


@needs_xvnc
async def test_what_cannot_be_is_said_in_one_sentence(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    for arguments, reason in (
        (("describe-session", "absent"), "no session 'absent' on this host"),
        (("set-display-layout", "--session", "s-1", "huge"), "is not a size such as"),
        (("set-display-layout", "--session", "absent", "800x600"), "no session"),
    ):
        failed = await asyncio.to_thread(run, host, *arguments)
        assert failed.exit_code == 1
        assert failed.stderr.startswith("error: ")
        assert reason in failed.stderr
    host.config.write_text("version = 'x'\n")
    assert (await asyncio.to_thread(run, host, "list-sessions")).exit_code == 78
