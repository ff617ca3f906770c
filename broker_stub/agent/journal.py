"""What the agent has promised: commands it took, and results the broker has not confirmed.

An entry is written before the command is carried out and its result before it is
sent, so that neither a lost channel nor `kill -9` makes a command run twice or a
result disappear. One line of JSON per step, rewritten when most lines are stale.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    result: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def state(self) -> str:
        """The word for it in `openCommands` of a hello."""
        return "accepted" if self.result is None else "finished"


class Journal:
    """The journal of one agent, in a file or, for simulated servers, in memory only.

    Args:
        path: The file, made if it is missing; nothing keeps the journal in memory.
        clock: Seconds since the epoch.

    Raises:
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._lines = 0
        self._descriptor: int | None = None
        self._turn = asyncio.Lock() if path is not None else None
        if path is not None:
            self._load(path)
            self._rewrite(path)

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
        await self._append(
            {"accepted": command_id, "kind": kind, "payload": entry.payload, "at": entry.written_at}
        )
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
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _drop_oldest(self) -> None:
        """Make room; a result nobody fetched goes before a command that is being carried out."""
        finished = (one.command_id for one in self._entries.values() if one.result is not None)
        del self._entries[next(finished, next(iter(self._entries)))]

    async def _append(self, step: dict[str, Any]) -> None:
        if self._path is None or self._turn is None:
            return
        line = json.dumps(step, separators=(",", ":")).encode() + b"\n"
        async with self._turn:
            await asyncio.to_thread(self._write_line, line)
            if self._lines > _REWRITE_AFTER_LINES:
                await asyncio.to_thread(self._rewrite, self._path)

    def _write_line(self, line: bytes) -> None:
        if self._descriptor is None:
            raise OSError("the journal is closed")
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        if os.write(self._descriptor, line) != len(line):
            os.ftruncate(self._descriptor, end)  # half a line would spoil the next one
            raise OSError("the journal could not be written whole")
        os.fdatasync(self._descriptor)
        self._lines += 1

    def _load(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the last line of a process that was killed may be half written

    def _replay(self, step: dict[str, Any]) -> None:
        if command_id := step.get("accepted"):
            self._entries[command_id] = Entry(
                command_id, step["kind"], step["payload"], float(step["at"]), step.get("result")
            )
        elif entry := self._entries.get(step.get("finished", "")):
            entry.result = step["result"]
        else:
            self._entries.pop(step.get("forgotten", ""), None)

    def _rewrite(self, path: Path) -> None:
        draft = path.with_name(path.name + ".new")
        entries = list(self._entries.values())
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            for entry in entries:
                step: dict[str, Any] = {"accepted": entry.command_id, "kind": entry.kind}
                step |= {"payload": entry.payload, "at": entry.written_at, "result": entry.result}
                os.write(descriptor, json.dumps(step, separators=(",", ":")).encode() + b"\n")
            os.fdatasync(descriptor)
            draft.replace(path)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._lines = descriptor, len(entries)


def _without_texts(payload: dict[str, Any]) -> dict[str, Any]:
    """What is needed to find the session again; not the permissions text, which is nobody's business."""
    kept = ("sessionId", "name", "owner", "type")
    return {name: payload[name] for name in kept if name in payload}
