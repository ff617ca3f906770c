"""The whole broker inside a running event loop: opens its parts in order and closes them in order.

`process` runs it as a program; tests run it beside themselves. Stopping drains:
agents are told, new requests get 503, those under way finish within the grace time.
"""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import fields, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any

from broker_stub.broker import logs
from broker_stub.broker.admin import admin_app
from broker_stub.broker.admin_service import service_routes
from broker_stub.broker.admin_trust import trust_routes
from broker_stub.broker.agents import AgentChannels
from broker_stub.broker.coordinator import Coordinator, utc_now
from broker_stub.broker.dns_names import DnsNames
from broker_stub.broker.events import Rules, RulesChanged
from broker_stub.broker.front import AGENT_ACTIONS, CLIENT_ACTIONS, Front, LocalFront
from broker_stub.broker.http_api import Health, HttpApi
from broker_stub.broker.key_stores import KeyStoreError
from broker_stub.broker.listener_tls import ListenerTls
from broker_stub.broker.listeners import Listener
from broker_stub.broker.live_stream import LiveStream
from broker_stub.broker.metrics import Metrics, Sources
from broker_stub.broker.operations import Operations
from broker_stub.broker.registry import Registry
from broker_stub.broker.reload import Reload, reload
from broker_stub.broker.resolver import resolver_app
from broker_stub.broker.restored import (
    restored_page_tokens,
    restored_registry,
    restored_servers,
    restored_tokens,
)
from broker_stub.broker.rules import api_rules_of, demands_of, rules_of, screenshot_rules_of
from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import Loaded, SettingsError
from broker_stub.broker.sockets import ListenError, local_url, open_socket, short_path
from broker_stub.broker.steady_clock import SteadyClock
from broker_stub.broker.store import Store
from broker_stub.broker.throttle import Throttle
from broker_stub.broker.working_path import only_broker_of, prepare_working_path, socket_path

logger = logging.getLogger(__name__)

_HEALTHY = Health()
_RENEWAL_LOOK_S = 3600
_LOOKS_PER_WARNING = 24
_LOOK_S = 0.01
_FAREWELL_S = 1.0  # of the grace time, for the agents


