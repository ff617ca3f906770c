"""One process of the demo: the broker, the simulated agents, or the agent of this host.

Each takes orders as lines on standard input, the first one being what it needs
to know. The end of standard input is an order, too: a child whose supervisor was
killed ends by itself, with all it has started, and takes its share of the demo's
folder along.
"""

import asyncio
import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

END = "end"
"""The order to end; the supervisor clears up."""
SETTLE = "settle"
"""The order to the simulated agents that everybody has arrived: the story begins."""
CONNECTED = "connected"
"""What agents answer when all of them have a channel."""

HOST_FOLDER = "host"
"""Where the agent of this host keeps its state, below the demo's folder."""
WELCOME = "welcome.sh"
"""What runs in a session of this host that names no init file."""

_LOOK_S = 0.05


class Orders:
    """Lines from the supervisor.

    Attributes:
        is_orphan: Whether they ended without an order to end.
    """

    def __init__(self) -> None:
        self.is_orphan = False
        self._lines: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        """Read from now on; a thread does it, as standard input may be anything."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(self._lines.put_nowait, line.strip())
            with contextlib.suppress(RuntimeError):  # the loop has ended before the input
                loop.call_soon_threadsafe(self._lines.put_nowait, "")

        threading.Thread(target=read, daemon=True).start()

    async def next(self) -> str:
        """The next line; `END` for ever after the last one."""
        line = await self._lines.get()
        if not line:
            self.is_orphan = True
            return END
        return line


# ------------------------------------------------------------------ the broker


def run_broker(config: str) -> None:
    """Run the broker as its own command does, until an order to end.

    It gives its ready notice on standard output.
    """
    from broker_stub.cli import broker_main  # noqa: PLC0415  each child loads its own part only

    is_orphan = threading.Event()

    def end_with_supervisor() -> None:
        if sys.stdin.readline().strip() != END:
            is_orphan.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_supervisor, daemon=True).start()
    try:
        broker_main(["start", "--config", config, "--ready-fd", "1"], standalone_mode=False)
    finally:
        if is_orphan.is_set():
            remove_orphaned(Path(config).parent, keep=HOST_FOLDER)


# ------------------------------------------------------------------ agents


async def run_fleet(orders: Orders, told: dict[str, Any]) -> None:
    """Run the agents of all simulated servers, and let the fleet live when it has settled."""
    from broker_stub.agent import simulated_agents  # noqa: PLC0415  each child loads its own part only
    from broker_stub.agent.conversation import Pace  # noqa: PLC0415  as above
    from broker_stub.agent.simulated_backend import SimulatedFleet  # noqa: PLC0415  as above

    fleet = SimulatedFleet.invent(
        seed=told["seed"], servers=told["servers"], sessions=told["sessions"], is_still=told["is_still"]
    )
    size = len(fleet.servers)
    # A large fleet reports less often: what it says about itself must not be the whole load.
    interval_s = 3600 if fleet.is_still else max(5, size // 40)
    access = _access(told, "demo fleet")
    agents = [
        simulated_agents.SimulatedAgent(server, access, Pace(update_interval_s=interval_s))
        for server in fleet.servers
    ]
    async with simulated_agents.running_agents(agents, spread_s=size * 0.003):
        connected = asyncio.create_task(_tell_connected(agents))
        life: asyncio.Task[None] | None = None
        while (order := await orders.next()) != END:
            if order == SETTLE:
                simulated_agents.leave_by_role(agents)
                life = asyncio.create_task(fleet.live(mean_pause_s=max(0.2, 48 / max(size, 1))))
        for task in (connected, life):
            if task is not None:
                task.cancel()


async def run_host(orders: Orders, told: dict[str, Any]) -> None:
    """Run the agent of this very host; its X sessions end with the demo."""
    from broker_stub.agent.x_session import end_all_sessions  # noqa: PLC0415  each child loads its own part only

    folder = Path(told["folder"])
    try:
        async with _host_agent(folder, told) as agent:
            running = asyncio.create_task(agent.run())
            connected = asyncio.create_task(_tell_connected([agent]))
            while await orders.next() != END:
                pass
            agent.stop()
            await running
            connected.cancel()
    finally:
        await end_all_sessions(folder / "x")


@contextlib.asynccontextmanager
async def _host_agent(folder: Path, told: dict[str, Any]) -> AsyncIterator[Any]:
    from broker_stub.agent import identity, service, watch, x_backend  # noqa: PLC0415  each child loads its own part only
    from broker_stub.agent.conversation import Pace  # noqa: PLC0415  as above
    from broker_stub.agent.host import RealHost, address_towards  # noqa: PLC0415  as above
    from broker_stub.agent.journal import Journal  # noqa: PLC0415  as above
    from broker_stub.agent.x_session import XSettings  # noqa: PLC0415  as above

    backend = await x_backend.XBackend.open(
        XSettings(
            state_folder=folder / "x",
            init_folder=folder / "init",
            autorun_folder=folder / "autorun",
            desktop_commands=((str(folder / "init" / WELCOME),),),
            minimum_uid=0,  # in a container root may be the only user there is
            grace_s=2.0,
        )
    )
    url = urlsplit(told["agent_url"])

    def address() -> identity.Address:
        found = address_towards(url.hostname or "127.0.0.1", url.port or 443)
        return identity.Address(socket.gethostname(), found.ip, found.dns_name)

    agent = service.Agent(
        identity.IdentityFile(folder, address),
        _access(told, "demo host"),
        backend,
        RealHost(),
        tags=lambda: {"site": "here", "team": "demo", "gpu": "no"},
        limits=watch.Limits(max_virtual_sessions=8, max_concurrent_sessions_per_user=8),
        journal=Journal(),
        pace=Pace(update_interval_s=3600 if told["is_still"] else 5),
    )
    try:
        yield agent
    finally:
        await backend.stop()


def _access(told: dict[str, Any], name: str) -> Any:
    from broker_stub.agent.access import BrokerAccess, BrokerAddress  # noqa: PLC0415  each child loads its own part only

    url = urlsplit(told["agent_url"])
    address = BrokerAddress(url.hostname or "127.0.0.1", url.port or 443, Path(told["ca_file"]))
    return BrokerAccess(address, name)


async def _tell_connected(agents: list[Any]) -> None:
    # Agents tell nobody when they have connected; this runs for some seconds in the life of a demo.
    while not all(agent.is_connected for agent in agents):  # noqa: ASYNC110  see above
        await asyncio.sleep(_LOOK_S)
    sys.stdout.write(CONNECTED + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------------ the process


async def _run_agents(part: str) -> None:
    orders = Orders()
    await orders.start()
    told = json.loads(await orders.next())
    try:
        await (run_fleet if part == "fleet" else run_host)(orders, told)
    finally:
        if orders.is_orphan:
            remove_orphaned(Path(told["state_dir"]), keep=HOST_FOLDER if part == "fleet" else None)


def remove_orphaned(state_dir: Path, keep: str | None) -> None:
    """Take the folder of a demo away whose supervisor was killed.

    The X sessions of this host are found by their folders. Whoever is not their
    agent leaves these alone: removed too early, the sessions would run for ever.

    Args:
        state_dir: The demo's folder.
        keep: What in it another orphan still needs and will remove.
    """
    with contextlib.suppress(FileNotFoundError):  # another orphan was last
        for found in list(state_dir.iterdir()):
            if found.name == keep:
                continue
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody still writes to it, and will remove it
            state_dir.rmdir()


def _allow_many_files() -> None:
    """A channel is an open file at both ends, and the usual limit is 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Run the part named on the command line."""
    part = sys.argv[1]
    if part != "host":  # programs of X sessions must not inherit an unusual limit
        _allow_many_files()
    if part == "broker":
        run_broker(sys.argv[2])
        return
    # Each update of each server is a line at INFO: a large fleet would fill the disk with them.
    level = logging.INFO if part == "host" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    from broker_stub.agent.process import loop_factory  # noqa: PLC0415  each child loads its own part only

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run_agents(part))


if __name__ == "__main__":
    main()
