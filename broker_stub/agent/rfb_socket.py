"""The socket on which an Xvnc takes its clients: connecting to it, and counting who is connected.

The socket lies in a folder of the session's owner, who could put something else in
its place. So the other end is asked for its process before a byte is sent.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from broker_stub.agent import processes
from broker_stub.agent.processes import Process

LONGEST_PATH = 107
"""Bytes that the system allows for the name of a socket, without the end mark."""

_TABLE = Path("/proc/net/unix")
_CREDENTIALS = struct.Struct("3i")
# States of the socket table: connected, and connected but not yet accepted by the server.
_CONNECTED = ("03", "02")


class NotTheServer(ConnectionError):  # noqa: N818  named by what happened
    """Something else than the session's X server listens there."""


async def connect(path: Path, server: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an Xvnc.

    Args:
        path: Its socket.
        server: The process that must be at the other end.

    Raises:
        OSError: nothing listens there, or it is not that process (`NotTheServer`).
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.setblocking(False)
        await asyncio.get_running_loop().sock_connect(link, str(path))
        _check_peer(link, server)
        return await asyncio.open_unix_connection(sock=link)
    except BaseException:
        link.close()
        raise


def peer_of(link: socket.socket) -> Process | None:
    """The process that listens at the other end of a connection, `None` if it is gone."""
    told = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return processes.find(_CREDENTIALS.unpack(told)[0])


def _check_peer(link: socket.socket, server: Process) -> None:
    if peer_of(link) != server:
        raise NotTheServer("The socket does not belong to the session's X server")


def connected(table: Path = _TABLE) -> Mapping[str, int]:
    """How many clients each socket of this host has, by its path."""
    try:
        lines = table.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    fields = (line.split(maxsplit=7) for line in lines)
    return Counter(each[7] for each in fields if len(each) == 8 and each[5] in _CONNECTED)
