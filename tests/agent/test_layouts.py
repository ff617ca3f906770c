"""Display layouts as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.agent.layouts import Head, LayoutError, read_layout, size_of, write_layout


@pytest.mark.parametrize(
    ("text", "heads"),
    [
        ("1280x720", [(1280, 720, 0, 0)]),
        ("800x600+0+0,1024x768+800+0", [(800, 600, 0, 0), (1024, 768, 800, 0)]),
        ("800x600, 1024x768", [(800, 600, 0, 0), (1024, 768, 800, 0)]),
        ("800x600+0+0,1024x768-1024+0", [(800, 600, 1024, 0), (1024, 768, 0, 0)]),
        ("4096x2160", [(4096, 2160, 0, 0)]),
        ("640x480+10+20", [(640, 480, 0, 0)]),
    ],
)
def test_heads_stand_where_the_text_says(text: str, heads: list[tuple[int, int, int, int]]) -> None:
    assert read_layout(text) == tuple(Head(*each) for each in heads)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a size"),
        ("big", "is not a size"),
        ("800x600+1", "is not a size"),
        ("800x600;xterm", "is not a size"),
        ("639x480", "smaller than 640x480"),
        ("800x479", "smaller"),
        ("4097x2160", "larger than 4096x2160"),
        ("640x2161", "larger"),
        (",".join(["640x480"] * 5), "at most 4 monitors"),
        ("800x600+0+0,800x600+799+0", "overlap"),
    ],
)
def test_what_no_session_can_have_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        read_layout(text)


@given(st.lists(st.tuples(st.integers(640, 4096), st.integers(480, 2160)), min_size=1, max_size=4))
def test_a_layout_is_read_as_it_is_written(sizes: list[tuple[int, int]]) -> None:
    heads = read_layout(",".join(f"{width}x{height}" for width, height in sizes))
    assert read_layout(write_layout(heads)) == heads
    assert size_of(heads) == (sum(width for width, _ in sizes), max(height for _, height in sizes))
