"""Pictures as terminal cells: PNG or JPEG bytes in, runs of block characters and two colours out.

Pure: nothing is written to a terminal, and Pillow is loaded by the first
picture only. Quadrants show 2x2 dots per cell with the two colours that fit
them best, half blocks show 1x2; colours are exact or the 256 of most terminals.
"""

# ruff: noqa: PLC0415  Pillow is loaded by the first picture: the console starts without it

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES: Final = 64 << 20
"""A larger file is no screenshot: it is refused before anything is decoded."""

MAX_PIXELS: Final = 64_000_000
"""More than two 8K displays side by side; what is larger is refused before its pixels are read."""

_FIRST_PALETTE_INDEX: Final = 16  # below it stand the colours that each terminal's theme changes

# Bit 0 is the upper left dot, 1 the upper right, 2 the lower left, 3 the lower right.
_QUADRANTS: Final = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
_FULL: Final = 15
_ANY: Final = -1  # no dot of the run has the foreground yet

# The seven ways to part four dots in two, as the dots of the foreground. The other
# seven are the same with the colours exchanged.
_PARTITIONS: Final = (1, 2, 4, 8, 3, 5, 9)


class ImageError(ValueError):
    """The bytes are no picture that can be shown; the text says why."""


class Form(Enum):
    """How a cell shows dots: 2x2 with two colours, or 1x2 where quadrants are not to be had."""

    QUADRANTS = "quadrants"
    HALF_BLOCKS = "half blocks"


class Colours(Enum):
    """Colours of the cells: indexes of the common 256-colour palette, or exact `0xRRGGBB` values."""

    PALETTE = 256
    TRUE = 1 << 24


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of one line that share both colours."""

    text: str
    foreground: int
    background: int


Line = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class CellPicture:
    """A picture in cells. `width` and `height` are the pixels of the whole picture it was made from."""

    columns: int
    rows: int
    width: int
    height: int
    colours: Colours
    lines: tuple[Line, ...]


def fit(width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
    """The largest number of columns and rows that shows a picture undistorted in the given cells.

    A cell counts as twice as high as wide.
    """
    scale = min(columns / width, 2 * rows / height)
    return (
        max(1, min(columns, round(width * scale))),
        max(1, min(rows, round(height * scale / 2))),
    )


def pixels_shown(columns: int, rows: int) -> tuple[int, int]:
    """Width and height in pixels of the largest picture of which such an area still shows each column."""
    return 2 * columns, 4 * rows


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture in pixels, read from its head.

    Raises:
        ImageError: these bytes are no PNG or JPEG picture.
    """
    with _only_image_errors():
        return _open(data).size


def draw(
    data: bytes,
    columns: int,
    rows: int,
    *,
    form: Form = Form.QUADRANTS,
    colours: Colours = Colours.TRUE,
) -> CellPicture:
    """Draw the whole picture as large as it fits.

    Args:
        data: A PNG or JPEG file.
        columns: Cells available in a line.
        rows: Lines available.
        form: Quadrants or half blocks.
        colours: Exact colours or palette indexes.

    Raises:
        ImageError: these bytes are no PNG or JPEG picture.
    """
    with _only_image_errors():
        image = _open(data)
        width, height = image.size
        fitted_columns, fitted_rows = fit(width, height, max(1, columns), max(1, rows))
        dots = _dots(form, fitted_columns, fitted_rows)
        # Lets the JPEG decoder skip what would be averaged away; other formats ignore it.
        image.draft("RGB", dots)
        scaled = _opaque(image).resize(dots, _scaling(), reducing_gap=2.0)
        return _cells(scaled, fitted_columns, fitted_rows, (width, height), form=form, colours=colours)


