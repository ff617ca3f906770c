"""Screenshots: as the API gives them, as files, or drawn into the terminal."""

import base64
import binascii
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcvtui.api.text import visible
from dcvtui.client import SCREENSHOTS_PER_CALL, BrokerClient
from dcvtui.config import Connection
from dcvtui.errors import BrokerError, ConfigError, Refused
from dcvtui.headless.words import say
from dcvtui.output import ExitCode, Format, exit_code_of, write_object, write_rows
from dcvtui.private_files import file_stem, replace_private

if TYPE_CHECKING:
    from dcvtui.terminal import Terminal

_SUFFIXES = {"jpeg": "jpg", "jpg": "jpg"}


async def print_screenshots(
    connection: Connection, items: Sequence[dict[str, Any]], chosen: Format, *, is_compatible: bool
) -> int:
    """Print screenshots as the API gives them, Base64 in JSON; rows tell only what there is."""
    async with BrokerClient.to(connection) as client:
        answer = await client.screenshots(items)
    if chosen.is_structured:
        write_object(answer.raw, chosen, sys.stdout)
    elif chosen is Format.IDS:
        sys.stdout.writelines(f"{visible(shot.session_id)}\n" for shot in shots_of(answer.model))
    else:
        heads = ("ID", "FORMAT", "BYTES", "TAKEN", "REASON")
        write_rows(heads, _rows(answer.model), chosen, sys.stdout)
    has_failed = bool(answer.model.unsuccessful_list) and not is_compatible
    return ExitCode.ITEMS_FAILED if has_failed else ExitCode.OK


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of one session; `number` counts the displays from 1, the primary one first."""

    session_id: str
    number: int
    format: str
    data: str
    taken: str

    @property
    def size(self) -> int:
        """How many bytes the picture has."""
        return len(self.data) * 3 // 4 - self.data[-2:].count("=")

    def bytes(self) -> bytes:
        """The picture.

        Raises:
            binascii.Error: it is not Base64.
        """
        return base64.b64decode(self.data, validate=True)


def shots_of(answer: Any) -> Iterator[Shot]:
    """The pictures of an answer."""
    for done in answer.successful_list:
        found = done.session_screenshot
        images = sorted(found.images if found else (), key=lambda image: not image.primary)
        for number, image in enumerate(images, 1):
            yield Shot(
                found.session_id or "",
                number,
                image.format or "png",
                image.data or "",
                image.creation_time or "",
            )


def refusals_of(answer: Any) -> Iterator[tuple[str, str]]:
    """The sessions without a picture, and why."""
    for failed in answer.unsuccessful_list:
        asked = failed.get_session_screenshot_request_data
        yield (asked.session_id if asked else "") or "", failed.failure_reason or "no reason given"


def _rows(answer: Any) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (shot.session_id, shot.format, str(shot.size), shot.taken, "") for shot in shots_of(answer)
    ]
    return rows + [(identity, "", "", "", reason) for identity, reason in refusals_of(answer)]


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
    place = _Folder(wanted.folder) if wanted.folder else _Window(terminal)
    names: dict[str, str] = {}
    code = ExitCode.OK
    done = 0
    async with BrokerClient.to(connection) as client:
        async for page in client.sessions(wanted.session_ids):
            names |= {str(found.get("Id")): str(found.get("Name") or "") for found in page}
        for first in range(0, len(wanted.session_ids), SCREENSHOTS_PER_CALL):
            some = wanted.session_ids[first : first + SCREENSHOTS_PER_CALL]
            try:
                answer = await client.screenshots([_item(one, wanted) for one in some])
            except BrokerError as error:
                code = _told(some, error)
                if not isinstance(error, Refused):
                    return exit_code_of(error) if not done else code
                continue
            for shot in shots_of(answer.model):
                code = place.put(shot, names.get(shot.session_id, "")) or code
                done += 1
            for identity, reason in refusals_of(answer.model):
                say(f"{names.get(identity) or identity}: failed: {reason}")
                code = ExitCode.ITEMS_FAILED
    return code


def _item(session_id: str, wanted: PictureRequest) -> dict[str, Any]:
    item = {"SessionId": session_id, "MaxWidth": wanted.max_width, "MaxHeight": wanted.max_height}
    return {name: value for name, value in item.items() if value is not None}


def _told(session_ids: Sequence[str], error: BrokerError) -> ExitCode:
    for identity in session_ids:
        say(f"{identity}: no picture: {error.sentence}")
    return ExitCode.ITEMS_FAILED


class _Folder:
    """Puts pictures into files for their owner, each named after its session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()
        self._taken: set[str] = set()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The folder '{folder}' cannot be made: {error.strerror or error}. Name another with --dir.",
                ExitCode.BAD_VALUE,
            ) from None

    def put(self, shot: Shot, name: str) -> ExitCode:
        path = self._folder / self._free_name(shot, name)
        try:
            replace_private(path, shot.bytes())
        except binascii.Error:
            say(f"{name or shot.session_id}: the broker's picture is not Base64")
            return ExitCode.ITEMS_FAILED
        except OSError as error:
            say(f"{path}: cannot be written: {error.strerror or error}")
            return ExitCode.ITEMS_FAILED
        sys.stdout.write(f"{path}\n")
        sys.stdout.flush()
        return ExitCode.OK

    def _free_name(self, shot: Shot, name: str) -> str:
        """Named after the session; sessions of one name are told apart by their ids."""
        suffix = _SUFFIXES.get(shot.format.lower(), "png")
        display = "" if shot.number == 1 else f"-{shot.number}"
        stem = file_stem(name or shot.session_id) + display
        if stem in self._taken:
            stem = file_stem(name, shot.session_id) + display
        self._taken.add(stem)
        return f"{stem}.{suffix}"


