"""The nine operations of the API behind HTTP: read requests in, the bytes of an answer out.

Requests are structurally sound here (`http_api` refuses the others); what is
wrong by meaning fails its item only. Pages are joined from JSON that exists
already; no entity is turned into an object on the way.
"""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

from broker_stub.broker import audit
from broker_stub.broker.coordinator import Coordinator
from broker_stub.broker.events import (
    Accepted,
    Ambiguous,
    Page,
    PermissionsUpdateRequested,
    Refused,
    ServerClosingRequested,
    ServerOpeningRequested,
    SessionDeletionRequested,
    SessionRequested,
)
from broker_stub.broker.oauth import Tokens
from broker_stub.broker.page_tokens import PageTokens
from broker_stub.channel import AgentUnreachable, ChannelError, TimedOut
from broker_stub.channel_commands import CommandResult
from dcvtui.api.models import (
    CloseServerRequestData,
    CreateSessionRequestData,
    DeleteSessionRequestData,
    DescribeServersRequestData,
    DescribeSessionsRequestData,
    GetSessionScreenshotRequestData,
    OpenServerRequestData,
    RequestError,
    UpdateSessionPermissionsRequestData,
    WireModel,
)
from dcvtui.api.states import SessionState

PERMISSIONS_ANSWER_S = 5.0
SCREENSHOTS_PER_AGENT = 2
_LARGEST_SIDE = 65_535
"""No display is larger. Values above a session's resolution are legal, whatever their size."""
_PAGE = 1000
_AT_A_TIME_S = 0.004  # after so long other requests get their turn


class AsksAgents(Protocol):
    """The part of the agent listener that answers questions."""

    async def ask(
        self, server_id: str, kind: str, payload: dict[str, Any], timeout_s: float
    ) -> CommandResult:
        """Send a command that changes nothing and wait for its result."""
        ...


@dataclass(frozen=True, slots=True)
class ScreenshotRules:
    """What a screenshot request gets when it does not say, and how long it may take."""

    max_width: int = 160
    max_height: int = 100
    format: str = "png"
    limit_s: float = 10.0


