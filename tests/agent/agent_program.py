"""The agent as a program of its own, for tests: its file, its start, its end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any


def config(tmp_path: Path, backend: str = "type = 'xvfb'", **agent: Any) -> Path:
    lines = [f"{key} = {json.dumps(value)}" for key, value in agent.items()]
    path = tmp_path / "agent.conf"
    path.write_text(
        "version = '0.1'\n[agent]\nbroker_update_interval = 1\n"
        + f"tags_folder = '{tmp_path}/tags'\n"
        + "\n".join(lines)
        + f"\n[backend]\n{backend}\n"
        + f"[log]\ndirectory = '{tmp_path}/log'\n[state]\ndirectory = '{tmp_path}/state'\n"
    )
    return path


async def start(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from broker_stub.agent_cli import agent_main; agent_main()",
        "start",
        "--config",
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start(path)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            await process.communicate()
