"""Findings in permissions files: each code where its cause is, warnings about the rights that come out."""

import pytest

from dcvtui.api.permissions import (
    Context,
    Level,
    evaluate,
    has_errors,
    parse,
)
from tests.api.permissions_examples import (
    ALL,
    OS_GROUP,
    STOCK,
    codes,
    found,
)

# ------------------------------------------------------------------ diagnostics one by one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bob allow display\n[permissions]", "1:1 E-OUTSIDE-SECTION"),
        ("[Permissions]\nx", "1:1 E-SECTION"),
        ("[permissions] ; x", "1:1 E-SECTION"),
        ("[permissions", "1:1 E-SECTION"),
        ("[groups]\n  bob", "2:3 E-DEFINITION"),
        ("[aliases]\nclip clipboard-copy", "2:1 E-DEFINITION"),
        ("[groups]\na b=bob", "2:1 E-NAME"),
        ("[groups]\n=bob", "2:1 E-NAME"),
        ("[groups]\na:b=bob", "2:1 E-NAME"),
        ("[groups]\na=group:x y", "2:3 E-NAME"),
        ("[groups]\na=group:", "2:3 E-NAME"),
        ("[aliases]\nio=mouse keyboard", "2:4 E-NAME"),
        ("[groups]\na=", "2:3 E-EMPTY-MEMBER"),
        ("[groups]\na=bob,,cid", "2:7 E-EMPTY-MEMBER"),
        ("[groups]\na= , bob", "2:3 E-EMPTY-MEMBER"),
        ("[groups]\na=user:", "2:3 E-EMPTY-MEMBER"),
        ("[groups]\na=bob, %owner%", "2:8 E-MEMBER"),
        ("[groups]\na=%any%", "2:3 E-MEMBER"),
        ("[groups]\na=b=c", "2:3 E-MEMBER"),
        ("[groups]\na=group:b", "2:3 E-UNKNOWN-GROUP"),
        ("[groups]\na=group:a", "2:3 E-GROUP-CYCLE"),
        ("[aliases]\nbuiltin=usb", "2:1 E-ALIAS-SHADOWS"),
        ("[aliases]\na=usb\na=usb", "3:1 W-REDEFINED"),
        ("[groups]\na=bob\na=cid", "3:1 W-REDEFINED"),
        ("[aliases]\nio=mouse, keybord", "2:11 W-UNKNOWN-FEATURE"),
        ("[permissions]\n  bob allow", "2:3 E-STATEMENT"),
        ("[permissions]\nbob Allow usb", "2:5 E-RULE"),
        ("[permissions]\n%Owner% allow usb", "2:1 E-ACTOR"),
        ("[permissions]\n%% allow usb", "2:1 E-ACTOR"),
        ("[permissions]\nuser: allow usb", "2:1 E-ACTOR"),
        ("[permissions]\nbob,cid allow usb", "2:1 E-ACTOR"),
        ("[permissions]\nbob allow usb,mouse", "2:14 W-COMMA-IN-STATEMENT"),
        ("[permissions]\nbob allow usb, mouse", "2:14 W-COMMA-IN-STATEMENT"),
        ("; \ud800", "1:3 E-ENCODING"),
    ],
)
def test_each_code_is_found_where_its_cause_is(text: str, expected: str) -> None:
    file = parse(f"{text}\n{STOCK}")
    assert found(file) == [expected]
    (finding,) = file.diagnostics
    assert finding.level is (
        Level.WARNING if finding.code in ("W-REDEFINED", "W-UNKNOWN-FEATURE") else Level.ERROR
    )
    assert has_errors(file) is (finding.level is Level.ERROR)
    assert finding.text


def test_an_error_line_has_no_effect_and_the_last_definition_counts() -> None:
    text = "[permissions]\nbob allow usb,mouse\nbob permit usb\ngroup:g allow mouse\n[groups]\ng=cid\ng=bob"
    assert evaluate(text, "ann", "bob") == {"mouse"}
    assert evaluate(text, "ann", "cid") == frozenset()


def test_bytes_that_are_not_utf8_are_found_at_the_first_place() -> None:
    file = parse("\ufeff; é\n; €".encode() + b"\xff\xfe\n" + STOCK.encode() + b"\xff")
    assert found(file)[0] == "2:4 E-ENCODING"
    assert has_errors(file)
    assert "\ufffd" in file.text
    assert evaluate(file, "ann", "ann") == ALL


@pytest.mark.covers("P29")
def test_warnings_that_depend_on_session_and_server() -> None:
    """A feature that is newer than the version of the server is pointed out; so is what its system lacks."""
    text = (
        STOCK
        + "osgroup:cad allow display\nbob allow display webcam unsupervised-access\n[groups]\ng=osgroup:x\n"
    )
    assert found(parse(text)) == ["4:26 W-UNSUPERVISED"]
    old = parse(text, context=Context(server_version="2020.2-9662"))
    assert found(old) == ["4:19 W-VERSION", "4:26 W-UNSUPERVISED"]
    assert {one.level for one in old.diagnostics} == {Level.INFO}
    assert "W-VERSION" not in codes(text, context=Context(server_version="2021.0"))
    windows = parse(text, context=Context(windows=True))
    assert [one for one in found(windows) if "OSGROUP" in one] == [
        "3:1 W-OSGROUP-WINDOWS",
        "6:3 W-OSGROUP-WINDOWS",
    ]
    assert found(parse(STOCK, context=Context(has_storage_root=False))) == ["2:1 W-STORAGE"]
    assert found(parse(STOCK, context=Context(has_storage_root=True))) == []


def test_w_dead_is_not_said_of_what_may_decide_for_an_os_group() -> None:
    assert found(parse(OS_GROUP)) == []
    assert found(parse(STOCK + "dan disallow pointer\n")) == ["3:1 W-DEAD"]
    assert found(parse(STOCK + "%any% deny usb\nbob deny usb\n")) == ["4:1 W-DEAD"]


@pytest.mark.covers("P22")
def test_a_text_without_the_owner() -> None:
    """A text that leaves the owner of the session without rights gives a warning."""
    assert "W-OWNER-LOCKED-OUT" in codes("[permissions]\nbob allow display")
    assert "W-OWNER-LOCKED-OUT" not in codes("[permissions]\nbob allow display", context=Context(owner="bob"))
    assert found(parse(STOCK + "%any% deny display")) == ["2:1 W-BLIND-CONTROL", "3:1 W-OWNER-LOCKED-OUT"]


@pytest.mark.covers("P23")
def test_no_screenshot_but_clipboard() -> None:
    """A text that forbids screenshots and allows copying to the clipboard gives a warning."""
    assert found(parse(STOCK + "%any% deny screenshot")) == ["3:1 W-SCREENSHOT-LEAK"]
    assert found(parse(STOCK + "%any% deny screenshot clipboard-copy")) == []
    assert "W-SCREENSHOT-LEAK" not in codes(STOCK + "bob allow display clipboard-copy")
