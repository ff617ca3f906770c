"""Commands of `dcv-session-manager-agent` for the X sessions of its host: list, describe, another layout.

They are what `dcv` offers on hosts with a DCV server, under the same names.
"""

# ruff: noqa: PLC0415  imports inside the commands: their help should not pay for a whole agent

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dcvtui.api.text import visible

if TYPE_CHECKING:
    from broker_stub.agent.local_sessions import LocalSessions

_CONFIG_VARIABLE = "DCVSM_AGENT_CONFIG"
_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), envvar=_CONFIG_VARIABLE, help="The agent's file."
)
_JSON = click.option("--json", "-j", "as_json", is_flag=True, help="For programs.")
_EXIT_REFUSED = 1


@click.command("list-sessions")
@_JSON
@_CONFIG
def list_sessions(as_json: bool, config: Path | None) -> None:
    """List the X sessions of this host."""
    local = _local(config)
    try:
        found = [local.summary(session) for session in local.all()]
    except OSError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    for one in () if as_json else found:
        name = visible(one["name"])
        click.echo(f"Session: '{one['id']}' (owner:{one['owner']} type:{one['type']} name:'{name}')")


@click.command("describe-session")
@click.argument("session_id")
@_JSON
@_CONFIG
def describe_session(session_id: str, as_json: bool, config: Path | None) -> None:
    """Show one X session of this host: display, layout, connections."""
    from broker_stub.agent.backend import BackendError

    local = _local(config)
    try:
        found = asyncio.run(local.describe(local.one(session_id)))
    except (BackendError, OSError) as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"Session: {found['id']}")
    for line in _lines(found):
        click.echo(f"  {line}")


@click.command("set-display-layout")
@click.option("--session", "session_id", required=True, help="Which session.")
@click.argument("layout")
@_CONFIG
def set_display_layout(session_id: str, layout: str, config: Path | None) -> None:
    """Give a session another size or other monitors, such as 1280x720 or 800x600,1024x768+800+0.

    The first monitor is the primary one. Sessions on Xvfb cannot become larger than they were started.
    """
    from broker_stub.agent.backend import BackendError

    local = _local(config)
    try:
        click.echo(asyncio.run(local.set_layout(local.one(session_id), layout)))
    except (BackendError, OSError) as error:
        _fail(error)


SESSION_COMMANDS = (list_sessions, describe_session, set_display_layout)


def _lines(found: dict[str, Any]) -> list[str]:
    heads = (f"{one['width']}x{one['height']}{one['x']:+d}{one['y']:+d}" for one in found["display-layout"])
    return [
        f"owner: {found['owner']}",
        f"name: {visible(found['name'])}",
        f"type: {found['type']}",
        f"connections: {found['num-of-connections']}",
        f"x server: {found['x11-server']}",
        f"x display: {found['x11-display']}",
        f"x authority: {found['x11-authority']}",
        f"display layout: {','.join(heads)}",
    ]


def _local(config: Path | None) -> "LocalSessions":
    from broker_stub.agent.local_sessions import LocalSessions
    from broker_stub.agent.owners import UserMode
    from broker_stub.agent.settings import DEFAULT_FILE, EXIT_CONFIGURATION, SettingsError, load_settings

    try:
        settings = load_settings(config or DEFAULT_FILE).settings
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    return LocalSessions(settings.state.directory / "x", UserMode(settings.backend.session_user_mode))


def _fail(error: Exception) -> NoReturn:
    if isinstance(error, PermissionError):
        click.echo("error: The sessions of this host are root's to see: try again as root.", err=True)
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(_EXIT_REFUSED)
