"""The table of rights beside the text: what it shows, what its keys change, and what is asked first."""

from pathlib import Path

import pytest
from textual.pilot import Pilot

from dcvtui.api.permissions import DEFAULT_TEXT, Actor, State, matrix
from dcvtui.tui.dialogs import ConfirmDialog
from dcvtui.tui.permissions_area import PermissionsText, completion
from dcvtui.tui.permissions_editor import PermissionsEditor
from dcvtui.tui.rights_matrix import RightsMatrix
from tests.tui.screens import assert_screen, screen_text
from tests.tui.test_permissions_editor import Host, Opener, agreed, opener, session

TEXT = """\
[groups]
team=bob, osgroup:cad

[permissions]
%any% deny printer
%owner% allow builtin
group:team allow display pointer mouse keyboard
eve allow display keyboard-sas
"""


def table(app: Opener) -> RightsMatrix:
    return app.editor.query_one(RightsMatrix)


async def into_rights(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.press("tab")
    await pilot.pause()


@pytest.mark.covers("P15")
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)])
async def test_the_table_looks_as_agreed(size: tuple[int, int]) -> None:
    """Members of an OS group are known on the host only, so the group has a row of its own in the console."""
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=size) as pilot:
        await into_rights(pilot)
        await pilot.press("down", "down", "right")
        await pilot.pause()
        assert_screen(app, f"rights-{size[0]}x{size[1]}")
        assert "osgroup:cad" in screen_text(app)


async def test_a_group_of_features_opens_and_closes() -> None:
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(90, 24)) as pilot:
        await into_rights(pilot)
        await pilot.press("right", "enter")
        await pilot.pause()
        assert all(name in screen_text(app) for name in ("keyboard-sas", "stylus", "gamepad"))
        await pilot.press("escape")
        await pilot.pause()
        assert "keyboard-sas" not in screen_text(app).splitlines()[5]
        assert app.screen is app.editor
        await pilot.press("escape")
        await pilot.pause()
        assert app.outcome is not None


async def test_names_in_a_text_do_not_steer_the_terminal() -> None:
    """A name with an escape sequence in it is shown as a sign, in the sentence below the table too."""
    app = opener(Host(), text="[permissions]\nbob\x1b[2J allow display\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        await pilot.press("down")
        rights = table(app)
        assert "\x1b" in rights.sentence, "the test is about this row"
        drawn = "".join(rights.render_line(y).text for y in range(rights.size.height))
        assert drawn.count("bob␛[2J") == 3, "in its row, and twice in the sentence"
        assert "\x1b" not in drawn


async def test_the_sentence_names_the_deciding_line_and_enter_goes_there() -> None:
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        rights = table(app)
        assert rights.sentence == "owner, display: granted by line 6: %owner% allow builtin"
        rights._place = next(n for n, c in enumerate(rights._columns) if c.features == ("printer",))
        assert rights.sentence == "owner, printer: locked by line 5: %any% deny printer"
        await pilot.press("enter")
        await pilot.pause()
        text = app.editor.query_one(PermissionsText)
        assert (text.has_focus, text.cursor_location) == (True, (4, 0))


@pytest.mark.covers("P18")
async def test_keyboard_sas_without_keyboard_is_said_to_be_without_effect() -> None:
    """Ctrl+Alt+Del may only be sent by somebody who may type."""
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        rights = table(app)
        rights.select(Actor("user", "eve"))
        rights._place = next(n for n, c in enumerate(rights._columns) if c.features == ("keyboard-sas",))
        assert rights.sentence == "eve, keyboard-sas: without effect, it needs keyboard"


@pytest.mark.covers("P25")
async def test_space_gives_a_right_and_takes_it_away() -> None:
    """A toggled cell is what it was toggled to, or the editor says which deny prevents it."""
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        rights = table(app)
        rights.select(Actor("user", "eve"))
        rights._place = next(n for n, c in enumerate(rights._columns) if c.features == ("audio-out",))
        await pilot.press("space")
        await pilot.pause()
        assert app.editor.text.endswith("eve allow display keyboard-sas audio-out\n")
        assert rights.row is not None
        assert rights.row.decisions["audio-out"].state is State.GRANTED
        await pilot.press("space")
        await pilot.pause()
        assert app.editor.text.endswith("eve disallow audio-out\n")
        rights._place = next(n for n, c in enumerate(rights._columns) if c.features == ("printer",))
        before = app.editor.text
        await pilot.press("space")
        await pilot.pause()
        assert app.editor.text == before
        assert app.words("said") == "printer stays kept from eve by line 5: %any% deny printer"


async def test_space_on_a_group_of_features_gives_all_of_them() -> None:
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(90, 24)) as pilot:
        await into_rights(pilot)
        table(app).select(Actor("user", "eve"))
        await pilot.press("space")
        await pilot.pause()
        row = next(row for row in matrix(app.editor.text) if row.actor == Actor("user", "eve"))
        assert {"display", "pointer"} <= row.features


async def test_a_change_that_touches_others_names_them_first() -> None:
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        rights = table(app)
        rights.select(Actor("any"))
        rights._place = next(n for n, c in enumerate(rights._columns) if c.features == ("audio-out",))
        await pilot.press("space")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog)
        assert "This changes " in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert app.editor.text == TEXT
        text = "[permissions]\n%owner% allow builtin\nbob allow keyboard\n"
    app = opener(Host(), text=text)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        table(app).select(Actor("any"))
        await pilot.press("space")
        await agreed(pilot)
        assert app.editor.text.endswith("%any% allow display\n")


