"""`doctor`: prints what was found, a line for each thing."""

import asyncio
import os
import sys

from dcvtui import doctor
from dcvtui.config import Connection
from dcvtui.doctor import Finding, Verdict
from dcvtui.errors import ProgramError
from dcvtui.output import ExitCode, Format, write_object, write_rows
from dcvtui.terminal import from_environment

_HEADS = ("WHAT", "", "RESULT", "FINDING")


def print_findings(connection: Connection | ProgramError, chosen: Format) -> int:
    """Look at the way to a broker and at this terminal.

    Args:
        connection: as it is configured; what is wrong with that, if it cannot be told.
        chosen: the format.

    Returns:
        5 if something does not work.
    """
    found = asyncio.run(_findings(connection))
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


async def _findings(connection: Connection | ProgramError) -> list[Finding]:
    if isinstance(connection, ProgramError):
        found = [Finding("broker", "settings", Verdict.FAILED, connection.sentence)]
    else:
        found = [Finding("broker", "settings", Verdict.GOOD, _configured(connection))]
        found += [one async for one in doctor.broker_findings(connection)]
    terminal = from_environment(os.environ)
    tmux = await doctor.tmux_options() if terminal.is_tmux else {}
    return [*found, *doctor.terminal_findings(terminal, os.environ, tmux)]


def _configured(connection: Connection) -> str:
    origin = next((setting.origin for setting in connection.settings if setting.name == "url"), "")
    return f"{connection.url} from {origin}"