class Broker:
    """A broker inside the running event loop.

    Args:
        settings: What it was told.
        rules: The registry's rules, if other than those of the settings.
        now: The clock.
        steady: The clock for deadlines and silence, which never leaps.
        reread: Reads the configuration file again.

    Attributes:
        client_url: Where API clients reach it from this host.
        agent_url: Where agents reach it from this host.
        gateway_url: Where a gateway reaches it from this host, `None` unless that is enabled.
        ca_file: What both trust.
        client_app: The ASGI application of the client listener.
        agent_app: The ASGI application of the agent listener.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules | None = None,
        now: Callable[[], datetime] = utc_now,
        steady: Callable[[], datetime] | None = None,
        reread: Callable[[], Loaded] | None = None,
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._reload_turn = asyncio.Lock()
        self._needs_restart: tuple[str, ...] = ()
        self._started_at = now()
        self.metrics = Metrics(settings.running.fleet_name)
        self._rules = rules or rules_of(settings)
        self._now = now
        self._steady = steady or SteadyClock()
        self._is_stopping = False
        self._exit = contextlib.AsyncExitStack()
        self.gateway_url: str | None = None
        self._failed: asyncio.Future[None] | None = None
        self._fronts: tuple[Front, ...] = ()
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
        await self._drain()
        await self._exit.aclose()

    async def _drain(self) -> None:
        """Answer what was asked, refuse what is new, then send the agents away.

        The listeners stay open meanwhile: a load balancer that asks for `/health` has to hear 503,
        and what was asked may need the agents.
        """
        loop = asyncio.get_running_loop()
        grace_s = self._settings.running.shutdown_grace_s
        ends_at = loop.time() + grace_s
        self.agents.refuse_new()
        if self._live is not None:
            self._live.close()
        farewell_s = min(_FAREWELL_S, grace_s / 2)
        # Those that are refused from here on are not waited for: a client may go on asking for ever.
        asked = {request for front in self._fronts for request in front.under_way}
        while (  # noqa: ASYNC110  each of them ends by itself
            any(asked & front.under_way for front in self._fronts) and loop.time() < ends_at - farewell_s
        ):
            await asyncio.sleep(_LOOK_S)
        self.agents.close_all("shutdown")
        await self._stop_listeners(math.ceil(max(0, ends_at - loop.time())))

    async def reload(self) -> Reload:
        """Read the configuration file again and take over what can change while the broker runs.

        Raises:
            SettingsError: the file cannot be used; nothing changes.
        """
        if self._reread is None:
            raise SettingsError(["This broker was not started from a file."])
        async with self._reload_turn:
            # Files and names of this host are looked up, which may take as long as a name server does.
            loaded = await asyncio.to_thread(self._reread)
            found = reload(self._settings, loaded.settings)
            for warning in loaded.warnings:
                logger.warning("%s", warning)
            self._take_over(found.settings)
            self._needs_restart = found.needs_restart
            await asyncio.to_thread(self.tls.renew)
        if found.changed:
            logger.info("Taken over from the configuration file: %s.", ", ".join(found.changed))
        if found.needs_restart:
            logger.warning("A restart is needed for: %s.", ", ".join(found.needs_restart))
        return found

    def _take_over(self, settings: Settings) -> None:
        former, wanted = rules_of(self._settings), rules_of(settings)
        self._settings = settings
        changed = {
            field.name: getattr(wanted, field.name)
            for field in fields(Rules)
            if getattr(wanted, field.name) != getattr(former, field.name)
        }
        if changed:
            self._rules = replace(self._rules, **changed)
            self.coordinator.apply(RulesChanged(self._rules))
        self.tokens.connection_token_s = settings.sessions.connection_token_minutes * 60
        self.tokens.access_token_s = settings.authorization.access_token_s
        self.external.demands = demands_of(settings)
        self.operations.screenshots = screenshot_rules_of(settings)
        self.throttle.rate = settings.client.max_requests_per_second
        self.client_app.change_rules(api_rules_of(settings))
        logs.set_level(settings.running.log_level)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        path = settings.files.working_path
        prepare_working_path(path)
        stack.enter_context(only_broker_of(path, settings.files.database_file))
        client_socket = open_socket(settings.client.bind_host, settings.client.https_port)
        stack.callback(client_socket.close)
        agent_socket = open_socket(settings.agent.bind_host, settings.agent.https_port)
        stack.callback(agent_socket.close)
        gateway_socket = None
        if settings.gateway.enabled:
            gateway_socket = open_socket(settings.gateway.bind_host, settings.gateway.https_port)
            stack.callback(gateway_socket.close)
        self.tls = self._prepared_tls()
        self.ca_file = self.tls.ca_file
        self.client_url, self.agent_url = local_url(client_socket), local_url(agent_socket)

        # Open before the rest: whoever asks meanwhile hears that the broker is starting.
        grace_s = settings.running.shutdown_grace_s
        stack.push_async_callback(self._stop_listeners, grace_s)
        observe = self.metrics.observe_request
        client_front, agent_front = Front(CLIENT_ACTIONS, observe), Front(AGENT_ACTIONS, observe)
        gateway_front = Front({}, observe)
        self._fronts = (client_front, agent_front, gateway_front)
        await self._serve(Listener.for_tls(client_front, self.tls.client, grace_s), client_socket)
        await self._serve(
            Listener.for_tls(agent_front, self.tls.agent, grace_s, with_channel=True), agent_socket
        )
        if gateway_socket is not None:
            self.gateway_url = local_url(gateway_socket)
            await self._serve(Listener.for_tls(gateway_front, self.tls.gateway, grace_s), gateway_socket)

        self.store = await Store.open(settings.files.database_file or path / "broker.db")
        stack.push_async_callback(self.store.close)
        self.registry = await self._restored()
        self.tokens = await restored_tokens(self.store, settings, self._now)
        self.dns_names = DnsNames(await self.store.dns_mappings(), self.store.replace_dns_mappings)
        self.external = await restored_servers(self.store, settings, self._now)
        stack.callback(self.external.close)
        self.external.warm_up()
        self.coordinator = Coordinator(self.registry, self.store, self._steady)
        self.agents = AgentChannels(
            self.coordinator,
            self.tokens,
            requires_token=settings.authorization.enable_agent_authorization,
            now=self._steady,
            metrics=self.metrics,
        )
        self.coordinator.deliver = self.agents.deliver
        self.agent_app = self.agents.app
        self.client_app = await self._client_app()
        await stack.enter_async_context(self._running(self.coordinator.run()))
        stack.push_async_callback(self.coordinator.settle)
        await stack.enter_async_context(self._running(self._renew()))
        await self._open_administration(stack)
        client_front.app, agent_front.app = self.client_app, self.agent_app

        await self._open_metrics(stack)
        gateway_front.app = resolver_app(self.registry, self.dns_names, lambda: self.health().reason)

    async def _open_metrics(self, stack: contextlib.AsyncExitStack) -> None:
        running = self._settings.running
        if not running.metrics_port:
            return
        listening = open_socket(running.metrics_bind, running.metrics_port)
        stack.callback(listening.close)
        sources = Sources(
            self.registry.tally,
            lambda: len(self.agents),
            lambda: self.coordinator.database_errors,
            self.tls.days_left,
        )
        app = self.metrics.app(sources, self._now)
        await self._serve(Listener.for_plain(app, running.shutdown_grace_s), listening)

    async def _open_administration(self, stack: contextlib.AsyncExitStack) -> None:
        path = socket_path(self._settings.files.working_path)
        name = stack.enter_context(short_path(path))
        stack.callback(path.unlink, missing_ok=True)
        routes = [
            *trust_routes(self.tokens, self.external, self.dns_names, self.agents.close_client),
            *service_routes(self.status, self.reload, self.tls),
        ]
        front = LocalFront()
        front.app = admin_app(self.tokens, routes)
        await self._serve(Listener.for_local(front, name, self._settings.running.shutdown_grace_s))
        path.chmod(0o600)

    # -------------------------------------------------------------- parts

    async def _restored(self) -> Registry:
        return await restored_registry(self.store, self._rules, self._steady)

    async def _client_app(self) -> HttpApi:
        client = self._settings.client
        self.operations = Operations(
            self.coordinator,
            self.tokens,
            await restored_page_tokens(self.store, self._now),
            self.agents,
            screenshot_rules_of(self._settings),
        )
        self.throttle = Throttle(client.max_requests_per_second, asyncio.get_running_loop().time)
        if client.live_changes:
            self._live = LiveStream(self.registry)
            self.coordinator.changed = self._live.note_change
        return HttpApi(
            self.operations,
            self.tokens,
            self.external,
            self.throttle,
            self.health,
            api_rules_of(self._settings),
            self._live,
        )

    def health(self) -> Health:
        """Whether the broker serves."""
        if self._is_stopping:
            return Health("the broker is stopping", is_stopping=True)
        if self.coordinator.is_store_down:
            return Health("the database cannot be written")
        return _HEALTHY

    def status(self) -> dict[str, Any]:
        """How the broker is, for administrators."""
        counts = self.registry.counts()
        return {
            "version": version("dcvtui"),
            "startedAt": self._started_at.isoformat(timespec="seconds"),
            "health": self.health().reason or "up",
            "database": "cannot be written" if self.coordinator.is_store_down else "up",
            "listeners": {
                "client": self.client_url,
                "agent": self.agent_url,
                **({"gateway": self.gateway_url} if self.gateway_url else {}),
            },
            "agents": len(self.agents),
            "servers": counts.pop("servers"),
            "serversAvailable": counts.pop("servers_available"),
            "sessions": {key.removeprefix("sessions_"): n for key, n in counts.items() if "sessions_" in key},
            "queue": counts["queued"],
            "openCommands": counts["open_commands"],
            "certificateDaysLeft": {name: int(days) for name, days in self.tls.days_left().items()},
            "needsRestart": list(self._needs_restart),
        }

    @property
    def requests_under_way(self) -> int:
        """How many requests wait for their answer, open channels of agents included."""
        return sum(len(listener.server_state.tasks) for listener, _ in self._listeners)

    def _prepared_tls(self) -> ListenerTls:
        try:
            return ListenerTls(self._settings, self._now)
        except KeyStoreError as error:
            raise SettingsError([str(error)]) from None
        except OSError as error:
            reason = f"{error.strerror} ({error.filename})"
            raise ListenError(f"The server certificate cannot be made or read: {reason}.") from None

    async def _renew(self) -> None:
        """Look now and then whether a certificate is old or changed; new connections get the new one."""
        while True:
            self.tls.warn_of_ends()
            for _ in range(_LOOKS_PER_WARNING):
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

    async def _stop_listeners(self, grace_s: int) -> None:
        for listener, _ in self._listeners:
            listener.request_stop(grace_s)
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
