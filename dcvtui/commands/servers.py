"""Commands for servers: list, open, close."""

from functools import partial
from typing import Any

import click

from dcvtui.commands.shared import (
    Ids,
    Target,
    bulk_options,
    change,
    given_fields,
    list_options,
    manner_options,
    print_list,
    server_ids,
)
from dcvtui.options import Command, Given


@click.command("describe-servers", cls=Command)
@server_ids
@list_options("SERVER_COLUMNS")
@click.pass_obj
def describe_servers(given: Given, /, ids: Ids, **request: Any) -> int:
    """List servers."""
    return print_list(given, "SERVERS", ids, **request)


@click.command("open-servers", cls=Command)
@server_ids
@bulk_options
@manner_options("available")
@click.pass_obj
def open_servers(given: Given, /, ids: Ids, expression: str | None, is_confirmed: bool, **how: Any) -> int:
    """Let placement use servers again."""
    from dcvtui.selection import to_open  # noqa: PLC0415  quick help

    return change(given, "OPEN", Target(ids, expression, is_confirmed), {}, to_open, **how)


@click.command("close-servers", cls=Command)
@server_ids
@click.option("--force", is_flag=True, help="Also while sessions run there; they keep running.")
@bulk_options
@manner_options("closed", "empty")
@click.pass_obj
def close_servers(
    given: Given, /, ids: Ids, force: bool, expression: str | None, is_confirmed: bool, **how: Any
) -> int:
    """Keep new sessions off servers."""
    from dcvtui.selection import to_close  # noqa: PLC0415  as above

    target = Target(ids, expression, is_confirmed)
    return change(given, "CLOSE", target, given_fields(Force=force), partial(to_close, force=force), **how)
