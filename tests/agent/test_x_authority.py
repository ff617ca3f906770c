"""The form of the secrets of displays, as X servers and clients read it."""

import struct

import pytest

from broker_stub.agent.x_authority import authority_record, cookie_for, new_cookie

COOKIE = bytes(range(16))


def record(number: bytes, name: bytes, data: bytes, address: bytes = b"host") -> bytes:
    """A record as another program writes it."""
    parts = (address, number, name, data)
    return struct.pack(">H", 256) + b"".join(struct.pack(">H", len(part)) + part for part in parts)


def test_a_record_has_the_documented_form() -> None:
    fixed = struct.pack(">H", 18) + b"MIT-MAGIC-COOKIE-1" + struct.pack(">H", 16) + COOKIE
    assert authority_record(COOKIE) == b"\xff\xff\x00\x00\x00\x00" + fixed


def test_every_display_has_a_secret_of_its_own() -> None:
    assert len({new_cookie() for _ in range(100)}) == 100
    assert len(new_cookie()) == 16


def test_the_cookie_of_a_display_is_found_among_others() -> None:
    name = b"MIT-MAGIC-COOKIE-1"
    file = record(b"1", name, b"x" * 16) + record(b"7", b"OTHER", b"y" * 16) + record(b"7", name, COOKIE)
    assert cookie_for(file, 7) == COOKIE
    assert cookie_for(file, 1) == b"x" * 16
    assert cookie_for(file, 2) is None
    assert cookie_for(authority_record(COOKIE), 2) == COOKIE


@pytest.mark.parametrize(
    "file", [b"", b"\x01", authority_record(COOKIE)[:-1], record(b"7", b"OTHER", COOKIE)]
)
def test_a_broken_file_has_no_cookie(file: bytes) -> None:
    assert cookie_for(file, 7) is None
