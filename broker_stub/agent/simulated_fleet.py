"""Invents a fleet from a seed: hosts, their role in the story, owners and names of sessions.

Nothing happens here; the same seed always gives the same fleet. `simulated_backend`
brings it to life, the demo and the load tests choose its size.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Literal

from dcvtui.api.states import SessionType

GIB = 1024**3


class Role(Enum):
    """What part a server plays; the default fleet has each at least once."""

    IDLE = auto()
    """No session, and none starts there by itself: room for what an operator tries."""
    BUSY = auto()
    """Some sessions, with people who come and go."""
    FULL = auto()
    """As many sessions as it may have, and they stay."""
    UNREACHABLE = auto()
    """Registers, then its agent goes away for good."""
    CLOSED = auto()
    """Has one session; whoever runs the fleet closes it through the API."""
    STUCK = auto()
    """Its agent takes commands and never finishes one; it has room for exactly one more session."""


@dataclass(frozen=True, slots=True)
class _Part:
    role: Role
    os_family: Literal["linux", "windows"] = "linux"


# The story of the default fleet of twelve, most telling parts first so that smaller fleets keep them.
# At least three idle Linux servers and an idle Windows server: there must be room to try things.
_STORY = (
    _Part(Role.IDLE),
    _Part(Role.BUSY),
    _Part(Role.IDLE, "windows"),
    _Part(Role.FULL),
    _Part(Role.UNREACHABLE),
    _Part(Role.CLOSED),
    _Part(Role.STUCK),
    _Part(Role.IDLE),
    _Part(Role.BUSY, "windows"),
    _Part(Role.IDLE),
    _Part(Role.BUSY),
    _Part(Role.BUSY),
)

_SITES = ("fra", "dub", "gre")
_COLORS = ("blue", "green", "orange", "red")
_TEAMS = ("cad", "viz", "sim", "geo")
_OWNERS = (
    "ana", "ben", "chloe", "dmitri", "elif", "farid", "grace", "hugo", "ines", "jonas", "kim", "lena",
    "marco", "nadia", "oskar", "priya", "quentin", "rosa", "sven", "tuan", "uma", "victor", "wanda", "yann",
)  # fmt: skip
_SURNAMES = ("bauer", "costa", "dupont", "eriksen", "fischer", "garcia", "haas", "ito", "jansen", "keller")


@dataclass(frozen=True, slots=True)
class System:
    """An operating system by the names hosts report."""

    name: str
    version: str
    kernel_version: str | None = None
    build_number: str | None = None


_LINUX = (
    System("Ubuntu 22.04.4 LTS", "22.04", kernel_version="5.15.0-105-generic"),
    System("Rocky Linux 9.3", "9.3", kernel_version="5.14.0-362.24.1.el9_3.x86_64"),
    System("Red Hat Enterprise Linux 8.9", "8.9", kernel_version="4.18.0-513.18.1.el8_9.x86_64"),
)
_WINDOWS = (
    System("Windows Server 2022 Datacenter", "10.0", build_number="20348"),
    System("Windows Server 2019 Datacenter", "10.0", build_number="17763"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine: processor, memory, graphics."""

    prefix: str
    cpus: int
    memory_gib: int
    cpu_vendor: str
    cpu_model: str
    instance_type: str | None = None
    gpus: tuple[str, ...] = ()


