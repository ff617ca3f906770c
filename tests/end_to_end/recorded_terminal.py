"""A terminal that keeps what a program wrote and tells how it was left; a misbehaving broker beside it."""

import asyncio
import contextlib
import re
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.awkward_broker import Answer, AwkwardBroker, awkward_broker
from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Terminal

DCVTUI = str(COMMANDS / "dcvtui")

_SEQUENCE = re.compile(
    r"\x1b\[[0-9;?<>=]*\$?[A-Za-z]"  # CSI: colours, places, modes
    r"|\x1b\][0-9;]*[^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: looked at by itself
    r"|\x1b_Gi=4211,[^\x1b]*\x1b\\"  # the one question about graphics, word for word
    r"|\x1b[>=78M]|\x1b\(B"
)
_OSC = re.compile(r"\x1b\][^\x07\x1b]*")
# What is switched on for a drawn screen, and what has to come after it: alternate screen, cursor,
# mouse, bracketed paste, focus.
_SWITCHES = [
    ("?1049h", "?1049l"), ("?25l", "?25h"), ("?1000h", "?1000l"), ("?1003h", "?1003l"),
    ("?2004h", "?2004l"), ("?1004h", "?1004l"),
]  # fmt: skip


class RecordedTerminal(Terminal):
    """Keeps all bytes that the program wrote."""

    written = b""

    def _answer_questions(self, data: bytes) -> None:
        self.written += data
        super()._answer_questions(data)

    @property
    def said(self) -> str:
        """What was written without the sequences that draw a screen."""
        return _SEQUENCE.sub("", self.written.decode())

    @property
    def system_commands(self) -> list[str]:
        """Operating system commands (title, clipboard and the like) that were written."""
        return _OSC.findall(self.written.decode())

    def leftovers(self) -> list[str]:
        """What the program did not put back when it ended; empty for a clean terminal."""
        found = []
        for on, off in _SWITCHES:
            if self.written.rfind(f"\x1b[{on}".encode()) > self.written.rfind(f"\x1b[{off}".encode()):
                found.append(f"{on} without {off}")
        flags = termios.tcgetattr(self._master)[3]
        for name, flag in (("ECHO", termios.ECHO), ("ICANON", termios.ICANON), ("ISIG", termios.ISIG)):
            if not flags & flag:
                found.append(f"{name} is off")
        if b"Traceback" in self.written:
            found.append("a traceback")
        return found


@contextlib.contextmanager
def serving(folder: Path, answer: Answer) -> Iterator[tuple[AwkwardBroker, dict[str, str]]]:
    """A broker that answers what it is told to in a thread of its own, and how a console gets to it."""
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    brokers: list[AwkwardBroker] = []

    async def serve() -> None:
        async with awkward_broker(folder, answer) as broker:
            brokers.append(broker)
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_up.wait(10)
    broker = brokers[0]
    try:
        yield (
            broker,
            {
                "DCV_SM_BROKER_URL": broker.url,
                "DCV_SM_CLIENT_ID": "an-id",
                "DCV_SM_CLIENT_PASSWORD": "a-secret",
                "DCV_SM_CA_BUNDLE": str(broker.ca_file),
            },
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
