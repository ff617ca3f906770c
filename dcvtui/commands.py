"""The verbs of the official client with its options: each reads its own and hands on.

What they do is in `dcvtui.headless`, imported inside each command so that
`--help` and `--version` stay quick.
"""

from typing import Any

import click

from dcvtui.options import Command, Given, permissions, required_ids, some_ids, tags

_MAX_RESULTS = click.option(
    "--max-results", type=click.IntRange(1, 1000), help="Only one page, of this size."
)
_NEXT_TOKEN = click.option("--next-token", metavar="TEXT", help="Only one page, the one this token leads to.")
_COLUMNS = click.option("--columns", metavar="LIST", help="Columns to print, separated by commas.")
_SORT = click.option("--sort", metavar="[-]COLUMN", help="Sort by a column, with '-' from the largest down.")
_FILTER = click.option(
    "--filter", "expression", default="", metavar="EXPR", help="The console's filter language."
)
_SESSION_IDS = click.option(
    "--session-ids", "--session-id", multiple=True, required=True, callback=required_ids, metavar="LIST",
    help="Ids with commas or repeated; '-' reads them from standard input.",
)  # fmt: skip
_SERVER_IDS = click.option(
    "--server-ids", "--server-id", multiple=True, required=True, callback=required_ids, metavar="LIST",
    help="Ids with commas or repeated; '-' reads them from standard input.",
)  # fmt: skip
_OWNER = click.option("--owner", metavar="TEXT", help="Owner of the sessions; looked up when not given.")
_PERMISSIONS: dict[str, Any] = {
    "callback": permissions,
    "metavar": "PATH",
    "help": "Permissions file: a path, '@-' for standard input, or its contents in Base64.",
}


def _split(columns: str | None) -> list[str] | None:
    return [name.strip() for name in columns.split(",") if name.strip()] if columns else None


def _set(**fields: Any) -> dict[str, Any]:
    """Only what was given is sent."""
    return {name: value for name, value in fields.items() if value is not None and value not in ((), False)}


@click.command("describe-servers", cls=Command)
@click.option("--server-ids", multiple=True, callback=some_ids, metavar="LIST", help="Only these servers.")
@_NEXT_TOKEN
@_MAX_RESULTS
@_COLUMNS
@_SORT
@_FILTER
@click.pass_obj
def describe_servers(given: Given, /, server_ids: list[str], columns: str | None, **request: Any) -> int:
    """List servers."""
    from dcvtui.headless import ListRequest, print_list, run  # noqa: PLC0415  quick help, see above
    from dcvtui.output import SERVERS  # noqa: PLC0415  as above

    connection = given.connection()
    wanted = ListRequest(ids=server_ids, columns=_split(columns), **request)
    return run(print_list(connection, SERVERS, wanted, given.format(connection.output_format)))


@click.command("describe-sessions", cls=Command)
@click.option("--session-ids", multiple=True, callback=some_ids, metavar="LIST", help="Only these sessions.")
@click.option("--owner", metavar="TEXT", help="Only sessions of this owner.")
@click.option(
    "--tag", "tagged", multiple=True, callback=tags, metavar="KEY=VALUE",
    help="Only sessions on servers with this tag; may be repeated.",
)  # fmt: skip
@_NEXT_TOKEN
@_MAX_RESULTS
@_COLUMNS
@_SORT
@_FILTER
@click.pass_obj
def describe_sessions(
    given: Given,
    /,
    session_ids: list[str],
    owner: str | None,
    tagged: list[tuple[str, str]],
    columns: str | None,
    **request: Any,
) -> int:
    """List sessions."""
    from dcvtui.headless import ListRequest, print_list, run  # noqa: PLC0415  as above
    from dcvtui.output import SESSIONS  # noqa: PLC0415  as above

    connection = given.connection()
    filters = [("owner", owner)] if owner is not None else []
    filters += [(f"tag:{key}", value) for key, value in tagged]
    wanted = ListRequest(ids=session_ids, filters=filters, columns=_split(columns), **request)
    return run(print_list(connection, SESSIONS, wanted, given.format(connection.output_format)))


def _change(given: Given, operation: str, items: list[dict[str, Any]]) -> int:
    from dcvtui import operations  # noqa: PLC0415  as above
    from dcvtui.headless import run_batch  # noqa: PLC0415  as above

    connection = given.connection()
    chosen = given.format(connection.output_format)
    make = getattr(operations, operation)
    return run_batch(
        connection, lambda client: make(client, items), chosen, is_compatible=given.is_compatible
    )


