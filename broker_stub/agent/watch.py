"""What the agent knows of its host, in the form in which it is reported to the broker.

`look` asks the backend for its sessions, `measure` for everything else; the
results are plain objects of the channel (`broker_stub.channel_messages`). Used by
the agent's service; sends nothing itself.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from broker_stub.agent.backend import Backend, BackendError, Endpoint, Probe, SessionInfo
from broker_stub.agent.identity import Address
from broker_stub.channel_messages import MAX_NAME, MAX_SESSIONS, MAX_TAGS, wire_time
from dcvtui.api.states import SessionType

logger = logging.getLogger(__name__)

AGENT_VERSION = "0.1.0"
UNHEALTHY_AFTER_POLLS = 2

Tags = Callable[[], Mapping[str, str]]
"""The tags that an administrator gave this server, asked before each report."""


class HostFacts(Protocol):
    """Facts and metrics of one host."""

    async def read(self) -> dict[str, Any]:
        """The `host` member of a report (camel case, as on the channel), lists always present."""
        ...

    def has_outside_user(self) -> bool:
        """Windows: whether somebody is logged in outside any DCV session. Never on Linux."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions this host takes; -1 means any number."""

    max_virtual_sessions: int = -1
    max_concurrent_sessions_per_user: int = 1


class Watch:
    """The present state of one host.

    Args:
        backend: Runs the sessions.
        facts: Facts and metrics.
        tags: The administrator's tags.
        limits: Reported as reserved tags.
        endpoints: Where clients reach the sessions, if not where the backend says.

    Attributes:
        sessions: What the last good look found, by id.
        is_healthy: Whether the backend answers.
        probe: What the backend said of itself.
    """

    def __init__(
        self,
        backend: Backend,
        facts: HostFacts,
        tags: Tags,
        limits: Limits,
        endpoints: Sequence[Endpoint] | None = None,
    ) -> None:
        self._backend = backend
        self._facts = facts
        self._tags = tags
        self._endpoints = endpoints
        self.limits = limits
        self.sessions: dict[str, dict[str, Any]] = {}
        self.is_healthy = False
        self.probe = Probe(version="")
        # Until one look has gone well nothing is known: an empty list would be taken for deleted sessions.
        self._failed_looks = UNHEALTHY_AFTER_POLLS
        self._said = ""
        self._changes = 0
        self._changes_seen = 0

    @property
    def is_outdated(self) -> bool:
        """Whether a command changed the sessions after the last look began."""
        return self._changes_seen != self._changes

    def note_change(self) -> None:
        """A command has just created or closed a session: what was listed before says nothing any more.

        Without this a list that was asked for before a creation ended, and sent after its result,
        would tell the broker that the new session is gone.
        """
        self._changes += 1

    @property
    def has_failed_look(self) -> bool:
        """Whether the last look failed; the next should come soon."""
        return self._failed_looks > 0

    async def look(self) -> None:
        """Ask the backend for its sessions; two failures in a row make the server unhealthy."""
        changes = self._changes
        try:
            found = await self._backend.list()
        except BackendError as error:
            self._failed_looks += 1
            if error.message != self._said:
                logger.warning("The sessions of this host cannot be listed: %s", error.message)
            self._said = error.message
        else:
            self._failed_looks, self._said = 0, ""
            if len(found) > MAX_SESSIONS:
                logger.warning("%d sessions are not reported: there are too many.", len(found) - MAX_SESSIONS)
            self.sessions = {info.id: session_object(info) for info in found[:MAX_SESSIONS]}
        self._changes_seen = changes
        self._judge_health()

    async def measure(self, address: Address) -> dict[str, Any]:
        """Ask for everything but the sessions and put the server block together."""
        self.probe = await self._backend.probe()
        self._judge_health()
        host = await self._facts.read()
        family = str((host.get("os") or {}).get("family") or "")
        types = [session["type"] for session in self.sessions.values()]
        endpoints = self.probe.endpoints if self._endpoints is None else self._endpoints
        block: dict[str, Any] = {
            "ip": address.ip,
            "hostname": address.hostname,
            "endpoints": [_endpoint(endpoint, address.ip) for endpoint in endpoints],
            "version": self.probe.version,
            "sessionManagerAgentVersion": AGENT_VERSION,
            "healthy": self.is_healthy,
            "consoleAllowed": self.probe.console_allowed,
            "virtualAllowed": self.probe.virtual_allowed,
            "existingLoggedInUser": self._facts.has_outside_user(),
            "consoleSessionCount": types.count(SessionType.CONSOLE),
            "virtualSessionCount": types.count(SessionType.VIRTUAL),
            "host": host,
            "tags": self._all_tags(family),
        }
        if address.dns_name:
            block["defaultDnsName"] = address.dns_name
        return block

    def capabilities(self) -> list[str]:
        """What the hello offers."""
        return sorted(self.probe.capabilities | {"chunking"})

    def _judge_health(self) -> None:
        self.is_healthy = self.probe.healthy and self._failed_looks < UNHEALTHY_AFTER_POLLS

    def _all_tags(self, family: str) -> list[dict[str, str]]:
        reserved = {
            "dcv:max-virtual-sessions": str(self.limits.max_virtual_sessions),
            "dcv:max-concurrent-sessions-per-user": str(self.limits.max_concurrent_sessions_per_user),
        }
        if family:
            reserved["dcv:os-family"] = family
        own = list(self._tags().items())[: MAX_TAGS - len(reserved)]
        return [{"key": key, "value": value} for key, value in [*own, *reserved.items()]]


def session_object(info: SessionInfo) -> dict[str, Any]:
    """A session as the channel carries it."""
    session: dict[str, Any] = {
        "id": info.id,
        "name": info.name[:MAX_NAME],
        "owner": info.owner[:MAX_NAME],
        "type": info.type.value,
        "state": "READY",
        "creationTime": wire_time(info.creation_time),
        "numOfConnections": info.num_of_connections,
        "storageRoot": info.storage_root,
    }
    if info.last_disconnection_time is not None:
        session["lastDisconnectionTime"] = wire_time(info.last_disconnection_time)
    if info.max_concurrent_clients is not None:
        session["maxConcurrentClients"] = info.max_concurrent_clients
    return session


def _endpoint(endpoint: Endpoint, ip: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ipAddress": endpoint.ip_address or ip,
        "port": endpoint.port,
        "protocol": endpoint.protocol,
    }
    if endpoint.web_url_path is not None:
        result["webUrlPath"] = endpoint.web_url_path
    return result
