"""Commands about the broker itself, run as an administrator runs them."""

import asyncio
import json
import os
import re
import ssl
import stat
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest

from broker_stub.agent.settings import AgentSettings, Section, load_settings
from broker_stub.broker.settings_file import load_file
from broker_stub.broker.settings_keys import KNOWN_KEYS
from broker_stub.shipped_files import AGENT_FILES, BROKER_FILES, ShippedFile
from tests.broker_process import COMMAND, broker_command, broker_process, write_config
from tests.running import running_broker


def write(folder: Path, text: str) -> Path:
    path = folder / "broker.properties"
    path.write_text(text)
    path.chmod(0o640)
    return path


# ------------------------------------------------------------------ configuration


@pytest.mark.covers("B12")
async def test_show_config_names_value_origin_and_treatment_and_hides_secrets(tmp_path: Path) -> None:
    """The configuration is shown key by key; passwords are hidden in the table and in JSON."""
    config = write(
        tmp_path,
        "session-manager-working-path = /srv/broker\n"
        "delete-session-duration-hours = 2\n"
        "client-to-broker-connector-key-store-pass = s3cr3t-1\n"
        "jdbc-password = s3cr3t-2\n"
        "broker-to-broker-connection-pass = s3cr3t-3\n"
        "broker-to-broker-port = 47100\n"
        "enable-authorization = FALSE\n"
        "ext-tls-extra-names = a.example,b.example\n",
    )
    status, output, errors = await broker_command("show-config", "--config", config)
    assert status == 0
    rows = {line.split()[0]: line.split(None, 3)[1:] for line in output.splitlines()}
    assert rows.keys() == KNOWN_KEYS
    assert rows["enable-authorization"][:2] == ["false", "line"]
    assert "ATTENTION" in errors
    assert "s3cr3t" not in output + errors
    status, output, _ = await broker_command("show-config", "--json", "--config", config)
    found = {row["key"]: row for row in json.loads(output)}
    assert "s3cr3t" not in output
    for key in (
        "client-to-broker-connector-key-store-pass",
        "jdbc-password",
        "broker-to-broker-connection-pass",
    ):
        assert found[key]["value"] == "(hidden)"
    assert found["delete-session-duration-seconds"]["value"] == "7200"
    assert found["delete-session-duration-seconds"]["origin"] == "from delete-session-duration-hours"
    assert found["enable-authorization"]["origin"] == "line 7"
    assert found["ext-log-path"]["value"] == "/srv/broker/log"
    assert found["ext-tls-extra-names"]["value"] == "a.example, b.example"
    assert found["client-to-broker-connector-https-port"] == {
        "key": "client-to-broker-connector-https-port",
        "value": "8443",
        "origin": "default",
        "treatment": "same",
        "live": False,
        "note": "",
    }
    assert found["broker-to-broker-port"]["treatment"] == "ignored"
    assert found["max-api-requests-per-second"]["live"]
    status, output, _ = await broker_command("show-config", "--set", "--config", config)
    assert len(output.splitlines()) == 8


@pytest.mark.covers("B3")
async def test_check_config_says_everything_at_once(tmp_path: Path) -> None:
    """Wrong values, files that cannot be used and a mode that is too open are reported together."""
    config = write(
        tmp_path,
        "session-manager-working-path = /srv/broker\n"
        "max-api-requests-per-second = none\n"
        "agent-to-broker-connector-key-store-file = /nothing.p12\n",
    )
    config.chmod(0o666)
    for command in ("check-config", "start"):
        status, output, errors = await broker_command(command, "--config", config)
        assert (status, output) == (78, "")
        assert len(errors.splitlines()) == 3
        for part in ("mode 0666", "max-api-requests-per-second = 'none'", "/nothing.p12"):
            assert part in errors
    config = write(tmp_path, "session-manager-working-path = /srv/broker\nhello = 1\n")
    status, output, errors = await broker_command("check-config", "--config", config)
    assert (status, output) == (0, "The configuration is good.\n")
    assert errors == "warning: Unknown key hello.\n"


# ------------------------------------------------------------------ the running broker


