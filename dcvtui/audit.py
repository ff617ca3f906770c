"""The audit trail: what was done from this console and what came of it, a line of JSON each.

Readable by its owner only, turned over when it grows. No secret, token or
permissions text ever goes in: only what `ItemResult` holds.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dcvtui.fleet import Key

if TYPE_CHECKING:
    from dcvtui.operations import ItemResult

LARGEST: Final = 1 << 20
"""Bytes after which the trail is turned over; one older file is kept."""


class AuditTrail:
    """Writes what was done.

    Args:
        path: the file; None writes nothing.
        who: the user of this machine who sits at the console.
    """

    def __init__(self, path: Path | None, who: str) -> None:
        self._path, self._who = path, who

    def note(
        self,
        verb: str,
        results: "Sequence[tuple[Key, ItemResult]]",
        now: datetime,
        brokers: Mapping[str, str],
    ) -> str:
        """Write the results of an action.

        Args:
            verb: what was done.
            results: the key of each item's session or server, and its result.
            now: the time.
            brokers: the address of each profile.

        Returns:
            Why it could not be written, "" if it was. The action is done either way.
        """
        if self._path is None or not results:
            return ""
        lines = [
            json.dumps(
                {
                    "time": now.isoformat(timespec="milliseconds"),
                    "user": self._who,
                    "profile": key[0] if key else "",
                    "broker": brokers.get(key[0] if key else "", ""),
                    "action": verb,
                    "id": result.id,
                    "name": result.name,
                    "outcome": result.outcome.value,
                    "reason": result.reason,
                    "requestId": result.request_id,
                }
            )
            for key, result in results
        ]
        try:
            self._append(self._path, "".join(line + "\n" for line in lines).encode())
        except OSError as error:
            return f"The audit trail cannot be written: {self._path}: {error.strerror or error}."
        return ""

    @staticmethod
    def _append(path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size + len(data) > LARGEST:
            path.replace(path.with_suffix(path.suffix + ".1"))
        # One write at the end of the file: two consoles do not tear each other's lines.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
