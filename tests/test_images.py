"""Pictures become the cells one would draw by hand, and nothing but `ImageError` comes out of bad bytes."""

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from dcvtui import images
from dcvtui.images import CellPicture, Colours, Form, ImageError

BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
Rgb = tuple[int, int, int]


def png(image: Image.Image) -> bytes:
    output = BytesIO()
    image.save(output, "PNG")
    return output.getvalue()


def jpeg(image: Image.Image) -> bytes:
    output = BytesIO()
    image.save(output, "JPEG", quality=95)
    return output.getvalue()


def dots_picture(rows: list[list[Rgb]]) -> bytes:
    """A PNG in which each given dot is two pixels wide and four high, as a quadrant shows it."""
    image = Image.new("RGB", (len(rows[0]), len(rows)))
    image.putdata([dot for row in rows for dot in row])
    return png(image.resize((image.width * 2, image.height * 4), Image.Resampling.NEAREST))


def rgb(value: int, colours: Colours) -> Rgb:
    if colours is Colours.PALETTE:
        return images.palette_rgb(value)
    return value >> 16, value >> 8 & 255, value & 255


def painted(picture: CellPicture, form: Form) -> Image.Image:
    """What a terminal would show of the cells, one pixel per dot."""
    across = 2 if form is Form.QUADRANTS else 1
    image = Image.new("RGB", (picture.columns * across, picture.rows * 2))
    for y, line in enumerate(picture.lines):
        x = 0
        for run in line:
            fore, back = rgb(run.foreground, picture.colours), rgb(run.background, picture.colours)
            for character in run.text:
                bits = QUADRANTS.index(character)
                for dot in range(4):
                    if across == 2 or dot in (0, 2):
                        place = (x * across + dot % across, y * 2 + dot // 2)
                        image.putpixel(place, fore if bits >> dot & 1 else back)
                x += 1
        assert x == picture.columns
    return image


def desktop(width: int = 960, height: int = 540) -> Image.Image:
    """Something like a screen: a gradient, windows with edges, a photograph."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.rectangle(
        (width // 10, height // 10, width // 2, height // 2), fill=(240, 240, 245), outline=(20, 60, 120)
    )
    draw.rectangle((width // 3, height // 3, width * 9 // 10, height * 8 // 10), fill=(30, 34, 40))
    for line in range(10):
        draw.text(
            (width // 3 + 10, height // 3 + 10 + line * 12),
            "user@host:~$ make all the things",
            fill=(120, 220, 140),
        )
    photo = Image.effect_mandelbrot((width // 4, height // 4), (-2, -1, 1, 1), 60).convert("RGB")
    image.paste(photo, (width // 8, height // 6))
    return image


# ------------------------------------------------------------------ fitting


@pytest.mark.parametrize(
    ("size", "cells", "expected"),
    [
        ((1920, 1080), (120, 34), (120, 34)),
        ((1920, 1080), (120, 20), (71, 20)),
        ((1080, 1920), (120, 34), (38, 34)),
        ((100, 100), (40, 40), (40, 20)),
        ((10_000, 1), (80, 24), (80, 1)),
        ((1, 10_000), (80, 24), (1, 24)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_fit_keeps_proportions_in_cells_of_one_to_two(
    size: tuple[int, int], cells: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert images.fit(*size, *cells) == expected


def test_pixels_shown_is_what_a_fitted_picture_uses_up() -> None:
    assert images.pixels_shown(120, 34) == (240, 136)
    assert images.fit(240, 136, 120, 34) == (120, 34)


def test_full_cells_show_one_pixel_per_dot() -> None:
    assert images.full_cells(1920, 1080) == (960, 270)
    assert images.full_cells(5, 5) == (3, 2)
    assert images.full_cells(1920, 1080, Form.HALF_BLOCKS) == (1920, 540)


# ------------------------------------------------------------------ known pictures, known cells


@pytest.mark.parametrize("bits", range(16))
def test_each_two_coloured_cell_is_drawn_exactly(bits: int) -> None:
    colours = [RED if bits >> dot & 1 else BLUE for dot in range(4)]
    picture = images.draw(dots_picture([colours[:2], colours[2:]]), 1, 1)
    assert (picture.columns, picture.rows) == (1, 1)
    image = painted(picture, Form.QUADRANTS)
    assert [image.getpixel((dot % 2, dot // 2)) for dot in range(4)] == colours


def test_cells_of_one_colour_are_blanks_in_one_run() -> None:
    picture = images.draw(png(Image.new("RGB", (40, 40), RED)), 10, 5)
    assert [[(run.text, run.background) for run in line] for line in picture.lines] == [
        [(" " * 10, 0xFF0000)]
    ] * 5


def test_a_window_on_a_ground_is_three_runs_at_most() -> None:
    """Blocks change colours round so that neighbours share them: bytes count on a far line."""
    rows = [[WHITE] * 3 + [BLACK] * 4 + [WHITE] * 3 for _ in range(4)]
    picture = images.draw(dots_picture(rows), 5, 2)
    assert [run.text for run in picture.lines[0]] == [" ▐█▌ "]
    assert painted(picture, Form.QUADRANTS).getpixel((3, 0)) == BLACK


def test_three_colours_keep_the_pair_that_differs_most() -> None:
    picture = images.draw(dots_picture([[WHITE, WHITE], [(10, 10, 10), (30, 30, 30)]]), 1, 1)
    (run,) = picture.lines[0]
    assert (run.text, run.foreground, run.background) in (
        ("▀", 0xFFFFFF, 0x141414),
        ("▄", 0x141414, 0xFFFFFF),
    )


def test_half_blocks_show_two_dots_a_cell() -> None:
    image = Image.new("RGB", (2, 2))
    image.putdata([RED, BLUE, BLUE, BLUE])
    picture = images.draw(png(image), 2, 1, form=Form.HALF_BLOCKS)
    assert painted(picture, Form.HALF_BLOCKS).tobytes() == image.tobytes()
    used = "".join(run.text for line in picture.lines for run in line)
    assert set(used) <= set(" ▀▄█")


@pytest.mark.parametrize("form", list(Form))
def test_half_blocks_never_use_quadrants(form: Form) -> None:
    picture = images.draw(png(desktop()), 60, 20, form=form)
    used = {character for line in picture.lines for run in line for character in run.text}
    assert used <= set(QUADRANTS if form is Form.QUADRANTS else " ▀▄█")


def test_palette_colours_are_indexes_that_no_theme_changes() -> None:
    picture = images.draw(png(desktop()), 60, 20, colours=Colours.PALETTE)
    values = {value for line in picture.lines for run in line for value in (run.foreground, run.background)}
    assert values
    assert min(values) >= 16
    assert max(values) <= 255


@pytest.mark.parametrize(
    ("colour", "index"), [(BLACK, 16), (WHITE, 231), (RED, 196), ((95, 135, 175), 67), ((58, 58, 58), 237)]
)
def test_colours_of_the_palette_are_met_exactly(colour: Rgb, index: int) -> None:
    picture = images.draw(png(Image.new("RGB", (8, 8), colour)), 4, 2, colours=Colours.PALETTE)
    assert images.palette_rgb(picture.lines[0][0].background) == colour
    assert picture.lines[0][0].background == index


def test_transparent_places_are_black() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert images.draw(png(image), 4, 2).lines[0][0].background == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_drawn(mode: str) -> None:
    picture = images.draw(png(Image.new(mode, (16, 16))), 4, 2)
    assert (picture.columns, picture.rows) == (4, 2)


# ------------------------------------------------------------------ how near the cells come


def error(image: Image.Image, wanted: Image.Image) -> float:
    """Root of the mean squared difference, of 255."""
    bands = ImageStat.Stat(ImageChops.difference(image, wanted)).rms
    return float((sum(band * band for band in bands) / len(bands)) ** 0.5)


@pytest.mark.parametrize(("colours", "bound"), [(Colours.TRUE, 9.0), (Colours.PALETTE, 18.0)])
def test_quadrants_come_near_a_plain_scaling(colours: Colours, bound: float) -> None:
    screen = desktop()
    picture = images.draw(png(screen), 120, 34, colours=colours)
    wanted = screen.resize((picture.columns * 2, picture.rows * 2), Image.Resampling.BOX)
    assert error(painted(picture, Form.QUADRANTS), wanted) < bound


def test_quadrants_beat_half_blocks_at_the_resolution_of_quadrants() -> None:
    screen = desktop()
    quadrants = images.draw(png(screen), 100, 28)
    halves = images.draw(png(screen), 100, 28, form=Form.HALF_BLOCKS)
    wanted = screen.resize((quadrants.columns * 2, quadrants.rows * 2), Image.Resampling.BOX)
    half_image = painted(halves, Form.HALF_BLOCKS).resize(wanted.size, Image.Resampling.NEAREST)
    assert error(painted(quadrants, Form.QUADRANTS), wanted) < error(half_image, wanted)


def test_no_pair_of_colours_is_better_than_the_chosen_one() -> None:
    """Against trying all fifteen partitions, cell by cell, on random dots."""
    chance = random.Random(7)  # noqa: S311  the same dots in each run
    rows = [[tuple(chance.randrange(256) for _ in range(3)) for _ in range(20)] for _ in range(10)]
    picture = images.draw(dots_picture(rows), 10, 5)  # type: ignore[arg-type]  # tuples of three by construction
    image = painted(picture, Form.QUADRANTS)
    for y in range(5):
        for x in range(10):
            cell = [rows[2 * y + dot // 2][2 * x + dot % 2] for dot in range(4)]
            shown = [image.getpixel((2 * x + dot % 2, 2 * y + dot // 2)) for dot in range(4)]
            best = min(_squared(cell, _best_of(cell, bits)) for bits in range(1, 16))
            # Mean colours are rounded to whole steps, up to one in each of twelve values.
            assert _squared(cell, shown) <= best + 12 * 20  # type: ignore[arg-type]


def _best_of(cell: list[tuple[int, ...]], bits: int) -> list[tuple[float, ...]]:
    groups = [[cell[dot] for dot in range(4) if (bits >> dot & 1) == side] for side in (0, 1)]
    means = [
        tuple(sum(part) / len(group) for part in zip(*group, strict=True)) if group else ()
        for group in groups
    ]
    return [means[bits >> dot & 1] for dot in range(4)]


def _squared(cell: list[tuple[int, ...]], shown: list[tuple[float, ...]]) -> float:
    return sum(
        (wanted - got) ** 2
        for a, b in zip(cell, shown, strict=True)
        for wanted, got in zip(a, b, strict=True)
    )


def test_jpeg_is_drawn_like_the_png_of_the_same_screen() -> None:
    screen = desktop(1920, 1080)
    from_png, from_jpeg = images.draw(png(screen), 80, 22), images.draw(jpeg(screen), 80, 22)
    assert (from_jpeg.width, from_jpeg.height) == (1920, 1080)
    assert error(painted(from_jpeg, Form.QUADRANTS), painted(from_png, Form.QUADRANTS)) < 12


# ------------------------------------------------------------------ parts and files


def test_a_part_is_drawn_pixel_by_pixel() -> None:
    image = Image.new("RGB", (100, 100), BLUE)
    image.paste(RED, (40, 40, 60, 60))
    picture = images.draw_part(png(image), (40, 40), 10, 5)
    assert painted(picture, Form.QUADRANTS).getcolors() == [(200, RED)]


def test_a_part_stays_inside_the_picture() -> None:
    image = Image.new("RGB", (100, 80), BLUE)
    image.paste(RED, (90, 72, 100, 80))
    picture = images.draw_part(png(image), (10_000, 10_000), 20, 10)
    assert (picture.columns, picture.rows) == (20, 10)
    assert painted(picture, Form.QUADRANTS).getpixel((39, 19)) == RED
    small = images.draw_part(png(image), (-5, -5), 200, 100)
    assert (small.columns, small.rows) == (50, 20)


def test_a_png_is_saved_as_it_came_and_a_jpeg_becomes_one() -> None:
    data = png(desktop(64, 64))
    assert images.to_png(data) is data
    converted = images.to_png(jpeg(desktop(64, 64)))
    assert converted.startswith(b"\x89PNG")
    assert images.size_of(converted) == (64, 64)


# ------------------------------------------------------------------ bad bytes


def header_only(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
        + b"\x00\x00\x00\x00IEND\xaeB`\x82"
    )  # fmt: skip


def garbage() -> Iterator[bytes]:
    yield from (
        b"",
        b"\x00",
        b"not a picture",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a" + bytes(40),
    )
    yield header_only(0, 0)
    yield header_only(4, 4)
    yield header_only(9_500, 9_500)
    yield header_only(30_000, 30_000)
    yield header_only(2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize("data", list(garbage()), ids=lambda data: repr(data[:12]))
def test_bytes_that_are_no_picture_are_one_error(data: bytes) -> None:
    for read in (lambda: images.draw(data, 10, 5), lambda: images.to_png(data)):
        with pytest.raises(ImageError, match="picture"):
            read()


def test_damaged_files_are_drawn_or_refused_and_nothing_else() -> None:
    chance = random.Random(3)  # noqa: S311  the same damage in each run
    originals = [png(desktop(96, 64)), jpeg(desktop(96, 64)), png(desktop(96, 64).quantize(16))]
    for _ in range(600):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randrange(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        for read in (images.size_of, images.to_png, lambda data: images.draw(data, 12, 4)):
            try:
                read(bytes(data))
            except ImageError:
                continue
