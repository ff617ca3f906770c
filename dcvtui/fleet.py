"""What the console knows of a fleet: records of servers and sessions, and snapshots of both.

Flat readers turn the objects of a page into slotted records, twenty times faster
than models would; a test compares them with `dcvtui.api.models`, so that they
cannot drift apart. Pure and without pydantic, because the console imports this
before its first paint. What needs a person is decided in `dcvtui.attention`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from sys import intern
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Key = tuple[str, ...]

_MOST = 1e18
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")


class Endpoint(NamedTuple):
    """Where a DCV server listens; `protocol` is `HTTP` or `QUIC`."""

    ip_address: str
    port: int | None
    protocol: str
    web_url_path: str


@dataclass(slots=True, frozen=True)
class ServerRecord:
    """One DCV server as the broker described it last; texts are "" where nothing was said."""

    key: Key
    profile: str
    id: str
    hostname: str = ""
    ip: str = ""
    dns_name: str = ""
    port: str = ""
    web_url_path: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    version: str = ""
    agent_version: str = ""
    availability: str = ""
    unavailability_reason: str = ""
    console_sessions: int = 0
    virtual_sessions: int = 0
    os_family: str = ""
    os_name: str = ""
    os_version: str = ""
    kernel_version: str = ""
    build_number: str = ""
    cpus: int | None = None
    cpu_model: str = ""
    cpu_vendor: str = ""
    architecture: str = ""
    cores_per_cpu: int | None = None
    load_1: float | None = None
    load_5: float | None = None
    load_15: float | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    gpus: tuple[tuple[str, str], ...] = ()
    """Vendor and model of each graphics processor."""
    users: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    instance_id: str = ""
    instance_type: str = ""
    region: str = ""
    image_id: str = ""

    @property
    def name(self) -> str:
        """What people call the server: its host name where it has one."""
        return self.hostname or self.dns_name or self.id

    @property
    def sessions(self) -> int:
        """Sessions of both types on the server, as the broker counts them."""
        return self.console_sessions + self.virtual_sessions


@dataclass(slots=True, frozen=True)
class SessionRecord:
    """One session as the broker described it last; texts are "" where nothing was said."""

    key: Key
    profile: str
    id: str
    name: str = ""
    owner: str = ""
    type: str = ""
    state: str = ""
    substate: str = ""
    state_reason: str = ""
    creation_time: datetime | None = None
    last_disconnection_time: datetime | None = None
    connections: int = 0
    max_clients: int | None = None
    storage_root: str = ""
    server_id: str | None = None
    server_name: str = ""

    @property
    def idle_since(self) -> datetime | None:
        """Since when nobody has been connected; None unless the session is READY and empty."""
        if self.state != "READY" or self.connections:
            return None
        return self.last_disconnection_time or self.creation_time


# ------------------------------------------------------------------ reading and writing the wire form


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _word(value: Any) -> str:
    """A text that many records share, kept once: an eighth of the console's memory on a large fleet."""
    return intern(_text(value))


def _integer(value: Any) -> int | None:
    # Ports and counts come as numbers or as decimal texts (API specification, D5).
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isdecimal() and len(digits) < 20 else None
    number = _number(value)
    return int(value) if number is not None else None


def _number(value: Any) -> float | None:
    # Python's JSON also reads numbers without measure, with which nothing can be reckoned.
    if not isinstance(value, int | float) or isinstance(value, bool) or not -_MOST <= value <= _MOST:
        return None
    return float(value)


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # The first and the last day cannot be written in every zone, and nothing was created on them.
    return moment if moment.year not in (MINYEAR, MAXYEAR) else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _endpoint(wire: Mapping[str, Any]) -> Endpoint:
    # The guide prints connection data with the names of a Python object (API specification, D7).
    return Endpoint(
        _text(wire.get("IpAddress", wire.get("ip_address"))),
        _integer(wire.get("Port", wire.get("port"))),
        _text(wire.get("Protocol", wire.get("protocol"))).upper(),
        _text(wire.get("WebUrlPath", wire.get("web_url_path"))),
    )


