"""From the console to the screen of a desktop, every step with the installed programs.

The console asks the broker how to connect; a gateway, the one thing here that is
made for the test, asks the resolver where the session is; the host's entrance asks
the broker about the token; RFB answers. And after all that no secret lies anywhere
but where it belongs.
"""

import asyncio
import base64
import contextlib
import getpass
import json
import re
import shutil
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.agent.vnc_client import Screen, url_of, websocket
from tests.agent.x_sessions import needs_xvnc, passable_place
from tests.end_to_end.small_gateway import Gateway, running_gateway
from tests.end_to_end.stand import COMMANDS, Stand, free_port, standing, wait_until
from tests.pseudo_terminal import Terminal

pytestmark = needs_xvnc

ME = getpass.getuser()
XVNC = """\
[backend]
type = 'xvnc'
geometry = '800x600'
minimum_uid = 0
[entrance]
port = 0
"""
GATEWAY = """\
enable-gateway = true
gateway-to-broker-connector-https-port = 0
gateway-to-broker-connector-bind-host = 127.0.0.1
enable-tls-client-auth-gateway = true
gateway-to-broker-connector-trust-store-file = {trustStore}
gateway-to-broker-connector-trust-store-pass = {trustStorePassword}
"""
VIEWER = """\
#!/bin/sh
tr '\\0' '\\n' < /proc/$$/environ > {folder}/viewer-environment
printf '%s\\n' "$@" > {folder}/viewer-arguments
echo $$ > {folder}/viewer-pid.part
mv {folder}/viewer-pid.part {folder}/viewer-pid
exec sleep 60
"""
DIARY = """\
#!/bin/sh
env > "{folder}/session-environment"
exec sleep 600
"""
PERMISSIONS = "# planted-words-of-the-permissions\n[permissions]\n%owner% allow builtin\n"


PROFILE = """\
default = "here"
[profiles.here]
url = "{url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
ca_file = "{ca_file}"
gateway = "localhost:{gateway_port}"
"""


@dataclass(frozen=True)
class Place:
    """A broker with a port for gateways, a host with an entrance, and what a gateway needs.

    Attributes:
        stand: The programs.
        made: What was made for gateways, by its name.
        gateway_port: Where the gateway will be.
    """

    stand: Stand
    made: dict[str, str]
    gateway_port: int

    def resolver_trust(self) -> ssl.SSLContext:
        """Trusts the broker and shows what was made for gateways."""
        return _showing(self.stand.trust(), self.made)


def _showing(context: ssl.SSLContext, made: dict[str, str]) -> ssl.SSLContext:
    context.load_cert_chain(made["certificate"], made["key"])
    return context


@pytest.fixture
def place() -> Iterator[Place]:
    with passable_place() as folder:
        command = [str(COMMANDS / "dcv-session-manager-broker"), "gen-gateway-certificates", "--json"]
        printed = subprocess.run(
            [*command, "--folder", str(folder / "creds")], capture_output=True, text=True, check=True
        )
        made: dict[str, str] = json.loads(printed.stdout)
        lines = GATEWAY.format(**made)
        with standing(folder, broker_lines=lines, backend_lines=XVNC, log_level="debug") as running:
            yield Place(running, made, free_port())


@pytest.fixture
def stand(place: Place) -> Stand:
    return place.stand


def create(stand: Stand, name: str, **fields: Any) -> str:
    item = {"Name": name, "Owner": ME, "Type": "VIRTUAL", **fields}
    (accepted,) = stand.call("createSessions", [item])["SuccessfulList"]
    session_id = str(accepted["Id"])
    wait_until(lambda: stand.session(session_id).get("State") == "READY", "READY", 60)
    return session_id


def broker_command(stand: Stand, *arguments: object) -> str:
    config = stand.folder / "broker.properties"
    command = [str(COMMANDS / "dcv-session-manager-broker"), *map(str, arguments), "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def with_profile(place: Place, folder: Path) -> dict[str, str]:
    """A profile as an operator has it, and the variables with which programs find it."""
    stand, file = place.stand, folder / "config" / "dcvtui" / "profiles.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        PROFILE.format(
            url=stand.url,
            client_id=stand.client_id,
            client_secret=stand.client_secret,
            ca_file=stand.ca_file,
            gateway_port=place.gateway_port,
        )
    )
    file.chmod(0o600)
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


