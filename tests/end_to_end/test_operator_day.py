"""The main job by keys alone, in the running demo: real broker, real agent, a real X session of this host.

Create, READY, its screen, new permissions, a link, delete, DELETED: what an
operator does on an ordinary day, seen through a pseudo-terminal.
"""

import contextlib
import getpass
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Terminal

pytestmark = pytest.mark.skipif(
    not shutil.which("Xvfb"), reason="Xvfb is missing: apt-get install xvfb xterm"
)

QUADRANTS = set("▘▝▖▗▀▄▌▐▚▞▛▜▙▟█")


@pytest.fixture
def console() -> Iterator[Terminal]:
    with Terminal([str(COMMANDS / "dcvtui"), "demo", "--seed", "7", "--still"], 120, 40) as terminal:
        terminal.wait_until(lambda text: "polling" in text or "live" in text, "a fresh fleet", 60)
        yield terminal


def host_name() -> str:
    return socket.gethostname().partition(".")[0]


def show(console: Terminal, view: str, filter_text: str) -> None:
    """Open a view with a filter."""
    console.press(view, "/")
    console.type(filter_text)
    console.press("enter")


def create_here(console: Terminal, name: str) -> None:
    """Create a VIRTUAL session on this host: from its row in the list of servers."""
    show(console, "3", host_name())
    console.wait_for(re.compile(rf"▸ +{re.escape(host_name())}.*AVAILABLE"))
    console.press("n")
    console.wait_for("1 of them can take a VIRTUAL")
    console.type(getpass.getuser())
    console.press("tab")
    console.type(name)
    console.press("ctrl+o")
    console.wait_for("1 session accepted")
    show(console, "2", name)


def demo_processes(console: Terminal) -> list[tuple[psutil.Process, list[str]]]:
    """The processes of the demo with their command lines: children, and X servers started since."""
    family = psutil.Process(console.process.pid).children(recursive=True)
    begin = min(one.create_time() for one in family)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            is_x_server = process.name() == "Xvfb" and process.create_time() >= begin
            if process in family or is_x_server:
                found.append((process, process.cmdline() or [""]))
    return found


def test_a_session_from_creation_to_deletion_by_keys_alone(console: Terminal) -> None:
    create_here(console, "desk-1")
    console.wait_for(re.compile(r"▸ +desk-1 +\S+ +\S (CREATING|READY)"))
    console.wait_for(re.compile(r"▸ +desk-1 +\S+ +● READY"), 60)

    # Its screen: what runs in it is drawn, in more than the two colours of an empty one.
    console.press("s")
    console.wait_for(re.compile("desk-1 .*taken"))
    console.wait_until(lambda text: QUADRANTS & set(text), "a picture", 20)
    cells = [cell for line in console.screen.buffer.values() for cell in line.values()]
    assert len({cell.bg for cell in cells} | {cell.fg for cell in cells}) > 4
    console.press("esc")

    # Who may use it.
    console.press("p")
    console.wait_for("What is in force is not known")
    console.press("ctrl+r")
    console.wait_for("View only for X")
    console.type("bob")
    console.press("enter")
    console.wait_for(re.compile(r"bob allow \w+"))
    console.press("ctrl+o")
    console.wait_for("bob gains")
    console.settle(0.4)
    console.press("y")
    console.wait_gone("Permissions of desk-1")

    # A link for a colleague.
    console.press("c")
    link = console.wait_for(re.compile(r"https://\S+/\?authToken=")) and console.text
    assert "•" in link, "the token is not shown unasked"
    console.press("v")
    console.wait_for(re.compile(r"https://\S+authToken=ey"))
    console.press("space")
    console.wait_for("Connect to desk-1")
    console.press("esc")

    # And away with it.
    console.press("D")
    console.wait_for("Delete 1 session")
    console.settle(0.4)
    console.press("y")
    console.wait_until(
        lambda text: "desk-1" not in text.partition("Sessions")[2].replace("› desk-1", ""), "its end"
    )
    show(console, "2", " state:deleted")  # the filter line goes on with the filter in force
    console.wait_for(re.compile(r"desk-1 +\S+ +○ DELETED"))
    console.press("5")
    console.wait_for("DELETING")
    console.press("q")
    assert console.wait_exit(60) == 0


def test_nothing_is_left_of_a_demo_whose_terminal_is_closed(console: Terminal) -> None:
    create_here(console, "desk-2")
    console.wait_for(re.compile(r"▸ +desk-2 +\S+ +● READY"), 60)
    processes = demo_processes(console)
    folders = {Path(item).parent for _, command in processes for item in command if "dcvtui-demo-" in item}
    assert any("Xvfb" in command[0] for _, command in processes)
    assert folders
    console.close()
    _, alive = psutil.wait_procs([process for process, _ in processes], timeout=20)
    assert not alive
    assert not any(folder.exists() for folder in folders)