class Operations:
    """What the API does.

    Args:
        coordinator: Through which everything changes.
        tokens: Makes connection tokens.
        pages: Makes and reads `NextToken`.
        agents: Asked for screenshots.
        screenshots: Defaults and limits for them.

    Attributes:
        screenshots: May be changed.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        tokens: Tokens,
        pages: PageTokens,
        agents: AsksAgents,
        screenshots: ScreenshotRules,
    ) -> None:
        self._coordinator = coordinator
        self._registry = coordinator.registry
        self._tokens = tokens
        self._pages = pages
        self._agents = agents
        self.screenshots = screenshots
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    # -------------------------------------------------------------- describe

    async def describe_sessions(self, request: DescribeSessionsRequestData) -> bytes:
        """One page of sessions."""
        page = self._registry.describe_sessions(
            request.session_ids or None,
            [(item.key or "", item.value or "") for item in request.filters or ()],
            _page_size(request.max_results),
            self._after("describeSessions", request.next_token),
        )
        return self._page("describeSessions", b"Sessions", page)

    async def describe_servers(self, request: DescribeServersRequestData) -> bytes:
        """One page of servers."""
        page = self._registry.describe_servers(
            request.server_ids or None,
            _page_size(request.max_results),
            self._after("describeServers", request.next_token),
        )
        return self._page("describeServers", b"Servers", page)

    def _after(self, operation: str, token: str | None) -> tuple[str, ...] | None:
        if not token:
            return None
        key = self._pages.read(operation, token)
        if key is None:
            raise RequestError("Invalid NextToken")
        return key

    def _page(self, operation: str, name: bytes, page: Page) -> bytes:
        head = b'{"RequestId":"%s","%s":[' % (audit.request_id().encode(), name)
        tail = b"]}"
        if page.next_key is not None:
            tail = b'],"NextToken":"%s"}' % self._pages.issue(operation, page.next_key).encode()
        if not page.parts:
            return head + tail
        # Head and tail go into the one join: adding them afterwards copies a megabyte twice more.
        parts = list(page.parts)
        parts[0] = head + parts[0]
        parts[-1] += tail
        return b",".join(parts)

    # -------------------------------------------------------------- sessions

    async def create_sessions(self, requests: Sequence[CreateSessionRequestData]) -> bytes:
        """Accept sessions; the hosts are not waited for."""
        results = await self._apply_all(SessionRequested(request) for request in requests)
        answer = _Answer()
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Refused):
                answer.failed.append(
                    {"CreateSessionRequestData": _echo(request), "FailureReason": result.reason}
                )
            else:
                answer.done.append(result.session)
        return answer.encoded()

    async def delete_sessions(self, requests: Sequence[DeleteSessionRequestData]) -> bytes:
        """Order the end of sessions."""
        results = await self._apply_all(
            SessionDeletionRequested(request.session_id, request.owner, bool(request.force))
            for request in requests
        )
        answer = _Answer()
        for request, result in zip(requests, results, strict=True):
            named = _present(SessionId=request.session_id)
            if isinstance(result, Refused):
                answer.failed.append({**named, "FailureReason": result.reason})
            else:
                answer.done.append({**named, "State": SessionState.DELETING})
        return answer.encoded()

    async def update_session_permissions(
        self, requests: Sequence[UpdateSessionPermissionsRequestData]
    ) -> bytes:
        """Send new permissions files to the hosts."""
        results = await self._apply_all(
            PermissionsUpdateRequested(request.session_id, request.owner, request.permissions_file)
            for request in requests
        )
        reasons = await asyncio.gather(*(self._permissions_failure(result) for result in results))
        answer = _Answer()
        for request, reason in zip(requests, reasons, strict=True):
            named = _present(SessionId=request.session_id)
            if reason is not None:
                answer.failed.append({**named, "FailureReason": reason})
            else:
                answer.done.append(named)
        return answer.encoded()

    async def _permissions_failure(self, result: Accepted | Refused) -> str | None:
        if isinstance(result, Refused):
            return result.reason
        if result.command_id is None:
            return None
        finished = await self._coordinator.result_of(result.command_id, PERMISSIONS_ANSWER_S)
        # No answer in time is a success: the host has the file, which is all the API promises.
        if finished is None or finished.success:
            return None
        return finished.message or finished.code

    async def session_connection_data(self, session_id: str, user: str) -> bytes:
        """A session with its server, and a token for one user.

        Raises:
            RequestError: the session is unknown, ambiguous or cannot be connected to.
        """
        try:
            session = self._registry.session(session_id)
        except Ambiguous:
            raise RequestError("The requested dcvSession is ambiguous") from None
        if session is None:
            raise RequestError("Dcv session not found.")
        if not self._registry.is_connectable(session):
            raise RequestError("The requested dcvSession is neither in READY nor in UNKNOWN state")
        token = self._tokens.issue_connection(session.id, user)
        return b'{"Session":%s,"ConnectionToken":"%s"}' % (
            self._registry.session_json(session),
            token.encode(),
        )

    # -------------------------------------------------------------- screenshots

    async def session_screenshots(self, requests: Sequence[GetSessionScreenshotRequestData]) -> bytes:
        """Pictures of sessions, taken side by side."""
        answers = await asyncio.gather(*(self._screenshot(request) for request in requests))
        answer = _Answer()
        for request, taken in zip(requests, answers, strict=True):
            if isinstance(taken, Refused):
                answer.failed.append(
                    {"GetSessionScreenshotRequestData": _echo(request), "FailureReason": taken.reason}
                )
            else:
                answer.done.append({"SessionScreenshot": taken})
        return answer.encoded()

    async def _screenshot(self, request: GetSessionScreenshotRequestData) -> dict[str, Any] | Refused:
        if not (request.session_id or "").strip():
            return Refused("SessionId is required")
        try:
            session = self._registry.session(request.session_id or "")
        except Ambiguous:
            return Refused("The requested dcvSession is ambiguous")
        if session is None:
            return Refused("Dcv session not found.")
        if session.state != SessionState.READY or session.server_id is None:
            return Refused("Dcv session is not in READY state.")
        payload = {
            "sessionId": session.id,
            "maxWidth": min(request.max_width or self.screenshots.max_width, _LARGEST_SIDE),
            "maxHeight": min(request.max_height or self.screenshots.max_height, _LARGEST_SIDE),
            "format": self.screenshots.format,
        }
        try:
            images = await self._picture(session.server_id, payload)
        except AgentUnreachable:
            return Refused("The agent of the dcv server is not reachable")
        except (TimedOut, TimeoutError):
            return Refused("Timed out while getting the screenshot.")
        except ChannelError as error:
            return Refused(f"The host could not take the screenshot: {error}")
        return {"SessionId": session.id, "Images": images}

    async def _picture(self, server_id: str, payload: dict[str, Any]) -> list[dict[str, Any]]:
        turn = self._turns.get(server_id)
        if turn is None:
            turn = self._turns[server_id] = asyncio.Semaphore(SCREENSHOTS_PER_AGENT)
        # The wait for a turn counts: the caller is promised an answer within the limit.
        limit_s = self.screenshots.limit_s
        async with asyncio.timeout(limit_s), turn:
            result = await self._agents.ask(server_id, "getSessionScreenshot", payload, limit_s)
        if not result.success:
            raise ChannelError(result.message or result.code)
        return _images(result.data)

    # -------------------------------------------------------------- servers

    async def open_servers(self, requests: Sequence[OpenServerRequestData]) -> bytes:
        """Let placement use servers again."""
        results = await self._apply_all(ServerOpeningRequested(request.server_id) for request in requests)
        return _servers_answer("OpenServerRequestData", requests, results)

    async def close_servers(self, requests: Sequence[CloseServerRequestData]) -> bytes:
        """Keep placement away from servers."""
        results = await self._apply_all(
            ServerClosingRequested(request.server_id, bool(request.force)) for request in requests
        )
        return _servers_answer("CloseServerRequestData", requests, results)

    async def _apply_all(self, events: Any) -> list[Any]:
        """Decide on all events in order, then wait until all is durable: one commit serves many."""
        pending: list[Awaitable[Any]] = []
        clock = asyncio.get_running_loop().time
        began = clock()
        for event in events:
            pending.append(self._coordinator.apply(event))
            # By the clock: an item may cost 20 microseconds, or a look at ten thousand servers.
            if clock() - began > _AT_A_TIME_S:
                await asyncio.sleep(0)
                began = clock()
        return [await each for each in pending]


class _Answer:
    """The two lists of an answer, in the order of the request."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.failed: list[Any] = []

    def encoded(self) -> bytes:
        audit.note_items([_named_id(each) for each in self.done], len(self.failed))
        answer = {
            "RequestId": audit.request_id(),
            "SuccessfulList": self.done,
            "UnsuccessfulList": self.failed,
        }
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _echo(request: WireModel) -> dict[str, Any]:
    """A refused request as it goes back: what was sent, each value of the type that the schema gives it.

    What was read out of another type, such as the text "true" for a boolean, goes back as what it was
    read as: a strictly generated client would throw on the whole answer for it.
    """
    return request.to_wire()


