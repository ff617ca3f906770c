"""The X servers that sessions can run on: what they are called, how they are started, what they can do.

Xvfb is the smallest and shows its screen to nobody but the agent's screenshots. Xvnc
(TigerVNC) is the one that people can connect to; its socket is a file, never a port.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from broker_stub.agent.owners import PATH


class ServerKind(StrEnum):
    """Which X server runs a session; the values are those of `backend.type` in agent.conf."""

    XVFB = "xvfb"
    XVNC = "xvnc"

    @property
    def takes_clients(self) -> bool:
        """Whether people can connect to its sessions."""
        return self is ServerKind.XVNC


@dataclass(frozen=True, slots=True)
class XProgram:
    """One kind of X server as this host has it."""

    title: str
    """As the fleet shows it."""
    names: tuple[str, ...]
    """What its file may be called, the surest first."""
    package: str

    @property
    def missing(self) -> str:
        """The sentence about a host that lacks it."""
        return f"{self.title} is not installed on this host: apt-get install {self.package} xterm"

    def find(self) -> str | None:
        """Where it is, `None` if it is not installed."""
        found = (shutil.which(name, path=PATH) for name in self.names)
        return next((path for path in found if path), None)


PROGRAMS: Mapping[ServerKind, XProgram] = {
    ServerKind.XVFB: XProgram("Xvfb", ("Xvfb",), "xvfb"),
    # Other projects' Xvnc cannot listen on a file; TigerVNC's own name tells it from theirs.
    ServerKind.XVNC: XProgram("Xvnc", ("Xtigervnc", "Xvnc"), "tigervnc-standalone-server"),
}


def arguments(
    kind: ServerKind,
    *,
    number_to: int,
    geometry: tuple[int, int],
    authority: Path,
    rfb_socket: Path,
    title: str,
) -> list[str]:
    """The arguments an X server is started with (DCV server specification, 4.2).

    Args:
        kind: Which server.
        number_to: The inherited descriptor that takes the number of the display.
        geometry: Width and height of the first screen.
        authority: The file with the session's cookie.
        rfb_socket: Where an Xvnc listens for its clients; its folder must be the owner's.
        title: What a client's window is called.
    """
    size = f"{geometry[0]}x{geometry[1]}"
    common = ["-displayfd", str(number_to), "-auth", str(authority), "-nolisten", "tcp", "-noreset"]
    if kind is ServerKind.XVFB:
        return [*common, "-screen", "0", f"{size}x24"]
    return [
        *common,
        *("-geometry", size, "-depth", "24"),
        # Who may come in is decided at the agent's entrance; the socket is the owner's alone.
        *(
            "-SecurityTypes",
            "None",
            "-rfbport",
            "-1",
            "-rfbunixpath",
            str(rfb_socket),
            "-rfbunixmode",
            "0600",
        ),
        # A client that asks for the screen alone would throw out the others.
        "-AlwaysShared",
        *("-desktop", title),
    ]
