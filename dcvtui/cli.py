"""The command `dcvtui`: alone it opens the console, with a verb it does one thing and ends.

This is the program's boundary: every expected failure becomes one sentence on
standard error and an exit code. Nothing heavy is imported before it is known
what is to be done.
"""

import os
import sys
from typing import Any

import click

from dcvtui import commands
from dcvtui.errors import ProgramError
from dcvtui.options import Commands, Given, PipeClosed

_OK, _NOT_UNDERSTOOD, _INTERRUPTED, _BAD_VALUE, _OTHER = 0, 2, 130, 252, 255


@click.group(
    "dcvtui",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="dcvtui", prog_name="dcvtui", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Operate fleets of remote desktops behind a Session Manager broker.

    Without a command it opens the console on a terminal, and prints this help elsewhere.
    """
    if context.invoked_subcommand is not None:
        return _OK
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo(context.get_help())
        return _OK
    return open_console(context.obj)


def open_console(given: Given) -> int:
    """Open the console on the broker that the configuration names."""
    connection = given.connection()
    from dcvtui.tui import app  # noqa: PLC0415  the screen's libraries, only for those who look at it

    return app.run(connection)


for command in commands.ALL:
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


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
