"""What the keys of the console do to items: on which broker, with which flow, and what is kept of it.

The application starts it and gives it hands; the flows of each broker do the
asking and sending. What was done goes into the activity list, the audit trail
and the list of what can be taken back.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcvtui.audit import AuditTrail
from dcvtui.console_files import permissions_file
from dcvtui.fleet import Key
from dcvtui.terminal import Drawing, Terminal
from dcvtui.tui.brokers import Broker, Brokers
from dcvtui.tui.console_screen import ConsoleScreen
from dcvtui.watch import DrainProgress, Watch

if TYPE_CHECKING:
    from dcvtui.client import BrokerClient
    from dcvtui.operations import ItemResult
    from dcvtui.tui.flows import Flows
    from dcvtui.tui.permissions_flow import Ask


@dataclass(frozen=True, slots=True)
class Hands:
    """What actions need of the application.

    Attributes:
        terminal: what the terminal can do.
        drawing: how pictures are drawn on it.
        ask: opens a dialog and waits for it.
        copy: puts a text on the clipboard.
        run: does something while the screen stays usable.
    """

    terminal: Terminal
    drawing: Drawing
    ask: "Ask"
    copy: Callable[[str], Awaitable[str]]
    run: Callable[[Coroutine[Any, Any, None]], object]


class Actions:
    """What can be done from the console.

    Args:
        brokers: those that are looked at.
        watch: what is known of their fleets.
        console: where it is said.
        hands: of the application.
        folder: where what is remembered is kept; None for nowhere.
    """

    def __init__(
        self, brokers: Brokers, watch: Watch, console: ConsoleScreen, hands: Hands, folder: Path | None
    ) -> None:
        self._brokers, self._watch, self._console = brokers, watch, console
        self._hands, self._folder = hands, folder
        self._audit = AuditTrail(folder / "audit.jsonl" if folder else None, os.environ.get("USER", ""))
        self._drained: DrainProgress | None = None
        self._undoable: deque[tuple[str, Callable[[], object]]] = deque(maxlen=50)

    async def act(self, name: str, records: Sequence[Any]) -> None:
        """Do something with some items: ask, send, say what came of it."""
        if name == "create":
            await self._create(records)
            return
        if name in ("screenshot", "connect"):
            records = records[:1]
        # One after another: each asks about items of its own broker only.
        for profile in dict.fromkeys(record.profile for record in records):
            flows = self._flows_of(self._brokers[profile], is_reading=name in ("screenshot", "connect"))
            some = [record for record in records if record.profile == profile]
            if flows is None:
                continue
            match name:
                case "screenshot" | "connect":
                    await getattr(flows, name)(some[0])
                case "drain":
                    self._watch.draining.update(await flows.drain(some))
                    self._watch.look(self._brokers.now())
                    self._console.take_items()
                    self.tell_drain()
                case _:
                    await getattr(flows, name)(some)

    async def _create(self, records: Sequence[Any]) -> None:
        """Ask for new sessions, on a server that was chosen or on a broker that is."""
        is_here = self._console.view == "servers" and len(records) == 1
        likely = records[0].profile if records else next(iter(self._brokers)).connection.name
        chosen = likely if is_here else await self._choose_broker(likely)
        flows = self._flows_of(self._brokers[chosen]) if chosen else None
        if flows is not None:
            await flows.create(records[0] if is_here else None)

    async def _choose_broker(self, likely: str) -> str | None:
        """Ask on which broker, where there are several that can be changed."""
        choices = [
            (one.name, f"{one.name}  {one.url.partition('://')[2]}")
            for one in self._brokers.connections()
            if not one.read_only
        ]
        if len(choices) < 2:
            return choices[0][0] if choices else likely
        from dcvtui.tui.choice_dialog import ChoiceDialog  # noqa: PLC0415  not needed before the first rows

        return await self._hands.ask(ChoiceDialog("On which broker?", choices, likely))

    def _flows_of(self, broker: Broker, *, is_reading: bool = False) -> "Flows | None":
        """What acts on a broker; None, with a word why, if nothing may or can."""
        if broker.connection.read_only and not is_reading:
            self._console.say("read-only")
            return None
        if broker.client is None:
            self._console.say("Not connected yet.")
            return None
        if broker.flows is None:
            broker.flows = self._make_flows(broker, broker.client)
        return broker.flows

    def _make_flows(self, broker: Broker, client: "BrokerClient") -> "Flows":
        from dcvtui.sent_permissions import SentPermissions  # noqa: PLC0415  loaded after the first rows
        from dcvtui.tui.flows import Flows, Surroundings  # noqa: PLC0415  as above

        name = broker.connection.name
        folder = self._folder
        sent = SentPermissions(permissions_file(folder, name) if folder else None)
        if self._watch.is_complete:
            sent.keep_only({session.id for session in self._watch.of_profile(name).sessions.values()})
        from dcvtui.viewer import Viewer, find_viewer  # noqa: PLC0415  as above

        viewer = find_viewer(os.environ)
        return Flows(
            client,
            Surroundings(
                broker.connection,
                self._hands.terminal,
                self._hands.drawing,
                ask=self._hands.ask,
                say=self._console.say,
                snapshot=lambda: self._watch.of_profile(broker.connection.name),
                stale_time=lambda: self.stale_time(broker.connection.name),
                copy=self._hands.copy,
                finished=self._finished,
                now=self._brokers.now,
                open_viewer=Viewer(viewer, os.environ).open if viewer else None,
                saved=self._console.saved,
                where=lambda: f" on {name}" if len(self._brokers) > 1 else "",
            ),
            sent=sent,
        )

    def stale_time(self, profile: str) -> str:
        """Since when what a broker said is stale, as a time of day; "" while it is fresh or unknown."""
        link = self._watch.links[profile]
        return f"{link.last_good.astimezone():%H:%M}" if link.last_good else ""

    def _finished(self, verb: str, results: "Sequence[tuple[Key, ItemResult]]") -> None:
        """Keep what came of an action, and look at the fleet again."""
        self._watch.activity.note_results(verb, results, self._brokers.now())
        brokers = {one.name: one.url for one in self._brokers.connections()}
        if problem := self._audit.note(verb, results, self._brokers.now(), brokers):
            self._watch.activity.note("audit", "", problem, self._brokers.now())
        done = [key for key, result in results if result.outcome == "done"]
        if done and verb in ("open", "close", "drain"):
            self._undoable.append((verb, lambda: self._undo_servers(verb, done)))
        if done and verb == "permissions":
            self._undoable.append((verb, lambda: self._undo_permissions(done)))
        self._console.take_items()
        self._brokers.look_for([key for key, _ in results], are_sessions=verb in ("create", "delete"))

    def _undo_servers(self, verb: str, keys: "Sequence[Key]") -> None:
        servers = [self._watch.snapshot.servers[key] for key in keys if key in self._watch.snapshot.servers]
        if servers:
            self._hands.run(self.act("close" if verb == "open" else "open", servers))

    def _undo_permissions(self, keys: "Sequence[Key]") -> None:
        known = self._watch.snapshot.sessions
        sessions = [known[key] for key in keys if key in known]
        self._hands.run(self.act("undo_permissions", sessions))

    def tell_drain(self) -> None:
        """Say how far draining is, whenever it has come further."""
        progress = self._watch.drain_progress()
        if progress is not None and progress != self._drained:
            self._console.say(progress.sentence)
            if progress.empty == progress.servers:
                self._watch.activity.note("drain", "", progress.sentence, self._brokers.now())
        self._drained = progress

    # ------------------------------------------------------------------ taking back

    def note_undoable(self, label: str, undo: Callable[[], object]) -> None:
        """Remember what can be taken back."""
        self._undoable.append((label, undo))

    def undo_last(self) -> None:
        """Take back the last marks, filter, opening, closing or permissions."""
        if not self._undoable:
            self._console.say("Nothing to take back.")
            return
        label, undo = self._undoable.pop()
        self._console.say(f"taken back: {label}")
        undo()
