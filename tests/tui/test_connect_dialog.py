"""Links are handed out with their token hidden until asked for, and with what may keep a client out."""

import base64
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from dcvtui.connect import Route, warnings_of
from dcvtui.errors import Refused
from dcvtui.terminal import CopyError
from dcvtui.tui.connect_dialog import ConnectDialog, LinkScreen
from dcvtui.tui.form_fields import FormField
from dcvtui.tui.panel import Words
from tests.pseudo_terminal import Terminal
from tests.tui.screens import assert_screen, screen_text

NOON = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)
SESSION: dict[str, Any] = {
    "Id": "4a6f0c1e-1111-4222-8333-123456789abc",
    "Name": "cad-ana-1",
    "Owner": "ana",
    "State": "READY",
    "NumOfConnections": 0,
    "Server": {"Ip": "93.184.216.34", "Port": "8443", "WebUrlPath": "/"},
}


PRIVATE: dict[str, Any] = SESSION | {"Server": {"Ip": "10.0.0.17", "Port": "8443"}}


def token_for(user: str, end: datetime = NOON + timedelta(hours=1)) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": user, "exp": int(end.timestamp())}).encode())
    return f"eyJhbGciOiJSUzI1NiJ9.{claims.decode().rstrip('=')}.c2lnbmF0dXJl"


class Broker:
    """Gives tokens, or refuses."""

    def __init__(self, session: Mapping[str, Any] = SESSION) -> None:
        self.session = session
        self.asked: list[str] = []
        self.refusal: Refused | None = None

    async def renew(self, user: str) -> tuple[Mapping[str, Any], str]:
        self.asked.append(user)
        if self.refusal:
            raise self.refusal
        return self.session, token_for(user)


class Opener(App[None]):
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, broker: Broker, token: str | None = None, **more: Any) -> None:
        super().__init__()
        self.copied: list[str] = []
        self.copy_fails = False
        self.dialog = ConnectDialog(
            broker.session, token, "ana", broker.renew, self.copy, now=lambda: NOON, **more
        )

    async def copy(self, text: str) -> str:
        if self.copy_fails:
            raise CopyError("too long.")
        self.copied.append(text)
        return "sent to the terminal's clipboard"

    def on_mount(self) -> None:
        self.push_screen(self.dialog)

    def words(self, which: str) -> str:
        return self.dialog.query_one(f"#{which}", Words).text


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
async def test_the_dialog_fits_and_looks_as_agreed(size: tuple[int, int]) -> None:
    session = SESSION | {"Server": {"Ip": "10.0.0.17", "Port": "8443"}}
    async with Opener(Broker(session), token_for("ana")).run_test(size=size) as pilot:
        await settled(pilot)
        assert_screen(pilot.app, f"connect-{size[0]}x{size[1]}")


async def test_a_token_is_asked_for_when_there_is_none_and_shown_to_nobody() -> None:
    broker = Broker()
    app = Opener(broker)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert broker.asked == ["ana"]
        assert app.words("link") == f"https://93.184.216.34:8443/?authToken=••••••••#{SESSION['Id']}"
        assert token_for("ana")[:12] not in screen_text(app)
        assert app.words("valid").startswith("until ")


