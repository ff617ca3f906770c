"""What the agent adds to a real X session: its creation, and a picture of it through the API.

Everything runs here: broker, agent process, Xvnc, over loopback with TLS. Compared with the X server's
own start, and with what Pillow alone takes for the same picture, in the same run.
"""

import asyncio
import io
import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image, ImageGrab

from broker_stub.agent.x_programs import PROGRAMS, ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder
from tests.agent.agent_program import running
from tests.agent.x_sessions import needs_xvnc, script
from tests.agent.x_site import site_in

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600), needs_xvnc]

ROUNDS = 7


def own_start_s() -> float:
    """Seconds that an Xvnc takes by itself until it accepts clients."""
    ready, number = os.pipe()
    began = time.perf_counter()
    options = ["-displayfd", str(number), "-geometry", "1920x1080", "-nolisten", "tcp", "-rfbport", "-1"]
    server = subprocess.Popen(
        [PROGRAMS[ServerKind.XVNC].find() or "", *options], pass_fds=(number,), stderr=subprocess.DEVNULL
    )
    os.close(number)
    assert os.read(ready, 16)
    took = time.perf_counter() - began
    os.close(ready)
    server.terminate()
    server.wait(10)
    return took


def grab_s(display: int, authority: Path) -> float:
    """Seconds that Pillow takes for the same picture: grab, scale, encode."""
    os.environ["XAUTHORITY"] = str(authority)
    began = time.perf_counter()
    picture = ImageGrab.grab(xdisplay=f":{display}").resize((800, 450), Image.Resampling.LANCZOS)
    picture.save(io.BytesIO(), "PNG", compress_level=1)
    return time.perf_counter() - began


def words(name: str, seconds: list[float]) -> str:
    return f"{name}: median {statistics.median(seconds) * 1000:.0f} ms, worst {max(seconds) * 1000:.0f} ms"


async def test_creation_and_pictures_of_a_full_hd_session(tmp_path: Path) -> None:
    async with site_in(tmp_path, "1920x1080") as site, running(site.config):
        await site.server()
        term = 'exec xterm -geometry 200x60+0+0 -e sh -c "ls -la /usr/bin; sleep 600"'
        script(site.place / "init" / "term.sh", term)
        starts, creations = [], []
        session_id = ""
        for _ in range(ROUNDS):
            starts.append(await asyncio.to_thread(own_start_s))
            began = time.perf_counter()
            session_id = await site.create(InitFile="term.sh")
            creations.append(time.perf_counter() - began)
        settle_s = XSettings(state_folder=tmp_path, init_folder=tmp_path, autorun_folder=tmp_path).settle_s
        added = [all_of_it - settle_s - start for all_of_it, start in zip(creations, starts, strict=True)]
        await site.screenshot(session_id, 800, 450)
        pictures, alone = [], []
        folder = SessionFolder(site.place / "state" / "x" / "sessions" / session_id)
        for _ in range(3 * ROUNDS):
            began = time.perf_counter()
            data = await site.screenshot(session_id, 800, 450)
            pictures.append(time.perf_counter() - began)
            alone.append(await asyncio.to_thread(grab_s, site.on_host(session_id).display, folder.authority))
        print()
        print(words("Xvnc's own start", starts))
        print(
            words(
                "request to READY without that start and the second in which a program proves itself", added
            )
        )
        print(words(f"picture of 1920x1080 at 800x450 through the API, {len(data) // 1000} kB", pictures))
        print(words("the same by Pillow alone", alone))
