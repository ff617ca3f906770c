"""The broker's account of an agent's commands, told the time; and results in pieces."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.channel import CHUNK_BYTES, MAX_RESULT_BYTES, NotUnderstood, ResultTooLarge
from broker_stub.channel_commands import (
    CommandBook,
    Expire,
    GiveUpChannel,
    ResultAssembly,
    Send,
    SendCancel,
    chunks_of,
)


def add(book: CommandBook, *ids: str, kind: str = "deleteSession", deadline: float = 60.0) -> None:
    for command_id in ids:
        book.add(command_id, kind, {"sessionId": command_id}, deadline=deadline)


def sent(actions: list[Any]) -> list[str]:
    return [action.command_id for action in actions if isinstance(action, Send)]


def connected(*ids: str) -> CommandBook:
    book = CommandBook()
    add(book, *ids)
    book.connect({})
    return book


def test_a_command_is_sent_once_and_carries_the_time_that_is_left() -> None:
    book = connected("a")
    (action,) = book.due_actions(20.0)
    assert action == Send("a", "deleteSession", 0, 40_000, {"sessionId": "a"})
    assert book.due_actions(21.0) == []
    assert book.next_wakeup() == 25.0


def test_nothing_is_sent_before_the_hello() -> None:
    book = CommandBook()
    add(book, "a")
    assert book.due_actions(0.0) == []
    assert book.next_wakeup() == 60.0


def test_without_an_acknowledgement_it_is_sent_three_times_and_then_the_channel_is_given_up() -> None:
    book = connected("a")
    log = [(time, book.due_actions(time)) for time in (0.0, 4.9, 5.0, 10.0, 15.0)]
    assert [(time, sent(actions)) for time, actions in log] == [
        (0.0, ["a"]),
        (4.9, []),
        (5.0, ["a"]),
        (10.0, ["a"]),
        (15.0, []),
    ]
    assert log[-1][1] == [GiveUpChannel()]
    assert book.due_actions(16.0) == []
    assert "a" in book


def test_an_acknowledged_command_is_not_sent_again() -> None:
    book = connected("a")
    book.due_actions(0.0)
    book.acknowledge("a")
    assert book.due_actions(30.0) == []
    assert book.next_wakeup() == 60.0


def test_at_most_four_are_in_flight_and_the_next_goes_when_one_is_finished() -> None:
    book = connected("a", "b", "c", "d", "e", "f")
    assert sent(book.due_actions(0.0)) == ["a", "b", "c", "d"]
    book.acknowledge("b")
    assert sent(book.due_actions(1.0)) == []
    assert book.finish("b")
    assert sent(book.due_actions(1.0)) == ["e"]


def test_at_most_two_screenshots_are_in_flight_and_do_not_hold_up_others() -> None:
    book = CommandBook()
    add(book, "p1", "p2", "p3", kind="getSessionScreenshot")
    add(book, "a")
    book.connect({})
    assert sent(book.due_actions(0.0)) == ["p1", "p2", "a"]
    book.finish("p1")
    assert sent(book.due_actions(0.0)) == ["p3"]


def test_at_the_deadline_the_agent_is_told_and_so_is_the_broker() -> None:
    book = connected("a")
    book.due_actions(0.0)
    book.acknowledge("a")
    assert book.due_actions(60.0) == [Expire("a"), SendCancel("a", "deleteSession")]
    assert len(book) == 0
    assert book.next_wakeup() is None


def test_a_command_that_was_never_sent_expires_without_a_word_to_the_agent() -> None:
    book = CommandBook()
    add(book, "a")
    assert book.due_actions(60.0) == [Expire("a")]


def test_a_cancelled_command_is_taken_back_only_if_it_was_sent() -> None:
    book = connected("a", "b", "c", "d", "e")
    book.due_actions(0.0)
    book.cancel("a")
    book.cancel("e")
    book.cancel("unknown")
    assert book.due_actions(1.0) == [SendCancel("a", "deleteSession")]


def test_a_busy_agent_gets_the_command_again_later_and_that_counts_as_no_resend() -> None:
    book = connected("a")
    for round_start in (0.0, 2.0, 4.0, 6.0):
        assert sent(book.due_actions(round_start)) == ["a"]
        book.postpone("a", round_start + 2.0)
        assert book.due_actions(round_start + 1.9) == []
        assert book.next_wakeup() == round_start + 2.0


def test_after_a_new_hello_only_what_the_agent_does_not_know_is_sent_again() -> None:
    book = connected("a", "b", "c")
    book.due_actions(0.0)
    book.acknowledge("a")
    book.disconnect()
    assert book.due_actions(5.0) == []
    book.connect({"a": "accepted", "b": "finished"})
    assert sent(book.due_actions(6.0)) == ["c"]


def test_an_order_that_is_given_again_under_its_id_gets_a_new_deadline() -> None:
    book = connected()
    add(book, "a", deadline=10.0)
    add(book, "a", deadline=100.0)
    assert sent(book.due_actions(20.0)) == ["a"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "ack", "finish", "cancel", "busy", "connect", "disconnect", "wait"]),
            st.integers(0, 9),
        ),
        max_size=60,
    )
)
def test_limits_hold_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Whatever comes in which order: never more than four in flight, never a finished command again."""
    book, now, flying, done = CommandBook(), 0.0, set[str](), set[str]()
    for step, number in steps:
        command_id = str(number)
        match step:
            case "add":
                if command_id not in done:
                    kind = "getSessionScreenshot" if number % 2 else "createSession"
                    book.add(command_id, kind, {}, deadline=now + 20)
            case "ack":
                book.acknowledge(command_id)
            case "finish" | "cancel":
                book.finish(command_id) if step == "finish" else book.cancel(command_id)
                flying.discard(command_id)
                done.add(command_id)
            case "busy":
                book.postpone(command_id, now + 1)
                flying.discard(command_id)
            case "connect":
                book.connect({})
                flying.clear()
            case "disconnect":
                book.disconnect()
                flying.clear()
            case "wait":
                now += number
        for action in book.due_actions(now):
            if isinstance(action, Send):
                assert action.command_id not in done
                assert action.deadline_ms > 0
                flying.add(action.command_id)
            elif isinstance(action, Expire):
                flying.discard(action.command_id)
                done.add(action.command_id)
            elif isinstance(action, GiveUpChannel):
                flying.clear()
        assert len(flying) <= 4
        wakeup = book.next_wakeup()
        assert wakeup is None or wakeup > now or not len(book)


