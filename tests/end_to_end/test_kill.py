"""kill -9 of broker and agent: nothing acknowledged is lost, running X sessions are not touched."""

import getpass
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.stand import COMMANDS, Stand, standing, wait_until
from tests.pseudo_terminal import Terminal

pytestmark = pytest.mark.skipif(
    not shutil.which("Xvfb"), reason="Xvfb is missing: apt-get install xvfb xterm"
)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path) as running:
        yield running


def create(stand: Stand, name: str, **fields: Any) -> str:
    item = {"Name": name, "Owner": getpass.getuser(), "Type": "VIRTUAL", **fields}
    answer = stand.call("createSessions", [item])
    assert not answer["UnsuccessfulList"]
    return str(answer["SuccessfulList"][0]["Id"])


def state_of(stand: Stand, session_id: str) -> str:
    return str(stand.session(session_id).get("State", "not listed"))


def x_servers(stand: Stand) -> set[int]:
    """The X servers of this agent's sessions; others on the host come and go as they like."""
    return {
        one.pid
        for one in psutil.process_iter(["name", "cmdline"])
        if one.info["name"] == "Xvfb" and str(stand.folder) in " ".join(one.info["cmdline"] or ())
    }


def test_everything_acknowledged_is_there_after_kill_9_of_the_broker(stand: Stand) -> None:
    ready = create(stand, "cad-1", InitFile="clock.sh")
    wait_until(lambda: state_of(stand, ready) == "READY", "READY")
    before, processes = stand.session(ready), x_servers(stand)
    assert processes
    server_id = stand.servers()[0]["Id"]
    assert stand.call("closeServers", [{"ServerId": server_id, "Force": True}])["SuccessfulList"]
    waiting = create(stand, "cad-2", EnqueueRequest=True)

    stand.kill(stand.broker)
    assert processes <= x_servers(stand), "a running X session was touched"
    stand.start_broker()

    # The token of before still counts, and so do the closed mark and the queued session.
    assert state_of(stand, waiting) == "CREATING"
    wait_until(lambda: stand.servers()[0].get("UnavailabilityReason") == "SERVER_CLOSED", "the closed mark")
    wait_until(lambda: state_of(stand, ready) == "READY", "READY again")
    after = stand.session(ready)
    assert [after[key] for key in ("Id", "Name", "Owner", "CreationTime")] == [
        before[key] for key in ("Id", "Name", "Owner", "CreationTime")
    ]
    assert processes <= x_servers(stand)
    assert after["Server"]["Id"] == server_id
    # The registered client too: the queued session is placed once its server is open again.
    assert stand.call("openServers", [{"ServerId": server_id}])["SuccessfulList"]
    wait_until(lambda: state_of(stand, waiting) == "READY", "the queued session")


def test_x_sessions_are_found_again_after_kill_9_of_the_agent(stand: Stand) -> None:
    session_id = create(stand, "cad-1", InitFile="clock.sh")
    wait_until(lambda: state_of(stand, session_id) == "READY", "READY")
    before, processes = stand.session(session_id), x_servers(stand)
    assert processes

    stand.kill(stand.agent)
    assert processes <= x_servers(stand), "a running X session was touched"
    stand.start_agent()

    # Within its grace time a lost agent changes no state; a picture comes only from the new one.
    question = [{"SessionId": session_id}]
    wait_until(lambda: stand.call("getSessionScreenshots", question)["SuccessfulList"], "a picture")
    assert state_of(stand, session_id) == "READY"
    after = stand.session(session_id)
    assert after["CreationTime"] == before["CreationTime"]
    assert after["Server"]["Id"] == before["Server"]["Id"]
    assert processes <= x_servers(stand)


def test_the_console_recovers_by_itself_and_says_how_old_its_data_is(stand: Stand) -> None:
    with Terminal([str(COMMANDS / "dcvtui")], 120, 30, environment=stand.environment) as terminal:
        session_id = create(stand, "cad-1", InitFile="clock.sh")
        terminal.wait_until(lambda text: "polling" in text or "live" in text, "a fresh fleet")
        terminal.press("2")
        terminal.wait_for("READY")
        stand.kill(stand.broker)
        terminal.wait_for("stale since")
        assert "cad-1" in terminal.text, "the last data stay"
        stand.start_broker()
        terminal.wait_gone("stale since", 45)
        # The agent comes back after a random wait of its own; the console needs no key for either.
        wait_until(lambda: state_of(stand, session_id) == "READY", "the agent's return", 60)
        terminal.wait_for(re.compile(r"cad-1 +\S+ +● READY"))
        terminal.press("q")
        assert terminal.wait_exit() == 0
