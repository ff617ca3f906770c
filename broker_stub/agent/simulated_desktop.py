"""Draws what a simulated session shows: wallpaper, panel with a clock, windows at work.

A picture is a function of the session and the moment, so tests and tools can
rely on it; a wall of many redraws often, so each is drawn at the size asked for.
"""

import colorsys
import math
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from broker_stub.agent.backend import Image, ImageFormat
from broker_stub.agent.pictures import encode, fit

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[int, int, int]

_SIZES = ((1920, 1080), (1920, 1080), (2560, 1440), (1680, 1050))
_STEP_S = 2
"""A desktop changes at this pace; in between two pictures are equal."""
_SMALLEST_LETTERS = 7
"""Height in pixels below which text is drawn as plain lines."""
_WORDS = (
    "solve step", "residual", "mesh refined", "writing frame", "loading part", "checkpoint", "iteration",
    "warning: skewed cell", "ok", "rendering tile", "reading survey", "fit converged", "queue empty",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Desktop:
    """What is on the screen of one session, apart from the time."""

    seed: int
    title: str
    owner: str
    is_windows: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Resolution of the display."""
        return _SIZES[self.seed % len(_SIZES)]


@dataclass(frozen=True, slots=True)
class _Box:
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A picture being drawn; `bar` is the height of the panel, the unit of everything else."""

    pen: "ImageDraw"
    width: int
    height: int
    hue: float

    @property
    def bar(self) -> int:
        return max(3, self.height // 22)

    def write(self, at: tuple[int, int], text: str, size: int, color: Color, *, right: bool = False) -> None:
        """Text, or a line of its length where letters would be too small to read."""
        if size >= _SMALLEST_LETTERS:
            self.pen.text(at, text, fill=color, font=_font(size), anchor="ra" if right else "la")
            return
        length = max(1, len(text) * max(1, size) // 2)
        left = at[0] - length if right else at[0]
        self.pen.rectangle((left, at[1], left + length, at[1] + max(0, size // 2 - 1)), fill=color)

    def box(self, random: Random, left_share: float, share_x: float, share_y: float) -> _Box:
        """A place for a window near `left_share`; all shares are of the screen."""
        width, height = int(self.width * share_x), int(self.height * share_y)
        left = int(self.width * (left_share + 0.12 * random.random()))
        top = self.bar + int((self.height - height - 2 * self.bar) * random.random())
        return _Box(left, top, width, height)


def take_screenshot(
    desktop: Desktop,
    moment: datetime,
    max_width: int | None,
    max_height: int | None,
    image_format: ImageFormat,
) -> Image:
    """Draw a desktop as it looks at a moment.

    Args:
        desktop: Whose desktop.
        moment: When; the clock shows it, and what the windows show depends on it.
        max_width: As in `Backend.screenshot`.
        max_height: As in `Backend.screenshot`.
        image_format: As in `Backend.screenshot`.
    """
    width, height = fit(*desktop.size, max_width, max_height)
    data = encode(draw(desktop, moment, width, height), image_format)
    return Image(
        format=image_format, primary=True, creation_time=moment, data=data, width=width, height=height
    )


def draw(desktop: Desktop, moment: datetime, width: int, height: int) -> "Picture":
    """The picture itself, of exactly this size."""
    from PIL import ImageDraw  # noqa: PLC0415  only who draws pays for Pillow

    random = Random(desktop.seed)  # noqa: S311  looks, not secrets
    hue = random.random()
    picture = _wallpaper(round(hue, 3), width, height).copy()
    canvas = _Canvas(ImageDraw.Draw(picture), width, height, hue)
    tick = int(moment.timestamp()) // _STEP_S
    _name_plate(canvas, desktop)
    _text_window(canvas, canvas.box(random, 0.02, 0.44, 0.5), random, tick)
    _plot_window(canvas, canvas.box(random, 0.46, 0.38, 0.42), random, tick)
    _panel(canvas, desktop, moment)
    return picture


@lru_cache(maxsize=64)
def _wallpaper(hue: float, width: int, height: int) -> "Picture":
    from PIL import Image as Pictures  # noqa: PLC0415  as above
    from PIL import ImageOps  # noqa: PLC0415  as above

    shade = Pictures.linear_gradient("L").resize((width, height))
    return ImageOps.colorize(shade, _rgb(hue, 0.55, 0.72), _rgb(hue + 0.12, 0.75, 0.22))


def _rgb(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


@lru_cache(maxsize=64)
def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont as Fonts  # noqa: PLC0415  as above

    return Fonts.load_default(size)


def _name_plate(canvas: _Canvas, desktop: Desktop) -> None:
    size, bar = max(8, canvas.height // 14), canvas.bar
    right, base = canvas.width - bar, canvas.height - 3 * bar
    canvas.write((right, base - size), desktop.title, size, (255, 255, 255), right=True)
    canvas.write((right, base), desktop.owner, max(7, size * 2 // 3), (225, 225, 235), right=True)


def _frame(canvas: _Canvas, box: _Box, ground: Color) -> int:
    """A window with its title bar; answers the height of that bar."""
    bar = max(2, box.height // 12)
    right, bottom = box.left + box.width, box.top + box.height
    canvas.pen.rectangle((box.left, box.top, right, bottom), fill=ground, outline=(40, 44, 52))
    canvas.pen.rectangle((box.left, box.top, right, box.top + bar), fill=_rgb(canvas.hue + 0.5, 0.35, 0.45))
    dot, top = max(1, bar // 2), box.top + bar // 4
    for number in range(3):
        left = right - (number + 1) * (dot + max(1, dot // 2))
        canvas.pen.rectangle((left, top, left + dot - 1, top + dot - 1), fill=(220, 220, 220))
    return bar


def _text_window(canvas: _Canvas, box: _Box, random: Random, tick: int) -> None:
    bar = _frame(canvas, box, (24, 26, 32))
    size = max(2, box.height // 16)
    pitch = size + max(1, size // 3)
    key = random.randrange(1000)
    for row in range((box.height - bar) // pitch - 1):
        # The number of a line decides its words, so the window scrolls by one line per step.
        line = tick + row
        word = _WORDS[(line * 7 + key) % len(_WORDS)]
        text = f"{line % 10_000:04} {word} {(line * 7919 + key) % 1000 / 1000:.3f}"
        color = (240, 180, 90) if word.startswith("warning") else (150, 220, 160)
        canvas.write((box.left + size, box.top + bar + size // 2 + row * pitch), text, size, color)


def _plot_window(canvas: _Canvas, box: _Box, random: Random, tick: int) -> None:
    bar = _frame(canvas, box, (245, 245, 240))
    left, top = box.left + box.width // 12, box.top + bar + box.height // 12
    right, bottom = box.left + box.width * 11 // 12, box.top + box.height * 11 // 12
    axes = (left, top, left, bottom, right, bottom)
    canvas.pen.line(axes, fill=(90, 90, 90), width=max(1, box.height // 160))
    middle, reach = (top + bottom) / 2, (bottom - top) / 2.4
    steps = max(8, min(60, (right - left) // 3))
    for curve in range(2):
        speed, phase = random.uniform(3, 15), random.uniform(0, 6) + tick * 0.35
        points = []
        for step in range(steps + 1):
            part = step / steps
            wave = math.sin(phase + speed * part) * (0.4 + 0.6 * part)
            points.append((left + (right - left) * part, middle - reach * wave))
        color = _rgb(canvas.hue + 0.3 + 0.25 * curve, 0.9, 0.75)
        canvas.pen.line(points, fill=color, width=max(1, box.height // 90))


def _panel(canvas: _Canvas, desktop: Desktop, moment: datetime) -> None:
    bar = canvas.bar
    top = canvas.height - bar if desktop.is_windows else 0
    canvas.pen.rectangle((0, top, canvas.width, top + bar), fill=(28, 30, 38))
    canvas.pen.rectangle((bar // 3, top + bar // 4, bar, top + bar * 3 // 4), fill=_rgb(0.58, 0.7, 0.95))
    size = max(2, bar * 2 // 3)
    base = top + (bar - size) // 2
    canvas.write((bar * 2, base), f"{desktop.owner}  {desktop.title}", size, (220, 220, 220))
    clock = moment.strftime("%H:%M:%S")
    canvas.write((canvas.width - bar // 2, base), clock, size, (255, 255, 255), right=True)
