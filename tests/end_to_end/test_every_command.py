"""Every command as a shell runs it, against a real broker: as JSON in a pipe, as a table on a terminal.

The installed program, a demo with a fleet that stands still; no command is left out.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from dcvtui.cli import cli
from dcvtui.options import Commands
from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Terminal
from tests.take_screenshots import demo

DCVTUI = str(COMMANDS / "dcvtui")
COLUMNS = 80


@dataclass
class Machine:
    """A shell on a machine whose environment leads to the demo."""

    environment: dict[str, str]
    folder: Path
    words: dict[str, str] = field(default_factory=dict)

    def pipe(self, *line: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DCVTUI, *line],
            env=os.environ | self.environment,
            cwd=self.folder,
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def json(self, *line: str) -> object:
        done = self.pipe(*line)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def terminal(self, *line: str) -> tuple[str, int]:
        command = [DCVTUI, *line]
        with Terminal(command, COLUMNS, 60, environment=self.environment, cwd=self.folder) as terminal:
            code = terminal.wait_exit(100)
            return terminal.text, code

    def filled(self, line: str) -> list[str]:
        return [word.format(**self.words) for word in line.split(" ")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("shell")
    (folder / "a.perm").write_text("[permissions]\n%owner% allow builtin\n")
    (folder / "b.perm").write_text("[permissions]\n%owner% allow builtin\nbob allow display\n")
    with demo() as environment:
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
        found = Machine(environment | home, folder)
        sessions = found.json("describe-sessions", "--filter", "state:ready type:virtual clients<1")
        servers = found.json("describe-servers", "--filter", "state:available sessions<1")
        assert isinstance(sessions, dict)
        assert isinstance(servers, dict)
        session = sessions["Sessions"][0]
        found.words = {
            "session": session["Id"],
            "name": session["Name"],
            "owner": session["Owner"],
            "server": servers["Servers"][0]["Id"],
            "host": servers["Servers"][0]["Hostname"],
        }
        yield found


@dataclass(frozen=True)
class Line:
    """A command line, what its JSON has, what its table shows, and how both end."""

    words: str
    members: str
    shows: str
    code: int = 0


# Blanks part the words of a line; each command stands here once at least.
LINES: dict[str, Line] = {
    "describe-sessions": Line("--owner {owner}", "Sessions RequestId", r"NAME +OWNER +STATE .*ID\n"),
    "describe-servers": Line(
        "--filter name:{host}", "Servers RequestId", r"NAME +STATE +SESSIONS .*ID\n{host} "
    ),
    "create-session": Line(
        "--name e2e --owner ana --type VIRTUAL --wait",
        "SuccessfulList UnsuccessfulList",
        r"e2e: READY(.|\n)*done +e2e",
    ),
    "delete-session": Line(
        "--filter name:e2e --yes --wait", "SuccessfulList UnsuccessfulList", r"done +e2e +DELETED"
    ),
    "update-session-permissions": Line(
        "{session} --permission-file a.perm", "SuccessfulList RequestId", r"RESULT +ID\ndone +{session}"
    ),
    "get-session-connection-data": Line(
        "--session-id {session} --user bob",
        "Session ConnectionToken",
        r"WHAT +VALUE\nsession +{name}\nuser +bob\nweb ",
    ),
    "get-session-screenshots": Line(
        "--session-ids {session}", "SuccessfulList", r"ID +FORMAT +BYTES +TAKEN\n{session} "
    ),
    "connect": Line("{session} --form json", "Session ConnectionToken", r'"ConnectionToken"'),
    "reap": Line("--filter name:no-such --yes", "SuccessfulList UnsuccessfulList", "no session to delete"),
    "open-servers": Line("{server}", "SuccessfulList RequestId", r"RESULT +ID\ndone +{server}"),
    "close-servers": Line(
        "{server} --wait", "SuccessfulList", r"SERVER_CLOSED, 0 sessions\n(.|\n)*done +{server}"
    ),
    "requirements check": Line(
        "server:Host.Os.Family='linux'", "Servers", r"NAME +STATE(.|\n)*It fits \d+ of \d+"
    ),
    "permissions check": Line("a.perm --strict", "findings", r"\A\s*\Z"),
    "permissions explain": Line(
        "b.perm --owner ana --user bob", "user features", r"display +granted +3 +bob allow"
    ),
    "permissions diff": Line("a.perm b.perm", "text rights", r"bob gains display", 5),
    "permissions preset": Line(
        "view-only --for bob", "preset text", r"\[permissions\]\nbob allow display pointer"
    ),
    "profiles": Line("", "profiles", "dcvtui login"),
    "doctor": Line("", "findings", r"broker +API +ok +it lists \d+ servers"),
    "locate": Line("", "files", r"profiles +no "),
    "config show": Line("", "settings", r"client_secret +DCV_SM_CLIENT_PASSWORD +•••"),
}

# They print no table or need more than a line; the file that runs them.
ELSEWHERE = {
    "screenshot": "tests/commands/test_links_and_pictures.py and below",
    "watch": "tests/commands/test_watching.py and below",
    "login": "tests/commands/test_brokers.py and below",
    "logout": "tests/commands/test_brokers.py and below",
    "completion": "tests/commands/test_brokers.py",
    "demo": "tests/test_demo.py",
}


def leaves(command: click.Command, name: str = "") -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield name
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        below = command.get_command(context, word)
        assert below is not None
        yield from leaves(below, f"{name} {word}".strip())


def test_no_command_is_left_out() -> None:
    assert set(leaves(cli)) == LINES.keys() | ELSEWHERE.keys()


def test_the_help_of_all_says_what_the_help_of_each_begins_with() -> None:
    assert isinstance(cli, Commands)
    context = click.Context(cli)
    for name, entry in cli.entries.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help is not None
        assert command.help.splitlines()[0] == entry.sentence, name
        # One line of the help of all on a usual window.
        assert len(entry.sentence) <= COLUMNS - 2 - 29


@pytest.mark.parametrize("name", LINES)
def test_in_a_pipe_it_is_json(machine: Machine, name: str) -> None:
    line = LINES[name]
    done = machine.pipe(*name.split(), *filter(None, machine.filled(line.words)))
    assert "Traceback" not in done.stderr
    assert done.returncode == line.code, done.stderr
    found = json.loads(done.stdout)
    assert set(line.members.split()) <= found.keys()
    assert machine.environment["DCV_SM_CLIENT_PASSWORD"] not in done.stdout + done.stderr


@pytest.mark.parametrize("name", LINES)
def test_a_table_in_a_pipe_is_plain_text(machine: Machine, name: str) -> None:
    line = LINES[name]
    done = machine.pipe(*name.split(), *filter(None, machine.filled(line.words)), "--output", "table")
    assert done.returncode == line.code, done.stderr
    assert re.search("[\x00-\x09\x0b-\x1f\x7f]", done.stdout + done.stderr) is None
    assert done.stdout.startswith("{") == ("json" in line.words)


@pytest.mark.parametrize("name", LINES)
def test_on_a_terminal_it_is_for_people(machine: Machine, name: str) -> None:
    line = LINES[name]
    text, code = machine.terminal(*name.split(), *filter(None, machine.filled(line.words)))
    assert "Traceback" not in text
    assert code == line.code, text
    shows = re.sub(r"\{(\w+)\}", lambda match: re.escape(machine.words[match[1]]), line.shows)
    assert re.search(shows, text + "\n"), text


def test_pictures_are_saved_in_a_pipe_and_drawn_on_a_terminal(machine: Machine) -> None:
    done = machine.pipe("screenshot", machine.words["session"], "--dir", "shots")
    assert (done.returncode, done.stdout) == (0, f"shots/{machine.words['name']}.png\n")
    assert (machine.folder / "shots" / f"{machine.words['name']}.png").read_bytes().startswith(b"\x89PNG")
    text, code = machine.terminal("screenshot", machine.words["session"])
    assert code == 0
    assert re.search("[▀▄▌▐▖▗▘▝▚▞█]", text)


def test_a_link_and_a_file_in_a_pipe(machine: Machine) -> None:
    done = machine.pipe("connect", machine.words["session"])
    assert done.returncode == 0
    assert re.fullmatch(rf"https://[\d.]+:\d+/\?authToken=[\w.-]+#{machine.words['session']}\n", done.stdout)
    done = machine.pipe("connect", machine.words["session"], "--form", "dcv")
    assert (machine.folder / done.stdout.strip()).stat().st_mode & 0o777 == 0o600


def test_changes_are_watched_in_a_pipe(machine: Machine) -> None:
    process = subprocess.Popen(
        [DCVTUI, "watch", "sessions", "--filter", "name:watched"],
        env=os.environ | machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        made = machine.pipe(
            *["create-session", "--name", "watched", "--owner", "ana", "--type", "virtual", "--output", "ids"]
        )
        line = json.loads(process.stdout.readline())
        assert (line["kind"], line["session"]["Id"]) == ("added", made.stdout.strip())
        machine.pipe("delete-session", made.stdout.strip(), "--force")
        while line["kind"] != "removed":
            line = json.loads(process.stdout.readline())
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors.strip()) == (130, "")
    finally:
        process.kill()
        process.communicate()


def test_a_login_leads_to_the_broker_and_a_logout_takes_it_away(machine: Machine) -> None:
    environment = machine.environment
    login = ["login", "--profile", "e2e", "--broker-url", environment["DCV_SM_BROKER_URL"]]
    login += ["--client-id", environment["DCV_SM_CLIENT_ID"], "--ca-bundle", environment["DCV_SM_CA_BUNDLE"]]
    done = machine.pipe(*login, "--client-secret-file", "-", text=environment["DCV_SM_CLIENT_PASSWORD"])
    assert done.returncode == 0, done.stderr
    assert machine.pipe("--profile", "e2e", "describe-servers", "--output", "ids").returncode == 0
    text, code = machine.terminal("profiles")
    assert (code, "e2e " in text) == (0, True)
    assert machine.pipe("logout", "e2e", "--forget").returncode == 0
    assert machine.pipe("--profile", "e2e", "describe-servers").returncode == 253


def test_ids_flow_from_one_command_into_the_next(machine: Machine) -> None:
    line = [
        *["create-session", "--name", "flow-{n}", "--count", "3", "--owner", "ana"],
        *["--type", "virtual"],
    ]
    assert machine.pipe(*line, "--wait").returncode == 0
    found = machine.pipe("describe-sessions", "--filter", "name:flow-* !state:deleted", "--output", "ids")
    assert len(found.stdout.split()) == 3
    done = machine.pipe("delete-session", "-", "--wait", "--output", "csv", text=found.stdout)
    assert (done.returncode, done.stdout.count("done,")) == (0, 3)