@click.command("create-session", cls=Command)
@click.option("--name", required=True, metavar="TEXT", help="Name of the session.")
@click.option("--owner", required=True, metavar="TEXT", help="Owner: a user of the host it will be on.")
@click.option(
    "--type", "kind", required=True, type=click.Choice(["CONSOLE", "VIRTUAL"], case_sensitive=False),
    help="Kind of session.",
)  # fmt: skip
@click.option("--init-file-path", metavar="PATH", help="Start script, relative to the agent's init folder.")
@click.option(
    "--autorun-file", metavar="PATH", help="Program to run, relative to the agent's autorun folder."
)
@click.option(
    "--autorun-file-arguments", multiple=True, metavar="TEXT",
    help="One argument of that program; may be repeated.",
)  # fmt: skip
@click.option(
    # The official guide spells it in three ways.
    "--max-concurrent-clients", "--max-concurrents-clients", "--max_concurrent-clients", "max_clients",
    type=click.IntRange(1, 100), help="How many clients may be connected at once.",
)  # fmt: skip
@click.option("--dcv-gl-enabled", is_flag=True, help="With a virtual OpenGL.")
@click.option("--permissions-file", "--permission-file", **_PERMISSIONS)
@click.option("--requirements", metavar="EXPR", help="Which servers will do, such as: tag:color = 'red'")
@click.option("--storage-root", metavar="PATH", help="Folder for session storage.")
@click.option(
    "--enqueue-request", is_flag=False, flag_value="true", type=click.BOOL,
    help="Wait for a server if none is free now.",
)  # fmt: skip
@click.option("--disable-retry-on-failure", is_flag=True, help="Do not try a second server after a failure.")
@click.pass_obj
def create_session(given: Given, /, name: str, owner: str, kind: str, **other: Any) -> int:
    """Create a session."""
    item = {"Name": name, "Owner": owner, "Type": kind.upper()} | _set(
        InitFile=other["init_file_path"],
        AutorunFile=other["autorun_file"],
        AutorunFileArguments=list(other["autorun_file_arguments"]) or None,
        MaxConcurrentClients=other["max_clients"],
        DcvGlEnabled=other["dcv_gl_enabled"],
        PermissionsFile=other["permissions_file"],
        Requirements=other["requirements"],
        StorageRoot=other["storage_root"],
        EnqueueRequest=other["enqueue_request"],
        DisableRetryOnFailure=other["disable_retry_on_failure"],
    )
    return _change(given, "create_sessions", [item])


@click.command("delete-session", cls=Command)
@_SESSION_IDS
@_OWNER
@click.option("--force", is_flag=True, help="Forget the sessions at once, also when a host is not reachable.")
@click.pass_obj
def delete_session(given: Given, session_ids: list[str], owner: str | None, force: bool) -> int:
    """Delete sessions."""
    items = [_set(SessionId=identity, Owner=owner, Force=force) for identity in session_ids]
    return _change(given, "delete_sessions", items)


@click.command("update-session-permissions", cls=Command)
@_SESSION_IDS
@_OWNER
@click.option("--permission-file", "--permissions-file", "text", required=True, **_PERMISSIONS)
@click.pass_obj
def update_session_permissions(given: Given, session_ids: list[str], owner: str | None, text: str) -> int:
    """Replace the permissions of sessions."""
    items = [_set(SessionId=identity, Owner=owner, PermissionsFile=text) for identity in session_ids]
    return _change(given, "update_permissions", items)


@click.command("open-servers", cls=Command)
@_SERVER_IDS
@click.pass_obj
def open_servers(given: Given, server_ids: list[str]) -> int:
    """Let placement use servers again."""
    return _change(given, "open_servers", [{"ServerId": identity} for identity in server_ids])


@click.command("close-servers", cls=Command)
@_SERVER_IDS
@click.option("--force", is_flag=True, help="Also while sessions run there; they keep running.")
@click.pass_obj
def close_servers(given: Given, server_ids: list[str], force: bool) -> int:
    """Keep new sessions off servers."""
    return _change(given, "close_servers", [_set(ServerId=identity, Force=force) for identity in server_ids])


@click.command("get-session-connection-data", cls=Command)
@click.option("--session-id", required=True, metavar="TEXT", help="Id of the session.")
@click.option("--user", required=True, metavar="TEXT", help="Who is to connect.")
@click.pass_obj
def get_session_connection_data(given: Given, session_id: str, user: str) -> int:
    """Print how a user reaches a session, with a new token."""
    from dcvtui.headless import print_connection_data, run  # noqa: PLC0415  as above

    connection = given.connection()
    chosen = given.format(connection.output_format)
    return run(print_connection_data(connection, session_id, user, chosen))


@click.command("get-session-screenshots", cls=Command)
@_SESSION_IDS
@click.option("--max-width", type=click.IntRange(min=1), help="Pixels at most.")
@click.option("--max-height", type=click.IntRange(min=1), help="Pixels at most.")
@click.pass_obj
def get_session_screenshots(
    given: Given, session_ids: list[str], max_width: int | None, max_height: int | None
) -> int:
    """Print screenshots of sessions as Base64."""
    from dcvtui.headless import print_screenshots, run  # noqa: PLC0415  as above

    connection = given.connection()
    items = [_set(SessionId=i, MaxWidth=max_width, MaxHeight=max_height) for i in session_ids]
    chosen = given.format(connection.output_format)
    return run(print_screenshots(connection, items, chosen, is_compatible=given.is_compatible))


ALL = (
    describe_servers,
    open_servers,
    close_servers,
    create_session,
    describe_sessions,
    delete_session,
    update_session_permissions,
    get_session_connection_data,
    get_session_screenshots,
)
