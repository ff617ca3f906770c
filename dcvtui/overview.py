"""The whole fleet on one page: servers and sessions by state, places left, load, the busiest owners.

Pure. Made anew only while somebody looks at it: it reads every server once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from dcvtui.api.states import Availability
from dcvtui.api.text import visible
from dcvtui.columns import Sign, size, state_order
from dcvtui.details import Detail, course_detail, heading
from dcvtui.fields import max_virtual_sessions, server_state, state_sign
from dcvtui.fleet import ServerRecord, SessionRecord, Snapshot
from dcvtui.history import Course
from dcvtui.meters import share

_MOST_OWNERS = 5


@dataclass(slots=True)
class _Sum:
    """A total of which a part is used, over the servers that tell both."""

    used: float = 0
    total: float = 0

    def add(self, used: float | None, total: float | None) -> None:
        if used is not None and total:
            self.used += used
            self.total += total


@dataclass(slots=True)
class Capacity:
    """What the servers of a fleet have and what of it is taken.

    Attributes:
        places: virtual sessions of all that the servers with a limit may have, unreachable ones left out.
        free: virtual sessions that available servers with a limit can still take.
        unlimited: available servers that name no limit.
        empty: available servers without any session, each good for one console session.
    """

    places: _Sum
    free: int = 0
    unlimited: int = 0
    empty: int = 0


def capacity(servers: Iterable[ServerRecord]) -> Capacity:
    """Count the places of servers as far as a console can know them."""
    found = Capacity(_Sum())
    for server in servers:
        limit = max_virtual_sessions(server)
        if limit is not None and state_sign(server_state(server)) is not Sign.BAD:
            found.places.add(server.virtual_sessions, limit)
        if server.availability != Availability.AVAILABLE or server.console_sessions:
            continue
        found.empty += not server.sessions
        # Virtual sessions exist on Linux only (Session Manager guide, CreateSessions).
        if server.os_family.lower() != "linux":
            continue
        if limit is None:
            found.unlimited += 1
        else:
            found.free += max(0, limit - server.virtual_sessions)
    return found


def overview(
    title: str, fleet: Snapshot, sessions: Mapping[str, int], course: Course, now: datetime
) -> list[Detail]:
    """A fleet as lines for a person to read.

    Args:
        title: whose fleet it is.
        fleet: all that is known of it.
        sessions: how many sessions are in each state, deleted ones left out.
        course: what was seen of the number of its sessions.
        now: the broker's time.
    """
    servers = fleet.servers.values()
    return [
        heading(title),
        *_by_state("servers", Counter(map(server_state, servers))),
        Detail(""),
        *_by_state("sessions", Counter(sessions)),
        *course_detail(course.sessions, 1),
        Detail(""),
        *_places(capacity(servers)),
        Detail(""),
        *_loads(servers),
        Detail(""),
        *_owners(fleet.sessions.values(), now),
    ]


def _by_state(label: str, counts: Counter[str]) -> Iterator[Detail]:
    total = sum(counts.values())
    yield Detail(label, f"{total:,}")
    for state in sorted(counts, key=lambda state: (-counts[state], state_order(state))):
        count = counts[state]
        yield Detail(
            "", f"{count:,} {visible(state)}", state_sign(state) or Sign.BAD, meter=share(count, total)
        )


def _places(found: Capacity) -> Iterator[Detail]:
    yield heading("capacity")
    taken, total = int(found.places.used), int(found.places.total)
    if total:
        yield Detail("places", f"{taken:,} of {total:,} taken", meter=share(taken, total))
    free = f"{found.free:,} virtual session{'' if found.free == 1 else 's'} now"
    if found.unlimited:
        noun = "server" if found.unlimited == 1 else "servers"
        free += f", and any number on {found.unlimited:,} {noun} without a limit"
    yield Detail("room for", free)
    yield Detail("", f"{found.empty:,} console session{'' if found.empty == 1 else 's'} now")


def _loads(servers: Iterable[ServerRecord]) -> Iterator[Detail]:
    load, memory, swap = _Sum(), _Sum(), _Sum()
    for server in servers:
        # What an unreachable host said last is no load of now.
        if state_sign(server_state(server)) is Sign.BAD:
            continue
        load.add(server.load_1, server.cpus)
        memory.add(server.memory_used, server.memory_total)
        swap.add(server.swap_used, server.swap_total)
    yield heading("hosts that answer")
    if load.total:
        text = f"{load.used:,.1f} on {int(load.total):,} CPUs"
        yield Detail("load", text, meter=share(load.used, load.total))
    for label, one in (("memory", memory), ("swap", swap)):
        if one.total:
            text = f"{size(int(one.used)).partition(' ')[0]} of {size(int(one.total))}"
            yield Detail(label, text, meter=share(one.used, one.total))


def _owners(sessions: Iterable[SessionRecord], now: datetime) -> Iterator[Detail]:
    owners: Counter[str] = Counter()
    idle: list[float] = []
    for session in sessions:
        if session.state == "DELETED":
            continue
        owners[session.owner] += 1
        if session.idle_since is not None:
            idle.append((now - session.idle_since).total_seconds())
    if not owners:
        return
    yield heading("who has the most sessions")
    total = sum(owners.values())
    for owner, count in sorted(owners.items(), key=lambda one: (-one[1], one[0]))[:_MOST_OWNERS]:
        yield Detail("", f"{count:,} {visible(owner)}", meter=share(count, total))
    day = sum(seconds >= 86_400 for seconds in idle)
    yield Detail("idle", f"{len(idle):,} without a client, {day:,} of them for a day or longer")
