"""Command lines: what each sends, what it prints, and how it ends."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dcvtui import cli
from dcvtui.private_files import replace_private
from tests.awkward_broker import Asked, AwkwardBroker, HangUp, awkward_broker, reply

BASE64 = base64.b64encode(b"[permissions]\n").decode()
UUID = "3f0c6a34-0000-4000-8000-000000000001"
SESSION = {"Id": UUID, "Name": "cad-1", "Owner": "ana", "Type": "VIRTUAL", "State": "READY"}


async def empty(_asked: Asked) -> bytes:
    return reply({"RequestId": "r", "SuccessfulList": [], "UnsuccessfulList": []})


@pytest.fixture
async def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwkwardBroker]:
    """A recording broker that the environment leads to."""
    async with awkward_broker(tmp_path, empty) as running:
        monkeypatch.setenv("DCV_SM_BROKER_URL", running.url)
        monkeypatch.setenv("DCV_SM_CLIENT_ID", "an-id")
        monkeypatch.setenv("DCV_SM_CLIENT_PASSWORD", "a-secret")
        monkeypatch.setenv("DCV_SM_CA_BUNDLE", str(running.ca_file))
        yield running


async def run(*arguments: str) -> int:
    """Run a command line in a thread, as a command has an event loop of its own."""
    return await asyncio.to_thread(cli.run, list(arguments))


# ------------------------------------------------------------------ values


async def test_ids_are_read_from_standard_input(
    broker: AwkwardBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n\n b \n"))
    await run("open-servers", "--server-ids", "-")
    assert broker.asked[0].json == [{"ServerId": "a"}, {"ServerId": "b"}]


async def test_a_permissions_file_is_a_path_standard_input_or_base64(
    broker: AwkwardBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "given.perm").write_bytes(b"[permissions]\n")
    line = ["update-session-permissions", "--session-id", "s", "--owner", "o", "--permissions-file"]
    standard_input = io.TextIOWrapper(io.BytesIO(b"[permissions]\n"))
    monkeypatch.setattr(sys, "stdin", standard_input)
    for value in (str(tmp_path / "given.perm"), "@-", BASE64):
        await run(*line, value)
    assert [asked.json[0]["PermissionsFile"] for asked in broker.asked] == [BASE64] * 3


async def test_global_options_stand_before_and_after_the_verb_and_the_later_wins(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = sessions_of(SESSION)
    assert await run("--output", "csv", "describe-sessions", "--output", "ids") == 0
    assert capsys.readouterr().out == UUID + "\n"
    assert await run("--output", "ids", "--ca-bundle", str(broker.ca_file), "describe-sessions") == 0
    assert capsys.readouterr().out == UUID + "\n"


# ------------------------------------------------------------------ lists


def sessions_of(*sessions: dict[str, Any]) -> Callable[[Asked], Any]:
    async def pages(asked: Asked) -> bytes:
        position = int(asked.json.get("NextToken", 0))
        page: dict[str, Any] = {"RequestId": f"r{position}", "Sessions": [sessions[position]]}
        if position + 1 < len(sessions):
            page["NextToken"] = str(position + 1)
        return reply(page)

    return pages


MANY = [
    SESSION | {"Id": str(number), "Name": f"cad-{number}", "NumOfConnections": number} for number in range(3)
]


async def test_all_pages_are_followed_and_joined_in_a_pipe(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = sessions_of(*MANY)
    assert await run("describe-sessions") == 0
    assert json.loads(capsys.readouterr().out) == {"Sessions": MANY, "RequestId": "r2"}


async def test_one_page_is_given_with_its_token(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = sessions_of(*MANY)
    assert await run("describe-sessions", "--max-results", "1") == 0
    assert json.loads(capsys.readouterr().out) == {"Sessions": MANY[:1], "NextToken": "1", "RequestId": "r0"}


async def test_filter_sort_and_columns_work_over_all_pages(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = sessions_of(*MANY)
    line = ["describe-sessions", "--output", "tsv", "--columns", "name,clients"]
    assert await run(*line, "--sort", "-clients", "--filter", "clients<2") == 0
    assert capsys.readouterr().out == "name\tclients\ncad-1\t1\ncad-0\t0\n"


async def test_sessions_are_filtered_by_the_tags_of_their_server(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    server = {"Id": "x", "Tags": [{"Key": "team", "Value": "cad"}]}
    broker.answer = sessions_of(MANY[0], MANY[1] | {"Server": server})
    assert await run("describe-sessions", "--output", "ids", "--filter", "tag:team=cad") == 0
    assert capsys.readouterr().out == "1\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--filter", "(name:x"], "is not understood at column"),
        (["--columns", "colour"], "There is no column 'colour'"),
        (["--sort", "-colour"], "There is no column 'colour'"),
        (["--output", "csv", "--output-format", "json"], "contradict each other"),
    ],
)
async def test_a_value_that_prevents_the_command_ends_with_252(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert await run("describe-sessions", *options) == 252
    assert words in capsys.readouterr().err
    assert broker.asked == []


# ------------------------------------------------------------------ results


def deleting(*failed: str) -> Callable[[Asked], Any]:
    async def answer(asked: Asked) -> bytes:
        done = [
            {"SessionId": i["SessionId"], "State": "DELETING"}
            for i in asked.json
            if i["SessionId"] not in failed
        ]
        not_done = [{"SessionId": identity, "FailureReason": "why \x1b[1m"} for identity in failed]
        return reply({"RequestId": "r", "SuccessfulList": done, "UnsuccessfulList": not_done, "New": 1})

    return answer


DELETE = ["delete-session", "--owner", "ana", "--session-id", "a,b"]


async def test_all_done_is_0_and_json_is_the_reply(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = deleting()
    assert await run(*DELETE) == 0
    printed = json.loads(capsys.readouterr().out)
    done = [{"SessionId": identity, "State": "DELETING"} for identity in "ab"]
    assert printed == {"RequestId": "r", "New": 1, "SuccessfulList": done, "UnsuccessfulList": []}


async def test_a_failed_item_is_3_or_0_for_compatibility(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = deleting("b")
    assert await run(*DELETE) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["UnsuccessfulList"][0]["FailureReason"] == "why \x1b[1m"
    assert printed.err == "dcvtui: b: failed: why ␛[1m\n"
    assert await run(*DELETE, "--compat-exit") == 0


async def test_a_table_of_results(broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.answer = deleting("b")
    assert await run(*DELETE, "--output", "table") == 3
    assert (
        capsys.readouterr().out
        == "RESULT  STATE     ID  REASON\ndone    DELETING  a\nfailed            b   why ␛[1m\n"
    )
    assert await run(*DELETE, "--output", "ids") == 3
    assert capsys.readouterr().out == "a\n"
    assert await run(*DELETE, "--output", "csv") == 3
    assert capsys.readouterr().out == "result,name,state,id,reason\ndone,,DELETING,a,\nfailed,,,b,why ␛[1m\n"


async def test_a_lost_answer_is_3_and_not_known(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hang_up(_asked: Asked) -> bytes:
        raise HangUp

    broker.answer = hang_up
    assert await run(*DELETE) == 3
    assert "dcvtui: a: not known: The broker" in capsys.readouterr().err
    assert len(broker.asked) == 1


async def test_many_items_report_progress_on_standard_error(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = deleting()
    ids = ",".join(str(number) for number in range(60))
    assert await run("delete-session", "--owner", "ana", "--session-ids", ids, "--output", "json") == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["dcvtui: 50 of 60", "dcvtui: 60 of 60"]
    assert len(json.loads(printed.out)["SuccessfulList"]) == 60


async def test_read_only_refuses_changes_and_nothing_else(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--read-only", *DELETE) == 252
    assert "read-only, so nothing was sent" in capsys.readouterr().err
    assert await run("--read-only", "describe-servers") == 0
    assert [asked.path for asked in broker.asked] == ["/describeServers"]


async def test_connection_data_is_a_table_of_links_or_the_reply(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"Session": SESSION | {"Server": {"Ip": "10.0.0.5", "Port": "8443"}}, "ConnectionToken": "t.k.n"}

    async def answer(_asked: Asked) -> bytes:
        return reply(data)

    broker.answer = answer
    line = ["get-session-connection-data", "--session-id", UUID, "--user", "bob"]
    assert await run(*line) == 0
    assert json.loads(capsys.readouterr().out) == data
    assert await run(*line, "--output", "table") == 0
    printed = capsys.readouterr().out
    assert f"web          https://10.0.0.5:8443/?authToken=t.k.n#{UUID}\n" in printed
    assert f"native       dcv://10.0.0.5:8443/?authToken=t.k.n#{UUID}\n" in printed
    assert "valid until  not known" in printed


async def test_screenshots_are_a_table_or_the_reply(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = {"Format": "png", "Data": "AAAA", "CreationTime": "2026-03-01T09:00:00.000Z", "Primary": True}
    data = {
        "RequestId": "r",
        "SuccessfulList": [{"SessionScreenshot": {"SessionId": "a", "Images": [picture]}}],
        "UnsuccessfulList": [{"GetSessionScreenshotRequestData": {"SessionId": "b"}, "FailureReason": "why"}],
    }

    async def answer(_asked: Asked) -> bytes:
        return reply(data)

    broker.answer = answer
    line = ["get-session-screenshots", "--session-ids", "a,b"]
    assert await run(*line) == 3
    assert json.loads(capsys.readouterr().out) == data
    assert await run(*line, "--output", "table", "--compat-exit") == 0
    assert [row.split() for row in capsys.readouterr().out.splitlines()] == [
        ["ID", "FORMAT", "BYTES", "TAKEN", "REASON"],
        ["a", "png", "3", "2026-03-01T09:00:00.000Z"],
        ["b", "why"],
    ]


# ------------------------------------------------------------------ how it ends


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["--bogus"], 2, "No such option '--bogus'"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["describe-sessions", "--bogus"], 2, "No such option '--bogus'"),
        (["watch", "sessions", "extra"], 2, "unexpected extra argument"),
        (["create-session", "--name", "n"], 2, "Missing option '--owner'"),
        (["open-servers", "--server-ids", " , "], 2, "names no id"),
        (["describe-sessions", "--max-results", "0"], 252, "is not in the range"),
        (["describe-sessions", "--tag", "x"], 252, "KEY=VALUE"),
        (["--output", "xml", "describe-sessions"], 252, "'xml' is not one of"),
        (
            ["update-session-permissions", "--session-id", "s", "--permission-file", "./none"],
            252,
            "There is no file",
        ),
        (["--broker-url", "http://broker", "describe-sessions"], 252, "begins with http://"),
        (["--trust-fingerprint", "ab", "describe-sessions"], 252, "64 hexadecimal digits"),
        (["--conf", "/none.conf", "describe-sessions"], 1, "cannot be read"),
        (["--profile", "none", "describe-sessions"], 253, "There is no profile 'none'"),
        (["--ca-bundle", "/none.pem", "describe-sessions"], 253, "does not exist"),
        (["demo", "--servers", "-1"], 252, "is not in the range"),
        (["demo"], 252, "needs a terminal. Take --no-ui"),
    ],
)
async def test_what_is_not_understood_is_one_sentence_and_its_code(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str], line: list[str], code: int, words: str
) -> None:
    assert await run(*line) == code
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""
    assert broker.asked == []


async def test_no_configuration_is_253(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("describe-sessions") == 253
    assert capsys.readouterr().err.startswith("dcvtui: No broker is configured.")


async def test_a_broker_that_is_not_reached_or_not_trusted_is_6(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DCV_SM_CA_BUNDLE")
    for line in (["describe-sessions"], DELETE):
        assert await run(*line) == 6
        assert "--trust-fingerprint SHA256:" in capsys.readouterr().err
    monkeypatch.setenv("DCV_SM_BROKER_URL", "https://127.0.0.1:9")
    for line in (["describe-sessions"], DELETE):
        assert await run(*line) == 6
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert "connection refused" in printed.err


@pytest.mark.parametrize("line", [["describe-sessions"], DELETE])
async def test_an_answer_that_is_an_error_is_254(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    async def refused(_asked: Asked) -> bytes:
        return reply({"error": "Unsupported filter"}, "400 Bad Request")

    broker.answer = refused
    assert await run(*line) == 254
    assert "Unsupported filter" in capsys.readouterr().err


async def test_no_check_of_the_certificate_warns_once(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DCV_SM_CA_BUNDLE")
    assert await run("--no-verify-ssl", "describe-sessions") == 0
    assert capsys.readouterr().err.count("--trust-fingerprint") == 1


async def test_the_official_configuration_file_is_enough(
    broker: AwkwardBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DCV_SM_BROKER_URL", "DCV_SM_CLIENT_ID", "DCV_SM_CLIENT_PASSWORD", "DCV_SM_CA_BUNDLE"):
        monkeypatch.delenv(name)
    path = tmp_path / "dcvsmcli.conf"
    replace_private(
        path,
        f"[security]\nca-bundle = {broker.ca_file}\n[broker]\nurl = {broker.url}\n"
        "[authentication]\nclient-id = conf-id\nclient-password = conf-secret\n".encode(),
    )
    assert await run("--conf", str(path), "describe-servers") == 0
    basic = base64.b64encode(b"conf-id:conf-secret").decode()
    assert broker.token_requests[0].headers["authorization"] == f"Basic {basic}"


@pytest.mark.covers("W14")
async def test_no_token_or_secret_is_logged(
    broker: AwkwardBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line logs no connection token, access token or secret, not even with --debug."""

    async def answer(_asked: Asked) -> bytes:
        return reply({"Session": SESSION, "ConnectionToken": "t.o.k"})

    broker.answer = answer
    line = ["get-session-connection-data", "--session-id", UUID, "--user", "bob", "--debug"]
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "dcvtui", *line], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "sessionConnectionData" in done.stderr
    for secret in ("a-secret", "token-1", "t.o.k"):
        assert secret not in done.stderr


