"""A client that costs next to nothing: bytes that are ready, one connection, no parsing beyond the length."""

import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Exchange:
    """One connection to a broker.

    Args:
        url: Where; `http` or `https`.
        ca_file: What to trust.
        token: Sent with each request.
    """

    def __init__(self, url: str, ca_file: Path | str, token: str = "") -> None:
        where = urlsplit(url)
        assert where.hostname
        assert where.port
        self._socket = socket.create_connection((where.hostname, where.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if where.scheme == "https":
            context = ssl.create_default_context(cafile=str(ca_file))
            self._socket = context.wrap_socket(self._socket, server_hostname=where.hostname)
        self._token = token
        self._buffer = memoryview(bytearray(1 << 20))

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request, to be asked often."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: broker\r\nContent-Length: {len(content)}\r\n"
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        return head.encode() + b"Content-Type: application/json\r\n\r\n" + content

    def ask(self, request: bytes) -> int:
        """Send a request and read its answer; returns the size of the answer's body."""
        self.send(request)
        return self.receive()

    def send(self, request: bytes) -> None:
        """Send a request without waiting."""
        self._socket.sendall(request)

    def receive(self) -> int:
        """Read one answer; returns the size of its body."""
        head, _, body = self._head().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        left = size = _length(head)
        left -= len(body)
        while left > 0:
            read = self._socket.recv_into(self._buffer)
            assert read, "the connection ended"
            left -= read
        return size

    def read(self, method: str, path: str, body: Any = None) -> Any:
        """Ask once and read the JSON of the answer."""
        self._socket.sendall(self.request(method, path, body))
        head, _, content = self._head().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (head, content[:500])
        while len(content) < _length(head):
            content += self._socket.recv(1 << 20)
        return json.loads(content)

    def cpu_s(self) -> float:
        """CPU time of the process so far, as it says itself; see `tests.bench.full_fleet`."""
        return float(self.read("GET", "/cpu"))

    def cost(self, request: bytes, times: int) -> float:
        """CPU seconds of the process for each of so many requests."""
        before = self.cpu_s()
        for _ in range(times):
            self.ask(request)
        return (self.cpu_s() - before) / times

    def latency(self, request: bytes) -> float:
        """Seconds from the request to the whole answer."""
        began = time.perf_counter()
        self.ask(request)
        return time.perf_counter() - began

    def _head(self) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self._socket.recv(1 << 16)
            assert piece, "the connection ended"
            head += piece
        return head


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(head)
