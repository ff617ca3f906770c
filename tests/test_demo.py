"""The demo end to end, with real processes: the promised fleet is there, and afterwards nothing is left."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from broker_stub import demo_supervisor
from broker_stub.agent import x_server
from broker_stub.agent.simulated_fleet import Role, plan_fleet
from broker_stub.agent.x_state import SessionFolder
from broker_stub.broker.rules import rules_of
from broker_stub.broker.settings_file import load_file
from broker_stub.demo import DemoError, DemoOptions, start_demo
from broker_stub.demo_supervisor import Supervisor
from tests.agent.x_sessions import ME, needs_xvfb

_RUN = """
import sys
from broker_stub.demo import DemoOptions, run_without_console
sys.exit(run_without_console(DemoOptions(**{options!r})))
"""


class Api:
    """A client of a demo's broker, made from what the demo says of itself."""

    def __init__(self, said: dict[str, str]) -> None:
        tls = ssl.create_default_context(cafile=said["ca_file"])
        self._client = httpx.Client(base_url=said["url"], verify=tls, trust_env=False, timeout=20)
        credentials = (said["client_id"], said["client_secret"])
        answer = self._client.post(
            "/oauth2/token", params={"grant_type": "client_credentials"}, auth=credentials
        )
        self._client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"

    def ask(self, operation: str, content: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post(f"/{operation}", json=content).raise_for_status().json()
        return answer

    def servers(self) -> dict[str, dict[str, Any]]:
        return {one["Hostname"]: one for one in self.ask("describeServers", {"MaxResults": 1000})["Servers"]}

    def sessions(self) -> dict[str, dict[str, Any]]:
        return {one["Id"]: one for one in self.ask("describeSessions", {"MaxResults": 1000})["Sessions"]}

    def close(self) -> None:
        self._client.close()


def until(holds: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait until a condition outside this program holds; answers what it was."""
    end = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < end, f"did not come true within {limit_s} s"
        time.sleep(0.05)
    return found


@contextmanager
def program(**options: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A program that runs the demo as `dcvtui demo --no-ui` does, and the line it printed when ready."""
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUN.format(options=options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    try:
        yield runner, json.loads(runner.stdout.readline())
    finally:
        runner.kill()
        runner.communicate()


def processes_of(state_dir: str) -> list[int]:
    """Everything that still runs for a demo: it, its children, their X servers and programs."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(state_dir in word for word in words):
            found.append(process.pid)
    return found


def descendants(process_id: int) -> list[psutil.Process]:
    return psutil.Process(process_id).children(recursive=True)


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def assert_nothing_is_left(started: list[psutil.Process], state_dir: str) -> None:
    until(lambda: not any(is_alive(one) for one in started))
    until(lambda: not processes_of(state_dir))
    until(lambda: not Path(state_dir).exists())


def make_x_session(api: Api) -> str:
    """Create a real session on this host through the API; answers its id when it is READY."""
    host = next(one for one in api.servers().values() if one["Version"] == "Xvfb")
    request = {
        "Name": "here-1",
        "Owner": ME,
        "Type": "VIRTUAL",
        "InitFile": "stay.sh",
        "Requirements": f"server:Hostname = '{host['Hostname']}'",
    }
    (made,) = api.ask("createSessions", [request])["SuccessfulList"]
    session_id = str(made["Id"])
    until(lambda: api.sessions()[session_id]["State"] == "READY")
    return session_id


def x_folder(said: dict[str, str], session_id: str) -> SessionFolder:
    return SessionFolder(Path(said["state_dir"]) / "host" / "x" / "sessions" / session_id)


@contextmanager
def program_with_session() -> Iterator[tuple[subprocess.Popen[str], dict[str, str], SessionFolder]]:
    """A demo with a real session on this host, what it says of itself, and the session's folder."""
    with program(servers=2, sessions=3) as (runner, said):
        write_stay_script(said)
        api = Api(said)
        session = x_folder(said, make_x_session(api))
        api.close()
        yield runner, said, session


def write_stay_script(said: dict[str, str]) -> None:
    script = Path(said["state_dir"]) / "host" / "init" / "stay.sh"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)


# ------------------------------------------------------------------ the fleet


def test_the_default_demo_shows_the_promised_fleet() -> None:
    with start_demo(DemoOptions(is_still=True)) as demo:
        api = Api(json.loads(demo.as_json()))
        servers, sessions = api.servers(), api.sessions()
        here = 1 if x_server.server_program() else 0
        assert len(servers) == 12 + here
        reasons = Counter(one.get("UnavailabilityReason") for one in servers.values())
        assert reasons["UNREACHABLE_AGENT"] == 1
        assert reasons["SERVER_CLOSED"] == 1
        assert reasons["SERVER_FULL"] >= 1
        idle = Counter(
            one["Host"]["Os"]["Family"]
            for one in servers.values()
            if one["Availability"] == "AVAILABLE"
            and not one["ConsoleSessionCount"] + one["VirtualSessionCount"]
        )
        assert idle["linux"] >= 3 + here
        assert idle["windows"] >= 1
        assert all({"team", "gpu"} <= {tag["Key"] for tag in one["Tags"]} for one in servers.values())
        closed = next(one for one in servers.values() if one.get("UnavailabilityReason") == "SERVER_CLOSED")
        assert closed["VirtualSessionCount"] == 1
        states = Counter((one["State"], one.get("Substate")) for one in sessions.values())
        assert states["UNKNOWN", None] >= 1
        assert states["CREATING", "SESSION_PLACING"] == 1
        assert states["READY", None] >= 12
        assert {one["Type"] for one in sessions.values()} == {"VIRTUAL", "CONSOLE"}
        api.close()


def test_a_living_demo_has_a_session_stuck_on_a_host_and_changes() -> None:
    with start_demo(DemoOptions()) as demo:
        api = Api(json.loads(demo.as_json()))
        stuck = next(one for one in api.sessions().values() if one["Name"] == "sim-ana-stuck")
        until(lambda: api.sessions()[stuck["Id"]].get("Substate") == "PENDING_PREPARATION")
        before = api.servers()
        until(lambda: api.servers() != before)
        api.close()


def test_what_is_stuck_in_a_demo_stays_so_while_somebody_looks(tmp_path: Path) -> None:
    path = tmp_path / "broker.properties"
    path.write_text(demo_supervisor._BROKER_CONFIGURATION.format(folder=tmp_path))
    path.chmod(0o600)
    assert rules_of(load_file(path).settings).create_deadline_s == 24 * 3600
    plan = plan_fleet(7, 12)
    (stuck,) = (server for server in plan.servers if server.role is Role.STUCK)
    assert stuck.max_virtual_sessions == len(stuck.sessions) + 1, "nothing else may get stuck there"


def test_sizes_and_seed_make_the_fleet_and_still_keeps_it() -> None:
    options = DemoOptions(servers=7, sessions=20, seed=5, is_still=True)
    names = []
    for _ in range(2):
        with start_demo(options) as demo:
            api = Api(json.loads(demo.as_json()))
            servers, sessions = api.servers(), api.sessions()
            assert len([one for one in servers.values() if one["Version"] != "Xvfb"]) == 7
            assert len(sessions) == 20
            names.append(sorted(one["Name"] for one in sessions.values()))
            api.close()
    assert names[0] == names[1]


def test_an_operator_can_work_in_a_still_demo() -> None:
    with start_demo(DemoOptions(servers=2, sessions=0, is_still=True)) as demo:
        api = Api(json.loads(demo.as_json()))
        request = {"Name": "n", "Owner": "ana", "Type": "VIRTUAL", "Requirements": "tag:site != 'here'"}
        (made,) = api.ask("createSessions", [request])["SuccessfulList"]
        until(lambda: api.sessions()[made["Id"]]["State"] == "READY")
        shots = api.ask("getSessionScreenshots", [{"SessionId": made["Id"]}])
        assert shots["SuccessfulList"][0]["SessionScreenshot"]["Images"][0]["Data"]
        api.ask("deleteSessions", [{"SessionId": made["Id"], "Owner": "ana"}])
        until(lambda: api.sessions()[made["Id"]]["State"] == "DELETED")
        api.close()


def test_secrets_are_private_and_in_no_argument() -> None:
    with start_demo(DemoOptions(servers=1, sessions=0)) as demo:
        others_may = {
            str(path.relative_to(demo.state_dir)): path.stat().st_mode & 0o077
            for path in demo.state_dir.iterdir()
            if path.is_file() or path.name == "broker"
        }
        assert not any(others_may.values()), others_may
        assert demo.client_secret not in repr(demo)
        for process in [psutil.Process(pid) for pid in processes_of(str(demo.state_dir))]:
            assert demo.client_secret not in " ".join(process.cmdline())


async def test_without_an_x_server_the_demo_says_so_in_one_sentence_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(x_server, "server_program", lambda: None)
    supervisor = Supervisor(servers=2, sessions=1, seed=7, is_still=True, state_dir=tmp_path / "demo")
    supervisor.state_dir.mkdir()
    try:
        said = await supervisor.start()
        assert said["state_dir"] == str(supervisor.state_dir)
        words = capsys.readouterr().err
        assert words.count("\n") == 1
        assert "apt-get install xvfb xterm" in words
    finally:
        await supervisor.end()
    assert not supervisor.state_dir.exists()


# ------------------------------------------------------------------ the end


@needs_xvfb
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_the_program_takes_everything_along(number: signal.Signals) -> None:
    with program_with_session() as (runner, said, session):
        started = descendants(runner.pid)
        assert len(started) >= 4
        assert session.programs()
        runner.send_signal(number)
        assert runner.wait(20) == (0 if number is not signal.SIGKILL else -signal.SIGKILL)
        assert_nothing_is_left(started, said["state_dir"])
        assert not session.programs()
        assert not session.servers()


@needs_xvfb
def test_a_killed_supervisor_takes_everything_along() -> None:
    with program_with_session() as (runner, said, session):
        started = descendants(runner.pid)
        supervisor = next(one for one in started if "broker_stub.demo_supervisor" in one.cmdline())
        supervisor.kill()
        assert runner.wait(20) == 1
        assert_nothing_is_left(started, said["state_dir"])
        assert not session.servers()


@needs_xvfb
def test_sessions_of_a_killed_demo_end_even_if_their_agent_is_the_last_to_notice() -> None:
    """The other orphans remove their part of the folder first, and must leave what leads to the sessions."""
    with program_with_session() as (runner, said, session):
        started = descendants(runner.pid)
        parts = {
            part: one for one in started for part in ("broker", "fleet", "host") if part in one.cmdline()[4:5]
        }
        parts["host"].suspend()
        next(one for one in started if "broker_stub.demo_supervisor" in one.cmdline()).kill()
        until(lambda: not is_alive(parts["broker"]) and not is_alive(parts["fleet"]))
        assert session.servers()
        parts["host"].resume()
        assert runner.wait(20) == 1
        assert_nothing_is_left(started, said["state_dir"])
        assert not session.servers()


def test_a_dead_broker_ends_the_demo_with_a_sentence() -> None:
    with program(servers=1, sessions=0) as (runner, said):
        started = descendants(runner.pid)
        broker = next(one for one in started if "broker" in one.cmdline()[4:5])
        broker.kill()
        _, errors = runner.communicate(timeout=20)
        assert runner.returncode == 1
        assert "The demo's broker ended with exit code -9" in errors
        assert "Traceback" not in errors
        assert_nothing_is_left(started, said["state_dir"])


def test_a_signal_while_the_demo_starts_leaves_nothing(tmp_path: Path) -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUN.format(options={"servers": 3})],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    until(lambda: list(tmp_path.glob("dcvtui-demo-*/broker.log")))
    started = descendants(runner.pid)
    (state_dir,) = tmp_path.glob("dcvtui-demo-*")
    runner.send_signal(signal.SIGTERM)
    output, _ = runner.communicate(timeout=20)
    assert (runner.returncode, output) == (0, b"")
    assert_nothing_is_left(started, str(state_dir))


def test_a_demo_that_cannot_start_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # Every interpreter reads this file first; the broker's ends with it.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'broker' in sys.orig_argv:\n    sys.exit('no broker today')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DemoError, match="could not be started"):
        start_demo(DemoOptions(servers=1))
    assert not list(tmp_path.glob("dcvtui-demo-*"))
