"""How a user reaches a session: the broker's own answer, a ready link, or a `.dcv` file.

The token in all of them is a secret. It is printed because these commands are
asked for it, goes into no log, and a file with it is for its owner only.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dcvtui.client import BrokerClient
from dcvtui.config import Connection
from dcvtui.connect import (
    LinkForm,
    NoAddressError,
    Route,
    direct_route,
    file_name,
    handed_out,
    may_see,
    native_url,
    token_end,
    warnings_of,
    web_url,
)
from dcvtui.errors import ConfigError, NotUnderstood
from dcvtui.headless.words import say
from dcvtui.output import ExitCode, Format, write_object, write_rows
from dcvtui.private_files import replace_private, shown_path
from dcvtui.sent_permissions import SentPermissions

FORMS = ("url", "native", "dcv", "json")
_LIFE_NOT_KNOWN = "not known; the broker's default is 60 minutes"


async def print_connection_data(connection: Connection, session_id: str, user: str, chosen: Format) -> int:
    """Print what the broker says of the way to a session, with the links made of it where rows are wanted."""
    async with BrokerClient.to(connection) as client:
        answer = await client.connection_data(session_id, user)
    if chosen.is_structured:
        write_object(answer.raw, chosen, sys.stdout)
        return ExitCode.OK
    if chosen is Format.IDS:
        sys.stdout.write(f"{session_id}\n")
        return ExitCode.OK
    session = answer.model.session.to_wire() if answer.model.session else {}
    token = answer.model.connection_token or ""
    route = direct_route(session, connection.address_tag)
    end = token_end(token)
    rows = [
        ("session", str(session.get("Name", "")) or session_id),
        ("user", user),
        ("web", web_url(session, token, route)),
        ("native", native_url(session, token, route)),
        ("valid until", end.astimezone().strftime("%H:%M:%S") if end else _LIFE_NOT_KNOWN),
    ]
    write_rows(("WHAT", "VALUE"), rows, chosen, sys.stdout)
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What link is wanted.

    Attributes:
        session_id: of the session.
        user: who is to connect; None for the owner.
        form: one of `FORMS`; None for a file if one is named, else a link for the browser.
        gateway: `host:port` instead of the profile's.
        is_direct: no gateway, also where the profile has one.
        file: where to put a `.dcv` file; `-` for standard output.
        is_ssh: the person sits at another machine.
        sent: where the console keeps the permissions that it sent.
    """

    session_id: str
    user: str | None = None
    form: str | None = None
    gateway: str | None = None
    is_direct: bool = False
    file: Path | None = None
    is_ssh: bool = False
    sent: Path | None = None


async def print_link(connection: Connection, wanted: LinkRequest) -> int:
    """Print one link, or the path of the file that was written, on a line of its own.

    Raises:
        ConfigError: the gateway is none, there is no such session, or the file cannot be written.
        NoAddressError: the session is nowhere to be reached.
        BrokerError: the broker does not give a token.
    """
    route = _route(connection, wanted)
    async with BrokerClient.to(connection) as client:
        user = wanted.user or await _owner(client, wanted.session_id)
        answer = await client.connection_data(wanted.session_id, user)
    token = answer.model.connection_token
    if not token or not answer.model.session:
        raise NotUnderstood("The broker's answer holds no connection token.")
    session = answer.model.session.to_wire()
    way = route or direct_route(session, connection.address_tag)
    end = token_end(token)
    shut_out = user if _is_shut_out(session, user, wanted.sent) else ""
    for warning in warnings_of(session, None if route else way, end, datetime.now(UTC), shut_out=shut_out):
        say(warning)
    form = wanted.form or ("dcv" if wanted.file else "url")
    if form == "json":
        write_object(answer.raw, Format.JSON, sys.stdout)
    elif form == "dcv":
        text = handed_out(LinkForm.FILE, session, token, user, way)
        _hand_out_file(text, wanted, file_name(user, _name(session)))
    else:
        link = LinkForm.NATIVE if form == "native" else LinkForm.WEB
        sys.stdout.write(handed_out(link, session, token, user, way) + "\n")
    life = f"until {end.astimezone():%H:%M}" if end else _LIFE_NOT_KNOWN
    say(f"for {user}, valid {life}")
    return ExitCode.OK


def _is_shut_out(session: Mapping[str, Any], user: str, sent: Path | None) -> bool:
    """The permissions that the console sent last do not let the user see the session."""
    known = SentPermissions(sent).last(str(session.get("Id"))) if sent else None
    return known is not None and not may_see(known.text, str(session.get("Owner") or ""), user)


def _route(connection: Connection, wanted: LinkRequest) -> Route | None:
    """The gateway to go through; None for the direct way."""
    gateway = None if wanted.is_direct else wanted.gateway or connection.gateway
    try:
        return Route.read(gateway) if gateway else None
    except NoAddressError as error:
        code = ExitCode.BAD_VALUE if wanted.gateway else ExitCode.BAD_ENVIRONMENT
        raise ConfigError(error.sentence, code) from None


def _name(session: Mapping[str, Any]) -> str:
    return str(session.get("Name") or session.get("Id") or "")


async def _owner(client: BrokerClient, session_id: str) -> str:
    owners = [str(found.get("Owner")) async for page in client.sessions([session_id]) for found in page]
    if len(set(owners)) == 1:
        return owners[0]
    if not owners:
        raise ConfigError(f"The broker lists no session '{session_id}'.", ExitCode.BROKER_ERROR)
    several = ", ".join(sorted(set(owners)))
    raise ConfigError(
        f"Sessions of several owners have the id '{session_id}' ({several}). Name one with --user.",
        ExitCode.BAD_VALUE,
    )


def _hand_out_file(text: str, wanted: LinkRequest, usual_name: str) -> None:
    if wanted.file == Path("-"):
        sys.stdout.write(text)
        return
    path = (wanted.file or Path(usual_name)).expanduser()
    if path.is_dir():
        path /= usual_name
    try:
        replace_private(path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"The file '{path}' cannot be written: {error.strerror or error}. Name another with --file.",
            ExitCode.BAD_VALUE,
        ) from None
    sys.stdout.write(f"{path}\n")
    if wanted.is_ssh:
        import socket  # noqa: PLC0415  only for the line that copies a file to the person's machine

        say(f"From your machine: scp {socket.gethostname()}:{shown_path(path.absolute())} .")
