"""The settings as an administrator looks at them: each key, what counts, where it came from, what it does."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import SecretStr

from broker_stub.broker.settings_file import Loaded
from broker_stub.broker.settings_keys import (
    DELETED_HOURS,
    DELETED_SECONDS,
    FIELDS,
    IGNORED,
    KNOWN_KEYS,
    LIVE_KEYS,
    LOG_PATH,
    MAPPED,
    REFUSED,
    WORKING_PATH,
    Treatment,
    is_secret,
    treatment_of,
)

HIDDEN = "(hidden)"
_NOT_SET = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One key.

    Attributes:
        key: As in the file.
        value: What counts; empty if nothing does; `(hidden)` for a secret.
        origin: `default`, `line 7`, or what it was derived from.
        treatment: What the key does here, compared with the original product.
        live: Whether a running broker takes a change over.
        note: Why it has no effect, or another one.
    """

    key: str
    value: str
    origin: str
    treatment: Treatment
    live: bool
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as an object."""
        return asdict(self)


def rows(loaded: Loaded) -> list[Row]:
    """Every known key in the order of the alphabet, keys of our own last."""
    known = sorted(KNOWN_KEYS, key=lambda key: (key.startswith("ext-"), key))
    return [_row(loaded, key) for key in known]


def text(found: Sequence[Row]) -> str:
    """Rows as columns: key, value, origin, treatment."""
    columns = [
        (
            row.key,
            row.value or "-",
            row.origin,
            f"{row.treatment}{', live' if row.live else ''}{f': {row.note}' if row.note else ''}",
        )
        for row in found
    ]
    widths = [max(len(row[index]) for row in columns) for index in range(3)]
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in columns
    )


def _row(loaded: Loaded, key: str) -> Row:
    note = IGNORED.get(key) or REFUSED.get(key) or MAPPED.get(key) or ""
    value = _value(loaded, key)
    if value and is_secret(key):
        value = HIDDEN
    return Row(key, value, _origin(loaded, key), treatment_of(key), key in LIVE_KEYS, note)


def _value(loaded: Loaded, key: str) -> str:
    if key not in FIELDS:
        return loaded.values.get(key, _NOT_SET)
    topic, name, _ = FIELDS[key]
    return _written(getattr(getattr(loaded.settings, topic), name))


def _written(value: object) -> str:
    """A value as it would stand in the file."""
    if value is None:
        return _NOT_SET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, SecretStr):
        return HIDDEN
    return str(value)


def _origin(loaded: Loaded, key: str) -> str:
    if key in loaded.values:
        return f"line {loaded.lines[key]}" if key in loaded.lines else "given"
    if key == DELETED_SECONDS and DELETED_HOURS in loaded.values:
        return f"from {DELETED_HOURS}"
    if key == LOG_PATH and loaded.values.get(WORKING_PATH):
        is_default = loaded.settings.running.log_path != loaded.settings.files.working_path / "log"
        return "default" if is_default else f"from {WORKING_PATH}"
    return "default"
