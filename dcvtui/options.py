"""Options that every command takes, before or after its name, and what they lead to.

The official client takes them before the verb only; both places work here, and
the one after the verb wins. Loads nothing but click: `--help` is to be quick.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from dcvtui.nearest import did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dcvtui.config import Connection, Options
    from dcvtui.output import Format

FORMATS = ("table", "json", "yaml", "csv", "tsv", "ids")
# A text, not a path: the library of paths would be a sixth of the time that `--help` takes.
_FILE = click.Path(dir_okay=False)
_FILES = ("conf", "ca_bundle")


class OneOf(click.Choice[str]):
    """A choice that names the nearest one when none was met. Letter case does not matter."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices, case_sensitive=False)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What there is, and which of it was probably meant."""
        return super().get_invalid_choice_message(value, ctx) + did_you_mean(
            str(value), map(str.lower, self.choices)
        )


def _profile_names(_context: click.Context, _option: click.Parameter, start: str) -> "list[CompletionItem]":
    import os  # noqa: PLC0415  for the shell's completion only

    from click.shell_completion import CompletionItem  # noqa: PLC0415  as above

    from dcvtui.config import Files  # noqa: PLC0415  as above
    from dcvtui.errors import ConfigError  # noqa: PLC0415  as above
    from dcvtui.profiles import read_profiles  # noqa: PLC0415  as above

    try:
        profiles = read_profiles(Files.standard(os.environ).profiles).profiles
    except ConfigError:
        return []
    return [CompletionItem(name) for name in sorted(profiles) if name.startswith(start)]


GLOBAL_OPTIONS = (
    click.Option(
        ["--profile"],
        metavar="NAME",
        shell_complete=_profile_names,
        help="Profile to use (also DCVTUI_PROFILE).",
    ),
    click.Option(["--conf"], type=_FILE, help="Configuration file of the official client to use."),
    click.Option(["--broker-url"], metavar="URL", help="Address of the broker (also DCV_SM_BROKER_URL)."),
    click.Option(
        ["--auth-server", "--auth-server-url", "auth_server"],
        metavar="URL",
        help="Address of the token server, where it is not the broker (also DCV_SM_AUTH_SERVER_URL).",
    ),
    click.Option(["--ca-bundle"], type=_FILE, help="PEM file with the CA to trust (also DCV_SM_CA_BUNDLE)."),
    click.Option(
        ["--trust-fingerprint"],
        metavar="SHA256:…",
        help="Trust exactly the certificate with this fingerprint.",
    ),
    click.Option(
        ["--trust-on-first-use"], is_flag=True, help="Show a certificate that nothing vouches for, and ask."
    ),
    click.Option(["--no-verify-ssl"], is_flag=True, help="Do not check the broker's certificate."),
    click.Option(
        ["--output"],
        type=OneOf(FORMATS),
        help="How to print: table on a terminal and json in a pipe unless told otherwise.",
    ),
    click.Option(["--output-format"], type=OneOf(FORMATS), help="The official spelling of --output."),
    click.Option(["--compat-exit"], is_flag=True, help="Return 0 also when some of the items failed."),
    click.Option(["--read-only"], is_flag=True, help="Refuse everything that changes something."),
    click.Option(["--debug"], is_flag=True, help="Log to standard error."),
)
_NAMES = [option.name or "" for option in GLOBAL_OPTIONS]


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

    @property
    def options(self) -> "Options":
        """What they say about the broker."""
        from dataclasses import fields  # noqa: PLC0415  `--help` does without
        from pathlib import Path  # noqa: PLC0415  as above

        from dcvtui.config import Options  # noqa: PLC0415  as above

        known = {f.name for f in fields(Options)}
        said = {name: value for name, value in self.values.items() if name in known}
        return Options(**said | {name: Path(said[name]) for name in _FILES if said.get(name)})

    def connection(self, *, may_log: bool = True) -> "Connection":
        """The broker to talk to; sentences worth knowing go to standard error.

        Args:
            may_log: obey a wish for a log there; the console draws its screen on standard error.

        Raises:
            ConfigError: there is none.
            BrokerError: its certificate was to be shown and cannot be had.
        """
        import os  # noqa: PLC0415  `--help` does without

        from dcvtui.config import Files, resolve  # noqa: PLC0415  as above

        files = Files.standard(os.environ)
        connection = resolve(self.options, os.environ, files)
        _tell(connection.notes)
        if may_log and (connection.debug or self.values.get("debug")):
            _log_to_stderr()
        if self.values.get("trust_on_first_use"):
            from dcvtui.headless.first_use import with_trust  # noqa: PLC0415  as above

            return with_trust(connection, files.profiles)
        return connection

    def profile(self, name: str) -> "Connection":
        """The broker of a profile, whatever else was given.

        Raises:
            ConfigError: there is no such profile, or it does not say enough.
        """
        import os  # noqa: PLC0415  as above

        from dcvtui.config import Files, Options, resolve  # noqa: PLC0415  as above

        connection = resolve(Options(profile=name), {}, Files.standard(os.environ))
        _tell(connection.notes)
        return connection

    def format(self, from_file: str | None = None) -> "Format":
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


def _tell(notes: Sequence[str]) -> None:
    from dcvtui.headless.words import say  # noqa: PLC0415  as above

    for note in notes:
        say(note)


def _log_to_stderr() -> None:
    import logging  # noqa: PLC0415  only --debug needs it

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")


class _TakesGlobalOptions(click.Command):
    """Takes the global options beside its own; the help of the whole program explains them."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own options and the global ones."""
        return [*super().get_params(ctx), *GLOBAL_OPTIONS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Explain its own options only."""
        own = (option for option in super().get_params(ctx) if not isinstance(option, click.Argument))
        records = (option.get_help_record(ctx) for option in own)
        if rows := [record for record in records if record]:
            with formatter.section("Options"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Take the global options out and run."""
        ctx.ensure_object(Given).take(ctx)
        return super().invoke(ctx)


class Command(_TakesGlobalOptions):
    """A command of the program."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        self.epilog = "Global options, see dcvtui --help, may stand before or after the command."


class Group(_TakesGlobalOptions, click.Group):
    """A command with commands of its own, such as `permissions check`."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Explain its own options, and list its commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class PipeClosed(Exception):  # noqa: N818  an event, not an error
    """Whoever read the output has had enough, as `head` has."""


class Entry(NamedTuple):
    """Where a command is, and what it does in one sentence, so that the help of all loads none of them."""

    module: str
    sentence: str


class Commands(click.Group):
    """The group of all commands, each loaded when it is named.

    Args:
        sections: the commands by topic, in the order of the help.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Mapping[str, Entry]], **values: Any) -> None:
        super().__init__(*arguments, **values)
        self.sections = sections
        self.params += GLOBAL_OPTIONS

    @property
    def entries(self) -> dict[str, Entry]:
        """All commands by name."""
        return {name: entry for section in self.sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's contract
        """Every command's name."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        """Load a command: the function of its module that is called like it."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(import_module(entry.module), cmd_name.replace("-", "_"))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, or name those that are near."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.entries, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        """The commands by topic."""
        width = max(map(len, self.entries))
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", entry.sentence) for name, entry in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Take the global options out and run."""
        ctx.ensure_object(Given).take(ctx)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would end with 1
            raise PipeClosed from None
