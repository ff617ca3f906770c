"""`NextToken`: the parts that need no broker."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.broker.page_tokens import PageTokens

PAGES = PageTokens(b"s" * 32)
KEY = ("2026-03-30T15:47:06.822Z", "3f0c6b1e-1111-4222-8333-444455556666", "srv=1")


@given(st.lists(st.text(), min_size=1, max_size=3).map(tuple))
def test_what_is_issued_is_read_back(key: tuple[str, ...]) -> None:
    token = PAGES.issue("describeSessions", key)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert len(token) > 1024 or PAGES.read("describeSessions", token) == key


def test_another_process_with_the_same_secret_reads_it() -> None:
    assert PageTokens(b"s" * 32).read("describeServers", PAGES.issue("describeServers", KEY)) == KEY


def test_other_operations_and_brokers_do_not_read_it() -> None:
    token = PAGES.issue("describeServers", KEY)
    assert PAGES.read("describeSessions", token) is None
    assert PageTokens(b"t" * 32).read("describeServers", token) is None


def test_every_change_is_noticed() -> None:
    token = PAGES.issue("describeSessions", KEY)
    for at in range(len(token)):
        assert PAGES.read("describeSessions", token[:at]) is None
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert PAGES.read("describeSessions", changed) is None


@pytest.mark.parametrize("token", ["", "x", "é", "=", "A" * 5000, "\ud800", "AAAA AAAA", "%%%%"])
def test_nonsense_is_refused(token: str) -> None:
    assert PAGES.read("describeSessions", token) is None


def test_the_longest_keys_fit() -> None:
    assert len(PAGES.issue("describeSessions", ("2026-03-30T15:47:06.822Z", "i" * 256, "s" * 256))) <= 1024
