"""As much of the X protocol as it takes to ask a display where its monitors are.

Written out here because the alternative is a program (`xrandr`) for each
screenshot, and one that a host need not have. Blocks, for a limited time: the X
server at the other end is its owner's process and may say anything, or nothing.
"""

import socket
import struct
import time
from pathlib import Path

from broker_stub.agent.backend import Monitor
from broker_stub.agent.x_authority import COOKIE_NAME

SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108  the place X clients look at

_SETUP_OK = 1
_REPLY = 1
_CHANGE_ATTRIBUTES = 2
_BACKGROUND_PIXEL = 2
_CLEAR_AREA = 61
_QUERY_EXTENSION = 98
_RANDR = b"RANDR"
_QUERY_VERSION = 0
_GET_MONITORS = 42
_MOST_BYTES = 1024 * 1024
_MONITOR = struct.Struct("<IBBHhhHHII")


class XProtocolError(Exception):
    """The display refused, or what it answered is no X protocol."""


def monitors(display: int, cookie: bytes, limit_s: float) -> list[Monitor]:
    """The monitors of a display, the primary one first; one for all of it where there are none.

    Raises:
        XProtocolError: the display does not answer as an X server.
        OSError: it cannot be reached, or does not answer in time.
    """
    with _Link(SOCKETS / f"X{display}", limit_s) as link:
        root, width, height = _set_up(link, cookie)
        whole = [Monitor(0, 0, width, height, is_primary=True)]
        extension = _extension(link)
        if extension is None:
            return whole
        # A server answers with what the client says it knows.
        _ask(link, struct.pack("<BBHII", extension, _QUERY_VERSION, 3, 1, 5))
        answer = _ask(link, struct.pack("<BBHIB3x", extension, _GET_MONITORS, 3, root, 1))
    return _ordered(_monitors_in(answer)) or whole


def paint(display: int, cookie: bytes, colour: int, limit_s: float) -> None:
    """Give the screen behind everything a colour, as `xsetroot -solid` does.

    Args:
        display: Its number.
        cookie: Its secret.
        colour: Red, green and blue in a number such as `0x25384A`.
        limit_s: How long it may take.

    Raises:
        XProtocolError, OSError: as `monitors`.
    """
    with _Link(SOCKETS / f"X{display}", limit_s) as link:
        root, _, _ = _set_up(link, cookie)
        link.write(struct.pack("<BxHIII", _CHANGE_ATTRIBUTES, 4, root, _BACKGROUND_PIXEL, colour))
        link.write(struct.pack("<BxHIhhHH", _CLEAR_AREA, 4, root, 0, 0, 0, 0))
        # Answered in order: with this one the others are done.
        _extension(link)


class _Link:
    """A connection that has ended by a certain time, however slowly the other end speaks."""

    def __init__(self, path: Path, limit_s: float) -> None:
        self._until = time.monotonic() + limit_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._in_time().connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "_Link":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def read(self, length: int) -> bytes:
        if length > _MOST_BYTES:
            raise XProtocolError("the display answered with too much")
        data = b""
        while len(data) < length:
            if not (more := self._in_time().recv(length - len(data))):
                raise XProtocolError("the display closed the connection")
            data += more
        return data

    def _in_time(self) -> socket.socket:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the display did not answer in time")
        self._socket.settimeout(left_s)
        return self._socket


def _set_up(link: _Link, cookie: bytes) -> tuple[int, int, int]:
    """Open the connection; the root window and the size of the first screen."""
    head = struct.pack("<BxHHHH2x", ord("l"), 11, 0, len(COOKIE_NAME), len(cookie))
    link.write(head + _padded(COOKIE_NAME) + _padded(cookie))
    status, _reason, _major, _minor, length = struct.unpack("<BBHHH", link.read(8))
    body = link.read(4 * length)
    if status != _SETUP_OK:
        raise XProtocolError("the display refuses the cookie")
    try:
        (vendor,) = struct.unpack_from("<H", body, 16)
        formats = body[21]
        screen = 32 + _up_to_four(vendor) + 8 * formats
        root, width, height = struct.unpack_from("<I16xHH", body, screen)
    except (struct.error, IndexError):
        raise XProtocolError("the display's greeting is cut short") from None
    return root, width, height


def _extension(link: _Link) -> int | None:
    request = struct.pack("<BxHH2x", _QUERY_EXTENSION, 2 + _up_to_four(len(_RANDR)) // 4, len(_RANDR))
    answer = _ask(link, request + _padded(_RANDR))
    is_present, opcode = answer[8], answer[9]
    return opcode if is_present else None


def _ask(link: _Link, request: bytes) -> bytes:
    link.write(request)
    head = link.read(32)
    if head[0] != _REPLY:
        raise XProtocolError(f"the display answered with error {head[1]}")
    (length,) = struct.unpack_from("<I", head, 4)
    return head + link.read(4 * length)


def _monitors_in(answer: bytes) -> list[Monitor]:
    found = []
    (count,) = struct.unpack_from("<I", answer, 12)
    place = 32
    try:
        for _ in range(count):
            _name, primary, _automatic, outputs, x, y, width, height, _, _ = _MONITOR.unpack_from(
                answer, place
            )
            found.append(Monitor(x, y, width, height, bool(primary)))
            place += _MONITOR.size + 4 * outputs
    except struct.error:
        raise XProtocolError("the display's list of monitors is cut short") from None
    return [monitor for monitor in found if monitor.width and monitor.height]


def _ordered(found: list[Monitor]) -> list[Monitor]:
    """The primary one first, and exactly one primary, whatever the display says."""
    if not found:
        return []
    first = next((monitor for monitor in found if monitor.is_primary), found[0])
    rest = [monitor for monitor in found if monitor is not first]
    return [Monitor(one.x, one.y, one.width, one.height, is_primary=one is first) for one in (first, *rest)]


def _up_to_four(length: int) -> int:
    return (length + 3) // 4 * 4


def _padded(data: bytes) -> bytes:
    return data.ljust(_up_to_four(len(data)), b"\0")