def saved_connection(place: Place, name: str, folder: Path, **environment: str) -> dict[str, str]:
    """What the console saves for the session: the values of a `.dcv` file."""
    stand, given = place.stand, {**with_profile(place, folder), **environment}
    with Terminal([str(COMMANDS / "dcvtui")], 120, 40, environment=given, cwd=folder) as terminal:
        terminal.wait_until(lambda text: "polling" in text or "live" in text, "a fresh fleet", 60)
        terminal.press("2")
        terminal.wait_for(re.compile(rf"▸ +{name} .*READY"))
        terminal.press("c")
        terminal.wait_for(re.compile(r"https://\S+/\?authToken=•"))
        terminal.press("s")
        terminal.wait_for(f"saved ~/{ME}_{name}.dcv")
        if environment:
            terminal.press("o")
            terminal.wait_for("dcvviewer started", 20)
            wait_until((stand.folder / "viewer-pid").exists, "the viewer")
        terminal.press("esc")
        terminal.wait_gone("Connect to")
        terminal.press("q")
        assert terminal.wait_exit(60) == 0
    file = folder / f"{ME}_{name}.dcv"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert text.startswith("[version]\nformat=1.0\n")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


async def look_through(gateway: Gateway, stand: Stand, saved: dict[str, str]) -> Screen:
    """The handshake with the desktop, by the way that the connection file names."""
    session_id = saved["sessionid"]
    url = url_of(int(saved["port"]), session_id, saved["authtoken"], saved["weburlpath"])
    url = url.replace("127.0.0.1", saved["host"])

    def is_counted() -> bool:
        return bool(stand.session(session_id)["NumOfConnections"] == 1)

    async with asyncio.timeout(60), websocket(url, gateway.client_tls) as client:
        screen = await client.handshake()
        await asyncio.to_thread(wait_until, is_counted, "the visitor is counted")
    return screen


@pytest.mark.covers("W15", "W2", "W12")
async def test_from_the_console_through_a_gateway_to_the_desktop(place: Place, tmp_path: Path) -> None:
    """The console's link leads through the gateway, which asks the resolver, to the desktop."""
    stand = place.stand
    mappings = tmp_path / "mappings.json"
    (server,) = stand.servers()
    names = {"InternalDnsName": "localhost"}
    mappings.write_text(json.dumps([{"ServerIdType": "Id", "ServerId": server["Id"], "DnsNames": names}]))
    assert "loaded 1 " in broker_command(stand, "register-server-dns-mappings", "--file-path", mappings)

    session_id = create(stand, "desk-1")
    saved = await asyncio.to_thread(saved_connection, place, "desk-1", tmp_path)
    assert (saved["sessionid"], saved["user"]) == (session_id, ME)
    assert (saved["host"], saved["port"]) == ("localhost", str(place.gateway_port))

    url = stand.notice["gateway_url"]
    async with running_gateway(tmp_path, place.gateway_port, url, place.resolver_trust()) as gateway:
        screen = await look_through(gateway, stand, saved)
        assert (screen.width, screen.height) == (800, 600)
        assert gateway.resolved == [
            {
                "SessionId": session_id,
                "TransportProtocol": "HTTP",
                "DcvServerEndpoint": "localhost",
                "Port": int(server["Port"]),
                "WebUrlPath": "/",
            }
        ]

        other_id = await asyncio.to_thread(create, stand, "desk-2")
        token = saved["authtoken"]
        assert await status_of(gateway, other_id, token) == 403, "the token is for another session"
        assert await status_of(gateway, session_id, token + "x") == 403
        assert await status_of(gateway, "nobody", token) == 404
        stand.call("deleteSessions", [{"SessionId": session_id, "Owner": ME}])
        await asyncio.to_thread(
            wait_until, lambda: stand.session(session_id)["State"] == "DELETED", "its end"
        )
        assert await status_of(gateway, session_id, token) == 404

    async with httpx.AsyncClient(verify=stand.trust(), trust_env=False) as stranger:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await stranger.post(f"{url}/resolveSession", params={"sessionId": other_id, "transport": "HTTP"})


async def status_of(gateway: Gateway, session_id: str, token: str) -> int:
    """With which status somebody is sent away."""
    url = url_of(gateway.port, session_id, token).replace("127.0.0.1", "localhost")
    async with asyncio.timeout(60):
        with pytest.raises(InvalidStatus) as refusal:
            async with websocket(url, gateway.client_tls):
                pass
    return refusal.value.response.status_code


# ------------------------------------------------------------------ secrets


def processes_show(secrets: dict[str, str], but: set[str]) -> list[str]:
    """Which secrets stand in arguments or variables of any process, and whose."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            shown = {"arguments": "\0".join(process.cmdline()), "environment": repr(process.environ())}
            for what, text in shown.items():
                found += [
                    f"{name} in the {what} of {process.name()}"
                    for name, secret in secrets.items()
                    if secret in text and name not in but
                ]
    return found


def files_show(folder: Path, secrets: dict[str, str]) -> list[str]:
    """Which secrets stand in logs, and which in files that somebody else may read."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        content, mode = path.read_bytes(), path.stat().st_mode & 0o777
        is_for_others = mode & 0o077 != 0
        is_log = path.suffix == ".log" or "log" in path.parent.name
        found += [
            f"{name} in {path.relative_to(folder)} ({mode:o})"
            for name, secret in secrets.items()
            if (is_log or is_for_others) and secret.encode() in content
        ]
    return found


