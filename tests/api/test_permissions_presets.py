"""Presets and the cells of the matrix: what they write, and what they leave alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.api.permissions import (
    DEFAULT_TEXT,
    FEATURES,
    PRESETS,
    Actor,
    State,
    apply_preset,
    evaluate,
    has_errors,
    matrix,
    parse,
    preset_result,
    toggle,
)
from tests.api.permissions_examples import ALL, NESTED_GROUPS, features
from tests.api.test_permissions_properties import ANYTHING, TEXTS

SEE = features("display pointer")
STEER = SEE | features("mouse keyboard audio-out")


def test_the_default_is_the_servers_own() -> None:
    assert DEFAULT_TEXT == "[permissions]\n%owner% allow builtin\n"
    assert not parse(DEFAULT_TEXT).diagnostics


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full-control", ALL),
        ("collaborate", STEER | features("clipboard-copy clipboard-paste")),
        ("control-without-data", STEER),
        ("view-only", SEE),
        ("nothing-more", frozenset()),
    ],
)
@pytest.mark.parametrize("actor", ["bob", "user:bob", "CORP\\bob"])
def test_levels_give_exactly_what_they_say(name: str, expected: frozenset[str], actor: str) -> None:
    user = actor.removeprefix("user:")
    text = apply_preset(f"{DEFAULT_TEXT}{user} allow usb\n{user} disallow display\n", name, actor)
    assert evaluate(text, "ann", user) == expected
    assert evaluate(text, "ann", "ann") == ALL
    assert not has_errors(parse(text))


def test_levels_leave_a_deny_and_other_people_alone() -> None:
    text = "; ours\n[permissions]\nbob deny usb\nbob allow usb mouse\ncid allow mouse\n\n[groups]\ng=bob\n"
    assert apply_preset(text, "view-only", "bob") == (
        "; ours\n[permissions]\nbob deny usb\ncid allow mouse\nbob allow display pointer\n\n[groups]\ng=bob\n"
    )
    assert (
        apply_preset(text, "nothing-more", "bob")
        == "; ours\n[permissions]\ncid allow mouse\n\n[groups]\ng=bob\n"
    )


def test_presets_for_everybody() -> None:
    text = apply_preset(DEFAULT_TEXT, "view-only-everybody")
    assert evaluate(text, "ann", "cid") == SEE
    text = apply_preset(apply_preset(text, "no-data-leaves"), "no-devices")
    gone = features("file-download printer clipboard-copy screenshot usb extensions-client")
    gone |= features("smartcard webcam audio-in gamepad webauthn-redirection")
    assert evaluate(text, "ann", "ann") == ALL - gone
    assert apply_preset(text, "no-devices") == text


def test_supervision() -> None:
    text = apply_preset(DEFAULT_TEXT, "guest-may-stay", "bob")
    assert evaluate(text, "ann", "bob") == {"unsupervised-access"}
    assert evaluate(apply_preset(text, "supervised-guest", "bob"), "ann", "bob") == frozenset()


def test_presets_that_replace_the_whole_text() -> None:
    assert apply_preset("[permissions]\nbob allow usb", "owner-only") == DEFAULT_TEXT
    assert apply_preset(DEFAULT_TEXT, "revoke-all") == ""


@pytest.mark.parametrize("actor", ["bob", "group:leads", "osgroup:cad", "%any%", "%owner%"])
def test_every_preset_goes_with_every_actor(actor: str) -> None:
    for name in PRESETS:
        assert not has_errors(parse(apply_preset(NESTED_GROUPS, name, actor)))


def test_line_ends_marks_and_a_missing_last_end_are_kept() -> None:
    text = "\ufeff[permissions]\r\n%owner% allow builtin"
    assert apply_preset(text, "view-only", "bob") == (
        "\ufeff[permissions]\r\n%owner% allow builtin\r\nbob allow display pointer\r\n"
    )
    assert apply_preset("; x", "view-only", "bob") == "; x\n[permissions]\nbob allow display pointer\n"
    assert apply_preset("[permissions]\n; last\n\n[groups]\n", "view-only", "bob") == (
        "[permissions]\n; last\nbob allow display pointer\n\n[groups]\n"
    )


@pytest.mark.parametrize("actor", ["Bob Smith", "CORP\\Bob Smith", "user:Bob Smith"])
def test_a_name_with_blanks_goes_in_through_a_group(actor: str) -> None:
    user = actor.removeprefix("user:")
    text = apply_preset(DEFAULT_TEXT, "collaborate", actor)
    assert evaluate(text, "ann", user) > SEE
    again = apply_preset(text, "view-only", actor)
    assert evaluate(again, "ann", user) == SEE
    assert again.count("Bob Smith") == 1
    other = apply_preset(again, "view-only", "Bob-Smith Smith")
    assert not has_errors(parse(other))
    assert evaluate(other, "ann", "Bob-Smith Smith") == SEE


@pytest.mark.parametrize("actor", ["", " ", "a,b", "a=b", "%user%", "bob\nallow", "user:", None])
def test_what_no_statement_can_name_is_refused(actor: str | None) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        apply_preset(DEFAULT_TEXT, "view-only", actor)
    with pytest.raises(ValueError, match="no preset"):
        apply_preset(DEFAULT_TEXT, "viewonly", actor)


def test_a_result_tells_what_a_deny_prevents_and_what_comes_from_elsewhere() -> None:
    text = "[groups]\ng=bob\n[permissions]\n%any% deny pointer\n%any% allow touch\ngroup:g allow usb\n"
    result = preset_result(text, "view-only", "bob", owner="ann")
    assert result.text == f"{text}bob allow display pointer\n"
    assert {feature: said and said.line for feature, said in result.prevented.items()} == {"pointer": 4}
    assert result.besides == {"usb", "touch"}
    assert not preset_result(DEFAULT_TEXT, "nothing-more", "bob").prevented
    assert not preset_result(DEFAULT_TEXT, "no-devices").prevented


# ------------------------------------------------------------------ switching a cell


@pytest.mark.covers("P25")
def test_a_toggle_is_added_to_the_last_statement_or_on_a_line_of_its_own() -> None:
    """A right that is switched in the matrix becomes a statement that gives just that cell."""
    bob = Actor("user", "bob")
    once = toggle(DEFAULT_TEXT, bob, "usb").text
    assert once == f"{DEFAULT_TEXT}bob allow usb\n"
    twice = toggle(once, bob, "mouse").text
    assert twice == f"{DEFAULT_TEXT}bob allow usb mouse\n"
    assert toggle(twice, bob, "usb").text == f"{twice}bob disallow usb\n"
    assert toggle(DEFAULT_TEXT, Actor("any"), "usb").text == f"{DEFAULT_TEXT}%any% allow usb\n"


@pytest.mark.covers("P25")
@given(
    TEXTS,
    st.sampled_from([Actor("user", "bob"), Actor("owner"), Actor("any"), Actor("osgroup", "o1")]),
    st.sampled_from(FEATURES),
    st.sampled_from(["ann", "bob", None]),
)
def test_a_toggled_cell_is_the_other_way_round_or_something_prevents_it(
    text: str, actor: Actor, feature: str, owner: str | None
) -> None:
    """A cell that is switched is the other way round afterwards, or the `deny` that prevents it is named."""

    def state(content: str) -> State:
        rows = {row.actor: row for row in matrix(content, owner, [actor])}
        return rows.get(actor, rows[Actor("owner")]).decisions[feature].state

    before, result = state(text), toggle(text, actor, feature, owner)
    if before is State.LOCKED:
        assert result.text == text
        assert result.prevented[feature]
    elif not result.prevented:
        assert state(result.text) is (State.REFUSED if before is State.GRANTED else State.GRANTED)
    else:
        assert feature == "keyboard-sas"


@pytest.mark.covers("P25")
def test_a_toggle_of_nonsense_is_refused() -> None:
    """A cell that no statement can express is refused, not written wrongly."""
    with pytest.raises(ValueError, match="no feature"):
        toggle(DEFAULT_TEXT, Actor("any"), "holodeck")


@given(ANYTHING, st.sampled_from(sorted(PRESETS)))
def test_presets_can_be_applied_to_any_text(text: str, name: str) -> None:
    changed = apply_preset(text, name, "bob")
    preset_result(text, name, "bob smith")
    preset = PRESETS[name]
    if preset.statement and not preset.replaces:
        statement = f"bob {preset.statement}" if preset.for_actor else preset.statement
        assert statement in [str(effect.statement) for effect in parse(changed).effects]
