"""Display layouts as text: `1280x720`, `800x600+0+0,800x600+800+0`.

The form and the limits are those of the DCV server's `set-display-layout`
(DCV server specification, 2.7 and 4.4). Pure: what a display does with it is in
`x_layout`.
"""

import re
from dataclasses import dataclass

MOST_HEADS = 4
SMALLEST = (640, 480)
LARGEST = (4096, 2160)

_HEAD = re.compile(r"([0-9]{1,5})x([0-9]{1,5})(?:([+-][0-9]{1,5})([+-][0-9]{1,5}))?")


class LayoutError(ValueError):
    """No layout that a session can have; the text says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """One monitor of a layout, in pixels. The first of a layout is the primary one."""

    width: int
    height: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}{self.x:+d}{self.y:+d}"


def read_layout(text: str) -> tuple[Head, ...]:
    """Read a layout; heads without a place stand to the right of the one before.

    Returns:
        The heads as told, the primary one first, moved so that the leftmost and topmost are at 0.

    Raises:
        LayoutError: the text is no layout, or one that the limits do not allow.
    """
    heads: list[Head] = []
    for part in text.split(","):
        match = _HEAD.fullmatch(part.strip())
        if match is None:
            raise LayoutError(f"{part.strip()!r} is not a size such as 1280x720 or 800x600+1280+0")
        width, height = int(match[1]), int(match[2])
        if match[3] is None:
            x, y = max((head.x + head.width for head in heads), default=0), 0
        else:
            x, y = int(match[3]), int(match[4])
        heads.append(Head(width, height, x, y))
    _check(heads)
    left, top = min(head.x for head in heads), min(head.y for head in heads)
    return tuple(Head(head.width, head.height, head.x - left, head.y - top) for head in heads)


def write_layout(heads: tuple[Head, ...]) -> str:
    """A layout as text that `read_layout` reads."""
    return ",".join(map(str, heads))


def size_of(heads: tuple[Head, ...]) -> tuple[int, int]:
    """Width and height of a screen that holds all heads."""
    return max(head.x + head.width for head in heads), max(head.y + head.height for head in heads)


def _check(heads: list[Head]) -> None:
    if len(heads) > MOST_HEADS:
        raise LayoutError(f"a session has at most {MOST_HEADS} monitors, not {len(heads)}")
    for head in heads:
        if head.width < SMALLEST[0] or head.height < SMALLEST[1]:
            raise LayoutError(f"{head} is smaller than {SMALLEST[0]}x{SMALLEST[1]}")
        if head.width > LARGEST[0] or head.height > LARGEST[1]:
            raise LayoutError(f"{head} is larger than {LARGEST[0]}x{LARGEST[1]}")
    for number, one in enumerate(heads):
        for other in heads[number + 1 :]:
            if _overlap(one, other):
                raise LayoutError(f"{one} and {other} overlap")


def _overlap(one: Head, other: Head) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )
