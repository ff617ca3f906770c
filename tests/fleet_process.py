"""A broker and the agents of a simulated fleet as two processes: what load and foreign clients are tried on.

Unlike the demo it has no agent of this very host, no story and no limit on requests.
"""

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from broker_stub import demo_child
from tests.broker_process import COMMAND, write_config

UNLIMITED = 1_000_000
"""Requests per second of one caller."""


@dataclass(frozen=True)
class FleetProcess:
    """Where the broker is, and who may ask it."""

    url: str
    agent_url: str
    ca_file: Path
    client_id: str
    client_secret: str
    broker: subprocess.Popen[bytes]

    @property
    def tls(self) -> ssl.SSLContext:
        """A context that trusts the broker."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def token(self) -> str:
        """A fresh access token."""
        answer = httpx.post(
            f"{self.url}/oauth2/token?grant_type=client_credentials",
            auth=(self.client_id, self.client_secret),
            verify=self.tls,
            trust_env=False,
        )
        return str(answer.raise_for_status().json()["access_token"])

    def client(self, token: str = "") -> httpx.Client:
        """An HTTP client with a token, a fresh one unless one is given; to be used as a context."""
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return httpx.Client(base_url=self.url, verify=self.tls, headers=headers, trust_env=False, timeout=60)


@contextlib.contextmanager
def fleet_process(
    folder: Path,
    *,
    servers: int,
    sessions: int | None = None,
    seed: int = 7,
    is_still: bool = True,
    **settings: object,
) -> Iterator[FleetProcess]:
    """Run both for the length of the block; all agents have a channel when it begins.

    Args:
        folder: Where the broker keeps everything; what it holds from before is kept.
        servers: How many simulated servers; with none there is no process of agents.
        sessions: How many sessions there are on them; about two and a half each if not said.
        seed: Another one, another fleet.
        is_still: The agents report next to nothing; else as often as those of the demo.
        settings: Of the broker's properties file, with `_` for `-`.
    """
    folder.mkdir(exist_ok=True)
    config = write_config(folder, "", **{"max_api_requests_per_second": UNLIMITED} | settings)
    with contextlib.ExitStack() as stack:
        broker, notice = stack.enter_context(started_broker(config))
        client_id, secret = _registered(config)
        if servers:
            told = {
                "agent_url": notice["agent_url"],
                "ca_file": notice["ca_file"],
                "state_dir": str(folder / "agents"),
                "is_still": is_still,
                "seed": seed,
                "servers": servers,
                "sessions": sessions,
            }
            stack.enter_context(started_agents(told, folder / "agents.log"))
        yield FleetProcess(
            notice["client_url"], notice["agent_url"], Path(notice["ca_file"]), client_id, secret, broker
        )


@contextlib.contextmanager
def started_broker(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """Run a broker for the length of the block; the process, and what it said when it was ready."""
    read_end, write_end = os.pipe()
    command = [str(COMMAND), "start", "--config", str(config), "--ready-fd", str(write_end)]
    with (config.parent / "broker.log").open("ab") as log:
        broker = subprocess.Popen(command, pass_fds=[write_end], stderr=log)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as ready:
            notice = json.loads(ready.readline() or "{}")
        assert notice, (config.parent / "broker.log").read_text()
        yield broker, notice
    finally:
        broker.terminate()
        broker.wait()


@contextlib.contextmanager
def started_agents(told: dict[str, object], log: Path) -> Iterator[None]:
    """Run the agents of a simulated fleet for the length of the block; all have a channel when it begins."""
    command = [sys.executable, "-P", "-m", demo_child.__name__, "fleet"]
    pipe = subprocess.PIPE
    with log.open("ab") as errors:
        agents = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)
    assert agents.stdin
    assert agents.stdout
    try:
        agents.stdin.write(json.dumps(told) + "\n")
        agents.stdin.flush()
        assert agents.stdout.readline().strip() == demo_child.CONNECTED
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            agents.communicate(demo_child.END + "\n")
        agents.wait()


def _registered(config: Path) -> tuple[str, str]:
    options = ["--client-name", "test", "--allow-duplicate-name", "--json", "--config", str(config)]
    command = [str(COMMAND), "register-api-client", *options]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    said = json.loads(printed)
    return said["clientId"], said["clientPassword"]