def _aws(wire: Mapping[str, Any], name: str) -> str:
    # `EC2…` in samples, `Ec2…` in the text (API specification, D6).
    return _word(wire.get("EC2" + name, wire.get("Ec2" + name)))


def server_record(wire: Mapping[str, Any], profile: str = "") -> ServerRecord:
    """Read a `Server` of DescribeServers; anything may be missing."""
    host = _object(wire.get("Host"))
    system, processor = _object(host.get("Os")), _object(host.get("CpuInfo"))
    memory, swap = _object(host.get("Memory")), _object(host.get("Swap"))
    load, aws = _object(host.get("CpuLoadAverage")), _object(host.get("Aws"))
    server_id = _text(wire.get("Id"))
    return ServerRecord(
        key=(profile, server_id),
        profile=profile,
        id=server_id,
        hostname=_text(wire.get("Hostname")),
        ip=_text(wire.get("Ip")),
        dns_name=_text(wire.get("DefaultDnsName")),
        port=_word(wire.get("Port")),
        web_url_path=_word(wire.get("WebUrlPath")),
        endpoints=tuple(map(_endpoint, _objects(wire.get("Endpoints", wire.get("endpoints"))))),
        version=_word(wire.get("Version")),
        agent_version=_word(wire.get("SessionManagerAgentVersion")),
        availability=_word(wire.get("Availability")),
        unavailability_reason=_word(wire.get("UnavailabilityReason")),
        console_sessions=_integer(wire.get("ConsoleSessionCount")) or 0,
        virtual_sessions=_integer(wire.get("VirtualSessionCount")) or 0,
        os_family=_word(system.get("Family")),
        os_name=_word(system.get("Name")),
        os_version=_word(system.get("Version")),
        kernel_version=_word(system.get("KernelVersion")),
        build_number=_word(system.get("BuildNumber")),
        cpus=_integer(processor.get("NumberOfCpus")),
        cpu_model=_word(processor.get("ModelName")),
        cpu_vendor=_word(processor.get("Vendor")),
        architecture=_word(processor.get("Architecture")),
        cores_per_cpu=_integer(processor.get("PhysicalCoresPerCpu")),
        load_1=_number(load.get("OneMinute")),
        load_5=_number(load.get("FiveMinutes")),
        load_15=_number(load.get("FifteenMinutes")),
        memory_total=_integer(memory.get("TotalBytes")),
        memory_used=_integer(memory.get("UsedBytes")),
        swap_total=_integer(swap.get("TotalBytes")),
        swap_used=_integer(swap.get("UsedBytes")),
        gpus=tuple(
            (_word(gpu.get("Vendor")), _word(gpu.get("ModelName"))) for gpu in _objects(host.get("Gpus"))
        ),
        users=tuple(_text(user.get("Username")) for user in _objects(host.get("LoggedInUsers"))),
        tags=tuple((_word(tag.get("Key")), _word(tag.get("Value"))) for tag in _objects(wire.get("Tags"))),
        instance_id=_aws(aws, "InstanceId"),
        instance_type=_aws(aws, "InstanceType"),
        region=_word(aws.get("Region")),
        image_id=_aws(aws, "ImageId"),
    )


def session_key(profile: str, session_id: str, server_id: str | None) -> Key:
    """What identifies a session: its id alone only if the broker made it.

    Ids found on hosts, such as `console`, can occur on several servers.
    """
    if _UUID.match(session_id) or not server_id:
        return (profile, session_id)
    return (profile, server_id, session_id)


