"""One sentence in place of a view for which the terminal is too small; growing brings the view back."""

from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import ModalScreen

from dcvtui.tui.panel import Words

SMALLEST = Size(60, 15)
"""What lists and details need."""


def is_too_small(size: Size, needed: Size = SMALLEST) -> bool:
    """Whether a terminal is smaller than a view needs."""
    return size.width < needed.width or size.height < needed.height


class SizeScreen(ModalScreen[None]):
    """Names the size needed, and goes by itself when the window has it."""

    DEFAULT_CSS = """
    SizeScreen { background: $background; padding: 1 2; }
    """

    def __init__(self, needed: Size = SMALLEST) -> None:
        """A screen that stays until the terminal has the size needed."""
        super().__init__()
        self._needed = needed

    def compose(self) -> ComposeResult:
        """The sentence."""
        yield Words()

    def on_resize(self, event: events.Resize) -> None:
        """Go when the window is large enough, else name its size."""
        if not is_too_small(event.size, self._needed):
            # A window that is being pulled sends several sizes, also while this screen is on its way out.
            if self.is_current:
                self.dismiss(None)
            return
        has, needs = event.size, self._needed
        self.query_one(Words).show(
            f"This terminal is {has.width}x{has.height}; the console needs {needs.width}x{needs.height}. "
            "Enlarge the window and it is back; ctrl-c leaves."
        )
