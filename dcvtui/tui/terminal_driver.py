"""Textual's driver for terminals, with two additions: late answers are no keys, and pictures go at the end.

The application runs with this driver when it is given one; tests without a
terminal use Textual's own.
"""

import os
import select
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

from dcvtui import graphics
from dcvtui.probe import LateAnswers
from dcvtui.terminal import Answers

if TYPE_CHECKING:
    from textual.driver import Driver

_LOOK_S = 0.1


class QuietDriver(LinuxDriver):
    """Feeds the parser what was typed, without the answers of a terminal that took its time."""

    late_answers = LateAnswers(is_waiting=False)
    has_pictures = False

    def run_input_thread(self) -> None:
        """Read until the end; as Textual's own, but for the filter in between.

        The filter has to sit before the parser: once an answer is taken for keys it cannot be told
        from typing any more.
        """
        parser, decoder = XTermParser(self._debug), getincrementaldecoder("utf-8")(errors="replace")
        while not self.exit_event.is_set():
            is_ready = select.select([self.fileno], [], [], _LOOK_S)[0]
            data = os.read(self.fileno, 4096) if is_ready else b""
            if is_ready and not data:
                self._app.call_later(self._app.exit)  # the terminal is gone
                break
            text = self.late_answers.take(decoder.decode(data))
            for message in parser.feed(text) if text else ():
                self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def stop_application_mode(self) -> None:
        """Take pictures off the screen, then leave it as it was."""
        if self.has_pictures:
            self.write(graphics.DELETE_ALL)
        super().stop_application_mode()


def driver_class(answers: Answers) -> "type[Driver]":
    """The driver for a terminal that was asked, and may not have answered yet."""
    late = LateAnswers(is_waiting=not answers.is_complete, begun=answers.begun)
    attributes: dict[str, Any] = {"late_answers": late}
    return type("TerminalDriver", (QuietDriver,), attributes)
