"""Every column that the lists of sessions and servers can show, one per field of the API.

The same columns serve the screen, the tables of the command line and the filter
language, whose field names are the heads. Pure.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dcvtui.api.states import Availability, SessionState, UnavailabilityReason
from dcvtui.api.text import visible
from dcvtui.columns import Column, Sign, Unit, absolute, age, size
from dcvtui.fleet import ServerRecord, SessionRecord

# ------------------------------------------------------------------ signs

_SIGNS = {
    SessionState.READY.value: Sign.GOOD,
    SessionState.CREATING.value: Sign.CREATING,
    SessionState.DELETING.value: Sign.DELETING,
    SessionState.DELETED.value: Sign.DELETED,
    SessionState.UNKNOWN.value: Sign.BAD,
    Availability.AVAILABLE.value: Sign.GOOD,
    UnavailabilityReason.SERVER_FULL.value: Sign.FULL,
    UnavailabilityReason.SERVER_CLOSED.value: Sign.CLOSED,
    UnavailabilityReason.EXISTING_LOGGED_IN_USER.value: Sign.USER,
    UnavailabilityReason.UNREACHABLE_AGENT.value: Sign.BAD,
    UnavailabilityReason.UNHEALTHY_DCV_SERVER.value: Sign.BAD,
    Availability.UNAVAILABLE.value: Sign.BAD,
}


def state_sign(state: str) -> Sign | None:
    """The sign of a session's state or of a server's availability or reason; None for unknown words."""
    return _SIGNS.get(state)


def server_state(server: ServerRecord) -> str:
    """Why a server takes nothing, or that it does, in the broker's words."""
    if server.availability == Availability.AVAILABLE:
        return server.availability
    return server.unavailability_reason or server.availability


# ------------------------------------------------------------------ sessions


def _seconds(moment: datetime | None, now: datetime) -> float | None:
    return (now - moment).total_seconds() if moment else None


def _plain(attribute: str) -> Callable[[Any, datetime], str]:
    def text(record: Any, _now: datetime) -> str:
        value = getattr(record, attribute)
        return "" if value is None else visible(str(value))

    return text


def _measured(attribute: str) -> Callable[[Any, datetime], float | None]:
    def measure(record: Any, _now: datetime) -> float | None:
        value: float | None = getattr(record, attribute)
        return value

    return measure


SESSION_COLUMNS: tuple[Column[SessionRecord], ...] = (
    Column("NAME", _plain("name"), 20, narrow=14, wide=34, importance=0),
    Column("OWNER", _plain("owner"), 12, narrow=8, wide=18, importance=1),
    Column("TYPE", _plain("type"), 7, importance=5),
    Column("STATE", _plain("state"), 10, importance=1, sign=lambda session: state_sign(session.state)),
    Column("SERVER", _plain("server_name"), 14, narrow=10, wide=26, importance=2),
    Column(
        "CLIENTS",
        _plain("connections"),
        7,
        importance=3,
        is_right=True,
        unit=Unit.NUMBER,
        measure=_measured("connections"),
    ),
    Column(
        "IDLE",
        lambda session, now: age(session.idle_since, now) or "-",
        6,
        importance=6,
        is_right=True,
        unit=Unit.TIME,
        measure=lambda session, now: _seconds(session.idle_since, now),
    ),
    Column(
        "AGE",
        lambda session, now: age(session.creation_time, now),
        6,
        importance=4,
        is_right=True,
        unit=Unit.TIME,
        measure=lambda session, now: _seconds(session.creation_time, now),
    ),
    Column(
        "REASON",
        lambda session, _now: visible(session.state_reason or session.substate),
        24,
        wide=60,
        importance=7,
    ),
    Column("SUBSTATE", _plain("substate"), 19),
    Column(
        "LIMIT",
        _plain("max_clients"),
        5,
        is_right=True,
        unit=Unit.NUMBER,
        measure=_measured("max_clients"),
    ),
    Column("CREATED", lambda session, _now: absolute(session.creation_time), 19),
    Column("DISCONNECTED", lambda session, _now: absolute(session.last_disconnection_time), 19),
    Column("STORAGE", _plain("storage_root"), 16),
    Column("SERVER-ID", lambda session, _now: visible(session.server_id or ""), 24),
    Column("ID", _plain("id"), 36),
    Column("PROFILE", _plain("profile"), 12),
)

# ------------------------------------------------------------------ servers

MAX_VIRTUAL_TAG = "dcv:max-virtual-sessions"


def max_virtual_sessions(server: ServerRecord) -> int | None:
    """How many virtual sessions the server may have; None if it says nothing or has no limit."""
    for key, value in server.tags:
        if key == MAX_VIRTUAL_TAG:
            return int(value) if value.isdecimal() else None
    return None


