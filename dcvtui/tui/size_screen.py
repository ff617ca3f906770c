"""One sentence in place of a view for which the terminal is too small; growing brings the view back."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
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

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit_console", "quit", id="any.quit-console"),
    ]

    def __init__(self, needed: Size = SMALLEST) -> None:
        """A screen that stays until the terminal has the size needed."""
        super().__init__()
        self._needed = needed
        self._is_going = False
        self._said = ""

    def say(self, text: str) -> None:
        """Say something until the next size or key."""
        self._said = text
        self._tell()

    def compose(self) -> ComposeResult:
        """The sentence."""
        yield Words()

    def on_screen_resume(self) -> None:
        """Go when what covered this screen is gone and the window has grown meanwhile."""
        if not is_too_small(self.app.size, self._needed):
            self._go()

    def on_resize(self, event: events.Resize) -> None:
        """Go when the window is large enough, else name its size."""
        if not is_too_small(event.size, self._needed):
            self._go()
            return
        self._tell()

    def _tell(self) -> None:
        has, needs = self.app.size, self._needed
        said = f"\n\n{self._said}" if self._said else ""
        self.query_one(Words).show(
            f"This terminal is {has.width}x{has.height}; the console needs {needs.width}x{needs.height}. "
            f"Enlarge the window and it is back; q or ctrl-c leaves.{said}"
        )

    def _go(self) -> None:
        # A window that is being pulled sends several sizes, also while this screen is on its way out;
        # and what came over this screen would be taken away in its place.
        if self.is_active and not self._is_going:
            self._is_going = True
            self.dismiss(None)
