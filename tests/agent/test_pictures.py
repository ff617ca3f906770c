"""The sizes of screenshots."""

from hypothesis import given
from hypothesis import strategies as some

from broker_stub.agent.pictures import fit

SIDES = some.integers(1, 8000)
BOUNDS = some.one_of(some.none(), some.integers(1, 10_000))


@given(SIDES, SIDES, BOUNDS, BOUNDS)
def test_a_picture_fits_its_bounds_and_the_display_and_is_never_empty(
    width: int, height: int, max_width: int | None, max_height: int | None
) -> None:
    new_width, new_height = fit(width, height, max_width, max_height)
    assert 1 <= new_width <= min(width, max_width or width)
    assert 1 <= new_height <= min(height, max_height or height)


@given(SIDES, SIDES, BOUNDS, BOUNDS)
def test_proportions_are_kept_within_a_pixel(
    width: int, height: int, max_width: int | None, max_height: int | None
) -> None:
    new_width, new_height = fit(width, height, max_width, max_height)
    scale = min(1.0, (max_width or width) / width, (max_height or height) / height)
    assert abs(new_width - width * scale) <= 1
    assert abs(new_height - height * scale) <= 1


def test_without_bounds_nothing_is_scaled() -> None:
    assert fit(1280, 720, None, None) == (1280, 720)
