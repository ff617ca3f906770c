"""Takes pictures of X displays in processes of their own.

Pillow holds the interpreter's lock while it waits for an X server (measured: a
stopped server stops every thread of the process), so a limit in a thread would
protect nothing. A grabber that hangs is killed, and the agent never notices.

Run as a program this module is such a grabber: one JSON request per line on
standard input, answered by one JSON line and the bytes of the file.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker_stub.agent.backend import BackendError, Failure, Image, ImageFormat

_AT_ONCE = 2
_NOT_REACHABLE = "The session display is not reachable"


class ScreenGrabber:
    """Takes screenshots of displays, at most two at once.

    Args:
        authority: X authority file with the cookies of all displays.
        limit_s: Time for one picture.
    """

    def __init__(self, authority: Path, limit_s: float = 5.0) -> None:
        self._authority = authority
        self._limit_s = limit_s
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[Process] = []

    async def take(
        self, display: int, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Image:
        """Take a picture of a whole display, sized as `Backend.screenshot` says.

        Raises:
            BackendError: the display does not answer.
        """
        request = {
            "display": display,
            "max_width": max_width,
            "max_height": max_height,
            "format": image_format,
            "limit_s": self._limit_s,
        }
        async with self._turns:
            grabber = self._idle.pop() if self._idle else await self._start()
            try:
                async with asyncio.timeout(self._limit_s + 0.5):
                    image = await _ask(grabber, request, image_format)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError):
                await _end(grabber)
                raise BackendError(
                    Failure.TIMEOUT, f"The session display did not answer within {self._limit_s:g} seconds"
                ) from None
            except BackendError:
                self._idle.append(grabber)
                raise
            except BaseException:
                await _end(grabber)
                raise
            self._idle.append(grabber)
            return image

    async def stop(self) -> None:
        """End the grabbers."""
        while self._idle:
            await _end(self._idle.pop())

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=os.environ | {"XAUTHORITY": str(self._authority)},
        )


async def _ask(grabber: Process, request: Mapping[str, object], image_format: ImageFormat) -> Image:
    if grabber.stdin is None or grabber.stdout is None:
        raise ConnectionError("the grabber has no pipes")
    grabber.stdin.write(json.dumps(request).encode() + b"\n")
    await grabber.stdin.drain()
    answer = json.loads(await grabber.stdout.readline())
    if problem := answer.get("problem"):
        raise BackendError(Failure.DCV_COMMAND_FAILED, problem)
    data = await grabber.stdout.readexactly(answer["length"])
    return Image(
        format=image_format,
        primary=True,
        creation_time=datetime.now(UTC),
        data=data,
        width=answer["width"],
        height=answer["height"],
    )


async def _end(grabber: Process) -> None:
    with suppress(ProcessLookupError):
        grabber.kill()
    # Reads to the end as well: only then are the pipes closed.
    with suppress(ConnectionError):
        await grabber.communicate()


# ------------------------------------------------------------------ the grabber itself


@dataclass(frozen=True, slots=True)
class _Answer:
    head: dict[str, object]
    data: bytes = b""


def _grab(request: Mapping[str, Any]) -> _Answer:
    from PIL import Image as Pictures  # noqa: PLC0415  only the grabber needs Pillow
    from PIL import ImageGrab  # noqa: PLC0415  as above

    from broker_stub.agent.pictures import encode, fit  # noqa: PLC0415  as above

    try:
        picture = ImageGrab.grab(xdisplay=f":{request['display']}")
    except OSError:
        # Pillow says "X connection failed: error 1" for a display that is gone and for a refused cookie.
        return _Answer({"problem": _NOT_REACHABLE})
    size = fit(*picture.size, request["max_width"], request["max_height"])
    if size != picture.size:
        picture = picture.resize(size, Pictures.Resampling.LANCZOS, reducing_gap=2.0)
    data = encode(picture, request["format"])
    return _Answer({"length": len(data), "width": picture.width, "height": picture.height}, data)


def main() -> None:
    """Answer requests until standard input ends."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Ends the process: with an agent that was killed nobody else would.
        signal.alarm(int(request["limit_s"]) + 1)
        answer = _grab(request)
        signal.alarm(0)
        sys.stdout.buffer.write(json.dumps(answer.head).encode() + b"\n" + answer.data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
