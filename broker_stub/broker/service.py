"""The whole broker inside a running event loop: opens its parts in order and closes them in order.

`process` runs it as a program; tests run it beside themselves. Stopping drains:
agents are told, new requests get 503, those under way finish within the grace time.
"""

import asyncio
import base64
import contextlib
import fcntl
import gc
import logging
import os
import secrets
import socket
import stat
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from broker_stub.broker.admin import admin_app, socket_path
from broker_stub.broker.admin_trust import trust_routes
from broker_stub.broker.agents import AgentChannels
from broker_stub.broker.coordinator import Coordinator, utc_now
from broker_stub.broker.dns_names import DnsNames
from broker_stub.broker.events import Rules
from broker_stub.broker.external_tokens import Demands, ExternalServers
from broker_stub.broker.http_api import ApiRules, Health, HttpApi
from broker_stub.broker.key_sets import fetch_document
from broker_stub.broker.key_stores import KeyStoreError
from broker_stub.broker.listener_tls import ListenerTls
from broker_stub.broker.listeners import Listener, ListenError, local_url, open_socket, short_path
from broker_stub.broker.live_stream import LiveStream
from broker_stub.broker.oauth import Tokens
from broker_stub.broker.operations import Operations, ScreenshotRules
from broker_stub.broker.page_tokens import PageTokens
from broker_stub.broker.registry import Registry
from broker_stub.broker.resolver import resolver_app
from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import SettingsError
from broker_stub.broker.store import SigningKey, Store
from broker_stub.broker.throttle import Throttle

logger = logging.getLogger(__name__)

_RENEWAL_LOOK_S = 3600
_DEFINITION = Path(__file__).with_name("dcv-session-manager-api.yaml")


def rules_of(settings: Settings) -> Rules:
    """What the registry needs to know of the settings."""
    sessions = settings.sessions
    return Rules(
        queue_max_size=sessions.queue_max_size,
        queue_max_time_s=sessions.queue_max_time_s,
        retries_on_failure=sessions.retries_on_failure,
        deleted_session_kept_s=sessions.deleted_kept_s,
        unreachable_server_kept_s=sessions.unreachable_server_kept_s,
        unreachable_sessions_kept_s=sessions.unreachable_sessions_kept_s,
        agent_loss_grace_s=settings.agent.loss_grace_s,
        autorun_arguments_max=sessions.autorun_arguments_max,
        autorun_argument_length_max=sessions.autorun_argument_length_max,
    )


