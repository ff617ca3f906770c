"""The first start on a machine that knows no broker: by keys, against a real broker with its own CA."""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dcvtui.profiles import read_profiles
from tests.end_to_end.stand import COMMANDS
from tests.pseudo_terminal import Terminal

PROGRAM = str(COMMANDS / "dcvtui")


@pytest.fixture(scope="module")
def demo() -> Iterator[dict[str, str]]:
    """A broker with a fleet, and credentials for it."""
    process = subprocess.Popen(
        [PROGRAM, "demo", "--no-ui", "--servers", "3", "--still"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def start(*arguments: str, columns: int = 80, rows: int = 24) -> Terminal:
    return Terminal([PROGRAM, *arguments], columns, rows, environment={"TZ": "UTC", "LANG": "C.UTF-8"})


def folder() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "dcvtui"


def test_the_first_broker_is_asked_for_tested_and_kept(demo: dict[str, str]) -> None:
    address = demo["url"].removeprefix("https://")
    with start() as console:
        console.wait_for("Which broker?")
        console.type(address)
        console.press("enter")
        console.type(demo["client_id"])
        console.press("tab")
        console.type("wrong")
        assert "wrong" not in console.text
        console.press("ctrl+o")
        console.wait_for("y trust this certificate")
        console.settle(0.4)  # nobody compares faster, and a `y` typed ahead counts for nothing
        text = console.text
        assert re.search(r"✓ name\n +✓ reach\n +✗ TLS: signed by an unknown CA", text)
        ca = x509.load_pem_x509_certificate(Path(demo["ca_file"]).read_bytes())
        # What `openssl x509 -noout -fingerprint -sha256` prints on the broker.
        printed = ca.fingerprint(hashes.SHA256()).hex(":").upper()
        shown = re.search(r"SHA-256\s+([0-9A-F:]+)\s+([0-9A-F:]+)", text)
        assert shown
        assert shown[1] + shown[2] == printed
        console.press("y")
        text = console.wait_for("✗ token: wrong client id or secret")
        assert address in text
        assert demo["client_id"] in text
        assert not folder().exists()
        console.press("tab", "tab", "tab")
        for _ in "wrong":
            console.press("backspace")
        console.type(demo["client_secret"])
        console.press("ctrl+o")
        console.wait_for(re.compile(r"servers \d+/\d+"))
        assert re.match(r" Saved in .*/dcvtui/ \(0600\)\.", console.wait_for("Saved in").splitlines()[-1])
        console.press("q")
        assert console.wait_exit() == 0
    kept = read_profiles(folder() / "profiles.toml")
    assert kept.default == "127.0.0.1"
    assert kept.profiles["127.0.0.1"].ca_file == folder() / "127.0.0.1_ca.pem"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder().iterdir()} == {0o600}
    with start() as console:
        console.wait_for(re.compile(r"servers \d+/\d+"))
        console.press("q")
        assert console.wait_exit() == 0


def test_leaving_names_the_other_ways_to_say_it() -> None:
    with start() as console:
        console.wait_for("Which broker?")
        console.type("broker.exa")
        console.press("esc")
        assert console.wait_exit() == 253
        assert "No broker is configured." in console.text
        assert "Traceback" not in console.text
    with start() as console:
        console.wait_for("Which broker?")
        console.press("ctrl+c")
        assert console.wait_exit() == 253
    assert not folder().exists()


def test_a_small_terminal_is_named_its_size_and_growing_brings_the_form_back() -> None:
    with start(columns=40, rows=10) as console:
        console.wait_for("needs 60x15")
        console.resize(60, 20)
        console.wait_for("Which broker?")
        console.press("esc")
        assert console.wait_exit() == 253


def test_the_demo_is_one_key_away() -> None:
    with start("--ascii") as console:
        console.wait_for("demo fleet")
        console.press("ctrl+r")
        console.wait_for(re.compile(r"servers \d+/\d+"), 60)
        assert console.line_of("demo")
        console.press("q")
        assert console.wait_exit() == 0


def test_without_a_terminal_it_stays_a_sentence() -> None:
    done = subprocess.run(
        [PROGRAM, "describe-servers"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (253, "")
    assert done.stderr.startswith("dcvtui: No broker is configured.")
