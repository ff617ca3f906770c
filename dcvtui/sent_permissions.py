"""The permissions texts sent from here: what is probably in force, and what was in force before.

The API cannot read permissions back, so the last two texts of each session are
kept in the state directory, readable by their owner only, and dropped when the
session is gone. Without a file they are kept as long as the console runs.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dcvtui.private_files import replace_private

_KEPT: Final = 2
_MOST_SESSIONS: Final = 5000


@dataclass(frozen=True, slots=True)
class Sent:
    """A text that was sent from here, and when."""

    text: str
    time: datetime


class SentPermissions:
    """What was sent to the sessions of one broker.

    Args:
        path: the file; None keeps nothing beyond the end of the program.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._texts: dict[str, list[Sent]] = _read(path) if path else {}

    def last(self, session_id: str) -> Sent | None:
        """What was sent last, as far as this console knows."""
        texts = self._texts.get(session_id)
        return texts[-1] if texts else None

    def before(self, session_id: str) -> Sent | None:
        """What was sent before that."""
        texts = self._texts.get(session_id, [])
        return texts[-2] if len(texts) > 1 else None

    def note(self, session_ids: Collection[str], text: str, now: datetime) -> None:
        """Remember what was sent to some sessions."""
        for one in session_ids:
            self._texts[one] = [*self._texts.pop(one, []), Sent(text, now)][-_KEPT:]
        for oldest in list(self._texts)[:-_MOST_SESSIONS]:
            del self._texts[oldest]
        self._save()

    def keep_only(self, session_ids: Collection[str]) -> None:
        """Forget the sessions that are gone; only to be told once all sessions are known."""
        gone = [one for one in self._texts if one not in session_ids]
        for one in gone:
            del self._texts[one]
        if gone:
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        document = {
            one: [{"text": sent.text, "time": sent.time.isoformat()} for sent in texts]
            for one, texts in self._texts.items()
        }
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(self._path, json.dumps(document).encode())
        except OSError:
            # What was sent is sent; without a place to remember it the editor says that it does not know.
            self._path = None


def _read(path: Path) -> dict[str, list[Sent]]:
    """What an earlier console kept; a file that cannot be understood is as good as none."""
    try:
        document: Any = json.loads(path.read_bytes())
        return {
            str(one): [Sent(str(sent["text"]), datetime.fromisoformat(sent["time"])) for sent in texts]
            for one, texts in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
