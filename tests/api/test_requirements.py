"""The requirements language: the worked examples of section 9.4, its errors, its limits, its properties."""

import sys
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.api import requirements, server_facts
from dcvtui.api.requirements import And, Node, Not, Or, RequirementsError, Term, facts_of, parse, print_tree

# The servers A and B of section 9.4, as DescribeServers gives them.
SERVER_A = {
    "Id": "srv-a",
    "Tags": [
        {"Key": "color", "Value": "pink"},
        {"Key": "size", "Value": "small"},
        {"Key": "ram_gb", "Value": "8"},
        {"Key": "dcv:os-family", "Value": "windows"},
        {"Key": "dcv:max-virtual-sessions", "Value": "0"},
    ],
    "Host": {
        "Os": {"Family": "windows", "Version": "10.0.20348"},
        "Memory": {"TotalBytes": 8795672576},
        "Aws": {"EC2InstanceType": "t2.large"},
        "CpuInfo": {"NumberOfCpus": 2},
        "CpuLoadAverage": {"OneMinute": 0.05},
    },
}
SERVER_B = {
    "Id": "srv-b",
    "Tags": [
        {"Key": "color", "Value": "blue-red"},
        {"Key": "size", "Value": "big"},
        {"Key": "ram_gb", "Value": "32"},
        {"Key": "software", "Value": "o'neil cad"},
        {"Key": "dcv:os-family", "Value": "linux"},
        {"Key": "dcv:max-virtual-sessions", "Value": "10"},
    ],
    "Host": {
        "Os": {"Family": "linux", "Version": "2", "KernelVersion": "4.14.203-156.332.amzn2.x86_64"},
        "Memory": {"TotalBytes": 32144048128},
        "CpuInfo": {"NumberOfCpus": 4},
        "CpuLoadAverage": {"OneMinute": 2.24},
    },
}
FACTS_A, FACTS_B = facts_of(SERVER_A), facts_of(SERVER_B)


def answers(expression: str) -> tuple[bool, bool]:
    requirement = parse(expression)
    return requirement.matches(FACTS_A), requirement.matches(FACTS_B)


def error_of(expression: str) -> RequirementsError:
    with pytest.raises(RequirementsError) as caught:
        parse(expression)
    return caught.value


DECIDED = [
    ("R1", "tag:color = 'pink'", True, False),
    ("R2", "tag:color := 'red'", False, True),
    (
        "R3",
        "tag:color = 'pink' and (server:Host.Os.Family = 'windows' or tag:color := 'red')",
        True,
        False,
    ),
    ("R4", "server:Host.Os.Family = 'linux' or tag:size = 'small' and tag:color = 'green'", False, True),
    ("R5", "(server:Host.Os.Family = 'linux' or tag:size = 'small') and tag:color = 'green'", False, False),
    ("R6", "not tag:size = 'big'", True, False),
    ("R7", "NOT (tag:size = 'big' Or server:Host.Os.Family = 'windows')", False, False),
    ("R9", "tag:software = 'o''neil cad'", False, True),
    ("R11", "tag:software != 'autocad'", True, True),
    ("R12", "tag:gpu = 'yes'", False, False),
    ("R13", "not tag:gpu = 'yes'", True, True),
    ("R14", "server:Host.Memory.TotalBytes > 1024E6", True, True),
    ("R15", "server:Host.Memory.TotalBytes >= 3.2144048128e10", False, True),
    ("R16", "server:Host.CpuInfo.NumberOfCpus >= '4'", False, True),
    ("R20", "tag:ram_gb = 8", True, False),
    ("R21", "tag:ram_gb = '8.0'", False, False),
    ("R22", "tag:ram_gb > '9'", False, True),
    ("R23", "tag:color < 10", False, False),
    (
        "R24",
        "server:Host.Aws.Ec2InstanceType := 't2' and server:Host.CpuInfo.NumberOfCpus >= 2",
        True,
        False,
    ),
    ("R25", "server:Host.Aws.EC2InstanceType = 't2.large'", True, False),
    ("R26", "server:Host.Os.KernelVersion != '5.10'", True, True),
    ("R31", "tag:dcv:max-virtual-sessions > 0", False, True),
    ("R34", "tag:color='pink'and tag:size='small'", True, False),
    ("R35", "tag:color := ''", True, True),
    ("R36", "tag:color = 'Pink'", False, False),
    ("R39", "server:Host.Os.Version = 2", False, True),
    ("R40", " \t\r\n", True, True),
]


