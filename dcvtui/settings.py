"""How an operator wants the console: looks, pace, limits and keys, from `settings.toml`.

The file is the operator's and is never written from here; what the console itself
remembers is in `dcvtui.saved`. Which broker is looked at is in `dcvtui.config`.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dcvtui.api.text import visible
from dcvtui.errors import ConfigError
from dcvtui.nearest import did_you_mean

_DAMAGED: Final = 1  # the exit code for a damaged configuration file
_BAD_VALUE: Final = 252
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
IMAGES: Final = ("auto", "kitty", "sixel", "blocks", "half", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; the attributes are the keys of the file.

    Attributes:
        theme: `dark`, `light` or the name of one of Textual's themes.
        ascii: draw signs in ASCII.
        images: how screenshots are drawn: auto, kitty, sixel, blocks, half or off.
        mouse: take the mouse; without it the terminal keeps it to select text.
        live_picture: show the screen of the session under the cursor in the details.
        visible_every: how often what is on screen is asked for, such as `2s`.
        page_every: how often a page of the rest is asked for.
        small_fleet_every: how often a fleet of one page each is asked for.
        idle_limit: a session without a client for so long needs a person; unset for never.
        keys: other keys by the ids of their actions, such as `"sessions.delete-marked" = "X"`; `""` takes
            the key away.
        notes: sentences about what was not understood.
    """

    theme: str | None = None
    ascii: bool | None = None
    images: str = "auto"
    mouse: bool = True
    live_picture: bool = False
    visible_every: timedelta = timedelta(seconds=2)
    page_every: timedelta = timedelta(seconds=1)
    small_fleet_every: timedelta = timedelta(seconds=5)
    idle_limit: timedelta | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_settings(path: Path) -> Settings:
    """Read the settings; without a file all are as they are.

    Raises:
        ConfigError: the file is damaged, or a value is of the wrong kind.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise ConfigError(f"The settings '{path}' cannot be read: {error.strerror}.", _DAMAGED) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings '{path}' are damaged: {error}.", _DAMAGED) from None
    known = [one.name for one in fields(Settings) if one.name != "notes"]
    notes = tuple(
        f"'{path}': the key '{visible(key)}' is not known.{did_you_mean(key, known)}"
        for key in document
        if key not in known
    )
    values = {key: _value(path, key, value) for key, value in document.items() if key in known}
    return Settings(**values, notes=notes)


def _value(path: Path, key: str, value: Any) -> Any:
    wanted, read = _READERS[key]
    try:
        return read(value)
    except (ValueError, TypeError):
        text = visible(repr(value))
        raise ConfigError(f"'{path}': {key} must be {wanted}, not {text}.", _BAD_VALUE) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _choice(value: Any) -> str:
    if value not in IMAGES:
        raise ValueError
    return _text(value)


def read_time(value: Any) -> timedelta:
    """A time such as `90s` or `7d`.

    Raises:
        ValueError: it is none, or not longer than nothing.
    """
    found = _TIME.fullmatch(_text(value))
    time = timedelta(**{_UNITS[found[2]]: float(found[1])}) if found else timedelta()
    if not time:
        raise ValueError
    return time


def _keys(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    return {_text(name): _text(keys) for name, keys in value.items()}


_A_TIME: Final = "a time such as 30s, 5m, 2h, 1d or 1w"
_READERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "theme": ("a text", _text),
    "ascii": ("true or false", _flag),
    "images": (f"one of {', '.join(IMAGES)}", _choice),
    "mouse": ("true or false", _flag),
    "live_picture": ("true or false", _flag),
    "visible_every": (_A_TIME, read_time),
    "page_every": (_A_TIME, read_time),
    "small_fleet_every": (_A_TIME, read_time),
    "idle_limit": (_A_TIME, read_time),
    "keys": ("a table of ids and keys", _keys),
}
