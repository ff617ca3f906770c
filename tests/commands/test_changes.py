"""Changing many things at once: bulk by filter, dry runs, waiting, reaping, and what is said of each item."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.awkward_broker import Asked, AwkwardBroker, reply
from tests.commands.recording import SERVER, Fleet, Shell, session
from tests.pseudo_terminal import Terminal

PROGRAM = [sys.executable, "-m", "dcvtui"]


def changed(broker: AwkwardBroker) -> list[tuple[str, object]]:
    """What was asked for beside descriptions."""
    return [(asked.path, asked.json) for asked in broker.asked if "describe" not in asked.path]


# ------------------------------------------------------------------ ids


async def test_ids_stand_behind_the_command_too_and_standard_input_gives_some(
    broker: AwkwardBroker, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("c\nd\n"))
    await shell("delete-session", "a,b", "-", "--session-id", "e", "--owner", "ana")
    [(_, items)] = changed(broker)
    assert [item["SessionId"] for item in items] == ["e", "a", "b", "c", "d"]  # type: ignore[attr-defined]


async def test_no_ids_on_standard_input_is_nothing_to_do(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.sessions = [session(1)]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert await shell.json("delete-session", "-") == {"SuccessfulList": [], "UnsuccessfulList": []}
    assert "nothing to do" in shell.err
    # A broker that is asked for no ids lists everything.
    assert await shell.json("describe-sessions", "-") == {"Sessions": []}
    assert broker.asked == []


async def test_a_hundred_and_twenty_ids_are_three_calls_with_a_result_for_each(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.failures = {"7": "why not"}
    ids = ",".join(str(number) for number in range(120))
    out = await shell("open-servers", ids, "--output", "csv", code=3)
    assert [len(items) for _, items in changed(broker)] == [50, 50, 20]  # type: ignore[arg-type]
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert len(rows) == 120
    assert [row for row in rows if row[0] != "done"] == [["failed", "", "", "7", "why not"]]
    assert shell.err.splitlines()[:3] == ["dcvtui: 50 of 120", "dcvtui: 100 of 120", "dcvtui: 120 of 120"]


# ------------------------------------------------------------------ bulk


async def test_a_filter_takes_the_place_of_ids_and_needs_yes(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.sessions = [session(1), session(2, Owner="bob"), session(3, NumOfConnections=2)]
    fleet.sessions += [session(4, State="DELETED"), session(5, Owner="eve", State="DELETING")]
    line = ["delete-session", "--filter", "owner:ana,eve"]
    assert await shell(*line, code=252) == ""
    assert "Give --yes" in shell.err
    assert changed(broker) == []
    await shell(*line, "--yes")
    assert changed(broker) == [("/deleteSessions", [{"SessionId": "id-1", "Owner": "ana"}])]
    assert "cad-3: left out: 2 clients are connected" in shell.err
    broker.asked.clear()
    await shell(*line, "--yes", "--include-connected", "--force")
    [(_, items)] = changed(broker)
    assert items == [{"SessionId": one, "Owner": "ana", "Force": True} for one in ("id-1", "id-3")]


async def test_ids_named_one_by_one_are_deleted_as_the_official_client_does(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.sessions = [session(3, NumOfConnections=2)]
    await shell("delete-session", "--session-id", "id-3", "--owner", "ana")
    assert changed(broker) == [("/deleteSessions", [{"SessionId": "id-3", "Owner": "ana"}])]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["delete-session", "--filter", "  "], 252, "An empty filter would mean every session"),
        (["delete-session", "--filter", "colour:red"], 252, "no column is called colour"),
        (["delete-session", "--filter", "stat:ready"], 252, "the nearest is state"),
        (["delete-session", "--filter", "x", "a"], 252, "contradict each other"),
        (["delete-session"], 2, "--filter EXPR"),
        (["close-servers"], 2, "--server-ids"),
        (["reap"], 2, "--filter"),
        (["create-session", "--name", "n", "--owner", "o", "--type", "virtual", "--count", "2"], 252, "{n}"),
        (["delete-session", "a", "--wait-for", "redy"], 252, "Did you mean 'ready'?"),
    ],
)
async def test_what_is_wrong_is_one_sentence_before_anything_is_sent(
    broker: AwkwardBroker, shell: Shell, line: list[str], code: int, words: str
) -> None:
    assert await shell(*line, code=code) == ""
    assert words in shell.err
    assert shell.err.count("\n") == 1
    assert broker.asked == []


async def test_nothing_found_is_nothing_to_do(broker: AwkwardBroker, fleet: Fleet, shell: Shell) -> None:
    fleet.servers = [dict(SERVER)]
    assert await shell("open-servers", "--filter", "state:closed", "--yes", "--output", "table") == ""
    assert shell.err == "dcvtui: There is no server to open.\n"
    assert changed(broker) == []


async def test_servers_are_closed_by_filter_those_with_sessions_by_force(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.servers = [SERVER | {"VirtualSessionCount": 2}, SERVER | {"Id": "srv-2", "Hostname": "gpu-2"}]
    await shell("close-servers", "--filter", "tag:team=cad", "--yes")
    assert changed(broker) == [("/closeServers", [{"ServerId": "srv-2"}])]
    assert "gpu-1: left out: 2 sessions run on it" in shell.err
    broker.asked.clear()
    await shell("close-servers", "--filter", "tag:team=cad", "--yes", "--force")
    [(_, items)] = changed(broker)
    assert items == [{"ServerId": "srv-1", "Force": True}, {"ServerId": "srv-2", "Force": True}]


@pytest.mark.parametrize(("answer", "is_sent"), [("y", True), ("n", False), ("", False)])
async def test_on_a_terminal_the_items_are_shown_and_a_person_is_asked(
    broker: AwkwardBroker, fleet: Fleet, answer: str, is_sent: bool
) -> None:
    fleet.sessions = [session(1), session(2)]

    def look() -> str:
        with Terminal([*PROGRAM, "delete-session", "--filter", "owner:ana"], 100, 30) as terminal:
            terminal.wait_for("Delete 2 sessions? [y/N]")
            terminal.type(answer + "\r")
            assert terminal.wait_exit() == 0
            return terminal.text

    text = await asyncio.to_thread(look)
    assert "cad-1" in text
    assert "cad-2" in text
    assert bool(changed(broker)) == is_sent
    assert ("Nothing was changed." in text) != is_sent


# ------------------------------------------------------------------ dry runs


async def test_a_dry_run_prints_the_items_and_the_request_without_its_token(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, tmp_path: Path
) -> None:
    fleet.sessions = [session(1, Owner="bob")]
    path = tmp_path / "p.perm"
    path.write_text("[permissions]\n%owner% allow builtin\nsecretive allow display\n")
    encoded = base64.b64encode(path.read_bytes()).decode()
    line = ["update-session-permissions", "id-1", "--permission-file", str(path), "--dry-run"]
    items = await shell.json(*line)
    assert items == [
        {"SessionId": "id-1", "PermissionsFile": f"({len(encoded)} characters of Base64)", "Owner": "bob"}
    ]
    assert changed(broker) == []
    assert f"PUT {broker.url}/sessionPermissions\nAuthorization: Bearer •••\n" in shell.err
    for secret in (encoded, "secretive", "token-1", "a-secret"):
        assert secret not in shell.err


SIXTY = ["create-session", "--name", "n{n}", "--count", "60"]


@pytest.mark.parametrize(
    ("line", "path", "count"),
    [
        ([*SIXTY, "--owner", "o", "--type", "virtual"], "/createSessions", 60),
        (["delete-session", "id-1", "id-2", "--force"], "/deleteSessions", 2),
        (["delete-session", "--filter", "owner:ana"], "/deleteSessions", 2),
        (["open-servers", "srv-1"], "/openServers", 1),
        (["close-servers", "--filter", "name:gpu-1"], "/closeServers", 1),
    ],
)  # fmt: skip
async def test_every_change_can_be_rehearsed_also_where_it_is_not_allowed(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, line: list[str], path: str, count: int
) -> None:
    fleet.sessions, fleet.servers = [session(1), session(2)], [dict(SERVER)]
    items = await shell.json("--read-only", *line, "--dry-run")
    assert len(items) == count
    assert changed(broker) == []
    assert shell.err.count(f"POST {broker.url}{path}\n") == -(-count // 50)
    table = await shell(*line, "--dry-run", "--output", "table")
    assert len(table.splitlines()) == 1 + count


async def test_a_dry_run_finds_what_would_fail(broker: AwkwardBroker, fleet: Fleet, shell: Shell) -> None:
    fleet.sessions = [session(1)]
    assert await shell("delete-session", "id-1", "gone", "--dry-run", "--output", "ids", code=3) == "id-1\n"
    assert "gone: failed: The broker lists no session with this id" in shell.err


# ------------------------------------------------------------------ waiting

CREATE = ["create-session", "--name", "cad", "--owner", "ana", "--type", "virtual", "--wait"]


async def test_a_created_session_is_waited_for_and_every_step_is_told(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.story = [
        {},
        {"id-1": {"Substate": "PENDING_PREPARATION"}},
        {"id-1": {"State": "READY", "Substate": None, "New": 1}},
    ]
    made = await shell.json(*CREATE)
    assert [(one["Id"], one["State"], one["New"]) for one in made["SuccessfulList"]] == [("id-1", "READY", 1)]
    assert made["UnsuccessfulList"] == []
    assert shell.err.splitlines() == [
        "dcvtui: cad: CREATING",
        "dcvtui: cad: CREATING (PENDING_PREPARATION)",
        "dcvtui: cad: READY",
    ]


async def test_a_session_that_turns_unknown_while_it_is_created_is_a_failed_item(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.story = [{"id-1": {"State": "UNKNOWN", "StateReason": "no X server"}}]
    made = await shell.json(*CREATE, code=3)
    assert made["SuccessfulList"] == []
    assert made["UnsuccessfulList"] == [{"SessionId": "id-1", "FailureReason": "no X server"}]
    assert "cad: failed: no X server" in shell.err


async def test_a_wait_that_takes_too_long_is_4_and_prints_what_there_is(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    out = await shell(*CREATE, "--timeout", "0", "--output", "table", code=4)
    assert [line.split() for line in out.splitlines()] == [
        ["RESULT", "NAME", "STATE", "ID"],
        ["done", "cad", "CREATING", "id-1"],
    ]
    assert shell.err.splitlines()[-1] == "dcvtui: 1 session not ready after 0 s."


@pytest.mark.parametrize("last", [None, {"State": "DELETED"}])
async def test_a_deletion_is_over_when_it_is_deleted_or_no_longer_listed(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell, last: dict[str, str] | None
) -> None:
    fleet.sessions = [session(1, State="DELETING"), session(2, State="DELETING")]
    fleet.story = [{"id-1": {}, "id-2": None}, {"id-1": last}]
    done = await shell.json("delete-session", "id-1", "id-2", "--owner", "ana", "--wait")
    assert done["SuccessfulList"] == [{"SessionId": i, "State": "DELETED"} for i in ("id-1", "id-2")]


async def test_a_server_is_waited_for_until_it_is_empty(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    closed = {"Availability": "UNAVAILABLE", "UnavailabilityReason": "SERVER_CLOSED"}
    fleet.servers = [SERVER | closed | {"VirtualSessionCount": 2}]
    fleet.story = [{}, {"srv-1": {"VirtualSessionCount": 1}}, {"srv-1": {"VirtualSessionCount": 0}}]
    await shell("close-servers", "srv-1", "--force", "--wait-for", "empty")
    assert shell.err.splitlines() == [
        "dcvtui: gpu-1: SERVER_CLOSED, 2 sessions",
        "dcvtui: gpu-1: SERVER_CLOSED, 1 session",
        "dcvtui: gpu-1: SERVER_CLOSED, 0 sessions",
    ]


async def test_a_broker_that_is_away_for_a_while_does_not_end_the_wait(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    usual, looks = broker.answer, 0

    async def away_once(asked: Asked) -> bytes:
        nonlocal looks
        if "describe" in asked.path:
            looks += 1
            if looks <= 3:  # each look is tried three times
                return reply({"error": "Database is down"}, "503 Service Unavailable")
            fleet.sessions[0]["State"] = "READY"
        answer: bytes = await usual(asked)
        return answer

    broker.answer = away_once
    await shell(*CREATE)
    assert "Asking again until the time is over." in shell.err
    assert "cad: READY" in shell.err


async def test_ctrl_c_while_waiting_prints_what_was_done(broker: AwkwardBroker, fleet: Fleet) -> None:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *CREATE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert b"CREATING" in await asyncio.wait_for(process.stderr.readline(), 30)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert [one["Id"] for one in json.loads(out)["SuccessfulList"]] == ["id-1"]


# ------------------------------------------------------------------ reap


async def test_reap_waits_until_all_are_gone(broker: AwkwardBroker, fleet: Fleet, shell: Shell) -> None:
    fleet.sessions = [session(1), session(2, NumOfConnections=1), session(3, Owner="bob")]
    fleet.story = [{}, {"id-1": {"State": "DELETING"}}, {"id-1": {"State": "DELETED"}}]
    out = await shell("reap", "--filter", "owner:ana idle>1d", "--yes", "--output", "table")
    assert [line.split() for line in out.splitlines()[1:]] == [["done", "cad-1", "DELETED", "id-1"]]
    assert changed(broker) == [("/deleteSessions", [{"SessionId": "id-1", "Owner": "ana"}])]


async def test_reap_counts_what_cannot_be_reached_as_failed_without_force(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.sessions = [session(1, State="UNKNOWN"), session(2)]
    fleet.story = [{}, {"id-2": None}]
    answer = await shell.json("reap", "--filter", "name:cad-*", "--yes", code=3)
    [failed] = answer["UnsuccessfulList"]
    assert failed["SessionId"] == "id-1"
    assert "--force forgets it" in failed["FailureReason"]
    fleet.story = [{}, {"id-1": None}]
    await shell("reap", "--filter", "state:unknown", "--yes", "--force")
    assert changed(broker)[-1][1] == [{"SessionId": "id-1", "Owner": "ana", "Force": True}]


async def test_a_dry_run_of_reap_tells_cron_whether_there_is_something(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.sessions = [session(1)]
    line = ["reap", "--dry-run", "--output", "ids", "--filter"]
    assert await shell(*line, "owner:ana", code=5) == "id-1\n"
    assert await shell(*line, "owner:bob") == ""
    assert await shell("reap", "--filter", "owner:bob", "--yes", "--output", "ids") == ""
    assert changed(broker) == []


async def test_reap_asks_where_there_is_a_terminal_and_else_needs_yes(
    broker: AwkwardBroker, fleet: Fleet, shell: Shell
) -> None:
    fleet.sessions = [session(1)]
    await shell("reap", "--filter", "owner:ana", code=252)
    assert "--dry-run" in shell.err
    assert changed(broker) == []


# ------------------------------------------------------------------ permissions are looked at first


async def test_permissions_with_errors_are_sent_on_purpose_only(
    broker: AwkwardBroker, shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "bad.perm"
    path.write_text("[permissions]\n%owner% allow builtin\nbob permit display\n")
    for line in (
        ["update-session-permissions", "s", "--owner", "ana", "--permission-file", str(path)],
        [*CREATE[:-1], "--permissions-file", str(path)],
    ):
        await shell(*line, code=252)
        assert "permissions 3:5: E-RULE permit" in shell.err
        assert "--allow-invalid" in shell.err
        assert broker.asked == []
        await shell(*line, "--allow-invalid")
        [(_, items)] = changed(broker)
        assert base64.b64decode(items[0]["PermissionsFile"]) == path.read_bytes()  # type: ignore[index]
        broker.asked.clear()


async def test_nobody_is_asked_when_standard_input_is_no_terminal(
    broker: AwkwardBroker, fleet: Fleet
) -> None:
    fleet.sessions = [session(1)]
    done = await asyncio.to_thread(
        subprocess.run,
        [*PROGRAM, "delete-session", "--filter", "owner:ana"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert (done.returncode, done.stdout) == (252, "")
    assert done.stderr == (
        "dcvtui: There is no terminal to ask on. Give --yes to go on without a question, "
        "or look first with --dry-run.\n"
    )
