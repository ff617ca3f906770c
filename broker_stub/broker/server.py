"""One server as the broker knows it: its record, availability, JSON and row.

Records are plain data, changed only by the registry and the modules it is split
into. What an agent reports is kept as it came (camel case); the API's form is
made of it when somebody asks, and kept until the next report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from broker_stub.broker.session import SessionRecord, encode
from dcvtui.api.server_facts import Fact
from dcvtui.api.states import Availability, SessionType, UnavailabilityReason

MAX_VIRTUAL_SESSIONS_TAG = "dcv:max-virtual-sessions"
MAX_SESSIONS_PER_USER_TAG = "dcv:max-concurrent-sessions-per-user"

LIVE_HOST_MEMBERS = frozenset(("memory", "swap", "cpuLoadAverage", "loggedInUsers"))
"""Metrics: they change with every update and are never stored."""
_LIVE_IN_ORDER = sorted(LIVE_HOST_MEMBERS)
_LIVE_MEMBERS = frozenset(
    ("host", "healthy", "existingLoggedInUser", "consoleSessionCount", "virtualSessionCount")
)
_CAPITALIZED = {
    "ec2InstanceType": "EC2InstanceType",
    "ec2InstanceId": "EC2InstanceId",
    "ec2ImageId": "EC2ImageId",
}


Rank = tuple[int, float, str, int]
"""Sessions, load by processor, id: what placement goes by; and the version it was taken at."""


@dataclass(slots=True)
class Standing:
    """What placement looks at first; kept until something of it changes."""

    takes_console: bool
    takes_virtual: bool
    rank: Rank | None = None
    """`None`: to be made; it changes with every report of the load."""


@dataclass(slots=True)
class ForcedAway:
    """A session that was removed by force: until then nothing of it is believed (API, 4.4)."""

    until: datetime
    report: Mapping[str, Any] | None
    """What the host last said of it; `None`: it is gone there too, as far as known."""


@dataclass(slots=True, eq=False)
class ServerRecord:
    """A server. `channel_id` is the one channel whose word counts, `None` while there is none."""

    id: str
    channel_id: str | None = None
    open: bool = True
    block: dict[str, Any] = field(default_factory=dict)
    """The server block as reported, deltas merged."""
    tags: dict[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    agent_version: str | None = None
    fingerprint: str | None = None
    epoch: int = 0
    instance_id: str | None = None
    update_interval_s: float = 30.0
    has_contact: bool = False
    """An agent has said hello since the broker started."""
    is_reachable: bool = True
    is_healthy: bool = True
    disconnected_at: datetime | None = None
    unreachable_since: datetime | None = None
    last_report_at: datetime | None = None
    watch_at: datetime | None = None
    """When the record is looked at next because of the time."""
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    """Sessions that show this server, by key; the deleted ones among them are not counted."""
    reported_ids: set[str] = field(default_factory=set)
    """What the agent has on its host, as far as this channel has told."""
    orphans_closed: set[str] = field(default_factory=set)
    """Ids that this channel's agent was told to close because they do not belong there."""
    forced_away: dict[str, ForcedAway] = field(default_factory=dict)
    """Sessions that were removed by force a moment ago, by id."""
    console_count: int = 0
    virtual_count: int = 0
    rank_version: int = 0
    """Rises with every change that placement looks at."""
    standing: Standing | None = None
    """What it can take; `None`: to be looked at."""
    brief_json: bytes | None = None
    """JSON as sessions show it; `None`: to be encoded."""
    lasting_json: bytes | None = None
    """JSON of the host without metrics; `None`: to be encoded."""
    part: bytes | None = None
    """JSON with the host, as pages of servers hold it; `None`: to be encoded."""
    facts: dict[str, Fact] | None = None
    """What requirements look at; `None`: to be collected."""
    are_metrics_new: bool = False
    """The metrics among the facts are older than those in the block."""

    @property
    def os_family(self) -> str:
        """`linux`, `windows` or what else the agent said, empty if nothing."""
        value = (self.block.get("host") or {}).get("os") or {}
        return str(value.get("family") or "").lower()

    @property
    def session_count(self) -> int:
        """Sessions that take a place, reservations included."""
        return self.console_count + self.virtual_count

    @property
    def load_per_cpu(self) -> float:
        """Load of the last minute by processor, 0 if the agent does not say."""
        host = self.block.get("host") or {}
        load = (host.get("cpuLoadAverage") or {}).get("oneMinute") or 0.0
        return float(load) / ((host.get("cpuInfo") or {}).get("numberOfCpus") or 1)

    @property
    def is_in_sight(self) -> bool:
        """Whether the agent's word on sessions can be had."""
        return self.has_contact and self.is_reachable and self.is_healthy

    def limit(self, tag: str) -> int | None:
        """The limit that a reserved tag sets, `None` for no limit."""
        try:
            value = int(self.tags[tag])
        except (KeyError, ValueError):
            return None
        return value if value >= 0 else None

    def offers(self, session_type: str) -> bool:
        """Whether the agent makes sessions of this type."""
        is_console = session_type == SessionType.CONSOLE
        allowed = self.block.get("consoleAllowed" if is_console else "virtualAllowed")
        return bool(allowed) if allowed is not None else session_type.lower() in self.capabilities


