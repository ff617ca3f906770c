"""Every promise of the published contract has a test that holds it, and says it in words."""

from pathlib import Path

import pytest

from tests.promises import NUMBERS, Promise, combined, promises_in, table

OPEN = frozenset({"B40", "B41", "B42", "B43"})
"""Promises that no test holds yet: those of several brokers that share a database."""


@pytest.fixture(scope="module")
def promises() -> list[Promise]:
    return list(promises_in())


def test_every_promise_has_a_test(promises: list[Promise]) -> None:
    held = {number for one in promises for number in one.numbers}
    assert sorted(set(NUMBERS) - held - OPEN) == []


def test_every_number_is_one_of_the_contract(promises: list[Promise]) -> None:
    assert [one for one in promises if not set(one.numbers) <= set(NUMBERS)] == []


def test_a_test_that_holds_a_promise_says_it_in_words(promises: list[Promise]) -> None:
    assert [one.test for one in promises if len(one.text.split()) < 4] == []


def test_the_table_shows_numbers_in_order_with_the_worst_result() -> None:
    promises = [
        Promise(("C10", "C2"), "tests/test_a.py::test_a", "A list starts anew."),
        Promise(("C2",), "tests/test_b.py::test_b", "A list never ends."),
    ]
    results = {"tests/test_a.py::test_a": ["passed", "failed"], "tests/test_b.py::test_b": ["passed"]}
    lines = list(table(promises, results))
    assert lines[:6] == [
        "C2    failed   A list starts anew.",
        "               tests/test_a.py::test_a",
        "      passed   A list never ends.",
        "               tests/test_b.py::test_b",
        "C10   failed   A list starts anew.",
        "               tests/test_a.py::test_a",
    ]
    assert "client API: 1 of 146 promises shown to be kept in this run" in lines
    assert (combined([]), combined(["skipped"]), combined(["skipped", "passed"])) == (
        "not run", "skipped", "passed",
    )  # fmt: skip


def test_markers_are_read_from_functions_and_classes(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_x.py").write_text(
        "import pytest\n"
        "@pytest.mark.covers('C1')\n"
        "def test_f():\n    '''One\n    promise.'''\n"
        "class TestG:\n"
        "    @pytest.mark.covers('B2', 'B3')\n"
        "    async def test_h(self): ...\n"
        "    def test_i(self): ...\n"
    )
    assert list(promises_in(folder)) == [
        Promise(("C1",), "tests/test_x.py::test_f", "One promise."),
        Promise(("B2", "B3"), "tests/test_x.py::TestG::test_h", ""),
    ]
