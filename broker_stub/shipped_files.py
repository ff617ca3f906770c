"""Units and example configurations that come with the package, and where they belong on a host."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

_UNITS = "etc/systemd/system"
_COMMANDS = "/usr/bin/"


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file of the package.

    Attributes:
        name: What it is called.
        folder: Where it belongs, below the root.
        mode: Its permissions.
        group: Who may read it beside root, if that group exists.
        is_kept: Whether one that is there stays, because an administrator has changed it.
    """

    name: str
    folder: str
    mode: int
    group: str | None = None
    is_kept: bool = False

    def text(self) -> str:
        """The content; units name the commands of this installation."""
        text = (files("broker_stub.shipped") / self.name).read_text(encoding="utf-8")
        return text if self.is_kept else text.replace(f"={_COMMANDS}", f"={_command_folder()}/")


BROKER_FILES = (
    ShippedFile(
        "session-manager-broker.properties",
        "etc/dcv-session-manager-broker",
        0o640,
        group="dcvsmbroker",
        is_kept=True,
    ),
    ShippedFile("dcv-session-manager-broker.service", _UNITS, 0o644),
)
AGENT_FILES = (
    ShippedFile("agent.conf", "etc/dcv-session-manager-agent", 0o640, is_kept=True),
    ShippedFile("dcv-session-manager-agent.service", _UNITS, 0o644),
)


def install(wanted: tuple[ShippedFile, ...], root: Path) -> list[str]:
    """Put files where they belong.

    Args:
        wanted: Which.
        root: `/`, or the folder of a package that is being built.

    Returns:
        A sentence for each file.

    Raises:
        OSError: one cannot be written.
    """
    said = []
    for file in wanted:
        path = root / file.folder / file.name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if file.is_kept and path.exists():
            said.append(f"kept {path}")
            continue
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(file.text())
        path.chmod(file.mode)
        said.append(f"wrote {path}")
        if file.group is not None:
            try:
                shutil.chown(path, group=file.group)
            except (LookupError, PermissionError):
                said.append(
                    f"the group {file.group} cannot be given {path}: make the user {file.group} first"
                )
    return said


def _command_folder() -> Path:
    return Path(sys.executable).parent
