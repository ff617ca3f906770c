"""Choose a server for a session; hold what cannot be placed yet.

A server fits if it is available, its agent offers the type, the limits allow one
more and the requirements are true (API, 8.1). Of those that fit, the one with the
fewest sessions is taken, then the lowest load by processor, then the id.

Thousands of requests ask few different questions, so each question keeps the
servers that answer it in a heap, and servers that changed are looked at again
when the question comes up next.
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from broker_stub.broker.server import (
    MAX_SESSIONS_PER_USER_TAG,
    MAX_VIRTUAL_SESSIONS_TAG,
    ServerRecord,
    requirement_facts,
    unavailability,
)
from broker_stub.broker.session import SessionRecord
from dcvtui.api.requirements import parse
from dcvtui.api.states import SessionState, SessionType

_MAX_QUESTIONS = 64
_Entry = tuple[int, float, str, int]  # sessions, load by processor, id, the record's version


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks of a server, apart from its owner."""

    type: str
    is_windows_only: bool = False
    requirements: str = ""


def question_of(record: SessionRecord) -> Question:
    """What a session that is still to be placed asks of a server."""
    creation = record.creation
    if creation is None:
        raise ValueError(f"session {record.id} has nothing left to create")
    is_windows_only = record.type == SessionType.CONSOLE and "AutorunFile" in creation.request
    return Question(record.type, is_windows_only, creation.requirements)


def fits(server: ServerRecord, question: Question) -> bool:
    """Whether the server can take one more session of this kind, whoever owns it (API, 8.1)."""
    if server.channel_id is None or unavailability(server) or not server.offers(question.type):
        return False
    if question.type == SessionType.CONSOLE:
        if server.session_count or (question.is_windows_only and server.os_family != "windows"):
            return False
    else:
        limit = server.limit(MAX_VIRTUAL_SESSIONS_TAG)
        if server.os_family != "linux" or server.console_count:
            return False
        if limit is not None and server.virtual_count >= limit:
            return False
    return not question.requirements or parse(question.requirements).matches(requirement_facts(server))


def owner_has_place(server: ServerRecord, question: Question, owner: str) -> bool:
    """Whether the server's limit of virtual sessions per user allows the owner one more."""
    if question.type != SessionType.VIRTUAL:
        return True
    limit = server.limit(MAX_SESSIONS_PER_USER_TAG)
    if limit is None:
        return True
    owned = sum(
        1
        for session in server.sessions.values()
        if session.owner == owner
        and session.type == SessionType.VIRTUAL
        and session.state != SessionState.DELETED
    )
    return owned < limit


class _Candidates:
    """The servers that fit one question, best first. Outdated entries are thrown away when met."""

    def __init__(self, question: Question, servers: Mapping[str, ServerRecord]) -> None:
        self._question = question
        self._servers = servers
        self.changed: set[str] = set()
        self.heap: list[_Entry] = []
        self._fill()

    def _fill(self) -> None:
        self.heap = [_entry(server) for server in self._servers.values() if fits(server, self._question)]
        heapq.heapify(self.heap)
        self.changed.clear()

    def refresh(self) -> None:
        """Look again at the servers that changed."""
        if len(self.heap) + len(self.changed) > 2 * len(self._servers) + 64:
            self._fill()  # mostly outdated entries
            return
        for server_id in self.changed:
            server = self._servers.get(server_id)
            if server is not None and fits(server, self._question):
                heapq.heappush(self.heap, _entry(server))
        self.changed.clear()

    def best(self) -> ServerRecord | None:
        """The first of them, left where it is."""
        while self.heap:
            _, _, server_id, version = self.heap[0]
            server = self._servers.get(server_id)
            if server is not None and server.rank_version == version:
                return server
            heapq.heappop(self.heap)
        return None


def _entry(server: ServerRecord) -> _Entry:
    return (server.session_count, server.load_per_cpu, server.id, server.rank_version)


class Placement:
    """Answers which server a session goes to. Reads records, changes only their rank version."""

    def __init__(self, servers: Mapping[str, ServerRecord]) -> None:
        self._servers = servers
        self._candidates: OrderedDict[Question, _Candidates] = OrderedDict()
        self.kept_questions = _MAX_QUESTIONS

    def touch(self, server: ServerRecord) -> None:
        """Note that something placement looks at has changed, or that the server is new or gone."""
        server.rank_version += 1
        for candidates in self._candidates.values():
            candidates.changed.add(server.id)

    def choose(self, question: Question, owner: str, failed: Collection[str] = ()) -> ServerRecord | None:
        """The best server, or nothing; one that failed this request only if no other fits (6.3)."""
        candidates = self._candidates_for(question)
        aside: list[_Entry] = []
        chosen = last_resort = None
        while (server := candidates.best()) is not None:
            if server.id in failed:
                if last_resort is None and owner_has_place(server, question, owner):
                    last_resort = server
            elif owner_has_place(server, question, owner):
                chosen = server
                break
            aside.append(heapq.heappop(candidates.heap))
        for entry in aside:
            heapq.heappush(candidates.heap, entry)
        return chosen or last_resort

    def has_answer(self, question: Question) -> bool:
        """Whether any server fits, owners apart."""
        return self._candidates_for(question).best() is not None

    def _candidates_for(self, question: Question) -> _Candidates:
        candidates = self._candidates.get(question)
        if candidates is None:
            candidates = self._candidates[question] = _Candidates(question, self._servers)
            while len(self._candidates) > self.kept_questions:
                self._candidates.popitem(last=False)
        else:
            self._candidates.move_to_end(question)
            candidates.refresh()
        return candidates


class Queue:
    """Sessions that wait for a server, in order of arrival. Who fits nothing holds up nobody."""

    def __init__(self) -> None:
        self._waiting: dict[str, SessionRecord] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[SessionRecord]:
        return iter(list(self._waiting.values()))

    def add(self, record: SessionRecord) -> None:
        """Let a session wait at the end; one that has a number from before is to be added in its order."""
        if record.creation is None:
            raise ValueError(f"session {record.id} has nothing left to create")
        if not record.creation.queue_number:
            record.creation.queue_number = self._last_number + 1
        self._last_number = max(self._last_number, record.creation.queue_number)
        self._waiting[record.key] = record

    def discard(self, record: SessionRecord) -> None:
        """Take a session out if it waits."""
        if self._waiting.pop(record.key, None) and record.creation:
            record.creation.queue_number = 0

    def placeable(self, placement: Placement) -> Iterator[tuple[SessionRecord, ServerRecord]]:
        """Sessions for which there is a place now, first come first served.

        The caller takes the place (and the session out of the queue) before it asks for the next.
        """
        placement.kept_questions = _MAX_QUESTIONS + len(self._waiting)
        questions = {record.key: question_of(record) for record in self._waiting.values()}
        answered = {question for question in set(questions.values()) if placement.has_answer(question)}
        if not answered:
            return
        for record in self:
            question = questions[record.key]
            if question not in answered or record.creation is None:
                continue
            server = placement.choose(question, record.owner, record.creation.failed_servers)
            if server is not None:
                yield record, server
            elif not placement.has_answer(question):
                answered.discard(question)
                if not answered:
                    return
