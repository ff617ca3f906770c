"""Changes something, item by item, and prints what became of each, also when Ctrl-C ends it.

Here are the dry run and the wait for the end; the requests themselves are made
in `dcvtui.operations`, actions on all that a filter finds begin in `dcvtui.headless.bulk`.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcvtui import operations
from dcvtui.api.text import visible
from dcvtui.client import BrokerClient, join_answers
from dcvtui.config import Connection
from dcvtui.dry_run import DryRunClient, Unsent
from dcvtui.errors import ConfigError
from dcvtui.headless.waiting import Wait, Waiting
from dcvtui.headless.words import say
from dcvtui.list_output import SERVERS, SESSIONS, ListKind
from dcvtui.operations import ITEMS_PER_CALL, Batch, Item, ItemResult, Outcome
from dcvtui.output import ExitCode, Format, exit_code_of, write_object, write_rows


@dataclass(frozen=True, slots=True)
class Verb:
    """One kind of change.

    Attributes:
        word: what is done to an item.
        kind: to which kind of item.
        start: makes the batch.
        goal: what `--wait` waits for.
    """

    word: str
    kind: ListKind
    start: Callable[[BrokerClient, Sequence[Item]], Batch]
    goal: str = ""

    @property
    def id_name(self) -> str:
        """The field that holds an item's id."""
        return "SessionId" if self.kind is SESSIONS else "ServerId"

    def failed_entry(self, result: ItemResult) -> dict[str, Any]:
        """An item of the `UnsuccessfulList`, as the broker would have written it."""
        named: dict[str, Any] = {self.id_name: result.id}
        if self.kind is SERVERS:
            named = {f"{self.word.capitalize()}ServerRequestData": named}
        return {**named, "FailureReason": result.reason}


