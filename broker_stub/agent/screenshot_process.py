"""The program that looks at X displays for the agent: one process for each look, as the display's owner.

One JSON request per line on standard input, answered by one JSON line and the bytes
of the pictures. The program itself has loaded everything and only waits; each look
is a fork of it that first becomes the owner. So a look costs no start, and what an
X server says is never read with more rights than its owner has.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image as Pictures
from PIL import ImageGrab

from broker_stub.agent.backend import Failure, Monitor
from broker_stub.agent.pictures import encode, fit
from broker_stub.agent.screenshots import READY
from broker_stub.agent.x_authority import read_cookie
from broker_stub.agent.x_protocol import XProtocolError, monitors

_TOO_LATE = "The session display did not answer in time"
_NOT_REACHABLE = "The session display is not reachable"
_GONE = "The process that took the picture was killed"
_SET_DEATH_SIGNAL = 1
Answer = tuple[dict[str, Any], list[bytes]]


def answer_to(request: Mapping[str, Any]) -> Answer:
    """Look at a display as asked: its monitors and their pictures."""
    display, authority = request["display"], Path(request["authority"])
    try:
        cookie = read_cookie(authority, display)
        found = monitors(display, cookie or b"", request["limit_s"])
        pictures = _pictures(display, authority, found, request)
    except TimeoutError:
        return {"problem": _TOO_LATE, "code": Failure.TIMEOUT}, []
    except (OSError, XProtocolError):
        # Pillow says "X connection failed: error 1" for a display that is gone and for a refused cookie.
        return {"problem": _NOT_REACHABLE, "code": Failure.DCV_COMMAND_FAILED}, []
    files = [encode(picture, request["format"]) for picture in pictures]
    images = [
        {"length": len(data), "width": picture.width, "height": picture.height}
        for picture, data in zip(pictures, files, strict=True)
    ]
    return {"monitors": [asdict(one) for one in found], "images": images}, files


def _pictures(
    display: int, authority: Path, found: Iterable[Monitor], request: Mapping[str, Any]
) -> list[Pictures.Image]:
    # libxcb reads the name of the file from the environment.
    os.environ["XAUTHORITY"] = str(authority)
    whole = ImageGrab.grab(xdisplay=f":{display}")
    bounds = request["max_width"], request["max_height"]
    # The display may have changed its size since it named its monitors.
    boxes = [_within(whole, one) for one in found]
    return [_scaled(whole.crop(box), *bounds) for box in boxes if box] or [_scaled(whole, *bounds)]


def _within(whole: Pictures.Image, one: Monitor) -> tuple[int, int, int, int] | None:
    left, top = max(0, one.x), max(0, one.y)
    right, bottom = min(whole.width, one.x + one.width), min(whole.height, one.y + one.height)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _scaled(picture: Pictures.Image, max_width: int | None, max_height: int | None) -> Pictures.Image:
    size = fit(*picture.size, max_width, max_height)
    if size == picture.size:
        return picture
    return picture.resize(size, Pictures.Resampling.LANCZOS, reducing_gap=2.0)


# ------------------------------------------------------------------ the processes


def _rehearse() -> None:
    """Do everything once, so that all that is loaded on first use is there.

    The owner of a display may not even read the files of this program.
    """
    Pictures.preinit()
    for image_format in ("png", "jpeg"):
        encode(_scaled(Pictures.new("RGB", (64, 64)), 16, 16), "png" if image_format == "png" else "jpeg")
    with suppress(OSError):
        ImageGrab.grab(xdisplay=":65535")


def _look(request: Mapping[str, Any], library: ctypes.CDLL) -> None:
    """In a process of its own: become the owner for good, look, and say what was seen."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*(request["gid"],) * 3)
        os.setresuid(*(request["uid"],) * 3)
    # The owner may stop it; it goes with its parent all the same. A change of user takes this back.
    library.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    signal.alarm(int(request["limit_s"]) + 1)
    _say(*answer_to(request))


def _say(head: Mapping[str, Any], files: Iterable[bytes] = ()) -> None:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + b"".join(files))
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer requests until standard input ends."""
    _rehearse()
    os.chdir("/")
    library = ctypes.CDLL(None)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                _look(json.loads(line), library)
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(process, 0)[1] != 0:
            _say({"problem": _GONE, "code": Failure.TIMEOUT})


if __name__ == "__main__":
    main()