async def test_the_forms_are_a_key_apart_and_each_is_copied_whole() -> None:
    app = Opener(Broker(), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for _ in range(4):
            await pilot.press("y")
            await settled(pilot)
            await pilot.press("tab")
        assert app.words("said") == "sent to the terminal's clipboard. Nothing to paste? v"
    rest = f"93.184.216.34:8443/?authToken={token_for('ana')}#{SESSION['Id']}"
    assert app.copied[:2] == [f"https://{rest}", f"dcv://{rest}"]
    assert json.loads(app.copied[3]) == {"Session": SESSION, "ConnectionToken": token_for("ana")}
    assert app.copied[2].startswith("[version]\nformat=1.0\n")
    assert f"authtoken={token_for('ana')}\n" in app.copied[2]


async def test_a_failed_copy_names_the_other_way() -> None:
    app = Opener(Broker(), token_for("ana"))
    app.copy_fails = True
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert app.words("said") == "Not copied: too long. v shows it."


async def test_another_user_gets_a_link_of_his_own() -> None:
    broker = Broker()
    app = Opener(broker, token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("u", *["backspace"] * 3, *"bob", "enter")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
    assert broker.asked == ["bob"]
    assert token_for("bob") in app.copied[0]


async def test_a_refused_user_leaves_the_former_link_under_its_name() -> None:
    broker = Broker()
    broker.refusal = Refused("Session is neither in READY nor in UNKNOWN state.", status=400, text="")
    app = Opener(broker, token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("u", *"x", "enter")
        await settled(pilot)
        assert app.words("said") == "Session is neither in READY nor in UNKNOWN state."
        assert app.dialog.query_one("#user Input", Input).value == "ana"


async def test_escape_leaves_the_field_first_and_the_dialog_then() -> None:
    app = Opener(Broker(), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("u", *"xyz", "escape")
        assert app.dialog.query_one("#user Input", Input).value == "ana"
        assert app.dialog.is_current
        await pilot.press("escape")
        await pilot.pause()
        assert not app.dialog.is_current


async def test_without_a_token_nothing_is_handed_out(tmp_path: Path) -> None:
    broker = Broker()
    broker.refusal = Refused("Session is neither in READY nor in UNKNOWN state.", status=400, text="")
    app = Opener(broker, folder=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key in ("y", "v", "s"):
            await pilot.press(key)
            await settled(pilot)
            assert app.words("said") == "There is no token yet."
        assert app.dialog.is_current
    assert app.copied == []


@pytest.mark.covers("W4")
async def test_a_file_is_saved_for_its_owner_with_the_line_that_fetches_it(tmp_path: Path) -> None:
    """A connection file that is saved can be read by its owner alone."""
    app = Opener(Broker(), token_for("ana"), folder=tmp_path, scp_host="jump")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        path = tmp_path / "ana_cad-ana-1.dcv"
        assert app.words("said") == (f"saved {path} (0600).\nFrom your machine: scp jump:ana_cad-ana-1.dcv .")
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"authtoken={token_for('ana')}\n" in path.read_text()


async def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    app = Opener(Broker(), token_for("ana"), folder=tmp_path / "missing")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        assert app.words("said").startswith(f"Not saved in {tmp_path / 'missing'}: No such file")


async def test_a_session_without_an_address_is_a_sentence() -> None:
    app = Opener(Broker(SESSION | {"Server": {}}), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "does not say at which address" in app.words("warnings")
        await pilot.press("y")
        await settled(pilot)
    assert app.copied == []


async def test_a_gateway_stands_in_the_link_and_its_address_is_no_concern() -> None:
    session = SESSION | {"Server": {"Ip": "10.0.0.17", "Port": "8443"}}
    app = Opener(Broker(session), token_for("ana"), gateway=Route("gw.example", 443))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.words("link").startswith("https://gw.example:443/")
        assert app.words("warnings") == ""


async def test_the_route_is_a_choice_and_replaces_host_and_port_alone() -> None:
    app = Opener(Broker(PRIVATE), token_for("ana"), gateway=Route("gw.example", 443))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        rest = f"/?authToken=••••••••#{SESSION['Id']}"
        assert app.words("link") == f"https://gw.example:443{rest}"
        await pilot.press("g", *"other.example:99999", "enter")
        await settled(pilot)
        assert "is no gateway" in app.dialog.query_one("#host", FormField).fault
        await pilot.press(*["backspace"] * 5, *"8443", "enter")
        await settled(pilot)
        assert app.words("link") == f"https://other.example:8443{rest}"
        assert app.words("warnings") == ""
        await pilot.press("g")
        await settled(pilot)
        assert app.words("link") == f"https://10.0.0.17:8443{rest}"
        assert "private address" in app.words("warnings")
        await pilot.press("g")
        await settled(pilot)
        assert app.words("link") == f"https://gw.example:443{rest}"


async def test_a_route_that_is_not_typed_leaves_the_former_one() -> None:
    app = Opener(Broker(PRIVATE), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("g")
        await settled(pilot)
        assert app.words("link") == "-"
        assert "Type the host" in app.words("warnings")
        await pilot.press(*"gw", "escape")
        await settled(pilot)
        assert app.dialog.is_current
        assert app.words("link").startswith("https://10.0.0.17:8443/")
        assert not app.dialog.query_one("#host").display


async def test_permissions_that_shut_the_user_out_are_said_for_each_user() -> None:
    text = "[permissions]\n%owner% allow builtin\nbob allow clipboard-copy\n"
    app = Opener(Broker(), token_for("ana"), permissions=text)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.words("warnings") == ""
        await pilot.press("u", *["backspace"] * 3, *"bob", "enter")
        await settled(pilot)
        assert app.words("warnings") == "! The permissions sent last do not let bob see this session."


async def test_the_answer_of_the_broker_is_not_poured_over_the_screen() -> None:
    app = Opener(Broker(), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("tab", "tab", "tab")
        await settled(pilot)
        assert app.words("link") == "the broker's answer, 15 lines, with the token"
        assert token_for("ana")[:12] not in screen_text(app)


async def test_the_viewer_is_offered_only_where_there_is_one() -> None:
    started: list[str] = []

    async def open_viewer(text: str) -> str:
        started.append(text)
        return "viewer started"

    app = Opener(Broker(), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("o")
    app = Opener(Broker(), token_for("ana"), open_viewer=open_viewer)
    async with app.run_test(size=(120, 24)) as pilot:
        await settled(pilot)
        assert "o viewer" in screen_text(app)
        await pilot.press("o")
        await settled(pilot)
        assert app.words("said") == "viewer started"
    assert started[0].startswith("[version]")


# ------------------------------------------------------------------ warnings

PUBLIC = Route("93.184.216.34", 8443)


@pytest.mark.parametrize(
    ("session", "direct", "end", "warning"),
    [
        ({"State": "READY"}, Route("example.com", 1), None, None),
        ({"State": "UNKNOWN", "StateReason": "lost"}, None, None, "The session is UNKNOWN (lost)."),
        (
            {"State": "CREATING", "Substate": "SESSION_PLACING"},
            None,
            None,
            "The session is CREATING (SESSION_PLACING).",
        ),
        (
            {"State": "READY", "NumOfConnections": 2, "MaxConcurrentClients": 2},
            None,
            None,
            "All places are taken: 2 of 2 clients are connected.",
        ),
        ({"State": "READY", "NumOfConnections": 1, "MaxConcurrentClients": 2}, None, None, None),
        (
            {"State": "READY"},
            Route("192.168.1.4", 1),
            None,
            "192.168.1.4 is a private address: it is reached only from inside its network.",
        ),
        ({"State": "READY"}, None, NOON + timedelta(minutes=4), "The token ends within five minutes."),
        ({"State": "READY"}, None, NOON - timedelta(minutes=1), "The token has ended."),
        ({"State": "READY"}, None, NOON + timedelta(hours=1), None),
    ],
)
def test_what_may_keep_a_client_out_is_said(
    session: dict[str, Any], direct: Route | None, end: datetime | None, warning: str | None
) -> None:
    assert warnings_of(session, direct, end, NOON) == ([warning] if warning else [])


# ------------------------------------------------------------------ the bare link


async def test_any_key_takes_the_bare_link_away() -> None:
    app = Opener(Broker(), token_for("ana"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await pilot.pause()
        assert isinstance(app.screen, LinkScreen)
        assert app.screen.text == f"https://93.184.216.34:8443/?authToken={token_for('ana')}#{SESSION['Id']}"
        await pilot.press("q")
        await pilot.pause()
        assert app.dialog.is_current


BARE = """
from textual.app import App
from dcvtui.tui.connect_dialog import LinkScreen

class Opener(App):
    def on_mount(self):
        link = "https://host/?" + "0123456789" * 15 + "#end"
        self.push_screen(LinkScreen(link), lambda _: self.notify("gone"))

Opener().run()
"""


def test_the_bare_link_is_one_line_for_the_terminal_and_leaves_nothing_behind() -> None:
    """Wrapped by the terminal, not by us: from the left edge on, row after row, nothing else there."""
    with Terminal([sys.executable, "-c", BARE], 60, 20) as terminal:
        terminal.wait_for("#end")
        assert terminal.text.rstrip().replace("\n", "") == "https://host/?" + "0123456789" * 15 + "#end"
        assert 1000 << 5 not in terminal.screen.mode
        terminal.resize(50, 16)
        terminal.wait_for("#end")
        assert terminal.text.rstrip().replace("\n", "") == "https://host/?" + "0123456789" * 15 + "#end"
        terminal.press("x")
        terminal.wait_for("gone")
        assert "0123456789" not in terminal.text
        assert 1000 << 5 in terminal.screen.mode
