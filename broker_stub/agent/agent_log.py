"""The agent's log file: `agent.log`, begun anew by size, by time, or both.

Administrators search it for one line (agent specification, 3.7), so the name and
the words matter. What would write secrets or noise is kept quiet here.
"""

import logging
import time
from logging.handlers import RotatingFileHandler

from broker_stub.agent.settings import LogSection
from broker_stub.log_lines import LogLines

_KEPT_FILES = 9
_FORMATS = {"hourly": "%Y%m%d%H", "daily": "%Y%m%d", "never": ""}
_QUIET = ("httpx", "httpcore", "websockets", "asyncio", "PIL")


class AgentLog(RotatingFileHandler):
    """A log file that is set aside when it is large enough, or when an hour or day has passed.

    Args:
        settings: Where it is, when it is begun anew, how many old ones are kept.

    Raises:
        OSError: the folder cannot be made or the file not be written.
    """

    def __init__(self, settings: LogSection) -> None:
        settings.directory.mkdir(parents=True, exist_ok=True)
        rule = settings.rotation
        kept = rule if isinstance(rule, int) else _KEPT_FILES
        self._period_format = "" if isinstance(rule, int) else _FORMATS[rule]
        path = settings.directory / "agent.log"
        begun_at = path.stat().st_mtime if path.exists() else time.time()
        super().__init__(path, maxBytes=settings.max_file_size, backupCount=kept, encoding="utf-8")
        self._period = self._period_of(begun_at)
        formatter = LogLines("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s")
        formatter.converter = time.gmtime
        formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
        self.setFormatter(formatter)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  the standard library's name
        """Whether this line begins a new file."""
        period = self._period_of(record.created)
        if period != self._period:
            self._period = period
            return True
        return bool(super().shouldRollover(record))

    def _period_of(self, moment: float) -> str:
        return time.strftime(self._period_format, time.gmtime(moment))


def log_to_file(settings: LogSection) -> None:
    """Send what the agent says to its log file.

    Raises:
        OSError: it cannot be written.
    """
    root = logging.getLogger()
    root.addHandler(AgentLog(settings))
    set_level(settings)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def set_level(settings: LogSection) -> None:
    """Say as much as the settings want."""
    level = "debug" if settings.level == "trace" else settings.level
    logging.getLogger().setLevel(level.upper())
