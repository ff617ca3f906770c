"""`requirements check`: reads an expression, and lists the servers that it fits now."""

import sys
from datetime import UTC, datetime

from dcvtui.api.requirements import Requirements, RequirementsError, parse
from dcvtui.api.server_facts import facts_of
from dcvtui.api.text import cell_width, visible
from dcvtui.client import BrokerClient
from dcvtui.config import Connection
from dcvtui.errors import ConfigError
from dcvtui.headless.words import Progress, say
from dcvtui.list_output import SERVERS, writer
from dcvtui.output import ExitCode, Format


def read_expression(text: str) -> Requirements:
    """Understand an expression; where it stops making sense a caret points at the place.

    Raises:
        ConfigError: it is not understood.
    """
    try:
        return parse(text)
    except RequirementsError as error:
        if error.position is not None and "\n" not in text:
            before = visible(text[: error.position - 1])
            sys.stderr.write(f"  {visible(text)}\n  {' ' * cell_width(before)}^\n")
        raise ConfigError(
            f"The requirements are not understood: {error.sentence}", ExitCode.BAD_VALUE
        ) from None


async def print_matching(connection: Connection, requirements: Requirements, chosen: Format) -> int:
    """Print the servers that an expression fits now.

    Returns:
        5 if it fits none.
    """
    matching = total = 0
    async with BrokerClient.to(connection) as client:
        printer = None
        with Progress() as progress:
            async for page in client.server_pages():
                now = client.broker_time or datetime.now(UTC)
                printer = printer or writer(chosen, SERVERS, None, sys.stdout, now)
                rows = [row for row in SERVERS.rows(page) if requirements.matches(facts_of(row.wire))]
                total += len(page["Servers"])
                matching += len(rows)
                printer.page(rows, page)
                progress.tell(f"{SERVERS.count(total)} read")
        if printer:
            printer.finish()
    say(f"It fits {matching:,} of {SERVERS.count(total)}.")
    return ExitCode.OK if matching else ExitCode.ANSWER_IS_NO
