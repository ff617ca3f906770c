"""Lists of servers and sessions: pages as they come, every format, and a page that does not come."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.awkward_broker import Asked, AwkwardBroker, reply
from tests.commands.recording import SERVER, Fleet, Shell, session
from tests.invented_broker import invented_broker
from tests.pseudo_terminal import Terminal

PROGRAM = [sys.executable, "-m", "dcvtui"]
LIST = ["describe-sessions"]


@pytest.fixture
def three_pages(broker: AwkwardBroker, fleet: Fleet) -> AwkwardBroker:
    fleet.page = 1
    fleet.sessions = [session(number, Name=f"cad-{number}", Unknown={"x": [number]}) for number in range(3)]
    return broker


def fail_at(broker: AwkwardBroker, number: int, answer: bytes) -> None:
    """Answer so from that page on, counted from 1."""
    usual = broker.answer

    async def failing(asked: Asked) -> bytes:
        if int(asked.json.get("NextToken", 0)) >= number - 1:
            return answer
        good: bytes = await usual(asked)
        return good

    broker.answer = failing


# ------------------------------------------------------------------ a page that does not come


@pytest.mark.parametrize("chosen", ["json", "yaml"])
async def test_a_list_whose_later_page_fails_stays_readable_and_says_where_it_goes_on(
    three_pages: AwkwardBroker, shell: Shell, chosen: str
) -> None:
    fail_at(three_pages, 3, reply({"error": "Database is down"}, "500 Internal Server Error"))
    out = await shell(*LIST, "--output", chosen, code=254)
    found = json.loads(out) if chosen == "json" else yaml.safe_load(out)
    assert [one["Name"] for one in found["Sessions"]] == ["cad-0", "cad-1"]
    assert found["NextToken"] == "2"
    assert shell.err.startswith("dcvtui: The list ends here. ")
    assert "Database is down" in shell.err


@pytest.mark.parametrize(("chosen", "lines"), [("ids", 2), ("csv", 3), ("tsv", 3), ("table", 3)])
async def test_rows_that_came_before_are_printed(
    three_pages: AwkwardBroker, shell: Shell, chosen: str, lines: int
) -> None:
    fail_at(three_pages, 3, reply({"error": "no"}, "400 Bad Request"))
    out = await shell(*LIST, "--output", chosen, code=254)
    assert len(out.splitlines()) == lines
    assert "The list ends here." in shell.err


async def test_a_list_whose_first_page_fails_prints_nothing(three_pages: AwkwardBroker, shell: Shell) -> None:
    fail_at(three_pages, 1, reply({"error": "no"}, "400 Bad Request"))
    assert await shell(*LIST, code=254) == ""
    assert "The list ends" not in shell.err


async def test_ctrl_c_between_pages_leaves_whole_json(three_pages: AwkwardBroker) -> None:
    usual = three_pages.answer
    stuck = asyncio.Event()

    async def second_hangs(asked: Asked) -> bytes:
        if "NextToken" in asked.json:
            stuck.set()
            await asyncio.Event().wait()
        answer: bytes = await usual(asked)
        return answer

    three_pages.answer = second_hangs
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *LIST, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await asyncio.wait_for(stuck.wait(), 30)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err.strip()) == (130, b"")
    assert [one["Name"] for one in json.loads(out)["Sessions"]] == ["cad-0"]


# ------------------------------------------------------------------ formats


async def test_yaml_is_the_reply_and_cannot_steer_a_terminal(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.page = 1
    hostile = session(2, Name="\x1b[2J\u202eb\xfccher", Owner="no", Unknown=[1.5, None, True])
    fleet.sessions = [session(1), hostile]
    out = await shell(*LIST, "--output", "yaml")
    assert out.isascii()
    assert re.search("[\x00-\x09\x0b-\x1f]", out) is None
    found = yaml.safe_load(out)
    assert found == {"Sessions": [session(1), hostile], "RequestId": "r1"}
    fleet.sessions = []
    assert yaml.safe_load(await shell(*LIST, "--output", "yaml")) == {"Sessions": [], "RequestId": "r0"}


@pytest.mark.parametrize("line", [["describe-sessions"], ["describe-servers"]])
async def test_every_format_prints_both_lists(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, line: list[str]
) -> None:
    fleet.sessions, fleet.servers = [session(1), session(2)], [dict(SERVER)]
    wires = fleet.sessions if line == LIST else fleet.servers
    ids = [wire["Id"] for wire in wires]
    name = "Sessions" if line == LIST else "Servers"
    assert (await shell(*line, "--output", "ids")).split() == ids
    assert (await shell.json(*line))[name] == wires
    assert yaml.safe_load(await shell(*line, "--output-format", "yaml"))[name] == wires
    for chosen, separator in (("csv", ","), ("tsv", "\t")):
        rows = (await shell(*line, "--output", chosen, "--columns", "id,state")).splitlines()
        assert rows[0] == f"id{separator}state"
        assert [row.split(separator)[0] for row in rows[1:]] == ids
    assert (await shell(*line, "--output", "table")).count("\n") == 1 + len(ids)


async def test_sort_collects_all_pages_and_sorts_by_what_a_column_means(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.page = 2
    fleet.sessions = [session(n, NumOfConnections=n) for n in (10, 2, 9)]
    assert (await shell(*LIST, "--sort", "clients", "--output", "ids")).split() == ["id-2", "id-9", "id-10"]
    found = await shell.json(*LIST, "--sort", "-clients")
    assert [one["NumOfConnections"] for one in found["Sessions"]] == [10, 9, 2]
    assert "NextToken" not in found


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--columns", "nmae"], "There is no column 'nmae'. Did you mean 'name'?"),
        (["--sort", "-clents"], "There is no column 'clents'. Did you mean 'clients'?"),
        (["--filter", "stat:x"], "no column is called stat, the nearest is state"),
        (["--output", "jsn"], "Did you mean 'json'?"),
        (["--output-format", "tabel"], "Did you mean 'table'?"),
    ],
)
async def test_a_wrong_value_is_252_and_names_the_nearest(
    broker: AwkwardBroker, shell: Shell, option: list[str], words: str
) -> None:
    assert await shell(*LIST, *option, code=252) == ""
    assert words in shell.err
    assert shell.err.count("\n") == 1
    assert broker.asked == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["descripe-sessions"], "No such command 'descripe-sessions'. Did you mean 'describe-sessions'?"),
        (["describe-sessions", "--colums", "x"], "No such option '--colums'. Did you mean '--columns'?"),
        (["permissions", "chek", "x"], "No such command 'chek'. Did you mean 'check'?"),
    ],
)
async def test_a_wrong_word_is_2_and_names_the_nearest(shell: Shell, line: list[str], words: str) -> None:
    assert await shell(*line, code=2) == ""
    assert shell.err.startswith(f"dcvtui: {words} See: dcvtui")
    assert shell.err.count("\n") == 1


# ------------------------------------------------------------------ on a terminal


async def test_a_table_shows_the_columns_that_the_window_has_room_for(
    broker: AwkwardBroker, fleet: Fleet
) -> None:
    fleet.sessions = [session(1, Id="3f0c6a34-0000-4000-8000-000000000001")]

    def look(columns: int, *options: str) -> list[str]:
        with Terminal([*PROGRAM, *LIST, *options], columns, 10) as terminal:
            assert terminal.wait_exit() == 0
            return terminal.text.splitlines()[0].split()

    narrow, wide, named = [
        await asyncio.to_thread(look, *how) for how in ((80,), (160,), (80, "--columns", "id,name,server"))
    ]
    assert narrow == ["NAME", "OWNER", "STATE", "CLIENTS", "SERVER", "ID"] or narrow[-1] == "ID"
    assert wide == ["NAME", "OWNER", "TYPE", "STATE", "SERVER", "CLIENTS", "AGE", "ID"]
    assert named == ["ID", "NAME", "SERVER"]


async def test_the_official_spelling_wins_over_the_terminal(
    broker: AwkwardBroker, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.sessions = [session(1)]
    conf = tmp_path / "dcvsmcli.conf"
    conf.write_text("[output]\noutput-format = json\n")

    def look(*options: str) -> str:
        with Terminal([*PROGRAM, *options, *LIST], 80, 60) as terminal:
            assert terminal.wait_exit() == 0
            return terminal.text

    for options in (["--output-format", "json"], ["--conf", str(conf)]):
        assert '"Sessions": [' in await asyncio.to_thread(look, *options)


async def test_how_far_a_long_list_is_stands_on_standard_error_of_a_terminal_only(
    three_pages: AwkwardBroker, shell: Shell, tmp_path: Path
) -> None:
    await shell(*LIST, "--sort", "name")
    assert shell.err == ""
    out = tmp_path / "out"

    def look() -> bytes:
        master, slave = os.openpty()
        with out.open("wb") as file:
            done = subprocess.Popen([*PROGRAM, *LIST, "--sort", "name"], stdout=file, stderr=slave)
        os.close(slave)
        assert done.wait(60) == 0
        seen = os.read(master, 65536)
        os.close(master)
        return seen

    seen = await asyncio.to_thread(look)
    assert b"1 session read" in seen
    assert b"2 sessions read" in seen
    assert seen.endswith(b"\r\x1b[K")
    assert len(json.loads(out.read_text())["Sessions"]) == 3


# ------------------------------------------------------------------ memory


def peak_kib(environment: dict[str, str], out: Path) -> int:
    """The most memory that printing all sessions takes."""
    code = (
        "import sys, resource\nfrom dcvtui import cli\n"
        "code = cli.run(['describe-sessions'])\n"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    with out.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=file,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
            timeout=110,
            check=True,
        )
    result, peak = done.stderr.split()
    assert result == b"0"
    return int(peak)


def test_ten_thousand_sessions_take_hardly_more_memory_than_two_thousand(tmp_path: Path) -> None:
    peaks = []
    for count in (2000, 10000):
        with invented_broker(tmp_path / str(count), servers=100, sessions=count) as broker:
            out = tmp_path / f"{count}.json"
            peaks.append(peak_kib(broker.environment, out))
            assert len(json.loads(out.read_text())["Sessions"]) == count
    few, many = peaks
    print(f"describe-sessions: {many / few:.2f}x the memory at 10,000 sessions than at 2,000")
    assert many <= 1.5 * few
