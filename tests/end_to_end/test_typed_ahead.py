"""Keys that arrive in one read, as over a slow line: each has its effect before the next one counts."""

import os
import re
from collections.abc import Iterator

import pytest

from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Terminal


@pytest.fixture(scope="module")
def console() -> Iterator[Terminal]:
    with Terminal([str(COMMANDS / "dcvtui"), "demo", "--seed", "7", "--still"], 120, 40) as terminal:
        terminal.wait_until(lambda text: "polling" in text or "live" in text, "a fresh fleet", 60)
        terminal.press("2")
        terminal.wait_for("● READY")
        terminal.press("1")
        yield terminal
        terminal.press("q")
        assert terminal.wait_exit(30) == 0


def send(console: Terminal, keys: str) -> None:
    """Everything in one write."""
    os.write(console._master, keys.encode())


def test_a_filter_and_the_key_behind_it(console: Terminal) -> None:
    send(console, "2/viz\rd")
    console.wait_for(re.compile(r"state +● READY"))
    console.wait_until(
        lambda text: "Sessions › viz" not in text and "viz-" in text, "details on the whole screen"
    )
    console.press("esc")
    console.wait_for("Sessions › viz ")
    send(console, "/owner:ana\rU2")
    console.wait_for(re.compile(r"Sessions › owner:ana +\d"))


def test_a_command_and_the_key_behind_it(console: Terminal) -> None:
    send(console, ":servers\rj:sessions\r")
    console.wait_until(
        lambda text: "Sessions ›" in text and text.rstrip().endswith("? help"),
        "the sessions, and no line open",
    )


def test_what_is_typed_behind_the_key_of_a_form_lands_in_its_first_field(console: Terminal) -> None:
    send(console, "nana\tcad-9")
    console.wait_for(re.compile(r"Owner +ana"))
    console.wait_for(re.compile(r"Name +cad-9"))
    console.press("esc")
    console.wait_gone("New session")
    # The form has a draft now, and begins in another field.
    send(console, ":servers\r2nb-c")
    console.wait_for(re.compile(r"Name +cad-9b-c"))
    assert re.search(r"Owner +ana\s", console.text)
    console.press("esc")
    console.wait_gone("New session")


def test_a_filter_given_up_and_the_key_behind_it(console: Terminal) -> None:
    send(console, "2/nobody\x1bn")
    console.wait_for("New session")
    console.press("esc")
    console.wait_gone("New session")
    assert "Sessions › nobody" not in console.text


def test_a_filter_and_the_screen_of_a_session_behind_it(console: Terminal) -> None:
    send(console, "2/viz-chloe\rs")
    console.wait_for("fit or 1:1")
    console.press("esc")
    console.wait_for("Sessions › viz-chloe ")


def test_an_answer_and_the_key_of_the_list_behind_it(console: Terminal) -> None:
    send(console, "2Dnp" + "bob")
    console.wait_for(re.compile("Permissions of "))
    console.wait_for(re.compile("%owner% allow builtin.*bob", re.DOTALL))
    console.press("esc")


def test_typed_ahead_confirms_nothing(console: Terminal) -> None:
    send(console, "2Dyyyy")
    console.wait_for("Delete 1 session?")
    console.settle(0.5)
    assert "Delete 1 session?" in console.text
    console.press("esc")
    console.wait_gone("Delete 1 session?")
