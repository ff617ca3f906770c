"""`watch`: changes as they happen."""

import click

from dcvtui.commands.shared import FILTER_TEXT
from dcvtui.options import Command, Given, OneOf


@click.command(cls=Command)
@click.argument("what", type=OneOf(["sessions", "servers"]), metavar="sessions|servers")
@click.option("--filter", "expression", default="", metavar="EXPR", help=FILTER_TEXT)
@click.pass_obj
def watch(given: Given, what: str, expression: str) -> int:
    """Print a line of JSON for each change, for ever.

    First come lines of the kind `added` for what is there; then `added`, `changed` and `removed` as it
    happens, and `lost` and `back` for the broker. Fields: time, kind, fields (that changed), and the object.
    """
    import asyncio  # noqa: PLC0415  quick help

    from dcvtui import list_output  # noqa: PLC0415  as above
    from dcvtui.headless import watching  # noqa: PLC0415  as above

    if given.values.get("output") not in (None, "json"):
        raise click.BadParameter("Changes are lines of JSON and nothing else.", param_hint="--output")
    kind = list_output.SESSIONS if what == "sessions" else list_output.SERVERS
    asyncio.run(watching.watch(given.connection(), kind, expression))
    return 0