@pytest.mark.parametrize(("expression", "on_a", "on_b"), [pytest.param(*c[1:], id=c[0]) for c in DECIDED])
def test_worked_examples_are_decided_as_specified(expression: str, on_a: bool, on_b: bool) -> None:
    assert answers(expression) == (on_a, on_b)


# Number, expression, where the error is, what its text must contain.
REFUSED = [
    ("R8", "not not tag:size = 'big'", 5, "at character 5"),
    ("R10", "tag:software = 'o'neil cad'", 19, "at character 19"),
    ("R17", "server:Host.CpuInfo.NumberOfCpus >= 'four'", 37, "is a number"),
    ("R18", "server:Host.CpuInfo.NumberOfCpus := '4'", 34, "Unexpected CONTAINS operator"),
    ("R19", "tag:ram_gb := 8", 12, "Unexpected CONTAINS operator"),
    ("R27", "server:host.os.family = 'linux'", 1, "Server property server:host.os.family not found"),
    ("R28", "server:Host.Gpus.Vendor := 'NVIDIA'", 1, "Server property server:Host.Gpus.Vendor not found"),
    ("R29", "color = 'pink'", 1, "at character 1"),
    ("R30", "Tag:color = 'pink'", 1, "at character 1"),
    ("R32", "tag:my-key = 'x'", 7, "at character 7"),
    ("R33", "server:Host.CpuLoadAverage.OneMinute < .5", 40, "at character 40"),
    ("R37", "tag:size == 'big'", 11, "at character 11"),
    ("R38", "not (tag:size = 'big'", 22, "at character 22"),
]


@pytest.mark.parametrize(("expression", "position", "text"), [pytest.param(*c[1:], id=c[0]) for c in REFUSED])
def test_worked_examples_are_refused_with_their_position(expression: str, position: int, text: str) -> None:
    error = error_of(expression)
    assert error.position == position
    assert text in str(error)


def test_all_forty_examples_are_here() -> None:
    assert {case[0] for case in DECIDED + REFUSED} == {f"R{number}" for number in range(1, 41)}


def test_property_and_contains_errors_have_the_published_texts() -> None:
    assert (
        str(error_of("server:Host.Gpus.Vendor := 'x'")) == "Server property server:Host.Gpus.Vendor not found"
    )
    assert str(error_of("tag:a := 8")) == "Unexpected CONTAINS operator"


def test_one_pair_of_double_quotes_around_the_whole_is_removed() -> None:
    inner = "tag:color = 'pink' and (server:Host.Os.Family = 'windows' or tag:color := 'red')"
    assert answers(f' "{inner}"\n') == (True, False)
    assert answers('""') == (True, True)
    assert error_of(f'""{inner}""').position == 2
    assert error_of(f'"{inner}').position == 1
    assert error_of("\"tag:color == 'pink'\"").position == 13


def test_a_changed_tag_changes_the_answer() -> None:
    requirement = parse("tag:size = 'huge'")
    changed = {**SERVER_A, "Tags": [{"Key": "size", "Value": "huge"}]}
    assert not requirement.matches(FACTS_A)
    assert requirement.matches(facts_of(changed))


# ------------------------------------------------------------------ depth and length


