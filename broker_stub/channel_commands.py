"""What the broker remembers of the commands of one agent, and large results in pieces.

Nothing here sends or waits: `CommandBook` is told what happened and what time it
is, and answers what is to be done now and when to ask again. The broker's
listener drives one book per server; a book outlives its channel, so that a
command that was lost with one channel is found again on the next.
"""

import base64
import binascii
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from broker_stub.channel import (
    ACK_WITHIN_S,
    CHUNK_BYTES,
    MAX_INFLIGHT_COMMANDS,
    MAX_INFLIGHT_SCREENSHOTS,
    MAX_RESULT_BYTES,
    SENDS_WITHOUT_ACK,
    Code,
    CommandKind,
    NotUnderstood,
    ResultTooLarge,
)

# ------------------------------------------------------------------ what is to be done


@dataclass(frozen=True, slots=True)
class Send:
    """Send (again) this command, with the time that is left."""

    command_id: str
    kind: str
    attempt: int
    deadline_ms: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Tell the agent that nobody waits for this command any more."""

    command_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Expire:
    """The command has no result at its deadline."""

    command_id: str


@dataclass(frozen=True, slots=True)
class GiveUpChannel:
    """The agent acknowledges nothing: close the channel with 4008."""


Action = Send | SendCancel | Expire | GiveUpChannel


class _Stage(Enum):
    WAITING = auto()
    SENT = auto()
    ACKNOWLEDGED = auto()


@dataclass(slots=True)
class _Entry:
    command_id: str
    kind: str
    attempt: int
    deadline: float
    payload: Mapping[str, Any]
    stage: _Stage = _Stage.WAITING
    sends: int = 0
    due: float = 0.0
    """WAITING: not before; SENT: when the acknowledgement is late."""

    @property
    def is_in_flight(self) -> bool:
        return self.stage is not _Stage.WAITING


@dataclass(slots=True)
class CommandBook:
    """The open commands of one server (agent specification, 5.5.1 to 5.5.10).

    Times are seconds of any clock that only moves forward.
    """

    max_inflight: int = MAX_INFLIGHT_COMMANDS
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _cancels: deque[SendCancel] = field(default_factory=deque)
    _is_connected: bool = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._entries

    def add(
        self, command_id: str, kind: str, payload: Mapping[str, Any], *, deadline: float, attempt: int = 0
    ) -> None:
        """Take a command in; one that is open already only gets the new deadline."""
        if entry := self._entries.get(command_id):
            entry.deadline = deadline
        else:
            self._entries[command_id] = _Entry(command_id, kind, attempt, deadline, payload)

    def count(self, kind: str) -> int:
        """How many commands of a kind are open."""
        return sum(entry.kind == kind for entry in self._entries.values())

    def connect(self, open_commands: Mapping[str, str], max_inflight: int = MAX_INFLIGHT_COMMANDS) -> None:
        """A channel was opened by a hello that names the commands the agent knows, with their states.

        What the agent knows counts as acknowledged: it goes on with it, or sends the
        result again. What it does not know was lost with the former channel.
        """
        self._is_connected = True
        self.max_inflight = max_inflight
        for entry in self._entries.values():
            known = entry.command_id in open_commands
            entry.stage = _Stage.ACKNOWLEDGED if known else _Stage.WAITING
            entry.sends, entry.due = 0, 0.0

    def disconnect(self) -> None:
        """The channel is gone; nothing can be sent until the next hello."""
        self._is_connected = False
        self._cancels.clear()

    def cancel(self, command_id: str) -> None:
        """Nobody waits for this command any more."""
        entry = self._entries.pop(command_id, None)
        if entry is not None and entry.is_in_flight:
            self._cancels.append(SendCancel(command_id, entry.kind))

    def acknowledge(self, command_id: str) -> None:
        """The agent has taken the command."""
        if entry := self._entries.get(command_id):
            entry.stage = _Stage.ACKNOWLEDGED

    def postpone(self, command_id: str, until: float) -> None:
        """The agent is busy and wants the command again later."""
        if entry := self._entries.get(command_id):
            entry.stage, entry.sends, entry.due = _Stage.WAITING, 0, until

    def finish(self, command_id: str) -> bool:
        """The result is there (or a refusal); whether the command was open."""
        return self._entries.pop(command_id, None) is not None

    def due_actions(self, now: float) -> list[Action]:
        """What is to be done now; every action is answered once."""
        actions: list[Action] = []
        for entry in [one for one in self._entries.values() if one.deadline <= now]:
            del self._entries[entry.command_id]
            if entry.is_in_flight:
                self._cancels.append(SendCancel(entry.command_id, entry.kind))
            actions.append(Expire(entry.command_id))
        if not self._is_connected:
            self._cancels.clear()
            return actions
        actions += self._cancels
        self._cancels.clear()
        late = [one for one in self._entries.values() if one.stage is _Stage.SENT and one.due <= now]
        if any(entry.sends >= SENDS_WITHOUT_ACK for entry in late):
            self.disconnect()
            return [*actions, GiveUpChannel()]
        actions += [self._send(entry, now) for entry in late]
        actions += [self._send(entry, now) for entry in self._startable(now)]
        return actions

    def next_wakeup(self) -> float | None:
        """When `due_actions` must be asked at the latest; `None` while nothing is open."""
        times = [entry.deadline for entry in self._entries.values()]
        if self._is_connected:
            has_room = self._room() > 0
            times += [
                entry.due
                for entry in self._entries.values()
                if entry.stage is _Stage.SENT or (entry.stage is _Stage.WAITING and entry.due and has_room)
            ]
        return min(times, default=None)

    def _room(self) -> int:
        return self.max_inflight - sum(entry.is_in_flight for entry in self._entries.values())

    def _startable(self, now: float) -> Iterator[_Entry]:
        """Waiting commands in order of arrival, within both limits of what may be in flight."""
        room = self._room()
        pictures = MAX_INFLIGHT_SCREENSHOTS - sum(
            entry.is_in_flight and entry.kind == CommandKind.GET_SESSION_SCREENSHOT
            for entry in self._entries.values()
        )
        for entry in list(self._entries.values()):
            if room <= 0:
                return
            if entry.stage is not _Stage.WAITING or entry.due > now:
                continue
            if entry.kind == CommandKind.GET_SESSION_SCREENSHOT:
                if pictures <= 0:
                    continue
                pictures -= 1
            room -= 1
            yield entry

    def _send(self, entry: _Entry, now: float) -> Send:
        entry.stage = _Stage.SENT
        entry.sends += 1
        entry.due = now + ACK_WITHIN_S
        deadline_ms = max(1, round((entry.deadline - now) * 1000))
        return Send(entry.command_id, entry.kind, entry.attempt, deadline_ms, entry.payload)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    success: bool
    code: str = Code.OK
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


# ------------------------------------------------------------------ results in pieces


def chunks_of(data: Mapping[str, Any], chunk_bytes: int = CHUNK_BYTES) -> list[str]:
    """Cut the data of a large result into Base64 pieces of at most `chunk_bytes` characters.

    Raises:
        ResultTooLarge: nobody would take so much.
    """
    raw = json.dumps(data, separators=(",", ":")).encode()
    if len(raw) > MAX_RESULT_BYTES:
        raise ResultTooLarge(f"the result has {len(raw)} bytes, at most {MAX_RESULT_BYTES} can be sent")
    step = chunk_bytes // 4 * 3
    return [base64.b64encode(raw[at : at + step]).decode() for at in range(0, len(raw), step)]


class ResultAssembly:
    """Puts the pieces of one result together again; they come in order on one channel.

    Args:
        result: the body of the `commandResult` that announced them.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = result
        self._expected: int = result["chunks"]
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, index: int, data: str) -> dict[str, Any] | None:
        """Take a piece; the whole data once the last one is there, else nothing.

        Raises:
            NotUnderstood: a piece is missing, or they do not make a JSON object.
            ResultTooLarge: more came than is taken.
        """
        if index != len(self._pieces):
            raise NotUnderstood(f"piece {index} of a result came, {len(self._pieces)} was next")
        try:
            piece = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise NotUnderstood("a piece of a result is not Base64") from None
        self._size += len(piece)
        if self._size > MAX_RESULT_BYTES:
            raise ResultTooLarge(f"a result of more than {MAX_RESULT_BYTES} bytes was refused")
        self._pieces.append(piece)
        if len(self._pieces) < self._expected:
            return None
        try:
            whole = json.loads(b"".join(self._pieces))
        except ValueError:
            raise NotUnderstood("the pieces of a result are not JSON") from None
        if not isinstance(whole, dict):
            raise NotUnderstood("the pieces of a result are not an object")
        return whole
