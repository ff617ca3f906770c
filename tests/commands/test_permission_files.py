"""`permissions` and `requirements`: files and expressions looked at without a screen."""

import io
import json
import sys
from pathlib import Path

import pytest

from dcvtui.api.permissions import FEATURES, PRESETS
from tests.awkward_broker import AwkwardBroker
from tests.commands.recording import SERVER, Fleet, Shell

GOOD = "[groups]\nteam=bob, eve\n\n[permissions]\n%owner% allow builtin\ngroup:team allow display pointer\n"
BAD = "[permissions]\n%owner% allow builtin\nbob permit display\ncid allow displya\n"
WARNED = "[permissions]\n%owner% allow builtin\nbob allow mouse\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"good": GOOD, "bad": BAD, "warned": WARNED}.items():
        (tmp_path / f"{name}.perm").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.covers("P30")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["good.perm"], 0),
        (["good.perm", "--strict"], 0),
        (["bad.perm"], 5),
        (["warned.perm"], 0),
        (["warned.perm", "--strict"], 5),
        (["no-such.perm"], 252),
    ],
)
async def test_check_ends_with_5_for_errors_and_with_strict_for_warnings(
    files: Path, shell: Shell, options: list[str], code: int
) -> None:
    """`permissions check` ends with 0 without errors, with 5 with some, strictly also for warnings."""
    await shell("permissions", "check", *options, code=code)


async def test_each_finding_is_a_line_that_editors_understand(
    files: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = await shell("permissions", "check", "bad.perm", "--output", "table", code=5)
    assert out.splitlines() == [
        "bad.perm:3:5: E-RULE permit: not allow, disallow or deny",
        "bad.perm:4:11: W-UNKNOWN-FEATURE displya: no feature and no alias, did you mean display?",
    ]
    piped(monkeypatch, BAD)
    found = await shell.json("permissions", "check", "-", code=5)
    assert found["findings"][0] == {
        "file": "<stdin>",
        "line": 3,
        "column": 5,
        "level": "error",
        "code": "E-RULE",
        "text": "permit: not allow, disallow or deny",
    }
    assert found["findings"][1]["repair"] == "display"


async def test_imports_are_followed_from_the_importing_file(files: Path, shell: Shell) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "base.perm").write_text("[permissions]\nbob permit display\n")
    (files / "main.perm").write_text("#import sub/base.perm\n[permissions]\n%owner% allow builtin\n")
    out = await shell("permissions", "check", "main.perm", "--output", "table", code=5)
    assert out.startswith("sub/base.perm:2:5: E-RULE")


async def test_hostile_names_in_a_file_cannot_steer_the_terminal(files: Path, shell: Shell) -> None:
    (files / "hostile.perm").write_text("[permissions]\n\x1b[2J permit display\n%owner% allow builtin\n")
    out = await shell("permissions", "check", "hostile.perm", "--output", "table", code=5)
    assert "\x1b" not in out


async def test_explain_names_the_deciding_line_of_each_feature(files: Path, shell: Shell) -> None:
    line = ["permissions", "explain", "good.perm", "--owner", "ana", "--user"]
    rows = (await shell(*line, "bob", "--output", "table")).splitlines()
    assert len(rows) == 1 + len(FEATURES)
    assert rows[0].split() == ["FEATURE", "STATE", "LINE", "STATEMENT"]
    assert next(row for row in rows if row.startswith("display")).split() == [
        *["display", "granted", "6", "group:team", "allow", "display", "pointer"]
    ]
    assert await shell(*line, "bob", "--output", "ids") == "display\npointer\n"
    assert len((await shell(*line, "ana", "--output", "ids")).split()) == len(FEATURES)
    found = await shell.json(*line, "cid")
    assert {one["state"] for one in found["features"]} == {"refused"}
    host = "[permissions]\nosgroup:cad allow display\n"
    (files / "host.perm").write_text(host)
    options = ["--owner", "ana", "--user", "dan", "--os-group", "cad", "--output", "ids"]
    assert await shell("permissions", "explain", "host.perm", *options) == "display\n"


