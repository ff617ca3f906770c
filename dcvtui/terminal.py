"""What this terminal can do, and how text gets to its clipboard.

Read from the environment; what only the terminal itself knows is asked in `dcvtui.probe`.

Nothing here writes to the terminal by itself: sequences are returned or handed
to the caller's `write`. Used by the console and, for colours, by the command line.
"""

import asyncio
import base64
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from dcvtui.graphics import Pixels, Protocol
from dcvtui.images import Colours, Form

COPIED: Final = "copied"
SENT_TO_TERMINAL: Final = "sent to the terminal's clipboard"
SENT_THROUGH_TMUX: Final = "sent to the terminal's clipboard through tmux"

OSC_52_LIMIT: Final = 74_994
"""Bytes of text that xterm, the strictest of the common terminals, takes in one sequence."""

_COPY_DEADLINE_S: Final = 2.0
_WITHOUT_QUADRANTS: Final = ("linux", "vt100", "vt102", "vt220", "cons25")


class CopyError(Exception):
    """The text did not reach a clipboard; the message says why and what to do instead."""


class ColourDepth(IntEnum):
    """How many colours the terminal shows."""

    NONE = 1
    SIXTEEN = 16
    PALETTE = 256
    TRUE = 1 << 24


SLOW_S: Final = 0.4
"""A line on which an answer takes so long is not sent pixels unless they are asked for."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal said.

    Attributes:
        has_kitty: it draws pictures of the kitty graphics protocol.
        has_sixel: it draws sixels.
        cell: width and height of a cell in pixels; None where it is not known.
        took_s: seconds until the last answer.
        is_complete: the last answer has come; if not, answers may still arrive among the keys.
        begun: the beginning of an answer whose rest has not come yet.
    """

    has_kitty: bool = False
    has_sixel: bool = False
    cell: tuple[int, int] | None = None
    took_s: float = 0.0
    is_complete: bool = True
    begun: str = ""