def prepare_working_path(path: Path) -> None:
    """Make the working folder, for the broker alone.

    Raises:
        SettingsError: it cannot be made or written, or others may read it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise SettingsError([f"The working path {path} cannot be made: {error.strerror}."]) from None
    if mode & stat.S_IRWXO:
        raise SettingsError([f"The working path {path} has mode {mode:04o}; others must have no access."])
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError([f"The working path {path} cannot be written."])


class Broker:
    """A broker inside the running event loop.

    Args:
        settings: What it was told.
        rules: The registry's rules, if other than those of the settings.
        now: The clock.

    Attributes:
        client_url: Where API clients reach it from this host.
        agent_url: Where agents reach it from this host.
        gateway_url: Where a gateway reaches it from this host, `None` unless that is enabled.
        ca_file: What both trust.
        client_app: The ASGI application of the client listener.
        agent_app: The ASGI application of the agent listener.
    """

    def __init__(
        self, settings: Settings, rules: Rules | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._settings = settings
        self._rules = rules or rules_of(settings)
        self._now = now
        self._is_stopping = False
        self._exit = contextlib.AsyncExitStack()
        self.gateway_url: str | None = None
        self._failed: asyncio.Future[None] | None = None
        self._listeners: list[tuple[Listener, asyncio.Task[None]]] = []
        self._live: LiveStream | None = None

    async def start(self) -> None:
        """Open everything; returns when connections are accepted.

        Raises:
            SettingsError: the working path cannot be used.
            ListenError: a port cannot be had, or another broker runs here.
            StoreTooNew: a newer broker has written the store.
        """
        self._failed = asyncio.get_running_loop().create_future()
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._exit = stack.pop_all()

    async def wait_failed(self) -> None:
        """Wait until a part of the broker dies, which only a fault can cause, and raise why."""
        assert self._failed is not None, "start() comes first"  # noqa: S101  a wrong order of calls, no input
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Drain and close everything, within the grace time."""
        self._is_stopping = True
        await self._exit.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        path = settings.files.working_path
        prepare_working_path(path)
        stack.enter_context(_only_broker_of(path))
        client_socket = open_socket(settings.client.bind_host, settings.client.https_port)
        stack.callback(client_socket.close)
        agent_socket = open_socket(settings.agent.bind_host, settings.agent.https_port)
        stack.callback(agent_socket.close)
        gateway_socket = None
        if settings.gateway.enabled:
            gateway_socket = open_socket(settings.gateway.bind_host, settings.gateway.https_port)
            stack.callback(gateway_socket.close)

        self.store = await Store.open(path / "broker.db")
        stack.push_async_callback(self.store.close)
        self.registry = await self._restored()
        self.tokens = await self._loaded_tokens()
        self.dns_names = DnsNames(await self.store.dns_mappings(), self.store.replace_dns_mappings)
        self.external = await self._external_servers()
        stack.callback(self.external.close)
        self.external.warm_up()
        self.coordinator = Coordinator(self.registry, self.store, self._now)
        self.agents = AgentChannels(
            self.coordinator,
            self.tokens,
            requires_token=settings.authorization.enable_agent_authorization,
            now=self._now,
        )
        self.coordinator.deliver = self.agents.deliver
        self.agent_app = self.agents.app
        self.client_app = await self._client_app()

        await stack.enter_async_context(self._running(self.coordinator.run()))
        stack.push_async_callback(self.coordinator.settle)

        self.tls = self._prepared_tls()
        await stack.enter_async_context(self._running(self._renew()))
        self.ca_file = self.tls.ca_file
        self.client_url, self.agent_url = local_url(client_socket), local_url(agent_socket)

        admin_name = stack.enter_context(short_path(socket_path(path)))
        stack.callback(socket_path(path).unlink, missing_ok=True)
        grace_s = settings.running.shutdown_grace_s
        stack.push_async_callback(self._stop_listeners)
        trust = trust_routes(self.tokens, self.external, self.dns_names, self.agents.close_client)
        await self._serve(Listener.for_local(admin_app(self.tokens, trust), admin_name, grace_s))
        socket_path(path).chmod(0o600)
        await self._serve(Listener.for_tls(self.client_app, self.tls.client, grace_s), client_socket)
        await self._serve(
            Listener.for_tls(self.agent_app, self.tls.agent, grace_s, with_channel=True), agent_socket
        )
        if gateway_socket is not None:
            self.gateway_url = local_url(gateway_socket)
            gateway_app = resolver_app(self.registry, self.dns_names, lambda: self.health().reason)
            await self._serve(Listener.for_tls(gateway_app, self.tls.gateway, grace_s), gateway_socket)

    # -------------------------------------------------------------- parts

    async def _restored(self) -> Registry:
        registry = Registry(self._rules)
        # A fleet is a million objects that live on: collecting while they appear costs more than they do.
        gc.disable()
        try:
            registry.restore(await self.store.load(), self._now())
        finally:
            gc.enable()
        return registry

    async def _loaded_tokens(self) -> Tokens:
        authorization = self._settings.authorization
        tokens = await Tokens.load(
            self.store,
            access_token_s=authorization.access_token_s,
            connection_token_s=self._settings.sessions.connection_token_minutes * 60,
            accept_default_statement=not authorization.reject_default_statement,
            now=self._now,
        )
        if authorization.enable_agent_authorization and tokens.statements.is_default_active:
            logger.warning(
                "Agents may register with the software statement that every installation knows; "
                "ext-reject-default-software-statement = true refuses it, and so does "
                "deactivate-software-statement."
            )
        return tokens

    async def _external_servers(self) -> ExternalServers:
        authorization = self._settings.authorization
        return ExternalServers(
            await self.store.auth_servers(),
            self.store.save_auth_server,
            self.store.remove_auth_server,
            fetch_document,
            self._now,
            Demands(
                authorization.external_issuers,
                authorization.external_audiences,
                authorization.external_scopes,
            ),
        )

    async def _client_app(self) -> HttpApi:
        settings = self._settings
        client, authorization = settings.client, settings.authorization
        operations = Operations(
            self.coordinator,
            self.tokens,
            PageTokens(await _page_secret(self.store, self._now)),
            self.agents,
            ScreenshotRules(
                client.screenshot_max_width, client.screenshot_max_height, client.screenshot_format
            ),
        )
        rules = ApiRules(
            needs_token=authorization.enable_authorization,
            issues_tokens=authorization.enable_authorization_server,
            trusts_forwarded_for=client.throttle_by_forwarded_for,
            definition=_DEFINITION.read_bytes() if client.enable_api_yaml else None,
        )
        throttle = Throttle(client.max_requests_per_second, asyncio.get_running_loop().time)
        if client.live_changes:
            self._live = LiveStream(self.registry)
            self.coordinator.changed = self._live.note_change
        return HttpApi(operations, self.tokens, self.external, throttle, self.health, rules, self._live)

    def health(self) -> Health:
        """Whether the broker serves."""
        if self._is_stopping:
            return Health("the broker is stopping", is_stopping=True)
        if self.coordinator.is_store_down:
            return Health("the database cannot be written")
        return Health()

    @property
    def requests_under_way(self) -> int:
        """How many requests wait for their answer, open channels of agents included."""
        return sum(len(listener.server_state.tasks) for listener, _ in self._listeners)

    def _prepared_tls(self) -> ListenerTls:
        try:
            return ListenerTls(self._settings, self._now)
        except KeyStoreError as error:
            raise SettingsError([str(error)]) from None

    async def _renew(self) -> None:
        """Look now and then whether a certificate is old or changed; new connections get the new one."""
        while True:
            self.tls.warn_of_ends()
            await asyncio.sleep(_RENEWAL_LOOK_S)
            await asyncio.to_thread(self.tls.renew)

    # -------------------------------------------------------------- running

    async def _serve(self, listener: Listener, *sockets: socket.socket) -> None:
        task = asyncio.create_task(listener.serve(sockets=list(sockets) or None))
        task.add_done_callback(self._note_end)
        self._listeners.append((listener, task))
        up = asyncio.create_task(listener.up.wait())
        await asyncio.wait((task, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if task.done():
            await task
            raise ListenError("A listener ended as soon as it was opened.")

    async def _stop_listeners(self) -> None:
        self._is_stopping = True
        self.agents.close_all("shutdown")
        if self._live is not None:
            self._live.close()
        for listener, _ in self._listeners:
            listener.request_stop()
        await asyncio.gather(*(task for _, task in self._listeners), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _running(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_end)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if self._is_stopping or task.cancelled() or self._failed is None or self._failed.done():
            return
        self._failed.set_exception(task.exception() or RuntimeError("a part of the broker ended"))


async def _page_secret(store: Store, now: Callable[[], datetime]) -> bytes:
    """The secret behind `NextToken`, made once: page tokens survive a restart."""
    keys = await store.signing_keys("page")
    if not keys:
        text = base64.b64encode(secrets.token_bytes(32)).decode()
        keys = [SigningKey(uuid.uuid4().hex, "page", text, now())]
        await store.save_signing_key(keys[0])
    return base64.b64decode(keys[-1].pem)


@contextlib.contextmanager
def _only_broker_of(path: Path) -> Iterator[None]:
    descriptor = os.open(path / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ListenError(f"Another broker is running with the working path {path}.") from None
    try:
        yield
    finally:
        os.close(descriptor)
