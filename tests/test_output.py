import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dcvtui.errors import (
    ConfigError,
    NotAuthorized,
    NotTrusted,
    NotUnderstood,
    ProgramError,
    Refused,
    TimedOut,
    Unreachable,
)
from dcvtui.list_output import SERVERS, SESSIONS, ListKind, writer
from dcvtui.output import ExitCode, Format, choose_format, exit_code_of, write_separated, write_table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAD = {
    "Id": "11111111-1111-1111-1111-111111111111",
    "Name": "cad-1",
    "Owner": "ana",
    "Type": "VIRTUAL",
    "State": "READY",
    "NumOfConnections": 2,
    "CreationTime": "2026-03-01T09:00:00.000Z",
    "Server": {"Id": "s", "Hostname": "gpu-1"},
    "NotYetInvented": {"x": [1]},
}
HOSTILE = CAD | {"Id": "2", "Name": "\x1b[2J日本\u202e", "Owner": 'a\tb,"c"\nd', "NumOfConnections": 10}


def printed(chosen: Format, *pages: list[dict[str, Any]], kind: ListKind = SESSIONS, **rest: Any) -> str:
    out = io.StringIO()
    printer = writer(chosen, kind, None, out, NOW)
    for number, entities in enumerate(pages):
        page = {kind.name: entities, "RequestId": f"r{number}", **rest}
        printer.page(kind.rows(page), page)
    printer.finish()
    return out.getvalue()


# ------------------------------------------------------------------ which format


@pytest.mark.parametrize(
    ("output", "official", "from_file", "is_terminal", "chosen"),
    [
        (None, None, None, True, Format.TABLE),
        (None, None, None, False, Format.JSON),
        (None, None, "json", True, Format.JSON),
        (None, "json", None, True, Format.JSON),
        ("csv", None, "json", True, Format.CSV),
        ("json", "json", None, True, Format.JSON),
    ],
)
def test_options_win_over_the_file_and_that_over_the_terminal(
    output: str | None, official: str | None, from_file: str | None, is_terminal: bool, chosen: Format
) -> None:
    assert choose_format(output, official, from_file, is_terminal=is_terminal) is chosen


def test_two_formats_at_once_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_format("csv", "json", None, is_terminal=True)
    assert caught.value.exit_code == 252


def test_a_file_with_an_unknown_format_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="'xml' is not known") as caught:
        choose_format(None, None, "xml", is_terminal=True)
    assert caught.value.exit_code == 253


# ------------------------------------------------------------------ lists


def test_a_table_has_its_widths_from_the_first_page() -> None:
    wide = CAD | {"Name": "a-longer-name-than-any-before"}
    assert printed(Format.TABLE, [CAD, CAD | {"NumOfConnections": 10}], [wide]).splitlines() == [
        "NAME   OWNER  TYPE     STATE  SERVER  CLIENTS  AGE  ID",
        "cad-1  ana    VIRTUAL  READY  gpu-1         2  3 h  11111111-1111-1111-1111-111111111111",
        "cad-1  ana    VIRTUAL  READY  gpu-1        10  3 h  11111111-1111-1111-1111-111111111111",
        "a-longer-name-than-any-before  ana    VIRTUAL  READY  gpu-1         2  3 h  "
        "11111111-1111-1111-1111-111111111111",
    ]


def test_an_empty_list_is_its_heads() -> None:
    assert printed(Format.TABLE, []) == "NAME  OWNER  TYPE  STATE  SERVER  CLIENTS  AGE  ID\n"
    assert printed(Format.CSV, []) == "name,owner,type,state,server,clients,age,id\n"
    assert printed(Format.IDS, []) == ""
    assert json.loads(printed(Format.JSON, [])) == {"Sessions": [], "RequestId": "r0"}


def test_names_from_elsewhere_cannot_steer_a_terminal_and_keep_columns_straight() -> None:
    head, first, second = printed(Format.TABLE, [HOSTILE, CAD]).splitlines()
    assert first.startswith('␛[2J日本<U+202E>  a␉b,"c"␊d  VIRTUAL')
    assert second.startswith("cad-1" + " " * 11 + "  ana")
    assert head.startswith("NAME" + " " * 12 + "  OWNER")


