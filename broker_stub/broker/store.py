"""What survives a restart: the fleet's rows, clients, statements and keys, in SQLite.

One thread writes. All that waits when it is free goes into one transaction, so the
price of making things durable is shared. What could not be written is kept, newest
state by row, and written as soon as that works again; until then writers are told.
"""

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select

from broker_stub.broker import store_schema
from broker_stub.broker.events import (
    Change,
    RemoveCommand,
    RemoveServer,
    RemoveSession,
    Row,
    SaveCommand,
    SaveServer,
    SaveSession,
    Stored,
)
from broker_stub.broker.store_database import Database, Rows, Slot, StoreUnavailable, Values
from broker_stub.broker.store_schema import MIGRATIONS, Migration, StoreTooNew

__all__ = [
    "AgentClient",
    "ApiClient",
    "AuthServer",
    "DnsMapping",
    "SigningKey",
    "SoftwareStatement",
    "Store",
    "StoreTooNew",
    "StoreUnavailable",
]

_RETRY_INTERVAL_S = 1.0

ResultT = TypeVar("ResultT")
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A registered OAuth2 client; of its secret only a salted hash is known."""

    client_id: str
    name: str
    salt: str
    secret_hash: str
    status: str
    created_at: datetime


AgentClient = ApiClient


@dataclass(frozen=True, slots=True)
class SoftwareStatement:
    """A text that lets agents register while its status is `active`."""

    text: str
    status: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the broker and what it signs; with an end it only checks what was signed before."""

    kid: str
    purpose: str
    pem: str
    created_at: datetime
    ends_at: datetime | None = None

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r}, {self.purpose!r})"


@dataclass(frozen=True, slots=True)
class AuthServer:
    """An external authorization server, known by the address of its keys."""

    url: str
    algorithm: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DnsMapping:
    """The DNS names of a server, for gateways. `key` is made of the other two that name the server."""

    key: str
    id_type: str
    server_id: str
    internal_name: str | None
    external_name: str | None
    created_at: datetime


# ------------------------------------------------------------------ changes as rows


def _fleet_slot(change: Change) -> tuple[Slot, Row | None]:
    match change:
        case SaveSession(key, row):
            return ("sessions", key), row
        case RemoveSession(key):
            return ("sessions", key), None
        case SaveServer(key, row):
            return ("servers", key), row
        case RemoveServer(key):
            return ("servers", key), None
        case SaveCommand(key, row):
            return ("commands", key), row
        case RemoveCommand(key):
            return ("commands", key), None


def _values(record: Any) -> Values:
    times = {name: value.isoformat() for name, value in asdict(record).items() if isinstance(value, datetime)}
    return asdict(record) | times


def _records(connection: Connection, table: Table, kind: type[RecordT], *where: Any) -> list[RecordT]:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # only dataclasses are given
    rows = connection.execute(select(*(table.c[name] for name in names)).where(*where))
    return [
        kind(**{name: _time_or_text(name, value) for name, value in row._mapping.items()}) for row in rows
    ]


