"""Permissions from the console: the editor, what is sent, what was sent before, and taking it back.

Sending is a callable of the opener's; nothing here knows the application.
"""

import base64
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeVar

from textual.screen import Screen

from dcvtui.api.permissions import DEFAULT_TEXT, rights_difference
from dcvtui.fleet import Key, SessionRecord
from dcvtui.operations import ItemResult, Outcome
from dcvtui.sent_permissions import SentPermissions
from dcvtui.tui.dialogs import ConfirmDialog, ResultDialog
from dcvtui.tui.panel import plural
from dcvtui.tui.permissions_editor import PermissionsEditor, difference_sentence, text_difference

ResultT = TypeVar("ResultT")

Update = Callable[[Sequence[dict[str, str]], Sequence[SessionRecord]], Awaitable[list[ItemResult]]]
"""Sends items of UpdateSessionPermissions for sessions; one result for each."""


class Ask(Protocol):
    """Opens a screen and waits for what it dismisses."""

    def __call__(self, screen: Screen[ResultT], /) -> Awaitable[ResultT | None]:
        """Wait for the operator."""


_PERHAPS_NOT: Final = "somebody else may have sent another since."
_NOT_CUT_OFF: Final = "Clients connected now are not cut off by the API"


@dataclass(slots=True)
class PermissionsFlow:
    """Edits and sends permissions of the sessions of one broker."""

    update: Update
    ask: Ask
    say: Callable[[str], None]
    now: Callable[[], datetime]
    sent: SentPermissions
    drafts: dict[frozenset[Key], str] = field(default_factory=dict)

    async def edit(self, sessions: Sequence[SessionRecord]) -> None:
        """Edit the permissions of sessions and send them; what was typed and not sent is a draft."""
        if not sessions:
            return
        keys = frozenset(session.key for session in sessions)
        known = [self.sent.last(session.id) for session in sessions]
        bases = Counter(sent.text if sent else None for sent in known)
        first = known[0] if len(bases) == 1 else None
        origin = (
            f"Sent by you {_clock(first.time, self.now())}; somebody else may have sent another since."
            if first
            else None
        )
        text = first.text if first else DEFAULT_TEXT
        draft = self.drafts.get(keys)

        async def submit(text: str) -> list[ItemResult]:
            return await self._send(sessions, text)

        editor = PermissionsEditor(
            sessions, text, origin, submit, bases=list(bases.items()), draft=None if draft == text else draft
        )
        outcome = await self.ask(editor)
        if outcome is None:
            return
        if not outcome.is_sent:
            self.drafts[keys] = outcome.text
            return
        self.drafts.pop(keys, None)
        await self._tell(sessions, outcome.results)

    async def undo(self, sessions: Sequence[SessionRecord]) -> None:
        """Send the texts before the last ones again, after the usual question."""
        groups: dict[str, list[SessionRecord]] = {}
        for session in sessions:
            if (before := self.sent.before(session.id)) is not None:
                groups.setdefault(before.text, []).append(session)
        if not groups:
            self.say("What was in force before is not known, so it cannot be sent again.")
        for text, some in groups.items():
            last = self.sent.last(some[0].id)
            now = last.text if last else text
            owner = some[0].owner if len({session.owner for session in some}) == 1 else None
            rights = [difference_sentence(one) for one in rights_difference(now, text, owner)]
            sentences = [
                "\n".join(rights or ["Nobody's rights change."]),
                "\n".join(text_difference(now, text)),
            ]
            names = [f"{session.name or session.id}   {session.owner}" for session in some]
            title = f"Send the permissions before these to {plural(len(some), 'session')} again?"
            if (
                await self.ask(ConfirmDialog(title, [*filter(None, sentences)], names, accept="send"))
                is not None
            ):
                await self._tell(some, await self._send(some, text))

    async def _tell(self, sessions: Sequence[SessionRecord], results: Sequence[ItemResult]) -> None:
        if any(result.outcome is not Outcome.DONE for result in results):
            await self.ask(ResultDialog("Permissions", results))
            return
        connected = sum(session.connections for session in sessions)
        note = (
            f" Clients connected now are not cut off by the API: {connected} connected." if connected else ""
        )
        self.say(f"permissions: {len(results):,} sent.{note}")

    async def _send(self, sessions: Sequence[SessionRecord], text: str) -> list[ItemResult]:
        encoded = base64.b64encode(text.encode()).decode()
        items = [
            {"SessionId": session.id, "Owner": session.owner, "PermissionsFile": encoded}
            for session in sessions
        ]
        results = await self.update(items, sessions)
        pairs = zip(sessions, results, strict=True)
        done = [session.id for session, result in pairs if result.outcome is Outcome.DONE]
        if done:
            self.sent.note(done, text, self.now())
        return results


def _clock(time: datetime, now: datetime) -> str:
    """A time of today as a time, any other with its day."""
    local = time.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%Y-%m-%d %H:%M}"