CREATE = Verb("create", SESSIONS, operations.create_sessions, "ready")
DELETE = Verb("delete", SESSIONS, operations.delete_sessions, "deleted")
PERMIT = Verb("change the permissions of", SESSIONS, operations.update_permissions)
OPEN = Verb("open", SERVERS, operations.open_servers, "available")
CLOSE = Verb("close", SERVERS, operations.close_servers, "closed")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a change is made and told.

    Attributes:
        chosen: the format of the answer.
        is_compatible: failed items do not show in the exit code.
        is_dry_run: nothing is sent.
        goal: what to wait for afterwards; None for not at all.
        timeout_s: for the wait.
    """

    chosen: Format
    is_compatible: bool = False
    is_dry_run: bool = False
    goal: str | None = None
    timeout_s: float = 600


@dataclass(slots=True)
class _Story:
    """What happened so far; it can be told at any moment."""

    batch: Batch | None = None
    waiting: Waiting | None = None
    is_in_time: bool = True
    unsent: list[Unsent] = field(default_factory=list)

    @property
    def results(self) -> list[ItemResult]:
        if self.waiting:
            return self.waiting.results
        return self.batch.results if self.batch else []


def run_change(
    connection: Connection,
    verb: Verb,
    items: Sequence[Item],
    manner: Manner,
    *,
    hopeless: Sequence[ItemResult] = (),
    names: Mapping[str, str] | None = None,
) -> int:
    """Change something and print what became of each item.

    Args:
        connection: to the broker.
        verb: what to do.
        items: with the fields of the API.
        manner: how.
        hopeless: what failed before anything was sent, to be told with the rest.
        names: how people call the items, by id.

    Raises:
        ConfigError: the connection is read-only.
    """
    if connection.read_only and not manner.is_dry_run:
        raise ConfigError(
            f"'{visible(connection.name)}' is read-only, so nothing was sent. "
            "Leave out --read-only, or read_only in the profile, to change something.",
            ExitCode.BAD_VALUE,
        )
    story = _Story()
    is_interrupted = False
    try:
        asyncio.run(_work(connection, verb, items, manner, story))
    except KeyboardInterrupt:
        is_interrupted = True
    if story.batch is None:
        return ExitCode.INTERRUPTED
    told = _Telling(verb, manner, story, hopeless, names or {})
    code = told.dry_run() if manner.is_dry_run else told.results()
    return ExitCode.INTERRUPTED if is_interrupted else code


async def _work(
    connection: Connection, verb: Verb, items: Sequence[Item], manner: Manner, story: _Story
) -> None:
    def progress(finished: int, total: int, _new: Sequence[ItemResult]) -> None:
        if total > ITEMS_PER_CALL and not manner.is_dry_run:
            say(f"{finished:,} of {total:,}")

    async with (DryRunClient if manner.is_dry_run else BrokerClient).to(connection) as client:
        story.batch = verb.start(client, items)
        await story.batch.run(progress)
        if isinstance(client, DryRunClient):
            story.unsent = client.unsent
        elif manner.goal and story.batch.answers:
            story.waiting = Waiting(Wait(verb.kind, manner.goal, manner.timeout_s), story.batch.results, say)
            story.is_in_time = await story.waiting.run(client)


@dataclass(frozen=True, slots=True)
class _Telling:
    """Prints a story."""

    verb: Verb
    manner: Manner
    story: _Story
    hopeless: Sequence[ItemResult]
    names: Mapping[str, str]

    def results(self) -> int:
        """What became of each item; the exit code says whether all went well."""
        batch, chosen = self.story.batch, self.manner.chosen
        assert batch is not None  # noqa: S101  a story without one is not told
        if batch.error and not batch.answers and not batch.error.was_sent:
            say(batch.error.sentence)
            return exit_code_of(batch.error)
        results = [*self.story.results, *self.hopeless]
        if chosen.is_structured:
            write_object(self._reply(batch, results), chosen, sys.stdout)
        elif chosen is Format.IDS:
            sys.stdout.writelines(visible(r.id) + "\n" for r in results if r.outcome is Outcome.DONE)
        else:
            write_rows(*self._table(results), chosen, sys.stdout)
        if chosen is not Format.TABLE:
            for result in results:
                if result.outcome is not Outcome.DONE:
                    say(f"{self._shown(result)}: {result.outcome}: {result.reason}")
        return self._code(results)

    def _code(self, results: Sequence[ItemResult]) -> int:
        outcomes = {result.outcome for result in results}
        if not outcomes <= {Outcome.DONE} and not (
            self.manner.is_compatible and Outcome.NOT_SENT not in outcomes
        ):
            return ExitCode.ITEMS_FAILED
        if not self.story.is_in_time:
            late = len(self.story.waiting.pending) if self.story.waiting else 0
            say(f"{self.verb.kind.count(late)} not {self.manner.goal} after {self.manner.timeout_s:g} s.")
            return ExitCode.WAIT_TIMED_OUT
        return ExitCode.OK

    def _name(self, result: ItemResult) -> str:
        return self.names.get(result.id) or result.name or str((result.answer or {}).get("Name") or "")

    def _shown(self, result: ItemResult) -> str:
        return self._name(result) or result.id or f"the {self.verb.kind.noun}"

    def _table(self, results: Sequence[ItemResult]) -> tuple[list[str], list[list[str]]]:
        heads = ["RESULT", "NAME", "STATE", "ID", "REASON"]
        rows = [
            [str(r.outcome), self._name(r), str((r.answer or {}).get("State") or ""), r.id, r.reason]
            for r in results
        ]
        return heads, rows

    def _reply(self, batch: Batch, results: Sequence[ItemResult]) -> dict[str, Any]:
        """The API's reply over all calls; what the broker was not asked about is added."""
        joined = join_answers(batch.answers)
        if self.story.waiting:
            self._bring_up_to_date(joined, results)
        joined["UnsuccessfulList"] += [
            self.verb.failed_entry(result)
            for result in results
            if result.outcome is Outcome.FAILED and (not result.request_id or result.answer)
        ]
        return joined

    def _bring_up_to_date(self, joined: dict[str, Any], results: Sequence[ItemResult]) -> None:
        """Put what the wait saw in the place of what the broker answered before."""
        if self.verb.kind is SESSIONS:
            joined["SuccessfulList"] = [
                result.answer for result in results if result.outcome is Outcome.DONE and result.answer
            ]

    # ------------------------------------------------------------------ the dry run

    def dry_run(self) -> int:
        """The items on standard output, the requests on standard error."""
        results = self.story.results
        items = [item for unsent in self.story.unsent for item in unsent.items]
        say("A dry run: nothing was sent.")
        for unsent in self.story.unsent:
            sys.stderr.write(_request_text(unsent))
        chosen = self.manner.chosen
        if chosen.is_structured:
            write_object(items, chosen, sys.stdout)
        elif chosen is Format.IDS:
            ids = (item.get(self.verb.id_name) or item.get("Name") for item in items)
            sys.stdout.writelines(f"{visible(str(one))}\n" for one in ids)
        else:
            write_rows(*self._planned(items), chosen, sys.stdout)
        failed = [r for r in (*results, *self.hopeless) if r.outcome is Outcome.FAILED]
        for result in failed:
            say(f"{self._shown(result)}: {result.outcome}: {result.reason}")
        batch = self.story.batch
        if batch and batch.error and not self.story.unsent:
            say(batch.error.sentence)
            return exit_code_of(batch.error)
        return ExitCode.ITEMS_FAILED if failed and not self.manner.is_compatible else ExitCode.OK

    def _planned(self, items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
        heads = ["WOULD", "NAME", "OWNER", "ID"]
        rows = []
        for item in items:
            identity = str(item.get(self.verb.id_name) or "")
            name = self.names.get(identity) or str(item.get("Name") or "")
            rows.append([self.verb.word.split()[0], name, str(item.get("Owner") or ""), identity])
        return heads, rows


def _request_text(unsent: Unsent) -> str:
    """A request as it would go over the wire, its token hidden."""
    lines = [f"{unsent.method} {visible(unsent.url)}"]
    lines += ["Authorization: Bearer •••"] if unsent.has_token else []
    body = ",\n ".join(json.dumps(item) for item in unsent.items)
    return "\n".join([*lines, "Content-Type: application/json", "", f"[{body}]", ""]) + "\n"
