"""Sockets that listeners are bound to, and names of local ones; light, for administration commands."""

import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_LONGEST_SOCKET_PATH = 100  # the system's limit is 108 bytes, 104 on some, with the end mark


class ListenError(Exception):
    """A listener cannot be opened; the text is a sentence for people."""


def open_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket; `::` takes both families, port 0 lets the system choose.

    Raises:
        ListenError: the address or port cannot be had.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    try:
        # asyncio switches Nagle's algorithm off only where the protocol is named; else answers take 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return listener


def local_url(listener: socket.socket) -> str:
    """An address under which a program on this host reaches a TLS listener."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"https://[{address}]:{port}" if address.version == 6 else f"https://{address}:{port}"


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for a local socket that fits in a socket address, however deep its folder is.

    Args:
        path: Where the socket file is or will be.

    Yields:
        The path itself, or one through an open descriptor of its folder.

    Raises:
        ListenError: the path is too long and this system offers no way around.
    """
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        yield str(path)
        return
    if not sys.platform.startswith("linux"):
        raise ListenError(f"The path {path} is too long for a socket; choose a shorter working path.")
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
