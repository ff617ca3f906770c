"""The filter language: what matches, and what is said about filters that make no sense."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.fields import SERVER_COLUMNS, SESSION_COLUMNS
from dcvtui.fleet import ServerRecord, SessionRecord
from dcvtui.query import EVERYTHING, QueryError, compile_filter, haystack

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(**fields: Any) -> SessionRecord:
    standard = {
        "name": "cad-ana-1",
        "owner": "ana",
        "type": "VIRTUAL",
        "state": "READY",
        "server_name": "gpu-017",
    }
    return SessionRecord(key=("lab", "1"), profile="lab", id="1", **(standard | fields))


def server(**fields: Any) -> ServerRecord:
    standard = {
        "hostname": "gpu-017",
        "availability": "AVAILABLE",
        "tags": (("rack", "7"), ("team", "cad x")),
    }
    return ServerRecord(key=("lab", "s"), profile="lab", id="s", **(standard | fields))


def matches(text: str, record: SessionRecord | ServerRecord) -> bool:
    columns: Any = SESSION_COLUMNS if isinstance(record, SessionRecord) else SERVER_COLUMNS
    tags = (("rack", "7"), ("dcv:os-family", "linux")) if isinstance(record, SessionRecord) else record.tags
    compiled = compile_filter(text, columns, lambda _record: tags)
    return compiled.matches(record, NOW, haystack(record, columns, NOW))


IDLE = session(creation_time=NOW - timedelta(days=3), last_disconnection_time=NOW - timedelta(hours=2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ana",
        "CAD-",
        "gpu virtual",
        "owner:ana",
        "OWNER:Ana",
        "owner:bob,ana",
        "server:gpu-*",
        "server:*017",
        "state:ready owner:bob or name:cad-*",
        "!owner:bob",
        "! bob",
        "!!ana",
        "(owner:bob or owner:ana) state:ready",
        "!(bob or type:console)",
        "~cdn1",
        "~CADANA",
        "/^cad-.*-\\d$/",
        "/gpu-0[0-9]+/ ana",
        '"cad-ana-1"',
        'owner:"ana"',
        "clients:0",
        "clients:0,5",
        "clients<1",
        "clients<=0",
        "idle>1h",
        "idle>=7200s",
        "idle<1d",
        "age>2d age<1w",
        "age>1d12h",
        "tag:rack=7",
        "tag:rack",
        "tag:RACK=1,7",
        "tag:dcv:os-family=lin*",
        "limit:",
    ],
)
def test_a_session_that_is_found(text: str) -> None:
    assert matches(text, IDLE)


@pytest.mark.parametrize(
    "text",
    [
        "bob",
        "ana bob",
        "owner:an",
        "owner:an?",
        'owner:"a*"',
        "!ana",
        "type:console",
        "state:ready (owner:bob or owner:eve)",
        "~nac1z",
        "/^ana-/",
        "clients:1",
        "clients>0",
        "idle>2d",
        "limit>0",
        "tag:rack=8",
        "tag:ra",
        "tag:dcv:os-family=windows",
        '"3 d"',
    ],
)
def test_a_session_that_is_not_found(text: str) -> None:
    assert not matches(text, IDLE)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("mem>50", True),
        ("mem<50", False),
        ("memory>=64GiB", True),
        ("memory>64G", False),
        ("memory<69GB", True),
        ("used>40000MiB", True),
        ("load>0.5", True),
        ("load:0.75", True),
        ("swap>1GiB", False),
        ("state:available", True),
        ('tag:team="cad x"', True),
        ('tag:team="cad *"', False),
        ("rack=7", True),
        ('"cad x"', True),
    ],
)
def test_sizes_loads_and_tags_of_servers(text: str, is_found: bool) -> None:
    found = server(memory_total=64 << 30, memory_used=40 << 30, load_1=0.75)
    assert matches(text, found) is is_found


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("ownr:ana", 1, "no column is called ownr, the nearest is owner"),
        ("ana ownr:x", 5, "no column is called ownr"),
        ("idle>2y", 6, "idle is compared with a time such as"),
        ("idle>", 6, "idle is compared with a time"),
        ("clients>many", 9, "clients is compared with a number"),
        ("owner>5", 7, "owner is compared with nothing to compare"),
        ("idle:2h", 5, "idle is compared with < or >"),
        ("(ana", 1, "this bracket is not closed"),
        ("ana)", 4, "this bracket closes nothing"),
        ("()", 2, "there is a term missing"),
        ("or ana", 1, "`or` needs a term on both sides"),
        ("ana or", 7, "`or` needs a term on both sides"),
        ("ana or or eve", 8, "`or` needs a term on both sides"),
        ("!", 2, "`!` needs a term after it"),
        ('owner:"ana', 7, "this quote is not closed"),
        ("/a", 1, "this regular expression is not closed"),
        ("/a(/", 3, "not a regular expression"),
        ("~", 1, "`~` needs a word after it"),
        ("tag:=x", 5, "the key of a tag is missing"),
        ("(" * 60 + "a" + ")" * 60, 51, "brackets are nested too deeply"),
    ],
)
def test_a_bad_filter_says_why_at_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        matches(text, IDLE)
    assert caught.value.column == column
    assert message in str(caught.value)


@given(st.text(alphabet='anbo r:!()~/",*<>=2h-tgidle', max_size=24))
def test_whatever_is_typed_matches_or_is_explained(text: str) -> None:
    try:
        matches(text, IDLE)
    except QueryError as error:
        assert 1 <= error.column <= len(text) + 1


def test_side_by_side_binds_tighter_than_or() -> None:
    assert matches("ana eve or gpu", IDLE)
    assert not matches("ana (eve or bob)", IDLE)


def test_a_session_whose_idle_time_is_not_known_matches_no_comparison() -> None:
    assert not matches("idle>0s", session(state="UNKNOWN"))
    assert not matches("idle<9w", session(state="UNKNOWN"))


def test_a_filter_asks_for_deleted_sessions_only_by_name() -> None:
    def asks(text: str) -> bool:
        return compile_filter(text, SESSION_COLUMNS, lambda _: ()).asks_for("state", "DELETED")

    assert asks("state:deleted")
    assert asks("owner:ana (state:ready or state:DEL*)")
    assert not asks("!state:deleted")
    assert not asks("state:ready deleted")
    assert not EVERYTHING.asks_for("state", "DELETED")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!" * 50_000 + "ana", "nested too deeply"),
        ("(" * 50_000, "nested too deeply"),
        ("ana or " * 20_000, "needs a term"),
        ("/" + "(" * 5000 + ")" * 5000 + "/", "too large"),
        ("/a{99999999999}/", "too large"),
    ],
)
def test_what_is_pasted_without_measure_is_explained_at_once(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        matches(text, IDLE)


def test_a_long_name_of_one_letter_is_looked_through_at_once() -> None:
    long = session(name="a" * 256)
    assert matches("~aaaaaaaaaaaaaaaaaaaa", long)
    assert not matches("~aaaaaaaaaaaaaaaaaaaac", long)
    assert matches("name:*a*a*a*a*a*a*a*a*a*a", long)
    assert not matches("name:a*a*a*a*a*a*a*a*a*ab", long)


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("a*c*e", "abcde", True),
        ("a*c*e", "ace", True),
        ("a*c*e", "acde-", False),
        ("*b**b*", "abcb", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "ab", False),
        ('"*"*', "*x", True),
        ('"*"*', "x", False),
        ("a*a", "a", False),
        ("*", "any", True),
    ],
)
def test_stars_stand_for_any_text(pattern: str, name: str, is_match: bool) -> None:
    assert matches(f"name:{pattern}", session(name=name)) is is_match