@pytest.mark.parametrize("opening", ["(", "not ("])
def test_a_hundred_levels_work_and_more_are_refused(opening: str) -> None:
    closing = ")"
    assert answers(opening * 100 + "tag:size = 'big'" + closing * 100) == (False, True)
    for depth in (101, 100_000):
        error = error_of(opening * depth + "tag:size = 'big'" + closing * depth)
        assert str(error) == f"nested too deeply at character {error.position}"


def test_the_deepest_expression_works_on_a_stack_that_is_half_full() -> None:
    expression = "tag:size = 'big'"
    for _ in range(100):
        expression = f"tag:a = 'b' or tag:c = 'd' and not ({expression})"

    def deep(levels: int) -> bool:
        if levels:
            return deep(levels - 1)
        requirement = parse(expression)
        return requirement.matches(FACTS_A) or bool(print_tree(requirement.tree))

    assert deep(sys.getrecursionlimit() // 2)


def test_a_long_chain_costs_no_depth() -> None:
    chain = " or ".join(f"tag:k{number} = 'x'" for number in range(5000))
    assert answers(chain) == (False, False)
    assert answers(f"{chain} or tag:size = 'big'") == (False, True)


@pytest.mark.parametrize(
    "text", ["'" * 200_001, "tag:a = '" + "''" * 100_000, " " * 200_000 + "$", "a" * 200_000]
)
def test_long_garbage_is_refused_quickly(text: str) -> None:
    start = time.process_time()
    error_of(text)
    assert time.process_time() - start < 1


# ------------------------------------------------------------------ the lexer


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        ("tag:color:='red'", Term("tag:color", ":=", "red")),
        ("tag:dcv:='red'", Term("tag:dcv", ":=", "red")),
        ("tag:dcv:a-1_B:='red'", Term("tag:dcv:a-1_B", ":=", "red")),
        ("tag:dcv:-='red'", Term("tag:dcv:-", "=", "red")),
        ("tag:_a1<-5", Term("tag:_a1", "<", Decimal(-5))),
        ("tag:a=+1.50e-3", Term("tag:a", "=", Decimal("0.0015"))),
        ("tag:a='x\\'", Term("tag:a", "=", "x\\")),
        ("tag:a=''''", Term("tag:a", "=", "'")),
        ("tag:a='\U0001f5a5\n'", Term("tag:a", "=", "\U0001f5a5\n")),
        ("not(tag:a=1)", Not(Term("tag:a", "=", Decimal(1)))),
    ],
)
def test_tokens_are_the_longest_and_need_no_blanks(expression: str, tree: Node) -> None:
    assert parse(expression).tree == tree


@pytest.mark.parametrize(
    ("expression", "position"),
    [
        ("tag: color = 'x'", 1),
        ("tag:dcv: = 'x'", 8),
        ("tag:1a = 'x'", 1),
        ("tag:a = 5.", 10),
        ("tag:a : = 'x'", 7),
        ("tag:a <> 5", 8),
        ("tag:a = tag:b", 9),
        ("tag:a", 6),
        ("tag:a =", 8),
        ("= 'x'", 1),
        ("tag:a = 'x' tag:b = 'y'", 13),
        ("tag:a = 'x' and", 16),
        ("tag:a = 'x')", 12),
        ("()", 2),
        ("tag:a = 'x", 9),
        ("tag:a\u00a0= 'x'", 6),
        ("server:Host. = 'x'", 12),
        ("tag:é = 'x'", 1),
        ("tag:a = ٣", 9),
        ("tag:a = 'x' and and tag:b = 'y'", 17),
    ],
)
def test_syntax_errors_say_where(expression: str, position: int) -> None:
    error = error_of(expression)
    assert (error.position, str(error).rpartition(" at ")[2]) == (position, f"character {position}")


def test_error_texts_can_be_encoded_and_printed() -> None:
    for character in ("\x1b", "\ud800", "\u202e", "\x00"):
        assert str(error_of(f"tag:a = {character}")).isprintable()


# ------------------------------------------------------------------ meaning


