"""Takes the pictures of the README from the real program: `python -m tests.take_screenshots FOLDER`.

A demo with a fixed seed that stands still, the console in a pseudo-terminal,
keys as a person presses them, and each screen drawn into a PNG.
"""

import contextlib
import getpass
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from dcvtui.profiles import Profile, save_profile
from tests.pseudo_terminal import Terminal

DCVTUI = Path(sys.executable).with_name("dcvtui")

FRAME_MS = 2200
"""How long each step of the moving picture stands: long enough to read its one change."""
DESKTOP = "desktop"
"""Name of the real X session that is created for its picture."""


@contextlib.contextmanager
def demo() -> Iterator[dict[str, str]]:
    """A demo without its console; what a console needs to find it."""
    command = [str(DCVTUI), "demo", "--no-ui", "--seed", "7", "--still"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield {
                "DCV_SM_BROKER_URL": ready["url"],
                "DCV_SM_CA_BUNDLE": ready["ca_file"],
                "DCV_SM_CLIENT_ID": ready["client_id"],
                "DCV_SM_CLIENT_PASSWORD": ready["client_secret"],
            }
        finally:
            process.terminate()


def operator(home: Path, way: dict[str, str]) -> dict[str, str]:
    """An operator's files in a folder, with profiles of which one leads to a broker; a console's environment.

    Args:
        home: the folder.
        way: the environment in which a console finds the broker.
    """
    profiles = home / "config" / "dcvtui" / "profiles.toml"
    found = Profile(
        "prod-eu",
        way["DCV_SM_BROKER_URL"],
        way["DCV_SM_CLIENT_ID"],
        way["DCV_SM_CLIENT_PASSWORD"],
        ca_file=Path(way["DCV_SM_CA_BUNDLE"]),
    )
    save_profile(profiles, found, is_default=True)
    for name, read_only in (("prod-us", True), ("lab", False)):
        profile = Profile(name, f"https://{name}.example:8443", "console", "secret", read_only=read_only)
        save_profile(profiles, profile)
    return {"XDG_CONFIG_HOME": str(home / "config"), "HOME": str(home)}


class Photographer:
    """A console whose screens are kept as pictures."""

    def __init__(self, folder: Path, environment: dict[str, str], theme: str = "dark") -> None:
        self._folder = folder
        self._environment = environment
        self._theme = theme

    @contextlib.contextmanager
    def console(self, columns: int = 120, rows: int = 34) -> Iterator[Terminal]:
        """A console with a fresh fleet in the list of sessions."""
        command = [str(DCVTUI), "--theme", self._theme]
        with (
            # What an earlier console remembered would be in the pictures of the next one.
            tempfile.TemporaryDirectory() as state,
            Terminal(
                command, columns, rows, environment=self._environment | {"XDG_STATE_HOME": state}
            ) as terminal,
        ):
            terminal.wait_until(lambda text: "live" in text or "polling" in text, "a fresh fleet", 60)
            terminal.press("2")
            terminal.wait_for("READY")
            terminal.settle(1)
            yield terminal

    def take(self, terminal: Terminal, name: str) -> None:
        """Keep what the screen shows."""
        terminal.settle(0.6)
        suffix = "" if self._theme == "dark" else f"-{self._theme}"
        path = self._folder / f"{name}{suffix}.png"
        terminal.picture(path, dark=self._theme == "dark")
        print(path)


class Film:
    """Screens of a console that become one moving picture."""

    def __init__(self, terminal: Terminal, path: Path) -> None:
        self._terminal, self._path = terminal, path
        self._frames: list[Image.Image] = []

    def shoot(self) -> None:
        """Keep what the screen shows now."""
        self._terminal.settle(0.6)
        still = self._path.with_suffix(".png")
        self._terminal.picture(still)
        # A palette of its own for each: few colours are on one screen, but for pictures in it.
        self._frames.append(Image.open(still).convert("RGB").quantize(128, dither=Image.Dither.NONE))
        still.unlink()

    def save(self) -> None:
        """Write the moving picture."""
        self._frames[0].save(
            self._path, save_all=True, append_images=self._frames[1:], duration=FRAME_MS, loop=0
        )
        print(self._path)


def tour(photographer: Photographer, path: Path) -> None:
    """The way of an operator through the console: look, filter, see, create, drain."""
    with photographer.console(110, 30) as terminal:
        film = Film(terminal, path)
        terminal.press("down", "down", "down")
        film.shoot()
        terminal.press("/")
        terminal.type("owner:ana")
        film.shoot()
        terminal.press("enter", "s")
        terminal.wait_for("taken")
        film.shoot()
        terminal.press("esc", "n")
        terminal.wait_for("New session")
        terminal.type("ana")
        terminal.press("tab")
        terminal.type("cad-{n}")
        terminal.press("tab", "tab", "tab")
        terminal.type("tag:gpu = 'yes'")
        terminal.wait_for("matches")
        film.shoot()
        terminal.press("ctrl+o")
        terminal.wait_for("accepted")
        film.shoot()
        terminal.press("3", "down", "down", "down", "down", "down")
        film.shoot()
        terminal.press("R")
        terminal.wait_for("Drain")
        film.shoot()
        terminal.press("esc", "1")
        film.shoot()
        terminal.press("2", "esc", "4")
        pictures_come(terminal)
        film.shoot()
        terminal.press("0")
        terminal.wait_for("capacity")
        film.shoot()
        film.save()


def lists(photographer: Photographer) -> None:
    """The six views, the whole fleet on one page, and the keys."""
    with photographer.console() as terminal:
        terminal.press("down", "down", "down")
        photographer.take(terminal, "sessions")
        terminal.press("?")
        terminal.wait_for("Keys in Sessions")
        photographer.take(terminal, "help")
        terminal.press("esc", "3")
        terminal.press("down", "down", "down", "down", "down")
        photographer.take(terminal, "servers")
        terminal.press("0")
        terminal.wait_for("capacity")
        photographer.take(terminal, "overview")
        terminal.press("esc", "1")
        photographer.take(terminal, "attention")
        terminal.press("6")
        terminal.wait_for("prod-us")
        photographer.take(terminal, "profiles")
        terminal.press("4")
        pictures_come(terminal)
        photographer.take(terminal, "wall")


def pictures_come(terminal: Terminal) -> None:
    """Wait until a wall is full of pictures."""
    terminal.wait_until(lambda text: sum(map(text.count, "▀▄▌▐▛▜▙▟")) > 400, "pictures", 60)
    terminal.read(3)


def activity(photographer: Photographer) -> None:
    """What was done and what came of it: servers closed and opened again."""
    with photographer.console() as terminal:
        terminal.press("3", "/")
        terminal.type("gpu-fra")
        terminal.press("enter", "*")
        terminal.press("c")
        terminal.wait_for("Close 2 servers")
        confirm(terminal, "f", "y")
        terminal.press("u")
        terminal.wait_for("Open 2 servers")
        confirm(terminal, "y")
        terminal.press("esc", "5")
        photographer.take(terminal, "activity")


def confirm(terminal: Terminal, *keys: str) -> None:
    """Answer a dialog, once it takes keys."""
    terminal.settle(0.6)
    terminal.press(*keys)
    terminal.settle(1.5)


def small(photographer: Photographer) -> None:
    """The small terminal."""
    with photographer.console(80, 24) as terminal:
        photographer.take(terminal, "sessions-80x24")


def forms(photographer: Photographer) -> None:
    """A new session, permissions, connecting, a simulated desktop."""
    with photographer.console() as terminal:
        terminal.press("n")
        terminal.wait_for("New session")
        terminal.type("ana")
        terminal.press("tab")
        terminal.type("cad-{n}")
        terminal.press("tab", "tab", "tab")
        terminal.type("tag:gpu = 'yes' and server:Host.Os.Family = 'linux'")
        terminal.wait_for("matches")
        photographer.take(terminal, "create")
        terminal.press("esc")
        terminal.press("p")
        terminal.wait_for("[permissions]")
        terminal.press("ctrl+r")
        terminal.wait_for("View only for X")
        terminal.type("bob")
        terminal.press("enter")
        terminal.wait_for("bob gains")
        photographer.take(terminal, "permissions")
        terminal.type("%any% deny printer")
        terminal.press("tab", "down")
        photographer.take(terminal, "rights")
        terminal.press("esc")
    with photographer.console() as terminal:
        terminal.press("C")
        terminal.wait_for("Columns of Sessions")
        photographer.take(terminal, "columns")
    with photographer.console() as terminal:
        terminal.press("c")
        terminal.wait_for("authToken=")
        photographer.take(terminal, "connect")
        terminal.press("esc")
        terminal.press("s")
        terminal.wait_for("taken")
        photographer.take(terminal, "screenshot")


def desktop(photographer: Photographer) -> None:
    """A real X session of this machine; needs Xvfb."""
    if not shutil.which("Xvfb"):
        print("no picture of a real session: apt-get install xvfb xterm", file=sys.stderr)
        return
    with photographer.console() as terminal:
        terminal.press("3", "/")
        terminal.type("site=here")
        terminal.press("enter")
        terminal.press("n")
        terminal.wait_for("1 of them can take a VIRTUAL")
        terminal.type(getpass.getuser())
        terminal.press("tab")
        terminal.type(DESKTOP)
        terminal.press("ctrl+o")
        terminal.wait_for("accepted")
        terminal.press("2", "/")
        terminal.type(DESKTOP)
        terminal.press("enter")
        terminal.wait_for("READY", 60)
        terminal.press("s")
        terminal.wait_for("taken")
        photographer.take(terminal, "real-session")


def main() -> None:
    """Take all pictures into the folder named on the command line."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as home, demo() as way:
        environment = operator(Path(home), way)
        for theme in ("dark", "light"):
            photographer = Photographer(folder, environment, theme)
            lists(photographer)
            forms(photographer)
        photographer = Photographer(folder, environment)
        small(photographer)
        desktop(photographer)
        tour(photographer, folder / "tour.gif")
        activity(photographer)
        activity(Photographer(folder, environment, "light"))


if __name__ == "__main__":
    main()
