"""The broker's logs: `broker.log` and `audit.log`, and standard error for what is read at once.

Where the folder cannot be written everything goes to standard error, which systemd
keeps in its journal.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from broker_stub.broker import audit
from broker_stub.broker.settings import Running
from broker_stub.log_files import DAILY, LogFile
from broker_stub.log_lines import LogLines
from dcvtui.api.text import visible

LARGEST_BYTES = 100 * 1024 * 1024
KEPT_FILES = 10
_OURS = "broker_stub"
_STEPS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class TextLines(LogLines):
    """`time level logger: message`, with the id of the request that was being served."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002  the standard library's
        """The time of a record, in UTC."""
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the standard library's name
        """The line of a record."""
        line = super().formatMessage(record)
        request = getattr(record, "request", "")
        return f"{line} [{request}]" if request else line


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := getattr(record, "request", ""):
            entry["request"] = request
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class AuditText(logging.Formatter):
    """`time action=… outcome=… actor=…`: values with blanks in them are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in _audited(record).items())
        return f"{_time(record)} {pairs}"


class AuditJson(logging.Formatter):
    """One JSON object for each record of the audit trail."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return json.dumps({"time": _time(record), **_audited(record)})


class _Request(logging.Filter):
    """Gives each record the id of the request that is being served."""

    def filter(self, record: logging.LogRecord) -> bool:
        call = audit.current()
        record.request = call.request_id if call is not None else ""
        return True


def log_to(settings: Running, output: TextIO = sys.stderr) -> None:
    """Send what the broker says where the settings want it.

    Args:
        settings: Folder, level and format.
        output: Gets what an administrator should see at once; all of it where there is no file.
    """
    is_json = settings.log_format == "json"
    lines: logging.Formatter = JsonLines() if is_json else TextLines()
    root = logging.getLogger()
    console = _handler(logging.StreamHandler(output), lines)
    root.addHandler(console)
    try:
        file = _log_file(settings, "broker.log")
        trail = _log_file(settings, "audit.log")
    except OSError as error:
        logging.getLogger(__name__).warning(
            "The log folder %s cannot be written: %s. Everything goes to standard error.",
            settings.log_path,
            error.strerror,
        )
    else:
        root.addHandler(_handler(file, lines))
        audit.trail.addHandler(_handler(trail, AuditJson() if is_json else AuditText()))
        audit.trail.propagate = False
        if not output.isatty():
            console.setLevel(logging.WARNING)  # the journal need not hold everything twice
    audit.trail.setLevel(logging.INFO)
    set_level(settings.log_level)


def set_level(level: str) -> None:
    """Say as much as the level wants.

    Libraries stay at warnings whatever the level: they would write statements, headers and
    frames with the secrets in them.
    """
    logging.getLogger().setLevel(max(logging.WARNING, _STEPS[level]))
    logging.getLogger(_OURS).setLevel(_STEPS[level])


def _log_file(settings: Running, name: str) -> LogFile:
    return LogFile(settings.log_path / name, period=DAILY, max_bytes=LARGEST_BYTES, kept=KEPT_FILES)


def _handler(handler: logging.Handler, formatter: logging.Formatter) -> logging.Handler:
    handler.setFormatter(formatter)
    handler.addFilter(_Request())
    return handler


def _audited(record: logging.LogRecord) -> Mapping[str, audit.Detail]:
    found: Mapping[str, audit.Detail] | None = getattr(record, "audit", None)
    return found if found is not None else {"action": record.getMessage()}


def _quoted(value: audit.Detail) -> str:
    text = visible(str(value))
    return text if text and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
