"""`doctor`: prints what was found, a line for each thing."""

import asyncio
import os
import sys

from dcvtui import doctor
from dcvtui.config import Connection
from dcvtui.doctor import Finding, Verdict
from dcvtui.errors import ProgramError
from dcvtui.options import Given
from dcvtui.output import ExitCode, write_object, write_rows
from dcvtui.terminal import from_environment

_HEADS = ("WHAT", "", "RESULT", "FINDING")


def print_findings(given: Given) -> int:
    """Look at the broker that is configured and at this terminal.

    Returns:
        5 if something does not work.
    """
    chosen = given.format()
    try:
        connection, fault = given.connection(), ""
    except ProgramError as error:
        connection, fault = None, error.sentence
    found = asyncio.run(_findings(connection, fault))
    if chosen.is_structured:
        values = [
            {"topic": one.topic, "name": one.name, "result": str(one.verdict), "text": one.text}
            for one in found
        ]
        write_object({"findings": values}, chosen, sys.stdout)
    else:
        rows = [(one.topic, one.name, str(one.verdict), one.text) for one in found]
        write_rows(_HEADS, rows, chosen, sys.stdout)
    return ExitCode.ANSWER_IS_NO if doctor.has_failed(found) else ExitCode.OK


async def _findings(connection: Connection | None, fault: str) -> list[Finding]:
    if connection is None:
        found = [Finding("broker", "settings", Verdict.FAILED, fault)]
    else:
        found = [Finding("broker", "settings", Verdict.GOOD, _configured(connection))]
        found += [one async for one in doctor.broker_findings(connection)]
    terminal = from_environment(os.environ)
    tmux = await doctor.tmux_options() if terminal.is_tmux else {}
    return [*found, *doctor.terminal_findings(terminal, os.environ, tmux)]


def _configured(connection: Connection) -> str:
    origin = next((setting.origin for setting in connection.settings if setting.name == "url"), "")
    return f"{connection.url} from {origin}"
