"""What the agent has promised: commands it took, and results the broker has not confirmed.

An entry is written before the command is carried out and its result before it is
sent, so that neither a lost channel nor `kill -9` makes a command run twice or a
result disappear. One line of JSON per step, rewritten when most lines are stale.
Where the lines go is somebody else's business, see `journal_file`.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

logger = logging.getLogger(__name__)

MAX_ENTRIES = 1000
KEPT_S = 24 * 3600.0
_REWRITE_AFTER_LINES = 4 * MAX_ENTRIES


@dataclass(slots=True)
class Entry:
    """One command in the journal; `result` is the body of its `commandResult` once there is one."""

    command_id: str
    kind: str
    payload: dict[str, Any] = field(repr=False)
    written_at: float
    """By this process's own clock: a system clock that is set must not make an entry old."""
    result: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def state(self) -> str:
        """The word for it in `openCommands` of a hello."""
        return "accepted" if self.result is None else "finished"


class Storage(Protocol):
    """Where the lines of a journal are."""

    def lines(self) -> list[bytes]:
        """All of them."""
        ...

    async def append(self, line: bytes) -> None:
        """Add one, durably; raises `OSError` if it is not there."""
        ...

    async def replace(self, lines: Sequence[bytes]) -> None:
        """Have these instead, durably; raises `OSError` if the former ones are still there."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Journal:
    """The journal of one agent.

    Args:
        storage: Where it is kept; nothing keeps it in memory only, for simulated servers.
        clock: Seconds, only moving forward.

    Raises:
        OSError: the storage cannot be read.
    """

    def __init__(self, storage: Storage | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._turn = asyncio.Lock() if storage is not None else None
        lines = storage.lines() if storage is not None else []
        for line in lines:
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # whatever it is, it is no promise of ours
        self._lines = len(lines)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, command_id: str) -> Entry | None:
        """The entry of a command, if it is known."""
        return self._entries.get(command_id)

    def entries(self) -> list[Entry]:
        """All entries, oldest first, without those that nobody asked about for a day."""
        oldest = self._clock() - KEPT_S
        for command_id in [one.command_id for one in self._entries.values() if one.written_at < oldest]:
            del self._entries[command_id]
        return list(self._entries.values())

    async def accept(self, command_id: str, kind: str, payload: dict[str, Any]) -> None:
        """Note that a command is going to be carried out.

        Raises:
            OSError: it cannot be written; the command must not be carried out then.
        """
        entry = Entry(command_id, kind, _without_texts(payload), self._clock())
        await self._append({"accepted": command_id, "kind": kind, "payload": entry.payload})
        self._entries[command_id] = entry
        if len(self._entries) > MAX_ENTRIES:
            self._drop_oldest()

    async def finish(self, command_id: str, result: dict[str, Any]) -> None:
        """Note how a command ended.

        Raises:
            OSError: it cannot be written.
        """
        entry = self._entries.get(command_id)
        if entry is None:
            return
        entry.result = result
        await self._append({"finished": command_id, "result": result})

    async def forget(self, command_id: str) -> None:
        """Drop a command whose result the broker has, or does not want."""
        if self._entries.pop(command_id, None) is not None:
            await self._append({"forgotten": command_id})

    def close(self) -> None:
        """Let go of the storage."""
        if self._storage is not None:
            self._storage.close()

    def _drop_oldest(self) -> None:
        """Make room; a result nobody fetched goes before a command that is being carried out."""
        finished = (one.command_id for one in self._entries.values() if one.result is not None)
        del self._entries[next(finished, next(iter(self._entries)))]

    async def _append(self, step: dict[str, Any]) -> None:
        if self._storage is None or self._turn is None:
            return
        async with self._turn:
            if self._lines > _REWRITE_AFTER_LINES:
                await self._rewrite(self._storage)
            await self._storage.append(_line(step))
            self._lines += 1

    async def _rewrite(self, storage: Storage) -> None:
        entries = list(self._entries.values())
        steps = (
            {"accepted": one.command_id, "kind": one.kind, "payload": one.payload, "result": one.result}
            for one in entries
        )
        try:
            await storage.replace([_line(step) for step in steps])
        except OSError as error:
            # A full disk may still take a line; what is stale only takes room.
            logger.warning("The journal cannot be rewritten: %s", error)
            return
        self._lines = len(entries)

    def _replay(self, step: dict[str, Any]) -> None:
        if command_id := step.get("accepted"):
            self._entries[command_id] = Entry(
                command_id, step["kind"], step["payload"], self._clock(), step.get("result")
            )
        elif entry := self._entries.get(step.get("finished", "")):
            entry.result = step["result"]
        else:
            self._entries.pop(step.get("forgotten", ""), None)


def _line(step: dict[str, Any]) -> bytes:
    return json.dumps(step, separators=(",", ":")).encode()


def _without_texts(payload: dict[str, Any]) -> dict[str, Any]:
    """What is needed to find the session again; not the permissions text, which is nobody's business."""
    kept = ("sessionId", "name", "owner", "type")
    return {name: payload[name] for name in kept if name in payload}
