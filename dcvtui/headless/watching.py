"""`watch`: one JSON line per change of a session or server, for ever.

What changes comes from the console's poller, so that a broker is asked as gently
as by a console and a lost one is found again. Lines: `added`, `changed`,
`removed`, and `lost` and `back` for the broker.
"""

import asyncio
import json
import select
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dcvtui.client import BrokerClient
from dcvtui.config import Connection
from dcvtui.fleet import Changes, Key
from dcvtui.headless.lists import Wanted
from dcvtui.list_output import SESSIONS, ListKind, Row
from dcvtui.polling import LinkState, Pace, Poller, Update

LOOK_AGAIN_S = 5.0
Line = dict[str, Any]


async def watch(
    connection: Connection,
    kind: ListKind,
    expression: str,
    pace: Pace | None = None,
) -> None:
    """Write a line for all that is there, then for every change; does not return.

    Raises:
        ConfigError: the filter is not understood.
        BrokerError: the broker is not reached or does not take the credentials, right at the start.
    """
    wanted = Wanted(expression, kind)
    async with BrokerClient.to(connection) as client:
        await client.authorize()
        source = OneKind(client, kind)
        poller = Poller(source, connection.name, pace=pace)
        lines = ChangeLines(kind, wanted, source)
        updates = poller.updates()
        coming = asyncio.ensure_future(anext(updates))
        try:
            while True:
                await asyncio.wait({coming}, timeout=LOOK_AGAIN_S)
                if coming.done():
                    found = lines.of(coming.result(), poller.broker_now())
                    coming = asyncio.ensure_future(anext(updates))
                else:
                    _end_without_a_reader()
                    found = lines.look_again(poller.broker_now())
                for line in found:
                    sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
        finally:
            coming.cancel()


def _end_without_a_reader() -> None:
    """Notice that whoever read the lines has had enough, also while there is nothing to write.

    Raises:
        BrokenPipeError: so it is.
    """
    if not hasattr(select, "poll"):  # Windows: the next line notices it
        return
    look = select.poll()
    look.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in look.poll(0)):
        raise BrokenPipeError


class OneKind:
    """A source for the poller that asks for one kind only, and keeps each object as it came."""

    def __init__(self, client: BrokerClient, kind: ListKind) -> None:
        self._client, self._kind = client, kind
        self.wires: dict[str, Mapping[str, Any]] = {}

    @property
    def broker_time(self) -> datetime | None:
        """The broker's clock."""
        return self._client.broker_time

    async def describe_sessions_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Mapping[str, Any]:
        """One page of sessions, if these are watched."""
        if self._kind is not SESSIONS:
            return {"Sessions": []}
        return self._kept(
            await self._client.describe_sessions_page(ids=ids, next_token=next_token, known=known)
        )

    async def describe_servers_page(
        self, *, ids: Sequence[str] = (), next_token: str | None = None, known: bytes | None = None
    ) -> Mapping[str, Any]:
        """One page of servers, if these are watched."""
        if self._kind is SESSIONS:
            return {"Servers": []}
        return self._kept(
            await self._client.describe_servers_page(ids=ids, next_token=next_token, known=known)
        )

    def _kept(self, page: Mapping[str, Any]) -> Mapping[str, Any]:
        for wire in page.get(self._kind.name, ()):
            self.wires[_place(wire)] = wire
        return page


def _place(wire: Mapping[str, Any]) -> str:
    """Ids that several servers can have are told apart by the server."""
    server = wire.get("Server")
    return f"{wire.get('Id')} {server.get('Id') if isinstance(server, dict) else ''}"


class ChangeLines:
    """Makes lines of what the poller says.

    Args:
        kind: what is watched.
        wanted: what of it.
        source: has the objects as they came.
    """

    def __init__(self, kind: ListKind, wanted: Wanted, source: OneKind) -> None:
        self._kind, self._wanted, self._source = kind, wanted, source
        self._records: Mapping[Key, Any] = {}
        self._written: dict[Key, Mapping[str, Any]] = {}
        self._is_lost = False

    def of(self, update: Update, now: datetime) -> list[Line]:
        """The lines for an update."""
        snapshot, difference = update.snapshot, update.difference
        is_sessions = self._kind is SESSIONS
        self._records = snapshot.sessions if is_sessions else snapshot.servers
        changes: Changes[Any] = difference.sessions if is_sessions else difference.servers
        lines = [
            self._line("removed", now, gone.key) for gone in changes.removed if gone.key in self._written
        ]
        for gone in changes.removed:
            self._written.pop(gone.key, None)
            self._source.wires.pop(self._place(gone), None)
        for record in changes.present():
            lines += self._look_at(record, now)
        return [*self._link_lines(update, now), *lines]

    def look_again(self, now: datetime) -> list[Line]:
        """The lines for what matches, or matches no longer, because time has passed."""
        lines = []
        for record in self._records.values():
            is_wanted = self._wanted.takes(Row(record, self._wire(record)), now)
            if is_wanted != (record.key in self._written):
                lines += self._look_at(record, now)
        return lines

    def _look_at(self, record: Any, now: datetime) -> list[Line]:
        wire, before = self._wire(record), self._written.get(record.key)
        if not self._wanted.takes(Row(record, wire), now):
            if before is None:
                return []
            line = self._line("removed", now, record.key)
            del self._written[record.key]
            return [line]
        self._written[record.key] = wire
        if before is None:
            return [self._line("added", now, record.key)]
        names = [name for name in {**before, **wire} if before.get(name) != wire.get(name)]
        return [self._line("changed", now, record.key, names)] if names else []

    def _wire(self, record: Any) -> Mapping[str, Any]:
        return self._source.wires.get(self._place(record)) or {"Id": record.id}

    def _place(self, record: Any) -> str:
        return f"{record.id} {(record.server_id or '') if self._kind is SESSIONS else ''}"

    def _line(self, kind: str, now: datetime, key: Key, names: Sequence[str] = ()) -> Line:
        line: Line = {"time": _stamp(now), "kind": kind}
        if names:
            line["fields"] = list(names)
        return line | {self._kind.noun: self._written[key]}

    def _link_lines(self, update: Update, now: datetime) -> list[Line]:
        is_lost = update.link.state is LinkState.STALE
        if is_lost == self._is_lost:
            return []
        self._is_lost = is_lost
        if is_lost:
            return [{"time": _stamp(now), "kind": "lost", "reason": update.link.why}]
        return [{"time": _stamp(now), "kind": "back"}]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
