"""The process behind a demo: starts its parts in order, ends them in order, leaves nothing behind.

It ends when its standard input does, so that the demo goes with the program that
started it, and at any signal that asks it to.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_stub import demo_child
from broker_stub.agent import x_server
from broker_stub.agent.simulated_fleet import plan_fleet
from broker_stub.agent.x_session import end_all_sessions
from broker_stub.demo_story import ApiClient, Story, register_client

_NO_XVFB = "Xvfb is not installed, so this host offers no sessions in the demo: apt-get install xvfb xterm"
_END_LIMIT_S = 8.0

# A day: in a demo nothing that is shown goes away by a timer while somebody looks, and a session that
# a host is stuck with stays stuck.
_BROKER_CONFIGURATION = """\
session-manager-working-path = {folder}
client-to-broker-connector-https-port = 0
client-to-broker-connector-bind-host = 127.0.0.1
agent-to-broker-connector-https-port = 0
agent-to-broker-connector-bind-host = 127.0.0.1
create-sessions-queue-max-time-seconds = 86400
seconds-before-deleting-unreachable-dcv-server = 86400
ext-create-deadline-seconds = 86400
ext-shutdown-grace-seconds = 1
"""


_XTERM = "exec xterm -fa 'DejaVu Sans Mono' -fs 14 -geometry 88x26+60+40 -bg '#1c2430' -fg '#d8dee9'"

# What runs in a session of this host: something to see in its screenshot, and a shell to go on in.
_SCRIPTS = {
    demo_child.WELCOME: f"""#!/bin/sh
{_XTERM} -e sh -c '
printf "\\n  \\033[1;36m%s\\033[0m\\n\\n" "A real X session on $(hostname)"
printf "  owner    %s\\n  display  %s\\n  started  %s\\n\\n  " "$(id -un)" "$DISPLAY" "$(date +%H:%M:%S)"
for colour in 24 31 38 73 108 143 179 173 167; do printf "\\033[48;5;%sm        " $colour; done
printf "\\033[0m\\n\\n"
exec "${{SHELL:-/bin/sh}}"'
""",
    "top.sh": f"#!/bin/sh\n{_XTERM} -e top\n",
}


class PartFailed(Exception):  # noqa: N818  named by what happened
    """A process of the demo ended by itself; the text says which, with its last words."""


class Part:
    """One process of the demo.

    Args:
        name: What it is called in messages and log files.
        folder: Where its log goes.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._process: Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start it; it runs in a process session of its own, so that a key press does not reach it."""
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", demo_child.__name__, self.name, *arguments,
                stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)

    async def say(self, line: str) -> None:
        """Give an order."""
        if self._process and self._process.stdin:
            with suppress(ConnectionError):
                self._process.stdin.write(line.encode() + b"\n")
                await self._process.stdin.drain()

    async def line(self) -> str:
        """The next line it says.

        Raises:
            PartFailed: it ended instead.
        """
        line = await self._process.stdout.readline() if self._process and self._process.stdout else b""
        if not line:
            raise PartFailed(await self._obituary())
        return line.decode().strip()

    async def ended(self) -> str:
        """Wait until it ends by itself; answers how."""
        if self._process:
            await self._process.wait()
        return await self._obituary()

    async def end(self) -> None:
        """Have it end, by force if it takes too long."""
        if self._process is None:
            return
        await self.say(demo_child.END)
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                await self._process.communicate()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()

    async def _obituary(self) -> str:
        code = await self._process.wait() if self._process else None
        words = (
            self._log.read_text("utf-8", "replace").strip().splitlines()[-1:] if self._log.exists() else []
        )
        return ": ".join([f"The demo's {self.name} ended with exit code {code}", *words])


@dataclass(slots=True)
class Supervisor:
    """A demo from its start to its end."""

    servers: int
    sessions: int | None
    seed: int
    is_still: bool
    state_dir: Path
    parts: list[Part] = field(default_factory=list)

    async def start(self) -> dict[str, str]:
        """Start everything and answer what a client needs to know.

        Raises:
            PartFailed: a process ended instead of getting ready.
        """
        broker_folder = self.state_dir / "broker"
        broker_folder.mkdir(mode=0o700)
        config = self.state_dir / "broker.properties"
        config.touch(mode=0o600)
        config.write_text(_BROKER_CONFIGURATION.format(folder=broker_folder))
        broker = self._part("broker")
        await broker.start(str(config))
        notice = json.loads(await broker.line())
        others = await self._start_agents(notice)
        client = await self._register(broker_folder)
        story = Story(self._plan(), others, is_still=self.is_still)
        await story.tell(notice["client_url"], notice["ca_file"], client)
        return {
            "url": notice["client_url"],
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "ca_file": notice["ca_file"],
            "state_dir": str(self.state_dir),
        }

    async def run(self) -> str:
        """Wait until a part ends that should not; answers how."""
        waits = [asyncio.create_task(part.ended()) for part in self.parts]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for wait in waits:
                wait.cancel()

    async def end(self) -> None:
        """End all processes and X sessions, and remove the folder."""
        await asyncio.gather(*(part.end() for part in self.parts), return_exceptions=True)
        # The host's agent has done this, unless it was killed.
        await end_all_sessions(self.state_dir / demo_child.HOST_FOLDER / "x")
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def _part(self, name: str) -> Part:
        part = Part(name, self.state_dir)
        self.parts.append(part)
        return part

    def _planned_sessions(self) -> int | None:
        if self.sessions is None:
            return None
        return max(0, self.sessions - Story.sessions_told(self.servers, is_still=self.is_still))

    def _plan(self) -> Any:
        return plan_fleet(self.seed, self.servers, self._planned_sessions())

    async def _register(self, broker_folder: Path) -> ApiClient:
        from broker_stub.broker.sockets import short_path  # noqa: PLC0415  the broker starts meanwhile
        from broker_stub.broker.working_path import socket_path  # noqa: PLC0415  as above

        with short_path(socket_path(broker_folder)) as socket:
            return await register_client(socket, "demo")

    async def _start_agents(self, notice: dict[str, str]) -> int:
        """Start the agents; answers how many servers there are besides the simulated ones."""
        told = {
            "agent_url": notice["agent_url"],
            "ca_file": notice["ca_file"],
            "state_dir": str(self.state_dir),
            "is_still": self.is_still,
        }
        fleet = self._part("fleet")
        await fleet.start()
        invented = {"seed": self.seed, "servers": self.servers, "sessions": self._planned_sessions()}
        await fleet.say(json.dumps(told | invented))
        agents = [fleet]
        if x_server.server_program():
            host = self._part("host")
            await host.start()
            await host.say(json.dumps(told | {"folder": str(self._make_host_folder())}))
            agents.append(host)
        else:
            sys.stderr.write(_NO_XVFB + "\n")
        for agent in agents:
            await agent.line()
        await fleet.say(demo_child.SETTLE)
        return len(agents) - 1

    def _make_host_folder(self) -> Path:
        folder = self.state_dir / demo_child.HOST_FOLDER
        for path in (folder, folder / "init", folder / "autorun"):
            path.mkdir()
            path.chmod(0o711 if path == folder else 0o755)
        for name, text in _SCRIPTS.items():
            script = folder / "init" / name
            script.write_text(text)
            script.chmod(0o755)
        return folder


def _make_state_dir() -> Path:
    path = Path(tempfile.mkdtemp(prefix="dcvtui-demo-"))
    if os.geteuid() == 0:
        # Users other than root must get to the cookie of their X session. They cannot list
        # the folder, and whatever else is in it is readable by root alone.
        path.chmod(0o711)
    return path


async def supervise(options: argparse.Namespace) -> int:
    """Run a demo until somebody or something ends it; answers the exit code."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    with suppress(OSError):  # a file or /dev/null has no end to wait for
        loop.add_reader(sys.stdin.fileno(), told.set)
    supervisor = Supervisor(options.servers, options.sessions, options.seed, options.still, _make_state_dir())
    running = asyncio.create_task(_start_and_run(supervisor, is_quiet=options.quiet))
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(sys.stdin.fileno())
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        await supervisor.end()
    return 0 if told.is_set() else 1


async def _start_and_run(supervisor: Supervisor, *, is_quiet: bool) -> None:
    try:
        ready = await supervisor.start()
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        if is_quiet:
            _silence()
        sys.stderr.write(await supervisor.run() + "\n")
    except PartFailed as failure:
        sys.stderr.write(f"{failure}\n")


def _silence() -> None:
    """Write nothing to the terminal any more: a console draws on it from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def main() -> None:
    """Run a demo; the `demo` command starts this."""
    parser = argparse.ArgumentParser(prog="python -m broker_stub.demo_supervisor", description=__doc__)
    parser.add_argument("--servers", type=int, default=12)
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--still", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="nothing on standard error once ready")
    sys.exit(asyncio.run(supervise(parser.parse_args())))


if __name__ == "__main__":
    main()
