"""Shares and courses of numbers as a few characters: a bar, and a row of small columns.

Pure, and equally readable without colour and without UTF-8.
"""

import math
from collections.abc import Sequence

_FILLED, _EMPTY = ("━", "#"), ("─", ".")
_STEPS, _ASCII_STEPS = "▁▂▃▄▅▆▇█", "_.:-=+*#"


def share(used: float | None, total: float | None) -> float | None:
    """The part of a total that is used; None where one of both is not known or there is nothing to use."""
    if used is None or not total or total < 0 or not math.isfinite(used):
        return None
    return used / total


def bar(part: float, cells: int, *, ascii_only: bool = False) -> str:
    """A bar that is filled in part; more than all of it is full.

    A little is never drawn as nothing, and not quite all never as all.
    """
    filled = filled_cells(part, cells)
    return _FILLED[ascii_only] * filled + _EMPTY[ascii_only] * (cells - filled)


def filled_cells(part: float, cells: int) -> int:
    """How many cells of a bar are filled."""
    filled = round(min(1.0, max(0.0, part)) * cells)
    if 0 < part < 1 and cells > 1:
        filled = min(max(filled, 1), cells - 1)
    return filled


def columns(values: Sequence[float | None], top: float, *, ascii_only: bool = False) -> str:
    """One small column for each value, a blank where there is none.

    Args:
        values: what to draw, none of them negative.
        top: the value of a full column.
        ascii_only: draw with signs that every terminal has.
    """
    steps = _ASCII_STEPS if ascii_only else _STEPS
    last = len(steps) - 1

    def step(value: float | None) -> str:
        if value is None:
            return " "
        return steps[min(last, max(0, round(value / top * last)))] if top > 0 else steps[0]

    return "".join(map(step, values))
