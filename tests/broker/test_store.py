"""The store: what was acknowledged is there, whatever happened to the process or the database."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from broker_stub.broker.events import (
    Change,
    RemoveCommand,
    RemoveServer,
    RemoveSession,
    SaveCommand,
    SaveServer,
    SaveSession,
)
from broker_stub.broker.store import (
    ApiClient,
    AuthServer,
    DnsMapping,
    SigningKey,
    SoftwareStatement,
    Store,
    StoreTooNew,
    StoreUnavailable,
)
from broker_stub.broker.store_schema import MIGRATIONS

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    yield store
    await store.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def session(number: int, **row: object) -> SaveSession:
    return SaveSession(f"session-{number}", {"id": f"session-{number}", **row})


async def becomes_writable(store: Store, change: Change) -> None:
    """Write until it works: the store tries again by itself, but nobody is told when."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.write([change])
            except StoreUnavailable:
                await asyncio.sleep(0.05)


# ------------------------------------------------------------------ rows


async def test_what_was_written_is_loaded(store: Store, path: Path) -> None:
    await store.write(
        [session(1, name="näme\u202e"), SaveServer("s", {"open": False}), SaveCommand("c", {"a": [1]})]
    )
    await store.write([session(1, name="new"), session(2)])
    await store.write([RemoveSession("session-2"), RemoveServer("unknown"), RemoveCommand("unknown")])

    again = await Store.open(path)
    stored = await again.load()
    await again.close()

    assert stored.sessions == {"session-1": {"id": "session-1", "name": "new"}}
    assert stored.servers == {"s": {"open": False}}
    assert stored.commands == {"c": {"a": [1]}}


async def test_the_last_state_of_a_row_wins_within_one_batch(store: Store) -> None:
    changes: list[Change] = [session(1), RemoveSession("session-1"), session(1, last=True)]
    await asyncio.gather(*(store.write([change]) for change in changes))
    await store.write([session(2), RemoveSession("session-2")])
    assert (await store.load()).sessions == {"session-1": {"id": "session-1", "last": True}}


async def test_writing_nothing_returns(store: Store) -> None:
    await store.write([])


async def test_a_lone_surrogate_in_a_row_survives(store: Store) -> None:
    await store.write([session(1, name="\ud800")])
    assert (await store.load()).sessions["session-1"]["name"] == "\ud800"


async def test_a_row_that_is_no_json_fails_alone(store: Store) -> None:
    results = await asyncio.gather(
        store.write([session(1)]),
        store.write([session(2, name=object())]),
        store.save_api_client(ApiClient("c", "\ud800", "s", "h", "active", NOON)),
        store.write([session(3)]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), TypeError, UnicodeEncodeError, type(None)]
    assert sorted((await store.load()).sessions) == ["session-1", "session-3"]


async def test_the_database_is_for_its_owner_only(store: Store, path: Path) -> None:
    await store.write([session(1)])
    for file in path.parent.iterdir():
        assert mode(file) == 0o600, file


async def test_everything_waiting_shares_a_transaction(store: Store, path: Path) -> None:
    await store.write([session(0)])
    await asyncio.gather(*(store.write([session(number)]) for number in range(1, 1000)))
    # A thousand transactions of their own would leave at least one page each in the log.
    with path.with_name("broker.db-wal").open("rb") as log:
        pages = os.fstat(log.fileno()).st_size // 4096
    assert pages < 500
    assert len((await store.load()).sessions) == 1000


# ------------------------------------------------------------------ clients, statements, keys


async def test_clients_of_both_kinds_are_kept_apart(store: Store) -> None:
    client = ApiClient("id", "näme", "salt", "hash", "active", NOON)
    agent = ApiClient("id", "agent", "salt", "hash", "active", NOON)
    await store.save_api_client(client)
    await store.save_agent_client(agent)
    assert await store.api_client("id") == client
    assert await store.agent_client("id") == agent
    assert await store.api_client("other") is await store.agent_client("other") is None

    inactive = ApiClient("id", "näme", "salt", "hash", "inactive", NOON)
    await store.save_api_client(inactive)
    assert await store.api_clients() == [inactive]
    assert await store.agent_clients() == [agent]


