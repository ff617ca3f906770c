"""Textual's command palette filled with the actions of the view it was opened from."""

from functools import partial

from textual.app import App
from textual.binding import ActiveBinding
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.widgets import Input

from dcvtui.tui.keys import BY_ID, is_bound, is_shown


class ActionPalette(CommandPalette):
    """The palette without what blinks or is not in every font."""

    DEFAULT_CSS = """
    ActionPalette SearchIcon { display: none; }
    """

    def on_mount(self) -> None:
        """Let the cursor stand still: a blinking one sends bytes while nobody types."""
        self.query_one(Input).cursor_blink = False


class ViewActions(Provider):
    """The keys that work in the view, searched by label, sentence and the words of their ids."""

    is_read_only = False

    def _actions(self) -> dict[str, tuple[str, ActiveBinding]]:
        """Title and binding of each action, once for all its keys."""
        actions: dict[str, tuple[str, ActiveBinding]] = {}
        for active in self.screen.active_bindings.values():
            row = BY_ID.get(active.binding.id or "")
            if row is not None and active.enabled and is_shown(row.id, is_read_only=self.is_read_only):
                is_there = is_bound(active.binding.key)
                key = f", {self.app.get_key_display(active.binding)}" if is_there else ""
                actions.setdefault(row.id, (f"{row.tip} ({row.words}{key})", active))
        return actions

    async def discover(self) -> Hits:
        """All of them, while nothing is typed."""
        for title, active in self._actions().values():
            yield DiscoveryHit(title, partial(_run, self.app, active))

    async def search(self, query: str) -> Hits:
        """Those that match what is typed."""
        matcher = self.matcher(query)
        for title, active in self._actions().values():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), partial(_run, self.app, active))


class ReadingActions(ViewActions):
    """The same without what would change something at the broker."""

    is_read_only = True


async def _run(app: App[object], active: ActiveBinding) -> None:
    await app.run_action(active.binding.action, active.node)