async def test_somebody_else_can_be_shown() -> None:
    app = opener(Host(), text=TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await into_rights(pilot)
        await pilot.press("a", *"zoe", "enter")
        await pilot.pause()
        assert table(app).row is not None
        assert "▸ zoe" in screen_text(app)
        await pilot.press("a", *"two words", "enter")
        await pilot.pause()
        assert "cannot be an actor" in app.words("said")


@pytest.mark.covers("P19")
async def test_the_empty_text_is_said_to_shut_everybody_out_before_it_is_sent() -> None:
    """A text that says nothing leaves nobody any right, and the editor says so first."""
    app = opener(Host(), text=DEFAULT_TEXT)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = app.editor.query_one(PermissionsText)
        text.replace("", text.document.start, text.document.end)
        await pilot.press("ctrl+o")
        await pilot.pause()
        said = screen_text(app)
        assert "nobody can connect any more, the owner is shut out too" in " ".join(said.split())
        assert "owner loses" in said


@pytest.mark.covers("P22")
async def test_a_text_without_the_owner_is_doubted_in_the_editor() -> None:
    """A text that gives the owner nothing gives `W-OWNER-LOCKED-OUT`."""
    app = opener(Host(), text="[permissions]\nbob allow display\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "W-OWNER-LOCKED-OUT" in app.words("findings")


@pytest.mark.covers("P16")
async def test_a_feature_that_nobody_knows_is_sent_as_it_stands() -> None:
    """A newer server may know a feature that we do not: a warning, and the text goes on unchanged."""
    host = Host()
    app = opener(host, text="[permissions]\n%owner% allow builtin teleport\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "W-UNKNOWN-FEATURE" in app.words("findings")
        await pilot.press("ctrl+o")
        await agreed(pilot)
        assert host.texts == ["[permissions]\n%owner% allow builtin teleport\n"]


@pytest.mark.covers("P13")
async def test_imports_are_not_followed_and_leave_unchanged(tmp_path: Path) -> None:
    """An import in a text that goes through the API is not evaluated here, and is sent as it stands."""
    secret = tmp_path / "secret.perm"
    secret.write_text("[permissions]\nbob allow builtin\n")
    host, text = Host(), f"#import {secret}\n[permissions]\n%owner% allow builtin\n"
    app = opener(host, text=text)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "E-IMPORT-FORBIDDEN" in app.words("findings")
        assert "bob" not in screen_text(app).replace(str(secret), "")
        await pilot.press("ctrl+o")
        await agreed(pilot)
        await agreed(pilot)
        assert host.texts == [text]


async def test_both_differences_are_shown_for_each_text_that_is_replaced() -> None:
    host = Host()
    old = f"{DEFAULT_TEXT}bob allow display\n"
    editor = PermissionsEditor(
        [session("a"), session("b"), session("c")],
        DEFAULT_TEXT,
        None,
        host.send,
        bases=[(old, 2), (None, 1)],
    )
    app = Opener(editor)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press(*"eve allow display", "ctrl+o")
        await pilot.pause()
        said = screen_text(app)
        for text in ("2 sessions: ", "eve gains display", "bob loses display", "-bob allow display",
                     "+eve allow display", "1 session: what is in force is not known"):  # fmt: skip
            assert text in said


async def test_files_are_loaded_and_saved_for_their_owner_only(tmp_path: Path) -> None:
    app = opener(Host())
    path = tmp_path / "x.perm"
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+r", *["down"] * 8, "enter")
        await pilot.pause()
        assert "Save the text" in screen_text(app)
        await pilot.press(*["backspace"] * 20, *str(path), "enter")
        await pilot.pause()
        assert path.read_text() == DEFAULT_TEXT
        assert path.stat().st_mode & 0o777 == 0o600
        path.write_bytes(TEXT.replace("\n", "\r\n").encode())
        await pilot.press("ctrl+r", *["down"] * 7, "enter")
        await pilot.pause()
        await pilot.press(*str(path), "enter")
        await pilot.pause()
        assert app.editor.text == TEXT
        path.write_bytes(b"\xff")
        await pilot.press("ctrl+r", *["down"] * 7, "enter")
        await pilot.pause()
        await pilot.press(*str(path), "enter")
        await pilot.pause()
        assert "is not UTF-8 (byte 1)" in app.words("said")
        assert app.editor.text == TEXT


@pytest.mark.parametrize(
    ("before", "rest"),
    [
        ("bob al", "low"),
        ("bob d", ""),  # disallow or deny
        ("bob allow key", "board"),
        ("bob allow file-", ""),
        ("bob allow cl", "ip"),  # an alias of this file, and the beginning of two features
        ("%o", "wner%"),
        ("gr", "oup:team"),
        ("[perm", "issions]"),
        ("bob allow ", ""),
    ],
)
def test_words_are_completed_where_only_one_is_meant(before: str, rest: str) -> None:
    text = f"[groups]\nteam=bob\n[aliases]\nclip=clipboard-copy\n[permissions]\n{before}"
    assert completion(text, 5, before) == rest


async def test_the_right_arrow_takes_the_rest_of_a_word() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(*"bob allow disp", "right")
        await pilot.pause()
        assert app.editor.text.endswith("bob allow display")