@pytest.mark.covers("P30")
async def test_diff_ends_with_5_if_rights_differ(
    files: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`permissions diff` prints the text's and the rights' differences and ends with 5 if rights differ."""
    line = ["permissions", "diff", "good.perm"]
    out = await shell(*line, "bad.perm", "--owner", "ana", "--output", "table", code=5)
    assert "-group:team allow display pointer" in out
    assert "bob loses display pointer\n" in out
    found = await shell.json(*line, "bad.perm", code=5)
    assert {"who": "eve", "gained": [], "lost": ["display", "pointer"]} in found["rights"]
    (files / "commented.perm").write_text("; nothing more\n" + GOOD)
    out = await shell(*line, "commented.perm", "--output", "table")
    assert "+; nothing more" in out
    assert out.endswith("Nobody gains or loses anything.\n")
    piped(monkeypatch, GOOD)
    await shell(*line, "-")
    await shell("permissions", "diff", "-", "-", code=252)


async def test_presets_are_listed_and_printed(files: Path, shell: Shell) -> None:
    assert (await shell("permissions", "preset", "--output", "ids")).split() == list(PRESETS)
    assert [one["name"] for one in (await shell.json("permissions", "preset"))["presets"]] == list(PRESETS)
    line = ["permissions", "preset", "view-only", "--for", "bob", "--output", "table"]
    assert await shell(*line) == "[permissions]\nbob allow display pointer\n"
    assert (await shell(*line, "--file", "good.perm")).endswith("pointer\nbob allow display pointer\n")
    denied = GOOD + "bob deny display\n"
    (files / "denied.perm").write_text(denied)
    await shell(*line, "--file", "denied.perm")
    assert "bob does not get display all the same: line 7, bob deny display" in shell.err
    assert await shell("permissions", "preset", "revoke-all", "--output", "table") == ""
    assert "shuts the owner out" in shell.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["view-onyl", "--for", "bob"], "Did you mean 'view-only'?"),
        (["view-only"], "with --for"),
        (["view-only", "--for", "%nobody%"], "cannot be named"),
    ],
)
async def test_a_preset_that_cannot_be_is_252(shell: Shell, options: list[str], words: str) -> None:
    await shell("permissions", "preset", *options, code=252)
    assert words in shell.err


# ------------------------------------------------------------------ requirements


@pytest.fixture
def two_servers(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.servers = [
        SERVER | {"Host": {"Os": {"Family": "linux"}}},
        SERVER | {"Id": "srv-2", "Hostname": "win-1", "Tags": [], "Host": {"Os": {"Family": "windows"}}},
    ]


async def test_requirements_list_the_servers_that_they_fit_now(two_servers: None, shell: Shell) -> None:
    line = ["requirements", "check"]
    assert await shell(*line, "server:Host.Os.Family = 'linux'", "--output", "ids") == "srv-1\n"
    assert shell.err == "dcvtui: It fits 1 of 2 servers.\n"
    found = await shell.json(*line, "tag:team = 'cad' or server:Host.Os.Family = 'windows'")
    assert [server["Id"] for server in found["Servers"]] == ["srv-1", "srv-2"]
    assert await shell(*line, "tag:team = 'other'", "--output", "ids", code=5) == ""
    assert "fits 0 of 2 servers" in shell.err


async def test_a_caret_stands_under_the_fault(broker: AwkwardBroker, shell: Shell) -> None:
    assert await shell("requirements", "check", "tag:a = 'x' and server:Host.Os.Famly = 'y'", code=252) == ""
    lines = shell.err.splitlines()
    assert lines[0].index("server:Host") == lines[1].index("^")
    assert "Did you mean server:Host.Os.Family?" in lines[2]
    assert broker.asked == []


async def test_no_broker_is_needed_for_permissions(files: Path, shell: Shell) -> None:
    for line in (["check", "good.perm"], ["preset", "owner-only"], ["diff", "good.perm", "good.perm"]):
        assert json.loads(await shell("permissions", *line))
