"""The command `dcvtui`: alone it opens the console, with a verb it does one thing and ends.

This is the program's boundary: every expected failure becomes one sentence on
standard error and an exit code. Nothing is loaded before it is known what is to
be done; not even the commands, whose help is in the table below.
"""

import errno
import os
import signal
import sys
from typing import Any

import click

from dcvtui.commands.console import Looks, is_on_terminal, looks, open_console
from dcvtui.errors import ProgramError
from dcvtui.options import Commands, Entry, Given, PipeClosed
from dcvtui.version import __version__

_OK, _NOT_UNDERSTOOD, _INTERRUPTED, _BAD_VALUE, _OTHER = 0, 2, 130, 252, 255

# What a disk answers that the output goes to; everything else commands look after themselves.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_SESSIONS, _SERVERS = "dcvtui.commands.sessions", "dcvtui.commands.servers"
_REACHING, _PICTURES = "dcvtui.commands.reaching", "dcvtui.commands.pictures"
_BROKERS = "dcvtui.commands.brokers"

SECTIONS = {
    "Sessions": {
        "describe-sessions": Entry(_SESSIONS, "List sessions."),
        "create-session": Entry(_SESSIONS, "Create a session, or several."),
        "delete-session": Entry(_SESSIONS, "Delete sessions."),
        "update-session-permissions": Entry(_SESSIONS, "Replace the permissions of sessions."),
        "get-session-connection-data": Entry(_REACHING, "Print how a user reaches a session."),
        "get-session-screenshots": Entry(_PICTURES, "Print screenshots of sessions as Base64."),
        "connect": Entry(_REACHING, "Print a link to a session or save a .dcv file."),
        "screenshot": Entry(_PICTURES, "Save screenshots, or draw them in the terminal."),
        "reap": Entry(_SESSIONS, "Delete sessions that nobody needs any more."),
    },
    "Servers": {
        "describe-servers": Entry(_SERVERS, "List servers."),
        "open-servers": Entry(_SERVERS, "Let placement use servers again."),
        "close-servers": Entry(_SERVERS, "Keep new sessions off servers."),
        "requirements": Entry("dcvtui.commands.requirements", "Check what says which servers will do."),
    },
    "Changes": {
        "watch": Entry("dcvtui.commands.watching", "Print a line of JSON for each change, for ever."),
    },
    "Permissions": {
        "permissions": Entry(
            "dcvtui.commands.permissions",
            "Check, explain, compare permissions files.",
        ),
    },
    "Brokers and this machine": {
        "login": Entry(_BROKERS, "Test a broker and keep it as a profile."),
        "logout": Entry(_BROKERS, "Take the secret of a profile away."),
        "profiles": Entry(_BROKERS, "List the brokers you know."),
        "doctor": Entry(_BROKERS, "Look at the way to the broker and the terminal."),
        "locate": Entry(_BROKERS, "Print where every file is."),
        "config": Entry(_BROKERS, "Look at the configuration."),
        "completion": Entry("dcvtui.commands.completion", "Print the script that completes command lines."),
        "demo": Entry(
            "dcvtui.commands.demo",
            "Try everything on a fleet of simulated servers.",
        ),
    },
}


@click.group(
    "dcvtui",
    cls=Commands,
    sections=SECTIONS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="dcvtui", message="%(prog)s %(version)s")
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
    if not is_on_terminal():
        click.echo(context.get_help())
        return _OK
    return open_console(context.obj, looks_like, also=also)


def main() -> None:
    """Run the command line and exit."""
    was_ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal was_ended
        was_ended = True
        signal.raise_signal(signal.SIGINT)

    # Like Ctrl-C: a batch prints what was done, and no terminal is left as a drawn screen needs it.
    signal.signal(signal.SIGTERM, end)
    if hasattr(signal, "SIGHUP"):  # the window was closed, or the line is gone
        signal.signal(signal.SIGHUP, end)
    code = run(sys.argv[1:])
    sys.exit(_INTERRUPTED if was_ended and code == _OK else code)


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code; everything a person should know has been printed.
    """
    _prepare_streams()
    try:
        code: Any = cli.main(arguments, prog_name="dcvtui", standalone_mode=False, obj=Given())
        sys.stdout.flush()
    except ProgramError as error:
        _say(error.sentence)
        return _exit_code(error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return _NOT_UNDERSTOOD
    except click.ClickException as error:
        _say(_sentence(error))
        return _usage_code(error)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (PipeClosed, BrokenPipeError):
        _write_no_more()
        return _OK
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _write_no_more()
        _say(f"The output cannot be written: {error.strerror or error}.")
        return _OTHER
    return int(code or _OK)


def _prepare_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  as long as the program
    for stream in (sys.stdout, sys.stderr):
        # A name from elsewhere must not end the program on a terminal that cannot show it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _write_no_more() -> None:
    """The rest goes nowhere, also what Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str) -> None:
    from dcvtui.headless.words import say  # noqa: PLC0415  only a failure needs it

    say(sentence)


def _sentence(error: click.ClickException) -> str:
    """What was not understood, what was probably meant, and where to read on; in one line."""
    sentence = " ".join(error.format_message().split())
    if isinstance(error, click.exceptions.NoSuchOption | click.exceptions.NoSuchCommand):
        near = f" Did you mean '{error.possibilities[0]}'?" if error.possibilities else ""
        sentence = f"{error.message}{near}"
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.UsageError) or context is None:
        return sentence
    return f"{sentence} See: {context.command_path} --help"


def _exit_code(error: ProgramError) -> int:
    from dcvtui.output import exit_code_of  # noqa: PLC0415  as above

    return int(exit_code_of(error))


def _usage_code(error: click.ClickException) -> int:
    """2 for a command line that is not understood, 252 for a value that prevents the command."""
    is_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if is_value:
        return _BAD_VALUE
    return _NOT_UNDERSTOOD if isinstance(error, click.UsageError) else _OTHER