# ------------------------------------------------------------------ results in pieces


def assembled(data: Any, chunk_bytes: int = CHUNK_BYTES) -> Any:
    pieces = chunks_of(data, chunk_bytes)
    assembly = ResultAssembly({"commandId": "c", "chunks": len(pieces)})
    results = [assembly.add(index, piece) for index, piece in enumerate(pieces)]
    assert results[:-1] == [None] * (len(pieces) - 1)
    return results[-1]


@given(text=st.text(max_size=300), chunk_bytes=st.integers(4, 64))
def test_pieces_put_together_are_what_was_cut(text: str, chunk_bytes: int) -> None:
    data = {"images": [{"data": text}]}
    assert assembled(data, chunk_bytes) == data
    assert all(len(piece) <= chunk_bytes for piece in chunks_of(data, chunk_bytes))


def test_a_large_picture_fits_in_pieces_of_the_allowed_size() -> None:
    data = {"images": [{"data": "x" * (2 * CHUNK_BYTES)}]}
    assert len(chunks_of(data)) == 3
    assert assembled(data) == data


def test_too_much_is_refused_on_both_sides() -> None:
    with pytest.raises(ResultTooLarge):
        chunks_of({"images": "x" * MAX_RESULT_BYTES})
    assembly = ResultAssembly({"commandId": "c", "chunks": 256})
    piece = "A" * CHUNK_BYTES
    with pytest.raises(ResultTooLarge):
        for index in range(256):
            assembly.add(index, piece)


@pytest.mark.parametrize(
    "pieces",
    [
        [(1, "e30=")],
        [(0, "e30="), (0, "e30=")],
        [(0, "not Base64!")],
        [(0, "e30"), (1, "=")],
        [(0, "W10="), (1, "")],
    ],
)
def test_pieces_that_do_not_fit_are_not_understood(pieces: list[tuple[int, str]]) -> None:
    assembly = ResultAssembly({"commandId": "c", "chunks": 2})
    with pytest.raises(NotUnderstood):
        for index, piece in pieces:
            assembly.add(index, piece)
