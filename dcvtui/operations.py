"""Create, delete, open, close and permissions on many items: one result per item, whatever happens.

A batch sends one request per 50 items and never sends one twice. Its results
are true at every moment: before anything was sent all are "not sent", while a
request is under way its items are "not known". So a cancelled task, Ctrl-C or a
crash leaves a list that says what became of each item.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dcvtui.errors import BrokerError, Refused

if TYPE_CHECKING:
    from dcvtui.api import models
    from dcvtui.client import Answer, BrokerClient

ITEMS_PER_CALL = 50
Item = Mapping[str, Any]


class Outcome(StrEnum):
    """What became of one item."""

    DONE = "done"
    FAILED = "failed"
    NOT_SENT = "not sent"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item.

    Attributes:
        id: of the session or server; empty for a session that was not created.
        name: how to call the item where it has no id yet: the name of the session to create.
        outcome: see `Outcome`.
        reason: the broker's own words for a failed item, else why it was not sent or is not known.
        code: the broker's failure code, for servers.
        request_id: of the call.
        item: what was sent, or was to be sent.
        answer: the broker's object for an item that is done, as it came over the wire.
    """

    id: str
    name: str
    outcome: Outcome
    reason: str = ""
    code: str = ""
    request_id: str = ""
    item: Item | None = None
    answer: Item | None = None


# (finished items, all items, the results that are new)
Progress = Callable[[int, int, Sequence[ItemResult]], None]


