"""What a key that acts does: ask, send, say what came of it.

Each flow takes records, opens dialogs and forms through a callable, sends
through `dcvtui.operations`, and reports every item once. Nothing here knows the
application. Imported after the first paint: forms and dialogs are not needed
before.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dcvtui import operations
from dcvtui.config import Connection
from dcvtui.connect import Route
from dcvtui.errors import NotUnderstood, ProgramError
from dcvtui.fleet import Key, ServerRecord, SessionRecord, Snapshot, session_wire
from dcvtui.operations import Batch, ItemResult, Outcome
from dcvtui.saved import Saved
from dcvtui.sent_permissions import SentPermissions
from dcvtui.shots import NOTHING, Shot, read_shots
from dcvtui.terminal import Drawing, Terminal
from dcvtui.tui.connect_dialog import ConnectDialog, OpenViewer
from dcvtui.tui.deletion import Deletion
from dcvtui.tui.dialogs import FORCE_CLOSE, FORCE_DELETE, ConfirmDialog, ResultDialog
from dcvtui.tui.forms import CreateSessionForm, SessionDraft
from dcvtui.tui.panel import plural
from dcvtui.tui.permissions_flow import Ask, PermissionsFlow
from dcvtui.tui.screenshot_screen import ScreenshotScreen
from dcvtui.tui.session_draft import from_form, to_form

if TYPE_CHECKING:
    from dcvtui.client import BrokerClient

ResultT = TypeVar("ResultT")


class Named(Protocol):
    """A session or a server."""

    @property
    def key(self) -> Key:
        """What identifies it."""

    @property
    def name(self) -> str:
        """What people call it."""


@dataclass(slots=True)
class Surroundings:
    """What flows need of the console around them.

    Attributes:
        connection: the broker.
        terminal: what the terminal can do.
        drawing: how pictures are drawn on it.
        ask: opens a dialog and waits for it.
        say: one line for the operator, good news and progress.
        snapshot: the fleet as it is now.
        stale_time: the time of the data while they are stale, else "".
        copy: puts a text on the clipboard.
        finished: told of every result, with the verb and the keys of the items.
        now: the time.
        open_viewer: starts the native viewer, where there is one.
        saved: forms saved by name, and what the form held last.
        where: which broker it is, such as " on west", where there are several.
    """

    connection: Connection
    terminal: Terminal
    drawing: Drawing
    ask: Ask
    say: Callable[[str], None]
    snapshot: Callable[[], Snapshot]
    stale_time: Callable[[], str]
    copy: Callable[[str], Awaitable[str]]
    finished: Callable[[str, Sequence[tuple[Key, ItemResult]]], None]
    now: Callable[[], datetime]
    open_viewer: OpenViewer | None = None
    saved: Saved = field(default_factory=Saved)
    where: Callable[[], str] = lambda: ""


@dataclass(slots=True)
class Flows:
    """The actions of one broker, and what they remember: drafts and permissions sent."""

    client: "BrokerClient"
    around: Surroundings
    draft: SessionDraft = field(default_factory=SessionDraft)
    sent: SentPermissions = field(default_factory=SentPermissions)
    batch: Batch | None = None
    _permissions: PermissionsFlow = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what was asked for last, and give the permissions what they need of all this."""
        if form := self.around.saved.default(self.around.connection.name):
            self.draft = from_form(form)

        def update(items: Sequence[dict[str, str]], sessions: Sequence[SessionRecord]) -> Any:
            return self._run("permissions", operations.update_permissions(self.client, items), sessions)

        self._permissions = PermissionsFlow(
            update, self.around.ask, self.around.say, self.around.now, self.sent
        )

    def cancel(self) -> bool:
        """Stop after the request that is under way; False if nothing is."""
        if self.batch is None:
            return False
        self.batch.cancel()
        self.around.say("stopping after the request that is under way")
        return True

    async def _run(self, verb: str, batch: Batch, records: Sequence[Named]) -> list[ItemResult]:
        """Send a batch, say how far it is, and report its results under the names of the records."""

        def progress(finished: int, count: int, _new: Sequence[ItemResult]) -> None:
            self.around.say(f"{verb}: {finished:,} of {count:,}, esc stops")

        def named() -> list[ItemResult]:
            pairs = zip(records, batch.results, strict=True)
            return [replace(result, name=record.name or result.id) for record, result in pairs]

        is_long = len(records) > operations.ITEMS_PER_CALL
        self.batch = batch
        if is_long:
            progress(0, len(records), [])
        try:
            await batch.run(progress if is_long else None)
        finally:
            self.batch = None
            # A cancelled worker leaves results that are true at every moment.
            self.around.finished(verb, list(zip([record.key for record in records], named(), strict=True)))
        return named()

    async def _tell(
        self, title: str, results: Sequence[ItemResult], left: Mapping[str, Sequence[str]] | None = None
    ) -> bool:
        """Say what came of it; True if the failed ones are to be tried again."""
        if all(result.outcome is Outcome.DONE for result in results) and not any((left or {}).values()):
            self.around.say(f"{title}: {len(results):,} done")
            return False
        retry = await self.around.ask(ResultDialog(title, results, self.around.copy, left))
        return retry is True

    # ------------------------------------------------------------------ sessions

    async def delete(self, sessions: Sequence[SessionRecord]) -> None:
        """Delete sessions, after a question; what is in use or needs force only if it is taken in."""
        meanwhile: list[str] = []
        while sessions:
            parts = Deletion.of(sessions)
            confirmation = await self.around.ask(
                ConfirmDialog(
                    f"Delete {plural(len(sessions), 'session')}{self.around.where()}?",
                    [*meanwhile, *parts.sentences],
                    [_session_line(session) for session in parts.free],
                    FORCE_DELETE,
                    [_session_line(session) for session in parts.used],
                    need_force=[_session_line(session) for session in parts.lost],
                    accept="delete",
                )
            )
            if confirmation is None:
                return
            chosen = parts.chosen(confirmation.force, confirmation.include_connected)
            sessions, meanwhile = parts.now(self.around.snapshot().sessions, chosen)
            if meanwhile:
                continue
            force = {"Force": True} if confirmation.force else {}
            items = [{"SessionId": session.id, "Owner": session.owner, **force} for session in chosen]
            results = await self._run("delete", operations.delete_sessions(self.client, items), chosen)
            left = parts.left(confirmation.force, confirmation.include_connected)
            if not await self._tell("Delete", results, left):
                return
            sessions, meanwhile = _failed(chosen, results), []

    async def create(self, on_server: ServerRecord | None = None) -> None:
        """Ask for new sessions with the form; a refused request stays in it."""
        snapshot = self.around.snapshot()
        draft = self.draft
        if on_server is not None:
            name = on_server.id.replace("'", "''")
            draft = replace(draft, requirements=f"server:Id = '{name}'")
        owners = {session.owner for session in snapshot.sessions.values()}
        form = CreateSessionForm(
            draft,
            list(snapshot.servers.values()),
            sorted(owners),
            self._submit_new,
            as_of=self.around.stale_time(),
            where=self.around.where(),
            saved=self.around.saved,
        )
        form.profile = self.around.connection.name
        outcome = await self.around.ask(form)
        if outcome is None:
            return
        # The server named by the key is no default for the next form.
        kept = (
            outcome.draft
            if on_server is None
            else replace(outcome.draft, requirements=self.draft.requirements)
        )
        self.draft = kept
        if outcome.is_finished:
            remembered = to_form(replace(kept, name="", count="1"), with_permissions=False)
            self.around.saved.set_default(self.around.connection.name, remembered)
            self.around.say(f"{plural(len(outcome.results), 'session')} accepted")

    async def _submit_new(self, items: list[dict[str, Any]]) -> list[ItemResult]:
        batch = operations.create_sessions(self.client, items)
        await batch.run()
        keys = [(self.around.connection.name, result.id) for result in batch.results]
        self.around.finished("create", list(zip(keys, batch.results, strict=True)))
        return batch.results

    async def permissions(self, sessions: Sequence[SessionRecord]) -> None:
        """Edit the permissions of sessions and send them."""
        await self._permissions.edit(sessions)

    async def undo_permissions(self, sessions: Sequence[SessionRecord]) -> None:
        """Send what was in force before, where that is known."""
        await self._permissions.undo(sessions)

    async def screenshot(self, session: SessionRecord) -> None:
        """Show the screen of a session."""

        async def take(width: int, height: int) -> Sequence[Shot]:
            item = {"SessionId": session.id, "MaxWidth": width, "MaxHeight": height}
            answer = await self.client.screenshots([item])
            shots = read_shots(answer.model).get(session.id, NOTHING)
            if isinstance(shots, str):
                raise ProgramError(shots)
            return shots

        await self.around.ask(ScreenshotScreen(session, take, drawing=self.around.drawing))

    async def connect(self, session: SessionRecord) -> None:
        """Show how the session is reached."""

        async def renew(user: str) -> tuple[Mapping[str, Any], str]:
            answer = await self.client.connection_data(session.id, user)
            token = answer.model.connection_token
            if not token or not answer.model.session:
                raise NotUnderstood("The broker's answer holds no connection token.")
            return answer.model.session.to_wire(), token

        connection = self.around.connection
        wire = session_wire(session, self.around.snapshot().server_of(session))
        gateway = Route.read(connection.gateway) if connection.gateway else None
        await self.around.ask(
            ConnectDialog(
                wire,
                None,
                session.owner,
                renew,
                self.around.copy,
                gateway=gateway,
                address_tag=connection.address_tag,
                folder=Path.home(),
                scp_host=_this_host() if self.around.terminal.is_ssh else None,
                open_viewer=self.around.open_viewer,
                permissions=sent.text if (sent := self.sent.last(session.id)) else None,
            )
        )

    # ------------------------------------------------------------------ servers

    async def open(self, servers: Sequence[ServerRecord]) -> None:
        """Let new sessions onto servers again."""
        title = f"Open {plural(len(servers), 'server')}{self.around.where()}?"
        sentences = ["New sessions may be placed on them again."]
        while servers:
            lines = [_server_line(server) for server in servers]
            if await self.around.ask(ConfirmDialog(title, sentences, lines, accept="open")) is None:
                return
            items = [{"ServerId": server.id} for server in servers]
            servers = await self._change_servers("open", operations.open_servers(self.client, items), servers)

    async def close(self, servers: Sequence[ServerRecord]) -> None:
        """Keep new sessions off servers."""
        while servers:
            confirmation = await self.around.ask(
                ConfirmDialog(
                    f"Close {plural(len(servers), 'server')}{self.around.where()}?",
                    ["No new session is placed on them until they are opened again."],
                    [_server_line(server) for server in servers],
                    FORCE_CLOSE,
                    accept="close",
                )
            )
            if confirmation is None:
                return
            force = {"Force": True} if confirmation.force else {}
            items = [{"ServerId": server.id, **force} for server in servers]
            servers = await self._change_servers(
                "close", operations.close_servers(self.client, items), servers
            )

    async def drain(self, servers: Sequence[ServerRecord]) -> list[Key]:
        """Close servers although sessions run; the keys of those that are draining now."""
        sessions = sum(server.sessions for server in servers)
        title = f"Drain {plural(len(servers), 'server')}{self.around.where()}?"
        sentences = [
            f"{plural(sessions, 'session')} on them. Closes them to new sessions (force), ends none; "
            "they stay closed when you leave the console."
        ]
        lines = [_server_line(server) for server in servers]
        if await self.around.ask(ConfirmDialog(title, sentences, lines, accept="drain")) is None:
            return []
        items = [{"ServerId": server.id, "Force": True} for server in servers]
        left = await self._change_servers("drain", operations.close_servers(self.client, items), servers)
        failed = {server.key for server in left}
        return [server.key for server in servers if server.key not in failed]

    async def _change_servers(
        self, verb: str, batch: Batch, servers: Sequence[ServerRecord]
    ) -> Sequence[ServerRecord]:
        """Send; the servers that are to be tried again."""
        results = await self._run(verb, batch, servers)
        return _failed(servers, results) if await self._tell(verb.capitalize(), results) else []


# ------------------------------------------------------------------ words


def _name(session: SessionRecord) -> str:
    return session.name or session.id


def _failed(records: Sequence[ResultT], results: Sequence[ItemResult]) -> list[ResultT]:
    pairs = zip(records, results, strict=True)
    return [record for record, result in pairs if result.outcome is Outcome.FAILED]


def _session_line(session: SessionRecord) -> str:
    clients = f", {plural(session.connections, 'client')}" if session.connections else ""
    place = f" on {session.server_name}" if session.server_name else ""
    return f"{_name(session)}, {session.owner}, {session.state}{clients}{place}"


def _server_line(server: ServerRecord) -> str:
    state = server.unavailability_reason or server.availability
    return f"{server.name}, {state}, {plural(server.sessions, 'session')}"


def _this_host() -> str:
    import socket  # noqa: PLC0415  only for the line that copies a file to the operator's machine

    return socket.gethostname()