FACTS: dict[str, requirements.Fact] = {
    "tag:n": "10",
    "tag:t": "apple",
    "server:Host.Memory.TotalBytes": 2**53 + 1,
    "server:Host.CpuLoadAverage.OneMinute": 0.1,
    "server:Host.CpuLoadAverage.FiveMinutes": Decimal("2.5"),
    "server:Host.CpuLoadAverage.FifteenMinutes": float("nan"),
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # A missing value: only != is true.
        *[(f"tag:gone {op} 'x'", False) for op in ("=", "<", "<=", ">", ">=", ":=")],
        *[(f"tag:gone {op} 1", False) for op in ("=", "<", "<=", ">", ">=")],
        *[(f"server:Host.Swap.UsedBytes {op} 0", False) for op in ("=", "<", "<=", ">", ">=")],
        ("tag:gone != 'x'", True),
        ("tag:gone != 1", True),
        ("server:Host.Swap.UsedBytes != 0", True),
        ("tag:gone := ''", False),
        # Number properties are exact.
        ("server:Host.Memory.TotalBytes = 9007199254740993", True),
        ("server:Host.Memory.TotalBytes = 9007199254740992", False),
        ("server:Host.Memory.TotalBytes > 9007199254740992.5", True),
        ("server:Host.Memory.TotalBytes != 9007199254740993.0", False),
        ("server:Host.Memory.TotalBytes = ' 9007199254740993\t'", True),
        ("server:Host.CpuLoadAverage.OneMinute = 0.1", True),
        ("server:Host.CpuLoadAverage.OneMinute <= 0.1", True),
        ("server:Host.CpuLoadAverage.FiveMinutes = 25e-1", True),
        ("server:Host.Memory.TotalBytes < 1e999999999999999999999", True),
        ("server:Host.Memory.TotalBytes > -1e999999999999999999999", True),
        ("server:Host.CpuLoadAverage.OneMinute > 1e-999999999999999999999", True),
        ("server:Host.CpuLoadAverage.FifteenMinutes < 5", False),
        # Text against text.
        ("tag:n = '10.0'", False),
        ("tag:n >= '9'", True),
        ("tag:n < 'x'", True),
        ("tag:n > '1'", True),
        ("tag:n > ' 9'", True),
        ("tag:t < 'apples'", True),
        ("tag:t > 'Apple'", True),
        ("tag:t >= 'apple'", True),
        ("tag:t := 'ppl'", True),
        ("tag:t := 'PPL'", False),
        # Text against a number.
        ("tag:n = 1e1", True),
        ("tag:n > 9", True),
        ("tag:t = 10", False),
        ("tag:t >= 10", False),
        ("tag:t != 10", True),
    ],
)
def test_terms_mean_what_the_table_of_9_3_says(expression: str, expected: bool) -> None:
    assert parse(expression).matches(FACTS) is expected


def test_keys_names_the_facts_an_answer_depends_on() -> None:
    requirement = parse("tag:a = 'x' and not (server:Host.Aws.EC2ImageId = 'y' or tag:dcv:b > 1)")
    assert requirement.keys() == {"tag:a", "server:Host.Aws.Ec2ImageId", "tag:dcv:b"}
    assert parse("").keys() == frozenset()


def test_the_same_text_is_parsed_once() -> None:
    assert parse("tag:a = 'x'") is parse("tag:a = 'x'")


# ------------------------------------------------------------------ properties and facts


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Host.Os.Famly", "Host.Os.Family"),
        ("server:host.os.family", "Host.Os.Family"),
        ("Host.CpuInfo.NumberOfCpu", "Host.CpuInfo.NumberOfCpus"),
        ("Family", "Host.Os.Family"),
        ("OneMinute", "Host.CpuLoadAverage.OneMinute"),
        ("Host.Aws.EC2Region", "Host.Aws.Region"),
        ("x" * 100_000, None),
        ("", None),
    ],
)
def test_nearest_property(name: str, nearest: str | None) -> None:
    assert requirements.nearest_property(name) == nearest