def _time_or_text(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name.endswith("_at") and value is not None else value


# ------------------------------------------------------------------ jobs of the thread


@dataclass(slots=True, eq=False)
class _Write:
    rows: Rows
    done: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Ask:
    question: Callable[[Connection], Any]
    done: asyncio.Future[Any]


_Job = _Write | _Ask


def _settle(answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, result, error in answers:
        if future.done():  # whoever waited was cancelled
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class Store:
    """The broker's database. Made by `open`; all methods belong to the event loop that opened it."""

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        self._loop = asyncio.get_running_loop()
        self._database = Database(path, migrations)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)

    @classmethod
    async def open(cls, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> "Store":
        """Open the database, create it or bring it up to date.

        Raises:
            StoreTooNew: a newer program has written it.
            StoreUnavailable: it cannot be opened.
        """
        store = cls(path, migrations)
        store._thread.start()
        try:
            await store._ask(lambda _: None)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Write what waits and close the database."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def load(self) -> Stored:
        """All rows of the fleet."""
        return await self._ask(_load)

    async def write(self, changes: Sequence[Change]) -> None:
        """Make changes durable; those of one call become visible together.

        Raises:
            StoreUnavailable: they are not durable. They are kept and written later.
        """
        if changes:
            await self._put([_fleet_slot(change) for change in changes])

    async def save_api_client(self, client: ApiClient) -> None:
        """Insert or replace an API client."""
        await self._put([(("api_clients", client.client_id), _values(client))])

    async def api_client(self, client_id: str) -> ApiClient | None:
        """The API client with that id."""
        table = store_schema.api_clients
        found = await self._ask(lambda c: _records(c, table, ApiClient, table.c.client_id == client_id))
        return found[0] if found else None

    async def api_clients(self) -> list[ApiClient]:
        """All API clients."""
        return await self._ask(lambda c: _records(c, store_schema.api_clients, ApiClient))

    async def save_agent_client(self, client: AgentClient) -> None:
        """Insert or replace an agent client."""
        await self._put([(("agent_clients", client.client_id), _values(client))])

    async def agent_client(self, client_id: str) -> AgentClient | None:
        """The agent client with that id."""
        table = store_schema.agent_clients
        found = await self._ask(lambda c: _records(c, table, AgentClient, table.c.client_id == client_id))
        return found[0] if found else None

    async def agent_clients(self) -> list[AgentClient]:
        """All agent clients."""
        return await self._ask(lambda c: _records(c, store_schema.agent_clients, AgentClient))

    async def save_software_statement(self, statement: SoftwareStatement) -> None:
        """Insert or replace a software statement."""
        await self._put([(("software_statements", statement.text), _values(statement))])

    async def software_statements(self) -> list[SoftwareStatement]:
        """All software statements."""
        return await self._ask(lambda c: _records(c, store_schema.software_statements, SoftwareStatement))

    async def save_signing_key(self, key: SigningKey) -> None:
        """Insert or replace a signing key."""
        await self._put([(("signing_keys", key.kid), _values(key))])

    async def signing_keys(self, purpose: str) -> list[SigningKey]:
        """The keys for one purpose, oldest first."""
        table = store_schema.signing_keys
        keys = await self._ask(lambda c: _records(c, table, SigningKey, table.c.purpose == purpose))
        return sorted(keys, key=lambda key: key.created_at)

    async def replace_signing_keys(self, saved: Sequence[SigningKey], removed: Sequence[str]) -> None:
        """Insert or replace keys and remove others by their ids, all in one transaction."""
        rows: Rows = [(("signing_keys", kid), None) for kid in removed]
        rows += [(("signing_keys", key.kid), _values(key)) for key in saved]
        await self._put(rows)

    async def save_auth_server(self, server: AuthServer) -> None:
        """Insert or replace an external authorization server."""
        await self._put([(("auth_servers", server.url), _values(server))])

    async def remove_auth_server(self, url: str) -> None:
        """Forget an external authorization server."""
        await self._put([(("auth_servers", url), None)])

    async def auth_servers(self) -> list[AuthServer]:
        """All external authorization servers, oldest first."""
        found = await self._ask(lambda c: _records(c, store_schema.auth_servers, AuthServer))
        return sorted(found, key=lambda server: server.created_at)

    async def replace_dns_mappings(self, saved: Sequence[DnsMapping], removed: Sequence[str]) -> None:
        """Insert or replace DNS mappings and remove others by their keys, all in one transaction."""
        rows: Rows = [(("dns_mappings", key), None) for key in removed]
        rows += [(("dns_mappings", mapping.key), _values(mapping)) for mapping in saved]
        await self._put(rows)

    async def dns_mappings(self) -> list[DnsMapping]:
        """All DNS mappings."""
        return await self._ask(lambda c: _records(c, store_schema.dns_mappings, DnsMapping))

    # -------------------------------------------------------------- to the thread and back

    async def _put(self, rows: Rows) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put(_Write(rows, done))
        await done

    async def _ask(self, question: Callable[[Connection], ResultT]) -> ResultT:
        done: asyncio.Future[ResultT] = self._loop.create_future()
        self._jobs.put(_Ask(question, done))
        return await done

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs = self._waiting_jobs()
            is_open = None not in jobs
            answers: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
            for job in jobs:
                if isinstance(job, _Write):
                    answers.append((job.done, None, self._database.take(job.rows)))
            error = self._database.flush()
            answers = [(done, result, wrong or error) for done, result, wrong in answers]
            for job in jobs:
                if isinstance(job, _Ask):
                    result, wrong = self._database.ask(job.question)
                    answers.append((job.done, result, wrong))
            if answers:
                self._loop.call_soon_threadsafe(_settle, answers)
        self._database.close()

    def _waiting_jobs(self) -> list[_Job | None]:
        """Wait for a job and take all others that are there; nothing if it is time to try again."""
        try:
            jobs = [self._jobs.get(timeout=_RETRY_INTERVAL_S if self._database.has_unsaved else None)]
        except queue.Empty:
            return []
        while True:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                return jobs


def _load(connection: Connection) -> Stored:
    stored = Stored()
    for table, rows in (
        (store_schema.sessions, stored.sessions),
        (store_schema.servers, stored.servers),
        (store_schema.commands, stored.commands),
    ):
        for key, row in connection.execute(select(table.c.key, table.c.row)):
            rows[key] = json.loads(row)
    return stored
