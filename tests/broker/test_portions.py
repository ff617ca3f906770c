"""What concerns a whole fleet at the same moment is done in portions: others get their turn in between."""

from broker_stub.broker.creation import PLACED_AT_ONCE
from broker_stub.broker.events import ClockAdvanced
from broker_stub.broker.registry import LOOKED_AT_ONCE
from tests.broker.scene import Scene, server_block, tag_list


def _lost(scene: Scene) -> int:
    return sum(not scene.registry.server(f"s{number}").is_reachable for number in range(60))  # type: ignore[union-attr]  # they are there


def test_a_fleet_that_is_lost_at_once_is_noticed_in_portions() -> None:
    scene = Scene()
    for number in range(60):
        scene.hello(f"s{number}")
    for number in range(60):
        scene.drop(f"s{number}")
    due = scene.registry.next_wakeup(scene.now)
    assert due
    scene.now = due
    scene.handle(ClockAdvanced())
    assert 0 < _lost(scene) <= LOOKED_AT_ONCE
    while (due := scene.registry.next_wakeup(scene.now)) and due <= scene.now:  # the rest does not wait
        scene.handle(ClockAdvanced())
    assert _lost(scene) == 60
    scene.check()


def test_a_long_queue_is_placed_in_portions_first_come_first_served() -> None:
    scene = Scene()
    waiting = [
        scene.create(owner=f"user{number}", enqueue_request=True) for number in range(PLACED_AT_ONCE + 30)
    ]
    scene.hello("s1", server_block(tags=tag_list(dcv_max_virtual_sessions="500")))
    placed = [bool(scene.record(one).server_id) for one in waiting]
    assert placed == [True] * PLACED_AT_ONCE + [False] * 30
    assert scene.registry.next_wakeup(scene.now) == scene.now
    scene.handle(ClockAdvanced())
    assert all(scene.record(one).server_id for one in waiting)
    due = scene.registry.next_wakeup(scene.now)
    assert due
    assert due > scene.now
    scene.check()
