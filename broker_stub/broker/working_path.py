"""The folder of a broker: made for it alone, used by one at a time, with its administration socket."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from broker_stub.broker.settings_file import SettingsError
from broker_stub.broker.sockets import ListenError


def socket_path(working_path: Path) -> Path:
    """Where the administration socket of a broker is."""
    return working_path / "admin.sock"


def prepare_working_path(path: Path) -> None:
    """Make the working folder, for the broker alone.

    Raises:
        SettingsError: it cannot be made or written, or others may read it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise SettingsError([f"The working path {path} cannot be made: {error.strerror}."]) from None
    if mode & stat.S_IRWXO:
        raise SettingsError([f"The working path {path} has mode {mode:04o}; others must have no access."])
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError([f"The working path {path} cannot be written."])


@contextlib.contextmanager
def only_broker_of(path: Path, database: Path | None = None) -> Iterator[None]:
    """Hold the working folder, and a database that lies elsewhere, for the length of the block.

    Raises:
        ListenError: another broker holds one of them.
        SettingsError: one cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_held(path / "broker.lock", f"the working path {path}"))
        if database is not None:
            stack.enter_context(
                _held(database.with_name(f"{database.name}.lock"), f"the database {database}")
            )
        yield


@contextlib.contextmanager
def _held(lock: Path, what: str) -> Iterator[None]:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError([f"{what[0].upper()}{what[1:]} cannot be written: {error.strerror}."]) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ListenError(f"Another broker is running with {what}.") from None
    try:
        yield
    finally:
        os.close(descriptor)
