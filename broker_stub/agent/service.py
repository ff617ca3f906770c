"""The agent: keeps a channel to the broker and has it served.

Any number of agents run in one process and one event loop; each is three tasks
and its last report. Everything it needs comes in from outside, so that a
simulated server differs from a real one only in what it is made of. What is said
on an open channel is in `conversation`, what commands do in `execution`.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from broker_stub import channel
from broker_stub.agent.access import BrokerAccess, RegistrationRefused, retry_after_s, unreachable
from broker_stub.agent.backend import Backend, Endpoint
from broker_stub.agent.conversation import Conversation, CopiedHost, Goodbye, Pace
from broker_stub.agent.execution import Execution, Result
from broker_stub.agent.identity import Identity, IdentitySource
from broker_stub.agent.journal import Journal
from broker_stub.agent.watch import AGENT_VERSION, HostFacts, Limits, Tags, Watch
from broker_stub.channel import ChannelError, CloseCode, Code, NotAuthorized, Refused, TimedOut, Unreachable

logger = logging.getLogger(__name__)

_NO_REGISTRATION_WAIT_S = 300.0
_NO_REGISTRATION_SAID_EVERY_S = 3600.0
_NO_VERSION_WAIT_S = 300.0
_SECOND_PROCESS_WAIT_S = 30.0
_FAULT_WAIT_S = 30.0
_CLOSE_WITHIN_S = 5.0


class Agent:
    """One server's agent.

    Args:
        identity: Who the server is.
        access: How to get to the broker; may be shared.
        backend: Runs the sessions.
        facts: Facts and metrics of the host.
        tags: The administrator's tags.
        limits: How many sessions the host takes.
        endpoints: Where clients reach the sessions, if not where the backend says.
        journal: What was promised; in memory for simulated servers.
        pace: How often it speaks.
        chance: Random numbers from 0 up to 1, for jitter.
        now: The clock.
    """

    def __init__(
        self,
        identity: IdentitySource,
        access: BrokerAccess,
        backend: Backend,
        facts: HostFacts,
        *,
        tags: Tags = dict,
        limits: Limits | None = None,
        endpoints: Sequence[Endpoint] | None = None,
        journal: Journal | None = None,
        pace: Pace | None = None,
        chance: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._identity = identity
        self._access = access
        self._backend = backend
        self._watch = Watch(backend, facts, tags, limits or Limits(), endpoints)
        # An empty journal is a journal, and false.
        kept = Journal() if journal is None else journal
        self._execution = Execution(backend, self._watch, kept, now)
        self._execution.deliver = self._send_result
        self._pace = pace or Pace()
        self._chance = chance
        self._now = now
        self._instance_id = str(uuid.uuid4())
        self._conversation: Conversation | None = None
        self._stop = asyncio.Event()
        self._revoked_said_at: float | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a channel is open and the broker has accepted the hello."""
        return self._conversation is not None

    # -------------------------------------------------------------- life

    async def run(self, start_after_s: float = 0.0) -> None:
        """Keep the channel until `stop` is called or the task is cancelled.

        Args:
            start_after_s: Seconds to wait first, so that a fleet does not start in one moment.
        """
        keeper = asyncio.create_task(self._keep_channel(start_after_s))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({keeper, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            if self._conversation is not None:
                await self._conversation.say_goodbye()
            for task in (keeper, stopped):
                task.cancel()
            await asyncio.gather(keeper, stopped, return_exceptions=True)
            await self._execution.stop()

    def stop(self) -> None:
        """End in good order: the broker is told, sessions live on."""
        self._stop.set()

    def adjust(self, limits: Limits, update_interval_s: int) -> None:
        """Take over settings that may change while a channel is open."""
        self._watch.limits = limits
        self._pace.update_interval_s = update_interval_s

    async def _keep_channel(self, start_after_s: float) -> None:
        await asyncio.sleep(start_after_s)
        await self._execution.recover()
        attempt = 0
        while not self._stop.is_set():
            opened_at = time.monotonic()
            wait_s = await self._one_attempt(attempt)
            stood_long = time.monotonic() - opened_at >= channel.STABLE_AFTER_S
            attempt = 0 if stood_long else attempt + 1
            await asyncio.sleep(wait_s)

    async def _one_attempt(self, attempt: int) -> float:
        """Open a channel and serve it to its end; the seconds to wait before the next one."""
        try:
            await self._one_channel()
        except ChannelError as error:
            wait_s = self._wait_after(error, attempt)
            self._note_failure(error, wait_s)
            return wait_s
        except Exception:
            # Channel boundary: an agent that dies of one surprise leaves its host alone for ever.
            logger.exception("The channel failed in a way that nobody foresaw.")
        return _FAULT_WAIT_S

    def _wait_after(self, failure: ChannelError, attempt: int) -> float:
        """How long to leave the broker alone after a channel ended that way (5.5 rule 7)."""
        jitter_s = channel.reconnect_wait(attempt, self._chance())
        if isinstance(failure, Goodbye):
            return self._chance() * failure.reconnect_after_s
        if isinstance(failure, NotAuthorized):
            is_hopeless = isinstance(failure, RegistrationRefused)
            return _NO_REGISTRATION_WAIT_S if is_hopeless else channel.REAUTHORIZE_WAIT_S
        if isinstance(failure, Refused):
            if failure.retry_after_s is not None:
                return failure.retry_after_s + jitter_s  # what all are told at once, all would do at once
            if failure.code == Code.UNSUPPORTED_PROTOCOL:
                return _NO_VERSION_WAIT_S
            if failure.code == Code.DUPLICATE_SERVER:
                return _SECOND_PROCESS_WAIT_S
        return jitter_s

    def _note_failure(self, failure: ChannelError, wait_s: float) -> None:
        if self._stop.is_set():
            return
        if isinstance(failure, RegistrationRefused):
            said_at, now = self._revoked_said_at, time.monotonic()
            if said_at is not None and now - said_at < _NO_REGISTRATION_SAID_EVERY_S:
                return
            self._revoked_said_at = now
        logger.warning("%s Next attempt in %.1f s.", failure, wait_s)

    async def _send_result(self, result: Result) -> None:
        if self._conversation is not None:
            await self._conversation.send_result(result)

    # -------------------------------------------------------------- one channel

    async def _one_channel(self) -> None:
        """Open a channel, say hello, and serve it until it ends; always raises why it did."""
        token = await self._access.token()
        await self._watch.look()
        identity = await self._identity.current()
        server = await self._watch.measure(identity.address)
        try:
            async with self._connection(token) as socket:
                self._access.note_accepted()
                await self._converse(socket, identity, server)
        except CopiedHost:
            renewed = self._identity.renew()
            logger.warning("This host is a copy of another one; its id is now %s.", renewed.server_id)
            raise
        except InvalidStatus as error:
            raise self._refused_upgrade(error, token) from None
        except ConnectionClosed as error:
            raise self._closed(error) from None
        except TimeoutError:
            raise TimedOut("The broker did not answer in time; it may have very much to do.") from None
        except (OSError, InvalidHandshake) as error:
            raise unreachable(self._access.address.https_url, error) from None

    async def _converse(self, socket: ClientConnection, identity: Identity, server: dict[str, Any]) -> None:
        conversation = Conversation(
            socket,
            identity,
            self._watch,
            self._backend,
            self._execution,
            instance_id=self._instance_id,
            pace=self._pace,
            chance=self._chance,
            now=self._now,
        )
        await conversation.greet(server)
        self._conversation = conversation
        try:
            await conversation.serve()
        finally:
            self._conversation = None

    def _connection(self, token: str) -> connect:
        return connect(
            self._access.address.channel_url,
            ssl=self._access.tls(),
            subprotocols=[Subprotocol(channel.SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {token}"},
            user_agent_header=f"dcv-session-manager-agent/{AGENT_VERSION}",
            compression=None,
            proxy=None,  # the way to the broker is in agent.conf, not in the environment
            open_timeout=channel.CONNECT_WITHIN_S + channel.UPGRADE_WITHIN_S,
            close_timeout=_CLOSE_WITHIN_S,
            ping_interval=self._pace.ping_interval_s,
            ping_timeout=channel.DEAD_AFTER_S - channel.PING_INTERVAL_S,
            max_size=channel.MAX_MESSAGE_BYTES,
        )

    def _refused_upgrade(self, error: InvalidStatus, token: str) -> ChannelError:
        status = error.response.status_code
        if status in (401, 403):
            text = f"The broker refused the agent's token: HTTP {status}."
            return NotAuthorized(text) if self._access.note_refused(token) else Refused(text, str(status))
        wait_s = retry_after_s(error.response.headers.get("Retry-After"))
        return Refused(f"The broker refused the channel: HTTP {status}.", str(status), wait_s)

    def _closed(self, closed: ConnectionClosed) -> ChannelError:
        """What the end of a channel means."""
        code = closed.rcvd.code if closed.rcvd else None
        reason = closed.rcvd.reason if closed.rcvd else ""
        if code == CloseCode.FORBIDDEN:
            self._access.note_revoked()
            return NotAuthorized(f"The broker no longer accepts this agent: {reason}.")
        if code == CloseCode.NO_COMMON_VERSION:
            return Refused(f"The broker speaks no common version: {reason}.", Code.UNSUPPORTED_PROTOCOL)
        if code == CloseCode.DUPLICATE_SERVER:
            return Refused(f"Another agent speaks for this server: {reason}.", Code.DUPLICATE_SERVER)
        said = f"{code} {reason}".rstrip() if code else "no close frame came"
        return Unreachable(f"The channel to the broker ended: {said}.")


async def run_agents(agents: Sequence[Agent], spread_s: float = 0.0) -> None:
    """Run many agents in one event loop until cancelled or all stopped.

    Args:
        agents: The agents.
        spread_s: Over how many seconds their starts are spread.
    """
    async with asyncio.TaskGroup() as tasks:
        for index, agent in enumerate(agents):
            tasks.create_task(agent.run(spread_s * index / len(agents)))
