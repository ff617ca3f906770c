"""The clients of the X sessions of one host: who may come in, how many are there, when one left.

The X backend keeps the sessions; the entrance carries the bytes. What is true about
connections comes from the system's socket table, so that a client which the owner
connected by hand counts like one that came through the entrance.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus

from broker_stub.agent import rfb_socket
from broker_stub.agent.session_permissions import DISPLAY, rights_of
from broker_stub.agent.visits import EntryRefused, Visit
from broker_stub.agent.x_state import SessionFolder, XSession

_DEPARTURE_S = 2.0
_POLL_S = 0.02
_NO_DISPLAY = "The session's permissions do not let this user see its display"


class XClients:
    """Lets clients in to the sessions of an X backend, and counts them.

    Args:
        session: The living session of an id, `None` if there is none.
        folder: Where a session keeps its files.
        noted: Told how many clients a session has, whenever that was looked up.
    """

    def __init__(
        self,
        session: Callable[[str], XSession | None],
        folder: Callable[[str], SessionFolder],
        noted: Callable[[XSession, int], None],
    ) -> None:
        self._session = session
        self._folder = folder
        self._noted = noted
        self._visits: dict[str, set[Visit]] = defaultdict(set)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._departures: dict[str, asyncio.Task[None]] = {}

    # ------------------------------------------------------------------ counting

    def note_all(self, sessions: Iterable[XSession]) -> None:
        """Count the clients of these sessions anew."""
        # Not in a thread: a count that is older than the next arrival would look like a departure.
        counts = rfb_socket.connected()
        for session in sessions:
            if session.server.takes_clients:
                self._noted(session, counts.get(str(self._folder(session.id).rfb_socket), 0))

    def count(self, session: XSession) -> int:
        """Clients of one session now; a look at the system's table takes a millisecond or two."""
        if not session.server.takes_clients:
            return 0
        return rfb_socket.connected().get(str(self._folder(session.id).rfb_socket), 0)

    # ------------------------------------------------------------------ coming

    async def admit(self, session_id: str, user: str) -> Visit:
        """See `Reception.admit`."""
        self._takes_clients(session_id)
        # One at a time for each session: whoever was let in is in the socket table before the next look.
        async with self._turns[session_id]:
            session = self._takes_clients(session_id)
            rights = await self._rights(session, user)
            if DISPLAY not in rights:
                raise EntryRefused(HTTPStatus.FORBIDDEN, _NO_DISPLAY)
            await self._check_room(session)
            visit = await self._connect(session, user, rights)
            self._visits[session_id].add(visit)
            self._noted(session, self.count(session))
            return visit

    def _takes_clients(self, session_id: str) -> XSession:
        session = self._session(session_id)
        if session is None:
            raise EntryRefused(HTTPStatus.NOT_FOUND, "The session is not on this host")
        if not session.server.takes_clients:
            raise EntryRefused(
                HTTPStatus.NOT_IMPLEMENTED, "The session runs on an X server that takes no clients"
            )
        return session

    async def _check_room(self, session: XSession) -> None:
        limit = session.max_concurrent_clients
        if limit is None or self.count(session) < limit:
            return
        # Somebody may have left so recently that the X server has not looked yet.
        if departure := self._departures.get(session.id):
            await asyncio.shield(departure)
        if self.count(session) >= limit:
            raise EntryRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, f"The session has as many clients as it may have: {limit}"
            )

    async def _connect(self, session: XSession, user: str, rights: frozenset[str]) -> Visit:
        path = self._folder(session.id).rfb_socket
        try:
            reader, writer = await rfb_socket.connect(path, session.x_server)
        except OSError:
            raise EntryRefused(
                HTTPStatus.BAD_GATEWAY, "The session's X server does not take connections"
            ) from None
        return Visit(session_id=session.id, user=user, rights=rights, reader=reader, writer=writer)

    async def _rights(self, session: XSession, user: str) -> frozenset[str]:
        def look() -> frozenset[str]:
            return rights_of(self._folder(session.id).read_permissions(), session.owner, user)

        return await asyncio.to_thread(look)

    # ------------------------------------------------------------------ staying

    async def apply_permissions(self, session: XSession) -> None:
        """The session's permissions have changed: those who may no longer see it must go."""
        # In turn with arrivals: nobody gets in with the rights of the text before.
        async with self._turns[session.id]:
            for visit in tuple(self._visits[session.id]):
                visit.rights = await self._rights(session, visit.user)
                if DISPLAY not in visit.rights:
                    visit.end(_NO_DISPLAY)

    # ------------------------------------------------------------------ going

    async def leave(self, visit: Visit) -> None:
        """See `Reception.leave`."""
        session = self._session(visit.session_id)
        present = self._visits[visit.session_id] if session else set()
        departure = self._departures.get(visit.session_id)
        if session and departure is None:
            # Clients that did not come through the entrance; they stay.
            others = max(0, self.count(session) - len(present))
            departure = asyncio.create_task(self._see_off(session.id, others))
            self._departures[session.id] = departure
        present.discard(visit)
        visit.writer.close()
        with suppress(OSError):
            await visit.writer.wait_closed()
        if departure:
            await asyncio.shield(departure)

    async def _see_off(self, session_id: str, others: int) -> None:
        """Wait until the X server has noticed who left, and say how many are still there."""
        end = time.monotonic() + _DEPARTURE_S
        try:
            while (session := self._session(session_id)) is not None:
                count = self.count(session)
                if count <= len(self._visits[session_id]) + others or time.monotonic() > end:
                    self._noted(session, count)
                    return
                await asyncio.sleep(_POLL_S)
        finally:
            self._departures.pop(session_id, None)

    def forget(self, session_id: str) -> None:
        """A session has ended; its clients lose the connection by themselves."""
        self._visits.pop(session_id, None)
        self._turns.pop(session_id, None)
