"""A broker and an agent with the X backend as processes of their own: what an administrator runs.

Both are the installed commands with files on disk, on ports that stay the same
over a restart, so that tests can kill them and start them again.
"""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

COMMANDS = Path(sys.executable).parent

INIT_SCRIPT = """\
#!/bin/sh
exec xterm -geometry 80x24+0+0 -bg navy -fg white -e sh -c 'while :; do date; sleep 1; done'
"""


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = 30) -> Any:
    """Ask until the answer is true; fails with what was waited for."""
    until = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < until, f"waited {limit_s} s for {what}"
        time.sleep(0.05)
    return answer


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stand:
    """The two processes, their files, and a client of the API.

    Attributes:
        broker_lines: More lines of the broker's file.
        agent_lines: More lines for `[agent]` of the agent's file.
        backend_lines: The `[backend]` of the agent's file and what follows it.
    """

    folder: Path
    broker_lines: str = ""
    agent_lines: str = ""
    backend_lines: str = "[backend]\ntype = 'xvfb'\ngeometry = '800x600'\nminimum_uid = 0\n"
    log_level: str = "info"
    client_port: int = field(default_factory=free_port)
    agent_port: int = field(default_factory=free_port)
    broker: subprocess.Popen[bytes] | None = None
    agent: subprocess.Popen[bytes] | None = None
    client_id: str = ""
    client_secret: str = ""
    token: str = ""
    notice: dict[str, str] = field(default_factory=dict)
    """What the broker said when it was ready."""

    @property
    def url(self) -> str:
        """The client port."""
        return f"https://127.0.0.1:{self.client_port}"

    @property
    def ca_file(self) -> Path:
        """The broker's CA."""
        return self.folder / "broker" / "security" / "dcvsmbroker_ca.pem"

    @property
    def environment(self) -> dict[str, str]:
        """What a console or a command needs to find the broker."""
        return {
            "DCV_SM_BROKER_URL": self.url,
            "DCV_SM_CA_BUNDLE": str(self.ca_file),
            "DCV_SM_CLIENT_ID": self.client_id,
            "DCV_SM_CLIENT_PASSWORD": self.client_secret,
        }

    def start_broker(self) -> None:
        """Start the broker and wait until it serves."""
        config = self._write(
            "broker.properties",
            f"session-manager-working-path = {self.folder / 'broker'}\n"
            f"client-to-broker-connector-https-port = {self.client_port}\n"
            "client-to-broker-connector-bind-host = 127.0.0.1\n"
            f"agent-to-broker-connector-https-port = {self.agent_port}\n"
            "agent-to-broker-connector-bind-host = 127.0.0.1\n"
            f"ext-log-level = {self.log_level}\n{self.broker_lines}",
        )
        read_end, write_end = os.pipe()
        self.broker = self._start(
            "broker", "start", "--config", config, "--ready-fd", write_end, fd=write_end
        )
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            self.notice = json.loads(ready.readline() or "{}")
        assert self.notice, (self.folder / "broker.log").read_text()

    def start_agent(self) -> None:
        """Start the agent of this host with the X backend; its first X session needs a moment."""
        init = self.folder / "init"
        init.mkdir(exist_ok=True)
        (init / "clock.sh").write_text(INIT_SCRIPT)
        (init / "clock.sh").chmod(0o755)
        config = self._write(
            "agent.conf",
            "version = '0.1'\n[agent]\nbroker_host = '127.0.0.1'\n"
            f"broker_port = {self.agent_port}\nca_file = '{self.ca_file}'\n"
            f"init_folder = '{init}'\nautorun_folder = '{init}'\ntags_folder = '{self.folder / 'tags'}'\n"
            "broker_update_interval = 2\nmax_concurrent_sessions_per_user = 20\n"
            f"{self.agent_lines}[log]\ndirectory = '{self.folder}'\nlevel = '{self.log_level}'\n"
            f"[state]\ndirectory = '{self.folder / 'state'}'\n{self.backend_lines}",
        )
        self.agent = self._start("agent", "start", "--config", config)

    def register(self) -> None:
        """Register an API client as an administrator does, and get a token."""
        config = self.folder / "broker.properties"
        command = [COMMANDS / "dcv-session-manager-broker", "register-api-client"]
        options = ["--client-name", "stand", "--config", str(config)]
        printed = subprocess.run([*map(str, command), *options], capture_output=True, text=True, check=True)
        found = dict(re.findall(r"client-(id|password): *(\S+)", printed.stdout))
        self.client_id, self.client_secret = found["id"], found["password"]
        answer = httpx.post(
            f"{self.url}/oauth2/token?grant_type=client_credentials",
            auth=(self.client_id, self.client_secret),
            verify=self.trust(),
            trust_env=False,
        )
        self.token = str(answer.raise_for_status().json()["access_token"])

    def trust(self) -> ssl.SSLContext:
        """A context that trusts the broker."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def call(self, operation: str, body: Any = None) -> dict[str, Any]:
        """One operation with the token of the start."""
        answer = httpx.request(
            "PUT" if operation == "sessionPermissions" else "POST",
            f"{self.url}/{operation}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=self.trust(),
            trust_env=False,
            timeout=15,
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def session(self, session_id: str) -> dict[str, Any]:
        """A session as the broker lists it; empty if it does not."""
        found = self.call("describeSessions", {"SessionIds": [session_id]})["Sessions"]
        return dict(found[0]) if found else {}

    def servers(self) -> list[dict[str, Any]]:
        """All servers."""
        return list(self.call("describeServers")["Servers"])

    def is_available(self) -> bool:
        """The agent's server is there and takes sessions."""
        return [one["Availability"] for one in self.servers()] == ["AVAILABLE"]

    def end_sessions(self) -> None:
        """Delete every session and wait until none is left."""
        for one in self.call("describeSessions")["Sessions"]:
            self.call("deleteSessions", [{"SessionId": one["Id"], "Owner": one["Owner"]}])
        wait_until(
            lambda: {one["State"] for one in self.call("describeSessions")["Sessions"]} <= {"DELETED"},
            "the end of the sessions",
        )

    def kill(self, process: subprocess.Popen[bytes] | None) -> None:
        """End a process without a chance to say goodbye."""
        assert process is not None
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def _start(self, name: str, *arguments: object, fd: int | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [COMMANDS / f"dcv-session-manager-{name}", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if fd is None else (fd,),
            )


@contextlib.contextmanager
def standing(folder: Path, **changes: str) -> Iterator[Stand]:
    """Run a broker and an agent for the length of the block; sessions left are closed.

    Args:
        folder: Where all their files are.
        changes: Attributes of the stand, such as more lines of its files.
    """
    stand = Stand(folder, **changes)  # type: ignore[arg-type]  # the ones that are text
    try:
        stand.start_broker()
        stand.register()
        stand.start_agent()
        wait_until(stand.is_available, "the agent's server")
        yield stand
        stand.end_sessions()
    finally:
        for process in (stand.agent, stand.broker):
            if process and process.poll() is None:
                process.terminate()
                process.wait(20)
