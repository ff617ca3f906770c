"""The installed broker command as a child process, for tests that kill it or look at what it prints."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.running import broker_values

COMMAND = Path(sys.executable).with_name("dcv-session-manager-broker")


@dataclass(frozen=True)
class BrokerProcess:
    """A broker that runs by itself."""

    process: asyncio.subprocess.Process
    url: str
    agent_url: str
    ca_file: Path

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """An HTTP client that trusts it; to be used as a context."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, verify=self.tls, headers=headers, trust_env=False)

    @property
    def tls(self) -> ssl.SSLContext:
        """A context that trusts it, for clients of a test's own."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    async def until(self, holds: Callable[[], Any], within_s: float = 30) -> None:
        """Wait until something holds; looks every 10 ms."""
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110  conditions of other parts have no event to wait for
                await asyncio.sleep(0.01)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end.

        Returns:
            The exit status; negative for the signal that ended it.
        """
        self.process.send_signal(number)
        return await self.process.wait()


def write_config(folder: Path, text: str = "", **settings: object) -> Path:
    """A properties file for a broker in a test, with lines of one's own below."""
    values: Mapping[str, str] = broker_values(folder / "broker", **settings)
    path = folder / "broker.properties"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items()) + "\n" + text)
    path.chmod(0o600)
    return path


@contextlib.asynccontextmanager
async def broker_process(config: Path) -> AsyncIterator[BrokerProcess]:
    """Start the broker and wait for its ready notice; it is killed at the end if it still runs."""
    read_end, write_end = os.pipe()
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "start",
        "--config",
        config,
        "--ready-fd",
        str(write_end),
        pass_fds=(write_end,),
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        notice = json.loads(await asyncio.to_thread(_first_line, read_end))
        yield BrokerProcess(process, notice["client_url"], notice["agent_url"], Path(notice["ca_file"]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _first_line(descriptor: int) -> str:
    with os.fdopen(descriptor) as file:
        return file.readline()


async def broker_command(*arguments: object) -> tuple[int, str, str]:
    """Run the broker command to its end: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()
