"""Init and autorun files: which names are allowed, and where the file of a name lies.

Operators choose these by name; the folders belong to the host's administrator.
A name must never reach a file outside its folder, neither by its spelling nor
through a link (DCV server specification, S4).
"""

import re
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:")


class StartFileError(ValueError):
    """The file cannot be used; the text names it and says why."""


def check_spelling(name: str) -> None:
    """Refuse what could lead out of a folder, without looking at any folder.

    Raises:
        StartFileError: a blank, absolute or climbing name.
    """
    if not name.strip() or "\0" in name:
        raise StartFileError("The name of the file is blank")
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise StartFileError(f"{name!r} must be a path relative to its folder")
    if ".." in re.split(r"[/\\]", name):
        raise StartFileError(f"{name!r} must not contain '..'")


def locate(folder: Path, name: str, *, absolute_allowed: bool = False) -> Path:
    """Find the file that a name stands for.

    Args:
        folder: Where it must be.
        name: Its path inside the folder.
        absolute_allowed: Whether an absolute path inside the folder will do, as the
            deprecated `InitFilePath` of the API has it.

    Returns:
        The resolved path of an existing plain file.

    Raises:
        StartFileError: the name is not allowed, or there is no such file.
    """
    if absolute_allowed and name.startswith("/"):
        if ".." in name.split("/"):
            raise StartFileError(f"{name!r} must not contain '..'")
        path = Path(name)
    else:
        check_spelling(name)
        path = folder / name
    try:
        real, real_folder = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError):
        raise StartFileError(f"There is no file {name!r} in {folder}") from None
    if not real.is_relative_to(real_folder):
        raise StartFileError(f"{name!r} leads out of {folder}")
    if not real.is_file():
        raise StartFileError(f"{name!r} in {folder} is not a file")
    return real
