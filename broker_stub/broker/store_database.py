"""The store's own thread works with this: one SQLite connection and what is not written yet.

Everything in here blocks, and nothing in here may be touched by two threads.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, Table, bindparam, create_engine, delete, event
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError

from broker_stub.broker import store_schema
from broker_stub.broker.events import Row
from broker_stub.broker.store_schema import Migration, StoreTooNew, copy_database, prepare

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 1.0  # nobody else writes; who holds the file longer than that has taken it away

ResultT = TypeVar("ResultT")

Values = dict[str, Any]
Slot = tuple[str, str]
"""A row's place: table and key."""
Rows = list[tuple[Slot, Values | Row | None]]
"""What rows are to hold; `None` removes."""

_TABLES = {table.name: table for table in store_schema.metadata.tables.values()}
_KEY_COLUMNS = {name: next(iter(table.primary_key.columns)).name for name, table in _TABLES.items()}


class StoreUnavailable(Exception):  # noqa: N818  named by what is wrong, like all errors here
    """The database cannot be used at the moment; what was to be written is kept for later."""


class Database:
    """The connection and what is not written yet. Used by the writer thread alone."""

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        self._path = path
        self._migrations = migrations
        self._engine = _engine(path)
        self._connection: Connection | None = None
        self._inode = 0
        self._unsaved: dict[Slot, Values | None] = {}

    @property
    def has_unsaved(self) -> bool:
        """Whether rows wait for the database."""
        return bool(self._unsaved)

    def take(self, rows: Rows) -> Exception | None:
        """Put rows to those that are to be written; a row that cannot be encoded is refused."""
        try:
            encoded = [(slot, _encoded(slot[0], values)) for slot, values in rows]
            "".join(key for (_, key), _ in encoded).encode()
        except (TypeError, ValueError) as error:
            logger.exception("A change cannot be stored because it is not JSON.")
            return error
        self._unsaved.update(encoded)
        return None

    def flush(self) -> StoreUnavailable | None:
        """Write all that waits in one transaction."""
        if not self._unsaved:
            return None
        _, error = self.ask(self._write_unsaved)
        if error is None:
            self._unsaved.clear()
            return None
        return error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error))

    def ask(self, question: Callable[[Connection], ResultT]) -> tuple[ResultT | None, Exception | None]:
        """Do something in a transaction; the connection is made anew after a failure."""
        try:
            connection = self._connected()
            with connection.begin():
                return question(connection), None
        except (DBAPIError, OSError) as error:
            self._disconnect()
            return None, StoreUnavailable(str(getattr(error, "orig", None) or error))
        except StoreTooNew as error:
            self._disconnect()
            return None, error
        except Exception as error:
            # Worker boundary: whoever asked hears of it, and the thread lives on for the others.
            logger.exception("The store could not carry out a request.")
            self._disconnect()
            return None, error

    def close(self) -> None:
        """Close the connection."""
        if self._unsaved:
            logger.error("%d changes are lost: the database could not be written.", len(self._unsaved))
        self._disconnect()
        self._engine.dispose()

    def _write_unsaved(self, connection: Connection) -> None:
        saved: dict[str, list[Values]] = {}
        removed: dict[str, list[Values]] = {}
        for (table, key), values in self._unsaved.items():
            if values is None:
                removed.setdefault(table, []).append({"_key": key})
            else:
                saved.setdefault(table, []).append({_KEY_COLUMNS[table]: key, **values})
        for name, rows in removed.items():
            connection.execute(_DELETES[name], rows)
        for name, rows in saved.items():
            connection.execute(_UPSERTS[name], rows)

    def _connected(self) -> Connection:
        if self._connection is not None:
            if self._is_file_there():
                return self._connection
            self._bring_back()
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path.chmod(0o600)
        self._connection = self._engine.connect()
        self._inode = self._path.stat().st_ino
        prepare(self._connection, self._path, self._migrations)
        return self._connection

    def _is_file_there(self) -> bool:
        # SQLite goes on writing to a file that was removed, and nobody would ever read it.
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _bring_back(self) -> None:
        """Make a removed database anew from the connection that still sees it."""
        connection, self._connection = self._connection, None
        if connection is None or self._path.exists():
            if connection is not None:
                connection.close()
            return  # somebody put another file there: that one is used
        rescued = self._path.with_name(self._path.name + ".rescued")
        try:
            copy_database(connection, rescued)
        except BaseException:
            self._connection = connection  # it is the only one that still has the data
            raise
        connection.close()  # before the new file has its name: closing removes the old one's log by name
        rescued.rename(self._path)
        logger.warning("The database %s had been removed; it was made anew from the open one.", self._path)

    def _disconnect(self) -> None:
        connection = self._connection
        if connection is None or not self._path.exists():
            return  # while the file is away the connection is the only one that still has the data
        self._connection = None
        connection.close()


def _encoded(table: str, values: Values | Row | None) -> Values | None:
    if values is None:
        return None
    if "row" in _TABLES[table].c:
        return {"row": json.dumps(values, separators=(",", ":"))}
    # One text that SQLite cannot take would hold up everybody else's rows for ever.
    json.dumps(values, ensure_ascii=False).encode()
    return values


def _upsert(table: Table) -> Any:
    # Other databases have other words for it: with them this becomes a choice by dialect.
    statement = sqlite_insert(table)
    key = next(iter(table.primary_key.columns))
    rest = {column.name: statement.excluded[column.name] for column in table.columns if column is not key}
    return statement.on_conflict_do_update(index_elements=[key], set_=rest)


def _deletion(table: Table) -> Any:
    return delete(table).where(next(iter(table.primary_key.columns)) == bindparam("_key"))


_WRITTEN = [table for table in _TABLES.values() if table is not store_schema.schema_version]
_UPSERTS = {table.name: _upsert(table) for table in _WRITTEN}
_DELETES = {table.name: _deletion(table) for table in _WRITTEN}


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own transactions would leave out DDL
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
