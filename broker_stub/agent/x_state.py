"""What the X backend keeps of its sessions on disk, so that the next agent finds them.

One folder per session, named by its id and owned by the agent; the owner may only
pass through it to the cookie. Of what the owner can write only the cookie is read back.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from broker_stub.agent.backend import Monitor, SessionInfo
from broker_stub.agent.owners import Owner
from broker_stub.agent.processes import Process, boot_id, find_by_variable, with_descendants
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_server import PROGRAM_MARK, SERVER_MARK, write_private
from dcvtui.api.states import SessionType

_REMOVALS = 3
LOG_LIMIT_BYTES = 5 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class XSession:
    """One X session as it is written down."""

    id: str
    name: str
    owner: str
    creation_time: datetime
    display: int
    width: int
    height: int
    x_server: Process
    init: Process
    boot_id: str
    type: SessionType = SessionType.VIRTUAL
    server: ServerKind = ServerKind.XVFB
    authority: str = ""
    """The file with the display's cookie, if it is not in the session's folder."""
    storage_root: str = ""
    max_concurrent_clients: int | None = None
    layout: tuple[Monitor, ...] = ()
    """The monitors when that was last looked up."""
    connections: int = 0
    """Clients when that was last looked up."""
    last_disconnection_time: datetime | None = None

    @property
    def is_of_this_boot(self) -> bool:
        """Whether its processes mean anything: ids and start times of another boot do not."""
        return self.boot_id == boot_id()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs: its X server and its program."""
        return self.is_of_this_boot and self.x_server.is_alive and self.init.is_alive

    @property
    def info(self) -> SessionInfo:
        """The session as the agent reports it."""
        return SessionInfo(
            id=self.id,
            name=self.name,
            owner=self.owner,
            type=self.type,
            creation_time=self.creation_time,
            last_disconnection_time=self.last_disconnection_time,
            num_of_connections=self.connections,
            storage_root=self.storage_root,
            max_concurrent_clients=self.max_concurrent_clients,
            display_layout=self.layout,
        )

    def with_connections(self, count: int, now: datetime) -> "XSession":
        """The session after its clients were counted; fewer than before means that somebody has left."""
        left = now if count < self.connections else self.last_disconnection_time
        return replace(self, connections=count, last_disconnection_time=left)

    def to_json(self) -> bytes:
        """As the state file holds it."""
        left = self.last_disconnection_time
        times = {
            "creation_time": self.creation_time.isoformat(),
            "last_disconnection_time": left and left.isoformat(),
        }
        return json.dumps(asdict(self) | times, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "XSession":
        """Read a state file.

        Raises:
            ValueError: it is not one.
        """
        try:
            raw = json.loads(content)
            raw["creation_time"] = datetime.fromisoformat(raw["creation_time"])
            if left := raw.get("last_disconnection_time"):
                raw["last_disconnection_time"] = datetime.fromisoformat(left)
            raw["layout"] = tuple(Monitor(**one) for one in raw.get("layout", ()))
            raw["type"] = SessionType(raw.get("type", SessionType.VIRTUAL))
            raw["server"] = ServerKind(raw.get("server", ServerKind.XVFB))
            raw["x_server"], raw["init"] = Process(**raw["x_server"]), Process(**raw["init"])
            return cls(**raw)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a state file of a session: {error}") from error


class LogFile:
    """What programs of a session say, for whoever looks after the host.

    Args:
        path: The file; only the agent can read it, programs write to the open file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> int:
        """Open it for a program; the caller closes the descriptor."""
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def cap(self) -> None:
        """Empty it when it is over its limit; programs append, so they go on at its start."""
        try:
            if self._path.stat().st_size > LOG_LIMIT_BYTES:
                os.truncate(self._path, 0)
        except FileNotFoundError:
            return

    def tail(self, most: int = 400) -> str:
        """The last words in it, on one line without control characters."""
        content = _content(self._path)[-4 * most :].decode("utf-8", "replace")
        words = "".join(sign if sign.isprintable() else " " for sign in content).split()
        return " ".join(words)[-most:]


class SessionFolder:
    """Where one session keeps its files.

    Args:
        path: The folder; its name is the session's id.

    Attributes:
        authority: The file with the cookie.
        log: What the session's programs say.
        server_log: What its X server says.
        rfb_socket: Where an X server that people can connect to listens.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = path / "authority"
        self._state = path / "state.json"
        self.log = LogFile(path / "session.log")
        self.server_log = LogFile(path / "server.log")
        self._permissions = path / "permissions"
        self.rfb_socket = path / "run" / "rfb"

    @property
    def session_id(self) -> str:
        """Whose folder it is."""
        return self.path.name

    def make(self, owner: Owner) -> None:
        """Make it anew; others may pass through it but not look into it.

        Args:
            owner: Whose X server makes its socket in a folder of its own.
        """
        self.path.mkdir(mode=0o711)
        self.path.chmod(0o711)  # whatever the umask
        self.rfb_socket.parent.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.rfb_socket.parent, owner.uid, owner.gid)

    def remove(self) -> None:
        """Remove it with everything in it; it may be gone already."""
        for _ in range(_REMOVALS):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                return
            # Something was just being written into it.

    def programs(self, *known: Process) -> list[Process]:
        """All that runs in the session now, however it was started.

        What was started with an environment of its own, as by sudo, is known by what started it.

        Args:
            known: Those that belong to it, whatever can be seen of them.
        """
        return with_descendants([*find_by_variable(PROGRAM_MARK, str(self.authority)), *known])

    def servers(self) -> list[Process]:
        """The X server of the session, if it runs."""
        return find_by_variable(SERVER_MARK, str(self.authority))

    def write_authority(self, record: bytes, owner: Owner) -> None:
        """Store the cookie for the session's programs."""
        write_private(self.authority, record, owner)

    def write(self, session: XSession) -> None:
        """Write the session down."""
        write_private(self._state, session.to_json())

    def read(self) -> XSession | None:
        """The session as written down, `None` if it never came so far."""
        try:
            return XSession.from_json(_content(self._state))
        except ValueError:
            return None

    def read_permissions(self) -> str | None:
        """The stored permissions text, `None` if the session has the defaults."""
        try:
            return self._permissions.read_text("utf-8")
        except FileNotFoundError:
            return None

    def write_permissions(self, text: str | None) -> str:
        """Store the permissions text, or take it away; answers a short hash of it for the log."""
        if text is None:
            self._permissions.unlink(missing_ok=True)
            return "default"
        write_private(self._permissions, text.encode())
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def session_folders(parent: Path) -> Iterator[SessionFolder]:
    """The folders of all sessions an earlier agent has left; none if there is no such place."""
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            yield SessionFolder(path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
