"""Options that every command takes, before or after its name, and what they lead to.

The official client takes them before the verb only; both places work here, and
the one after the verb wins. Loads nothing but click: `--help` is to be quick.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from dcvtui.config import Connection
    from dcvtui.output import Format

_FORMATS = ("table", "json", "csv", "tsv", "ids")
_FILE = click.Path(dir_okay=False, path_type=Path)


def global_options() -> list[click.Option]:
    """The options every command takes; new objects at each call, as click wants them."""
    return [
        click.Option(["--profile"], metavar="NAME", help="Profile to use (also DCVTUI_PROFILE)."),
        click.Option(["--conf"], type=_FILE, help="Configuration file of the official client to use."),
        click.Option(["--broker-url"], metavar="URL", help="Address of the broker (also DCV_SM_BROKER_URL)."),
        click.Option(
            ["--auth-server", "--auth-server-url", "auth_server"],
            metavar="URL",
            help="Address of the token server, where it is not the broker (also DCV_SM_AUTH_SERVER_URL).",
        ),
        click.Option(
            ["--ca-bundle"], type=_FILE, help="PEM file with the CA to trust (also DCV_SM_CA_BUNDLE)."
        ),
        click.Option(
            ["--trust-fingerprint"],
            metavar="SHA256:…",
            help="Trust exactly the certificate with this fingerprint.",
        ),
        click.Option(["--no-verify-ssl"], is_flag=True, help="Do not check the broker's certificate."),
        click.Option(
            ["--output"],
            type=click.Choice(_FORMATS),
            help="How to print: table on a terminal and json in a pipe unless told otherwise.",
        ),
        click.Option(
            ["--output-format"], type=click.Choice(_FORMATS), help="The official spelling of --output."
        ),
        click.Option(["--compat-exit"], is_flag=True, help="Return 0 also when some of the items failed."),
        click.Option(["--read-only"], is_flag=True, help="Refuse everything that changes something."),
        click.Option(["--debug"], is_flag=True, help="Log to standard error."),
    ]


_NAMES = [option.name or "" for option in global_options()]


@dataclass(slots=True)
class Given:
    """What the global options of one command line say."""

    values: dict[str, Any] = field(default_factory=dict)

    def take(self, context: click.Context) -> None:
        """Take the global options out of a command's own ones; what was typed later wins."""
        for name in _NAMES:
            value = context.params.pop(name, None)
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                self.values[name] = value

    def connection(self, *, may_log: bool = True) -> "Connection":
        """The broker to talk to; sentences worth knowing go to standard error.

        Args:
            may_log: obey a wish for a log there; the console draws its screen on standard error.

        Raises:
            ConfigError: there is none.
        """
        import os  # noqa: PLC0415  with its one use
        from dataclasses import fields  # noqa: PLC0415  as above

        from dcvtui.config import Files, Options, resolve  # noqa: PLC0415  `--help` does without

        known = {f.name for f in fields(Options)}
        options = Options(**{name: value for name, value in self.values.items() if name in known})
        connection = resolve(options, os.environ, Files.standard(os.environ))
        for note in connection.notes:
            click.echo(f"dcvtui: {note}", err=True)
        if may_log and (connection.debug or self.values.get("debug")):
            _log_to_stderr()
        return connection

    def profile(self, name: str) -> "Connection":
        """The broker of a profile, whatever else was given.

        Raises:
            ConfigError: there is no such profile, or it does not say enough.
        """
        import os  # noqa: PLC0415  with its one use

        from dcvtui.config import Files, Options, resolve  # noqa: PLC0415  as above

        connection = resolve(Options(profile=name), {}, Files.standard(os.environ))
        for note in connection.notes:
            click.echo(f"dcvtui: {note}", err=True)
        return connection

    def format(self, from_file: str | None) -> "Format":
        """How to print an answer.

        Raises:
            ConfigError: options contradict each other.
        """
        from dcvtui.output import choose_format  # noqa: PLC0415  as above

        named, official = self.values.get("output"), self.values.get("output_format")
        return choose_format(named, official, from_file, is_terminal=sys.stdout.isatty())

    @property
    def is_compatible(self) -> bool:
        """Failed items do not show in the exit code."""
        return bool(self.values.get("compat_exit"))


def _log_to_stderr() -> None:
    import logging  # noqa: PLC0415  only --debug needs it

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")


class Command(click.Command):
    """A command that also takes the global options; the help of the whole program explains them."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        for option in global_options():
            option.hidden = True
            self.params.append(option)
        self.epilog = "Global options, see dcvtui --help, may stand before or after the command."

    def invoke(self, ctx: click.Context) -> Any:
        """Take the global options out and run."""
        ctx.ensure_object(Given).take(ctx)
        return super().invoke(ctx)


class PipeClosed(Exception):  # noqa: N818  an event, not an error
    """Whoever read the output has had enough, as `head` has."""


class Commands(click.Group):
    """The group of all commands."""

    command_class = Command

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        self.params += global_options()

    def invoke(self, ctx: click.Context) -> Any:
        """Take the global options out and run."""
        ctx.ensure_object(Given).take(ctx)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would end with 1
            raise PipeClosed from None


# ------------------------------------------------------------------ values


def ids(values: Sequence[str]) -> list[str]:
    """Ids given with commas, repeated, or one a line on standard input for `-`; each once, in order."""
    return list(dict.fromkeys(_each_id(values)))


def _each_id(values: Sequence[str]) -> Iterator[str]:
    for value in values:
        parts = sys.stdin.read().splitlines() if value == "-" else value.split(",")
        yield from (part.strip() for part in parts if part.strip())


def required_ids(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """A callback for options that must name at least one id."""
    found = ids(values)
    if not found:
        raise click.MissingParameter(param=parameter, message="It names no id.")
    return found


def some_ids(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """A callback for options that may name ids."""
    return ids(values)


def tags(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, str]]:
    """A callback for `KEY=VALUE`."""
    pairs = [value.partition("=") for value in values]
    if not all(key and sign for key, sign, _ in pairs):
        raise click.BadParameter("It looks like KEY=VALUE.", param=parameter)
    return [(key, value) for key, _, value in pairs]


def permissions(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for a permissions file, as Base64: a path, `@-` for standard input, or Base64 itself.

    The official guide says "path" in one place and "Base64-encoded contents" in another.
    """
    import base64  # noqa: PLC0415  with its one use
    import binascii  # noqa: PLC0415  as above

    if value is None:
        return None
    if value == "@-":
        return base64.b64encode(sys.stdin.buffer.read()).decode()
    path = Path(value).expanduser()
    try:
        if path.exists():
            return base64.b64encode(path.read_bytes()).decode()
        return base64.b64encode(base64.b64decode(value, validate=True)).decode()
    except binascii.Error:
        raise click.BadParameter(f"There is no file '{value}', nor is it Base64.", param=parameter) from None
    except OSError as error:
        raise click.BadParameter(f"'{value}' cannot be read: {error.strerror}.", param=parameter) from None
