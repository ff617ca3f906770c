"""What the dcv backend keeps on disk for each session: its permissions file, and what `dcv` does not tell.

One folder a session, private to the agent's user; gone when the session is.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,255}")


class SessionFiles:
    """The folder of all sessions.

    Args:
        folder: Made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write_permissions(self, session_id: str, text: str) -> Path:
        """Write a permissions file for `dcv`, readable by the agent's user only.

        Raises:
            OSError: it cannot be written.
        """
        return self._write(session_id, "permissions", text)

    def remember_clients(self, session_id: str, most: int) -> None:
        """Keep the limit of clients, which `dcv` takes but never tells.

        Raises:
            OSError: it cannot be written.
        """
        self._write(session_id, "session.json", json.dumps({"maxConcurrentClients": most}))

    def most_clients(self, session_id: str) -> int | None:
        """The limit of clients a session was created with, if this agent created it with one."""
        if not SESSION_ID.fullmatch(session_id):
            return None
        try:
            kept = json.loads((self._folder / session_id / "session.json").read_text("utf-8"))
            most = kept["maxConcurrentClients"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return most if isinstance(most, int) and most > 0 else None

    def remove(self, session_id: str) -> None:
        """Forget a session."""
        if SESSION_ID.fullmatch(session_id):
            shutil.rmtree(self._folder / session_id, ignore_errors=True)

    def keep_only(self, session_ids: Collection[str]) -> None:
        """Forget every session but these, as far as that can be done: it is asked again and again."""
        with contextlib.suppress(OSError):
            for entry in self._folder.iterdir():
                if entry.name not in session_ids:
                    self.remove(entry.name)

    def _write(self, session_id: str, name: str, text: str) -> Path:
        folder = self._folder / session_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, draft = folder / name, folder / f"{name}.new"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        draft.replace(path)
        return path