class _Window:
    """Draws pictures into the terminal, each as large as the window."""

    def __init__(self, terminal: "Terminal") -> None:
        self._terminal = terminal
        if not sys.stdout.isatty():
            raise ConfigError(
                "There is no terminal to draw in. Name a folder with --dir.", ExitCode.BAD_VALUE
            )
        if terminal.picture_form is None:
            raise ConfigError(
                "This terminal shows no pictures without UTF-8. Name a folder with --dir.", ExitCode.BAD_VALUE
            )

    def put(self, shot: Shot, name: str) -> ExitCode:
        from dcvtui.images import Form, ImageError, draw  # noqa: PLC0415  the picture's library, for this only

        window = os.get_terminal_size(sys.stdout.fileno())
        try:
            picture = draw(
                shot.bytes(),
                window.columns,
                max(4, window.lines - 3),
                form=self._terminal.picture_form or Form.QUADRANTS,
                colours=self._terminal.picture_colours,
            )
        except (ImageError, binascii.Error):
            say(f"{name or shot.session_id}: the broker's picture cannot be read")
            return ExitCode.ITEMS_FAILED
        display = "" if shot.number == 1 else f", display {shot.number}"
        sys.stdout.write(f"{visible(name or shot.session_id)}{display}, {picture.width}x{picture.height}\n")
        sys.stdout.writelines(_painted(line, self._terminal) + "\n" for line in picture.lines)
        sys.stdout.flush()
        return ExitCode.OK


def _painted(line: Sequence[Any], terminal: "Terminal") -> str:
    from dcvtui.images import Colours  # noqa: PLC0415  as above

    is_exact = terminal.picture_colours is Colours.TRUE
    return (
        "".join(
            f"\x1b[{_colour(38, run.foreground, is_exact)};{_colour(48, run.background, is_exact)}m{run.text}"
            for run in line
        )
        + "\x1b[0m"
    )


def _colour(place: int, value: int, is_exact: bool) -> str:
    """A colour as SGR has it: 38 is the foreground, 48 the background."""
    if is_exact:
        return f"{place};2;{value >> 16 & 255};{value >> 8 & 255};{value & 255}"
    return f"{place};5;{value}"