class Batch:
    """One operation on many items. Make it with the functions below.

    Attributes:
        results: one per item, in the order given; true at every moment.
        answers: what the broker answered, call by call.
        error: the last error of a whole call; the reasons of the items tell it too.
    """

    def __init__(self, items: Sequence[Item], verb: "_Verb") -> None:
        self._items = [dict(item) for item in items]
        self._verb = verb
        self._is_cancelled = False
        self.results = [self._result(index, Outcome.NOT_SENT) for index in range(len(items))]
        self.answers: list[Answer[Any]] = []
        self.error: BrokerError | None = None

    def cancel(self) -> None:
        """Send nothing more; the request that is under way is still waited for."""
        self._is_cancelled = True

    async def run(self, progress: Progress | None = None) -> list[ItemResult]:
        """Do it.

        Args:
            progress: told after each call how many of all are finished, and what is new.

        Returns:
            The results; broker errors are in them and never raised.
        """
        waiting = list(range(len(self._items)))
        if self._verb.needs_owner:
            waiting = await self._find_owners(waiting)
        while waiting:
            if self._is_cancelled or self._is_hopeless():
                self._mark(waiting, Outcome.NOT_SENT, self._why_not_sent())
                break
            chunk = self._next_chunk(waiting)
            waiting = waiting[len(chunk) :]
            await self._send(chunk)
            if progress:
                finished = len(self.results) - len(waiting)
                progress(finished, len(self.results), [self.results[index] for index in chunk])
        return self.results

    def _next_chunk(self, waiting: list[int]) -> list[int]:
        """The next items of one call; one that names the same id again waits for the call after it.

        In an answer the two could not be told apart when only one of them failed.
        """
        chunk = waiting[:ITEMS_PER_CALL]
        seen: set[str] = set()
        for position, index in enumerate(chunk):
            identity = self.results[index].id
            if identity and identity in seen:
                return chunk[:position]
            seen.add(identity)
        return chunk

    async def _send(self, chunk: list[int]) -> None:
        self._mark(chunk, Outcome.NOT_KNOWN, "no answer yet")
        items = [self._items[index] for index in chunk]
        try:
            answer = await self._verb.send(items)
        except BrokerError as error:
            self.error = error
            if error.was_sent:
                self._mark(chunk, Outcome.NOT_KNOWN, error.sentence)
            elif isinstance(error, Refused):
                self._mark(chunk, Outcome.FAILED, error.text, error.request_id)
            else:
                self._mark(chunk, Outcome.NOT_SENT, error.sentence)
            return
        self.answers.append(answer)
        for index, fate in zip(chunk, self._verb.read(items, answer), strict=True):
            self.results[index] = self._answered(index, fate, answer.model.request_id or "")

    def _answered(self, index: int, fate: "_Fate | None", request_id: str) -> ItemResult:
        if fate is None:
            return self._result(index, Outcome.NOT_KNOWN, "the broker's answer does not name it", request_id)
        outcome = Outcome.FAILED if fate.answer is None else Outcome.DONE
        result = self._result(index, outcome, fate.reason, request_id)
        return replace(result, id=fate.id or result.id, code=fate.code, answer=fate.answer)

    def _result(self, index: int, outcome: Outcome, reason: str = "", request_id: str = "") -> ItemResult:
        item = self._items[index]
        identity = item.get(self._verb.id_name) if self._verb.id_name else None
        return ItemResult(
            str(identity or ""), str(item.get("Name", "")), outcome, reason, request_id=request_id, item=item
        )

    def _mark(self, indexes: Sequence[int], outcome: Outcome, reason: str, request_id: str = "") -> None:
        for index in indexes:
            self.results[index] = self._result(index, outcome, reason, request_id)

    def _is_hopeless(self) -> bool:
        """The next call would end as the last one did: only what a broker says about its items is theirs."""
        throttled = 429
        return self.error is not None and not (
            isinstance(self.error, Refused)
            and 400 <= self.error.status < 500
            and self.error.status != throttled
        )

    def _why_not_sent(self) -> str:
        return self.error.sentence if self.error and self._is_hopeless() else "cancelled"

    async def _find_owners(self, indexes: list[int]) -> list[int]:
        """The API wants to be told the owner of each session, though the broker knows it."""
        missing = [index for index in indexes if not self._items[index].get("Owner")]
        if not missing:
            return indexes
        owners: dict[str, set[str]] = {}
        try:
            async for page in self._verb.client.sessions(
                sorted({str(self._items[index].get("SessionId")) for index in missing})
            ):
                for session in page:
                    owners.setdefault(str(session.get("Id")), set()).add(str(session.get("Owner")))
        except BrokerError as error:
            self.error = error
            self._mark(indexes, Outcome.NOT_SENT, error.sentence)
            return []
        for index in missing:
            found = owners.get(str(self._items[index].get("SessionId")), set())
            if len(found) == 1:
                self._items[index]["Owner"] = found.pop()
                self._mark([index], Outcome.NOT_SENT, "")
            elif found:
                several = f"sessions of several owners have this id ({', '.join(sorted(found))}); name one"
                self._mark([index], Outcome.FAILED, several)
            else:
                self._mark([index], Outcome.FAILED, "The broker lists no session with this id")
        return [index for index in indexes if self.results[index].outcome is Outcome.NOT_SENT]


def create_sessions(client: "BrokerClient", items: Sequence[Item]) -> Batch:
    """Create sessions; an item has the fields of CreateSessions."""
    return Batch(items, _Verb(client, client.create_sessions, _read_created))


def delete_sessions(client: "BrokerClient", items: Sequence[Item]) -> Batch:
    """Delete sessions; an item has `SessionId`, and `Owner` and `Force` where known and wanted."""
    return Batch(items, _Verb(client, client.delete_sessions, _read_by_id, "SessionId", needs_owner=True))


def update_permissions(client: "BrokerClient", items: Sequence[Item]) -> Batch:
    """Replace permissions; an item has `SessionId`, `PermissionsFile` (Base64), and `Owner` where known."""
    return Batch(items, _Verb(client, client.update_permissions, _read_by_id, "SessionId", needs_owner=True))


def open_servers(client: "BrokerClient", items: Sequence[Item]) -> Batch:
    """Open servers; an item has `ServerId`."""
    return Batch(items, _Verb(client, client.open_servers, _read_by_id, "ServerId"))