def _servers_answer(
    echo: str,
    requests: Sequence[OpenServerRequestData | CloseServerRequestData],
    results: Sequence[Accepted | Refused],
) -> bytes:
    answer = _Answer()
    for request, result in zip(requests, results, strict=True):
        if isinstance(result, Refused):
            answer.failed.append(
                {echo: _echo(request), **_present(FailureCode=result.code), "FailureReason": result.reason}
            )
        else:
            answer.done.append(_present(ServerId=request.server_id))
    return answer.encoded()


def _present(**fields: str | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _page_size(asked: int | None) -> int:
    if asked is None:
        return _PAGE
    if not 1 <= asked <= _PAGE:
        raise RequestError("MaxResults must be between 1 and 1000")
    return asked


def _images(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pictures an agent sent, in wire form, exactly one of them the primary one."""
    try:
        images = [
            {
                "Format": str(image["format"]),
                "Data": str(image["data"]),
                "CreationTime": str(image["creationTime"]),
                "Primary": bool(image.get("primary")),
            }
            for image in data["images"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise ChannelError("its answer was not understood") from None
    if not images:
        raise ChannelError("it sent no picture")
    primary = next((number for number, image in enumerate(images) if image["Primary"]), 0)
    for number, image in enumerate(images):
        image["Primary"] = number == primary
    return images


def _named_id(done: Mapping[str, Any]) -> str:
    """The session or server that an item was about."""
    return str(done.get("Id") or done.get("SessionId") or done.get("ServerId") or "")
