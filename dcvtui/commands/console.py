"""Opens the console, and asks for the first broker where none is configured.

Nothing of the screen is loaded before it is known that there is one to draw on.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dcvtui.errors import ConfigError
from dcvtui.options import Given, OneOf

if TYPE_CHECKING:
    from dcvtui.tui.app import ConsoleOptions


@dataclass(frozen=True, slots=True)
class Looks:
    """What the command line says of how the console looks."""

    theme: str | None
    only_ascii: bool
    images: str | None

    @property
    def words(self) -> list[str]:
        """The same on a command line."""
        theme = ["--theme", self.theme] if self.theme else []
        images = ["--images", self.images] if self.images else []
        return [*theme, *images, *(["--ascii"] if self.only_ascii else [])]


def looks(command: Callable[..., int]) -> Callable[..., int]:
    """The options that say how the console looks; the command takes them as one."""

    @functools.wraps(command)
    def with_looks(*args: Any, theme: str | None, only_ascii: bool, images: str | None, **others: Any) -> int:
        return command(*args, looks_like=Looks(theme, only_ascii, images), **others)

    theme = click.option(
        "--theme",
        metavar="dark|light|NAME",
        envvar="DCVTUI_THEME",
        help="Colours of the console: ours, or a theme of Textual's.  [default: dark]",
    )
    only_ascii = click.option("--ascii", "only_ascii", is_flag=True, help="Draw signs and frames in ASCII.")
    images = click.option(
        "--images",
        type=OneOf(["auto", "kitty", "sixel", "blocks", "half", "off"]),
        envvar="DCVTUI_IMAGES",
        help="How screenshots are drawn: pixels where the terminal can, else blocks.  [default: auto]",
    )
    return theme(only_ascii(images(with_looks)))


def open_console(given: Given, looks_like: Looks, notice: str = "", also: Sequence[str] = ()) -> int:
    """Open the console on the broker that the configuration names, or ask for the first one.

    The notice is said in the console, where it is seen: words on standard error would be painted over.
    """
    need_a_screen()
    try:
        connection = given.connection(may_log=False)
    except ConfigError as error:
        if not error.is_first_run:
            raise
        return _ask_for_broker(given, looks_like, error)
    options = console_options(looks_like, notice, keeps_state=True)
    from dcvtui.config import Files  # noqa: PLC0415  `--help` does without
    from dcvtui.known_brokers import known_brokers  # noqa: PLC0415  as above
    from dcvtui.trust import ssl_context  # noqa: PLC0415  as above
    from dcvtui.tui import app  # noqa: PLC0415  the screen's libraries, only for those who look at it

    connections = {connection.name: connection}
    for name in also:
        connections.setdefault(name, given.profile(name))
    for one in connections.values():
        if one.trust.ca_file:
            ssl_context(one.trust)  # a CA file that cannot be used is said here, not on a screen
    files = Files.standard(os.environ)
    return app.run(list(connections.values()), options, lambda: known_brokers(files))


def _ask_for_broker(given: Given, looks_like: Looks, nothing_configured: ConfigError) -> int:
    """Ask for the first broker on a screen of its own, then open the console on it, or the demo."""
    from dcvtui.broker_check import BrokerEntry  # noqa: PLC0415  as above
    from dcvtui.config import Files  # noqa: PLC0415  as above
    from dcvtui.tui import first_run_app  # noqa: PLC0415  as above
    from dcvtui.tui.themes import theme_named  # noqa: PLC0415  as above

    # A CA file given beside the profile is the one that counts later, so it is tested with.
    ca_file = given.values.get("ca_bundle") or os.environ.get("DCV_SM_CA_BUNDLE") or ""
    outcome = first_run_app.run(
        Files.standard(os.environ).profiles,
        BrokerEntry(ca_file=str(ca_file)),
        theme=theme_named(looks_like.theme or "dark"),
        ascii_only=looks_like.only_ascii or None,
    )
    if isinstance(outcome, first_run_app.DemoChosen):
        return _open_demo(looks_like)
    if outcome is None:
        raise nothing_configured
    return open_console(given, looks_like, outcome.saved)


def _open_demo(looks_like: Looks) -> int:
    from dcvtui.commands.demo import demo  # noqa: PLC0415  as above

    return int(demo.main(looks_like.words, prog_name="dcvtui demo", standalone_mode=False) or 0)


def console_options(looks_like: Looks, notice: str = "", *, keeps_state: bool = False) -> "ConsoleOptions":
    """What the console is opened with; the terminal is asked while the screen's libraries load.

    Args:
        looks_like: the options of the command line.
        notice: what is said at first.
        keeps_state: what is known about sessions outlives the console; not for a broker that does not.

    Raises:
        ConfigError: there is no such theme, or the settings are damaged.
    """
    with contextlib.ExitStack() as stack:
        probe = None
        if os.name == "posix":
            from dcvtui.probe import Probe  # noqa: PLC0415  there is no such terminal elsewhere

            probe = stack.enter_context(Probe(sys.stdin.fileno(), sys.stderr.fileno()))
        from dcvtui.console_files import ConsoleFiles  # noqa: PLC0415  as above
        from dcvtui.polling import Pace  # noqa: PLC0415  as above
        from dcvtui.settings import read_settings  # noqa: PLC0415  as above
        from dcvtui.terminal import Images  # noqa: PLC0415  as above
        from dcvtui.tui.app import ConsoleOptions  # noqa: PLC0415  as above
        from dcvtui.tui.keys import unknown_keys  # noqa: PLC0415  as above
        from dcvtui.tui.themes import theme_named  # noqa: PLC0415  as above

        files = ConsoleFiles.standard()
        settings = read_settings(files.settings)
        pace = Pace(
            visible_s=settings.visible_every.total_seconds(),
            page_s=settings.page_every.total_seconds(),
            small_fleet_s=settings.small_fleet_every.total_seconds(),
        )
        return ConsoleOptions(
            theme=theme_named(looks_like.theme or settings.theme or "dark"),
            ascii_only=looks_like.only_ascii or settings.ascii,
            pace=pace,
            notice=" ".join([*settings.notes, *unknown_keys(settings.keys), *([notice] if notice else [])]),
            state_folder=files.state if keeps_state else None,
            settings=settings,
            images=Images(looks_like.images or settings.images),
            answers=probe.answers() if probe else None,
        )


def is_on_terminal() -> bool:
    """A person sees what is printed and can type."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def need_a_screen() -> None:
    """Refuse a terminal that cannot draw one.

    Raises:
        ConfigError: it says so.
    """
    # Such as a shell inside an editor: it would show the sequences that draw a screen as text.
    if os.environ.get("TERM") == "dumb":
        raise ConfigError(
            "This terminal says that it cannot draw a screen (TERM=dumb). Open the console in another one, "
            "or take a command that prints; dcvtui --help lists them."
        )
