"""Looks at X displays: where the monitors are, and pictures of them, taken in processes of their own.

Pillow holds the interpreter's lock while it waits for an X server (measured: a
stopped server stops every thread of the process), so a limit in a thread would
protect nothing. A grabber that hangs is killed, and the agent never notices.
Each look is a process of the display's owner: what an X server says is parsed by
libraries written in C, and the server is that person's process. What a grabber does
is in `screenshot_process`.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker_stub.agent.backend import BackendError, Failure, Image, ImageFormat, Monitor
from broker_stub.agent.x_authority import read_cookie
from broker_stub.agent.x_protocol import XProtocolError, monitors

_AT_ONCE = 2
_START_LIMIT_S = 15.0
READY = b"ready\n"
"""Said once by such a process, when everything is loaded."""
_PROGRAM = "broker_stub.agent.screenshot_process"
_KEPT_VARIABLES = ("LANG", "PYTHONPATH", "PYTHONWARNINGS")


@dataclass(frozen=True, slots=True)
class Screen:
    """A display and the way in to it.

    Attributes:
        display: Its number.
        authority: X authority file with its cookie; who owns that file is who looks.
    """

    display: int
    authority: Path


async def monitors_of(screen: Screen, limit_s: float) -> tuple[Monitor, ...]:
    """The monitors of a display, the primary one first.

    Raises:
        BackendError: the display does not answer.
    """

    def ask() -> list[Monitor]:
        cookie = read_cookie(screen.authority, screen.display)
        return monitors(screen.display, cookie or b"", limit_s)

    try:
        return tuple(await asyncio.to_thread(ask))
    except TimeoutError:
        raise BackendError(
            Failure.TIMEOUT, f"The session display did not answer within {limit_s:g} seconds"
        ) from None
    except (OSError, XProtocolError) as error:
        raise BackendError(
            Failure.DCV_COMMAND_FAILED, f"The session display is not reachable: {error}"
        ) from None


class ScreenGrabber:
    """Looks at displays, at most two at once.

    Args:
        limit_s: Time for one look.
    """

    def __init__(self, limit_s: float = 5.0) -> None:
        self._limit_s = limit_s
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[Process] = []

    async def take(
        self, screen: Screen, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> tuple[tuple[Monitor, ...], Sequence[Image]]:
        """Take a picture of each monitor, the primary one first, sized as `Backend.screenshot` says.

        Returns:
            The monitors, and their pictures.

        Raises:
            BackendError: the display does not answer.
        """
        told = {"max_width": max_width, "max_height": max_height, "format": image_format}
        head, files = await self._ask(screen, told)
        now = datetime.now(UTC)
        images = [
            Image(
                format=image_format,
                primary=place == 0,
                creation_time=now,
                data=data,
                width=each["width"],
                height=each["height"],
            )
            for place, (each, data) in enumerate(zip(head["images"], files, strict=True))
        ]
        return tuple(Monitor(**each) for each in head["monitors"]), images

    async def stop(self) -> None:
        """End the grabbers."""
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, screen: Screen, told: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        uid, gid = _owner_of(screen.authority)
        request = {
            "display": screen.display,
            "authority": str(screen.authority),
            "uid": uid,
            "gid": gid,
            "limit_s": self._limit_s,
            **told,
        }
        async with self._turns:
            grabber = self._idle.pop() if self._idle else await self._start()
            try:
                async with asyncio.timeout(self._limit_s + 0.5):
                    answer = await _exchange(grabber, request)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError, KeyError):
                await _end(grabber)
                raise BackendError(
                    Failure.TIMEOUT, f"The session display did not answer within {self._limit_s:g} seconds"
                ) from None
            except BaseException:
                await _end(grabber)
                raise
            self._idle.append(grabber)
        if problem := answer[0].get("problem"):
            raise BackendError(Failure(answer[0]["code"]), problem)
        return answer

    async def _start(self) -> Process:
        grabber = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        )
        try:
            # Loading takes its time on a busy machine, and is no fault of the display.
            async with asyncio.timeout(_START_LIMIT_S):
                is_ready = grabber.stdout and await grabber.stdout.readline() == READY
        except TimeoutError:
            await _end(grabber)
            raise BackendError(
                Failure.TIMEOUT, f"The program that takes screenshots took over {_START_LIMIT_S:g} s to start"
            ) from None
        except BaseException:
            await _end(grabber)
            raise
        if not is_ready:
            await _end(grabber)
            raise BackendError(Failure.INTERNAL, "The program that takes screenshots does not start")
        return grabber


def _owner_of(authority: Path) -> tuple[int, int]:
    """User and group that a file belongs to."""
    try:
        status = authority.stat()
    except OSError:
        raise BackendError(
            Failure.DCV_COMMAND_FAILED, "The session display is not reachable: its cookie is gone"
        ) from None
    return status.st_uid, status.st_gid


async def _exchange(grabber: Process, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    if grabber.stdin is None or grabber.stdout is None:
        raise ConnectionError("the grabber has no pipes")
    grabber.stdin.write(json.dumps(request).encode() + b"\n")
    await grabber.stdin.drain()
    head = json.loads(await grabber.stdout.readline())
    return head, [await grabber.stdout.readexactly(each["length"]) for each in head.get("images", ())]


async def _end(grabber: Process) -> None:
    with suppress(ProcessLookupError):
        grabber.kill()
    # Reads to the end as well: only then are the pipes closed.
    with suppress(ConnectionError):
        await grabber.communicate()