# ------------------------------------------------------------------ availability


def unavailability(server: ServerRecord) -> UnavailabilityReason | None:
    """Why the server takes no session, the first reason in the order of section 7.1, or nothing."""
    if not server.is_reachable:
        return UnavailabilityReason.UNREACHABLE_AGENT
    if not server.is_healthy:
        return UnavailabilityReason.UNHEALTHY_DCV_SERVER
    if not server.open:
        return UnavailabilityReason.SERVER_CLOSED
    if server.block.get("existingLoggedInUser") and server.os_family != "linux":
        return UnavailabilityReason.EXISTING_LOGGED_IN_USER
    if is_full(server):
        return UnavailabilityReason.SERVER_FULL
    return None if server.has_contact else UnavailabilityReason.UNKNOWN


def is_full(server: ServerRecord) -> bool:
    """Whether no further session of any type could run (API, 7.2)."""
    if server.console_count:
        return True
    if not server.virtual_count:
        return False
    limit = server.limit(MAX_VIRTUAL_SESSIONS_TAG)
    return limit is not None and server.virtual_count >= limit


# ------------------------------------------------------------------ JSON


@lru_cache(maxsize=1024)
def _wire_name(name: str) -> str:
    return _CAPITALIZED.get(name) or name[:1].upper() + name[1:]


def _wire_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {_wire_name(name): _wire_names(one) for name, one in value.items() if one is not None}
    return [_wire_names(one) for one in value] if isinstance(value, list) else value