async def test_statements_and_keys_are_kept(store: Store) -> None:
    statement = SoftwareStatement("text", "active", NOON)
    await store.save_software_statement(statement)
    assert await store.software_statements() == [statement]

    later, earlier = (SigningKey(str(hour), "access", "pem", NOON.replace(hour=hour)) for hour in (14, 13))
    other = SigningKey("k", "connection", "secret pem", NOON)
    for key in (later, earlier, other):
        await store.save_signing_key(key)
    assert await store.signing_keys("access") == [earlier, later]
    assert await store.signing_keys("connection") == [other]
    assert "secret" not in repr(other)


async def test_keys_are_replaced_together(store: Store) -> None:
    old, other = SigningKey("a", "access", "pem", NOON), SigningKey("x", "agent", "pem", NOON)
    for key in (old, other):
        await store.save_signing_key(key)
    new = SigningKey("b", "access", "pem", NOON, ends_at=NOON)
    await store.replace_signing_keys([new], ["a"])
    assert await store.signing_keys("access") == [new]
    assert await store.signing_keys("agent") == [other]


async def test_authorization_servers_are_kept(store: Store) -> None:
    first, second = AuthServer("https://b/", None, NOON), AuthServer("https://a/", "ES256", NOON)
    for server in (first, second, AuthServer("https://b/", "RS512", NOON)):
        await store.save_auth_server(server)
    await store.remove_auth_server("https://a/")
    assert await store.auth_servers() == [AuthServer("https://b/", "RS512", NOON)]


async def test_dns_mappings_are_kept(store: Store) -> None:
    one = DnsMapping("Ip 10.0.0.1", "Ip", "10.0.0.1", "a", None, NOON)
    two = DnsMapping("Id s", "Id", "s", None, "b.example", NOON)
    await store.replace_dns_mappings([one], [])
    await store.replace_dns_mappings([two], [one.key])
    assert await store.dns_mappings() == [two]


# ------------------------------------------------------------------ schema


def add_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE sessions ADD COLUMN color VARCHAR"))


TODAY = len(MIGRATIONS) + 1


def fail(connection: Connection) -> None:
    add_column(connection)
    raise OSError("no")


async def test_a_newer_store_is_left_alone(path: Path) -> None:
    await (await Store.open(path, migrations=[*MIGRATIONS, add_column])).close()
    before = content(path)
    with pytest.raises(StoreTooNew, match=rf"version {TODAY + 1}, this program knows up to {TODAY}"):
        await Store.open(path)
    assert content(path) == before


async def test_an_older_store_is_migrated_after_a_backup(path: Path) -> None:
    old = await Store.open(path)
    await old.write([session(1)])
    await old.close()

    new = await Store.open(path, migrations=[*MIGRATIONS, add_column])
    assert list((await new.load()).sessions) == ["session-1"]
    await new.close()
    await (await Store.open(path, migrations=[*MIGRATIONS, add_column])).close()  # and is done once

    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(TODAY + 1,)]
        assert connection.execute("SELECT color FROM sessions").fetchall() == [(None,)]
    connection.close()
    with sqlite3.connect(path.with_name(f"broker.db.v{TODAY}.bak")) as backup:
        assert backup.execute("SELECT version FROM schema_version").fetchall() == [(TODAY,)]
        assert backup.execute("SELECT key FROM sessions").fetchall() == [("session-1",)]
    backup.close()


async def test_a_store_of_the_first_version_gets_what_was_added_since(path: Path) -> None:
    store = await Store.open(path)
    await store.save_signing_key(SigningKey("k", "access", "pem", NOON))
    await store.close()
    with sqlite3.connect(path) as connection:
        for statement in (
            "DROP TABLE auth_servers",
            "DROP TABLE dns_mappings",
            "ALTER TABLE signing_keys DROP COLUMN ends_at",
            "UPDATE schema_version SET version = 1",
        ):
            connection.execute(statement)
    connection.close()
    store = await Store.open(path)
    assert await store.signing_keys("access") == [SigningKey("k", "access", "pem", NOON)]
    await store.save_auth_server(AuthServer("https://a/", None, NOON))
    assert await store.dns_mappings() == []
    await store.close()


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    await (await Store.open(path)).close()
    with pytest.raises(StoreUnavailable, match="no"):
        await Store.open(path, migrations=[*MIGRATIONS, fail])
    await (await Store.open(path)).close()


