"""Files for their owner's eyes: profiles, links with tokens, pictures of screens; never half written.

Also how such files are named after things from elsewhere, and how their place
is told to a person.
"""

import os
import re
from pathlib import Path
from typing import Final

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_STEM: Final = 80


def replace_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 in one step, so that a crash leaves the old one.

    The mode holds from the first byte on: a secret is at no time readable by others.

    Raises:
        OSError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def file_stem(*parts: str) -> str:
    """A file name made of names from elsewhere: odd characters become `_`, never hidden, never a path."""
    stem = "_".join(cleaned for part in parts if (cleaned := _ODD.sub("_", part).strip("._-")))
    return stem[:_LONGEST_STEM] or "unnamed"


def shown_path(path: Path) -> str:
    """The path as people write it: `~` for the home directory."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
