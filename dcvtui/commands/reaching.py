"""Commands that say how a user reaches a session: the official one, and `connect`."""

from pathlib import Path
from typing import Any

import click

from dcvtui.options import Command, Given, OneOf


@click.command("get-session-connection-data", cls=Command)
@click.option("--session-id", required=True, metavar="TEXT", help="Id of the session.")
@click.option("--user", required=True, metavar="TEXT", help="Who is to connect.")
@click.pass_obj
def get_session_connection_data(given: Given, session_id: str, user: str) -> int:
    """Print how a user reaches a session.

    The answer holds a new token, which is a secret.
    """
    import asyncio  # noqa: PLC0415  quick help

    from dcvtui.headless.links import print_connection_data  # noqa: PLC0415  as above

    connection = given.connection()
    chosen = given.format(connection.output_format)
    return asyncio.run(print_connection_data(connection, session_id, user, chosen))


@click.command(cls=Command)
@click.argument("session_id", metavar="ID")
@click.option("--user", metavar="TEXT", help="Who is to connect; the owner unless named.")
@click.option(
    "--form", type=OneOf(["url", "native", "dcv", "json"]),
    help="Link for a browser, for the native client, a .dcv file, or the broker's answer.  [default: url]",
)  # fmt: skip
@click.option("--gateway", metavar="HOST:PORT", help="Through this gateway instead of the profile's.")
@click.option("--direct", "is_direct", is_flag=True, help="Not through the profile's gateway.")
@click.option("--file", type=click.Path(path_type=Path), help="Where to put the .dcv file; '-' prints it.")
@click.pass_obj
def connect(given: Given, /, **wanted: Any) -> int:
    """Print a link to a session or save a .dcv file.

    Links and files hold a token; a file can only be read by you.
    """
    import asyncio  # noqa: PLC0415  as above
    import os  # noqa: PLC0415  as above

    from dcvtui.console_files import ConsoleFiles  # noqa: PLC0415  as above
    from dcvtui.headless.links import LinkRequest, print_link  # noqa: PLC0415  as above

    if wanted["is_direct"] and wanted["gateway"]:
        raise click.BadParameter("It contradicts --direct. Give one of them.", param_hint="--gateway")
    if wanted["file"] and wanted["form"] not in (None, "dcv"):
        raise click.BadParameter(f"It contradicts --form {wanted['form']}.", param_hint="--file")
    is_ssh = bool(os.environ.get("SSH_TTY") or os.environ.get("SSH_CONNECTION"))
    connection = given.connection()
    sent = ConsoleFiles.standard().permissions(connection.name)
    return asyncio.run(print_link(connection, LinkRequest(**wanted, is_ssh=is_ssh, sent=sent)))
