"""A server keeps its id as long as it is the same server."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from broker_stub.agent.identity import (
    Address,
    FixedIdentity,
    Identity,
    IdentityFile,
    StateInUse,
    lock_state,
    machine_fingerprint,
    write_private,
)

HERE = Address("host", "198.18.0.1", "host.example")


@pytest.fixture
def new_id() -> Iterator[Callable[[], str]]:
    numbers = count(1)
    yield lambda: f"id-{next(numbers)}"


@pytest.mark.covers("G7")
async def test_the_id_stays_over_restarts_and_the_epoch_rises(
    tmp_path: Path, new_id: Callable[[], str]
) -> None:
    """The server's id is the same after each restart of the agent, and the counter of its starts rises."""
    first = await IdentityFile(tmp_path, lambda: HERE, new_id).current()
    second = await IdentityFile(tmp_path, lambda: HERE, new_id).current()
    assert second.server_id == first.server_id
    assert second.fingerprint == first.fingerprint
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.address == HERE


@pytest.mark.covers("G7")
@pytest.mark.parametrize("moved", [Address("other", "198.18.0.1"), Address("host", "198.18.0.2")])
async def test_another_name_or_address_makes_another_server(
    tmp_path: Path, new_id: Callable[[], str], moved: Address
) -> None:
    """A host whose name or address changed is another server, and tells under which id it was known."""
    here = HERE
    source = IdentityFile(tmp_path, lambda: here, new_id)
    before = await source.current()
    here = moved
    after = await source.current()
    assert after.server_id != before.server_id
    assert after.previous_server_id == before.server_id
    assert (after.fingerprint, after.address) == (before.fingerprint, moved)
    assert await source.current() == after
    restarted = await IdentityFile(tmp_path, lambda: here, new_id).current()
    assert restarted.server_id == after.server_id


async def test_a_network_that_is_down_is_no_new_address(tmp_path: Path, new_id: Callable[[], str]) -> None:
    here = HERE
    source = IdentityFile(tmp_path, lambda: here, new_id)
    before = await source.current()
    here = Address("host", "")
    assert (await source.current()).server_id == before.server_id
    assert (await source.current()).address.ip == "198.18.0.1"


@pytest.mark.covers("G34")
async def test_a_copied_host_becomes_another_machine_for_good(
    tmp_path: Path, new_id: Callable[[], str]
) -> None:
    """A clone that was told so keeps its new id and fingerprint over restarts."""
    source = IdentityFile(tmp_path, lambda: HERE, new_id)
    before = await source.current()
    renewed = source.renew()
    assert renewed.server_id != before.server_id
    assert renewed.fingerprint != before.fingerprint
    assert renewed.previous_server_id is None
    restarted = await IdentityFile(tmp_path, lambda: HERE, new_id).current()
    assert (restarted.server_id, restarted.fingerprint) == (renewed.server_id, renewed.fingerprint)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"serverId": "a"}', '{"serverId": "a", "epoch": "x"}'])
def test_a_damaged_file_is_said_and_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(ValueError):
        IdentityFile(tmp_path, lambda: HERE)
    assert (tmp_path / "identity.json").read_text() == content


def test_the_machines_own_id_is_not_given_away() -> None:
    fingerprint = machine_fingerprint(lambda: "random")
    assert len(fingerprint) == 64
    machine_id = Path("/etc/machine-id")
    if machine_id.exists():
        assert machine_id.read_text().strip() not in fingerprint


async def test_an_identity_in_memory_can_be_renewed() -> None:
    source = FixedIdentity(Identity("a", HERE, "f"))
    assert (await source.current()).server_id == "a"
    renewed = source.renew()
    assert renewed.server_id != "a"
    assert await source.current() == renewed


@pytest.mark.covers("G35")
def test_a_second_agent_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """Two processes never work with one state folder: the second is refused while the first lives."""
    with lock_state(tmp_path / "state"):
        with pytest.raises(StateInUse, match="another agent"):
            lock_state(tmp_path / "state")
    lock_state(tmp_path / "state").close()


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, json.dumps({"a": 1}))
    assert json.loads(path.read_text()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