@pytest.mark.covers("W14", "B12", "B33")
async def test_no_secret_lies_about_after_a_whole_run(place: Place, tmp_path: Path) -> None:
    """Tokens, passwords, keys and permissions are in no log at any level, no arguments and no variables.

    Nor are they in a file that others may read: a whole run is searched for them, from the
    registration of an agent to a visitor on a desktop and the native viewer.
    """
    if not shutil.which("xterm"):
        pytest.skip("xterm is missing: apt-get install xterm")
    stand = place.stand
    diary = stand.folder / "init" / "diary.sh"
    diary.write_text(DIARY.format(folder=stand.folder))
    diary.chmod(0o755)
    viewer = tmp_path / "bin" / "dcvviewer"
    viewer.parent.mkdir()
    viewer.write_text(VIEWER.format(folder=stand.folder))
    viewer.chmod(0o755)

    statement = broker_command(stand, "generate-software-statement").split()[-1]
    permissions = base64.b64encode(PERMISSIONS.encode()).decode()
    session_id = create(stand, "desk-1", InitFile="diary.sh", PermissionsFile=permissions)
    update = [{"SessionId": session_id, "Owner": ME, "PermissionsFile": permissions}]
    assert stand.call("sessionPermissions", update)["SuccessfulList"]
    path = f"{viewer.parent}:/usr/bin:/bin"
    saved = await asyncio.to_thread(saved_connection, place, "desk-1", tmp_path, PATH=path, DISPLAY=":99")
    guest, words = connection_data(session_id, {"PATH": path, **with_profile(place, tmp_path)})
    url = stand.notice["gateway_url"]
    async with running_gateway(tmp_path, place.gateway_port, url, place.resolver_trust()) as gateway:
        await look_through(gateway, stand, saved)
        assert await status_of(gateway, session_id, guest) == 403, "the permissions let in the owner alone"

    secrets = {
        "the API client's password": stand.client_secret,
        "an access token": stand.token.split(".")[2],
        "a connection token": saved["authtoken"].split(".")[2],
        "a guest's connection token": guest.split(".")[2],
        "a software statement": statement,
        "a trust store's password": place.made["trustStorePassword"],
        "permissions": "planted-words-of-the-permissions",
        "permissions in Base64": permissions[:40],
        **agent_secrets(stand),
        **{f"signing key {number}": line for number, line in enumerate(signing_keys(stand))},
    }
    assert all(len(secret) >= 16 for secret in secrets.values())
    wait_until((stand.folder / "session-environment").exists, "the session's own words")
    assert processes_show(secrets, but=set()) == []
    psutil.Process(int((stand.folder / "viewer-pid").read_text())).kill()
    stand.end_sessions()
    assert files_show(stand.folder, secrets) == files_show(tmp_path, secrets) == []
    logs = [path for path in stand.folder.rglob("*.log") if path.stat().st_size]
    assert len(logs) >= 3, f"there is something to search: {logs}"
    assert not any(secret in words for secret in secrets.values())


def connection_data(session_id: str, environment: dict[str, str]) -> tuple[str, str]:
    """A guest's token as the command line prints it, and what it says on standard error."""
    asked = ["get-session-connection-data", "--session-id", session_id, "--user", "guest"]
    command = [str(COMMANDS / "dcvtui"), *asked]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"eyJ[\w.-]+", printed.stdout)
    assert found
    return found[0], printed.stderr


def agent_secrets(stand: Stand) -> dict[str, str]:
    """What the agent registered with, from where it keeps it."""
    found = {}
    for path in (stand.folder / "state").rglob("*"):
        if path.is_file() and "clientSecret" in path.read_text(errors="replace"):
            assert path.stat().st_mode & 0o777 == 0o600
            found["the agent's secret"] = json.loads(path.read_text())["clientSecret"]
    assert found
    return found


def signing_keys(stand: Stand) -> list[str]:
    """A line of each private key in the broker's database."""
    with contextlib.closing(sqlite3.connect(stand.folder / "broker" / "broker.db")) as database:
        pems = [
            str(row[0]) for row in database.execute("SELECT pem FROM signing_keys WHERE purpose != 'page'")
        ]
    assert pems
    return [pem.splitlines()[3] for pem in pems]
