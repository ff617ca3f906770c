"""Drawn lines of text fields, made safe: what a field holds is never sent raw to the terminal.

A field is filled in with names from the fleet, or with a paste from anywhere. It
must keep them as they are, since they are sent; only what is drawn is changed.
"""

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from dcvtui.api.text import visible

_STANDS_FOR = "?"
_REVERSE = Style(reverse=True)


def safe(strip: Strip) -> Strip:
    """The strip with each character that could steer the terminal as a reversed `?`, as wide as it was.

    One cell for one character: codes, as everywhere else, would put the cursor in the wrong place.
    """
    if all(visible(segment.text) == segment.text for segment in strip):
        return strip
    segments = [part for segment in strip for part in _parts(segment)]
    return Strip(segments).adjust_cell_length(strip.cell_length)


def _parts(segment: Segment) -> list[Segment]:
    style = segment.style or Style()
    return [
        Segment(character, style)
        if visible(character) == character
        else Segment(_STANDS_FOR, style + _REVERSE)
        for character in segment.text
    ]