def close_servers(client: "BrokerClient", items: Sequence[Item]) -> Batch:
    """Close servers; an item has `ServerId`, and `Force` where wanted."""
    return Batch(items, _Verb(client, client.close_servers, _read_by_id, "ServerId"))


def numbered_name(pattern: str, number: int, owner: str) -> str:
    """The name of one of several sessions: `{n}` and `{owner}` filled in."""
    return pattern.strip().replace("{n}", str(number)).replace("{owner}", owner.strip())


# ------------------------------------------------------------------ reading answers


@dataclass(frozen=True, slots=True)
class _Fate:
    """What the broker says of one item; without an answer object it failed."""

    id: str = ""
    answer: Item | None = None
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class _Verb:
    """How one operation is sent and read."""

    client: "BrokerClient"
    send: Callable[[Sequence[Item]], Awaitable["Answer[Any]"]]
    read: Callable[[Sequence[Item], "Answer[Any]"], list[_Fate | None]]
    id_name: str = ""
    needs_owner: bool = False


def _read_by_id(items: Sequence[Item], answer: "Answer[Any]") -> list[_Fate | None]:
    """Each item yields one entry in one of the two lists; no id is in a call twice."""
    fates: dict[str, _Fate] = {}
    for entry in answer.model.successful_list:
        identity = _id_of(entry)
        fates[identity] = _Fate(identity, entry.to_wire())
    for entry in answer.model.unsuccessful_list:
        identity = _id_of(entry)
        code = getattr(entry, "failure_code", None) or ""
        reason = entry.failure_reason or code or "no reason given"
        fates[identity] = _Fate(identity, None, reason, code)
    return [fates.get(str(item.get("SessionId") or item.get("ServerId") or "")) for item in items]


def _id_of(entry: "models.WireModel") -> str:
    for name in ("open_server_request_data", "close_server_request_data"):
        entry = getattr(entry, name, None) or entry
    return getattr(entry, "session_id", None) or getattr(entry, "server_id", None) or ""


def _read_created(items: Sequence[Item], answer: "Answer[Any]") -> list[_Fate | None]:
    """New sessions have ids the request did not know: they are told apart by what was asked for.

    What a broker echoes decides in rounds, the surest likeness first, so that an entry that tells
    little never takes the place of one that tells more.
    """
    claims: list[tuple[_Fate, Item]] = []
    for entry in answer.model.unsuccessful_list:
        echo = entry.create_session_request_data.to_wire() if entry.create_session_request_data else {}
        claims.append((_Fate("", None, entry.failure_reason or "no reason given"), echo))
    for entry in answer.model.successful_list:
        session = entry.to_wire()
        claims.append((_Fate(entry.id or "", session), _only(session, "Name", "Owner", "Type")))
    fates: list[_Fate | None] = [None] * len(items)
    for is_like in (_is_whole_echo, _is_echo, _is_named_alike, _is_any):
        remaining = []
        for fate, echo in claims:
            found = (i for i, item in enumerate(items) if fates[i] is None and is_like(item, echo))
            index = next(found, None)
            if index is None:
                remaining.append((fate, echo))
            else:
                fates[index] = fate
        claims = remaining
    return fates


def _only(fields: Item, *names: str) -> Item:
    return {name: fields[name] for name in names if name in fields}


def _is_whole_echo(item: Item, echo: Item) -> bool:
    return item.keys() == echo.keys() and _is_echo(item, echo)


def _is_echo(item: Item, echo: Item) -> bool:
    return bool(echo) and all(str(item.get(name)).casefold() == str(echo[name]).casefold() for name in echo)


def _is_named_alike(item: Item, echo: Item) -> bool:
    return _is_echo(item, _only(echo, "Name", "Owner"))


def _is_any(_item: Item, _echo: Item) -> bool:
    return True
