"""Permissions files: what they grant to whom, and what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.api.permissions import (
    FEATURE_GROUPS,
    FEATURES,
    Context,
    Level,
    State,
    evaluate,
    explain,
    matrix,
    parse,
)
from tests.api.permissions_examples import (
    ALL,
    BASE,
    CYCLE,
    CYCLE_FILES,
    IMPORTING,
    NESTED_ALIASES,
    NESTED_GROUPS,
    OS_GROUP,
    STOCK,
    THREE_BAD,
    WRONG_DEFINITIONS,
    Importer,
    codes,
    features,
    files,
    found,
)

# ------------------------------------------------------------------ the worked examples

# Number, text, user, OS groups, features.
EXAMPLES: list[tuple[int, str, str, list[str], frozenset[str]]] = [
    (1, STOCK, "ann", [], ALL),
    (1, STOCK, "bob", [], frozenset()),
    (2, f"{STOCK}bob allow display pointer", "ann", [], ALL),
    (2, f"{STOCK}bob allow display pointer", "bob", [], features("display pointer")),
    (2, f"{STOCK}bob allow display pointer", "cid", [], frozenset()),
    (3, "[permissions]\n%any% allow display pointer\n%owner% allow builtin", "ann", [], ALL),
    (3, "[permissions]\n%any% allow display pointer", "bob", [], features("display pointer")),
    (
        4,
        "[permissions]\n%any% deny file-upload file-download printer\n%owner% allow builtin",
        "ann",
        [],
        ALL - features("file-download file-upload printer"),
    ),
    (4, "[permissions]\n%any% deny file-upload\n%owner% allow builtin", "bob", [], frozenset()),
    (5, f"{STOCK}%any% disallow printer", "ann", [], ALL - {"printer"}),
    (6, "[permissions]\n%any% disallow printer\n%owner% allow builtin", "ann", [], ALL),
    (6, "[permissions]\n%any% disallow printer\n%owner% allow builtin", "bob", [], frozenset()),
    (
        7,
        NESTED_GROUPS,
        "bob",
        [],
        features("clipboard-copy clipboard-paste display keyboard mouse pointer"),
    ),
    (7, NESTED_GROUPS, "dan", ["cad"], features("display keyboard mouse pointer")),
    (7, NESTED_GROUPS, "cid", [], frozenset()),
    (8, NESTED_ALIASES, "bob", [], features("display file-download file-upload")),
    (
        9,
        "[permissions]\nbob deny display\nbob allow builtin\n%any% allow display",
        "bob",
        [],
        ALL - {"display"},
    ),
    (9, "[permissions]\nbob deny display\n%any% allow display", "cid", [], features("display")),
    (10, "[permissions]\nbob allow keyboard-sas display", "bob", [], features("display")),
    (12, "", "ann", [], frozenset()),
    (13, "[permission]\n%owner% allow builtin", "ann", [], frozenset()),
    (14, THREE_BAD, "ann", [], ALL),
    (14, THREE_BAD, "bob", [], frozenset()),
    (15, WRONG_DEFINITIONS, "bob", [], features("display")),
    (17, OS_GROUP, "dan", ["cad"], features("display")),
    (17, OS_GROUP, "eve", ["cad"], features("display pointer")),
]


@pytest.mark.covers("P1")
@pytest.mark.parametrize(
    ("text", "user", "os_groups", "expected"),
    [pytest.param(*case[1:], id=f"example-{case[0]}-{case[2]}") for case in EXAMPLES],
)
def test_examples_give_the_stated_features(
    text: str, user: str, os_groups: list[str], expected: frozenset[str]
) -> None:
    """What a permissions text grants each person is what its statements say: the worked examples hold."""
    assert evaluate(text, "ann", user, os_groups) == expected


@pytest.mark.covers("P1")
def test_example_11_imports() -> None:
    """The worked examples hold, also where a text imports another file."""
    file = parse(IMPORTING, importer=files(base_perm=BASE))
    assert evaluate(file, "ann", "ann") == ALL - {"printer"}
    assert evaluate(file, "ann", "bob") == features("display keyboard mouse pointer")
    assert found(file) == []


@pytest.mark.covers("P1")
def test_example_16_goes_on_after_an_import_cycle() -> None:
    """The worked examples hold, also where files import each other in a circle: the rest counts."""
    assert evaluate(parse(CYCLE, importer=CYCLE_FILES), "ann", "ann") == ALL


@pytest.mark.covers("P2")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[permission]\n%owner% allow builtin", ["1:1 E-SECTION"], id="13"),
        pytest.param(THREE_BAD, ["3:5 E-RULE", "4:1 E-ACTOR", "5:1 E-STATEMENT"], id="14"),
        pytest.param(
            WRONG_DEFINITIONS,
            [
                "3:3 E-GROUP-CYCLE",
                "3:16 E-EMPTY-MEMBER",
                "5:1 E-ALIAS-SHADOWS",
                "8:1 E-UNKNOWN-GROUP",
                "9:11 W-UNKNOWN-FEATURE",
            ],
            id="15",
        ),
        pytest.param(
            CYCLE,
            ["3:23 W-UNKNOWN-FEATURE", "3:25 W-UNKNOWN-FEATURE", "b.perm 1:1 E-IMPORT-CYCLE"],
            id="16",
        ),
    ],
)
def test_invalid_examples_give_the_stated_codes_and_places(text: str, expected: list[str]) -> None:
    """Whatever is wrong in a text is found with its code, at its line and column."""
    file = parse(text, importer=CYCLE_FILES)
    assert [one for one in found(file) if "W-OWNER-LOCKED-OUT" not in one] == expected


@pytest.mark.covers("P2")
def test_findings_name_what_they_are_about_and_what_was_meant() -> None:
    """What is wrong is named at its line and column, with the name that was probably meant."""
    texts = {one.code: one.text for one in parse(WRONG_DEFINITIONS).diagnostics}
    assert texts["E-GROUP-CYCLE"].startswith("a:")
    assert texts["E-UNKNOWN-GROUP"].startswith("ops:")
    assert texts["E-ALIAS-SHADOWS"].startswith("display:")
    repairs = {one.code: one.repair for one in parse(WRONG_DEFINITIONS + "bob alow display\n").diagnostics}
    assert repairs["W-UNKNOWN-FEATURE"] == "display"
    assert repairs["E-RULE"] == "allow"


@pytest.mark.covers("P2")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[permissions]\n%any% disallow printer\n%owner% allow builtin", ["2:1 W-DEAD"]),
        ("[permissions]\nbob deny display\nbob allow builtin\n%any% allow display", ["3:1 W-BLIND-CONTROL"]),
        (
            "[permissions]\nbob allow keyboard-sas display",
            ["1:1 W-OWNER-LOCKED-OUT", "2:1 W-SAS-WITHOUT-KEYBOARD"],
        ),
    ],
)
def test_examples_6_9_and_10_give_their_warnings(text: str, expected: list[str]) -> None:
    """What is right but hardly meant is a warning with its code, at its line and column."""
    context = Context(owner="ann")
    # In example 9 nobody speaks of the owner, but everybody sees the picture.
    assert found(parse(text, context=context)) == expected


@pytest.mark.covers("P2")
@pytest.mark.parametrize("example", [1, 2, 3, 4, 5, 7, 8, 17])
def test_valid_examples_give_no_finding(example: int) -> None:
    """A text without faults gives no finding at any place."""
    for number, text, *_ in EXAMPLES:
        if number == example and "%owner%" in text:
            assert found(parse(text)) == []


# ------------------------------------------------------------------ what statements mean


@pytest.mark.covers("P3")
@given(st.permutations(["bob allow usb display", "bob deny usb", "%any% allow usb", "bob disallow mouse"]))
def test_the_place_of_a_deny_does_not_matter(order: list[str]) -> None:
    """A `deny` has the same result before and after the `allow` that it takes back."""
    text = "\n".join(["[permissions]", *order])
    assert evaluate(text, "ann", "bob") == {"display"}
    assert explain(text, "ann", "bob")["usb"].state is State.LOCKED


@pytest.mark.covers("P4")
def test_the_order_of_allow_and_disallow_matters() -> None:
    """Of `allow` and `disallow` of one person the later one counts."""
    first, second = "bob allow usb", "bob disallow usb"
    assert evaluate(f"[permissions]\n{first}\n{second}", "ann", "bob") == frozenset()
    assert evaluate(f"[permissions]\n{second}\n{first}", "ann", "bob") == {"usb"}


@pytest.mark.covers("P5")
def test_builtin_is_exactly_23_features() -> None:
    """`builtin` stands for exactly the 23 features that the server knows by itself."""
    assert len(FEATURES) == len(ALL) == 23
    assert sorted(name for group in FEATURE_GROUPS.values() for name in group) == sorted(FEATURES)
    assert evaluate(STOCK, "ann", "ann") == ALL


@pytest.mark.covers("P6")
def test_owner_is_whoever_owns_the_session() -> None:
    """`%owner%` is whoever owns the session: one text gives another result for another owner."""
    assert evaluate(STOCK, "ann", "bob") == frozenset()
    assert evaluate(STOCK, "bob", "bob") == ALL
    assert evaluate(STOCK, None, "bob") == frozenset()


@pytest.mark.covers("P7")
def test_groups_in_groups() -> None:
    """Groups may hold groups; a circle of them is reported once."""
    chain = "\n".join(f"g{number}=group:g{number + 1}" for number in range(20))
    text = f"[groups]\n{chain}\ng20=bob\n[permissions]\ngroup:g0 allow usb"
    assert evaluate(text, "ann", "bob") == {"usb"}


@pytest.mark.covers("P7")
def test_very_deep_groups_and_long_cycles_do_not_hang() -> None:
    """Groups in groups work to any depth, and a circle of them does not hang."""
    size = 20_000
    chain = "\n".join(f"g{number}=group:g{number + 1}" for number in range(size))
    assert evaluate(f"[groups]\n{chain}\ng{size}=bob\n[permissions]\ngroup:g0 allow usb", "ann", "bob") == {
        "usb"
    }
    file = parse(f"[groups]\n{chain}\ng{size}=group:g0, bob\n[permissions]\ngroup:g0 allow usb")
    assert found(file)[1:] == [f"{size + 2}:8 E-GROUP-CYCLE"]
    assert evaluate(file, "ann", "bob") == {"usb"}


@pytest.mark.covers("P8")
def test_aliases_in_aliases_before_their_definition() -> None:
    """Aliases may hold aliases, a circle of them is reported, and one may be used before it is defined."""
    chain = "\n".join(f"a{number}=a{number + 1}, a{number + 1}" for number in range(2_000))
    text = f"[permissions]\nbob allow a0\n[aliases]\n{chain}\na2000=usb, printer"
    assert evaluate(text, "ann", "bob") == features("usb printer")
    cyclic = parse("[aliases]\na=b, usb\nb=a, printer\nc=c\n[permissions]\n%owner% allow a c display")
    assert found(cyclic) == ["3:3 E-ALIAS-CYCLE", "4:3 E-ALIAS-CYCLE"]
    assert evaluate(cyclic, "ann", "ann") == features("usb printer display")


@pytest.mark.covers("P9")
def test_line_ends_marks_and_blanks_change_nothing() -> None:
    """Kinds of line ends, a byte-order mark, tabs and further blanks change nothing."""
    for text in (NESTED_GROUPS, NESTED_ALIASES, OS_GROUP):
        same = "\ufeff" + text.replace(" ", " \t ").replace("=", "\t=  ").replace("\n", "  \r\n")
        same = same.replace("[", " \t[")
        for variant in (same, same.encode()):
            file = parse(variant)
            assert found(file) == []
            for user in ("ann", "bob", "eve", "dan"):
                assert evaluate(file, "ann", user, ["cad"]) == evaluate(text, "ann", user, ["cad"])


@pytest.mark.covers("P9")
def test_columns_count_characters_without_the_mark() -> None:
    """A byte-order mark and tabs change no rights, and columns of findings do not count the mark."""
    assert found(parse("\ufeff[x]".encode()))[0] == "1:1 E-SECTION"
    assert (
        found(parse("[permissions]\n%owner% allow builtin\n\U0001f5a5é allow displya"))[0]
        == "3:10 W-UNKNOWN-FEATURE"
    )


@pytest.mark.covers("P10")
def test_comments_stand_on_lines_of_their_own() -> None:
    """A comment stands on a line of its own, anywhere; after a statement there is none."""
    commented = "; one\n" + NESTED_GROUPS.replace("\n", "\n \t; one more = [x] , bob allow\n")
    assert found(parse(commented)) == []
    assert evaluate(commented, "ann", "bob") == evaluate(NESTED_GROUPS, "ann", "bob")
    assert found(parse(STOCK + "bob allow display ; why")) == [
        "3:19 W-UNKNOWN-FEATURE",
        "3:21 W-UNKNOWN-FEATURE",
    ]
    assert found(parse("# a\n" + STOCK + "#importx\n#Import y")) == [
        "1:1 W-HASH-COMMENT",
        "4:1 W-HASH-COMMENT",
        "5:1 W-HASH-COMMENT",
    ]


@pytest.mark.covers("P11")
def test_sections_in_any_order_repeated_or_missing() -> None:
    """Sections may come in any order, several times, or be missing."""
    text = (
        "[permissions]\ngroup:g allow a\n[aliases]\na=usb\n[groups]\ng=bob\n"
        "[permissions]\ngroup:g allow b\n[aliases]\nb=mouse, display\n[permissions]\n%owner% allow builtin"
    )
    assert evaluate(text, "ann", "bob") == features("usb mouse display")
    assert found(parse(text)) == []
    assert found(parse("[groups]\n[aliases]\n")) == ["1:1 W-OWNER-LOCKED-OUT"]


@pytest.mark.covers("P12")
def test_import_paths_have_blanks_and_are_relative_to_their_file() -> None:
    """The path of an import may have blanks, and a relative one begins at the file that imports."""
    asked: list[str] = []

    def read(path: str) -> str:
        asked.append(path)
        return "#import ../c d.perm" if path == "x/y/a b.perm" else "[permissions]\n%any% allow usb"

    file = parse("#import \t y/a b.perm \t\n#import /etc/e.perm", name="x/main.perm", importer=read)
    assert asked == ["x/y/a b.perm", "x/c d.perm", "/etc/e.perm"]
    assert evaluate(file, "ann", "bob") == {"usb"}


@pytest.mark.parametrize(
    ("text", "importer", "expected"),
    [
        ("#import a.perm", None, "1:1 E-IMPORT-FORBIDDEN"),
        ("#import /secret/a", files(), "1:1 E-IMPORT-FORBIDDEN"),
        ("#import big.perm", files(big_perm=b";" * 65_537), "1:1 E-IMPORT-FORBIDDEN"),
        ("  #import a.perm", files(), "1:3 E-IMPORT-MISSING"),
        ("#import", files(), "1:1 E-IMPORT-SYNTAX"),
        ("#import \t ", files(), "1:1 E-IMPORT-SYNTAX"),
        ("#import a.perm", files(a_perm="#import ./x/../a.perm"), "a.perm 1:1 E-IMPORT-CYCLE"),
        ("#import a.perm", files(a_perm=b"\n;\xff"), "a.perm 2:2 E-ENCODING"),
        ("#import a.perm", files(a_perm="[x]"), "a.perm 1:1 E-SECTION"),
    ],
)
def test_imports_that_go_wrong_are_errors_without_effect(
    text: str, importer: Importer | None, expected: str
) -> None:
    file = parse(f"{text}\n{STOCK}", importer=importer)
    assert found(file) == [expected]
    assert evaluate(file, "ann", "ann") == ALL


def test_imports_end_at_eight_levels_and_never_multiply() -> None:
    def read(path: str) -> str:
        level = int(path)
        return "[permissions]\n%any% allow usb\n" if level == 8 else f"#import {level + 1}\n" * 10

    file = parse(f"#import 1\n{STOCK}", importer=read)
    assert len(file.effects) < 300
    assert "E-IMPORT-DEPTH" in "".join(found(file))

    def read_deeper(path: str) -> str:
        return f"#import {int(path) + 1}\n"

    assert found(parse(f"#import 1\n{STOCK}", importer=read_deeper)) == ["8 1:1 E-IMPORT-DEPTH"]


# ------------------------------------------------------------------ names and features


@pytest.mark.covers("P14")
def test_names_with_a_domain_are_members_and_actors() -> None:
    """A name with a Windows domain can be a member of a group and can be given rights."""
    text = "[groups]\ng=CORP\\dan\n[permissions]\ngroup:g allow usb\nCORP\\eve allow mouse display"
    assert evaluate(text, "ann", "CORP\\dan") == {"usb"}
    assert evaluate(text, "ann", "CORP\\eve") == features("mouse display")
    assert evaluate(text, "ann", "dan") == evaluate(text, "ann", "corp\\dan") == frozenset()
    for name in ("dan", "Dan", "corp\\DAN"):
        assert evaluate(text, "ann", name, windows=True) == {"usb"}
    assert evaluate(text, "ann", "OTHER\\dan", windows=True) == frozenset()
    assert evaluate(STOCK, "corp\\Ann", "ann", windows=True) == ALL
    assert evaluate("[permissions]\nbob allow usb", "ann", "CORP\\bob", windows=True) == {"usb"}


@pytest.mark.covers("P15")
def test_os_groups_count_where_the_host_says_so_and_have_their_own_row() -> None:
    """A group of the operating system counts where the host says who is in it, and has a row of its own."""
    rows = {row.label: row.features for row in matrix(NESTED_GROUPS, "ann")}
    assert rows == {
        "owner": ALL,
        "bob": features("clipboard-copy clipboard-paste display keyboard mouse pointer"),
        "eve": features("clipboard-copy clipboard-paste display keyboard mouse pointer"),
        "group:leads": features("clipboard-copy clipboard-paste display keyboard mouse pointer"),
        "group:team": features("display keyboard mouse pointer"),
        "osgroup:cad": features("display keyboard mouse pointer"),
        "anybody else": frozenset(),
    }
    assert evaluate("[permissions]\nosgroup:domain allow usb", "ann", "bob", ["domain"]) == {"usb"}


@pytest.mark.covers("P16")
def test_unknown_features_are_warnings_and_stay_in_the_text() -> None:
    """A feature that nobody knows is a warning and stays in the text that is sent."""
    text = STOCK + "bob allow display holodeck\n"
    file = parse(text)
    assert [(one.code, one.level, one.column) for one in file.diagnostics] == [
        ("W-UNKNOWN-FEATURE", Level.WARNING, 19)
    ]
    assert (file.text, str(file)) == (text, text)
    assert evaluate(file, "ann", "bob") == {"display"}


@pytest.mark.covers("P17")
def test_undefined_clipboard_management_is_both_clipboard_features() -> None:
    """`clipboard-management`, where no alias defines it, grants both clipboard features with a warning."""
    text = STOCK + "bob allow display clipboard-management\n"
    assert evaluate(text, "ann", "bob") == features("display clipboard-copy clipboard-paste")
    assert codes(text) == {"W-UNKNOWN-FEATURE"}
    defined = text + "[aliases]\nclipboard-management=clipboard-paste\n"
    assert evaluate(defined, "ann", "bob") == features("display clipboard-paste")
    assert codes(defined) == set()


@pytest.mark.covers("P18")
def test_keyboard_sas_needs_keyboard() -> None:
    """The right to secure attention keys is worth nothing without the keyboard."""
    text = STOCK + "%any% disallow keyboard\n"
    assert evaluate(text, "ann", "ann") == ALL - features("keyboard keyboard-sas")
    assert "W-SAS-WITHOUT-KEYBOARD" in codes(text)
    decision = explain(text, "ann", "ann")["keyboard-sas"]
    assert decision.statement
    assert decision.statement.line == 3


@pytest.mark.covers("P19")
@pytest.mark.parametrize("text", ["", "\n\n", ";\n", "[permissions]\n", b""])
def test_an_empty_text_revokes_all_and_says_so(text: str | bytes) -> None:
    """A text without statements takes all rights away, and a finding says so before it is sent."""
    file = parse(text)
    assert evaluate(file, "ann", "ann") == frozenset()
    assert found(file) == ["1:1 W-OWNER-LOCKED-OUT"]


# ------------------------------------------------------------------ several files


def test_a_default_and_a_custom_file_follow_each_other() -> None:
    default = "[groups]\ng=bob\n[aliases]\nx=usb\n[permissions]\n%any% deny printer\ngroup:g allow x"
    custom = "[groups]\ng=cid\n[aliases]\nx=mouse\n[permissions]\n%owner% allow builtin\ngroup:g allow x\n"
    custom += "bob disallow usb"
    assert evaluate([default, custom], "ann", "ann") == ALL - {"printer"}
    assert evaluate([default, custom], "ann", "bob") == frozenset()
    assert evaluate([default], "ann", "bob") == {"usb"}
    assert evaluate([default, custom], "ann", "cid") == {"mouse"}
    assert {row.label for row in matrix([default, custom], "ann")} >= {"group:g", "bob", "cid"}
