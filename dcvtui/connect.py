"""How to reach a session: web and native addresses, `.dcv` files, and what its token says of itself.

Takes sessions as dictionaries with the API's names, as connection data give
them. A connection token is a secret: `masked` is what may stand on a screen
before somebody asks for it.
"""

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from dcvtui.api.permissions import evaluate
from dcvtui.api.states import SessionState
from dcvtui.api.text import visible
from dcvtui.errors import ProgramError

DEFAULT_ADDRESS_TAG = "public_ipv4"
ENDS_SOON = timedelta(minutes=5)
_MASK = "••••••••"
_FILE_NAME_LENGTH = 120
_HOST = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?|[^\s\x00-\x20\x7f-\x9f/:?#@%\[\]\\]+")
# Half of a surrogate pair is no character at all, but JSON can hold it.
_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What a path may hold unescaped (RFC 3986, pchar and the slash); a percent sign is already an escape.
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"


class NoAddressError(ProgramError):
    """The answer does not say where the session is, or says it in a way no client takes."""


class LinkForm(StrEnum):
    """What is handed out: a link for a browser or a native client, a `.dcv` file, or the broker's answer."""

    WEB = "web"
    NATIVE = "native"
    FILE = "file"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Route:
    """Host and port that a client connects to; the path, the token and the id stay the session's."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> "Route":
        """Read `host:port` or `[address]:port`, as profiles name a gateway.

        Raises:
            NoAddressError: it is neither.
        """
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/\[\]]+)):([0-9]{1,5})", text.strip())
        if match is None or not 0 < int(match[3]) < 65536:
            raise NoAddressError(f"'{visible(text)}' is no gateway; it looks like gateway.example:8443.")
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        return f"{_in_url(self.host)}:{self.port}"


def direct_route(session: Mapping[str, Any], address_tag: str = DEFAULT_ADDRESS_TAG) -> Route:
    """The way without a gateway: the public address in a server tag, else the server's own.

    Raises:
        NoAddressError: the session has no server with an address and a port.
    """
    server = _server(session)
    endpoint = _endpoint(server)
    tagged = next((t.get("Value") for t in server.get("Tags") or () if t.get("Key") == address_tag), None)
    if tagged and not _HOST.fullmatch(str(tagged)):
        raise NoAddressError(
            f"The tag {visible(address_tag)} of the server holds '{visible(str(tagged))}', "
            "which is no address. Correct it on the server, or use a gateway."
        )
    host = tagged or endpoint.get("IpAddress") or server.get("Ip")
    port = endpoint.get("Port") or server.get("Port")
    if not _HOST.fullmatch(str(host or "")) or not str(port).isdecimal():
        raise NoAddressError(
            "The broker does not say at which address and port the session is reached. "
            "Look at the server's details; its agent may not have reported yet."
        )
    return Route(str(host), int(str(port)))


def web_url(session: Mapping[str, Any], token: str, route: Route | None = None) -> str:
    """The address for a browser (section 1 of the connection specification).

    Raises:
        NoAddressError: see `direct_route`.
    """
    return _url("https", session, token, route)


def native_url(session: Mapping[str, Any], token: str, route: Route | None = None) -> str:
    """The address for the native client.

    Raises:
        NoAddressError: see `direct_route`.
    """
    return _url("dcv", session, token, route)


def connection_file(session: Mapping[str, Any], token: str, user: str, route: Route | None = None) -> str:
    """The text of a `.dcv` file. It holds the token, so it is written with `private_files`.

    Raises:
        NoAddressError: a value holds a line break or another control character, or see `direct_route`.
    """
    way = route or direct_route(session)
    values = {
        "host": way.host,
        "port": str(way.port),
        "weburlpath": _path(session),
        "sessionid": str(session.get("Id", "")),
        "user": user,
        "authtoken": token,
    }
    for name, value in values.items():
        if _BREAK.search(value):
            raise NoAddressError(
                f"The value of {name} holds a line break or another control character, "
                "which no .dcv file can carry."
            )
    lines = ["[version]", "format=1.0", "", "[connect]"]
    lines += [f"{name}={value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def handed_out(
    form: LinkForm, session: Mapping[str, Any], token: str, user: str, route: Route | None = None
) -> str:
    """What somebody is given to reach a session, the token in it.

    Args:
        form: As what.
        session: The session with its server, as connection data give it.
        token: The connection token.
        user: Whom the token is for.
        route: Another way than the direct one.

    Raises:
        NoAddressError: see `direct_route` and `connection_file`.
    """
    match form:
        case LinkForm.WEB:
            return web_url(session, token, route)
        case LinkForm.NATIVE:
            return native_url(session, token, route)
        case LinkForm.FILE:
            return connection_file(session, token, user, route)
        case LinkForm.JSON:
            return json.dumps({"Session": dict(session), "ConnectionToken": token}, indent=2) + "\n"


def may_see(permissions: str, owner: str, user: str) -> bool:
    """Whether a permissions text lets a user see the session, as far as the text alone can tell."""
    return "display" in evaluate(permissions, owner, user)


def file_name(user: str, session_name: str) -> str:
    """A name for a `.dcv` file that is safe on every system: `<user>_<session-name>.dcv`."""
    stem = re.sub(r"[^\w.@-]+", "-", f"{user}_{session_name}").strip("._-")
    return (stem[:_FILE_NAME_LENGTH] or "session") + ".dcv"


def token_end(token: str) -> datetime | None:
    """When a connection token ends, where it can be read; its signature is not checked.

    Returns:
        None for a token that does not tell: the broker's default is 60 minutes.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (binascii.Error, ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None


def ends_soon(end: datetime | None, now: datetime) -> bool:
    """A token ends within five minutes, or has ended."""
    return end is not None and end - now <= ENDS_SOON


def warnings_of(
    session: Mapping[str, Any],
    direct: Route | None,
    end: datetime | None,
    now: datetime,
    *,
    shut_out: str = "",
) -> list[str]:
    """What may keep a client from getting in, to be said before a link is handed out.

    Args:
        session: The session with the API's names.
        direct: Where clients connect to without a gateway.
        end: When the token ends, if known.
        now: The time.
        shut_out: A user whom the last known permissions do not let in, "" if they let everybody in question.
    """
    found = []
    state = str(session.get("State") or "")
    if state and state != SessionState.READY:
        reason = session.get("StateReason") or session.get("Substate")
        found.append(f"The session is {state}{f' ({reason})' if reason else ''}.")
    limit, connections = session.get("MaxConcurrentClients"), session.get("NumOfConnections")
    if isinstance(limit, int) and isinstance(connections, int) and 0 < limit <= connections:
        found.append(f"All places are taken: {connections} of {limit} clients are connected.")
    if shut_out:
        found.append(f"The permissions sent last do not let {visible(shut_out)} see this session.")
    if direct and _is_private(direct.host):
        found.append(f"{direct.host} is a private address: it is reached only from inside its network.")
    if ends_soon(end, now):
        found.append("The token ends within five minutes." if end and end > now else "The token has ended.")
    return found


def masked(text: str, token: str = "") -> str:
    """The text with the token in it hidden; without a token the text itself is the secret."""
    secret = token or text
    return text.replace(_quoted(secret), _MASK).replace(secret, _MASK) if secret else text


def _url(scheme: str, session: Mapping[str, Any], token: str, route: Route | None) -> str:
    way = route or direct_route(session)
    identity = _quoted(str(session.get("Id", "")))
    return f"{scheme}://{way}{_path(session)}?authToken={_quoted(token)}#{identity}"


def _in_url(host: str) -> str:
    """A host as URLs have it: IPv6 in brackets, the zone of a local address escaped (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def _server(session: Mapping[str, Any]) -> Mapping[str, Any]:
    server = session.get("Server")
    return server if isinstance(server, Mapping) else {}


def _endpoint(server: Mapping[str, Any]) -> Mapping[str, Any]:
    """The endpoint for browsers; of several the one with the server's own address."""
    endpoints = [
        endpoint
        for endpoint in server.get("Endpoints") or ()
        if isinstance(endpoint, Mapping) and str(endpoint.get("Protocol", "")).upper() == "HTTP"
    ]
    own = [endpoint for endpoint in endpoints if endpoint.get("IpAddress") == server.get("Ip")]
    return next(iter(own or endpoints), {})


def _path(session: Mapping[str, Any]) -> str:
    server = _server(session)
    path = server.get("WebUrlPath") or _endpoint(server).get("WebUrlPath") or "/"
    return _quoted(path if path.startswith("/") else "/" + path, _PATH_SAFE)


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="replace")


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
