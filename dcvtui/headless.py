"""What the commands do: ask the broker, print the answer, say how it went with an exit code.

`dcvtui.commands` reads the command line and comes here; nothing here asks a
person. Standard output is data, standard error is words.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dcvtui.api.text import visible
from dcvtui.client import BrokerClient, join_answers
from dcvtui.config import Connection
from dcvtui.connect import direct_route, native_url, token_end, web_url
from dcvtui.errors import ConfigError
from dcvtui.operations import ITEMS_PER_CALL, Batch, ItemResult, Outcome
from dcvtui.output import (
    SESSIONS,
    ExitCode,
    Format,
    ListKind,
    Row,
    exit_code_of,
    write_json,
    write_separated,
    write_table,
    writer,
)
from dcvtui.query import Filter, QueryError, compile_filter, haystack


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run the work of one command; Ctrl-C ends it."""
    return asyncio.run(work)


def say(sentence: str) -> None:
    """Tell a person something on standard error."""
    sys.stderr.write(f"dcvtui: {sentence}\n")


# ------------------------------------------------------------------ lists


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What of a list is wanted. `filters` go to the broker, `expression` is evaluated here."""

    ids: Sequence[str] = ()
    filters: Sequence[tuple[str, str]] = ()
    max_results: int | None = None
    next_token: str | None = None
    columns: Sequence[str] | None = None
    sort: str | None = None
    expression: str = ""

    @property
    def is_one_page(self) -> bool:
        """The official client's way: its options for pages switch the following of pages off."""
        return self.max_results is not None or self.next_token is not None


async def print_list(connection: Connection, kind: ListKind, request: ListRequest, chosen: Format) -> int:
    """Print servers or sessions, page by page as they come; sorted ones when all are there."""
    columns = kind.choose(request.columns)
    order = kind.choose([request.sort.lstrip("-")])[0] if request.sort else None
    tags: dict[Any, Sequence[tuple[str, str]]] = {}
    wanted = _filter(request.expression, kind, tags)
    collected: list[Row] = []
    printer = None
    page: dict[str, Any] = {}
    async with BrokerClient.to(connection) as client:
        async for page in _pages(client, kind, request):
            now = client.broker_time or datetime.now(UTC)
            printer = printer or writer(chosen, kind, columns, sys.stdout, now)
            rows = _matching(kind, kind.rows(page), wanted, tags, now)
            if order:
                collected += rows
            else:
                printer.page(rows, page)
                sys.stdout.flush()
    if printer and order and request.sort:
        is_reversed = request.sort.startswith("-")
        collected.sort(key=lambda row: order.sort_key(row.record, now), reverse=is_reversed)
        printer.page(collected, page)
    if printer:
        printer.finish()
    return ExitCode.OK


async def _pages(client: BrokerClient, kind: ListKind, request: ListRequest) -> AsyncIterator[dict[str, Any]]:
    is_sessions = kind is SESSIONS
    if request.is_one_page and is_sessions:
        yield await client.describe_sessions_page(
            request.ids, request.filters, request.max_results, request.next_token
        )
    elif request.is_one_page:
        yield await client.describe_servers_page(request.ids, request.max_results, request.next_token)
    else:
        pages = (
            client.session_pages(request.ids, request.filters)
            if is_sessions
            else client.server_pages(request.ids)
        )
        async for page in pages:
            yield page


def _filter(expression: str, kind: ListKind, tags: dict[Any, Sequence[tuple[str, str]]]) -> Filter:
    try:
        return compile_filter(expression, kind.columns, lambda record: tags.get(record.key, ()))
    except QueryError as error:
        raise ConfigError(
            f"The filter '{visible(expression)}' is not understood at column {error.column}: {error}.",
            ExitCode.BAD_VALUE,
        ) from None


def _matching(
    kind: ListKind,
    rows: Sequence[Row],
    wanted: Filter,
    tags: dict[Any, Sequence[tuple[str, str]]],
    now: datetime,
) -> list[Row]:
    if not wanted.text:
        return list(rows)
    matching = []
    for row in rows:
        tags[row.record.key] = _tags(row)
        if wanted.matches(row.record, now, haystack(row.record, kind.columns, now)):
            matching.append(row)
    return matching


def _tags(row: Row) -> list[tuple[str, str]]:
    server = row.wire.get("Server", row.wire)
    found = server.get("Tags") if isinstance(server, dict) else None
    return [(str(tag.get("Key")), str(tag.get("Value"))) for tag in found or () if isinstance(tag, dict)]


# ------------------------------------------------------------------ changes


def run_batch(
    connection: Connection, make: Callable[[BrokerClient], Batch], chosen: Format, *, is_compatible: bool
) -> int:
    """Change something and print what became of each item, also when Ctrl-C ends it.

    Raises:
        ConfigError: the connection is read-only.
    """
    if connection.read_only:
        raise ConfigError(
            f"'{visible(connection.name)}' is read-only, so nothing was sent. "
            "Leave out --read-only, or read_only in the profile, to change something.",
            ExitCode.BAD_VALUE,
        )
    batches: list[Batch] = []
    is_interrupted = False
    try:
        asyncio.run(_work(connection, make, batches))
    except KeyboardInterrupt:
        is_interrupted = True
    if not batches:
        return ExitCode.INTERRUPTED
    code = print_batch(batches[0], chosen, is_compatible=is_compatible)
    return ExitCode.INTERRUPTED if is_interrupted else code


