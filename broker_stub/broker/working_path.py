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
def only_broker_of(path: Path) -> Iterator[None]:
    """Hold the working folder for the length of the block.

    Raises:
        ListenError: another broker holds it.
        SettingsError: it cannot be written.
    """
    try:
        descriptor = os.open(path / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError([f"The working path {path} cannot be written: {error.strerror}."]) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ListenError(f"Another broker is running with the working path {path}.") from None
    try:
        yield
    finally:
        os.close(descriptor)
