"""What a person would read on the screen of a running application, and the files it is compared with."""

import os
from pathlib import Path
from typing import Any

from textual.app import App

EXPECTED = Path(__file__).parent.parent / "screens"


def screen_text(app: App[Any]) -> str:
    """The visible characters of the screen on top, a line each, without blanks at the ends.

    A dialog's text stands alone, without what shines through from below.
    """
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def assert_screen(app: App[Any], name: str) -> None:
    """Compare the screen with `tests/screens/NAME.txt`; `UPDATE_SCREENS=1` writes it anew."""
    path, text = EXPECTED / f"{name}.txt", screen_text(app)
    if os.environ.get("UPDATE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; UPDATE_SCREENS=1 writes it anew"
