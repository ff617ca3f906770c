"""The tables of the broker's store and how an older store becomes one of today.

Fleet tables hold one JSON text per entity: only the registry reads them. What
administrators ask for has columns. The tables are ordinary rowid tables; without
row ids the same writes took seven times as long.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, Text, insert, inspect, select

metadata = MetaData()


def _fleet_table(name: str) -> Table:
    return Table(
        name, metadata, Column("key", String(600), primary_key=True), Column("row", Text, nullable=False)
    )


def _client_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("client_id", String(64), primary_key=True),
        Column("name", Text, nullable=False),
        Column("salt", String(128), nullable=False),
        Column("secret_hash", String(128), nullable=False),
        Column("status", String(16), nullable=False),
        Column("created_at", String(40), nullable=False),
    )


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))
sessions = _fleet_table("sessions")
servers = _fleet_table("servers")
commands = _fleet_table("commands")
api_clients = _client_table("api_clients")
agent_clients = _client_table("agent_clients")
software_statements = Table(
    "software_statements",
    metadata,
    Column("text", String(600), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("created_at", String(40), nullable=False),
)
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("purpose", String(32), nullable=False),
    Column("pem", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("ends_at", String(40)),
)
auth_servers = Table(
    "auth_servers",
    metadata,
    Column("url", String(600), primary_key=True),
    Column("algorithm", String(16)),
    Column("created_at", String(40), nullable=False),
)
dns_mappings = Table(
    "dns_mappings",
    metadata,
    Column("key", String(600), primary_key=True),
    Column("id_type", String(40), nullable=False),
    Column("server_id", String(300), nullable=False),
    Column("internal_name", String(260)),
    Column("external_name", String(260)),
    Column("created_at", String(40), nullable=False),
)

Migration = Callable[[Connection], None]


def _add_outside_trust(connection: Connection) -> None:
    """Version 2: authorization servers, DNS names of servers, keys that are on their way out."""
    metadata.create_all(connection, tables=[auth_servers, dns_mappings])
    connection.exec_driver_sql("ALTER TABLE signing_keys ADD COLUMN ends_at VARCHAR(40)")


MIGRATIONS: tuple[Migration, ...] = (_add_outside_trust,)
"""Each makes the next version of the one before; the first starts from version 1."""


class StoreTooNew(Exception):  # noqa: N818  named by what is wrong, like all errors here
    """The store was written by a newer program; this one must not touch it."""


def prepare(connection: Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Create the tables, or bring older ones up to date in one transaction after a backup copy.

    Raises:
        StoreTooNew: the store has a later version than the last migration makes.
    """
    newest = len(migrations) + 1
    with connection.begin():
        if not inspect(connection).has_table(schema_version.name):
            metadata.create_all(connection)
            connection.execute(insert(schema_version).values(version=newest))
            return
        found = int(connection.execute(select(schema_version.c.version)).scalar_one())
    if found > newest:
        raise StoreTooNew(
            f"{path} has schema version {found}, this program knows up to {newest}: "
            "start the program that wrote it, or give another working path"
        )
    if found < newest:
        _migrate(connection, path, found, migrations)


def _migrate(connection: Connection, path: Path, found: int, migrations: Sequence[Migration]) -> None:
    copy_database(connection, path.with_name(f"{path.name}.v{found}.bak"))
    with connection.begin():
        for migrate in migrations[found - 1 :]:
            migrate(connection)
        connection.execute(schema_version.update().values(version=len(migrations) + 1))


def copy_database(connection: Connection, target: Path) -> None:
    """Write all that a connection sees to another file, for its owner only; a file there is replaced."""
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    source = connection.connection.driver_connection
    if not isinstance(source, sqlite3.Connection):
        raise TypeError("only SQLite can be copied so")
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
