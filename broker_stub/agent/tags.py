"""Tags of this server: the administrator's TOML files, read again when they change.

All files of the folder apply in alphabetical order and the last value of a key
wins (agent specification, 3.6). A broken file is skipped and said once per change.
"""

import logging
import tomllib
from pathlib import Path
from typing import Any

from broker_stub.channel_messages import MAX_TAG_KEY, MAX_TAG_VALUE, MAX_TAGS

logger = logging.getLogger(__name__)

_RESERVED = "dcv:"
_MOST_BYTES = 256 * 1024


class TagsFolder:
    """The tags of one folder. Call it to have them; it reads only what has changed.

    Args:
        folder: Where the files are; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: object = None
        self._tags: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """The tags as of now."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._tags = self._read()
        return self._tags

    def _look(self) -> list[tuple[str, int, int]]:
        found = []
        try:
            for path in sorted(self._folder.glob("*.toml")):
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns))
        except OSError as error:
            logger.warning("The tags in %s cannot be read: %s", self._folder, error.strerror)
        return found

    def _read(self) -> dict[str, str]:
        tags: dict[str, str] = {}
        for path in sorted(self._folder.glob("*.toml")):
            try:
                if path.stat().st_size > _MOST_BYTES:
                    logger.warning("The tags file %s is too large and skipped.", path)
                    continue
                content = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                logger.warning("The tags file %s is skipped: %s", path, error)
                continue
            for key, value in content.items():
                text = _text(path, key, value)
                if text is not None:
                    tags[key] = text
        room = MAX_TAGS - 3  # the agent's own three
        if len(tags) > room:
            logger.warning("Only the first %d of %d tags are used.", room, len(tags))
        return dict(list(tags.items())[:room])


def _text(path: Path, key: str, value: Any) -> str | None:
    """A value as tags have it, or nothing for what is no tag."""
    if key.startswith(_RESERVED):
        logger.warning("The tag %s in %s is dropped: %s tags are set by the agent.", key, path, _RESERVED)
        return None
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        logger.warning("The tag %s in %s is skipped: its value is neither text nor number.", key, path)
        return None
    if not key or len(key) > MAX_TAG_KEY or len(value) > MAX_TAG_VALUE or "\0" in key + value:
        logger.warning("The tag %.40s in %s is skipped: it is too long or not printable.", key, path)
        return None
    return value
