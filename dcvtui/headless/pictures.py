"""Screenshots: as the API gives them, as files, or drawn into the terminal."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from dcvtui.api.text import visible
from dcvtui.client import BrokerClient
from dcvtui.config import Connection
from dcvtui.errors import BrokerError, ConfigError, Refused
from dcvtui.headless.words import say
from dcvtui.images import Colours, ImageError, Line, draw
from dcvtui.output import ExitCode, Format, exit_code_of, write_object, write_rows
from dcvtui.private_files import file_stem, replace_private
from dcvtui.shots import IDS_PER_CALL, Shot, read_shots

if TYPE_CHECKING:
    from dcvtui.api.models import GetSessionScreenshotsResponse
    from dcvtui.terminal import Terminal

_JPEG: Final = b"\xff\xd8"


async def print_screenshots(
    connection: Connection, items: Sequence[dict[str, Any]], chosen: Format, *, is_compatible: bool
) -> int:
    """Print screenshots as the API gives them, Base64 in JSON; rows tell only what there is."""
    async with BrokerClient.to(connection) as client:
        answer = await client.screenshots(items)
    if chosen.is_structured:
        write_object(answer.raw, chosen, sys.stdout)
    elif chosen is Format.IDS:
        sys.stdout.writelines(f"{visible(row[0])}\n" for row in _rows(answer.model) if row[1])
    else:
        heads = ("ID", "FORMAT", "BYTES", "TAKEN", "REASON")
        write_rows(heads, _rows(answer.model), chosen, sys.stdout)
    has_failed = bool(answer.model.unsuccessful_list) and not is_compatible
    return ExitCode.ITEMS_FAILED if has_failed else ExitCode.OK


def _rows(answer: "GetSessionScreenshotsResponse") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for done in answer.successful_list:
        shot = done.session_screenshot
        for image in shot.images if shot else ():
            data = image.data or ""
            size = len(data) * 3 // 4 - data[-2:].count("=")
            taken = image.creation_time or ""
            rows.append((shot.session_id or "" if shot else "", image.format or "", str(size), taken, ""))
    for failed in answer.unsuccessful_list:
        asked = failed.get_session_screenshot_request_data
        identity = (asked.session_id if asked else "") or ""
        rows.append((identity, "", "", "", failed.failure_reason or "no reason given"))
    return rows


# ------------------------------------------------------------------ files and the terminal


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """Which pictures are wanted, and where. Without a folder they are drawn into the terminal."""

    session_ids: Sequence[str]
    folder: Path | None = None
    max_width: int | None = None
    max_height: int | None = None


async def take_pictures(connection: Connection, wanted: PictureRequest, terminal: "Terminal") -> int:
    """Take the pictures, a few at a time, and hand out each as soon as it is there.

    Raises:
        ConfigError: they cannot be put where they are wanted.
        BrokerError: there is no picture yet and the broker does not answer.
    """
    place: _Place = _Folder(wanted.folder) if wanted.folder else _Window(terminal)
    names: dict[str, str] = {}
    code = ExitCode.OK
    done = 0
    async with BrokerClient.to(connection) as client:
        async for page in client.sessions(wanted.session_ids):
            names |= {str(found.get("Id")): str(found.get("Name") or "") for found in page}
        for first in range(0, len(wanted.session_ids), IDS_PER_CALL):
            some = wanted.session_ids[first : first + IDS_PER_CALL]
            try:
                answer = await client.screenshots([_item(one, wanted) for one in some])
            except BrokerError as error:
                code = _told(some, error)
                if not isinstance(error, Refused):
                    return exit_code_of(error) if not done else code
                continue
            for identity, found in read_shots(answer.model).items():
                if isinstance(found, str):
                    say(f"{names.get(identity) or identity}: failed: {found}")
                    code = ExitCode.ITEMS_FAILED
                    continue
                done += len(found)
                code = _handed_out(place, _Named(identity, names.get(identity, "")), found) or code
    return code


def _item(session_id: str, wanted: PictureRequest) -> dict[str, Any]:
    item = {"SessionId": session_id, "MaxWidth": wanted.max_width, "MaxHeight": wanted.max_height}
    return {name: value for name, value in item.items() if value is not None}


def _told(session_ids: Sequence[str], error: BrokerError) -> ExitCode:
    for identity in session_ids:
        say(f"{identity}: no picture: {error.sentence}")
    return ExitCode.ITEMS_FAILED


class _Named(NamedTuple):
    """A session as files and people call it."""

    id: str
    name: str

    @property
    def shown(self) -> str:
        return self.name or self.id


class _Place(Protocol):
    """Where pictures go."""

    def put(self, session: _Named, number: int, shot: Shot) -> None:
        """Take a picture of one display; raises `OSError` or `ImageError` where that cannot be done."""


def _handed_out(place: _Place, session: _Named, shots: Sequence[Shot]) -> ExitCode:
    """Put the displays of a session in their place, the primary one is number 1."""
    code = ExitCode.OK
    for number, shot in enumerate(shots, 1):
        try:
            place.put(session, number, shot)
        except (OSError, ImageError) as error:
            reason = error.strerror if isinstance(error, OSError) else "the picture cannot be read"
            say(f"{session.shown}: failed: {reason or error}")
            code = ExitCode.ITEMS_FAILED
    return code


class _Folder:
    """Puts pictures into files for their owner, each named after its session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()
        self._taken: dict[str, str] = {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The folder '{folder}' cannot be made: {error.strerror or error}. Name another with --dir.",
                ExitCode.BAD_VALUE,
            ) from None

    def put(self, session: _Named, number: int, shot: Shot) -> None:
        suffix = "jpg" if shot.data.startswith(_JPEG) else "png"
        display = "" if number == 1 else f"-{number}"
        path = self._folder / f"{self._stem(session)}{display}.{suffix}"
        replace_private(path, shot.data)
        sys.stdout.write(f"{path}\n")
        sys.stdout.flush()

    def _stem(self, session: _Named) -> str:
        """Named after the session; sessions of one name are told apart by their ids."""
        stem = file_stem(session.shown)
        if self._taken.setdefault(stem, session.id) != session.id:
            stem = file_stem(session.name, session.id)
        return stem


