"""Pictures as pixels for terminals that draw them: the kitty graphics protocol and sixel.

Pure: picture bytes in, sequences out; nothing is written to a terminal. What a
terminal can draw is found out in `dcvtui.probe`; cells instead of pixels are
made in `dcvtui.images`.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING, Final

from dcvtui import images

if TYPE_CHECKING:
    from PIL import Image

_CHUNK: Final = 4096  # the most that the kitty protocol takes in one sequence
_SIXEL_COLOURS: Final = 128  # xterm has 256 registers; more colours are more bytes over the line
_BAND: Final = 6
_SIXEL_CHARACTERS: Final = bytes(min(255, dots + 63) for dots in range(256))
_REPEATED: Final = re.compile(rb"(.)\1{3,}", re.DOTALL)

DELETE_ALL: Final = "\x1b_Ga=d,d=A,q=2\x1b\\"
"""Takes every kitty picture of ours off the screen and out of the terminal's memory."""


class Protocol(Enum):
    """How a terminal takes pixels."""

    KITTY = "kitty"
    SIXEL = "sixel"


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels are drawn on this terminal.

    Attributes:
        protocol: what the terminal understands.
        cell_width: pixels of a cell.
        cell_height: likewise.
    """

    protocol: Protocol
    cell_width: int
    cell_height: int


@dataclass(frozen=True, slots=True)
class PixelPicture:
    """A picture to be written at a place of the screen.

    Attributes:
        columns: cells it covers.
        rows: likewise.
        width: pixels of the whole picture it was made from.
        height: likewise.
        sequence: draws it at the cursor.
        deletion: takes it away; "" where painting cells over it does.
    """

    columns: int
    rows: int
    width: int
    height: int
    sequence: str
    deletion: str

    @property
    def is_wiped_by_cells(self) -> bool:
        """Whether cells that are painted over it take it away."""
        return not self.deletion


def draw(
    data: bytes,
    columns: int,
    rows: int,
    pixels: Pixels,
    *,
    number: int,
    corner: tuple[int, int] | None = None,
) -> PixelPicture:
    """Draw a picture into an area of cells.

    Args:
        data: A PNG or JPEG file.
        columns: Cells available in a line.
        rows: Lines available.
        pixels: How this terminal takes them.
        number: What the picture is called, from 1; the same number replaces the picture before.
        corner: Where to begin pixel by pixel; without it the whole picture is fitted in.

    Raises:
        ImageError: these bytes are no picture.
    """
    image, (width, height) = images.pixels(
        data, columns * pixels.cell_width, rows * pixels.cell_height, corner
    )
    covered_columns = -(-image.width // pixels.cell_width)
    covered_rows = -(-image.height // pixels.cell_height)
    sequence = _kitty(image, number) if pixels.protocol is Protocol.KITTY else _sixel(image)
    deletion = f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\" if pixels.protocol is Protocol.KITTY else ""
    return PixelPicture(covered_columns, covered_rows, width, height, sequence, deletion)


def _kitty(image: "Image.Image", number: int) -> str:
    output = BytesIO()
    image.save(output, "PNG", compress_level=6)
    payload = base64.b64encode(output.getvalue()).decode()
    parts = [payload[start : start + _CHUNK] for start in range(0, len(payload), _CHUNK)]
    # q=2: no answer, which would arrive as keys. C=1: the cursor stays. p=1: the same placement again.
    heads = [f"a=T,f=100,i={number},p=1,q=2,C=1,", *[""] * (len(parts) - 1)]
    return "".join(
        f"\x1b_G{head}m={int(place < len(parts) - 1)};{part}\x1b\\"
        for place, (head, part) in enumerate(zip(heads, parts, strict=True))
    )


def _sixel(image: "Image.Image") -> str:
    from PIL import Image  # noqa: PLC0415  loaded by the first picture only

    indexed = image.quantize(_SIXEL_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    width, height = indexed.size
    palette = indexed.getpalette() or []
    dots = indexed.tobytes()
    colours = sorted(set(dots))
    registers = "".join(
        f"#{colour};2;" + ";".join(str(round(palette[3 * colour + band] / 2.55)) for band in range(3))
        for colour in colours
    )
    # 1 after P: what no colour names keeps what is below; the raster says 1:1 pixels.
    head = f'\x1bP0;1;0q"1;1;{width};{height}'
    bands = "-".join(
        "$".join(_band(dots[top * width : (top + _BAND) * width], width)) for top in range(0, height, _BAND)
    )
    return f"{head}{registers}{bands}\x1b\\"


def _band(dots: bytes, width: int) -> Iterator[str]:
    """Six lines of dots, one run of characters for each colour in them.

    Whole lines are translated and added up as long numbers: a loop over dots takes seconds a picture.
    """
    lines = [dots[start : start + width] for start in range(0, len(dots), width)]
    for colour in sorted(set(dots)):
        total = 0
        for place, line in enumerate(lines):
            table = bytearray(256)
            table[colour] = 1 << place
            total |= int.from_bytes(line.translate(table), "big")
        row = total.to_bytes(width, "big").translate(_SIXEL_CHARACTERS).rstrip(b"?")
        yield f"#{colour}" + _REPEATED.sub(_run, row).decode()


def _run(repeated: re.Match[bytes]) -> bytes:
    return b"!%d%b" % (len(repeated[0]), repeated[1])
