"""Options that several commands share, and the values that are read from them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dcvtui.options import Given, OneOf

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dcvtui.config import Connection
    from dcvtui.headless.changes import Manner, Verb
    from dcvtui.selection import Selection

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def together(*decorators: Callable[[Any], Any]) -> Callable[[CommandT], CommandT]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: CommandT) -> CommandT:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def given_fields(**fields: Any) -> dict[str, Any]:
    """Only what was given is sent."""
    return {name: value for name, value in fields.items() if value is not None and value not in ((), False)}


# ------------------------------------------------------------------ ids


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a command line names; `is_piped` if standard input was read for them."""

    values: tuple[str, ...] = ()
    is_piped: bool = False

    @property
    def is_nothing_to_do(self) -> bool:
        """Ids were to come from standard input, and none came."""
        return self.is_piped and not self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)


def read_ids(values: Sequence[str]) -> Ids:
    """Ids given with commas, repeated, or one a line on standard input for `-`; each once, in order."""
    found: dict[str, None] = {}
    is_piped = False
    for value in values:
        is_piped = is_piped or value == "-"
        parts = sys.stdin.read().splitlines() if value == "-" else value.split(",")
        found |= dict.fromkeys(part.strip() for part in parts if part.strip())
    for identity in found:
        try:
            identity.encode()
        except UnicodeEncodeError:
            raise click.BadParameter("An id holds bytes that are no UTF-8.") from None
    return Ids(tuple(found), is_piped)


