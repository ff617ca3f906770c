"""Lines of a log, for broker and agent: one record is one line, whatever names it quotes.

Names, ids and paths in a message come from other people. A line break in one would
forge a line of the log, an escape sequence would steer the terminal it is read on.
"""

import logging

from dcvtui.api.text import visible


class LogLines(logging.Formatter):
    """Shows control characters and direction marks in messages as codes; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the standard library's name
        """The line of a record."""
        return visible(super().formatMessage(record))
