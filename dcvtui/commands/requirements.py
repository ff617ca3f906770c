"""`requirements`: what an expression means, and for which servers."""

import click

from dcvtui.options import Given, Group


@click.group(cls=Group)
def requirements() -> None:
    """Check what says which servers will do."""


@requirements.command()
@click.argument("expression", metavar="EXPR")
@click.pass_obj
def check(given: Given, expression: str) -> int:
    """Check an expression, and list the servers that it fits now.

    Returns 5 if it fits none.
    """
    import asyncio  # noqa: PLC0415  quick help

    from dcvtui.headless.requirement_check import print_matching, read_expression  # noqa: PLC0415  as above

    understood = read_expression(expression)
    connection = given.connection()
    return asyncio.run(print_matching(connection, understood, given.format(connection.output_format)))
