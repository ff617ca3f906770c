"""The requirements language: which servers a session may be placed on.

The broker reads expressions with it when a request arrives and evaluates them
for placement; the console evaluates them against the servers it knows while
they are typed. The language is the one of section 9 of the API specification.
An expression becomes a closure over a flat mapping, because placement asks it
for each of ten thousand servers.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from dcvtui.api.server_facts import (
    NUMBER_KEYS,
    NUMBER_PATTERN,
    PROPERTIES,
    SERVER_KEYS,
    Fact,
    Facts,
    exact_decimal,
    exact_float,
    facts_of,
    nearest_property,
    number_in,
)

__all__ = [
    "PROPERTIES",
    "And",
    "Fact",
    "Facts",
    "Node",
    "Not",
    "Or",
    "Requirements",
    "RequirementsError",
    "Term",
    "facts_of",
    "nearest_property",
    "parse",
    "print_tree",
]

Test = Callable[[Facts], bool]

# One level can cost four frames (OR, AND, NOT, parenthesis). The bound keeps that far from the interpreter's
# recursion limit wherever the call comes from.
MAX_DEPTH = 100

_BLANKS = " \t\r\n"
# The key backs off by itself: in `tag:dcv:='x'` it is `tag:dcv`, because nothing that may stand in a reserved
# key follows its second colon.
_TOKEN = re.compile(
    rf"""[ \t\r\n]*+ (?:
      (?P<key> tag:dcv:[A-Za-z0-9_-]+ | tag:[A-Za-z_][A-Za-z0-9_]*
             | server:[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*)* )
    | (?P<operator> := | <= | >= | != | [=<>] )
    | (?P<string> '[^']*+(?:''[^']*+)*+' )
    | (?P<number> {NUMBER_PATTERN} )
    | (?P<open> \( ) | (?P<close> \) )
    | (?P<and> (?i:and) ) | (?P<or> (?i:or) ) | (?P<not> (?i:not) )
    | (?P<end> \Z ) )""",
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")


class RequirementsError(ValueError):
    """An expression that no server is looked at for; its text is the detail of the refusal.

    Attributes:
        position: where in the text, counted in characters from 1.
        suggestion: the name of a server property that was probably meant.
    """

    def __init__(self, text: str, position: int | None = None, suggestion: str | None = None) -> None:
        super().__init__(text)
        self.position = position
        self.suggestion = suggestion

    @property
    def sentence(self) -> str:
        """What is wrong, and what was probably meant."""
        hint = f" Did you mean server:{self.suggestion}?" if self.suggestion else ""
        return f"{str(self).rstrip('.')}.{hint}"


# ------------------------------------------------------------------ the tree


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. `value` is a `Decimal` for a number literal."""

    key: str
    operator: str
    value: str | Decimal


@dataclass(frozen=True, slots=True)
class Not:
    """True where its operand is false."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class And:
    """True where all operands are."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True where one operand is."""

    operands: tuple["Node", ...]


Node = Term | Not | And | Or


def print_tree(tree: Node | None) -> str:
    """The expression of a tree, with the parentheses it needs and no others."""
    parts: list[str] = []
    # What is still to print, the next thing last; a loop, because trees may be deeper than calls.
    waiting: list[Node | str] = [tree] if tree else []
    while waiting:
        match waiting.pop():
            case str(text):
                parts.append(text)
            case Term(key, comparison, value):
                parts.append(f"{key} {comparison} {_literal(value)}")
            case Not(Term() as term):
                waiting += [term, "not "]
            case Not(operand):
                waiting += [")", operand, "not ("]
            case And(operands):
                waiting += _chain(operands, " and ", (And, Or))
            case Or(operands):
                waiting += _chain(operands, " or ", (Or,))
    return "".join(parts)


def _literal(value: str | Decimal) -> str:
    if isinstance(value, Decimal):
        return str(value)
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _chain(operands: tuple[Node, ...], word: str, grouped: tuple[type[Node], ...]) -> list[Node | str]:
    backwards: list[Node | str] = []
    for operand in reversed(operands):
        backwards += [word, ")", operand, "("] if isinstance(operand, grouped) else [word, operand]
    return backwards[1:]


@dataclass(frozen=True, slots=True)
class Requirements:
    """A parsed expression.

    Attributes:
        text: the expression as given.
        tree: what it says; `None` if it asks for nothing.
        matches: whether a server with these facts (see `facts_of`) fulfils it.
    """

    text: str
    tree: Node | None
    matches: Test

    def keys(self) -> frozenset[str]:
        """The facts the answer depends on, such as `tag:color` and `server:Host.Os.Family`."""
        found: set[str] = set()
        waiting: list[Node] = [self.tree] if self.tree else []
        while waiting:
            match waiting.pop():
                case Term(key):
                    found.add(key)
                case Not(operand):
                    waiting.append(operand)
                case And(operands) | Or(operands):
                    waiting.extend(operands)
        return frozenset(found)


@lru_cache(maxsize=1024)
def parse(text: str) -> Requirements:
    """Read an expression; the same text is read once.

    Raises:
        RequirementsError: the expression breaks the grammar, or a rule that holds for any server.
    """
    tree = _Parser(text).whole()
    return Requirements(text, tree, _compiled(tree) if tree else lambda _: True)


# ------------------------------------------------------------------ text to tree


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _unquoted(text: str) -> tuple[int, int]:
    """Where the expression stands in the text: the guide prints its examples in double quotes."""
    start, end = len(text) - len(text.lstrip(_BLANKS)), len(text.rstrip(_BLANKS))
    if end - start >= 2 and text[start] == '"' == text[end - 1]:
        return start + 1, end - 1
    return 0, len(text)


def _tokens(text: str) -> Iterator[_Token]:
    offset, end = _unquoted(text)
    while True:
        found = _TOKEN.match(text, offset, end)
        if found is None:
            raise _unreadable(text[:end], offset)
        kind = found.lastgroup or ""
        yield _Token(kind, found[kind], found.start(kind) + 1)
        if kind == "end":
            return
        offset = found.end()


def _unreadable(text: str, offset: int) -> RequirementsError:
    offset = len(text) - len(text[offset:].lstrip(_BLANKS))
    if text[offset] == "'":
        return RequirementsError(f"string without closing quote at character {offset + 1}", offset + 1)
    if word := _WORD.match(text, offset):
        problem = f"{word[0][:40]} is no key (keys begin with tag: or server:)"
        return RequirementsError(f"{problem} at character {offset + 1}", offset + 1)
    return RequirementsError(f"unexpected {_shown(text[offset])} at character {offset + 1}", offset + 1)


def _shown(character: str) -> str:
    # The text goes into an answer: lone surrogates and control characters must not get there.
    return character if character.isprintable() else f"U+{ord(character):04X}"


_BINDS = {"or": 1, "and": 2}


class _Parser:
    """Precedence climbing over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._token = next(self._tokens)
        self._depth = 0

    def whole(self) -> Node | None:
        if self._token.kind == "end":
            return None
        tree = self._expression(1)
        if self._token.kind != "end":
            raise self._unexpected("and, or or the end")
        return tree

    def _take(self) -> _Token:
        token = self._token
        self._token = next(self._tokens)
        return token

    def _unexpected(self, expected: str) -> RequirementsError:
        kind, text, position = self._token
        found = {"end": "the end", "string": "a text"}.get(kind, text[:40])
        return RequirementsError(f"expected {expected}, found {found} at character {position}", position)

    def _expression(self, least: int) -> Node:
        """An operand and all that follows of operators that bind at least so tightly."""
        tree = self._operand()
        while (binds := _BINDS.get(self._token.kind, 0)) >= least:
            kind = self._token.kind
            operands = [tree]
            # A chain is one node, however long: depth comes from parentheses only.
            while self._token.kind == kind:
                self._take()
                operands.append(self._expression(binds + 1))
            tree = And(tuple(operands)) if kind == "and" else Or(tuple(operands))
        return tree

    def _operand(self) -> Node:
        negated = self._token.kind == "not" and self._take()
        if self._token.kind != "open":
            term = self._term()
            return Not(term) if negated else term
        opening = self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RequirementsError(f"nested too deeply at character {opening.position}", opening.position)
        inner = self._expression(1)
        if self._token.kind != "close":
            raise self._unexpected("and, or or )")
        self._take()
        self._depth -= 1
        return Not(inner) if negated else inner

    def _term(self) -> Term:
        if self._token.kind != "key":
            raise self._unexpected("a condition")
        key = self._take()
        if self._token.kind != "operator":
            raise self._unexpected("an operator")
        comparison = self._take()
        if self._token.kind not in ("string", "number"):
            raise self._unexpected("a text in single quotes or a number")
        value = self._take()
        return _checked_term(key, comparison, value)


def _checked_term(key: _Token, comparison: _Token, value: _Token) -> Term:
    """A term that keeps the rules which hold whatever the server is (section 9.3, "static error")."""
    name = key.text
    if name.startswith("server:"):
        if name not in SERVER_KEYS:
            raise RequirementsError(f"Server property {name} not found", key.position, nearest_property(name))
        name = SERVER_KEYS[name]
    is_number = name in NUMBER_KEYS
    if comparison.text == ":=" and (is_number or value.kind == "number"):
        raise RequirementsError("Unexpected CONTAINS operator", comparison.position)
    if value.kind == "number":
        return Term(name, comparison.text, exact_decimal(value.text))
    text = value.text[1:-1].replace("''", "'")
    if is_number and number_in(text.strip(_BLANKS)) is None:
        problem = f"{name} is a number and compared with a text at character {value.position}"
        raise RequirementsError(problem, value.position)
    return Term(name, comparison.text, text)


# ------------------------------------------------------------------ tree to closure

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compiled(node: Node) -> Test:
    match node:
        case Term():
            return _compiled_term(node)
        case Not(operand):
            inner = _compiled(operand)
            return lambda facts: not inner(facts)
        case And(operands):
            return _compiled_chain([*map(_compiled, operands)], decides=False)
        case Or(operands):
            return _compiled_chain([*map(_compiled, operands)], decides=True)


def _compiled_chain(tests: list[Test], *, decides: bool) -> Test:
    def chain(facts: Facts) -> bool:
        for test in tests:  # any() with a generator would cost a frame more per level
            if test(facts) is decides:
                return decides
        return not decides

    return chain


def _compiled_term(term: Term) -> Test:
    if term.operator == "!=":
        equal = _compiled_term(Term(term.key, "=", term.value))
        return lambda facts: not equal(facts)
    if term.key in NUMBER_KEYS:
        value = term.value if isinstance(term.value, Decimal) else exact_decimal(term.value.strip(_BLANKS))
        return _number_test(term.key, _COMPARE[term.operator], value)
    if isinstance(term.value, Decimal):
        return _text_as_number_test(term.key, _COMPARE[term.operator], term.value)
    return _text_test(term.key, term.operator, term.value)


def _number_test(key: str, compare: Callable[[Any, Any], bool], literal: Decimal) -> Test:
    # Comparing two integers is several times faster than an integer with a decimal.
    small = literal.adjusted() < 30 and literal == literal.to_integral_value()
    value: int | Decimal = int(literal) if small else literal

    def number_test(facts: Facts) -> bool:
        fact = facts.get(key)
        if type(fact) is float:
            fact = exact_float(fact)
        return fact is not None and compare(fact, value)

    return number_test


def _text_as_number_test(key: str, compare: Callable[[Any, Any], bool], literal: Decimal) -> Test:
    def text_as_number_test(facts: Facts) -> bool:
        fact = facts.get(key)
        number = None if fact is None else number_in(str(fact))
        return number is not None and compare(number, literal)

    return text_as_number_test


def _text_test(key: str, comparison: str, literal: str) -> Test:
    if comparison == "=":
        return lambda facts: facts.get(key) == literal
    if comparison == ":=":
        return lambda facts: key in facts and literal in str(facts[key])
    compare = _COMPARE[comparison]
    number = number_in(literal)

    def ordering_test(facts: Facts) -> bool:
        fact = facts.get(key)
        if fact is None:
            return False
        other = number_in(str(fact)) if number is not None else None
        return compare(str(fact), literal) if other is None else compare(other, number)

    return ordering_test
