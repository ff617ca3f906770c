"""Links to sessions in every form, and screenshots as files, in the terminal and as the API gives them."""

import asyncio
import base64
import json
import os
import stat
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcvtui.console_files import ConsoleFiles
from dcvtui.sent_permissions import SentPermissions
from tests.awkward_broker import Asked, AwkwardBroker, reply
from tests.commands.recording import SERVER, Fleet, Shell, session
from tests.pseudo_terminal import Terminal

PROGRAM = [sys.executable, "-m", "dcvtui"]
TOKEN = "head.{}.signature"
DIRECT = "198.51.100.7:8443/?authToken="


def token_ending(end: int) -> str:
    return TOKEN.format(base64.urlsafe_b64encode(json.dumps({"exp": end}).encode()).decode().rstrip("="))


FAR = token_ending(4_000_000_000)


def picture(colour: str = "red", kind: str = "PNG") -> str:
    data = BytesIO()
    Image.new("RGB", (160, 90), colour).save(data, kind)
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def reachable(broker: AwkwardBroker, fleet: Fleet) -> AwkwardBroker:
    """Gives connection data and pictures too."""
    fleet.sessions = [session(1), session(2, Name="a/../b \x1b[2J", Owner="bob")]
    usual = broker.answer

    async def answer(asked: Asked) -> bytes:
        if asked.path.startswith("/sessionConnectionData/"):
            _, _, identity, _user = asked.path.split("/")
            return reply({"Session": session(int(identity[-1])), "ConnectionToken": FAR, "New": 1})
        if asked.path == "/getSessionScreenshots":
            return reply(shots(asked.json))
        good: bytes = await usual(asked)
        return good

    broker.answer = answer
    return broker


def shots(items: list[dict[str, Any]]) -> dict[str, Any]:
    done, refused = [], []
    for item in items:
        if item["SessionId"] == "gone":
            refused.append({"GetSessionScreenshotRequestData": item, "FailureReason": "no such session"})
            continue
        images = [
            {"Format": "jpeg", "Data": picture("blue", "JPEG"), "CreationTime": "t", "Primary": False},
            {"Format": "png", "Data": picture(), "CreationTime": "t", "Primary": True},
        ]
        done.append({"SessionScreenshot": {"SessionId": item["SessionId"], "Images": images}})
    return {"RequestId": "r", "SuccessfulList": done, "UnsuccessfulList": refused}


# ------------------------------------------------------------------ links


@pytest.mark.parametrize(
    ("options", "link"),
    [
        ([], f"https://{DIRECT}{FAR}#id-1"),
        (["--form", "url"], f"https://{DIRECT}{FAR}#id-1"),
        (["--form", "native"], f"dcv://{DIRECT}{FAR}#id-1"),
        (["--gateway", "gw.example:443"], f"https://gw.example:443/?authToken={FAR}#id-1"),
        (["--form", "native", "--gateway", "[2001:db8::1]:8443"], f"dcv://[2001:db8::1]:8443/?authToken={FAR}#id-1"),
    ],
)  # fmt: skip
@pytest.mark.covers("W1", "W2", "W3")
async def test_a_link_stands_alone_on_standard_output(
    reachable: AwkwardBroker, shell: Shell, options: list[str], link: str
) -> None:
    """A link has the published form byte for byte; a gateway changes host and port; IPv6 has brackets."""
    assert await shell("connect", "id-1", *options) == link + "\n"
    assert "for ana, valid until" in shell.err
    assert FAR not in shell.err
    assert reachable.asked[-1].path == "/sessionConnectionData/id-1/ana"


async def test_the_user_is_the_owner_unless_named(reachable: AwkwardBroker, shell: Shell) -> None:
    await shell("connect", "id-2")
    await shell("connect", "id-1", "--user", "CORP\\eve")
    paths = [asked.path for asked in reachable.asked if "Data" in asked.path]
    assert paths == ["/sessionConnectionData/id-2/bob", "/sessionConnectionData/id-1/CORP%5Ceve"]
    await shell("connect", "no-such", code=254)
    assert "lists no session 'no-such'" in shell.err