class Images(StrEnum):
    """How pictures are to be drawn: as the terminal can, or in one way whatever it says."""

    AUTO = "auto"
    KITTY = "kitty"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    HALF = "half"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How pictures are drawn on this terminal.

    Attributes:
        form: how cells show dots; None where pictures are not drawn at all.
        colours: of the cells.
        pixels: how the terminal takes pixels; then the cells stay blank.
        why_none: the sentence in place of a picture where there is none.
    """

    form: Form | None = Form.QUADRANTS
    colours: Colours = Colours.TRUE
    pixels: Pixels | None = None
    why_none: str = ""


IN_BLOCKS: Final = Drawing()
"""What every terminal with UTF-8 can show."""

NO_UTF8: Final = "This terminal does not use UTF-8, so pictures cannot be drawn. `s` still saves them as PNG."
SWITCHED_OFF: Final = "Pictures are switched off (--images off). `s` still saves them as PNG."
_USUAL_CELL: Final = (10, 20)


@dataclass(frozen=True, slots=True)
class Terminal:
    """What can be known of a terminal from its environment."""

    term: str
    is_utf8: bool
    colours: ColourDepth
    is_tmux: bool
    is_ssh: bool
    has_display: bool

    @property
    def picture_form(self) -> Form | None:
        """How pictures are drawn here: quadrants, half blocks on the Linux console, nothing without UTF-8."""
        if not self.is_utf8:
            return None
        return Form.HALF_BLOCKS if self.term in _WITHOUT_QUADRANTS else Form.QUADRANTS

    @property
    def picture_colours(self) -> Colours:
        """Exact colours where the terminal has them, else indexes of the 256-colour palette."""
        return Colours.TRUE if self.colours is ColourDepth.TRUE else Colours.PALETTE

    def drawing(self, wanted: Images = Images.AUTO, answers: Answers | None = None) -> Drawing:
        """How pictures are drawn here.

        Args:
            wanted: what the operator asks for.
            answers: what the terminal said; None if it was not asked.
        """
        if wanted is Images.OFF:
            return Drawing(form=None, why_none=SWITCHED_OFF)
        if pixels := self._pixels(wanted, answers or Answers()):
            return Drawing(pixels=pixels)
        if not self.is_utf8:
            return Drawing(form=None, why_none=NO_UTF8)
        form = Form.HALF_BLOCKS if wanted is Images.HALF else self.picture_form
        if wanted is Images.BLOCKS:
            form = Form.QUADRANTS
        return Drawing(form, self.picture_colours)

    def _pixels(self, wanted: Images, answers: Answers) -> Pixels | None:
        if wanted in (Images.KITTY, Images.SIXEL):
            return Pixels(Protocol(wanted.value), *(answers.cell or _USUAL_CELL))
        # Without colour a picture would be the only coloured thing on the screen; on a slow line pixels
        # are many times the bytes of blocks; and of sixels one has to know how many make a cell.
        is_fit = self.colours is not ColourDepth.NONE and answers.is_complete and answers.took_s < SLOW_S
        if wanted is not Images.AUTO or not is_fit or answers.cell is None:
            return None
        # tmux answers for itself: what it says of kitty is what the terminal behind it might do, and a
        # picture that goes past tmux stays on the screen when the pane does not.
        if answers.has_kitty and not self.is_tmux:
            return Pixels(Protocol.KITTY, *answers.cell)
        return Pixels(Protocol.SIXEL, *answers.cell) if answers.has_sixel else None


def from_environment(environ: Mapping[str, str], encoding: str | None = None) -> Terminal:
    """What the environment says about the terminal.

    Args:
        environ: The variables of the process.
        encoding: The encoding of standard output; without it the locale variables decide.
    """
    term = environ.get("TERM", "")
    return Terminal(
        term=term,
        is_utf8=_is_utf8(encoding or _locale_encoding(environ)),
        colours=_colours(environ, term),
        is_tmux=bool(environ.get("TMUX")),
        is_ssh=bool(environ.get("SSH_TTY") or environ.get("SSH_CONNECTION")),
        has_display=bool(environ.get("WAYLAND_DISPLAY") or environ.get("DISPLAY")),
    )


def _colours(environ: Mapping[str, str], term: str) -> ColourDepth:
    # no-color.org: set and not empty, whatever the value.
    if environ.get("NO_COLOR") or term in ("", "dumb"):
        return ColourDepth.NONE
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return ColourDepth.TRUE
    if "256" in term or term in ("alacritty", "foot", "xterm-ghostty", "xterm-kitty"):
        return ColourDepth.PALETTE
    return ColourDepth.SIXTEEN


def _locale_encoding(environ: Mapping[str, str]) -> str:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environ.get(name):
            return value.partition(".")[2].partition("@")[0]
    return ""


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


# ------------------------------------------------------------------ clipboard


def clipboard_sequence(text: str) -> str:
    """The OSC 52 sequence that asks a terminal to put a text on its clipboard.

    Raises:
        CopyError: the text is longer than terminals take.
    """
    data = text.encode()
    if len(data) > OSC_52_LIMIT:
        raise CopyError(f"{len(data)} bytes are more than a terminal's clipboard takes ({OSC_52_LIMIT}).")
    return f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"


def clipboard_program(
    terminal: Terminal, environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """The program that takes the text on its standard input, or `None` where OSC 52 is the way.

    Over SSH a clipboard program would succeed on the wrong machine, so none is used; inside tmux
    sequences of programs are dropped by its default settings, and tmux itself passes the text on.
    """
    candidates: list[list[str]] = []
    if terminal.is_tmux:
        candidates.append(["tmux", "load-buffer", "-w", "-"])
    elif not terminal.is_ssh:
        if environ.get("WAYLAND_DISPLAY"):
            candidates.append(["wl-copy"])
        if environ.get("DISPLAY"):
            candidates += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
        candidates.append(["pbcopy"])
    return next((command for command in candidates if which(command[0])), None)


async def copy_text(
    text: str,
    terminal: Terminal,
    environ: Mapping[str, str],
    write: Callable[[str], None],
    run: Callable[[Sequence[str], bytes], Awaitable[int]] | None = None,
) -> str:
    """Put a text on the clipboard of the person at the terminal.

    The text goes to programs on standard input, never as an argument: it may hold a token.

    Args:
        text: What to copy.
        terminal: Where the person is.
        environ: The variables of the process.
        write: Writes a sequence to the terminal, past the screen.
        run: Runs a program with an input and returns its exit code; another one in tests.

    Returns:
        What happened, for people. No terminal confirms OSC 52, so "sent" is all that can be said.

    Raises:
        CopyError: the text is too long, or every way failed.
    """
    command = clipboard_program(terminal, environ)
    if command and await (run or _run)(command, text.encode()) == 0:
        return SENT_THROUGH_TMUX if terminal.is_tmux else COPIED
    write(clipboard_sequence(text))
    return SENT_TO_TERMINAL


async def _run(command: Sequence[str], data: bytes) -> int:
    """Exit code of a program given its input; 1 also when it cannot be started or does not end."""
    try:
        # wl-copy and xclip stay behind to serve the clipboard: no pipe of ours may keep them waiting.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return 1
    try:
        await asyncio.wait_for(process.communicate(data), _COPY_DEADLINE_S)
    except (TimeoutError, OSError):
        if process.returncode is None:
            process.kill()
            await process.wait()
        return 1
    return process.returncode if process.returncode is not None else 1