@pytest.mark.parametrize(("chosen", "delimiter"), [(Format.CSV, ","), (Format.TSV, "\t")])
def test_separated_values_are_read_again_one_row_a_line(chosen: Format, delimiter: str) -> None:
    text = printed(chosen, [CAD], [HOSTILE])
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    assert [row["owner"] for row in rows] == ["ana", 'a␉b,"c"␊d']
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text


def test_ids_are_one_a_line() -> None:
    assert printed(Format.IDS, [CAD], [HOSTILE]) == f"{CAD['Id']}\n2\n"


def test_json_is_the_reply_with_joined_lists_unknown_fields_and_everything_escaped() -> None:
    text = printed(Format.JSON, [CAD], [HOSTILE], More={"a": [1]})
    assert json.loads(text) == {"Sessions": [CAD, HOSTILE], "RequestId": "r1", "More": {"a": [1]}}
    assert text.isascii()
    assert "\x1b" not in text
    assert text.startswith('{\n  "Sessions": [\n    {\n      "Id": ')


def test_one_page_keeps_its_token() -> None:
    assert json.loads(printed(Format.JSON, [CAD], NextToken="t"))["NextToken"] == "t"


def test_servers_have_their_own_columns() -> None:
    server = {"Id": "abc", "Hostname": "gpu-1", "Availability": "UNAVAILABLE"}
    head, row = printed(
        Format.TABLE, [server | {"UnavailabilityReason": "SERVER_CLOSED"}], kind=SERVERS
    ).splitlines()
    assert head.split() == ["NAME", "STATE", "SESSIONS", "OS", "LOAD", "MEM", "TAGS", "ID"]
    assert row.split() == ["gpu-1", "SERVER_CLOSED", "0", "abc"]


def test_columns_are_chosen_by_id_in_any_case() -> None:
    assert [column.id for column in SERVERS.choose(["ID", "load5"])] == ["id", "load5"]
    with pytest.raises(ConfigError, match=r"There is no column 'colour'.*name, state") as caught:
        SERVERS.choose(["colour"])
    assert caught.value.exit_code == 252


def test_small_tables_are_made_visible_too() -> None:
    out = io.StringIO()
    write_table(("RESULT", "REASON"), [("done", ""), ("failed", "\x1b[31mno")], out)
    assert out.getvalue() == "RESULT  REASON\ndone\nfailed  ␛[31mno\n"
    out = io.StringIO()
    write_separated(("RESULT", "REASON"), [("failed", "\x1b[31m,")], out, ",")
    assert out.getvalue() == 'result,reason\nfailed,"␛[31m,"\n'


# ------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("", 1), ExitCode.FILE_DAMAGED),
        (ConfigError(""), ExitCode.BAD_ENVIRONMENT),
        (Unreachable(""), ExitCode.NOT_REACHED),
        (NotTrusted(""), ExitCode.NOT_REACHED),
        (TimedOut(""), ExitCode.NOT_REACHED),
        (NotAuthorized(""), ExitCode.BROKER_ERROR),
        (NotUnderstood(""), ExitCode.BROKER_ERROR),
        (Refused("", status=400, text=""), ExitCode.BROKER_ERROR),
        (ProgramError(""), ExitCode.OTHER),
    ],
)
def test_every_error_has_its_exit_code(error: ProgramError, code: ExitCode) -> None:
    assert exit_code_of(error) == code


def test_exit_codes_are_those_of_the_official_client_and_ours() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "FILE_DAMAGED": 1,
        "NOT_UNDERSTOOD": 2,
        "ITEMS_FAILED": 3,
        "WAIT_TIMED_OUT": 4,
        "ANSWER_IS_NO": 5,
        "NOT_REACHED": 6,
        "INTERRUPTED": 130,
        "BAD_VALUE": 252,
        "BAD_ENVIRONMENT": 253,
        "BROKER_ERROR": 254,
        "OTHER": 255,
    }
