"""The DNS names under which gateways reach servers: read from a file, kept, looked up.

An administrator registers them where a server's own name means nothing on the
gateway's side. The format of the file is the original product's; `resolver` asks
for the names.
"""

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker_stub.broker.store import DnsMapping

BY_ID, BY_INSTANCE, BY_ADDRESS = "Id", "Host.Aws.Ec2InstanceId", "Ip"

# The page of the original's command has two spellings of each.
_ID_TYPES = {
    "id": BY_ID,
    "agentserverid": BY_ID,
    "host.aws.ec2instanceid": BY_INSTANCE,
    "instanceid": BY_INSTANCE,
    "ip": BY_ADDRESS,
    "ipaddress": BY_ADDRESS,
}
_INTERNAL, _EXTERNAL = "internaldnsname", "externaldnsname"
_PLURALS = {"internaldnsnames": _INTERNAL, "externaldnsnames": _EXTERNAL}
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?\Z")
_LONGEST_HOST_NAME = 253
_LONGEST_ID = 256
_TYPOGRAPHIC_QUOTES = "“”„‟″"

Clock = Callable[[], datetime]


class MappingsRefused(Exception):  # noqa: N818  named by what happened
    """A file of mappings that cannot be used; the text is a sentence for people."""


@dataclass(slots=True)
class MappingsFile:
    """What a file of mappings holds."""

    mappings: list[DnsMapping] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class DnsNames:
    """All mappings of a broker.

    Args:
        known: What the store held.
        write: Saves the first and removes the keys of the second, durably and together.
    """

    def __init__(
        self,
        known: Iterable[DnsMapping],
        write: Callable[[Sequence[DnsMapping], Sequence[str]], Awaitable[None]],
    ) -> None:
        self._mappings = {mapping.key: mapping for mapping in known}
        self._write = write

    def all(self) -> list[DnsMapping]:
        """Every mapping, by kind and id."""
        return sorted(self._mappings.values(), key=lambda mapping: mapping.key)

    async def register(self, mappings: Sequence[DnsMapping], *, replace: bool = False) -> None:
        """Add mappings, each in place of a former one for the same server.

        Args:
            mappings: What a file holds.
            replace: Drop all others.

        Raises:
            StoreUnavailable: they cannot be kept; nothing changes.
        """
        new = {mapping.key: mapping for mapping in mappings}
        dropped = [key for key in self._mappings if key not in new] if replace else []
        await self._write(list(new.values()), dropped)
        for key in dropped:
            self._mappings.pop(key, None)
        self._mappings |= new

    def internal_name(self, server_id: str, instance_id: str | None, address: str | None) -> str | None:
        """The name by which a gateway reaches a server, if one was registered.

        Of several the most certain counts: that of the id, of the EC2 instance, of the address.
        """
        for id_type, value in ((BY_ID, server_id), (BY_INSTANCE, instance_id), (BY_ADDRESS, address)):
            mapping = self._mappings.get(_key(id_type, value)) if value else None
            if mapping is not None and mapping.internal_name:
                return mapping.internal_name
        return None


def read_mappings(text: str, now: datetime) -> MappingsFile:
    """Read a file of mappings: a JSON list of objects. One bad entry spoils the file.

    Raises:
        MappingsRefused: with the place of the first thing that is wrong.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MappingsRefused(_no_json(text, error)) from None
    if not isinstance(entries, list):
        raise MappingsRefused("the file must hold a JSON list of mappings")
    found: dict[str, DnsMapping] = {}
    warnings: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            mapping = _mapping(entry, now, warnings, number)
        except ValueError as error:
            raise MappingsRefused(f"entry {number}: {error}") from None
        found[mapping.key] = mapping
    return MappingsFile(list(found.values()), warnings)


def _no_json(text: str, error: Exception) -> str:
    if any(quote in text for quote in _TYPOGRAPHIC_QUOTES):
        return 'the file is not JSON: it has typographic quotes; write plain ones (")'
    if isinstance(error, json.JSONDecodeError):
        return f"the file is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    return "the file is not JSON"


def _mapping(entry: Any, now: datetime, warnings: list[str], number: int) -> DnsMapping:
    fields = _folded(entry, "it")
    _refuse_others(fields, ("serveridtype", "serverid", "dnsnames"))
    id_type = _ID_TYPES.get(str(fields.get("serveridtype", "")).lower())
    if id_type is None:
        raise ValueError(f"ServerIdType must be {BY_ADDRESS}, {BY_ID} or {BY_INSTANCE}")
    server_id = fields.get("serverid")
    if not isinstance(server_id, str) or not _is_id(server_id.strip()):
        raise ValueError(f"ServerId must be a text of 1 to {_LONGEST_ID} printable characters")
    names = _folded(fields.get("dnsnames"), "DnsNames")
    for plural, singular in _PLURALS.items():
        if plural in names:
            warnings.append(f"entry {number}: write {_spelling(singular)}, without the s")
            plural_value = names.pop(plural)
            names.setdefault(singular, plural_value)
    _refuse_others(names, (_INTERNAL, _EXTERNAL))
    internal, external = (_host_name(names, name) for name in (_INTERNAL, _EXTERNAL))
    if internal is None and external is None:
        raise ValueError("DnsNames must have an InternalDnsName or an ExternalDnsName")
    server_id = _checked_id(id_type, server_id.strip())
    return DnsMapping(_key(id_type, server_id), id_type, server_id, internal, external, now)


def _spelling(folded: str) -> str:
    """A name of a field as it is written in a file."""
    return {_INTERNAL: "InternalDnsName", _EXTERNAL: "ExternalDnsName"}[folded]


def _folded(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a JSON object")  # noqa: TRY004  read from a file, no fault of ours
    return {str(key).lower(): each for key, each in value.items()}


def _refuse_others(fields: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in fields:
        if name not in known:
            raise ValueError(f"it has an unknown field {name!r}")


def _host_name(names: Mapping[str, Any], name: str) -> str | None:
    value = names.get(name)
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    if not _HOST_NAME.match(text) or len(text) > _LONGEST_HOST_NAME:
        raise ValueError(f"{_spelling(name)} must be a host name")
    return text


def _is_id(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_ID and text.isprintable()


def _checked_id(id_type: str, server_id: str) -> str:
    if id_type != BY_ADDRESS:
        return server_id
    try:
        return str(ipaddress.ip_address(server_id))
    except ValueError:
        raise ValueError("ServerId must be an IPv4 or IPv6 address") from None


def _key(id_type: str, server_id: str) -> str:
    return f"{id_type} {server_id}"