_MACHINES = (
    Machine("cpu", 16, 64, "GenuineIntel", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"),
    Machine("gpu", 32, 128, "AuthenticAMD", "AMD EPYC 7R32", "g5.8xlarge", ("NVIDIA A10G",)),
    Machine("gpu", 48, 192, "GenuineIntel", "Intel(R) Xeon(R) Platinum 8259CL", "g4dn.12xlarge",
            ("Tesla T4",) * 4),
    Machine("cpu", 8, 32, "AuthenticAMD", "AMD EPYC 7543 32-Core Processor", "m6a.2xlarge"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSession:
    """A session that is there when the fleet starts."""

    id: str
    name: str
    owner: str
    type: SessionType
    age_s: float
    connections: int
    idle_s: float | None
    """Seconds since the last client left; `None` if there never was one."""
    max_concurrent_clients: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedServer:
    """One invented host with everything about it that never changes."""

    index: int
    server_id: str
    fingerprint: str
    role: Role
    hostname: str
    ip: str
    os_family: Literal["linux", "windows"]
    system: System
    machine: Machine
    tags: dict[str, str]
    max_virtual_sessions: int
    """Limit of virtual sessions; 0 on Windows, which has none."""
    max_sessions_per_user: int = 10
    """The shipped default is 1, too few for an operator who tries things under one name."""
    sessions: tuple[PlannedSession, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """A whole invented fleet."""

    seed: int
    owners: tuple[str, ...]
    servers: tuple[PlannedServer, ...]

    @property
    def session_count(self) -> int:
        """How many sessions there are at the start."""
        return sum(len(server.sessions) for server in self.servers)


def new_id(random: Random) -> str:
    """A version 4 UUID from a seeded source."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def plan_fleet(seed: int, servers: int, sessions: int | None = None) -> FleetPlan:
    """Invent a fleet.

    Args:
        seed: Same seed and sizes, same fleet.
        servers: How many hosts.
        sessions: How many sessions in all, about two and a half per host by default. Servers
            with a part in the story keep their sessions, the rest is spread over the busy ones.

    Returns:
        The plan; its first twelve servers tell the whole story.
    """
    random = Random(seed)  # noqa: S311  a fleet to look at, not a secret
    parts = [_part(index, random) for index in range(servers)]
    wanted = servers * 5 // 2 if sessions is None else sessions
    owners = tuple(_owner_names(max(12, wanted // 4)))
    counts = _spread(parts, wanted, random)
    namer = _Namer(owners, random)
    return FleetPlan(
        seed=seed,
        owners=owners,
        servers=tuple(
            _server(index, part, count, namer, random)
            for index, (part, count) in enumerate(zip(parts, counts, strict=True))
        ),
    )


def _part(index: int, random: Random) -> _Part:
    if index < len(_STORY):
        return _STORY[index]
    roll = random.random()
    if roll < 0.02:
        return _Part(Role.UNREACHABLE)
    family: Literal["linux", "windows"] = "windows" if random.random() < 0.2 else "linux"
    return _Part(Role.IDLE if roll < 0.15 else Role.BUSY, family)


def _spread(parts: list[_Part], wanted: int, random: Random) -> list[int]:
    """How many sessions each server gets: the story first, then the busy Linux servers in turn."""
    fixed = {Role.FULL: 4, Role.UNREACHABLE: 2, Role.CLOSED: 1, Role.STUCK: 1}
    counts = [0] * len(parts)
    left = wanted
    # Every part of the story has a session to show before any has all of its own.
    for most in (1, 4):
        for index, part in enumerate(parts):
            if part.role is Role.IDLE:
                continue
            ceiling = 1 if part.os_family == "windows" else min(most, fixed.get(part.role, 1))
            more = min(left, ceiling - counts[index])
            if more > 0:
                counts[index] += more
                left -= more
    roomy = [i for i, part in enumerate(parts) if part.role is Role.BUSY and part.os_family == "linux"]
    # A fleet without a busy server (very small ones) puts the rest on its first server.
    roomy = roomy or [0] * bool(parts)
    while left > 0 and roomy:
        random.shuffle(roomy)
        for index in roomy[:left]:
            counts[index] += 1
        left -= min(left, len(roomy))
    return counts


def _owner_names(count: int) -> Iterator[str]:
    """Short first names, then the usual initial and surname, numbered when those run out."""
    for number in range(count):
        if number < len(_OWNERS):
            yield _OWNERS[number]
            continue
        rest = number - len(_OWNERS)
        first = _OWNERS[rest % len(_OWNERS)]
        surname = _SURNAMES[rest // len(_OWNERS) % len(_SURNAMES)]
        serial = rest // (len(_OWNERS) * len(_SURNAMES))
        yield f"{first[0]}{first[1]}{surname}{serial or ''}"


class _Namer:
    """Gives sessions owners and names such as cad-ana-1, each name once."""

    def __init__(self, owners: tuple[str, ...], random: Random) -> None:
        self._owners = owners
        self._random = random
        self._serials: dict[tuple[str, str], int] = {}

    def next(self, team: str) -> tuple[str, str]:
        owner = self._random.choice(self._owners)
        serial = self._serials[team, owner] = self._serials.get((team, owner), 0) + 1
        return owner, f"{team}-{owner}-{serial}"


def _server(index: int, part: _Part, count: int, namer: _Namer, random: Random) -> PlannedServer:
    is_windows = part.os_family == "windows"
    machine = _MACHINES[index % len(_MACHINES)] if index < len(_STORY) else random.choice(_MACHINES)
    site = _SITES[index % len(_SITES)]
    team = random.choice(_TEAMS)
    tags = {
        "color": random.choice(_COLORS),
        "gpu": "yes" if machine.gpus else "no",
        "rack": str(1 + index // 4),
        "site": site,
        "team": team,
    }
    hostname = f"{'win' if is_windows else machine.prefix}-{site}-{index + 1:03}"
    return PlannedServer(
        index=index,
        server_id=new_id(random),
        fingerprint=new_id(random),
        role=part.role,
        hostname=hostname,
        # 198.18.0.0/15 is set aside for benchmarks: nothing real can be hit by a click on a link.
        ip=f"198.18.{index // 250 % 250}.{index % 250 + 1}",
        os_family=part.os_family,
        system=random.choice(_WINDOWS if is_windows else _LINUX),
        machine=machine,
        tags=tags,
        max_virtual_sessions=_limit(part, count),
        sessions=tuple(_session(index, part, team, namer, random) for _ in range(count)),
    )


def _limit(part: _Part, count: int) -> int:
    if part.os_family == "windows":
        return 0
    if part.role is Role.FULL:
        return count
    if part.role is Role.STUCK:
        return count + 1  # what an operator tries must not get stuck there as well
    return max(8, count + 2)


def _session(index: int, part: _Part, team: str, namer: _Namer, random: Random) -> PlannedSession:
    owner, name = namer.next(team)
    is_console = part.os_family == "windows"
    age_s = random.choice((900, 7_200, 28_800, 86_400, 604_800)) * random.uniform(0.5, 1.9)
    connections = random.choice((0, 0, 1, 1, 1, 2))
    idle_s = age_s * random.uniform(0.05, 0.9) if random.random() < 0.7 else None
    session_id = new_id(random)
    return PlannedSession(
        # A Windows host starts its console session by itself, and that one is always called so;
        # many hosts have one, so ids are not unique in a fleet.
        id="console" if is_console and index % 2 == 0 else session_id,
        name=name,
        owner=owner,
        type=SessionType.CONSOLE if is_console else SessionType.VIRTUAL,
        age_s=age_s,
        connections=connections,
        idle_s=idle_s,
        max_concurrent_clients=random.choice((None, None, 5, 10)),
    )
