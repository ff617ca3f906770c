"""X authority files: the secrets of displays in the form that X servers and clients read.

One record, made here instead of with `xauth`, which a host need not have (DCV
server specification, 4.2).
"""

import secrets
import struct
from pathlib import Path

COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_FAMILY_WILD = 65535
_COOKIE_BYTES = 16
_MOST_BYTES = 64 * 1024


def new_cookie() -> bytes:
    """The secret of one display."""
    return secrets.token_bytes(_COOKIE_BYTES)


def authority_record(cookie: bytes) -> bytes:
    """One record that fits every address and display: it is written before the number is known."""
    parts = (b"", COOKIE_NAME, cookie)
    head = struct.pack(">HH", _FAMILY_WILD, 0)
    return head + b"".join(struct.pack(">H", len(part)) + part for part in parts)


def read_cookie(path: Path, display: int) -> bytes | None:
    """The cookie of a display in an authority file, `None` if it holds none.

    The file is its owner's to write, so no more of it is read than an authority file has.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return cookie_for(file.read(_MOST_BYTES), display)


def cookie_for(authority: bytes, display: int) -> bytes | None:
    """The cookie of a display in an authority file, whoever wrote it; `None` if it holds none.

    The first record of the right kind wins, whatever its address: here displays are always this host's.
    """
    place = 0
    while place < len(authority):
        try:
            (_family,) = struct.unpack_from(">H", authority, place)
            place += 2
            fields = []
            for _ in range(4):
                (length,) = struct.unpack_from(">H", authority, place)
                fields.append(authority[place + 2 : place + 2 + length])
                place += 2 + length
        except struct.error:
            return None
        _address, number, name, data = fields
        if name == COOKIE_NAME and number in (b"", str(display).encode()) and len(data) == _COOKIE_BYTES:
            return data
    return None
