"""What the requirements language sees of a server, read from the block that its agent reported.

The same facts that `dcvtui.api.server_facts` reads from an answer of the API. Placement
asks for those of the whole fleet at once, so they are kept, and a report of metrics,
which comes from every server twice a minute, costs no more than the metrics.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from broker_stub.broker.server import ServerRecord
from dcvtui.api.server_facts import NUMBER_PROPERTIES, PROPERTIES, Fact, number_fact, text_fact

_NUMBERS = (int, float)
_METRICS = ("memory", "swap", "cpuLoadAverage")

_Read = Callable[[Any], Fact | None]
_Section = tuple[str, tuple[tuple[str, str, _Read], ...]]


def _sections() -> tuple[_Section, ...]:
    """The members of a host by section: fact, member, how it is read."""
    found: dict[str, list[tuple[str, str, _Read]]] = {}
    for name in PROPERTIES:
        host, _, path = name.partition(".")
        if host != "Host":
            continue
        section, _, member = path.partition(".")
        read: _Read = number_fact if name in NUMBER_PROPERTIES else text_fact
        found.setdefault(_camel(section), []).append((f"server:{name}", _camel(member), read))
    return tuple((section, tuple(members)) for section, members in found.items())


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


_LASTING = tuple(section for section in _sections() if section[0] not in _METRICS)
_CHANGING = tuple(section for section in _sections() if section[0] in _METRICS)

METRIC_KEYS = frozenset(key for _, members in _CHANGING for key, _, _ in members)
"""The facts that every report changes."""


def requirement_facts(server: ServerRecord) -> dict[str, Fact]:
    """The facts of a server; kept until its block changes."""
    facts = server.facts
    if facts is None:
        facts = server.facts = _all_facts(server)
    elif server.are_metrics_new:
        _read(facts, server.block.get("host") or {}, _CHANGING)
    server.are_metrics_new = False
    return facts


def _all_facts(server: ServerRecord) -> dict[str, Fact]:
    block = server.block
    facts: dict[str, Fact] = {"server:Id": server.id, "server:Hostname": block.get("hostname") or ""}
    if block.get("version"):
        facts["server:Version"] = block["version"]
    if agent_version := block.get("sessionManagerAgentVersion") or server.agent_version:
        facts["server:SessionManagerAgentVersion"] = agent_version
    host = block.get("host") or {}
    _read(facts, host, _LASTING)
    _read(facts, host, _CHANGING)
    for key, value in server.tags.items():
        facts[f"tag:{key}"] = value
    return facts


def _read(facts: dict[str, Fact], host: Mapping[str, Any], sections: Iterable[_Section]) -> None:
    for section, members in sections:
        values = host.get(section)
        if not isinstance(values, dict):
            values = {}
        for key, member, read in members:
            value = values.get(member)
            # A number is what it is; a float is made exact only where a request compares it.
            if read is text_fact or type(value) not in _NUMBERS:
                value = read(value)
            if value is not None:
                facts[key] = value
            elif key in facts:
                del facts[key]
