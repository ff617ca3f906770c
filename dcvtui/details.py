"""All that is known of one server or session, as lines for a person to read.

Relative times stand beside the absolute ones. Pure; the screen decides where it
shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dcvtui.activity import ActivityEntry
from dcvtui.api.text import visible
from dcvtui.attention import AttentionItem, Since
from dcvtui.columns import Sign, absolute, age, duration, size
from dcvtui.fields import max_virtual_sessions, server_state, state_sign, system_name
from dcvtui.fleet import ServerRecord, SessionRecord
from dcvtui.history import Course, range_text
from dcvtui.known_brokers import BrokerRow
from dcvtui.meters import share


@dataclass(slots=True, frozen=True)
class Detail:
    """One line: a label and its text, or a heading without text."""

    label: str
    text: str = ""
    sign: Sign | None = None
    is_heading: bool = False
    meter: float | None = None
    """A share, drawn as a bar before the text."""
    course: tuple[float | None, ...] = ()
    """Values minute by minute, drawn as small columns before the text; the newest is never cut off."""
    top: float = 0
    """The value of a full column."""


def heading(text: str, sign: Sign | None = None) -> Detail:
    """The name of what follows."""
    return Detail(visible(text), sign=sign, is_heading=True)


def _lines(*pairs: tuple[str, object]) -> Iterator[Detail]:
    for label, value in pairs:
        if value not in (None, ""):
            yield Detail(visible(label), visible(str(value)))


def _moment(moment: datetime | None, now: datetime) -> str:
    return f"{age(moment, now)} ago · {absolute(moment)}" if moment else ""


def since_text(since: Since | None, now: datetime) -> str:
    """How long something has been so, as far as this console can know."""
    if since is None:
        return ""
    lasted = duration(now - since.moment)
    return f"at least {lasted.removeprefix('<')}" if since.at_least and lasted != "<1 min" else lasted


def session_details(
    session: SessionRecord, server: ServerRecord | None, since: Since | None, now: datetime
) -> list[Detail]:
    """A session, and its server as far as it is known."""
    state = f"{session.state} {session.substate}".strip()
    lasted = f", {since_text(since, now)}" if since else ""
    lines = [
        heading(session.name or session.id),
        Detail("state", visible(state + lasted), state_sign(session.state)),
        *_lines(
            ("reason", session.state_reason),
            ("owner", session.owner),
            ("type", session.type),
            ("clients", _clients(session)),
            ("idle", age(session.idle_since, now)),
            ("created", _moment(session.creation_time, now)),
            ("last left", _moment(session.last_disconnection_time, now)),
            ("storage", session.storage_root),
            ("id", session.id),
        ),
    ]
    if server is not None:
        lines += [Detail(""), *_server_summary(server)]
    elif session.server_id:
        lines += [Detail(""), heading(session.server_name), *_lines(("server id", session.server_id))]
    return lines


def _clients(session: SessionRecord) -> str:
    limit = f" of {session.max_clients}" if session.max_clients else ""
    return f"{session.connections}{limit}"


def _server_summary(server: ServerRecord) -> Iterator[Detail]:
    state = server_state(server)
    yield heading(server.name)
    yield Detail("state", visible(state), state_sign(state))
    yield from _lines(("sessions", server.sessions))
    yield from _loads(server, Course())
    yield from _lines(("address", _address(server)))


def _metered(label: str, text: str, part: float | None) -> Iterator[Detail]:
    if text:
        yield Detail(label, text, meter=part)


def _loads(server: ServerRecord, course: Course) -> Iterator[Detail]:
    yield from _metered("load", _load(server), share(server.load_1, server.cpus))
    yield from course_detail(course.loads, float(server.cpus or 1), digits=2)
    memory = share(server.memory_used, server.memory_total)
    yield from _metered("memory", _memory(server.memory_used, server.memory_total), memory)


def _virtual(server: ServerRecord, course: Course) -> Iterator[Detail]:
    limit = max_virtual_sessions(server)
    text = f"{server.virtual_sessions}{f' of {limit}' if limit is not None else ''}"
    yield from _metered("virtual", text, share(server.virtual_sessions, limit))
    yield from course_detail(course.sessions, float(limit or 1))


def course_detail(values: Sequence[float | None], top: float, digits: int = 0) -> Iterator[Detail]:
    """What this console has seen of a number, minute by minute; nothing before there is a course to see.

    Args:
        values: one for each minute.
        top: the value of a full column, unless there was a larger one.
        digits: how exactly the numbers are told.
    """
    known = [value for value in values if value is not None]
    if len(values) > 1 and known:
        text = f"{range_text(known, digits)} in {len(values)} min"
        yield Detail("", text, course=tuple(values), top=max(top, *known))


def _load(server: ServerRecord) -> str:
    loads = [server.load_1, server.load_5, server.load_15]
    texts = [f"{load:.2f}" for load in loads if load is not None]
    cpus = f" on {server.cpus} CPUs" if server.cpus and texts else ""
    return " ".join(texts) + cpus


def _memory(used: int | None, total: int | None) -> str:
    if not total:
        return ""
    # One unit for both: a narrow pane has room for a bar beside them.
    return f"{size(used).partition(' ')[0]} of {size(total)}" if used is not None else size(total)


def _address(server: ServerRecord) -> str:
    return f"{server.ip}:{server.port}" if server.ip and server.port else server.ip


def server_details(
    server: ServerRecord, since: Since | None, now: datetime, course: Course | None = None
) -> list[Detail]:
    """A server with everything the API tells, and what was seen of it in the last hour."""
    state = server_state(server)
    lasted = f", {since_text(since, now)}" if since else ""
    seen = course or Course()
    lines = [
        heading(server.name),
        Detail("state", visible(state + lasted), state_sign(state)),
        *_lines(("console", server.console_sessions)),
        *_virtual(server, seen),
        *_loads(server, seen),
        *_metered(
            "swap", _memory(server.swap_used, server.swap_total), share(server.swap_used, server.swap_total)
        ),
        *_lines(("users", ", ".join(server.users))),
        Detail(""),
        *_lines(
            ("system", system_name(server)),
            ("kernel", server.kernel_version or server.build_number),
            ("cpu", server.cpu_model or server.cpu_vendor),
            ("cores", _cores(server)),
            ("arch", server.architecture),
            *(("gpu", " ".join(filter(None, gpu))) for gpu in server.gpus),
        ),
        Detail(""),
        *_lines(
            ("address", _address(server)),
            ("dns name", server.dns_name if server.dns_name != server.hostname else ""),
            *(("listens", _endpoint(*endpoint)) for endpoint in server.endpoints),
            ("dcv", server.version),
            ("agent", server.agent_version),
            ("instance", " ".join(filter(None, [server.instance_id, server.instance_type]))),
            ("region", server.region),
            ("image", server.image_id),
            ("id", server.id),
        ),
    ]
    if server.tags:
        # The administrator's own first; the agent's reserved ones say what stands above already.
        tags = sorted(server.tags, key=lambda tag: tag[0].startswith("dcv:"))
        lines += [Detail(""), heading("tags"), *_lines(*tags)]
    return lines


def _cores(server: ServerRecord) -> str:
    each = f", {server.cores_per_cpu} core{'' if server.cores_per_cpu == 1 else 's'} each"
    return f"{server.cpus} CPUs{each if server.cores_per_cpu else ''}" if server.cpus else ""


def _endpoint(address: str, port: int | None, protocol: str, path: str) -> str:
    return f"{protocol} {address}:{port} {path}".strip()


def attention_details(item: AttentionItem, now: datetime) -> list[Detail]:
    """An item that needs a person where nothing more is known, such as the broker itself."""
    lines = _lines(("state", item.state), ("reason", item.reason), ("since", since_text(item.since, now)))
    return [heading(item.name), *lines]


def broker_details(row: BrokerRow) -> list[Detail]:
    """One broker that the operator knows; secrets are not in it."""
    connection = row.broker.connection
    counts = row.counts
    sessions = ", ".join(f"{count:,} {state.lower()}" for state, count in counts.sessions.items())
    return [
        heading(row.name),
        *_lines(
            ("state", row.state),
            ("why", row.why),
            ("address", row.broker.address),
            ("servers", f"{counts.available:,} of {counts.servers:,} available" if row.is_open else ""),
            ("sessions", sessions),
            ("client", connection.credentials.client_id if connection and connection.credentials else ""),
            ("trust", connection.trust.in_words if connection else ""),
            ("gateway", (connection.gateway or "") if connection else ""),
            ("mode", "read-only" if connection and connection.read_only else ""),
            ("default", "yes" if row.broker.is_default else ""),
        ),
    ]


def activity_details(entry: ActivityEntry) -> list[Detail]:
    """One entry of the activity list, nothing cut."""
    return [
        heading(entry.name),
        *_lines(
            ("time", absolute(entry.time)),
            ("what", entry.what),
            ("outcome", entry.outcome),
            ("detail", entry.detail),
            ("request", entry.request_id),
        ),
    ]
