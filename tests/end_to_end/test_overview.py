"""The whole fleet on one page, and the details of a server, in the installed program on a real broker."""

from collections.abc import Iterator

import pytest

from tests.pseudo_terminal import Terminal
from tests.take_screenshots import DCVTUI, demo

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def way() -> Iterator[dict[str, str]]:
    with demo() as environment:
        yield environment


def test_an_operator_sees_by_one_key_how_much_room_is_left(way: dict[str, str]) -> None:
    with Terminal([str(DCVTUI)], 120, 40, environment=way) as terminal:
        terminal.wait_until(lambda text: "live" in text and "ready" in text, "a fresh fleet", 90)
        terminal.press("0")
        text = terminal.wait_for("capacity", 60)
        assert "virtual sessions now" in text
        assert "READY" in text
        assert "━" in text
        terminal.press("esc", "3")
        text = terminal.wait_for("virtual ", 60)
        assert "memory" in text
