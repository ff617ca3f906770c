"""Runs the `dcv` command: one child at a time limit, its output bounded, nothing left behind.

Arguments are a list and never pass a shell. What comes back is bytes; what they
mean is in `dcv_output`. Only the dcv backend uses this.
"""

import asyncio
import contextlib
import os
import signal
import unicodedata
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.owners import PATH

MOST_OUTPUT_BYTES = 32 * 1024 * 1024
_AT_ONCE = 4
_MOST_ERROR = 64 * 1024
_MOST_REASON = 400
_PIPES_CLOSE_WITHIN_S = 1.0
_LICENCE_WORDS = ("all licenses in use", "no licenses")


class DcvCommand:
    """The `dcv` program of this host, at most four runs of it at once.

    Args:
        program: Its path, or the folder it is in.
    """

    def __init__(self, program: Path) -> None:
        self._told = program
        self._places = asyncio.Semaphore(_AT_ONCE)

    @property
    def program(self) -> Path:
        """The executable, whether it is there or not."""
        return self._told / "dcv" if self._told.is_dir() else self._told

    @property
    def missing(self) -> str:
        """One sentence that says why the program cannot be run; empty if it can."""
        if os.access(self.program, os.X_OK):
            return ""
        return f"There is no DCV server on this host: {self.program} cannot be executed"

    async def run(self, *arguments: str, limit_s: float) -> bytes:
        """Run it and answer what it printed.

        Args:
            arguments: The command, such as `list-sessions`, and all that belongs to it.
            limit_s: Seconds after which it is killed with all its children.

        Raises:
            BackendError: it cannot be started, ended with an error (the message is its own),
                printed too much, or did not end in time.
        """
        name = f"dcv {arguments[0]}"
        async with self._places:
            try:
                child = await asyncio.create_subprocess_exec(
                    self.program,
                    *arguments,
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=PIPE,
                    start_new_session=True,
                    cwd="/",
                    env=_environment(),
                )
            except (OSError, ValueError) as error:  # ValueError: a NUL character in an argument
                reason = self.missing or f"{name} could not be run: {error}"
                raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, reason) from None
            output, complaints = (
                _Printed(child.stdout, MOST_OUTPUT_BYTES),
                _Printed(child.stderr, _MOST_ERROR),
            )
            try:
                async with asyncio.timeout(limit_s):
                    await _ended(child, output, complaints)
            except TimeoutError:
                raise BackendError(Failure.TIMEOUT, f"{name} timed out after {limit_s:g} seconds") from None
            finally:
                await asyncio.shield(_end_group(child, output, complaints))
        if output.is_too_much.is_set():
            raise BackendError(Failure.DCV_COMMAND_FAILED, f"{name} printed more than 32 MiB")
        if child.returncode:
            said = complaints.text or output.text
            raise BackendError(Failure.DCV_COMMAND_FAILED, _reason(name, said, child.returncode))
        return output.text


def _environment() -> dict[str, str]:
    """Nothing of the agent's own but what finds programs: the output must not depend on its language."""
    home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    return home | {"PATH": f"{PATH}:/usr/sbin:/sbin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


class _Printed:
    """What a child has printed so far, up to a bound; what is more is read and dropped."""

    def __init__(self, pipe: StreamReader | None, most: int) -> None:
        self._pipe = pipe
        self._most = most
        self._data = bytearray()
        self.is_too_much = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    @property
    def text(self) -> bytes:
        return bytes(self._data)

    async def _read(self) -> None:
        while self._pipe is not None and (part := await self._pipe.read(65536)):
            if len(self._data) + len(part) <= self._most:
                self._data += part
            else:
                self.is_too_much.set()


async def _ended(child: Process, output: _Printed, complaints: _Printed) -> None:
    """Wait until a child has ended and all it said was read, or it has said too much."""
    waits = [asyncio.create_task(child.wait()), asyncio.create_task(output.is_too_much.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[0].done():
            # A grandchild may hold the pipes open for ever; the command itself has said all it had to say.
            await asyncio.wait((output.reading, complaints.reading), timeout=_PIPES_CLOSE_WITHIN_S)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _end_group(child: Process, *printed: _Printed) -> None:
    """Kill whatever is left of a command, its children too, reap it and let its pipes run dry."""
    readings = [one.reading for one in printed]
    if child.returncode is None or not all(reading.done() for reading in readings):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    # What has left the group may keep a pipe open; nobody will read what it says.
    await asyncio.wait((asyncio.create_task(child.wait()), *readings), timeout=_PIPES_CLOSE_WITHIN_S)
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)


def _reason(name: str, said: bytes, code: int) -> str:
    """What the program complained about, fit for a line in a list of sessions."""
    text = said.decode("utf-8", "replace")
    if any(words in text.lower() for words in _LICENCE_WORDS):
        return "All licenses in use"
    clean = "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in text)
    clean = " ".join(clean.split())[:_MOST_REASON]
    return clean or f"{name} ended with status {code} and said nothing"
