"""Choose a server for a session; hold what cannot be placed yet.

A server fits if it is available, its agent offers the type, the limits allow one
more and the requirements are true (API, 8.1). Of those that fit, the one with the
fewest sessions is taken, then the lowest load by processor, then the id.

Thousands of requests ask few different questions, so each question keeps the
servers that answer it in a heap, and servers that changed are looked at again
when the question comes up next.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from broker_stub.broker.requirement_facts import METRIC_KEYS, requirement_facts
from broker_stub.broker.server import (
    MAX_SESSIONS_PER_USER_TAG,
    MAX_VIRTUAL_SESSIONS_TAG,
    Rank,
    ServerRecord,
    Standing,
    unavailability,
)
from broker_stub.broker.session import SessionRecord
from dcvtui.api.requirements import parse
from dcvtui.api.states import SessionState, SessionType

_MAX_QUESTIONS = 64


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


def standing_of(server: ServerRecord) -> Standing:
    """What the server can take at the moment, apart from requirements and owners (API, 8.1)."""
    if server.standing is None:
        is_open = server.channel_id is not None and unavailability(server) is None
        server.standing = Standing(
            is_open and not server.session_count and server.offers(SessionType.CONSOLE),
            is_open and _takes_virtual(server) and server.offers(SessionType.VIRTUAL),
        )
    return server.standing


def _rank(server: ServerRecord, standing: Standing) -> Rank:
    if standing.rank is None:
        sessions = server.console_count + server.virtual_count
        standing.rank = (sessions, server.load_per_cpu, server.id, server.rank_version)
    return standing.rank


def _takes_virtual(server: ServerRecord) -> bool:
    limit = server.limit(MAX_VIRTUAL_SESSIONS_TAG)
    has_place = limit is None or server.virtual_count < limit
    return server.os_family == "linux" and not server.console_count and has_place


def _fitting(servers: Iterable[ServerRecord], question: Question) -> Iterator[Rank]:
    """The ranks of those that can take one more session of this kind, whoever owns it."""
    requirements = parse(question.requirements) if question.requirements else None
    # Metrics are read anew where they matter; of most requests they decide nothing.
    looks_at_metrics = requirements is not None and not METRIC_KEYS.isdisjoint(requirements.keys())
    is_console = question.type == SessionType.CONSOLE
    for server in servers:
        standing = server.standing or standing_of(server)
        if not (standing.takes_console if is_console else standing.takes_virtual):
            continue
        if question.is_windows_only and server.os_family != "windows":
            continue
        if requirements is not None:
            facts = None if looks_at_metrics else server.facts
            if not requirements.matches(facts or requirement_facts(server)):
                continue
        yield standing.rank or _rank(server, standing)


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
        self.heap: list[Rank] = []
        self._fill()

    def _fill(self) -> None:
        self.heap = list(_fitting(self._servers.values(), self._question))
        heapq.heapify(self.heap)
        self.changed.clear()

    def refresh(self) -> None:
        """Look again at the servers that changed."""
        if len(self.heap) + len(self.changed) > 2 * len(self._servers) + 64:
            self._fill()  # mostly outdated entries
            return
        changed = [self._servers[server_id] for server_id in self.changed if server_id in self._servers]
        for rank in _fitting(changed, self._question):
            heapq.heappush(self.heap, rank)
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


class Placement:
    """Answers which server a session goes to. Reads records, changes only their rank version."""

    def __init__(self, servers: Mapping[str, ServerRecord]) -> None:
        self._servers = servers
        self._candidates: OrderedDict[Question, _Candidates] = OrderedDict()
        self.kept_questions = _MAX_QUESTIONS

    def touch(self, server: ServerRecord) -> None:
        """Note that something placement looks at has changed, or that the server is new or gone."""
        server.standing = None
        self._note(server)

    def touch_load(self, server: ServerRecord) -> None:
        """Note that only metrics changed: what the server can take stays as it is."""
        if server.standing is not None:
            server.standing.rank = None
        self._note(server)

    def _note(self, server: ServerRecord) -> None:
        server.rank_version += 1
        for candidates in self._candidates.values():
            candidates.changed.add(server.id)

    def choose(self, question: Question, owner: str, failed: Collection[str] = ()) -> ServerRecord | None:
        """The best server, or nothing; one that failed this request only if no other fits (6.3)."""
        candidates = self._candidates_for(question)
        aside: list[Rank] = []
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
        self._questions: dict[str, Question] = {}
        self._asked: Counter[Question] = Counter()
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
        if record.key not in self._questions:
            question = self._questions[record.key] = question_of(record)
            self._asked[question] += 1

    def discard(self, record: SessionRecord) -> None:
        """Take a session out if it waits."""
        if self._waiting.pop(record.key, None) is None:
            return
        question = self._questions.pop(record.key)
        self._asked[question] -= 1
        if not self._asked[question]:
            del self._asked[question]
        if record.creation:
            record.creation.queue_number = 0

    def placeable(self, placement: Placement) -> Iterator[tuple[SessionRecord, ServerRecord]]:
        """Sessions for which there is a place now, first come first served.

        The caller takes the place (and the session out of the queue) before it asks for the next.
        """
        placement.kept_questions = _MAX_QUESTIONS + len(self._asked)
        # Those who wait for the same cost one look together, however many they are.
        answered = {question for question in self._asked if placement.has_answer(question)}
        if not answered:
            return
        for record in self:
            question = self._questions.get(record.key)
            if question is None or question not in answered or record.creation is None:
                continue
            server = placement.choose(question, record.owner, record.creation.failed_servers)
            if server is not None:
                yield record, server
            elif not placement.has_answer(question):
                answered.discard(question)
                if not answered:
                    return
