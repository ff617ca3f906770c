"""How to reach a session: web address, native address or file, with the token hidden until asked for.

Addresses are made by `dcvtui.connect`; new tokens come from a callable of the
opener's. Nothing here logs or keeps a token.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widgets import Input

from dcvtui import connect
from dcvtui.api.text import visible
from dcvtui.connect import LinkForm, Route
from dcvtui.errors import ProgramError
from dcvtui.private_files import replace_private, shown_path
from dcvtui.terminal import CopyError
from dcvtui.tui.form_fields import FormField, OneOf, text_input
from dcvtui.tui.panel import KeyLine, Panel, Words

DIRECT: Final = "direct"
GATEWAY: Final = "gateway"
OTHER: Final = "other"

_FORMS: Final = [
    (LinkForm.WEB, "web"),
    (LinkForm.NATIVE, "native"),
    (LinkForm.FILE, "file"),
    (LinkForm.JSON, "JSON"),
]

# A link that a terminal is to select as one line must be wrapped by the terminal, not by us.
_BARE: Final = "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[0m\x1b[H\x1b[2J\x1b[?7h"
_BARE_END: Final = "\x1b[?7l"
_LEAVE_BARE: Final = "\x1b[H\x1b[2J"
_MOUSE_ON: Final = "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"

Renew = Callable[[str], Awaitable[tuple[Mapping[str, Any], str]]]
"""Asks for connection data of a user: the session with its server, and a token; raises `ProgramError`."""

Copy = Callable[[str], Awaitable[str]]
"""Puts a text on the clipboard and says what happened; may raise `dcvtui.terminal.CopyError`."""

OpenViewer = Callable[[str], Awaitable[str]]
"""Starts a local viewer with the text of a connection file, and says what happened."""


class LinkScreen(Screen[None]):
    """One text alone on a cleared screen, unbroken, so that a terminal can select it; any key clears it."""

    DEFAULT_CSS = """
    LinkScreen { background: black; color: white; }
    """

    def __init__(self, text: str, *, has_mouse: bool = True) -> None:
        """A screen for a text.

        Args:
            text: What is to be selected; unsafe characters in it are shown as codes.
            has_mouse: Whether mouse reports are to be switched on again afterwards.
        """
        super().__init__()
        self.text = "\n".join(visible(line) for line in text.split("\n"))
        self._has_mouse = has_mouse

    def _compositor_refresh(self) -> None:
        """Write the text over each empty screen that Textual paints.

        Textual breaks a long line into rows of its own, and nothing public tells when it has painted;
        a test in a pseudo-terminal holds this to its promise.
        """
        super()._compositor_refresh()
        if self.is_current:
            self._write_text()

    def _write_text(self) -> None:
        self._write(_BARE + self.text.replace("\n", "\r\n") + _BARE_END)

    def _write(self, sequence: str) -> None:
        if (driver := self.app._driver) is not None:
            driver.write(sequence)
            driver.flush()

    def on_key(self, event: events.Key) -> None:
        """Any key takes the text away."""
        event.stop()
        event.prevent_default()
        self._write(_LEAVE_BARE + (_MOUSE_ON if self._has_mouse else ""))
        self.dismiss(None)


class ConnectDialog(ModalScreen[None]):
    """Shows how one user reaches one session, and hands it out."""

    AUTO_FOCUS = ""

    DEFAULT_CSS = """
    ConnectDialog { align: center middle; background: $background 70%; }
    ConnectDialog #warnings, ConnectDialog #said { margin-bottom: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", id="connect.copy-link", tooltip="Put it on the terminal's clipboard"),
        Binding("v", "show_link", "link", id="connect.show-link", tooltip="Alone on a cleared screen"),
        Binding("s", "save", "save", id="connect.save-file", tooltip="Save a .dcv file for the viewer"),
        Binding("tab", "next_form", "form", id="connect.next-form", tooltip="Web, native, file or JSON"),
        Binding("g", "next_route", "route", id="connect.next-route", tooltip="Direct, gateway or other"),
        Binding("r", "renew", "renew", id="connect.renew-token", tooltip="Ask the broker for a new token"),
        Binding("o", "open_viewer", "viewer", id="connect.open-viewer", tooltip="Start the local viewer"),
        Binding("u", "edit_user", "user", id="connect.edit-user", tooltip="A token for another user"),
        Binding("escape,q", "close", "close", id="any.close-top", key_display="esc"),
    ]

    def __init__(
        self,
        session: Mapping[str, Any],
        token: str | None,
        user: str,
        renew: Renew,
        copy: Copy,
        *,
        gateway: Route | None = None,
        address_tag: str = connect.DEFAULT_ADDRESS_TAG,
        folder: Path | None = None,
        scp_host: str | None = None,
        open_viewer: OpenViewer | None = None,
        permissions: str | None = None,
        has_mouse: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """A dialog for one session.

        Args:
            session: The session with its server, with the API's names.
            token: A connection token; without one it is asked for when the dialog opens.
            user: Whom the token is for, usually the owner.
            renew: Asks the broker for connection data.
            copy: Puts a text on the clipboard.
            gateway: The gateway of the profile; without it the server is reached directly.
            address_tag: Name of the server tag that holds a public address.
            folder: Where files are saved; the home directory without it.
            scp_host: Name of this machine if the operator sits at another one.
            open_viewer: Starts a viewer where there is one.
            permissions: The permissions of the session, if they are known.
            has_mouse: Whether mouse reports are on.
            now: The time.
        """
        super().__init__()
        self._session = session
        self._token = token or ""
        self._user = user
        self._renew = renew
        self._copy = copy
        self._gateway = gateway
        self._address_tag = address_tag
        self._folder = folder
        self._scp_host = scp_host
        self._open_viewer = open_viewer
        self._permissions = permissions
        self._other: Route | None = None
        self._route_before = GATEWAY if gateway else DIRECT
        self._has_mouse = has_mouse
        self._now = now

    def compose(self) -> ComposeResult:
        """Warnings first, then what is handed out."""
        name = str(self._session.get("Name") or self._session.get("Id") or "")
        yield Panel(
            f"Connect to {name}",
            Words(id="said", optional=True),
            Words(id="warnings", classes="-warning", optional=True),
            FormField("User", text_input(self._user), id="user"),
            FormField("Form", OneOf(_FORMS, LinkForm.WEB), id="form"),
            FormField("Route", OneOf(self._routes, self._route_before), id="route"),
            FormField("Host", text_input(placeholder="gateway.example:8443"), id="host"),
            FormField("Link", Words(id="link"), id="way"),
            FormField("Valid", Words(id="valid"), id="life"),
            foot=KeyLine(
                "connect.copy-link", "connect.show-link", "connect.save-file", "connect.open-viewer",
                "connect.next-form", "connect.next-route", "connect.edit-user", "connect.renew-token",
                "any.close-top",
            ),
        )  # fmt: skip

    def on_mount(self) -> None:
        """Show what there is, or ask for it."""
        # Keys, not the focus, choose here: the letters of the keys would be typed into the field.
        for choice in self.query(OneOf):
            choice.can_focus = False
        for field in self.query(Input):
            field.can_focus = False
        self._show()
        if not self._token:
            self.action_renew()

    # ---------------------------------------------------------------- what is shown

    @property
    def _routes(self) -> list[tuple[str, str]]:
        between = [(GATEWAY, "gateway")] if self._gateway else []
        return [(DIRECT, "direct"), *between, (OTHER, "other")]

    @property
    def _form(self) -> LinkForm:
        return LinkForm(self.query_one("#form OneOf", OneOf).value)

    @property
    def _direct(self) -> Route | None:
        """The way without a gateway, if that is what is chosen."""
        is_direct = self.query_one("#route OneOf", OneOf).value == DIRECT
        return connect.direct_route(self._session, self._address_tag) if is_direct else None

    @property
    def _route(self) -> Route:
        """The way that is chosen.

        Raises:
            ProgramError: there is none yet.
        """
        if (direct := self._direct) is not None:
            return direct
        chosen = self.query_one("#route OneOf", OneOf).value
        route = self._gateway if chosen == GATEWAY else self._other
        if route is None:
            raise connect.NoAddressError("Type the host and the port of the other way.")
        return route

    @property
    def handed_out(self) -> str:
        """The link or the file's text, token included.

        Raises:
            ProgramError: the session has no address.
        """
        return connect.handed_out(self._form, self._session, self._token, self._user, self._route)

    @on(OneOf.Changed)
    def _show(self) -> None:
        self.query_one("#host").display = self.query_one("#route OneOf", OneOf).value == OTHER
        link = self.query_one("#link", Words)
        if not self._token:
            link.show("no token yet")
            return
        end = connect.token_end(self._token)
        try:
            link.show(self._shown(self.handed_out.strip()))
            warnings = self._warnings(end)
        except ProgramError as error:
            link.show("-")
            warnings = [error.sentence]
        life = f"until {end.astimezone():%H:%M}" if end else "not known; the broker's default is 60 minutes"
        self.query_one("#valid", Words).show(life)
        self.query_one("#warnings", Words).show("\n".join(f"! {warning}" for warning in warnings))

    def _shown(self, text: str) -> str:
        if self._form is LinkForm.JSON:
            return f"the broker's answer, {len(text.splitlines())} lines, with the token"
        return connect.masked(text, self._token)

    def _warnings(self, end: datetime | None) -> list[str]:
        owner, user, text = str(self._session.get("Owner") or ""), self._user, self._permissions
        shut_out = user if text is not None and not connect.may_see(text, owner, user) else ""
        return connect.warnings_of(self._session, self._direct, end, self._now(), shut_out=shut_out)

    def _say(self, text: str) -> None:
        self.query_one("#said", Words).show(text)

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer the viewer only where there is one."""
        return self._open_viewer is not None if action == "open_viewer" else True

    # ---------------------------------------------------------------- actions

    def action_next_form(self) -> None:
        """Web, native, file, JSON, and round again."""
        self.query_one("#form OneOf", OneOf).action_step(1)

    def action_next_route(self) -> None:
        """Direct, the gateway, another one that is typed."""
        choice = self.query_one("#route OneOf", OneOf)
        if choice.value != OTHER:
            self._route_before = choice.value
        choice.action_step(1)
        if choice.value == OTHER:
            self.query_one("#host").display = True
            self._enter(self.query_one("#host Input", Input))

    @on(Input.Submitted, "#host Input")
    def take_host(self, event: Input.Submitted) -> None:
        """Take another way by the host and port that were typed."""
        try:
            self._other = Route.read(event.value)
        except ProgramError as error:
            self.query_one("#host", FormField).complain(error.sentence)
            return
        self.query_one("#host", FormField).complain("")
        self._leave_field()
        self._show()

    def action_copy(self) -> None:
        """Put what is shown on the clipboard."""
        if text := self._ready():
            self._copy_text(text)

    @work(group="copy", exclusive=True)
    async def _copy_text(self, text: str) -> None:
        key = self._key_of("connect.show-link")
        try:
            self._say(f"{await self._copy(text)}. Nothing to paste? {key}")
        except CopyError as error:
            self._say(f"Not copied: {error} {key} shows it.")

    def _key_of(self, binding_id: str) -> str:
        bindings = (active.binding for active in self.active_bindings.values())
        return next((self.app.get_key_display(one) for one in bindings if one.id == binding_id), "")

    def _ready(self) -> str:
        """What can be handed out, "" when something is missing, which is then said."""
        if not self._token:
            self._say("There is no token yet.")
            return ""
        try:
            return self.handed_out
        except ProgramError as error:
            self._say(error.sentence)
            return ""

    def action_show_link(self) -> None:
        """Show it alone on a cleared screen."""
        if text := self._ready():
            self.app.push_screen(LinkScreen(text.strip(), has_mouse=self._has_mouse))

    def action_save(self) -> None:
        """Save a connection file for the owner's eyes."""
        if not self._ready():
            return
        name = connect.file_name(self._user, str(self._session.get("Name") or self._session.get("Id") or ""))
        path = (self._folder or Path.home()) / name
        try:
            text = connect.connection_file(self._session, self._token, self._user, self._route)
            replace_private(path, text.encode())
        except ProgramError as error:
            self._say(error.sentence)
        except OSError as error:
            self._say(f"Not saved in {shown_path(path.parent)}: {error.strerror or error}.")
        else:
            copy_line = f"\nFrom your machine: scp {self._scp_host}:{name} ." if self._scp_host else ""
            self._say(f"saved {shown_path(path)} (0600).{copy_line}")

    def action_open_viewer(self) -> None:
        """Start the local viewer."""
        if self._open_viewer is not None and self._ready():
            text = connect.connection_file(self._session, self._token, self._user, self._route)
            self._start_viewer(self._open_viewer, text)

    @work(group="viewer")
    async def _start_viewer(self, open_viewer: OpenViewer, text: str) -> None:
        try:
            self._say(await open_viewer(text))
        except ProgramError as error:
            self._say(error.sentence)

    def action_renew(self) -> None:
        """Ask for a new token."""
        self._say("asking for a token…")
        self._ask(self._user)

    @work(group="token", exclusive=True)
    async def _ask(self, user: str) -> None:
        try:
            self._session, self._token = await self._renew(user)
        except ProgramError as error:
            # The link below is still the former user's.
            self.query_one("#user Input", Input).value = self._user
            self._say(error.sentence)
            return
        self._user = user
        self._say("")
        self._show()

    def action_edit_user(self) -> None:
        """Type another user; Enter asks for a token."""
        self._enter(self.query_one("#user Input", Input))

    @on(Input.Submitted, "#user Input")
    def take_user(self, event: Input.Submitted) -> None:
        """Ask for the token of the user that was typed."""
        if user := event.value.strip():
            self._leave_field()
            self._say(f"asking for a token of {user}…")
            self._ask(user)

    def _enter(self, field: Input) -> None:
        field.can_focus = True
        self.set_focus(field)

    def _leave_field(self) -> None:
        self.set_focus(None)
        for field in self.query(Input):
            field.can_focus = False

    def action_close(self) -> None:
        """Leave a field with what it held before, or the dialog."""
        user, host = self.query_one("#user Input", Input), self.query_one("#host Input", Input)
        if user.has_focus:
            user.value = self._user
        elif host.has_focus:
            host.value = str(self._other or "")
            self.query_one("#host", FormField).complain("")
            if self._other is None:
                self.query_one("#route OneOf", OneOf).value = self._route_before
        else:
            self.dismiss(None)
            return
        self._leave_field()