# ------------------------------------------------------------------ trouble with the database


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await Store.open(tmp_path / "missing" / "broker.db")


@pytest.fixture
def no_database(path: Path) -> Path:
    path.write_text("nothing that SQLite would know, but long enough to have a header" * 10)
    return path


async def test_a_file_that_is_no_database_is_told(no_database: Path) -> None:
    with pytest.raises(StoreUnavailable, match="not a database"):
        await Store.open(no_database)


async def test_a_locked_database_is_unavailable_and_recovers(store: Store, path: Path) -> None:
    await store.write([session(1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.write([session(2)])
    other.execute("COMMIT")
    other.close()
    await becomes_writable(store, session(3))
    assert sorted((await store.load()).sessions) == ["session-1", "session-2", "session-3"]


async def test_a_read_only_database_is_unavailable_and_what_failed_is_written_later(store: Store) -> None:
    await store.write([session(1)])
    await store._ask(lambda connection: connection.exec_driver_sql("PRAGMA query_only=1"))
    results = await asyncio.gather(
        store.write([session(2)]), store.write([RemoveSession("session-1")]), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    await becomes_writable(store, session(3))
    assert sorted((await store.load()).sessions) == ["session-2", "session-3"]


@contextmanager
def full_disk(free_after: Path) -> Iterator[None]:
    """No file may grow beyond the size of the log as it is."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_after.stat().st_size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


async def test_a_full_disk_is_unavailable_and_what_failed_is_written_later(store: Store, path: Path) -> None:
    await store.write([session(1)])
    with full_disk(path.with_name("broker.db-wal")):
        with pytest.raises(StoreUnavailable):
            await store.write([session(2, text="x" * 100_000)])
        assert list((await store.load()).sessions) == ["session-1"]  # reading goes on
    await becomes_writable(store, session(3))
    assert sorted((await store.load()).sessions) == ["session-1", "session-2", "session-3"]


async def test_a_removed_database_is_made_anew(store: Store, path: Path) -> None:
    await store.write([session(1)])
    for file in path.parent.iterdir():
        file.unlink()
    await becomes_writable(store, session(2))

    again = await Store.open(path)
    assert sorted((await again.load()).sessions) == ["session-1", "session-2"]
    await again.close()
    assert mode(path) == 0o600


async def test_a_removed_folder_is_unavailable_until_it_is_back(store: Store, path: Path) -> None:
    await store.write([session(1)])
    away = path.parent.with_name("away")
    path.parent.rename(away)
    with pytest.raises(StoreUnavailable):
        await store.write([session(2)])
    away.rename(path.parent)
    await becomes_writable(store, session(3))
    assert sorted((await store.load()).sessions) == ["session-1", "session-2", "session-3"]


# ------------------------------------------------------------------ kill -9

WRITER = """
import asyncio, json, sys
from pathlib import Path
from broker_stub.broker.events import SaveSession
from broker_stub.broker.store import Store

async def write(store, worker):
    number = 0
    while True:
        key = f"{worker}-{number}"
        await store.write([SaveSession(key, {"number": number})])
        print(key, flush=True)
        number += 1

async def main():
    store = await Store.open(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, worker) for worker in range(16)))

asyncio.run(main())
"""


def test_everything_acknowledged_survives_kill_9(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(500)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    connection = sqlite3.connect(path)
    stored = {key: json.loads(row) for key, row in connection.execute("SELECT key, row FROM sessions")}
    connection.close()
    assert len(acknowledged) >= 500
    assert set(acknowledged) <= set(stored)
    assert all(row == {"number": int(key.split("-")[1])} for key, row in stored.items())
