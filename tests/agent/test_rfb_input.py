"""What of a client's input reaches a session: whole messages, as far as the person has the right."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.agent.rfb_input import InputFilter, NotUnderstoodInput

ALL = frozenset(("display", "keyboard", "mouse", "clipboard-paste"))
LOOK = frozenset(("display",))
HELLO = b"RFB 003.008\n" + b"\x01" + b"\x01"

FORMAT = b"\x00" + bytes(19)
ENCODINGS = struct.pack(">BxH3i", 2, 3, 7, 0, -239)
UPDATE = b"\x03\x00" + bytes(8)
KEY = b"\x04\x01\x00\x00" + b"\x00\x00\x00a"
MOUSE = b"\x05\x01" + bytes(4)
PASTE = struct.pack(">B3xi", 6, 5) + b"hello"
EXTENDED_PASTE = struct.pack(">B3xi", 6, -6) + b"\x00\x00\x00\x01zz"
CONTINUOUS = b"\x96\x01" + bytes(8)
FENCE = b"\xf8" + bytes(7) + b"\x03abc"
RESIZE = struct.pack(">BxHHBx", 251, 800, 600, 2) + bytes(32)
QEMU_KEY = b"\xff\x00" + bytes(10)

FOR_ALL = (FORMAT, ENCODINGS, UPDATE, CONTINUOUS, FENCE)
NEEDING = {
    KEY: {"keyboard"},
    QEMU_KEY: {"keyboard"},
    MOUSE: {"mouse"},
    PASTE: {"clipboard-paste"},
    EXTENDED_PASTE: {"clipboard-paste"},
    RESIZE: {"keyboard", "mouse"},
}


def passed(data: bytes, rights: frozenset[str], cuts: int = 1) -> bytes:
    """What gets through, with the input cut into pieces of some length."""
    allowed = InputFilter()
    pieces = (data[start : start + cuts] for start in range(0, len(data), cuts))
    return b"".join(allowed.feed(piece, rights) for piece in pieces)


@pytest.mark.parametrize("cuts", [1, 3, 7, 1000])
def test_who_has_all_rights_is_passed_unchanged(cuts: int) -> None:
    everything = HELLO + b"".join((*FOR_ALL, *NEEDING, *FOR_ALL))
    assert passed(everything, ALL, cuts) == everything


@pytest.mark.parametrize("cuts", [1, 3, 7, 1000])
@pytest.mark.parametrize("right", sorted(ALL))
def test_only_messages_that_a_person_may_send_pass(right: str, cuts: int) -> None:
    rights = LOOK | {right}
    sent = HELLO + b"".join(UPDATE + message for message in NEEDING) + b"".join(FOR_ALL)
    may = b"".join(UPDATE + (message if needs & rights else b"") for message, needs in NEEDING.items())
    assert passed(sent, rights, cuts) == HELLO + may + b"".join(FOR_ALL)


def test_rights_count_when_a_message_begins() -> None:
    allowed = InputFilter()
    allowed.feed(HELLO, LOOK)
    assert allowed.feed(PASTE[:9], ALL) == PASTE[:9]
    assert allowed.feed(PASTE[9:] + KEY, LOOK) == PASTE[9:]
    assert allowed.feed(KEY, ALL) == KEY


def test_the_oldest_version_has_no_choice_of_security() -> None:
    hello = b"RFB 003.003\n\x01"
    assert passed(hello + KEY + UPDATE, LOOK) == hello + UPDATE


def test_what_is_not_known_passes_for_those_who_may_do_all_and_ends_the_others() -> None:
    unknown = b"\x99\x00whatever"
    assert passed(HELLO + unknown + KEY, ALL) == HELLO + unknown + KEY
    with pytest.raises(NotUnderstoodInput):
        passed(HELLO + unknown, LOOK)
    allowed = InputFilter()
    allowed.feed(HELLO + unknown, ALL)
    with pytest.raises(NotUnderstoodInput):
        allowed.feed(b"x", LOOK)


def test_encodings_that_would_change_the_form_of_messages_are_not_agreed_on() -> None:
    asked = struct.pack(">BxH4i", 2, 4, 7, -316, -259, -223)
    assert passed(HELLO + asked, ALL) == HELLO + struct.pack(">BxH2i", 2, 2, 7, -223)


@given(
    st.lists(st.sampled_from([*FOR_ALL, *NEEDING]), max_size=20),
    st.integers(1, 30),
    st.sets(st.sampled_from(sorted(ALL))),
)
def test_the_cuts_of_the_input_make_no_difference(messages: list[bytes], cuts: int, rights: set[str]) -> None:
    sent = HELLO + b"".join(messages)
    assert passed(sent, frozenset(rights), cuts) == passed(sent, frozenset(rights), len(sent))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_input_breaks_it(data: bytes, cuts: int) -> None:
    try:
        result = passed(HELLO + data, LOOK, cuts)
    except NotUnderstoodInput:
        return
    assert len(result) <= len(HELLO + data)


def test_reading_takes_time_in_proportion_to_what_is_sent() -> None:
    """A full message of the smallest kind must not hold up the agent: no work for what is still to come."""

    def best_of_three(events: int) -> float:
        times = []
        for _ in range(3):
            client, data = InputFilter(), MOUSE * events
            client.feed(HELLO, ALL)
            begun = time.process_time()
            assert client.feed(data, ALL) == data
            times.append(time.process_time() - begun)
        return min(times)

    assert best_of_three(160_000) < 16 * best_of_three(20_000), "eight times the work, and room for chance"
