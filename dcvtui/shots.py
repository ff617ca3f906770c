"""Screenshots as the broker sends them, turned into pictures or the broker's reason why there is none.

Pure; asking is the caller's, drawing is in `dcvtui.images` and `dcvtui.graphics`.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from dcvtui.api.models import GetSessionScreenshotsResponse

IDS_PER_CALL: Final = 5
"""More ids in one call are refused (Session Manager guide, GetSessionScreenshots)."""

NO_REASON: Final = "The broker gives no reason why there is no picture."
NOTHING: Final = "The broker sent no picture."
NOT_BASE64: Final = "The broker's picture is not Base64."


class Shot(NamedTuple):
    """A picture of one display of a session."""

    data: bytes
    taken: str = ""
    """When, as a text for people."""


Shots = Sequence[Shot] | str
"""The displays of a session, the primary one first; or why there is no picture."""


def read_shots(answer: "GetSessionScreenshotsResponse") -> Mapping[str, Shots]:
    """The pictures of each session that was asked for, by its id."""
    found: dict[str, Shots] = {}
    for refused in answer.unsuccessful_list:
        asked = refused.get_session_screenshot_request_data
        if asked is not None and asked.session_id:
            found[asked.session_id] = refused.failure_reason or NO_REASON
    for one in answer.successful_list:
        shot = one.session_screenshot
        if shot is None or not shot.session_id:
            continue
        images = sorted(shot.images, key=lambda image: not image.primary)
        try:
            pictures = [
                Shot(base64.b64decode(image.data or ""), _clock_time(image.creation_time)) for image in images
            ]
        except binascii.Error:
            found[shot.session_id] = NOT_BASE64
        else:
            found[shot.session_id] = pictures or NOTHING
    return found


def _clock_time(text: str | None) -> str:
    try:
        return f"{datetime.fromisoformat(text or '').astimezone():%H:%M:%S}"
    except ValueError:
        return ""
