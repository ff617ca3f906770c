"""Files that hold a secret: readable by their owner only, and never half written."""

import os
from pathlib import Path


def replace_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 in one step, so that a crash leaves the old one.

    The mode holds from the first byte on: a secret is at no time readable by others.

    Raises:
        OSError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
