"""What a command says to a person: sentences, progress, and questions, all on standard error.

Standard output is data and nothing else.
"""

import sys
from textwrap import fill
from typing import Self

from dcvtui.api.text import visible
from dcvtui.errors import ConfigError
from dcvtui.output import ExitCode, terminal_width

_CLEAR_LINE = "\r\x1b[K"


def say(sentence: str) -> None:
    """Tell a person something: one line, broken between words where the window is narrower."""
    text = f"dcvtui: {visible(sentence)}"
    width = terminal_width(sys.stderr)
    if len(text) > width:
        text = fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Progress:
    """One line that says how far long work is; only on a terminal, and gone at the end."""

    def __init__(self) -> None:
        self._is_shown = False
        # Where the data go to the same window, each line of them would cut through.
        self._has_room = sys.stderr.isatty() and not sys.stdout.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.clear()

    def tell(self, text: str) -> None:
        """Replace the line."""
        if self._has_room:
            sys.stderr.write(f"{_CLEAR_LINE}{visible(text)}")
            sys.stderr.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._is_shown = False


def is_asking_possible() -> bool:
    """A person is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, instead: str) -> bool:
    """Ask a person yes or no; anything but yes is no.

    Args:
        question: without its question mark's blank, such as `Delete 3 sessions?`.
        instead: what to say or give where nobody can be asked.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    return answer(f"{question} [y/N] ", instead).strip().lower() in ("y", "yes")


def answer(prompt: str, instead: str) -> str:
    """Ask a person for a line; empty at the end of the input.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    _need_a_person(instead)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
    return line.rstrip("\n")


def secret_answer(prompt: str, instead: str) -> str:
    """Ask for a line that is not shown.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    import getpass  # noqa: PLC0415  with its one use

    _need_a_person(instead)
    try:
        return getpass.getpass(prompt, sys.stderr)
    except EOFError:
        sys.stderr.write("\n")
        return ""


def _need_a_person(instead: str) -> None:
    if not is_asking_possible():
        raise ConfigError(f"There is no terminal to ask on. {instead}", ExitCode.BAD_VALUE)
