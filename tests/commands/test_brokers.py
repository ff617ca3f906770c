"""Profiles at the command line: login, logout, trust on first use, and what is configured by whom."""

import asyncio
import io
import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcvtui.profiles import Profile, read_profiles, save_profile
from dcvtui.trust import fingerprint_of
from tests.awkward_broker import AwkwardBroker, awkward_broker
from tests.commands.recording import Fleet, Shell
from tests.pseudo_terminal import Terminal
from tests.running import RunningBroker, running_broker

PROGRAM = [sys.executable, "-m", "dcvtui"]

KEYRING = '''
"""A keyring in a file: a stand-in for the optional package with the four things that are asked of it."""
import json, os, pathlib
_path = pathlib.Path(os.environ["TEST_KEYRING"])
class _Backend:
    priority = float(os.environ.get("TEST_KEYRING_PRIORITY", "5"))
def get_keyring():
    return _Backend()
def _all():
    return json.loads(_path.read_text()) if _path.exists() else {}
def get_password(service, name):
    return _all().get(f"{service} {name}")
def set_password(service, name, secret):
    if os.environ.get("TEST_KEYRING_LOCKED"):
        raise RuntimeError("locked")
    _path.write_text(json.dumps(_all() | {f"{service} {name}": secret}))
def delete_password(service, name):
    found = _all()
    del found[f"{service} {name}"]
    _path.write_text(json.dumps(found))
'''


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def profiles() -> Path:
    """The profile file of this test's home."""
    return Path(os.environ["XDG_CONFIG_HOME"]) / "dcvtui" / "profiles.toml"


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keyring that answers; the file it keeps things in."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "keyring.py").write_text(KEYRING)
    kept = tmp_path / "kept.json"
    monkeypatch.setenv("TEST_KEYRING", str(kept))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    return kept


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def text_of(path: Path) -> str:
    return path.read_text()


def is_there(path: Path) -> bool:
    return path.exists()


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def login_line(broker: RunningBroker, name: str = "lab") -> list[str]:
    options = ["--profile", name, "--broker-url", broker.url, "--client-id", broker.client_id]
    return ["login", *options, "--ca-bundle", str(broker.ca_file), "--client-secret-file", "-"]


def pipe_secret(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(broker.client_secret + "\n"))


# ------------------------------------------------------------------ login and logout


