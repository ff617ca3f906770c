"""Properties of the registry: whatever happens in whatever order, some things are always true."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from broker_stub.broker.events import Page
from tests.broker.random_walk import ALLOWED, Walk

CHANCES = st.randoms(use_true_random=False)
QUICK = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@QUICK
@given(chance=CHANCES, steps=st.integers(1, 60))
def test_no_limit_is_exceeded_and_no_promise_forgotten_on_obedient_hosts(
    chance: random.Random, steps: int
) -> None:
    """Counts are those of the sessions, limits hold, and every accepted session is listed until it ends."""
    Walk(chance, obedient=True).run(steps)


@QUICK
@given(chance=CHANCES, steps=st.integers(1, 60))
def test_states_stay_in_order_whatever_hosts_do(chance: random.Random, steps: int) -> None:
    """No session is on two servers or takes a step that its life does not have, and deletions are kept."""
    Walk(chance, obedient=False).run(steps)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("obedient", [True, False])
def test_long_walks(seed: int, obedient: bool) -> None:
    """The same on longer ways, which lead to places that short ones do not."""
    Walk(random.Random(seed), obedient=obedient).run(250)  # noqa: S311  a test that repeats itself


def test_every_step_of_life_is_taken_by_some_walk() -> None:
    """The walks get about: each step that is allowed is taken, so that the check means something."""
    taken: set[tuple[str, str]] = set()
    wanted = {(former, now) for former, nexts in ALLOWED.items() for now in nexts}
    for seed in range(400):
        walk = Walk(random.Random(seed), obedient=False)  # noqa: S311  a test that repeats itself
        scene, before = walk.scene, dict(walk.scene._seen)
        for _ in range(150):
            walk.rng.choice(walk.steps)()
            for key in before.keys() | scene._seen.keys():
                taken.add((before.get(key, "nothing"), scene._seen.get(key, "nothing")))
            before = dict(scene._seen)
        if wanted <= taken:
            break
    assert wanted - taken == set()


class Reader:
    """Somebody who reads all pages of a list, one by one, while things change.

    Args:
        read: Cuts a page.
        key_of: What tells entities apart.
        limit: How many a page holds.
    """

    def __init__(
        self,
        read: Callable[[int, tuple[str, ...] | None], Page],
        key_of: Callable[[dict[str, Any]], str],
        limit: int,
    ) -> None:
        self._key_of = key_of
        self._read = read
        self._limit = limit
        self._after: tuple[str, ...] | None = None
        self.is_done = False
        self.met: list[str] = []

    def next_page(self) -> None:
        """Read one more page."""
        page: Page = self._read(self._limit, self._after)
        assert len(page.parts) <= self._limit
        assert len(page.parts) == self._limit or page.next_key is None
        self.met += [self._key_of(json.loads(part)) for part in page.parts]
        self._after, self.is_done = page.next_key, page.next_key is None


@settings(parent=QUICK, phases=(Phase.generate,))
@given(
    chance=CHANCES,
    limit=st.integers(1, 7),
    is_of_servers=st.booleans(),
    owner=st.sampled_from([None, None, "alice"]),
    between=st.lists(st.integers(0, 3), max_size=30),
)
def test_pages_are_a_partition_while_the_fleet_changes(
    chance: random.Random, limit: int, is_of_servers: bool, owner: str | None, between: list[int]
) -> None:
    """Whatever comes and goes between pages, what is there all the time is met exactly once, in order."""
    walk = Walk(chance, obedient=False)
    walk.run(60)
    filters = [] if owner is None else [("owner", owner)]

    def read(limit: int, after: tuple[str, ...] | None) -> Page:
        if is_of_servers:
            return walk.scene.registry.describe_servers(None, limit, after)
        return walk.scene.registry.describe_sessions(None, filters, limit, after)

    def key_of(entity: dict[str, Any]) -> str:
        server_id = entity.get("Server", {}).get("Id", "")
        made = walk.scene.registry._fleet.sessions.get(entity["Id"])
        if made is not None and (made.server_id or "") == server_id:
            return str(entity["Id"])  # wherever it goes
        return f"{server_id}/{entity['Id']} {entity.get('CreationTime')}"

    def there() -> list[str]:
        return [key_of(json.loads(part)) for part in read(1000, None).parts]

    reader = Reader(read, key_of, limit)
    staying = there()
    for number in between:
        reader.next_page()
        if reader.is_done:
            break
        for _ in range(number):
            walk.step()
            staying = [key for key in staying if key in set(there())]
    while not reader.is_done:
        reader.next_page()
    assert len(set(reader.met)) == len(reader.met), "something was met twice"
    assert [key for key in reader.met if key in set(staying)] == staying
