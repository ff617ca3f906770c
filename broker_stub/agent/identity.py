"""Who this server is to the broker: an id that stays, and what tells a clone from a restart.

The id is made once and made anew whenever the host's name or address changes
(agent specification, 3.2). The agent keeps it in its state directory; simulated
servers carry theirs along.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


class StateInUse(Exception):  # noqa: N818  named by what happened
    """Another agent process works with the same state directory."""


@dataclass(frozen=True, slots=True)
class Address:
    """Under which names and address a host is known."""

    hostname: str
    ip: str
    dns_name: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an agent says of itself in its hello."""

    server_id: str
    address: Address
    fingerprint: str
    epoch: int = 1
    """Rises with every start of the agent; of two channels of one host the higher one is right."""
    previous_server_id: str | None = None


class IdentitySource(Protocol):
    """Where an agent gets its identity from, asked before each hello."""

    async def current(self) -> Identity:
        """The identity as of now."""
        ...

    def renew(self) -> Identity:
        """A new id: the broker knows the present one as another machine's."""
        ...


class FixedIdentity:
    """An identity in memory, for simulated servers.

    Args:
        identity: Its epoch is raised by the caller between two runs of an agent, if it wants two runs.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def current(self) -> Identity:
        """The identity as of now."""
        return self._identity

    def renew(self) -> Identity:
        """A new id for a server that turned out to be a copy."""
        self._identity = replace(self._identity, server_id=str(uuid.uuid4()), previous_server_id=None)
        return self._identity


class IdentityFile:
    """The identity of this host in `identity.json` of the state directory.

    Made when the agent starts; that counts as a new epoch.

    Args:
        directory: The state directory.
        address: Tells the host's present names and address.
        new_id: Makes ids.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: it is not what an agent wrote.
    """

    def __init__(
        self,
        directory: Path,
        address: Callable[[], Address],
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._path = directory / "identity.json"
        self._address = address
        self._new_id = new_id
        present = address()
        stored = self._read()
        if stored is None:
            present = replace(present, ip=present.ip or "127.0.0.1")
            self._identity = Identity(new_id(), present, machine_fingerprint(new_id))
        else:
            self._identity = replace(stored, epoch=stored.epoch + 1)
        self._write()

    async def current(self) -> Identity:
        """The identity as of now; a changed host name or address makes a new one."""
        # Finding the host's own name may ask a name server that does not answer.
        present, known = await asyncio.to_thread(self._address), self._identity
        if not present.ip:  # the network is down: that is no new address
            present = replace(present, ip=known.address.ip)
        if (present.hostname, present.ip) != (known.address.hostname, known.address.ip):
            self._identity = replace(
                known, server_id=self._new_id(), previous_server_id=known.server_id, address=present
            )
            self._write()
        elif present != known.address:
            self._identity = replace(known, address=present)
        return self._identity

    def renew(self) -> Identity:
        """A new id and fingerprint: this host was copied from another one."""
        self._identity = replace(
            self._identity,
            server_id=self._new_id(),
            previous_server_id=None,
            fingerprint=hashlib.sha256(self._new_id().encode()).hexdigest(),
        )
        self._write()
        return self._identity

    def _read(self) -> Identity | None:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        try:
            return Identity(
                server_id=str(stored["serverId"]),
                address=Address(str(stored["hostname"]), str(stored["ip"])),
                fingerprint=str(stored["machineFingerprint"]),
                epoch=int(stored["epoch"]),
                previous_server_id=stored.get("previousServerId"),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._path} lacks {error}") from None

    def _write(self) -> None:
        identity = self._identity
        write_private(
            self._path,
            json.dumps(
                {
                    "serverId": identity.server_id,
                    "hostname": identity.address.hostname,
                    "ip": identity.address.ip,
                    "machineFingerprint": identity.fingerprint,
                    "epoch": identity.epoch,
                    "previousServerId": identity.previous_server_id,
                },
                indent=1,
            ),
        )


def machine_fingerprint(new_id: Callable[[], str]) -> str:
    """A value that stays with this machine; a random one where the system has no machine id."""
    for path in _MACHINE_ID_FILES:
        try:
            found = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if found:
            # The machine id itself is meant to stay on the machine (machine-id(5)).
            return hashlib.sha256(b"dcv-session-manager-agent" + found.encode()).hexdigest()
    return hashlib.sha256(new_id().encode()).hexdigest()


def write_private(path: Path, text: str) -> None:
    """Replace a file of the state directory, readable by its owner only, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def lock_state(directory: Path) -> IO[bytes]:
    """Make the state directory and hold it against a second agent while the returned file is open.

    Raises:
        StateInUse: another process holds it.
        OSError: the directory cannot be made or written.
    """
    # Its files are private each; owners of sessions must be able to pass through to theirs.
    directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    file = (directory / "agent.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StateInUse(f"another agent works with {directory}") from None
    return file
