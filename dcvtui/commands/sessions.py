"""Commands for sessions: list, create, delete, permissions, reap."""

from typing import Any

import click

from dcvtui.commands.shared import (
    FILTER_TEXT,
    Ids,
    Target,
    bulk_options,
    change,
    checked,
    given_fields,
    list_options,
    manner_of,
    manner_options,
    permissions_options,
    print_list,
    session_ids,
)
from dcvtui.options import Command, Given, OneOf

_STATES = ("creating", "ready", "deleting", "deleted", "unknown")
_OWNER = click.option("--owner", metavar="TEXT", help="Owner of the sessions; looked up when not given.")
_INCLUDE_CONNECTED = click.option(
    "--include-connected", is_flag=True, help="Of what a filter finds, also sessions with clients."
)


def _tags(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, str]]:
    pairs = [value.partition("=") for value in values]
    if not all(key and sign for key, sign, _ in pairs):
        raise click.BadParameter("It looks like KEY=VALUE.", param=parameter)
    return [(f"tag:{key}", value) for key, _, value in pairs]


@click.command("describe-sessions", cls=Command)
@session_ids
@click.option("--owner", metavar="TEXT", help="Only sessions of this owner.")
@click.option(
    "--tag", "tagged", multiple=True, callback=_tags, metavar="KEY=VALUE",
    help="Only sessions on servers with this tag; may be repeated.",
)  # fmt: skip
@list_options("SESSION_COLUMNS")
@click.pass_obj
def describe_sessions(
    given: Given, /, ids: Ids, owner: str | None, tagged: list[tuple[str, str]], **request: Any
) -> int:
    """List sessions."""
    filters = ([("owner", owner)] if owner is not None else []) + tagged
    return print_list(given, "SESSIONS", ids, filters=filters, **request)


@click.command("create-session", cls=Command)
@click.option(
    "--name",
    required=True,
    metavar="TEXT",
    help="Name of the session; with --count '{n}' is its number.",
)
@click.option(
    "--count", type=click.IntRange(1, 200), default=1, metavar="N", help="So many sessions at once."
)
@click.option("--owner", required=True, metavar="TEXT", help="Owner: a user of the host it will be on.")
@click.option("--type", "kind", required=True, type=OneOf(["CONSOLE", "VIRTUAL"]), help="Kind of session.")
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
@permissions_options("--permissions-file", "--permission-file")
@click.option("--requirements", metavar="EXPR", help="Which servers will do, such as: tag:color = 'red'")
@click.option("--storage-root", metavar="PATH", help="Folder for session storage.")
@click.option(
    "--enqueue-request", is_flag=False, flag_value="true", type=click.BOOL,
    help="Wait for a server if none is free now.",
)  # fmt: skip
@click.option("--disable-retry-on-failure", is_flag=True, help="Do not try a second server after a failure.")
@manner_options(*_STATES)
@click.pass_obj
def create_session(given: Given, /, name: str, count: int, **other: Any) -> int:
    """Create a session, or several."""
    from dcvtui.headless.changes import CREATE, run_change  # noqa: PLC0415  quick help
    from dcvtui.operations import numbered_name  # noqa: PLC0415  as above

    how = {key: other.pop(key) for key in ("dry_run", "wait", "wait_for", "timeout")}
    item = _session(**other)
    if count > 1 and "{n}" not in name:
        raise click.BadParameter("With --count the name needs '{n}' for the number.", param_hint="--name")
    # One session is called as it is written, as by the official client.
    several = [numbered_name(name, number, item["Owner"]) for number in range(1, count + 1)]
    items = [{"Name": one, **item} for one in (several if count > 1 else [name])]
    connection = given.connection()
    return run_change(connection, CREATE, items, manner_of(given, connection, CREATE, **how))


def _session(owner: str, kind: str, permissions: str | None, **other: Any) -> dict[str, Any]:
    """A session as CreateSessions takes it, without its name."""
    return {"Owner": owner, "Type": kind.upper()} | given_fields(
        InitFile=other["init_file_path"],
        AutorunFile=other["autorun_file"],
        AutorunFileArguments=list(other["autorun_file_arguments"]) or None,
        MaxConcurrentClients=other["max_clients"],
        DcvGlEnabled=other["dcv_gl_enabled"],
        PermissionsFile=checked(permissions, allow_invalid=other["allow_invalid"]),
        Requirements=other["requirements"],
        StorageRoot=other["storage_root"],
        EnqueueRequest=other["enqueue_request"],
        DisableRetryOnFailure=other["disable_retry_on_failure"],
    )


@click.command("delete-session", cls=Command)
@session_ids
@_OWNER
@click.option("--force", is_flag=True, help="Forget the sessions at once, also when a host is not reachable.")
@bulk_options
@_INCLUDE_CONNECTED
@manner_options(*_STATES)
@click.pass_obj
def delete_session(
    given: Given, /, ids: Ids, owner: str | None, force: bool, include_connected: bool, **other: Any
) -> int:
    """Delete sessions."""
    from dcvtui.selection import to_delete  # noqa: PLC0415  as above

    target = Target(ids, other.pop("expression"), other.pop("is_confirmed"))
    return change(
        given, "DELETE", target, given_fields(Owner=owner, Force=force),
        lambda found: to_delete(found, include_connected=include_connected), **other,
    )  # fmt: skip


@click.command("update-session-permissions", cls=Command)
@session_ids
@_OWNER
@permissions_options("--permission-file", "--permissions-file", required=True)
@bulk_options
@manner_options()
@click.pass_obj
def update_session_permissions(
    given: Given, /, ids: Ids, owner: str | None, permissions: str, allow_invalid: bool, **other: Any
) -> int:
    """Replace the permissions of sessions."""
    from dcvtui.selection import to_permit  # noqa: PLC0415  as above

    target = Target(ids, other.pop("expression"), other.pop("is_confirmed"))
    text = checked(permissions, allow_invalid=allow_invalid)
    return change(
        given, "PERMIT", target, given_fields(Owner=owner, PermissionsFile=text), to_permit, **other
    )


@click.command(cls=Command)
@click.option("--filter", "expression", required=True, metavar="EXPR", help=FILTER_TEXT)
@click.option("--force", is_flag=True, help="Also forget sessions whose server is not reachable.")
@_INCLUDE_CONNECTED
@click.option("--yes", "is_confirmed", is_flag=True, help="Do it without a question, as in a cron job.")
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted; 5 if there is something.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=600, show_default=True, metavar="S",
    help="Seconds to wait at most until all are gone; then the exit code is 4.",
)  # fmt: skip
@click.pass_obj
def reap(
    given: Given, /, expression: str, is_confirmed: bool, dry_run: bool, timeout: float, **rules: bool
) -> int:
    """Delete sessions that nobody needs any more.

    \b
    dcvtui reap --filter 'idle>7d or state:unknown' --yes

    It waits until they are gone and returns 0 if there was nothing to do or all are gone, 3 if some
    failed, 5 if a dry run found some.
    """
    from dcvtui.headless.bulk import reaped, run_bulk  # noqa: PLC0415  as above
    from dcvtui.headless.changes import DELETE  # noqa: PLC0415  as above

    connection = given.connection()
    manner = manner_of(given, connection, DELETE, dry_run=dry_run, wait=True, timeout=timeout)
    return run_bulk(connection, DELETE, reaped(expression, is_confirmed=is_confirmed, **rules), manner)
