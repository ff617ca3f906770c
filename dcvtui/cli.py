"""The command `dcvtui`: alone it opens the console, with a verb it does one thing and ends.

This is the program's boundary: every expected failure becomes one sentence on
standard error and an exit code. Nothing heavy is imported before it is known
what is to be done.
"""

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from dcvtui import commands
from dcvtui.errors import ConfigError, ProgramError
from dcvtui.options import Commands, Given, PipeClosed

if TYPE_CHECKING:
    from dcvtui.tui.app import ConsoleOptions


class Demo(Protocol):
    """A running demo, as the console needs to know it."""

    url: str
    client_id: str
    client_secret: str
    ca_file: Path


_OK, _NOT_UNDERSTOOD, _INTERRUPTED, _BAD_VALUE, _OTHER = 0, 2, 130, 252, 255


@dataclass(frozen=True, slots=True)
class Looks:
    """What the command line says of how the console looks."""

    theme: str
    only_ascii: bool
    images: str


def looks(command: Callable[..., int]) -> Callable[..., int]:
    """The options that say how the console looks; the command takes them as one."""

    @functools.wraps(command)
    def with_looks(*args: Any, theme: str, only_ascii: bool, images: str, **others: Any) -> int:
        return command(*args, looks_like=Looks(theme, only_ascii, images), **others)

    theme = click.option(
        "--theme",
        metavar="dark|light|NAME",
        default="dark",
        envvar="DCVTUI_THEME",
        help="Colours of the console: ours, or a theme of Textual's.",
    )
    only_ascii = click.option("--ascii", "only_ascii", is_flag=True, help="Draw signs and frames in ASCII.")
    images = click.option(
        "--images",
        type=click.Choice(["auto", "kitty", "sixel", "blocks", "half", "off"]),
        default="auto",
        envvar="DCVTUI_IMAGES",
        help="How screenshots are drawn: pixels where the terminal can, else quadrant blocks.",
    )
    return theme(only_ascii(images(with_looks)))


@click.group(
    "dcvtui",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="dcvtui", prog_name="dcvtui", message="%(prog)s %(version)s")
@looks
@click.option(
    "--also",
    metavar="NAME",
    multiple=True,
    help="A further profile whose fleet the console shows in the same lists; may be repeated.",
)
@click.pass_context
def cli(context: click.Context, looks_like: Looks, also: tuple[str, ...]) -> int:
    """Operate fleets of remote desktops behind a Session Manager broker.

    Without a command it opens the console on a terminal, and prints this help elsewhere.
    """
    if context.invoked_subcommand is not None:
        return _OK
    if not _is_on_terminal():
        click.echo(context.get_help())
        return _OK
    return open_console(context.obj, looks_like, also=also)


def open_console(given: Given, looks_like: Looks, notice: str = "", also: Sequence[str] = ()) -> int:
    """Open the console on the broker that the configuration names, or ask for the first one.

    The notice is said in the console, where it is seen: words on standard error would be painted over.
    """
    _need_a_screen()
    try:
        connection = given.connection(may_log=False)
    except ConfigError as error:
        if not error.is_first_run:
            raise
        return _ask_for_broker(given, looks_like, error)
    options = _options(looks_like, notice)
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
        theme=theme_named(looks_like.theme),
        ascii_only=looks_like.only_ascii or None,
    )
    if isinstance(outcome, first_run_app.DemoChosen):
        signs = ["--ascii"] if looks_like.only_ascii else []
        return run(["demo", "--theme", looks_like.theme, "--images", looks_like.images, *signs])
    if outcome is None:
        raise nothing_configured
    return open_console(given, looks_like, outcome.saved)


@cli.command()
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
    """Try everything on a fleet of simulated servers, with a broker of its own.

    Nothing is left when it ends.
    """
    # The one place where the console's side knows our broker: it starts it, as a program beside it.
    from broker_stub import demo as local  # noqa: PLC0415  as heavy as the rest, and only here

    options = local.DemoOptions(servers=servers, sessions=sessions, seed=seed, is_still=still)
    if no_ui:
        return local.run_without_console(options)
    if not _is_on_terminal():
        raise ConfigError(
            "The demo opens the console, which needs a terminal. Take --no-ui without one.", _BAD_VALUE
        )
    _need_a_screen()
    console = _options(looks_like)
    try:
        with local.start_demo(options) as fleet:
            return _look_at(fleet, console)
    except local.DemoError as error:
        raise ProgramError(f"{error}.") from None


def _look_at(fleet: "Demo", options: "ConsoleOptions") -> int:
    from dcvtui.config import Connection, Credentials  # noqa: PLC0415  as above
    from dcvtui.trust import Trust  # noqa: PLC0415  as above
    from dcvtui.tui import app  # noqa: PLC0415  as above

    credentials = Credentials(fleet.client_id, fleet.client_secret)
    connection = Connection("demo", fleet.url, credentials, Trust(ca_file=fleet.ca_file))
    return app.run(connection, options)


def _options(looks_like: Looks, notice: str = "") -> "ConsoleOptions":
    """What the console is opened with; the terminal is asked while the screen's libraries load."""
    with contextlib.ExitStack() as stack:
        probe = None
        if os.name == "posix":
            from dcvtui.probe import Probe  # noqa: PLC0415  there is no such terminal elsewhere

            probe = stack.enter_context(Probe(sys.stdin.fileno(), sys.stderr.fileno()))
        from dcvtui.terminal import Images  # noqa: PLC0415  as above
        from dcvtui.tui.app import ConsoleOptions  # noqa: PLC0415  as above
        from dcvtui.tui.themes import theme_named  # noqa: PLC0415  as above

        return ConsoleOptions(
            theme=theme_named(looks_like.theme),
            ascii_only=looks_like.only_ascii or None,
            notice=notice,
            images=Images(looks_like.images),
            answers=probe.answers() if probe else None,
        )


def _is_on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _need_a_screen() -> None:
    # Such as a shell inside an editor: it would show the sequences that draw a screen as text.
    if os.environ.get("TERM") == "dumb":
        raise ConfigError(
            "This terminal says that it cannot draw a screen (TERM=dumb). Open the console in another one, "
            "or take a command that prints; dcvtui --help lists them."
        )


for command in commands.ALL:
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    was_ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal was_ended
        was_ended = True
        signal.raise_signal(signal.SIGINT)

    # Like Ctrl-C: a batch prints what was done, and no terminal is left as a drawn screen needs it.
    signal.signal(signal.SIGTERM, end)
    code = run(sys.argv[1:])
    sys.exit(_INTERRUPTED if was_ended and code == _OK else code)


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code; everything a person should know has been printed.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name from elsewhere must not end the program on a terminal that cannot show it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code: Any = cli.main(arguments, prog_name="dcvtui", standalone_mode=False, obj=Given())
        sys.stdout.flush()
    except ProgramError as error:
        click.echo(f"dcvtui: {error.sentence}", err=True)
        return _exit_code(error)
    except click.ClickException as error:
        error.show()
        return _usage_code(error)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (PipeClosed, BrokenPipeError):
        # The rest goes nowhere, also what Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OK
    return int(code or _OK)


def _exit_code(error: ProgramError) -> int:
    from dcvtui.output import exit_code_of  # noqa: PLC0415  only a failure needs it

    return int(exit_code_of(error))


def _usage_code(error: click.ClickException) -> int:
    """2 for a command line that is not understood, 252 for a value that prevents the command."""
    is_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if is_value:
        return _BAD_VALUE
    return _NOT_UNDERSTOOD if isinstance(error, click.UsageError) else _OTHER
