"""Waits after a change until each item is where it was meant to get, and tells of every step on the way.

What is awaited and when it is reached is in `dcvtui.goals`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dcvtui.client import BrokerClient
from dcvtui.errors import BrokerError
from dcvtui.goals import Judgement, Progress, judge_server, judge_session, state_in_words
from dcvtui.list_output import SESSIONS, ListKind
from dcvtui.operations import ItemResult, Outcome

LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Wait:
    """What to wait for.

    Attributes:
        kind: sessions or servers.
        goal: see `dcvtui.goals`.
        timeout_s: for all items together.
    """

    kind: ListKind
    goal: str
    timeout_s: float


class Waiting:
    """One wait. `results` are true at every moment, also when Ctrl-C ends it.

    Args:
        wait: what for.
        results: of the change; those that are not done are left as they are.
        say: tells a person of a transition.
    """

    def __init__(self, wait: Wait, results: Sequence[ItemResult], say: Callable[[str], None]) -> None:
        self._wait, self._say = wait, say
        self.results = list(results)
        self._seen: dict[str, dict[str, Any] | None] = {}
        self._told: dict[str, str] = {}
        self._trouble = ""
        self.pending = [index for index, one in enumerate(results) if one.outcome is Outcome.DONE]

    async def run(self, client: BrokerClient) -> bool:
        """Wait until every item has got there or never will.

        Returns:
            False when the time was over before.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait.timeout_s
        while self.pending:
            await self._look(client)
            left = end - loop.time()
            if not self.pending or left <= 0:
                break
            await asyncio.sleep(min(LOOK_AGAIN_S, left))
        return not self.pending

    async def _look(self, client: BrokerClient) -> None:
        ids = [self.results[index].id for index in self.pending]
        found: dict[str, dict[str, Any]] = {}
        try:
            pages = client.sessions(ids) if self._wait.kind is SESSIONS else client.servers(ids)
            async for page in pages:
                found |= {str(wire.get("Id")): wire for wire in page}
        except BrokerError as error:
            # The change is made; that the broker cannot be asked for a while says nothing about it.
            if error.sentence != self._trouble:
                self._say(f"{error.sentence} Asking again until the time is over.")
            self._trouble = error.sentence
            return
        self._trouble = ""
        self.pending = [index for index in self.pending if self._is_on_the_way(index, found)]

    def _is_on_the_way(self, index: int, found: dict[str, dict[str, Any]]) -> bool:
        result = self.results[index]
        wire, before = found.get(result.id), self._seen.get(result.id) or {}
        self._seen[result.id] = wire
        self._tell(result, wire)
        progress, reason = self._judge(wire, str(before.get("State", "")))
        if progress is Progress.HOPELESS:
            self.results[index] = replace(result, outcome=Outcome.FAILED, reason=reason, answer=wire)
        elif self._wait.kind is SESSIONS:
            state = {"State": wire["State"] if wire else "DELETED"}
            # A deletion is answered by id and state, a creation by the whole session.
            is_whole = "Name" in (result.answer or {}) and wire
            answer = dict(wire or {}) if is_whole else {**(result.answer or {}), **state}
            self.results[index] = replace(result, answer=answer)
        return progress is Progress.ON_THE_WAY

    def _judge(self, wire: dict[str, Any] | None, before: str) -> Judgement:
        if self._wait.kind is SESSIONS:
            return judge_session(self._wait.goal, wire, before)
        return judge_server(self._wait.goal, wire)

    def _tell(self, result: ItemResult, wire: dict[str, Any] | None) -> None:
        state = state_in_words(self._wait.kind.name, wire)
        if self._told.get(result.id) != state:
            self._told[result.id] = state
            name = (wire or {}).get("Name") or (wire or {}).get("Hostname") or result.name or result.id
            self._say(f"{name}: {state}")