async def test_status_and_reload_of_a_running_broker(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with broker_process(config) as broker:
        status, output, _ = await broker_command("status", "--json", "--config", config)
        found = json.loads(output)
        assert status == 0
        assert found["listeners"] == {"client": broker.url, "agent": broker.agent_url}
        assert (found["health"], found["database"], found["agents"]) == ("up", "up", 0)
        assert found["certificateDaysLeft"]["client"] > 300
        config.write_text(
            config.read_text() + "max-api-requests-per-second = 5\nenable-gateway = true\n", encoding="utf-8"
        )
        status, output, _ = await broker_command("reload", "--config", config)
        assert output == "changed: max-api-requests-per-second\nneeds a restart: enable-gateway\n"
        _, output, _ = await broker_command("status", "--config", config)
        assert "needsRestart: enable-gateway" in output.splitlines()
        config.write_text(config.read_text() + "max-api-requests-per-second = 0\n")
        status, output, errors = await broker_command("reload", "--config", config)
        assert (status, output) == (78, "")
        assert "max-api-requests-per-second = '0'" in errors


@pytest.mark.covers("B9")
async def test_a_certificate_is_issued_again_while_the_broker_runs(tmp_path: Path) -> None:
    """An administrator has a new certificate made; it verifies against the same CA, and nobody is cut off."""
    config = write_config(tmp_path)

    def shown(url: str) -> str:
        host, _, port = url.removeprefix("https://").rpartition(":")
        return ssl.get_server_certificate((host, int(port)))

    async with running_broker(tmp_path) as broker:
        before = await asyncio.to_thread(shown, broker.url)
        status, output, _ = await broker_command("issue-certificates", "--config", config)
        assert (status, output) == (0, "client: 365 days left\nagent: 365 days left\n")
        assert await asyncio.to_thread(shown, broker.url) != before
        assert (await broker.client.get("/health")).status_code == 200
        async with httpx.AsyncClient(verify=broker.tls, trust_env=False) as other:
            assert (await other.get(f"{broker.agent_url}/health")).status_code == 200
        status, output, _ = await broker_command("export-ca", "--config", config)
        assert output == broker.ca_file.read_text()
    elsewhere = write(tmp_path, "session-manager-working-path = /nowhere\n")
    status, output, errors = await broker_command("export-ca", "--config", elsewhere)
    assert (status, output) == (1, "")
    assert "start the broker once" in errors


async def test_the_version_is_printed() -> None:
    status, output, _ = await broker_command("version")
    assert status == 0
    assert output.startswith("dcv-session-manager-broker ")


# ------------------------------------------------------------------ gateways


@pytest.mark.covers("B36")
async def test_gateways_need_the_certificate_that_was_made_for_them(tmp_path: Path) -> None:
    """With the printed trust store the broker answers a gateway with the made certificate and no other."""
    folder = tmp_path / "creds"
    status, output, _ = await broker_command("gen-gateway-certificates", "--folder", folder)
    assert status == 0
    printed = dict(line.split(": ", 1) for line in output.splitlines())
    assert printed["Folder"] == str(folder)
    key, certificate = folder / printed["Key"], folder / printed["Certificate"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o007
    settings = {
        "enable_gateway": "true",
        "gateway_to_broker_connector_https_port": "0",
        "gateway_to_broker_connector_bind_host": "127.0.0.1",
        "enable_tls_client_auth_gateway": "true",
        "gateway_to_broker_connector_trust_store_file": str(folder / printed["Trust store"]),
        "gateway_to_broker_connector_trust_store_pass": printed["Trust store password"],
    }
    async with running_broker(tmp_path, None, **settings) as broker:
        url = f"{broker.broker.gateway_url}/health"
        trusted = broker.tls
        async with httpx.AsyncClient(verify=trusted, trust_env=False) as stranger:
            with pytest.raises(httpx.TransportError):
                await stranger.get(url)
        trusted = broker.tls
        trusted.load_cert_chain(certificate, key)
        async with httpx.AsyncClient(verify=trusted, trust_env=False) as gateway:
            assert (await gateway.get(url)).status_code == 200
    status, output, errors = await broker_command("gen-gateway-certificates", "--folder", folder)
    assert (status, output) == (1, "")
    assert "--force" in errors
    assert (await broker_command("gen-gateway-certificates", "--folder", folder, "--force"))[0] == 0


# ------------------------------------------------------------------ shipped files


def uncommented(text: str, mark: str) -> str:
    """An example with every line that shows a key in force."""
    lines = []
    for line in text.splitlines():
        shown = line.removeprefix(mark)
        is_key = line.startswith(mark) and shown.partition("=")[0].strip() and "=" in shown
        lines.append(shown if is_key and " " not in shown.partition("=")[0].strip() else line)
    return "\n".join(lines)


@pytest.mark.covers("B1", "B2")
def test_the_example_of_the_broker_loads_and_names_every_key(tmp_path: Path) -> None:
    """The shipped properties file loads as it is and with every line in force, and names each known key."""
    (example,) = (file for file in BROKER_FILES if file.is_kept)
    assert load_file(write(tmp_path, example.text())).warnings == []
    everything = uncommented(example.text(), "# ")
    named = {line.partition("=")[0].strip() for line in everything.splitlines() if line[:1] not in ("#", "")}
    assert named == KNOWN_KEYS
    warnings = load_file(write(tmp_path, everything)).warnings
    assert not any("Unknown" in warning for warning in warnings)


def test_the_example_of_the_agent_loads_and_names_every_key(tmp_path: Path) -> None:
    (example,) = (file for file in AGENT_FILES if file.is_kept)
    path = tmp_path / "agent.conf"
    path.write_text(example.text())
    assert load_settings(path).warnings == []
    everything = uncommented(example.text(), "#")
    content = tomllib.loads(everything)
    assert content.keys() == AgentSettings.model_fields.keys() | {"version"}
    whole = AgentSettings.model_validate({"agent": {"broker_host": "x"}})
    for name, section in (*whole, *((f"backend.{name}", one) for name, one in whole.backend)):
        if isinstance(section, Section):
            outer, _, inner = name.partition(".")
            named = content[outer][inner] if inner else content[outer]
            assert named.keys() == type(section).model_fields.keys(), name
    statement = tmp_path / "statement"
    statement.write_text("text")
    path.write_text(
        everything.replace("/etc/dcv-session-manager-agent/software_statement.txt", str(statement))
    )
    assert load_settings(path).warnings == []


@pytest.mark.parametrize("file", [each for each in (*BROKER_FILES, *AGENT_FILES) if not each.is_kept])
def test_units_start_what_is_installed(tmp_path: Path, file: ShippedFile) -> None:
    path = tmp_path / file.name
    path.write_text(file.text())
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # keys of units are not lowered
    unit.read(path)
    command, argument = unit["Service"]["ExecStart"].split()
    assert os.access(command, os.X_OK)
    assert argument == "start"
    assert unit["Service"]["RestartPreventExitStatus"] == "78"
    if verify := which("systemd-analyze"):
        done = subprocess.run([verify, "verify", path], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if file.name in line and "man " not in line]
        assert not ours


def test_the_agent_installs_its_own_files(tmp_path: Path) -> None:
    command = COMMAND.with_name("dcv-session-manager-agent")
    done = subprocess.run([command, "install-files", "--root", tmp_path], check=True, capture_output=True)
    assert b"agent.conf" in done.stdout
    assert load_settings(tmp_path / "etc/dcv-session-manager-agent/agent.conf")


async def test_files_are_installed_once_and_configurations_kept(tmp_path: Path) -> None:
    status, output, _ = await broker_command("install-files", "--root", tmp_path)
    assert status == 0
    config = tmp_path / "etc/dcv-session-manager-broker/session-manager-broker.properties"
    unit = tmp_path / "etc/systemd/system/dcv-session-manager-broker.service"
    lines = [line for line in output.splitlines() if not line.startswith("the group ")]
    assert lines == [f"wrote {config}", f"wrote {unit}"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    config.write_text("enable-gateway = true\n")
    unit.write_text("old")
    _, output, _ = await broker_command("install-files", "--root", tmp_path)
    assert output.splitlines() == [f"kept {config}", f"wrote {unit}"]
    assert config.read_text() == "enable-gateway = true\n"
    assert f"ExecStart={COMMAND} start" in unit.read_text()
    status, output, _ = await broker_command("print-file", "session-manager-broker.properties")
    assert output == BROKER_FILES[0].text()


async def test_the_commands_of_the_readme_exist() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    chapter = text.partition("## Running the broker and agents")[2].partition("\n## ")[0]
    table = re.findall(r"`([a-z]+(?:-[a-z]+)+|status|reload)`(?=[, ].*\|)", chapter)
    lines = re.findall(r"^    dcv-session-manager-(broker|agent) ([a-z-]+)", chapter, re.MULTILINE)
    assert len(lines) >= 4
    for kind, name in {*lines, *(("broker", name) for name in table)}:
        command = COMMAND.with_name(f"dcv-session-manager-{kind}")
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(command, name, "--help", stdout=quiet)
        assert await process.wait() == 0, name


async def test_every_command_prints_json_for_programs(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    mappings = tmp_path / "mappings.json"
    mappings.write_text("[]")
    url = "https://127.0.0.1:1/.well-known/jwks.json"

    async def said(*arguments: object) -> dict[str, Any]:
        status, output, errors = await broker_command(*arguments, "--json", "--config", config)
        assert status == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found

    async with running_broker(tmp_path):
        client = await said("register-api-client", "-cn", "x")
        assert await said("unregister-api-client", "-ci", client["clientId"]) == {
            "id": client["clientId"],
            "active": False,
        }
        assert await said("register-auth-server", "-u", url) == {"url": url, "warnings": []}
        assert await said("unregister-auth-server", "-u", url) == {"url": url}
        assert await said("renew-auth-server-api-key", "--grace-seconds", 5) == {"graceSeconds": 5}
        assert await said("register-server-dns-mappings", "-fp", mappings) == {"count": 0, "warnings": []}
        assert (await said("issue-certificates"))["daysLeft"].keys() == {"client", "agent"}
        statement = await said("generate-software-statement")
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "deactivate-software-statement", "-ss", "-", "--json", "--config", config),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(f"{statement['softwareStatement']}\n".encode())
        assert json.loads(output) == {"isActive": False}
        listed = await broker_command("describe-software-statements", "--json", "--config", config)
        assert [one["isActive"] for one in json.loads(listed[1])] == [True, False]
