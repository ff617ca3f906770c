"""`demo`: a broker of its own with simulated servers, and the console on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from dcvtui.commands.console import Looks, console_options, is_on_terminal, looks, need_a_screen
from dcvtui.errors import ConfigError, ProgramError
from dcvtui.options import Command

if TYPE_CHECKING:
    from dcvtui.tui.app import ConsoleOptions

BAD_VALUE = 252


class Demo(Protocol):
    """A running demo, as the console needs to know it."""

    url: str
    client_id: str
    client_secret: str
    ca_file: Path


@click.command(cls=Command)
@click.option(
    "--no-ui", is_flag=True, help="Print one line of JSON when ready, and stay until a signal comes."
)
@click.option(
    "--servers", type=click.IntRange(min=0), default=12, show_default=True, help="Simulated servers."
)
@click.option(
    "--sessions", type=click.IntRange(min=0), help="Simulated sessions.  [default: some on each server]"
)
@click.option("--seed", type=int, default=7, show_default=True, help="Another number makes another fleet.")
@click.option("--still", is_flag=True, help="Nothing changes by itself; what you do still works.")
@looks
def demo(no_ui: bool, servers: int, sessions: int | None, seed: int, still: bool, looks_like: Looks) -> int:
    """Try everything on a fleet of simulated servers.

    With a broker of its own. Nothing is left when it ends.
    """
    # The one place where the console's side knows our broker: it starts it, as a program beside it.
    from broker_stub import demo as local  # noqa: PLC0415  as heavy as the rest, and only here

    options = local.DemoOptions(servers=servers, sessions=sessions, seed=seed, is_still=still)
    if no_ui:
        return local.run_without_console(options)
    _need_a_terminal()
    console = console_options(looks_like)
    try:
        with local.start_demo(options) as fleet:
            return _look_at(fleet, console)
    except local.DemoError as error:
        raise ProgramError(f"{error}.") from None


def _need_a_terminal() -> None:
    if not is_on_terminal():
        raise ConfigError(
            "The demo opens the console, which needs a terminal. Take --no-ui without one.", BAD_VALUE
        )
    need_a_screen()


def _look_at(fleet: "Demo", options: "ConsoleOptions") -> int:
    from dcvtui.config import Connection, Credentials  # noqa: PLC0415  as above
    from dcvtui.trust import Trust  # noqa: PLC0415  as above
    from dcvtui.tui import app  # noqa: PLC0415  as above

    credentials = Credentials(fleet.client_id, fleet.client_secret)
    connection = Connection("demo", fleet.url, credentials, Trust(ca_file=fleet.ca_file))
    return app.run(connection, options)