async def _work(connection: Connection, make: Callable[[BrokerClient], Batch], batches: list[Batch]) -> None:
    def progress(finished: int, total: int, _new: Sequence[ItemResult]) -> None:
        if total > ITEMS_PER_CALL:
            say(f"{finished} of {total}")

    async with BrokerClient.to(connection) as client:
        batches.append(make(client))
        await batches[0].run(progress)


def print_batch(batch: Batch, chosen: Format, *, is_compatible: bool) -> int:
    """Print the results of a batch; the exit code says whether all went well."""
    results = batch.results
    if batch.error and not batch.answers and not batch.error.was_sent:
        say(batch.error.sentence)
        return exit_code_of(batch.error)
    if chosen is Format.TABLE:
        write_table(*_result_table(results), sys.stdout)
    elif chosen is Format.JSON:
        write_json(_joined(batch), sys.stdout)
    elif chosen is Format.IDS:
        sys.stdout.writelines(visible(r.id) + "\n" for r in results if r.outcome is Outcome.DONE)
    else:
        write_separated(*_result_table(results), sys.stdout, "," if chosen is Format.CSV else "\t")
    if chosen is not Format.TABLE:
        for result in results:
            if result.outcome is not Outcome.DONE:
                say(f"{visible(result.id or result.name)}: {result.outcome}: {visible(result.reason)}")
    outcomes = {result.outcome for result in results}
    if outcomes <= {Outcome.DONE} or (is_compatible and Outcome.NOT_SENT not in outcomes):
        return ExitCode.OK
    return ExitCode.ITEMS_FAILED


def _result_table(results: Sequence[ItemResult]) -> tuple[list[str], list[list[str]]]:
    heads = ["RESULT", "ID", "NAME", "REASON"]
    rows = [[str(r.outcome), r.id, r.name, r.reason] for r in results]
    used = [i for i in range(len(heads)) if i == 0 or any(row[i] for row in rows)]
    return [heads[i] for i in used], [[row[i] for i in used] for row in rows]


def _joined(batch: Batch) -> dict[str, Any]:
    """The API's reply over all calls; what failed without the broker's having been asked is added."""
    joined = join_answers(batch.answers)
    joined["UnsuccessfulList"] += [
        {"SessionId": result.id, "FailureReason": result.reason}
        for result in batch.results
        if result.outcome is Outcome.FAILED and not result.request_id
    ]
    return joined


# ------------------------------------------------------------------ connection data, screenshots


async def print_connection_data(connection: Connection, session_id: str, user: str, chosen: Format) -> int:
    """Print how a user reaches a session; the token in it is a secret, and this command is asked for it."""
    async with BrokerClient.to(connection) as client:
        answer = await client.connection_data(session_id, user)
    if chosen is not Format.TABLE:
        write_json(answer.raw, sys.stdout)
        return ExitCode.OK
    session = answer.model.session.to_wire() if answer.model.session else {}
    token = answer.model.connection_token or ""
    route = direct_route(session, connection.address_tag)
    end = token_end(token)
    until = end.astimezone().strftime("%H:%M:%S") if end else "not known; the broker's default is 60 minutes"
    rows = [
        ("session", str(session.get("Name", "")) or session_id),
        ("user", user),
        ("web", web_url(session, token, route)),
        ("native", native_url(session, token, route)),
        ("valid until", until),
    ]
    write_table(("WHAT", "VALUE"), rows, sys.stdout)
    return ExitCode.OK


async def print_screenshots(
    connection: Connection, items: Sequence[dict[str, Any]], chosen: Format, *, is_compatible: bool
) -> int:
    """Print screenshots as the API gives them, Base64 in JSON; a table tells only what there is."""
    async with BrokerClient.to(connection) as client:
        answer = await client.screenshots(items)
    if chosen is Format.TABLE:
        write_table(("ID", "FORMAT", "BYTES", "TAKEN", "REASON"), _screenshot_rows(answer.model), sys.stdout)
    else:
        write_json(answer.raw, sys.stdout)
    has_failed = bool(answer.model.unsuccessful_list) and not is_compatible
    return ExitCode.ITEMS_FAILED if has_failed else ExitCode.OK


def _screenshot_rows(answer: Any) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for done in answer.successful_list:
        shot = done.session_screenshot
        for image in shot.images if shot else ():
            size = len(image.data or "") * 3 // 4
            rows.append((shot.session_id or "", image.format or "", str(size), image.creation_time or "", ""))
    for failed in answer.unsuccessful_list:
        asked = failed.get_session_screenshot_request_data
        identity = asked.session_id if asked else ""
        rows.append((identity or "", "", "", "", failed.failure_reason or ""))
    return rows
