"""The limit of requests per caller."""

from broker_stub.broker.throttle import Throttle


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_caller_may_use_a_second_at_once_and_then_waits() -> None:
    clock = Clock()
    throttle = Throttle(5, clock)
    assert [throttle.admit("a") for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    clock.time = 0.2
    assert [throttle.admit("a") for _ in range(2)] == [0, 1]
    clock.time = 100
    assert [throttle.admit("a") for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_callers_do_not_disturb_each_other() -> None:
    throttle = Throttle(1, Clock())
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a")] == [0, 0, 1]


def test_refused_requests_do_not_prolong_the_wait() -> None:
    clock = Clock()
    throttle = Throttle(1, clock)
    throttle.admit("a")
    for _ in range(100):
        throttle.admit("a")
    clock.time = 1
    assert throttle.admit("a") == 0


def test_memory_is_bounded_and_quiet_callers_are_forgotten_first() -> None:
    clock = Clock()
    throttle = Throttle(1, clock)
    for number in range(10_000):
        throttle.admit(str(number))
    clock.time = 10
    throttle.admit("busy")
    for number in range(20_000):
        throttle.admit(f"flood {number}")
        assert len(throttle._buckets) <= 10_000
