"""The agent's log file: `agent.log`, begun anew by size, by time, or both.

Administrators search it for one line (agent specification, 3.7), so the name and
the words matter. What would write secrets or noise is kept quiet here.
"""

import logging
import time

from broker_stub.agent.settings import LogSection
from broker_stub.log_files import DAILY, HOURLY, NEVER, LogFile
from broker_stub.log_lines import LogLines

_KEPT_FILES = 9
_PERIODS = {"hourly": HOURLY, "daily": DAILY, "never": NEVER}
_QUIET = ("httpx", "httpcore", "websockets", "asyncio", "PIL")


class AgentLog(LogFile):
    """The agent's log file.

    Args:
        settings: Where it is, when it is begun anew, how many old ones are kept.

    Raises:
        OSError: the folder cannot be made or the file not be written.
    """

    def __init__(self, settings: LogSection) -> None:
        rule = settings.rotation
        super().__init__(
            settings.directory / "agent.log",
            period=NEVER if isinstance(rule, int) else _PERIODS[rule],
            max_bytes=settings.max_file_size,
            kept=rule if isinstance(rule, int) else _KEPT_FILES,
        )
        formatter = LogLines("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s")
        formatter.converter = time.gmtime
        formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
        self.setFormatter(formatter)


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
