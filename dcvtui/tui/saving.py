"""Files an operator saves from a screen: in the home directory, for the owner's eyes, never half written."""

import os
import re
import tempfile
from pathlib import Path
from typing import Final

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_STEM: Final = 80


def file_stem(*parts: str) -> str:
    """A file name made of names from elsewhere: odd characters become `_`, never hidden, never a path."""
    stem = "_".join(cleaned for part in parts if (cleaned := _ODD.sub("_", part).strip("._-")))
    return stem[:_LONGEST_STEM] or "unnamed"


def save_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600, whole or not at all; an older one of that name is replaced.

    Raises:
        OSError: the file cannot be written there.
    """
    # mkstemp creates with mode 0600, so that the content is never readable for others, not even for a moment.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def shown_path(path: Path) -> str:
    """The path as people write it: `~` for the home directory."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
