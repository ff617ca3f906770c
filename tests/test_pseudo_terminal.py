"""The terminal of the tests itself: sizes, keys, waiting, the end of a program."""

import pytest

from tests.pseudo_terminal import ScreenTimeout, Terminal, key_bytes


def test_the_program_sees_the_size_and_a_change_of_it() -> None:
    script = 'trap "stty size" WINCH; stty size; while :; do read -r x || exit; [ "$x" = q ] && exit 3; done'
    with Terminal(["bash", "-c", script], 70, 12) as terminal:
        terminal.wait_for("12 70")
        terminal.resize(100, 30)
        terminal.press("enter")
        terminal.wait_for("30 100")
        terminal.type("q\r")
        assert terminal.wait_exit() == 3


def test_waiting_in_vain_shows_the_screen() -> None:
    with Terminal(["bash", "-c", "echo hello; read x"], 40, 5) as terminal:
        with pytest.raises(ScreenTimeout, match="hello"):
            terminal.wait_for("goodbye", limit_s=0.5)


def test_keys_are_what_terminals_send() -> None:
    assert key_bytes("ctrl+o") == b"\x0f"
    assert key_bytes("down") == b"\x1b[B"
    assert key_bytes("n") == b"n"