async def test_login_tests_a_broker_and_keeps_it_for_its_owner(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    assert [line.split()[0] for line in shell.err.splitlines()] == [
        *["name", "reach", "TLS", "token", "API", "dcvtui:"]
    ]
    assert running.client_secret not in shell.err
    assert mode_of(profiles) == 0o600
    assert await shell("describe-servers", "--output", "ids") == ""
    assert await shell("--profile", "lab", "describe-servers", "--output", "ids") == ""


async def test_a_secret_comes_from_a_file_that_others_should_not_read(
    running: RunningBroker, profiles: Path, shell: Shell, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(running.client_secret + "\n")
    secret.chmod(0o644)
    await shell(*login_line(running)[:-1], str(secret))
    assert f"chmod 600 '{secret}'" in shell.err
    assert read_profiles(profiles).profiles["lab"].client_secret == running.client_secret
    await shell(*login_line(running)[:-1], str(tmp_path / "none"), code=252)
    assert "cannot be read" in shell.err


async def test_a_second_login_keeps_what_the_profile_says_beside(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_profile(profiles, Profile("lab", "https://old:8443", "x", "y", gateway="gw:1", read_only=True))
    save_profile(profiles, Profile("other", "https://other:8443", "x", "y"), is_default=True)
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    file = read_profiles(profiles)
    assert file.default == "other"
    found = file.profiles["lab"]
    assert (found.url, found.gateway, found.read_only) == (running.url, "gw:1", True)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--client-id": "wrong"}, 254, "token: wrong client id or secret"),
        ({"--broker-url": "https://127.0.0.1:9"}, 6, "reach: connection refused"),
        ({"--broker-url": "http://x"}, 253, "name: "),
        ({"--ca-bundle": "/etc/hostname"}, 253, "TLS: "),
    ],
)
async def test_what_does_not_pass_is_not_kept(
    running: RunningBroker,
    profiles: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    code: int,
    words: str,
) -> None:
    pipe_secret(running, monkeypatch)
    line = login_line(running)
    for option, value in change.items():
        line[line.index(option) + 1] = value
    await shell(*line, code=code)
    assert words in shell.err
    assert running.client_secret not in shell.err
    assert not is_there(profiles)


async def test_without_a_terminal_an_unknown_certificate_is_6_with_the_option_that_takes_it(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_secret(running, monkeypatch)
    line = [word for word in login_line(running) if word not in ("--ca-bundle", str(running.ca_file))]
    await shell(*line, code=6)
    fingerprint = shell.err.strip().rpartition(" ")[2]
    assert fingerprint.startswith("SHA256:")
    pipe_secret(running, monkeypatch)
    await shell(*line, "--trust-fingerprint", fingerprint)
    assert read_profiles(profiles).profiles["lab"].ca_file == profiles.parent / "lab_ca.pem"
    await shell("describe-servers")


async def test_without_a_terminal_nothing_is_asked(shell: Shell, profiles: Path) -> None:
    await shell("login", code=252)
    assert "--broker-url" in shell.err
    await shell("login", "--broker-url", "https://x:1", code=252)
    assert "--client-id" in shell.err
    await shell("login", "--broker-url", "https://x:1", "--client-id", "y", code=252)
    assert "--client-secret-file" in shell.err
    assert not is_there(profiles)


async def test_a_person_is_asked_for_what_is_missing_and_the_secret_is_not_shown(
    running: RunningBroker, profiles: Path
) -> None:
    def talk() -> str:
        with Terminal([*PROGRAM, "login", "--profile", "lab"], 100, 40) as terminal:
            terminal.wait_for("Broker")
            terminal.type(running.url.removeprefix("https://") + "\r")
            terminal.wait_for("Client id:")
            terminal.type(running.client_id + "\r")
            terminal.wait_for("Client secret")
            terminal.type(running.client_secret + "\r")
            terminal.wait_for("Trust it from now on? [y/N]")
            terminal.type("y\r")
            assert terminal.wait_exit() == 0
            return terminal.text

    text = await asyncio.to_thread(talk)
    for words in ("CN=", "valid until", "SHA-256", "Saved in"):
        assert words in text
    assert running.client_secret not in text.replace("\n", "")
    assert read_profiles(profiles).profiles["lab"].client_secret == running.client_secret


async def test_who_says_no_to_a_certificate_has_sent_nothing(broker: AwkwardBroker, profiles: Path) -> None:
    def talk() -> None:
        line = ["login", "--broker-url", broker.url, "--client-id", "x"]
        with Terminal([*PROGRAM, *line], 100, 40) as terminal:
            terminal.wait_for("Client secret")
            terminal.type("s\r")
            terminal.wait_for("[y/N]")
            terminal.type("\r")
            assert terminal.wait_exit() == 6
            assert "Nothing was sent" in terminal.text

    await asyncio.to_thread(talk)
    assert broker.token_requests == []
    assert not is_there(profiles)


async def test_logout_takes_the_secret_and_forget_the_whole_profile(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    await shell("logout")
    assert running.client_secret not in text_of(profiles)
    assert running.url in text_of(profiles)
    await shell("describe-servers", code=253)
    assert "dcvtui login --profile lab" in shell.err
    await shell("logout", "lba", code=253)
    assert "Did you mean 'lab'?" in shell.err
    (profiles.parent / "lab_ca.pem").write_text("a CA that was accepted once")
    await shell("logout", "lab", "--forget")
    assert read_profiles(profiles).profiles == {}
    assert [path.name for path in profiles.parent.iterdir()] == ["profiles.toml"]


async def test_a_kept_ca_that_is_gone_or_no_longer_fits_is_asked_about_again(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = profiles.parent / "gone.pem"
    save_profile(profiles, Profile("lab", running.url, running.client_id, "old", ca_file=gone))
    pipe_secret(running, monkeypatch)
    await shell("login", "--profile", "lab", "--client-secret-file", "-", code=6)
    assert "--trust-fingerprint SHA256:" in shell.err


# ------------------------------------------------------------------ the keyring


async def test_where_a_keyring_answers_the_secret_is_there_and_in_no_file(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, keyring: Path
) -> None:
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    assert running.client_secret not in text_of(profiles)
    assert running.client_secret in text_of(keyring)
    await shell("describe-servers")
    assert (await shell.json("profiles"))["profiles"][0]["secret"] == "keyring"
    shown = {one["name"]: one for one in (await shell.json("config", "show"))["settings"]}
    assert shown["client_secret"] == {"name": "client_secret", "value": "•••", "origin": "the keyring"}
    await shell("logout")
    assert running.client_secret not in text_of(keyring)


async def test_a_secret_in_the_keyring_goes_to_its_own_address_only(
    running: RunningBroker,
    broker: AwkwardBroker,
    profiles: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    keyring: Path,
) -> None:
    for name in ("DCV_SM_BROKER_URL", "DCV_SM_CLIENT_ID", "DCV_SM_CLIENT_PASSWORD", "DCV_SM_CA_BUNDLE"):
        monkeypatch.delenv(name)
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    rewrite(profiles, running.url, broker.url)
    await shell("describe-servers", code=253)
    assert "The keyring has no secret for the profile 'lab'" in shell.err
    assert broker.token_requests == broker.asked == []


@pytest.mark.parametrize("trouble", [{"TEST_KEYRING_PRIORITY": "0"}, {"TEST_KEYRING_LOCKED": "1"}])
async def test_where_no_keyring_answers_the_file_is_the_place(
    running: RunningBroker,
    profiles: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    keyring: Path,
    trouble: dict[str, str],
) -> None:
    for name, value in trouble.items():
        monkeypatch.setenv(name, value)
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running))
    assert read_profiles(profiles).profiles["lab"].client_secret == running.client_secret
    assert mode_of(profiles) == 0o600


async def test_the_file_can_be_asked_for(
    running: RunningBroker, profiles: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, keyring: Path
) -> None:
    pipe_secret(running, monkeypatch)
    await shell(*login_line(running), "--in-file")
    assert not is_there(keyring)
    assert running.client_secret in text_of(profiles)


# ------------------------------------------------------------------ trust on first use


def profile_for(broker: AwkwardBroker, profiles: Path, fingerprint: str | None) -> None:
    save_profile(profiles, Profile("lab", broker.url, "id", "secret", fingerprint=fingerprint))


@pytest.fixture
async def stranger(tmp_path: Path, fleet: Fleet) -> AsyncIterator[AwkwardBroker]:
    """A broker with a certificate that it made itself."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    async with awkward_broker(folder, fleet.answer) as broker:
        yield broker


OTHER = "SHA256:" + ":".join(["AB"] * 32)


async def test_a_changed_certificate_is_6_and_nothing_was_sent(
    stranger: AwkwardBroker, profiles: Path, shell: Shell
) -> None:
    profile_for(stranger, profiles, OTHER)
    for options in ([], ["--trust-on-first-use"]):
        await shell("--profile", "lab", *options, "describe-servers", code=6)
        assert "Nothing was sent." in shell.err
        assert "--trust-fingerprint SHA256:" in shell.err
        assert OTHER in shell.err
    assert stranger.token_requests == stranger.asked == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 6)])
async def test_a_changed_certificate_is_shown_beside_the_old_one_and_asked_for(
    stranger: AwkwardBroker, profiles: Path, answer: str, code: int
) -> None:
    profile_for(stranger, profiles, OTHER)
    own = fingerprint_of(ssl.PEM_cert_to_DER_cert(stranger.ca_file.read_text()))

    def talk() -> str:
        line = ["--profile", "lab", "--trust-on-first-use", "describe-servers", "--output", "ids"]
        with Terminal([*PROGRAM, *line], 100, 40) as terminal:
            terminal.wait_for("[y/N]")
            before = terminal.text
            assert stranger.token_requests == []
            terminal.type(answer + "\r")
            assert terminal.wait_exit() == code
            return before

    text = await asyncio.to_thread(talk)
    assert "CHANGED" in text
    assert own.removeprefix("SHA256:")[:48] in text
    assert OTHER.removeprefix("SHA256:")[:48] in text
    assert (read_profiles(profiles).profiles["lab"].fingerprint == own) == (code == 0)
    assert bool(stranger.token_requests) == (code == 0)


async def test_without_a_profile_trust_is_for_this_run(
    stranger: AwkwardBroker, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCV_SM_BROKER_URL", stranger.url)
    monkeypatch.setenv("DCV_SM_CLIENT_ID", "x")
    monkeypatch.setenv("DCV_SM_CLIENT_PASSWORD", "y")

    def talk() -> str:
        line = ["describe-servers", "--trust-on-first-use", "--output", "ids"]
        with Terminal([*PROGRAM, *line], 100, 40) as terminal:
            terminal.wait_for("[y/N]")
            terminal.type("y\r")
            assert terminal.wait_exit() == 0
            return terminal.text

    assert "trusted for this run" in await asyncio.to_thread(talk)
    assert not is_there(profiles)


# ------------------------------------------------------------------ what is configured


async def test_profiles_are_listed_without_their_secrets(profiles: Path, shell: Shell) -> None:
    await shell("profiles", "--output", "table")
    assert "dcvtui login" in shell.err
    save_profile(profiles, Profile("prod", "https://prod:8443", "id-1", "very-secret"))
    save_profile(profiles, Profile("lab", "https://lab:8443", no_token=True, fingerprint=OTHER))
    for chosen in ("table", "json", "yaml", "csv", "tsv", "ids"):
        out = await shell("profiles", "--output", chosen)
        assert "prod" in out
        assert "very-secret" not in out
    found = {one["name"]: one for one in (await shell.json("profiles", "--default", "lab"))["profiles"]}
    assert (found["lab"]["default"], found["prod"]["default"]) == (True, False)
    assert (found["lab"]["secret"], found["prod"]["secret"]) == ("not needed", "file")
    await shell("profiles", "--default", "pord", code=253)
    assert "Did you mean 'prod'?" in shell.err
    await shell("--profile", "pord", "describe-servers", code=253)
    assert "Did you mean 'prod'?" in shell.err


async def test_config_show_says_where_each_value_comes_from(
    broker: AwkwardBroker, profiles: Path, shell: Shell
) -> None:
    settings = (await shell.json("config", "show", "--read-only"))["settings"]
    found = {one["name"]: (one["value"], one["origin"]) for one in settings}
    assert found["url"] == (broker.url, "DCV_SM_BROKER_URL")
    assert found["client_id"] == ("an-id", "DCV_SM_CLIENT_ID")
    assert found["client_secret"] == ("•••", "DCV_SM_CLIENT_PASSWORD")
    assert found["trust"][1] == "DCV_SM_CA_BUNDLE"
    assert found["read_only"] == ("true", "--read-only")
    assert found["address_tag"] == ("public_ipv4", "default")
    save_profile(profiles, Profile("lab", "https://lab:8443", "id", "very-secret", gateway="gw:1"))
    out = await shell("--profile", "lab", "config", "show", "--output", "table")
    assert "very-secret" not in out
    assert "gateway        the profile 'lab'  gw:1" in out


async def test_locate_says_where_every_file_is(profiles: Path, shell: Shell) -> None:
    found = {one["what"]: one for one in (await shell.json("locate"))["files"]}
    assert (found["profiles"]["path"], found["profiles"]["exists"]) == (str(profiles), False)
    assert str(profiles) in await shell("locate", "--output", "table")
    assert found["settings of the console"]["path"] == str(profiles.parent / "settings.toml")


async def test_doctor_ends_with_5_if_something_does_not_work(
    broker: AwkwardBroker, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    found = (await shell.json("doctor"))["findings"]
    names = [one["name"] for one in found if one["topic"] == "broker"]
    assert names == ["settings", "name", "reach", "TLS", "token", "API", "clock"]
    rows = (await shell("doctor", "--output", "table")).splitlines()
    assert len(rows) == 1 + len(found)
    monkeypatch.setenv("DCV_SM_BROKER_URL", "https://127.0.0.1:9")
    assert "connection refused" in await shell("doctor", "--output", "table", code=5)
    monkeypatch.delenv("DCV_SM_BROKER_URL")
    out = await shell("doctor", "--output", "csv", code=5)
    assert "No broker is configured" in out


# ------------------------------------------------------------------ completion


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("dcvtui descr", {"describe-sessions", "describe-servers"}),
        ("dcvtui describe-sessions --out", {"--output", "--output-format"}),
        ("dcvtui describe-sessions --output y", {"yaml"}),
        ("dcvtui describe-servers --columns name,lo", {"name,load", "name,load5", "name,load15"}),
        ("dcvtui describe-sessions --sort cl", {"clients"}),
        ("dcvtui permissions ex", {"explain"}),
        ("dcvtui --profile la", {"lab"}),
        ("dcvtui delete-session --wait-for dele", {"deleting", "deleted"}),
    ],
)
def test_command_lines_are_completed(profiles: Path, words: str, wanted: set[str]) -> None:
    save_profile(profiles, Profile("lab", "https://lab:8443", "id", "s"))
    *_, last = words.split(" ")
    done = subprocess.run(
        PROGRAM,
        env=os.environ
        | {
            "_DCVTUI_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "COMP_LINE": words,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert wanted <= found
    assert all(one.startswith(last) for one in found)


def test_bash_completes_with_the_script_that_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "dcvtui"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dcvtui "$@"\n')
    program.chmod(0o755)
    script = """
eval "$(dcvtui completion bash)"
COMP_WORDS=(dcvtui clo); COMP_CWORD=1
_dcvtui_completion dcvtui
echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("close-servers\n", "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
async def test_every_shell_has_its_script(shell: Shell, name: str) -> None:
    assert f"_DCVTUI_COMPLETE={name}_complete" in await shell("completion", name)
    await shell("completion", "fsh", code=252)
    assert "Did you mean 'fish'?" in shell.err


# ------------------------------------------------------------------ secrets


async def test_a_named_profile_is_talked_to_alone_while_the_environment_points_elsewhere(
    broker: AwkwardBroker, stranger: AwkwardBroker, profiles: Path, shell: Shell, tmp_path: Path
) -> None:
    save_profile(profiles, Profile("lab", stranger.url, "lab-id", "lab-secret", ca_file=stranger.ca_file))
    out = await shell("--profile", "lab", "describe-servers", "--debug")
    assert broker.token_requests == broker.asked == []
    sent = json.dumps([asked.headers for asked in (*stranger.token_requests, *stranger.asked)])
    assert "Basic bGFiLWlkOmxhYi1zZWNyZXQ=" in sent  # lab-id:lab-secret
    for secret in ("a-secret", "YW4taWQ6YS1zZWNyZXQ="):
        assert secret not in sent
    assert "DCV_SM_BROKER_URL, DCV_SM_CLIENT_ID, DCV_SM_CLIENT_PASSWORD ignored" in shell.err
    assert "lab-secret" not in out + shell.err


async def test_a_stored_secret_is_not_sent_to_the_address_of_an_option(
    broker: AwkwardBroker,
    stranger: AwkwardBroker,
    profiles: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DCV_SM_CLIENT_ID", "DCV_SM_CLIENT_PASSWORD", "DCV_SM_BROKER_URL"):
        monkeypatch.delenv(name)
    save_profile(profiles, Profile("lab", stranger.url, "lab-id", "lab-secret"), is_default=True)
    for options in (["--broker-url", broker.url], ["--profile", "lab", "--broker-url", broker.url]):
        await shell(*options, "describe-servers", code=253)
        assert "so it is not sent there" in shell.err
        assert "lab-secret" not in shell.err
    assert broker.token_requests == broker.asked == []
    assert stranger.token_requests == []


def test_no_option_takes_a_secret() -> None:
    import click

    from dcvtui.cli import cli

    def options(command: click.Command) -> list[str]:
        context = click.Context(command)
        own = [name for one in command.get_params(context) for name in one.opts]
        names = command.list_commands(context) if isinstance(command, click.Group) else []
        below = (
            [command.get_command(context, name) for name in names] if isinstance(command, click.Group) else []
        )
        return own + [name for one in below if one for name in options(one)]

    found = set(options(cli))
    suspicious = {name for name in found for word in ("secret", "password", "token") if word in name}
    assert suspicious == {"--client-secret-file", "--next-token"}
