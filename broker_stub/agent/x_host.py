"""A host whose sessions run on X servers of its own: backend and entrance, put together from agent.conf."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broker_stub.agent.access import BrokerAccess
from broker_stub.agent.backend import Endpoint
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.entrance import Entrance
from broker_stub.agent.entrance_certificate import own_certificate, server_context
from broker_stub.agent.identity import Address
from broker_stub.agent.layouts import read_layout, size_of
from broker_stub.agent.owners import UserMode
from broker_stub.agent.rfb_socket import LONGEST_PATH
from broker_stub.agent.screenshots import Screen
from broker_stub.agent.settings import AgentSettings, BackendSection, EntranceSection
from broker_stub.agent.token_check import VERIFIER_PATH, TokenCheck
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_layout import MISSING, resizing_program
from broker_stub.agent.x_programs import PROGRAMS, ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder

_LONGEST_ID = "0" * 36


@dataclass(frozen=True, slots=True)
class XHost:
    """What runs on such a host."""

    backend: XBackend
    endpoints: tuple[Endpoint, ...] | None
    """Where the entrance is; `None` on hosts without one, whose sessions take no clients."""


def server_kind(settings: AgentSettings) -> ServerKind:
    """Which X server sessions run on: as told, else the one that people can connect to if it is there."""
    wanted = settings.backend.type
    if wanted in ("xvfb", "xvnc"):
        return ServerKind(wanted)
    return ServerKind.XVNC if PROGRAMS[ServerKind.XVNC].find() else ServerKind.XVFB


async def open_host(
    settings: AgentSettings, access: BrokerAccess, address: Address, stack: AsyncExitStack
) -> XHost:
    """Start backend and entrance; the stack ends them, and sessions live on.

    Raises:
        OSError: the entrance's port or certificate cannot be used, or the state folder.
    """
    kind = server_kind(settings)
    backend = await XBackend.open(
        XSettings(
            state_folder=_state_folder(settings),
            init_folder=settings.agent.init_folder,
            autorun_folder=settings.agent.autorun_folder,
            server=kind,
            geometry=settings.backend.geometry,
            layout=read_layout(settings.backend.layout) if settings.backend.layout else (),
            desktop_commands=tuple(map(tuple, settings.backend.desktop)),
            console=_console(settings.backend),
            limits=ChildLimits(**dict(settings.backend.limits)),
            user_mode=UserMode(settings.backend.session_user_mode),
            minimum_uid=settings.backend.minimum_uid,
        )
    )
    stack.push_async_callback(backend.stop)
    if not kind.takes_clients:
        return XHost(backend, None)
    told = settings.entrance
    entrance = Entrance(
        backend.clients,
        TokenCheck(told.token_verifier or access.address.https_url + VERIFIER_PATH, access.tls),
        web_url_path=told.web_url_path,
        most_clients=told.max_clients,
    )
    try:
        await entrance.open(told.address, told.port, _tls(settings, address))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            error.errno,
            f"Port {told.port} is taken, by a broker or a DCV server on this host perhaps: "
            "entrance.port in agent.conf takes another one",
        ) from None
    stack.push_async_callback(entrance.close)
    return XHost(backend, (entrance.endpoint,))


def _console(told: BackendSection) -> Screen | None:
    if told.console is False or told.console_display is None or told.console_authority is None:
        return None
    return Screen(int(told.console_display.removeprefix(":")), told.console_authority)


def _state_folder(settings: AgentSettings) -> Path:
    return settings.state.directory / "x"


def _tls(settings: AgentSettings, address: Address) -> ssl.SSLContext:
    told = settings.entrance
    if told.certificate_file and told.key_file:
        return server_context(told.certificate_file, told.key_file)
    names = [address.hostname, address.dns_name, address.ip, socket.gethostname(), "localhost", "127.0.0.1"]
    return server_context(*own_certificate(settings.state.directory, filter(None, names), datetime.now(UTC)))


def problems(settings: AgentSettings) -> Iterator[str]:
    """What this host lacks for what the settings ask, one sentence each."""
    kind = server_kind(settings)
    if PROGRAMS[kind].find() is None:
        yield f"{PROGRAMS[kind].missing}."
    told = settings.backend
    if bool(told.console_display) != bool(told.console_authority):
        yield "backend.console_display and backend.console_authority belong together; one of them is missing."
    elif told.console is True and not told.console_display:
        yield "backend.console is true, but backend.console_display does not say which display that is."
    if settings.backend.session_user_mode == "setuid" and os.geteuid() != 0:
        yield "backend.session_user_mode is 'setuid'; that needs an agent that runs as root."
    if settings.backend.layout and (missing := _layout_problem(kind, settings.backend)):
        yield missing
    if kind.takes_clients:
        yield from _entrance_problems(settings.entrance)
        yield from _path_problems(settings)


def _layout_problem(kind: ServerKind, told: BackendSection) -> str | None:
    """Why new sessions cannot have the layout that is asked for, `None` if they can."""
    if resizing_program() is None:
        return f"backend.layout: {MISSING}."
    width, height = size_of(read_layout(told.layout or ""))
    if kind is ServerKind.XVFB and (width > told.geometry[0] or height > told.geometry[1]):
        return (
            f"backend.layout needs a screen of {width}x{height}, and Xvfb cannot grow beyond "
            f"backend.geometry, {told.geometry[0]}x{told.geometry[1]}."
        )
    return None


def _entrance_problems(told: EntranceSection) -> Iterator[str]:
    if bool(told.certificate_file) != bool(told.key_file):
        yield "entrance.certificate_file and entrance.key_file belong together; one of them is missing."
    elif told.certificate_file and told.key_file:
        try:
            server_context(told.certificate_file, told.key_file)
        except (OSError, ssl.SSLError) as error:
            yield f"entrance.certificate_file: {told.certificate_file} cannot be used with its key: {error}."


def _path_problems(settings: AgentSettings) -> Iterator[str]:
    longest = SessionFolder(_state_folder(settings).resolve() / "sessions" / _LONGEST_ID).rfb_socket
    if (spare := LONGEST_PATH - len(os.fsencode(longest))) < 0:
        yield (
            f"state.directory is {-spare} bytes too long: the system allows {LONGEST_PATH} for the path "
            "of a session's socket below it."
        )