def _memory_percent(server: ServerRecord, _now: datetime) -> float | None:
    if not server.memory_total or server.memory_used is None:
        return None
    return 100 * server.memory_used / server.memory_total


def _memory_text(server: ServerRecord, now: datetime) -> str:
    percent = _memory_percent(server, now)
    return "" if percent is None else f"{percent:.0f} %"


def system_name(server: ServerRecord) -> str:
    """The operating system in words; a version that its name holds already is not said twice."""
    if not server.os_name:
        return server.os_family
    return server.os_name if server.os_version in server.os_name else f"{server.os_name} {server.os_version}"


def _count_column(head: str, attribute: str, width: int, importance: int = 9) -> Column[ServerRecord]:
    return Column(
        head,
        _plain(attribute),
        width,
        importance=importance,
        is_right=True,
        unit=Unit.NUMBER,
        measure=_measured(attribute),
    )


def _size_column(head: str, attribute: str) -> Column[ServerRecord]:
    return Column(
        head,
        lambda server, _now: size(getattr(server, attribute)),
        10,
        is_right=True,
        unit=Unit.SIZE,
        measure=_measured(attribute),
    )


def _load_column(head: str, attribute: str, importance: int = 9) -> Column[ServerRecord]:
    def text(server: ServerRecord, _now: datetime) -> str:
        value = getattr(server, attribute)
        return "" if value is None else f"{value:.2f}"

    return Column(
        head,
        text,
        6,
        importance=importance,
        is_right=True,
        unit=Unit.NUMBER,
        measure=_measured(attribute),
    )


def _tags_text(server: ServerRecord, _now: datetime) -> str:
    # Reserved tags say what other columns say already.
    return visible(" ".join(f"{key}={value}" for key, value in server.tags if not key.startswith("dcv:")))


SERVER_COLUMNS: tuple[Column[ServerRecord], ...] = (
    Column("NAME", _plain("name"), 20, narrow=14, wide=34, importance=0),
    Column(
        "STATE",
        lambda server, _now: visible(server_state(server)),
        22,
        narrow=14,
        importance=1,
        sign=lambda server: state_sign(server_state(server)),
    ),
    _count_column("SESSIONS", "sessions", 8, importance=2),
    Column(
        "MAX",
        lambda server, _now: "" if (limit := max_virtual_sessions(server)) is None else str(limit),
        3,
        importance=5,
        is_right=True,
        unit=Unit.NUMBER,
        measure=lambda server, _now: max_virtual_sessions(server),
    ),
    Column("OS", lambda server, _now: visible(system_name(server)), 16, narrow=8, wide=30, importance=4),
    _load_column("LOAD", "load_1", importance=3),
    Column(
        "MEM",
        _memory_text,
        5,
        importance=4,
        is_right=True,
        unit=Unit.NUMBER,
        measure=_memory_percent,
    ),
    Column("TAGS", _tags_text, 22, wide=60, importance=6),
    _count_column("CPUS", "cpus", 4, importance=7),
    Column(
        "GPUS",
        lambda server, _now: visible(", ".join(model or vendor for vendor, model in server.gpus)),
        14,
        importance=8,
    ),
    Column("USERS", lambda server, _now: visible(", ".join(server.users)), 14, importance=8),
    Column("IP", _plain("ip"), 15, importance=7),
    _count_column("CONSOLE", "console_sessions", 7),
    _count_column("VIRTUAL", "virtual_sessions", 7),
    _load_column("LOAD5", "load_5"),
    _load_column("LOAD15", "load_15"),
    _size_column("MEMORY", "memory_total"),
    _size_column("USED", "memory_used"),
    _size_column("SWAP", "swap_total"),
    _size_column("SWAP-USED", "swap_used"),
    Column("FAMILY", _plain("os_family"), 8),
    Column("KERNEL", _plain("kernel_version"), 18),
    Column("BUILD", _plain("build_number"), 10),
    Column("CPU", _plain("cpu_model"), 24),
    Column("CPU-VENDOR", _plain("cpu_vendor"), 14),
    _count_column("CORES", "cores_per_cpu", 5),
    Column("ARCH", _plain("architecture"), 8),
    Column("DNS", _plain("dns_name"), 24),
    Column("PORT", _plain("port"), 5, is_right=True),
    Column("PATH", _plain("web_url_path"), 8),
    Column("VERSION", _plain("version"), 14),
    Column("AGENT", _plain("agent_version"), 14),
    Column("INSTANCE", _plain("instance_id"), 20),
    Column("INSTANCE-TYPE", _plain("instance_type"), 13),
    Column("REGION", _plain("region"), 14),
    Column("IMAGE", _plain("image_id"), 21),
    Column("ID", _plain("id"), 24),
    Column("PROFILE", _plain("profile"), 12),
)