def draw_part(
    data: bytes,
    corner: tuple[int, int],
    columns: int,
    rows: int,
    *,
    form: Form = Form.QUADRANTS,
    colours: Colours = Colours.TRUE,
) -> CellPicture:
    """Draw what is visible of the picture at one pixel per dot of width, beginning at a pixel.

    A dot is twice as high as wide, so it stands for two pixels one above the other;
    with half blocks a dot is as wide as high.

    Raises:
        ImageError: these bytes are no PNG or JPEG picture.
    """
    with _only_image_errors():
        image = _open(data)
        width, height = image.size
        across, down = _pixels_per_cell(form)
        left = max(0, min(corner[0], width - columns * across))
        top = max(0, min(corner[1], height - rows * down))
        right, bottom = min(width, left + columns * across), min(height, top + rows * down)
        part_columns = max(1, -(-(right - left) // across))
        part_rows = max(1, -(-(bottom - top) // down))
        part = _opaque(image.crop((left, top, right, bottom)))
        scaled = part.resize(_dots(form, part_columns, part_rows), _scaling())
        return _cells(scaled, part_columns, part_rows, (width, height), form=form, colours=colours)


def full_cells(width: int, height: int, form: Form = Form.QUADRANTS) -> tuple[int, int]:
    """Columns and rows of a picture drawn at one pixel per dot of width."""
    across, down = _pixels_per_cell(form)
    return -(-width // across), -(-height // down)


def to_png(data: bytes) -> bytes:
    """The picture as a PNG file; a PNG picture is returned as it came.

    Raises:
        ImageError: these bytes are no PNG or JPEG picture.
    """
    with _only_image_errors():
        image = _open(data)
        image.load()
        if image.format == "PNG":
            return data
        output = BytesIO()
        image.save(output, "PNG")
        return output.getvalue()


def pixels(
    data: bytes, width: int, height: int, corner: tuple[int, int] | None = None
) -> tuple["Image.Image", tuple[int, int]]:
    """The picture for terminals that draw pixels: all of it as large as it fits, or a part of it 1:1.

    Args:
        data: A PNG or JPEG file.
        width: Pixels available in a line.
        height: Lines of pixels available.
        corner: Where the part begins; without it the whole picture is scaled to fit.

    Returns:
        An RGB image, and the width and height of the whole picture.

    Raises:
        ImageError: these bytes are no PNG or JPEG picture.
    """
    with _only_image_errors():
        image = _open(data)
        size = image.size
        if corner is not None:
            left = max(0, min(corner[0], size[0] - width))
            top = max(0, min(corner[1], size[1] - height))
            box = (left, top, min(size[0], left + width), min(size[1], top + height))
            return _opaque(image.crop(box)), size
        scale = min(width / size[0], height / size[1])
        fitted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        image.draft("RGB", fitted)
        return _opaque(image).resize(fitted, _scaling() if scale < 1 else None, reducing_gap=2.0), size


# ------------------------------------------------------------------ reading


class _only_image_errors:  # noqa: N801  reads as a statement, like contextlib's own
    """Turns what Pillow's decoders raise on damaged files into `ImageError`."""

    _DAMAGED: Final = (
        ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, SyntaxError, TypeError,
        ValueError, Warning, struct.error, zlib.error,
    )  # fmt: skip

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        if error is None or isinstance(error, ImageError):
            return
        from PIL import Image

        if isinstance(error, (*self._DAMAGED, Image.DecompressionBombError)):
            raise ImageError("the picture is damaged or of a kind that is not understood") from error


def _open(data: bytes) -> "Image.Image":
    from PIL import Image

    if not data:
        raise ImageError("the picture is empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"the picture is larger than {MAX_BYTES >> 20} MiB")
    # A warning would be printed into the middle of the console: refuse instead.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"the picture has {width}x{height} pixels, more than can be shown")
    return image


def _opaque(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    return image.convert("RGB")


def _scaling() -> Any:
    from PIL import Image

    # Averages what falls on a dot and, unlike sharper filters, draws no light edges around windows.
    return Image.Resampling.BOX


def _dots(form: Form, columns: int, rows: int) -> tuple[int, int]:
    return (2 * columns if form is Form.QUADRANTS else columns), 2 * rows


def _pixels_per_cell(form: Form) -> tuple[int, int]:
    return (2, 4) if form is Form.QUADRANTS else (1, 2)


# ------------------------------------------------------------------ dots to cells


def _cells(
    dots: "Image.Image",
    columns: int,
    rows: int,
    size: tuple[int, int],
    *,
    form: Form,
    colours: Colours,
) -> CellPicture:
    if form is Form.QUADRANTS:
        shapes, foreground, background = _two_colours(dots)
    else:
        foreground, background = _every_second(dots, 1, 2, 0, 0), _every_second(dots, 1, 2, 0, 1)
        shapes = bytes([_QUADRANTS.index("▀")]) * (columns * rows)
    fore, back = _colour_values(foreground, colours), _colour_values(background, colours)
    lines = tuple(
        tuple(_runs(shapes[start:end], fore[start:end], back[start:end]))
        for start, end in ((row * columns, (row + 1) * columns) for row in range(rows))
    )
    return CellPicture(columns, rows, *size, colours, lines)


def _every_second(image: "Image.Image", step_x: int, step_y: int, x: int, y: int) -> "Image.Image":
    """The dots at one place of each cell, as an image of one pixel per cell."""
    from PIL import Image

    size = (image.width // step_x, image.height // step_y)
    # Samples are taken at pixel centres: (0.5 * step + offset) must land inside the wanted dot.
    matrix = (step_x, 0, x - step_x / 2 + 0.5, 0, step_y, y - step_y / 2 + 0.5)
    return image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def _two_colours(dots: "Image.Image") -> tuple[bytes, "Image.Image", "Image.Image"]:
    """For each cell the shape and the two colours with the least squared error.

    All cells at once, as arithmetic on images of one pixel per cell: parting four dots in two
    groups gains the squared distance of the group means, weighted by the group sizes, and the
    best of the seven ways gains most. Going through the cells in Python takes ten times as long.
    """
    from PIL import Image, ImageMath

    corners = [_every_second(dots, 2, 2, x, y) for y in (0, 1) for x in (0, 1)]
    bands = [corner.split() for corner in corners]
    gains = [_gain(partition, bands) for partition in _PARTITIONS]
    best = gains[0]
    for gain in gains[1:]:
        best = ImageMath.lambda_eval(lambda a: a["max"](a["x"], a["y"]), x=best, y=gain)
    mean = _mean([0, 1, 2, 3], corners)
    foreground, background = mean.copy(), mean.copy()
    shape = Image.new("L", mean.size, 0)
    for partition, gain in zip(_PARTITIONS, gains, strict=True):
        chosen = ImageMath.lambda_eval(
            lambda a: a["convert"](((a["gain"] >= a["best"]) & (a["gain"] > 0)) * 255, "L"),
            gain=gain,
            best=best,
        )
        foreground.paste(_mean([dot for dot in range(4) if partition >> dot & 1], corners), mask=chosen)
        background.paste(_mean([dot for dot in range(4) if not partition >> dot & 1], corners), mask=chosen)
        shape.paste(partition, mask=chosen)
    return shape.tobytes(), foreground, background


def _gain(partition: int, bands: list[tuple["Image.Image", ...]]) -> "Image.Image":
    """Twelve times what this parting of the four dots takes off the squared error of one colour."""
    from PIL import ImageMath

    inside = [dot for dot in range(4) if partition >> dot & 1]
    images = {f"{'rgb'[band]}{dot}": bands[dot][band] for dot in range(4) for band in range(3)}

    def squared(a: dict[str, Any]) -> Any:
        total: Any = None
        for band in "rgb":
            whole = a[f"{band}0"] + a[f"{band}1"] + a[f"{band}2"] + a[f"{band}3"]
            # One against three: |4d - sum|^2 / 12. Two against two: |2(d + e) - sum|^2 / 4.
            if len(inside) == 1:
                distance = a[f"{band}{inside[0]}"] * 4 - whole
                square = distance * distance
            else:
                distance = (a[f"{band}{inside[0]}"] + a[f"{band}{inside[1]}"]) * 2 - whole
                square = distance * distance * 3
            total = square if total is None else total + square
        return total

    result: Image.Image = ImageMath.lambda_eval(squared, **images)
    return result


def _mean(which: list[int], corners: list["Image.Image"]) -> "Image.Image":
    from PIL import Image

    mean = corners[which[0]]
    for count, dot in enumerate(which[1:], start=2):
        mean = Image.blend(mean, corners[dot], 1 / count)
    return mean


# ------------------------------------------------------------------ colours and runs


def _colour_values(image: "Image.Image", colours: Colours) -> list[int]:
    if colours is Colours.TRUE:
        raw = image.tobytes()
        return [red << 16 | green << 8 | blue for red, green, blue in zip(*[iter(raw)] * 3, strict=True)]
    from PIL import Image

    nearest = image.quantize(palette=_palette(), dither=Image.Dither.NONE).tobytes()
    return list(nearest.translate(_palette_index()))


@cache
def _palette() -> "Image.Image":
    """The colour cube and the greys of the 256-colour palette, filled up with black."""
    from PIL import Image

    palette = Image.new("P", (1, 1))
    flat = [part for index in range(_FIRST_PALETTE_INDEX, 256) for part in palette_rgb(index)]
    palette.putpalette(flat + [0] * (768 - len(flat)))
    return palette


@cache
def _palette_index() -> bytes:
    places = 256 - _FIRST_PALETTE_INDEX
    return bytes(_FIRST_PALETTE_INDEX + (place if place < places else 0) for place in range(256))


def palette_rgb(index: int) -> tuple[int, int, int]:
    """Red, green and blue of an index from 16 to 255 of the 256-colour palette."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return grey, grey, grey
    steps = (0, 95, 135, 175, 215, 255)
    cube = index - _FIRST_PALETTE_INDEX
    return steps[cube // 36], steps[cube // 6 % 6], steps[cube % 6]


def _runs(shapes: bytes, fore: list[int], back: list[int]) -> Iterator[Run]:
    """Cells of one line joined into runs, colours exchanged or shared where that makes runs longer."""
    text: list[str] = []
    run_fore, run_back = _ANY, _ANY
    for shape, foreground, background in zip(shapes, fore, back, strict=True):
        if not shape or foreground == background:
            shape, foreground = 0, _ANY  # noqa: PLW2901  one colour: the other may be what the neighbours need
        if background == run_back and (foreground == run_fore or _ANY in (foreground, run_fore)):
            text.append(_QUADRANTS[shape])
            run_fore = max(run_fore, foreground)
        elif text and foreground in (run_back, _ANY) and run_fore in (background, _ANY):
            text.append(_QUADRANTS[_FULL - shape])
            run_fore = background
        else:
            if text:
                yield Run("".join(text), run_back if run_fore == _ANY else run_fore, run_back)
            text, run_fore, run_back = [_QUADRANTS[shape]], foreground, background
    if text:
        yield Run("".join(text), run_back if run_fore == _ANY else run_fore, run_back)
