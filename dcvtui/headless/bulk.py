"""Actions on everything that a filter finds: the items are looked up, shown and asked about, then changed.

For which of them an action is meant is decided in `dcvtui.selection`.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from dcvtui.config import Connection
from dcvtui.errors import ConfigError
from dcvtui.headless.changes import Manner, Verb, run_change
from dcvtui.headless.lists import collect
from dcvtui.headless.words import ask, say
from dcvtui.list_output import SESSIONS, Row, writer
from dcvtui.operations import ItemResult, Outcome
from dcvtui.output import ExitCode, Format
from dcvtui.selection import Selection, to_reap


@dataclass(frozen=True, slots=True)
class Bulk:
    """An action on everything that a filter finds.

    Attributes:
        expression: the filter.
        fields: of each item, besides its id and owner.
        select: for which of what was found the action is meant.
        is_confirmed: `--yes` was given.
        is_reaping: a dry run that finds something ends with 5.
    """

    expression: str
    fields: Mapping[str, Any]
    select: Callable[[Sequence[Any]], Selection[Any]]
    is_confirmed: bool = False
    is_reaping: bool = False


def run_bulk(connection: Connection, verb: Verb, bulk: Bulk, manner: Manner) -> int:
    """Find the items, ask where that is possible and needed, and do it.

    Raises:
        ConfigError: the filter is empty or not understood, or nobody can be asked.
        BrokerError: the items cannot be found.
    """
    if not bulk.expression.strip():
        raise ConfigError(
            f"An empty filter would mean every {verb.kind.noun}. Say so if that is meant: --filter 'name:*'",
            ExitCode.BAD_VALUE,
        )
    rows, now = asyncio.run(collect(connection, verb.kind, bulk.expression))
    found = bulk.select([row.record for row in rows])
    for record, reason in found.left_out:
        say(f"{record.name or record.id}: left out: {reason}")
    if found.left_out:
        say(f"{verb.kind.count(len(found.left_out))} left out; {found.advice}.")
    if not found.chosen and not found.hopeless:
        say(f"There is no {verb.kind.noun} to {verb.word}.")
    keys = {record.key for record in found.chosen}
    chosen = [row for row in rows if row.record.key in keys]
    if chosen and not bulk.is_confirmed and not manner.is_dry_run and not _is_agreed(verb, chosen, now):
        say("Nothing was changed.")
        return ExitCode.OK
    code = run_change(
        connection,
        verb,
        [_item(verb, row.record, bulk.fields) for row in chosen],
        manner,
        hopeless=[_failed(record, reason) for record, reason in found.hopeless],
        names={row.record.id: row.record.name for row in rows},
    )
    is_found = bulk.is_reaping and manner.is_dry_run and (found.chosen or found.hopeless)
    return ExitCode.ANSWER_IS_NO if is_found and code in (ExitCode.OK, ExitCode.ITEMS_FAILED) else code


def _item(verb: Verb, record: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    owner = {"Owner": record.owner} if verb.kind is SESSIONS else {}
    return {verb.id_name: record.id, **owner, **fields}


def _failed(record: Any, reason: str) -> ItemResult:
    return ItemResult(record.id, record.name, Outcome.FAILED, reason)


def _is_agreed(verb: Verb, rows: Sequence[Row], now: datetime) -> bool:
    table = writer(Format.TABLE, verb.kind, None, sys.stderr, now)
    if sys.stderr.isatty():
        table.page(rows, {})
    question = f"{verb.word.capitalize()} {verb.kind.count(len(rows))}?"
    return ask(question, "Give --yes to go on without a question, or look first with --dry-run.")


def reaped(expression: str, *, force: bool, include_connected: bool, is_confirmed: bool) -> Bulk:
    """What `reap` does to sessions; a dry run of it that finds something ends with 5."""
    select = partial(to_reap, include_connected=include_connected, force=force)
    return Bulk(expression, {"Force": True} if force else {}, select, is_confirmed, is_reaping=True)
