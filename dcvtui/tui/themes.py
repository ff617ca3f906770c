"""The console's own looks: calm, one accent, blue and orange instead of green and red.

Both themes say the same with the same classes; state is always told by sign and
word as well, so that colour may be missing.
"""

from difflib import get_close_matches

from textual.theme import BUILTIN_THEMES, Theme

from dcvtui.api.text import visible
from dcvtui.errors import ConfigError

_BAD_VALUE = 252  # of an option

DARK = Theme(
    name="dcvtui-dark",
    primary="#7aa2f7",
    secondary="#9aa5ce",
    accent="#7dcfff",
    warning="#e0af68",
    error="#ff9e64",
    success="#7fb4ca",
    foreground="#c8d0e0",
    background="#14171f",
    surface="#1a1e28",
    panel="#222735",
    dark=True,
    variables={
        "text-muted": "#7c869c",
        "text-accent": "#7dcfff",
        "text-success": "#7fb4ca",
        "text-warning": "#e0af68",
        "text-error": "#ff9e64",
        "border": "#3a4154",
        "input-selection-background": "#7dcfff 30%",
        # On the sheet of a dialog, where all bars are but the table's own.
        "scrollbar": "#3a4154",
        "scrollbar-hover": "#4c556c",
        "scrollbar-active": "#4c556c",
        "scrollbar-background": "#1a1e28",
    },
)

LIGHT = Theme(
    name="dcvtui-light",
    primary="#1f5fbf",
    secondary="#4a5a78",
    accent="#0b6bcb",
    warning="#9a5b00",
    error="#b8460e",
    success="#1b6f8f",
    foreground="#1d2433",
    background="#fbfbf9",
    surface="#f1f2ee",
    panel="#e4e7ec",
    dark=False,
    variables={
        "text-muted": "#667085",
        "text-accent": "#0b6bcb",
        "text-success": "#1b6f8f",
        "text-warning": "#9a5b00",
        "text-error": "#b8460e",
        "border": "#c3c8d2",
        "input-selection-background": "#0b6bcb 25%",
        # On the sheet of a dialog, where all bars are but the table's own.
        "scrollbar": "#c3c8d2",
        "scrollbar-hover": "#a9b0be",
        "scrollbar-active": "#a9b0be",
        "scrollbar-background": "#f1f2ee",
    },
)


def theme_named(name: str) -> str:
    """The theme an operator means: `dark` and `light` are ours, the others Textual's.

    Raises:
        ConfigError: there is no such theme.
    """
    ours = {"dark": DARK.name, "light": LIGHT.name}
    known = sorted({*ours, *BUILTIN_THEMES})
    if name not in known:
        near = get_close_matches(name, known, 1) or ["dark"]
        sentence = f"There is no theme '{visible(name)}'; did you mean {near[0]}? All: {', '.join(known)}."
        raise ConfigError(sentence, _BAD_VALUE)
    return ours.get(name, name)