class _Window:
    """Draws pictures into the terminal, each as large as the window."""

    def __init__(self, terminal: "Terminal") -> None:
        if not sys.stdout.isatty():
            raise ConfigError(
                "There is no terminal to draw in. Name a folder with --dir.", ExitCode.BAD_VALUE
            )
        form = terminal.picture_form
        if form is None:
            raise ConfigError(
                "This terminal shows no pictures without UTF-8. Name a folder with --dir.", ExitCode.BAD_VALUE
            )
        self._form, self._colours = form, terminal.picture_colours

    def put(self, session: _Named, number: int, shot: Shot) -> None:
        window = os.get_terminal_size(sys.stdout.fileno())
        rows = max(4, window.lines - 3)
        picture = draw(shot.data, window.columns, rows, form=self._form, colours=self._colours)
        display = "" if number == 1 else f", display {number}"
        sys.stdout.write(f"{visible(session.shown)}{display}, {picture.width}x{picture.height}\n")
        sys.stdout.writelines(_painted(line, self._colours) + "\n" for line in picture.lines)
        sys.stdout.flush()


def _painted(line: Line, colours: Colours) -> str:
    is_exact = colours is Colours.TRUE
    runs = (
        f"\x1b[{_colour(38, run.foreground, is_exact)};{_colour(48, run.background, is_exact)}m{run.text}"
        for run in line
    )
    return "".join(runs) + "\x1b[0m"


def _colour(place: int, value: int, is_exact: bool) -> str:
    """A colour as SGR has it: 38 is the foreground, 48 the background."""
    if is_exact:
        return f"{place};2;{value >> 16 & 255};{value >> 8 & 255};{value & 255}"
    return f"{place};5;{value}"