def _take_ids(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Ids:
    """Put the ids of the option and those behind the command together; the option comes last."""
    named = context.meta.pop("dcvtui.ids", ())
    ids = read_ids((*values, *named))
    if (values or named) and not ids.values and not ids.is_piped:
        raise click.MissingParameter(param=parameter, ctx=context, message="It names no id.")
    return ids


def _note_arguments(context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> None:
    context.meta["dcvtui.ids"] = values


def _ids(noun: str, text: str) -> Callable[[CommandT], CommandT]:
    # The argument is read first, so that the option's callback finds it.
    return together(
        click.option(
            f"--{noun}-ids", f"--{noun}-id", "ids", multiple=True, callback=_take_ids, metavar="LIST",
            help=text,
        ),
        click.argument("arguments", nargs=-1, is_eager=True, expose_value=False, callback=_note_arguments,
                       metavar="[ID]..."),
    )  # fmt: skip


_HOW = "ids with commas or repeated, here or behind the command; '-' reads them from standard input."
session_ids = _ids("session", f"Session {_HOW}")
server_ids = _ids("server", f"Server {_HOW}")

# ------------------------------------------------------------------ lists


def split(columns: str | None) -> list[str] | None:
    """Names with commas between them."""
    return [name.strip() for name in columns.split(",") if name.strip()] if columns else None


def _columns_of(kind: str) -> Callable[..., "list[CompletionItem]"]:
    def complete(_context: click.Context, _option: click.Parameter, start: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem  # noqa: PLC0415  for the shell's completion only

        from dcvtui import fields  # noqa: PLC0415  as above

        before, comma, begun = start.rpartition(",")
        sign = "-" if begun.startswith("-") else ""
        names = [column.id for column in getattr(fields, kind)]
        return [
            CompletionItem(f"{before}{comma}{sign}{name}")
            for name in names
            if name.startswith(begun.lstrip("-"))
        ]

    return complete


FILTER_TEXT = "The console's filter language, such as 'owner:ana idle>2h'."


def list_options(kind: str) -> Callable[[CommandT], CommandT]:
    """Options of the two lists; `kind` names their columns in `dcvtui.fields`."""
    complete = _columns_of(kind)
    return together(
        click.option("--next-token", metavar="TEXT", help="Only one page, the one this token leads to."),
        click.option("--max-results", type=click.IntRange(1, 1000), help="Only one page, of this size."),
        click.option("--columns", metavar="LIST", shell_complete=complete,
                     help="Columns, separated by commas."),
        click.option("--sort", metavar="[-]COLUMN", shell_complete=complete,
                     help="Sort by a column, with '-' from the largest down."),
        click.option("--filter", "expression", default="", metavar="EXPR", help=FILTER_TEXT),
    )  # fmt: skip


def print_list(given: Given, kind_name: str, ids: Ids, columns: str | None, **request: Any) -> int:
    """Print one of the two lists."""
    import asyncio  # noqa: PLC0415  `--help` does without

    from dcvtui import list_output  # noqa: PLC0415  as above
    from dcvtui.headless import lists  # noqa: PLC0415  as above

    connection = given.connection()
    chosen = given.format(connection.output_format)
    kind: list_output.ListKind = getattr(list_output, kind_name)
    if ids.is_nothing_to_do:
        # Asked for no ids at all, a broker would list everything.
        lists.print_nothing(kind, split(columns), chosen)
        return 0
    wanted = lists.ListRequest(ids=ids.values, columns=split(columns), **request)
    return asyncio.run(lists.print_list(connection, kind, wanted, chosen))


# ------------------------------------------------------------------ changes


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is for: named ids, or everything that a filter finds."""

    ids: Ids
    expression: str | None = None
    is_confirmed: bool = False


def manner_options(*goals: str) -> Callable[[CommandT], CommandT]:
    """How a change is made: rehearsed, waited for.

    Args:
        goals: what can be waited for; without any there is nothing to wait for.
    """
    dry_run = click.option("--dry-run", is_flag=True, help="Send nothing; print the items and the requests.")
    if not goals:
        return dry_run
    return together(
        dry_run,
        click.option("--wait", is_flag=True, help="Wait until it is done; steps go to standard error."),
        click.option("--wait-for", type=OneOf(goals), metavar="STATE",
                     help=f"Wait for one of: {', '.join(goals)}."),
        click.option("--timeout", type=click.FloatRange(min=0), default=600, show_default=True, metavar="S",
                     help="Seconds to wait at most; then the exit code is 4."),
    )  # fmt: skip


bulk_options = together(
    click.option(
        "--filter", "expression", metavar="EXPR", help="Instead of ids: everything this filter finds."
    ),
    click.option(
        "--yes", "is_confirmed", is_flag=True, help="Do not ask before acting on what a filter found."
    ),
)


def manner_of(
    given: Given,
    connection: "Connection",
    verb: "Verb",
    *,
    dry_run: bool,
    wait: bool = False,
    wait_for: str | None = None,
    timeout: float = 600,
) -> "Manner":
    """How a change is made, from the options."""
    from dcvtui.headless.changes import Manner  # noqa: PLC0415  as above

    goal = wait_for.lower() if wait_for else verb.goal if wait else None
    return Manner(given.format(connection.output_format), given.is_compatible, dry_run, goal or None, timeout)


def change(
    given: Given,
    verb_name: str,
    target: Target,
    fields: dict[str, Any],
    select: "Callable[[Sequence[Any]], Selection[Any]]",
    **how: Any,
) -> int:
    """Change the items that are named, or those that a filter finds.

    Args:
        given: the global options.
        verb_name: of a verb in `dcvtui.headless.changes`.
        target: what to change.
        fields: of each item, besides its id.
        select: for which of what a filter finds the action is meant.
        how: see `manner_of`.
    """
    from dcvtui.headless import bulk, changes  # noqa: PLC0415  as above

    verb: changes.Verb = getattr(changes, verb_name)
    _check_target(target, verb.kind.noun)
    connection = given.connection()
    manner = manner_of(given, connection, verb, **how)
    if target.expression is not None:
        owned = {name: value for name, value in fields.items() if name != "Owner"}
        wanted = bulk.Bulk(target.expression, owned, select, target.is_confirmed)
        return bulk.run_bulk(connection, verb, wanted, manner)
    if target.ids.is_nothing_to_do:
        click.echo("dcvtui: No id came on standard input, so there is nothing to do.", err=True)
    items = [{verb.id_name: identity, **fields} for identity in target.ids]
    return changes.run_change(connection, verb, items, manner)


def _check_target(target: Target, noun: str) -> None:
    is_named = bool(target.ids.values) or target.ids.is_piped
    if is_named and target.expression is not None:
        raise click.BadParameter(f"ids and --filter contradict each other. Give one of them. (--{noun}-ids)")
    if not is_named and target.expression is None:
        raise click.MissingParameter(
            message="Name ids, or everything that a filter finds with --filter EXPR.",
            param_hint=f"--{noun}-ids", param_type="option",
        )  # fmt: skip


# ------------------------------------------------------------------ permissions


def read_permissions(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for a permissions file, as Base64: a path, `@-` for standard input, or Base64 itself.

    The official guide says "path" in one place and "Base64-encoded contents" in another.
    """
    import base64  # noqa: PLC0415  with its one use
    import binascii  # noqa: PLC0415  as above
    from pathlib import Path  # noqa: PLC0415  as above

    if value is None:
        return None
    if value == "@-":
        return base64.b64encode(sys.stdin.buffer.read()).decode()
    path = Path(value).expanduser()
    try:
        if path.exists():
            return base64.b64encode(path.read_bytes()).decode()
        return base64.b64encode(base64.b64decode(value, validate=True)).decode()
    except (binascii.Error, ValueError):
        raise click.BadParameter(f"There is no file '{value}', nor is it Base64.", param=parameter) from None
    except OSError as error:
        # A long value that is not quite Base64 is no path either.
        raise click.BadParameter(
            f"'{value[:80]}' cannot be read: {error.strerror}.", param=parameter
        ) from None


def permissions_options(*names: str, required: bool = False) -> Callable[[CommandT], CommandT]:
    """A permissions file, and the leave to send one with errors."""
    return together(
        click.option(
            *names, "permissions", required=required, callback=read_permissions, metavar="PATH",
            help="Permissions file: a path, '@-' for standard input, or its contents in Base64.",
        ),
        click.option("--allow-invalid", is_flag=True, help="Send permissions that have errors all the same."),
    )  # fmt: skip


def checked(permissions: str | None, *, allow_invalid: bool) -> str | None:
    """The permissions, looked at before they are sent."""
    if permissions is None:
        return None
    from dcvtui.headless.permission_files import checked_for_sending  # noqa: PLC0415  as above

    return checked_for_sending(permissions, allow_invalid=allow_invalid)