# ------------------------------------------------------------------ start-up


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dcvtui", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"DCV_SM_BROKER_URL": "http://broker:8443"}, 253, "begins with http://"),
        ({"DCV_SM_BROKER_URL": "https://broker:8443"}, 253, "The client id or the client secret is missing."),
        (
            {
                "DCV_SM_BROKER_URL": "https://broker",
                "DCV_SM_OAUTH2_TOKEN": "t",
                "DCV_SM_CA_BUNDLE": "/none.pem",
            },
            253,
            "The CA file '/none.pem' does not exist.",
        ),
    ],
)
def test_a_console_that_cannot_start_says_why_in_one_sentence(
    environ: dict[str, str], code: int, words: str
) -> None:
    terminal, other_end = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dcvtui"],
            stdin=other_end,
            stdout=other_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            env=os.environ | environ,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(other_end)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_alone_it_prints_its_help_where_there_is_no_terminal() -> None:
    done = fresh()
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: dcvtui ")
    assert done.stdout == fresh("--help").stdout == fresh("-h").stdout


@pytest.mark.parametrize(
    "line",
    [
        ["--version"],
        ["--help"],
        ["--bogus"],
        *([name, "--help"] for section in cli.SECTIONS.values() for name in section),
    ],
)
def test_help_and_version_load_nothing_heavy(line: list[str]) -> None:
    code = (
        "import sys\nfrom dcvtui import cli\n"
        f"cli.run({line!r})\n"
        "print(sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.splitlines()[-1]
    # The network's own libraries, and those of tokens, among them.
    for heavy in (
        "textual",
        "rich",
        "httpx",
        "authlib",
        "joserfc",
        "pydantic",
        "yaml",
        "PIL",
        "asyncio",
        "ssl",
    ):
        assert f"'{heavy}'" not in loaded


async def test_lists_load_neither_models_nor_screen(broker: AwkwardBroker) -> None:
    code = (
        "import sys\nfrom dcvtui import cli\n"
        "code = cli.run(['describe-sessions'])\n"
        "print(code, sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("0 [")
    for heavy in ("textual", "rich", "authlib", "pydantic"):
        assert f"'{heavy}'" not in done.stderr


async def test_a_closed_pipe_ends_silently(broker: AwkwardBroker) -> None:
    broker.answer = sessions_of(*(SESSION | {"Id": str(number), "Name": "x" * 5000} for number in range(60)))
    line = f"{sys.executable} -m dcvtui describe-sessions | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["{", '  "Sessions": [', "    {", "0"]


async def test_ctrl_c_prints_what_was_done_and_what_is_not_known(broker: AwkwardBroker) -> None:
    stuck = asyncio.Event()

    async def second_hangs(asked: Asked) -> bytes:
        if len(broker.asked) == 2:
            stuck.set()
            await asyncio.Event().wait()
        answer: bytes = await deleting()(asked)
        return answer

    broker.answer = second_hangs
    ids = ",".join(str(number) for number in range(120))
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "dcvtui", "delete-session", "--owner", "o", "--session-ids", ids],
        *["--output", "csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await asyncio.wait_for(stuck.wait(), 30)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    results = [line.split(",")[0] for line in out.decode().splitlines()[1:]]
    assert process.returncode == 130
    assert results == ["done"] * 50 + ["not known"] * 50 + ["not sent"] * 20


def test_an_unknown_theme_is_named_with_the_nearest() -> None:
    from dcvtui.errors import ConfigError
    from dcvtui.tui.themes import theme_named

    assert theme_named("light") == "dcvtui-light"
    assert theme_named("nord") == "nord"
    with pytest.raises(ConfigError, match="did you mean nord"):
        theme_named("norrd")
