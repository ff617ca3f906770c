"""Log files that are set aside by size and by time, readable by their owner and group alone."""

import math
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

HOURLY, DAILY, NEVER = "%Y%m%d%H", "%Y%m%d", ""
_MODE = 0o640
_FOLDER_MODE = 0o750
_COMPLAINT_INTERVAL_S = 60.0


class LogFile(RotatingFileHandler):
    """A log file that is begun anew when it is large enough, or when a period has passed.

    Args:
        path: The file; its folder is made if it is missing.
        period: `HOURLY`, `DAILY` or `NEVER`.
        max_bytes: Size after which a new file is begun.
        kept: How many old files stay beside it.

    Raises:
        OSError: the folder cannot be made or the file not be written.
    """

    def __init__(self, path: Path, *, period: str, max_bytes: int, kept: int) -> None:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        begun_at = path.stat().st_mtime if path.exists() else time.time()
        self._period_format = period
        self._complained_at = -math.inf
        super().__init__(path, maxBytes=max_bytes, backupCount=kept, encoding="utf-8")
        self._period = self._period_of(begun_at)

    def shouldRollover(self, record: Any) -> bool:  # noqa: N802  the standard library's name
        """Whether this line begins a new file; what is no file, such as a pipe, is never set aside."""
        if not Path(self.baseFilename).is_file():
            return False
        period = self._period_of(record.created)
        if period != self._period:
            self._period = period
            return True
        return bool(super().shouldRollover(record))

    def handleError(self, record: Any) -> None:  # noqa: N802, ARG002  the standard library's
        """A line could not be written: say so now and then, instead of a traceback for each line."""
        if time.monotonic() - self._complained_at > _COMPLAINT_INTERVAL_S:
            self._complained_at = time.monotonic()
            sys.stderr.write(f"The log file {self.baseFilename} cannot be written: {sys.exc_info()[1]}\n")

    def _open(self) -> Any:
        # Path.open cannot say how a new file is made.
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=_open_private)

    def _period_of(self, moment: float) -> str:
        return time.strftime(self._period_format, time.gmtime(moment))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)
