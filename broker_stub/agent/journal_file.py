"""The journal's file: lines appended one by one, each on the disk before it counts."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class JournalFile:
    """Lines in a file that only the agent's user can read.

    Args:
        path: The file, made if it is missing.

    Raises:
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = os.open(path, _APPENDING, 0o600)
        text = path.read_bytes()
        # A process that was killed may have left half a line: the next one must not be added to it.
        os.ftruncate(self._descriptor, text.rfind(b"\n") + 1)

    def lines(self) -> list[bytes]:
        """What is in it."""
        return self._path.read_bytes().splitlines()

    async def append(self, line: bytes) -> None:
        """Write one more line and return when it is on the disk.

        Raises:
            OSError: it is not, and nothing of it is.
        """
        await asyncio.to_thread(self._append, line)

    def _append(self, line: bytes) -> None:
        if self._descriptor is None:
            raise OSError("the journal is closed")
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            _write(self._descriptor, line + b"\n")
        except OSError:
            os.ftruncate(self._descriptor, end)  # half a line would spoil the next one
            raise

    async def replace(self, lines: Sequence[bytes]) -> None:
        """Have exactly these lines from now on.

        Raises:
            OSError: it cannot be written, and the former lines are still there.
        """
        await asyncio.to_thread(self._replace, lines)

    def _replace(self, lines: Sequence[bytes]) -> None:
        draft = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(draft, _APPENDING | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, b"".join(line + b"\n" for line in lines))
            draft.replace(self._path)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write(descriptor: int, text: bytes) -> None:
    if os.write(descriptor, text) != len(text):
        raise OSError("the disk is full: the journal could not be written whole")
    os.fdatasync(descriptor)
