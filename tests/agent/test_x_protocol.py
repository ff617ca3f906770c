"""The few questions to an X server, answered by servers that do not know how."""

import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_stub.agent import x_protocol
from broker_stub.agent.backend import Monitor
from broker_stub.agent.x_protocol import XProtocolError, monitors

ROOT, OPCODE = 0x123, 140


def greeting(width: int = 1000, height: int = 500) -> bytes:
    """What a server says first: one screen."""
    vendor = b"vend"
    body = struct.pack("<8xII", 0, 0) + struct.pack(
        "<HHBBBBBBBB4x", len(vendor), 0, 1, 1, 0, 0, 32, 32, 8, 255
    )
    body += vendor + bytes(8) + struct.pack("<I16xHH", ROOT, width, height) + bytes(16)
    return struct.pack("<BBHHH", 1, 0, 11, 0, len(body) // 4) + body


def reply(rest: bytes = b"", at_8: bytes = b"") -> bytes:
    return struct.pack("<BBHI", 1, 0, 0, len(rest) // 4) + at_8.ljust(24, b"\0") + rest


EXTENSION = reply(at_8=bytes((1, OPCODE)))
VERSION = reply(at_8=struct.pack("<II", 1, 5))


def monitor_list(*found: tuple[int, int, int, int, int]) -> bytes:
    """Primary, x, y, width, height of each."""
    parts = [struct.pack("<IBBHhhHHII", 1, one[0], 0, 1, *one[1:], 1, 1) + bytes(4) for one in found]
    return reply(b"".join(parts), struct.pack("<II", 0, len(found)))


@contextmanager
def server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[socket.socket], None]
) -> Iterator[int]:
    """A server on display 5 that says something to whoever comes."""
    monkeypatch.setattr(x_protocol, "SOCKETS", folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "X5"))
        listener.listen()

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                try:
                    say(link)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield 5
        finally:
            thread.join(10)
    (folder / "X5").unlink()


def saying(*answers: bytes) -> Callable[[socket.socket], None]:
    """One answer for the greeting and for each question."""

    def say(link: socket.socket) -> None:
        for answer in answers:
            link.recv(4096)
            link.sendall(answer)
        link.recv(4096)

    return say


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="x-") as name:
        yield Path(name)


def test_monitors_are_told_with_the_primary_one_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = monitor_list((0, 0, 0, 640, 480), (1, 640, -10, 800, 600), (0, 9, 9, 0, 0))
    with server(folder, monkeypatch, saying(greeting(), EXTENSION, VERSION, found)) as display:
        assert monitors(display, b"c" * 16, 5) == [
            Monitor(640, -10, 800, 600, is_primary=True),
            Monitor(0, 0, 640, 480),
        ]


def test_without_the_extension_or_monitors_the_display_is_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [Monitor(0, 0, 1000, 500, is_primary=True)]
    with server(folder, monkeypatch, saying(greeting(), reply())) as display:
        assert monitors(display, b"", 5) == whole
    with server(folder, monkeypatch, saying(greeting(), EXTENSION, VERSION, monitor_list())) as display:
        assert monitors(display, b"", 5) == whole


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((struct.pack("<BBHHH", 0, 2, 11, 0, 1) + b"no..",), "refuses the cookie"),
        ((greeting()[:20],), "closed"),
        ((b"",), "closed"),
        ((struct.pack("<BBHHH", 1, 0, 11, 0, 2) + bytes(8),), "cut short"),
        ((greeting(), b"\0\x07" + bytes(30)), "error 7"),
        ((greeting(), EXTENSION, VERSION, reply(bytes(8), struct.pack("<II", 0, 9))), "cut short"),
        ((greeting(), EXTENSION, struct.pack("<BBHI24x", 1, 0, 0, 2**30)), "too much"),
    ],
)
def test_what_is_no_answer_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answers: tuple[bytes, ...], reason: str
) -> None:
    def say(link: socket.socket) -> None:
        for answer in answers:
            link.recv(4096)
            link.sendall(answer)
        link.shutdown(socket.SHUT_WR)

    with server(folder, monkeypatch, say) as display, pytest.raises(XProtocolError, match=reason):
        monitors(display, b"", 5)


def test_a_server_that_drips_is_given_up_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(link: socket.socket) -> None:
        for byte in greeting() * 100:
            link.send(bytes((byte,)))
            time.sleep(0.01)

    with server(folder, monkeypatch, drip) as display:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            monitors(display, b"", 0.2)
        assert time.monotonic() - began < 5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_answer_breaks_the_reader(folder: Path, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:

        def say(link: socket.socket) -> None:
            link.recv(4096)
            link.sendall(greeting() + data)
            link.shutdown(socket.SHUT_WR)

        with server(folder, monkeypatch, say) as display:
            try:
                assert monitors(display, b"", 5)
            except (XProtocolError, OSError):
                return
