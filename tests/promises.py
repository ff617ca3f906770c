"""The promises that tests hold, read from their `covers` markers, and the table made of them.

The published contract is kept as numbered lists of promises: C what a client of the
API may rely on, B the broker and its administration, G the agent, S the DCV server
and X sessions, P permissions, W connecting and the gateway. A test names those that
it holds with `@pytest.mark.covers("C42")`; its docstring says what is promised.
`pytest --conformance` runs these tests alone and prints promise, test and result.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
MARKER = "covers"

AREAS = {
    "C": ("client API", range(1, 147)),
    "B": ("broker and its administration", range(1, 48)),
    "G": ("agent", range(1, 45)),
    "S": ("DCV server and X sessions", range(1, 37)),
    "P": ("permissions", range(1, 31)),
    "W": ("connecting and gateway", range(1, 16)),
}
NUMBERS = tuple(f"{letter}{number}" for letter, (_name, numbers) in AREAS.items() for number in numbers)


@dataclass(frozen=True)
class Promise:
    """One test that holds something.

    Attributes:
        numbers: Which promises, such as `C42`.
        test: Where, such as `tests/test_client.py::test_a_token_is_asked_for_once`.
        text: The docstring of the test in one line; empty where it has none.
    """

    numbers: tuple[str, ...]
    test: str
    text: str


def order(number: str) -> tuple[int, int]:
    """The place of a number in the table: by area, then counting."""
    return list(AREAS).index(number[0]), int(number[1:])


def promises_in(tests: Path = TESTS) -> Iterator[Promise]:
    """What the marked tests below a folder promise; reads them and runs nothing."""
    for path in sorted(tests.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if f"mark.{MARKER}(" in source:
            where = path.relative_to(tests.parent).as_posix()
            yield from _promises(ast.parse(source), where)


def _promises(parent: ast.AST, where: str) -> Iterator[Promise]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef):
            yield from _promises(node, f"{where}::{node.name}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            numbers = tuple(number for one in node.decorator_list for number in _numbers(one))
            if numbers:
                text = " ".join((ast.get_docstring(node) or "").split())
                yield Promise(numbers, f"{where}::{node.name}", text)


def _numbers(decorator: ast.expr) -> Iterator[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(f"mark.{MARKER}"):
        yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def combined(results: Iterable[str]) -> str:
    """The result of a test that ran with several parameters: the worst of them."""
    found = set(results)
    return next((one for one in ("failed", "passed", "skipped") if one in found), "not run")


def table(promises: Iterable[Promise], results: dict[str, list[str]]) -> Iterator[str]:
    """Lines for a person: each number with its promise, its tests and how they ended.

    Args:
        promises: What tests hold.
        results: How each test ended, once for each of its parameters, by its name without these.
    """
    rows = sorted(
        ((number, promise) for promise in promises for number in promise.numbers),
        key=lambda row: (order(row[0]), row[1].test),
    )
    held: dict[str, set[str]] = {letter: set() for letter in AREAS}
    shown = ""
    for number, promise in rows:
        result = combined(results.get(promise.test, ()))
        if result == "passed":
            held[number[0]].add(number)
        yield f"{'' if number == shown else number:5} {result:8} {promise.text}"
        yield f"{'':14} {promise.test}"
        shown = number
    yield ""
    for letter, (name, numbers) in AREAS.items():
        yield f"{name}: {len(held[letter])} of {len(numbers)} promises shown to be kept in this run"
