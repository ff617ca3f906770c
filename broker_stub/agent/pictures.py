"""Sizes and files of screenshots: the rules every backend that makes pictures follows.

Pillow is imported inside functions, so that agents without pictures start without it.
"""

import io
from typing import TYPE_CHECKING

from broker_stub.agent.backend import ImageFormat

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Measured on an xterm screen of 1280x720: level 1 takes a third of the default level's time for
# twice the bytes; screenshots cross a network once and are looked at for seconds.
_PNG_LEVEL = 1
_JPEG_QUALITY = 75


def fit(width: int, height: int, max_width: int | None, max_height: int | None) -> tuple[int, int]:
    """The size of a screenshot: proportions kept, never larger than the display, at least 1x1.

    Args:
        width: Width of the display.
        height: Height of the display.
        max_width: Bound of the width; `None` leaves it to the height.
        max_height: Bound of the height; `None` leaves it to the width.
    """
    scale = min(1.0, (max_width or width) / width, (max_height or height) / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode(picture: "Picture", image_format: ImageFormat) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    if image_format == "jpeg":
        picture.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY)
    else:
        picture.save(file, "PNG", compress_level=_PNG_LEVEL)
    return file.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture file; reads no more than its head.

    Raises:
        ValueError: it is no picture.
    """
    from PIL import Image as Pictures  # noqa: PLC0415  only who has pictures pays for Pillow

    try:
        with Pictures.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, Pictures.DecompressionBombError) as error:
        raise ValueError(f"not a picture: {error}") from None