def session_record(wire: Mapping[str, Any], profile: str = "") -> SessionRecord:
    """Read a `Session` of DescribeSessions; anything may be missing."""
    session_id = _text(wire.get("Id"))
    server = _object(wire.get("Server"))
    server_id = _word(server.get("Id")) or None
    return SessionRecord(
        key=session_key(profile, session_id, server_id),
        profile=profile,
        id=session_id,
        name=_text(wire.get("Name")),
        owner=_word(wire.get("Owner")),
        type=_word(wire.get("Type")),
        state=_word(wire.get("State")),
        substate=_word(wire.get("Substate")),
        state_reason=_word(wire.get("StateReason")),
        creation_time=_time(wire.get("CreationTime")),
        last_disconnection_time=_time(wire.get("LastDisconnectionTime")),
        connections=_integer(wire.get("NumOfConnections")) or 0,
        max_clients=_integer(wire.get("MaxConcurrentClients")),
        storage_root=_word(wire.get("StorageRoot")),
        server_id=server_id,
        server_name=intern(
            _text(server.get("Hostname")) or _text(server.get("DefaultDnsName")) or server_id or ""
        ),
    )


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


def _timestamp(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def server_wire(record: ServerRecord) -> dict[str, Any]:
    """The record as a `Server` of the API, without what was never said."""
    return _said(
        Id=record.id,
        Ip=record.ip,
        Hostname=record.hostname,
        DefaultDnsName=record.dns_name,
        Port=record.port,
        Endpoints=[
            _said(IpAddress=ip, Port=port, Protocol=protocol, WebUrlPath=path)
            for ip, port, protocol, path in record.endpoints
        ],
        WebUrlPath=record.web_url_path,
        Version=record.version,
        SessionManagerAgentVersion=record.agent_version,
        Availability=record.availability,
        UnavailabilityReason=record.unavailability_reason,
        ConsoleSessionCount=record.console_sessions,
        VirtualSessionCount=record.virtual_sessions,
        Host=_host_wire(record),
        Tags=[{"Key": key, "Value": value} for key, value in record.tags],
    )


def _host_wire(record: ServerRecord) -> dict[str, Any]:
    return _said(
        Os=_said(
            Family=record.os_family,
            Name=record.os_name,
            Version=record.os_version,
            KernelVersion=record.kernel_version,
            BuildNumber=record.build_number,
        ),
        Memory=_said(TotalBytes=record.memory_total, UsedBytes=record.memory_used),
        Swap=_said(TotalBytes=record.swap_total, UsedBytes=record.swap_used),
        Aws=_said(
            Region=record.region,
            EC2InstanceType=record.instance_type,
            EC2InstanceId=record.instance_id,
            EC2ImageId=record.image_id,
        ),
        CpuInfo=_said(
            Vendor=record.cpu_vendor,
            ModelName=record.cpu_model,
            Architecture=record.architecture,
            NumberOfCpus=record.cpus,
            PhysicalCoresPerCpu=record.cores_per_cpu,
        ),
        CpuLoadAverage=_said(
            OneMinute=record.load_1, FiveMinutes=record.load_5, FifteenMinutes=record.load_15
        ),
        Gpus=[_said(Vendor=vendor, ModelName=model) for vendor, model in record.gpus],
        LoggedInUsers=[{"Username": user} for user in record.users],
    )


def session_wire(record: SessionRecord, server: ServerRecord | None = None) -> dict[str, Any]:
    """The record as a `Session` of the API; `server` completes what the record knows of its server."""
    described = server_wire(server) if server else _said(Id=record.server_id, Hostname=record.server_name)
    described.pop("Host", None)
    return _said(
        Id=record.id,
        Name=record.name,
        Owner=record.owner,
        Type=record.type,
        State=record.state,
        Substate=record.substate,
        StateReason=record.state_reason,
        CreationTime=_timestamp(record.creation_time),
        LastDisconnectionTime=_timestamp(record.last_disconnection_time),
        NumOfConnections=record.connections,
        MaxConcurrentClients=record.max_clients,
        StorageRoot=record.storage_root,
        Server=described,
    )


# ------------------------------------------------------------------ snapshots


class Keyed(Protocol):
    """Anything with a key: a record that a snapshot or a list can hold."""

    @property
    def key(self) -> Key:
        """What identifies it."""


RecordT = TypeVar("RecordT", bound=Keyed)


@dataclass(slots=True, frozen=True)
class Snapshot:
    """The fleet as far as it is known at one moment; never changed, only replaced."""

    servers: Mapping[Key, ServerRecord] = field(default_factory=dict)
    sessions: Mapping[Key, SessionRecord] = field(default_factory=dict)

    def server_of(self, session: SessionRecord) -> ServerRecord | None:
        """The server a session is bound to, if it is known."""
        return self.servers.get((session.profile, session.server_id)) if session.server_id else None


@dataclass(slots=True, frozen=True)
class Changes(Generic[RecordT]):
    """What became of the records of one kind."""

    added: tuple[RecordT, ...] = ()
    changed: tuple[tuple[RecordT, RecordT], ...] = ()
    """The old and the new record of each."""
    removed: tuple[RecordT, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def present(self) -> Iterator[RecordT]:
        """The records that are new or changed, as they are now."""
        yield from self.added
        for _, new in self.changed:
            yield new

    def applied_to(self, records: Mapping[Key, RecordT]) -> Mapping[Key, RecordT]:
        """The records after these changes; the same object if there are none."""
        if not self:
            return records
        result = dict(records)
        for gone in self.removed:
            result.pop(gone.key, None)
        for new in self.added:
            result[new.key] = new
        for _, new in self.changed:
            result[new.key] = new
        return result


@dataclass(slots=True, frozen=True)
class Difference:
    """What makes one snapshot out of another."""

    servers: Changes[ServerRecord] = field(default_factory=Changes)
    sessions: Changes[SessionRecord] = field(default_factory=Changes)

    def __bool__(self) -> bool:
        return bool(self.servers or self.sessions)

    def applied_to(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot after this difference; the same object if nothing changed."""
        if not self:
            return snapshot
        return Snapshot(
            self.servers.applied_to(snapshot.servers), self.sessions.applied_to(snapshot.sessions)
        )


def difference(old: Snapshot, new: Snapshot) -> Difference:
    """What has to be applied to `old` to get `new`."""
    return Difference(changes_between(old.servers, new.servers), changes_between(old.sessions, new.sessions))


def changes_between(old: Mapping[Key, RecordT], new: Mapping[Key, RecordT]) -> Changes[RecordT]:
    """What makes one mapping of records out of another."""
    if old is new:
        return Changes()
    met = changes_by_page(old, new.values())
    return Changes(met.added, met.changed, tuple(record for key, record in old.items() if key not in new))


def changes_by_page(known: Mapping[Key, RecordT], page: Iterable[RecordT]) -> Changes[RecordT]:
    """What a page tells that was not known; it says nothing about records that are not on it."""
    added: dict[Key, RecordT] = {}
    changed: dict[Key, tuple[RecordT, RecordT]] = {}
    for record in page:
        old = known.get(record.key)
        if old is None:
            added[record.key] = record
        elif old is not record and old != record:
            changed[record.key] = (old, record)
    return Changes(tuple(added.values()), tuple(changed.values()))


def changes_by_answer(
    known: Mapping[Key, RecordT], asked: Iterable[Key], answer: Sequence[RecordT]
) -> Changes[RecordT]:
    """What an answer by ids tells: what was asked for and did not come back is gone."""
    met = changes_by_page(known, answer)
    returned = {record.key for record in answer}
    gone = tuple(known[key] for key in dict.fromkeys(asked) if key in known and key not in returned)
    return Changes(met.added, met.changed, gone)


def changes_by_sweep(known: Mapping[Key, RecordT], seen: frozenset[Key] | set[Key]) -> Changes[RecordT]:
    """What a sweep that ended without an error tells: what was not seen in it is gone.

    `seen` holds also what was learnt from other answers while the sweep ran: a
    session created meanwhile may lie behind the page already read.
    """
    return Changes(removed=tuple(record for key, record in known.items() if key not in seen))