@pytest.mark.covers("W4")
async def test_a_connection_file_is_for_its_owner_only_and_holds_no_password(
    reachable: AwkwardBroker, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file begins with its version, can be read by its owner only, and holds no password."""
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "to bob.dcv"
    assert await shell("connect", "id-1", "--form", "dcv") == "ana_cad-1.dcv\n"
    assert await shell("connect", "id-1", "--file", str(named)) == f"{named}\n"
    for path in (tmp_path / "ana_cad-1.dcv", named):
        text = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert text.startswith("[version]\nformat=1.0\n\n[connect]\nhost=198.51.100.7\nport=8443\n")
        assert f"authtoken={FAR}\n" in text
        assert "password" not in text
    assert await shell("connect", "id-1", "--file", "-") == named.read_text()
    await shell("connect", "id-1", "--file", "/no/such/folder/x.dcv", code=252)
    assert "cannot be written" in shell.err


async def test_over_ssh_the_line_that_fetches_the_file_is_told(
    reachable: AwkwardBroker, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    await shell("connect", "id-1", "--file", str(tmp_path / "x.dcv"))
    assert f"scp {os.uname().nodename}:{tmp_path}/x.dcv ." in shell.err


async def test_the_raw_answer_is_the_brokers(reachable: AwkwardBroker, shell: Shell) -> None:
    answer = json.loads(await shell("connect", "id-1", "--form", "json"))
    assert answer == {"Session": session(1), "ConnectionToken": FAR, "New": 1}


async def test_what_may_keep_a_client_out_is_said_before(
    reachable: AwkwardBroker, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = reachable.answer

    async def full(asked: Asked) -> bytes:
        if "Data" not in asked.path:
            good: bytes = await usual(asked)
            return good
        private = SERVER | {"Ip": "10.0.0.5"}
        fields = {"MaxConcurrentClients": 1, "NumOfConnections": 1, "State": "CREATING", "Server": private}
        return reply({"Session": session(1, **fields), "ConnectionToken": token_ending(1)})

    reachable.answer = full
    await shell("connect", "id-1")
    for words in ("is CREATING", "All places are taken", "private address", "The token has ended"):
        assert words in shell.err


async def test_whom_the_permissions_sent_last_shut_out_is_told(
    reachable: AwkwardBroker, shell: Shell
) -> None:
    name = reachable.url.removeprefix("https://")
    sent = SentPermissions(ConsoleFiles.standard().permissions(name))
    sent.note(["id-1"], "[permissions]\n%owner% allow builtin\n", datetime(2026, 3, 1, tzinfo=UTC))
    await shell("connect", "id-1")
    assert "do not let" not in shell.err
    await shell("connect", "id-1", "--user", "bob")
    assert "The permissions sent last do not let bob see this session." in shell.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gateway", "nonsense"], "is no gateway"),
        (["--gateway", "a:1", "--direct"], "contradicts --direct"),
        (["--file", "x", "--form", "native"], "contradicts --form native"),
        (["--form", "dvc"], "Did you mean 'dcv'?"),
    ],
)
async def test_wrong_wishes_are_one_sentence(
    reachable: AwkwardBroker, shell: Shell, options: list[str], words: str
) -> None:
    assert await shell("connect", "id-1", *options, code=252) == ""
    assert words in shell.err
    assert shell.err.count("\n") == 1


# ------------------------------------------------------------------ pictures


async def test_pictures_become_files_named_after_their_sessions(
    reachable: AwkwardBroker, shell: Shell, tmp_path: Path
) -> None:
    folder = tmp_path / "shots"
    out = await shell("screenshot", "id-1,id-2", "gone", "--dir", str(folder), "--max-width", "200", code=3)
    names = ["cad-1.png", "cad-1-2.jpg", "a_.._b_2J.png", "a_.._b_2J-2.jpg"]
    paths = [Path(line) for line in out.splitlines()]
    assert [path.parent for path in paths] == [folder] * 4
    assert [path.name for path in paths][:2] == names[:2]
    assert sorted(folder.iterdir()) == sorted(paths)
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with Image.open(path) as image:
            assert image.size == (160, 90)
    assert shell.err == "dcvtui: gone: failed: no such session\n"
    [asked] = [asked for asked in reachable.asked if "Screenshots" in asked.path]
    assert asked.json[0] == {"SessionId": "id-1", "MaxWidth": 200}


async def test_seven_pictures_are_two_calls_and_a_failed_call_does_not_end_the_rest(
    reachable: AwkwardBroker, shell: Shell, tmp_path: Path
) -> None:
    usual = reachable.answer
    calls = 0

    async def first_fails(asked: Asked) -> bytes:
        nonlocal calls
        if "Screenshots" in asked.path:
            calls += 1
            if calls == 1:
                return reply({"error": "too large"}, "400 Bad Request")
        good: bytes = await usual(asked)
        return good

    reachable.answer = first_fails
    ids = ",".join(f"s{number}" for number in range(7))
    out = await shell("screenshot", ids, "--dir", str(tmp_path), code=3)
    assert [Path(line).name for line in out.splitlines()] == ["s5.png", "s5-2.jpg", "s6.png", "s6-2.jpg"]
    assert shell.err.count("no picture") == 5


async def test_a_picture_is_drawn_into_the_terminal(reachable: AwkwardBroker) -> None:
    def look() -> tuple[str, set[str]]:
        with Terminal([*PROGRAM, "screenshot", "id-1", "--show"], 60, 60) as terminal:
            assert terminal.wait_exit() == 0
            colours = {terminal.screen.buffer[row][30].bg for row in range(60)}
            return terminal.text, colours

    text, colours = await asyncio.to_thread(look)
    assert "cad-1, 160x90" in text
    assert "cad-1, display 2, 160x90" in text
    assert {"ff0000", "default"} <= colours
    assert any(colour.startswith("0000f") for colour in colours)


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ([], {}, "There is no terminal to draw in. Name a folder with --dir."),
        (["--dir", "/proc/no"], {}, "cannot be made"),
        (["--dir", "x", "--show"], {}, "contradicts --dir"),
    ],
)
async def test_pictures_that_have_no_place_are_252(
    reachable: AwkwardBroker, shell: Shell, options: list[str], environment: dict[str, str], words: str
) -> None:
    await shell("screenshot", "id-1", *options, code=252)
    assert words in shell.err
    assert not [asked for asked in reachable.asked if "Screenshots" in asked.path]


async def test_the_official_verb_prints_the_reply_in_every_format(
    reachable: AwkwardBroker, shell: Shell
) -> None:
    line = ["get-session-screenshots", "--session-ids", "id-1,gone"]
    answer = await shell.json(*line, code=3)
    assert answer == shots([{"SessionId": "id-1"}, {"SessionId": "gone"}])
    assert await shell(*line, "--output", "ids", code=3) == "id-1\nid-1\n"
    rows = (await shell(*line, "--output", "csv", code=3)).splitlines()
    assert rows[0] == "id,format,bytes,taken,reason"
    assert rows[-1] == "gone,,,,no such session"