def test_an_unknown_property_comes_with_the_nearest_one() -> None:
    assert error_of("server:Host.Os.Famly = 'linux'").suggestion == "Host.Os.Family"
    assert error_of("color = 'pink'").suggestion is None


def test_there_are_25_properties_and_all_are_understood() -> None:
    assert len(requirements.PROPERTIES) == 25
    for name in requirements.PROPERTIES:
        assert parse(f"server:{name} = '1'").keys() == {f"server:{name}"}


def test_facts_of_reads_every_property() -> None:
    server: dict[str, Any] = {}
    for number, name in enumerate(requirements.PROPERTIES, 1):
        place = server
        *parents, last = name.replace("Ec2", "EC2").split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = number if "Bytes" in last or "CpuLoad" in name else str(number)
    facts = facts_of(server)
    for number, name in enumerate(requirements.PROPERTIES, 1):
        assert parse(f"server:{name} = '{number}'").matches(facts), name


def test_facts_of_survives_any_answer() -> None:
    nonsense: dict[str, Any] = {
        "Id": None,
        "Hostname": 5,
        "Version": ["x"],
        "Host": {
            "Os": "linux",
            "Memory": {"TotalBytes": "17", "UsedBytes": True},
            "CpuLoadAverage": {"OneMinute": float("nan"), "FiveMinutes": float("inf")},
        },
        "Tags": [{"Key": "a"}, "x", {"Key": "b", "Value": 7}, {"Key": "c", "Value": "d"}],
    }
    assert facts_of(nonsense) == {
        "server:Hostname": "5",
        "server:Host.Memory.TotalBytes": Decimal(17),
        "tag:c": "d",
    }
    assert facts_of({"Tags": None, "Host": None}) == {}


# ------------------------------------------------------------------ properties of the whole language

KEYS = st.one_of(
    st.from_regex(r"tag:[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True),
    st.from_regex(r"tag:dcv:[A-Za-z0-9_-]{1,8}", fullmatch=True),
    st.sampled_from([f"server:{name}" for name in server_facts.TEXT_PROPERTIES]),
)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)
ORDERINGS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
NUMBER_KEYS = st.sampled_from([f"server:{name}" for name in server_facts.NUMBER_PROPERTIES])
TERMS = st.one_of(
    st.builds(Term, KEYS, ORDERINGS | st.just(":="), st.text()),
    st.builds(Term, KEYS | NUMBER_KEYS, ORDERINGS, NUMBERS),
)
TREES: st.SearchStrategy[Node] = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=4).map(lambda nodes: And(tuple(nodes))),
        st.lists(inner, min_size=2, max_size=4).map(lambda nodes: Or(tuple(nodes))),
    ),
    max_leaves=20,
)


@given(TREES)
def test_what_is_printed_is_read_back_as_the_same_tree(tree: Node) -> None:
    printed = print_tree(tree)
    assert parse(printed).tree == tree
    assert print_tree(parse(printed).tree) == printed


@given(TREES, st.dictionaries(st.sampled_from(["tag:a", "tag:b", "server:Id"]), st.text(max_size=3)))
def test_not_is_the_opposite_everywhere(tree: Node, facts: dict[str, str]) -> None:
    plain, negated = parse(print_tree(tree)), parse(print_tree(Not(tree)))
    assert plain.matches(facts) is not negated.matches(facts)


MARKS = tuple("'()=:<!.\" \n\ud800é5xe")
WORDS = ("tag:a", "server:Id", "''", ":=", "and", "OR", "not")


@given(st.lists(st.sampled_from(MARKS + WORDS)).map("".join) | st.text())
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    try:
        requirement = parse(text)
    except RequirementsError as error:
        assert error.position is not None
        assert 1 <= error.position <= len(text) + 1
        assert str(error)
    else:
        assert parse(print_tree(requirement.tree)).tree == requirement.tree
