"""Prints servers and sessions as the broker gives them: page by page, filtered and sorted on request."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dcvtui.api.text import visible
from dcvtui.client import BrokerClient
from dcvtui.config import Connection
from dcvtui.errors import BrokerError, ConfigError
from dcvtui.headless.words import Progress, say
from dcvtui.list_output import SESSIONS, ListKind, Row, Writer, writer
from dcvtui.output import ExitCode, Format, exit_code_of
from dcvtui.query import Filter, QueryError, compile_filter, haystack


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


class Wanted:
    """A filter of the console over rows of the API.

    Raises:
        ConfigError: it is not understood.
    """

    def __init__(self, expression: str, kind: ListKind) -> None:
        self._columns = kind.columns
        self._tags: Sequence[tuple[str, str]] = ()
        try:
            self._filter: Filter = compile_filter(expression, kind.columns, lambda _record: self._tags)
        except QueryError as error:
            raise ConfigError(
                f"The filter '{visible(expression)}' is not understood at column {error.column}: {error}.",
                ExitCode.BAD_VALUE,
            ) from None

    def takes(self, row: Row, now: datetime) -> bool:
        """Whether a row matches at this time of the broker."""
        if not self._filter.text:
            return True
        self._tags = row.tags  # only this row's: what was looked at is not kept
        return self._filter.matches(row.record, now, haystack(row.record, self._columns, now))


async def print_list(connection: Connection, kind: ListKind, request: ListRequest, chosen: Format) -> int:
    """Print servers or sessions.

    When a page cannot be had, what came before is printed whole, the fault is told, and the exit code is
    that of the fault. Ctrl-C ends the same way.
    """
    kind.choose(request.columns)
    wanted = Wanted(request.expression, kind)
    listing = _Printing(kind, request, chosen)
    async with BrokerClient.to(connection) as client:
        try:
            with Progress() as progress:
                async for page in pages(client, kind, request):
                    now = client.broker_time or datetime.now(UTC)
                    listing.take([row for row in kind.rows(page) if wanted.takes(row, now)], page, now)
                    if "NextToken" in page:
                        progress.tell(f"{kind.count(listing.read)} read")
        except BrokerError as error:
            if listing.printer is None:
                raise
            listing.finish()
            say(f"The list ends here. {error.sentence}")
            return exit_code_of(error)
        except asyncio.CancelledError:
            listing.finish()
            raise
    listing.finish()
    return ExitCode.OK


def print_nothing(kind: ListKind, columns: Sequence[str] | None, chosen: Format) -> None:
    """Print an empty list."""
    printer = writer(chosen, kind, columns, sys.stdout, datetime.now(UTC))
    printer.page([], {kind.name: []})
    printer.finish()


class _Printing:
    """What has come of a list, printed at once or, where it is sorted, at the end."""

    def __init__(self, kind: ListKind, request: ListRequest, chosen: Format) -> None:
        self._kind, self._request, self._chosen = kind, request, chosen
        sort = request.sort or ""
        self._order = kind.choose([sort.lstrip("-")])[0] if sort else None
        self._collected: list[Row] = []
        self._page: dict[str, Any] = {}
        self._now = datetime.now(UTC)
        self.read = 0
        self.printer: Writer | None = None

    def take(self, rows: list[Row], page: dict[str, Any], now: datetime) -> None:
        self.read += len(page[self._kind.name])
        if self.printer is None:
            self._now = now
            self.printer = writer(self._chosen, self._kind, self._request.columns, sys.stdout, now)
        if self._order:
            self._collected += rows
            self._page = {name: value for name, value in page.items() if name != self._kind.name}
        else:
            self.printer.page(rows, page)
            sys.stdout.flush()

    def finish(self) -> None:
        if self.printer is None:
            return
        if order := self._order:
            is_reversed = (self._request.sort or "").startswith("-")
            self._collected.sort(key=lambda row: order.sort_key(row.record, self._now), reverse=is_reversed)
            self.printer.page(self._collected, self._page)
        self.printer.finish()


async def pages(client: BrokerClient, kind: ListKind, request: ListRequest) -> AsyncIterator[dict[str, Any]]:
    """The pages that are wanted: all of them, or the one that the official client's options name."""
    is_sessions = kind is SESSIONS
    if request.is_one_page and is_sessions:
        yield await client.describe_sessions_page(
            request.ids, request.filters, request.max_results, request.next_token
        )
    elif request.is_one_page:
        yield await client.describe_servers_page(request.ids, request.max_results, request.next_token)
    else:
        found = (
            client.session_pages(request.ids, request.filters)
            if is_sessions
            else client.server_pages(request.ids)
        )
        async for page in found:
            yield page


async def collect(connection: Connection, kind: ListKind, expression: str) -> tuple[list[Row], datetime]:
    """All rows that match a filter, and the broker's time.

    Raises:
        ConfigError: the filter is not understood.
        BrokerError: the list cannot be had whole; an action on a part of it is not what was asked for.
    """
    wanted = Wanted(expression, kind)
    found: list[Row] = []
    read = 0
    async with BrokerClient.to(connection) as client:
        with Progress() as progress:
            async for page in pages(client, kind, ListRequest()):
                now = client.broker_time or datetime.now(UTC)
                rows = kind.rows(page)
                read += len(rows)
                found += [row for row in rows if wanted.takes(row, now)]
                progress.tell(f"{kind.count(read)} read")
        return found, client.broker_time or datetime.now(UTC)