def _endpoint_wire(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    wire: dict[str, Any] = _wire_names(endpoint)
    if wire.get("Protocol") == "HTTP":
        wire.setdefault("WebUrlPath", "/")
    else:
        wire.pop("WebUrlPath", None)  # QUIC has no path (API, 3.2 and D19)
    return wire


def server_wire(server: ServerRecord) -> dict[str, Any]:
    """The server in wire form as sessions show it, without `Host` (API, 3.2)."""
    block = server.block
    wire: dict[str, Any] = {
        "Id": server.id,
        "Ip": block.get("ip") or "",
        "Hostname": block.get("hostname") or "",
    }
    if block.get("defaultDnsName"):
        wire["DefaultDnsName"] = block["defaultDnsName"]
    endpoints = [_endpoint_wire(endpoint) for endpoint in block.get("endpoints") or ()]
    http = next((one for one in endpoints if one.get("Protocol") == "HTTP" and "Port" in one), None)
    if http:
        wire["Port"] = str(http["Port"])
    wire["Endpoints"] = endpoints
    if http:
        wire["WebUrlPath"] = (
            http["WebUrlPath"] if http["WebUrlPath"].startswith("/") else "/" + http["WebUrlPath"]
        )
    if block.get("version"):
        wire["Version"] = block["version"]
    if agent_version := block.get("sessionManagerAgentVersion") or server.agent_version:
        wire["SessionManagerAgentVersion"] = agent_version
    reason = unavailability(server)
    wire["Availability"] = (Availability.UNAVAILABLE if reason else Availability.AVAILABLE).value
    if reason:
        wire["UnavailabilityReason"] = reason.value
    wire["ConsoleSessionCount"] = server.console_count
    wire["VirtualSessionCount"] = server.virtual_count
    wire["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(server.tags.items())]
    return wire


def host_wire(server: ServerRecord) -> dict[str, Any]:
    """Facts and metrics of the host in wire form; the lists are there even if empty."""
    return _lasting_host_wire(server) | _live_host_wire(server)


def _lasting_host_wire(server: ServerRecord) -> dict[str, Any]:
    host = server.block.get("host") or {}
    wire: dict[str, Any] = _wire_names(
        {name: value for name, value in host.items() if name not in LIVE_HOST_MEMBERS}
    )
    wire.setdefault("Gpus", [])
    if not wire.get("Aws"):
        wire.pop("Aws", None)  # the whole object only on EC2
    return wire


def _live_host_wire(server: ServerRecord) -> dict[str, Any]:
    host = server.block.get("host") or {}
    wire: dict[str, Any] = _wire_names({name: host.get(name) for name in _LIVE_IN_ORDER})
    wire.setdefault("LoggedInUsers", [])
    return wire


def brief_json(server: ServerRecord) -> bytes:
    """The server's JSON as sessions show it; kept until it changes."""
    if server.brief_json is None:
        server.brief_json = encode(server_wire(server))
    return server.brief_json


def server_part(server: ServerRecord) -> bytes:
    """The server's JSON as pages of servers hold it; kept until it changes."""
    if server.part is None:
        if server.lasting_json is None:
            server.lasting_json = encode(_lasting_host_wire(server))
        lasting, live = server.lasting_json[:-1], encode(_live_host_wire(server))[1:]
        server.part = b'%b,"Host":%b,%b}' % (brief_json(server)[:-1], lasting, live)
    return server.part


# ------------------------------------------------------------------ rows


def lasting_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a server block that the store keeps: everything but metrics and health."""
    lasting = {name: value for name, value in block.items() if name not in _LIVE_MEMBERS}
    host = block.get("host") or {}
    lasting["host"] = {name: value for name, value in host.items() if name not in LIVE_HOST_MEMBERS}
    return lasting


def tags_of_block(block: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a server block; of a key that is there twice the last counts."""
    return {tag["key"]: tag["value"] for tag in block.get("tags") or ()}


def server_row(server: ServerRecord) -> dict[str, Any]:
    """What the store keeps."""
    return {
        "id": server.id,
        "open": server.open,
        "block": lasting_block(server.block),
        "capabilities": sorted(server.capabilities),
        "agentVersion": server.agent_version,
        "fingerprint": server.fingerprint,
        "epoch": server.epoch,
        "instanceId": server.instance_id,
        "updateIntervalS": server.update_interval_s,
    }


def server_of_row(row: Mapping[str, Any]) -> ServerRecord:
    """The record that a row was made of, without contact to its agent."""
    return ServerRecord(
        id=row["id"],
        open=row["open"],
        block=dict(row["block"]),
        tags=tags_of_block(row["block"]),
        capabilities=frozenset(row["capabilities"]),
        agent_version=row["agentVersion"],
        fingerprint=row["fingerprint"],
        epoch=row["epoch"],
        instance_id=row["instanceId"],
        update_interval_s=row["updateIntervalS"],
    )
