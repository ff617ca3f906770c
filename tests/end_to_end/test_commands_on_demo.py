"""The installed command against `dcvtui demo --no-ui`, as a person's shell would run both."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("dcvtui"))


class Shell:
    """Runs the installed program with an environment that leads to the demo."""

    def __init__(self, demo: dict[str, str]) -> None:
        self.demo = demo
        self._environ = os.environ | {
            "DCV_SM_BROKER_URL": demo["url"],
            "DCV_SM_CLIENT_ID": demo["client_id"],
            "DCV_SM_CLIENT_PASSWORD": demo["client_secret"],
            "DCV_SM_CA_BUNDLE": demo["ca_file"],
        }

    def __call__(self, *line: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *line],
            env=self._environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = str(tmp_path_factory.mktemp("home"))
    process = subprocess.Popen(
        [PROGRAM, "demo", "--no-ui", "--servers", "12", "--still", "--seed", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HOME": home},
    )
    assert process.stdout is not None
    try:
        demo = json.loads(process.stdout.readline())
        yield Shell(demo)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not Path(demo["state_dir"]).exists()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_the_fleet_is_listed_for_people_and_for_programs(shell: Shell) -> None:
    table = shell("describe-servers", "--output", "table")
    assert table.returncode == 0
    assert table.stdout.startswith("NAME ")
    assert "\x1b" not in table.stdout
    listed = json.loads(shell("describe-servers").stdout)["Servers"]
    assert len(listed) >= 12
    assert len(table.stdout.splitlines()) == 1 + len(listed)
    families = [server["Host"]["Os"]["Family"] for server in listed]
    assert {"linux", "windows"} <= set(families)


def test_a_session_is_created_and_deleted_by_a_script(shell: Shell) -> None:
    created = shell(
        "create-session", "--name", "e2e", "--owner", "ana", "--type", "VIRTUAL", "--output", "ids"
    )
    assert (created.returncode, created.stderr) == (0, "")
    session_id = created.stdout.strip()
    found = json.loads(shell("describe-sessions", "--session-ids", session_id).stdout)["Sessions"]
    assert [session["Name"] for session in found] == ["e2e"]
    deleted = shell("delete-session", "--session-id", session_id, "--force")
    assert deleted.returncode == 0
    assert json.loads(shell("describe-sessions", "--session-ids", session_id).stdout)["Sessions"] == []
    again = shell("delete-session", "--session-id", session_id, "--owner", "ana")
    assert again.returncode == 3
    assert "The requested dcvSession does not exist" in again.stderr


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"DCV_SM_BROKER_URL": "https://127.0.0.1:9"}, 6, "connection refused"),
        ({"DCV_SM_BROKER_URL": "https://no-such-name.invalid"}, 6, "no address is known for its name"),
        ({"DCV_SM_BROKER_URL": "nonsense"}, 253, "has no scheme"),
        ({"DCV_SM_CA_BUNDLE": ""}, 6, "--trust-fingerprint SHA256:"),
        ({"DCV_SM_CLIENT_PASSWORD": "wrong"}, 254, "does not accept the client id or the client secret"),
    ],
)
def test_bad_input_is_one_sentence_and_never_a_traceback(
    shell: Shell, environ: dict[str, str], code: int, words: str
) -> None:
    done = shell("describe-sessions", **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_the_fingerprint_it_names_is_the_way_in(shell: Shell) -> None:
    refused = shell("describe-servers", DCV_SM_CA_BUNDLE="")
    fingerprint = refused.stderr.strip().rpartition(" ")[2]
    done = shell("describe-servers", "--trust-fingerprint", fingerprint, DCV_SM_CA_BUNDLE="")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_locale_no_name_ends_the_program(shell: Shell) -> None:
    created = shell(
        "create-session", "--name", "bücher-日本", "--owner", "ana", "--type", "VIRTUAL", LC_ALL="C.UTF-8"
    )
    assert created.returncode == 0
    listed = shell("describe-sessions", "--output", "table", PYTHONIOENCODING="ascii")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert r"b\xfccher-\u65e5\u672c" in listed.stdout
