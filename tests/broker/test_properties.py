"""The grammar of properties files."""

import pytest

from broker_stub.broker import properties


def pairs(text: str) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in properties.parse(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = b", [("a", "b")]),
        ("a=b", [("a", "b")]),
        ("a: b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a\tb c ", [("a", "b c ")]),
        ("a", [("a", "")]),
        ("a =", [("a", "")]),
        ("a = = b", [("a", "= b")]),
        ("  a = b", [("a", "b")]),
        ("# a = b\n! c = d\n\n   # e\nf = g", [("f", "g")]),
        ("a = b\\\n    c\nd = e", [("a", "bc"), ("d", "e")]),
        ("a = b\\\\\nd = e", [("a", "b\\"), ("d", "e")]),
        ("a = b\\", [("a", "b")]),
        ("a = b\\\n# not a comment", [("a", "b# not a comment")]),
        ("a\\ b = c", [("a b", "c")]),
        ("a\\=b = c\\:d", [("a=b", "c:d")]),
        ("a = \\u00e9\\t\\n\\f\\r", [("a", "é\t\n\f\r")]),
        ("a = C:\\\\x", [("a", "C:\\x")]),
        ("a = \\q\\u12", [("a", "qu12")]),
        ("a = 1\r\nb = 2\rc = 3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("a = 1\na = 2", [("a", "1"), ("a", "2")]),
    ],
)
def test_reads_what_java_reads(text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(text) == expected


def test_tells_the_line_a_key_begins_on() -> None:
    found = properties.parse("# x\na = 1\\\n 2\n\nb = 3")
    assert [(each.key, each.line) for each in found] == [("a", 2), ("b", 5)]
