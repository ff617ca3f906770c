"""The X sessions of this host for an administrator on it, as `dcv` has commands for those of a DCV server.

Reads what the agent has written down and asks the displays; needs no agent that
runs, and takes nothing out of its hands: sessions are created and ended through the API.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from broker_stub.agent import rfb_socket
from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.layouts import Head, write_layout
from broker_stub.agent.owners import UserMode
from broker_stub.agent.screenshots import monitors_of
from broker_stub.agent.session_layout import change_layout, screen_of
from broker_stub.agent.x_state import SessionFolder, XSession, session_folders

_LIMIT_S = 5.0


class LocalSessions:
    """The living X sessions below the agent's state folder.

    Args:
        state_folder: Where the agent keeps its X sessions.
        user_mode: As whom sessions run.
    """

    def __init__(self, state_folder: Path, user_mode: UserMode) -> None:
        self._folders = state_folder.resolve() / "sessions"
        self._user_mode = user_mode

    def all(self) -> Iterator[XSession]:
        """Every session that lives, by id.

        Raises:
            PermissionError: they are another user's to see.
        """
        for folder in session_folders(self._folders):
            session = folder.read()
            if session is not None and session.is_alive:
                yield session

    def one(self, session_id: str) -> XSession:
        """The session of an id.

        Raises:
            BackendError: there is none.
        """
        for session in self.all():
            if session.id == session_id:
                return session
        raise BackendError(Failure.SESSION_NOT_FOUND, f"There is no session {session_id!r} on this host")

    def summary(self, session: XSession) -> dict[str, Any]:
        """What is known of a session without asking it, with the keys of `dcv list-sessions --json`."""
        folder = self._folder(session.id)
        return {
            "id": session.id,
            "owner": session.owner,
            "name": session.name,
            "type": session.type.value.lower(),
            "num-of-connections": rfb_socket.connected().get(str(folder.rfb_socket), 0),
            "creation-time": _time(session.creation_time),
            "last-disconnection-time": _time(session.last_disconnection_time),
            "storage-root": session.storage_root,
            "x11-server": session.server.value,
            "x11-display": f":{session.display}",
            "x11-authority": str(screen_of(session, folder).authority),
        }

    async def describe(self, session: XSession) -> dict[str, Any]:
        """The same with the layout of its display, as `dcv describe-session --json` has it.

        Raises:
            BackendError: the display does not answer.
        """
        monitors = await monitors_of(screen_of(session, self._folder(session.id)), _LIMIT_S)
        layout = [{"width": one.width, "height": one.height, "x": one.x, "y": one.y} for one in monitors]
        return self.summary(session) | {"display-layout": layout}

    async def set_layout(self, session: XSession, layout: str) -> str:
        """Give a session another size or other monitors; answers the layout it has then.

        Raises:
            BackendError: it cannot have that layout.
        """
        folder = self._folder(session.id)
        monitors = await change_layout(session, folder, layout, self._user_mode, _LIMIT_S)
        return write_layout(tuple(Head(one.width, one.height, one.x, one.y) for one in monitors))

    def _folder(self, session_id: str) -> SessionFolder:
        return SessionFolder(self._folders / session_id)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
