"""Pixels for terminals: what is sent is decoded again and compared with the picture."""

import base64
import re
import time
from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from dcvtui import graphics
from dcvtui.graphics import Pixels, Protocol
from dcvtui.images import ImageError

KITTY = Pixels(Protocol.KITTY, 10, 20)
SIXEL = Pixels(Protocol.SIXEL, 10, 20)


def desktop(width: int, height: int) -> Image.Image:
    """Windows of a few colours, so that a palette can hold them exactly."""
    image = Image.new("RGB", (width, height), (20, 40, 80))
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 8, height // 8, width // 2, height // 2), fill=(220, 220, 220))
    draw.rectangle((width // 3, height // 3, width - 3, height - 2), fill=(200, 60, 20))
    return image


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    output = BytesIO()
    image.save(output, kind)
    return output.getvalue()


def kitty_image(sequence: str) -> tuple[Image.Image, dict[str, str]]:
    """What a terminal puts together from the chunks, and the keys of the first."""
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sequence)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) == sequence
    assert all(len(data) <= 4096 for _, data in chunks)
    assert ["m=1" in keys for keys, _ in chunks] == [True] * (len(chunks) - 1) + [False]
    data = base64.b64decode("".join(data for _, data in chunks))
    keys = dict(pair.split("=") for pair in chunks[0][0].split(","))
    return Image.open(BytesIO(data)).convert("RGB"), keys


def sixel_image(sequence: str) -> Image.Image:
    """What a terminal draws: registers, repeats, `$` back to the margin, `-` to the next six lines."""
    body = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', sequence, re.DOTALL)
    assert body is not None
    image = Image.new("RGB", (int(body[1]), int(body[2])))
    registers: dict[int, tuple[int, ...]] = {}
    x = y = colour = 0
    for part in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([$-])|([?-~])", body[3]):
        if part[1] and part[2]:
            registers[int(part[1])] = tuple(round(int(part[band]) * 2.55) for band in (2, 3, 4))
        elif part[1]:
            colour = int(part[1])
        elif part[7]:
            x, y = 0, y + (6 if part[7] == "-" else 0)
        else:
            dots = ord(part[6] or part[8]) - 63
            for _ in range(int(part[5] or 1)):
                for bit in range(6):
                    if dots >> bit & 1 and y + bit < image.height:
                        image.putpixel((x, y + bit), registers[colour])
                x += 1  # noqa: SIM113  lines begin anew
    return image


def difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_kitty_picture_is_a_png_of_the_pixels_that_fit(kind: str) -> None:
    picture = graphics.draw(png(desktop(1920, 1080), kind), 80, 22, KITTY, number=7)
    image, keys = kitty_image(picture.sequence)
    assert image.size == (782, 440)
    assert (picture.columns, picture.rows, picture.width, picture.height) == (79, 22, 1920, 1080)
    # No answer, or it would come as keys; and the cursor stays where Textual believes it to be.
    assert (keys["a"], keys["f"], keys["i"], keys["q"], keys["C"]) == ("T", "100", "7", "2", "1")


def test_a_kitty_picture_is_taken_away_by_its_number() -> None:
    data = png(desktop(100, 80))
    assert graphics.draw(data, 9, 9, KITTY, number=7).deletion == "\x1b_Ga=d,d=I,i=7,q=2\x1b\\"
    assert graphics.draw(data, 9, 9, SIXEL, number=7).is_wiped_by_cells


@pytest.mark.parametrize("size", [(300, 200), (301, 199), (7, 5)])
def test_a_sixel_picture_decodes_to_what_it_was(size: tuple[int, int]) -> None:
    picture = graphics.draw(png(desktop(*size)), 40, 20, SIXEL, number=1, corner=(0, 0))
    # Registers hold hundredths.
    assert difference(sixel_image(picture.sequence), desktop(*size)) <= 2


def test_a_part_is_shown_pixel_by_pixel_and_stays_within_the_picture() -> None:
    whole = desktop(1000, 800)
    picture = graphics.draw(png(whole), 20, 5, KITTY, number=1, corner=(980, 500))
    image, _ = kitty_image(picture.sequence)
    assert difference(image, whole.crop((800, 500, 1000, 600))) == 0
    assert (picture.columns, picture.rows) == (20, 5)


def test_a_small_picture_is_enlarged_to_what_fits() -> None:
    picture = graphics.draw(png(desktop(40, 30)), 40, 10, KITTY, number=1)
    assert kitty_image(picture.sequence)[0].size == (267, 200)


@pytest.mark.parametrize("pixels", [KITTY, SIXEL])
def test_what_is_no_picture_is_refused(pixels: Pixels) -> None:
    with pytest.raises(ImageError):
        graphics.draw(b"garbage", 10, 10, pixels, number=1)


def test_sixels_are_made_line_by_line_and_not_dot_by_dot() -> None:
    noise = Image.effect_noise((800, 450), 80).convert("RGB")
    data = png(noise)
    began = time.process_time()
    graphics.draw(data, 80, 22, SIXEL, number=1)
    assert time.process_time() - began < 5  # a loop over dots takes many times as long
