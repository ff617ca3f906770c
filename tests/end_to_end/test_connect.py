"""From the console to the screen of a desktop, every step with the installed programs.

The console asks the broker how to connect; a gateway asks the resolver where the
session is; the host's entrance asks the broker about the token; RFB answers. And
after all that no secret lies anywhere but where it belongs.
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
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.agent.vnc_client import Screen, url_of, websocket
from tests.agent.x_sessions import needs_xvnc, passable_place
from tests.end_to_end.stand import COMMANDS, Stand, standing, wait_until
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


@pytest.fixture
def stand() -> Iterator[Stand]:
    with passable_place() as place:
        with standing(place, broker_lines=GATEWAY, backend_lines=XVNC, log_level="debug") as running:
            yield running


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


def resolved(stand: Stand, session_id: str, transport: str = "HTTP") -> httpx.Response:
    """What a gateway asks for a client."""
    asked = {"sessionId": session_id, "transport": transport, "clientIpAddress": "203.0.113.7"}
    with httpx.Client(verify=stand.trust(), trust_env=False) as client:
        return client.post(f"{stand.notice['gateway_url']}/resolveSession", params=asked)


def console(stand: Stand, folder: Path, **environment: str) -> Terminal:
    """The console as an operator starts it."""
    given = {**stand.environment, **environment}
    return Terminal([str(COMMANDS / "dcvtui")], 120, 40, environment=given, cwd=folder)


def saved_connection(stand: Stand, name: str, folder: Path, **environment: str) -> dict[str, str]:
    """What the console saves for the session: the values of a `.dcv` file."""
    with console(stand, folder, HOME=str(folder), **environment) as terminal:
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


def look_through(stand: Stand, answer: dict[str, Any], token: str) -> Screen:
    """The handshake with the desktop, at the address that the resolver gave."""
    path, session_id = answer["WebUrlPath"], answer["SessionId"]
    url = url_of(answer["Port"], session_id, token, path).replace("127.0.0.1", answer["DcvServerEndpoint"])
    # What the host made itself when it started; nobody signed it.
    shown = ssl.get_server_certificate(("127.0.0.1", answer["Port"]))
    tls = ssl.create_default_context(cadata=shown)

    async def handshake() -> Screen:
        async with asyncio.timeout(30), websocket(url, tls) as client:
            screen = await client.handshake()
            await asyncio.to_thread(
                wait_until,
                lambda: stand.session(session_id)["NumOfConnections"] == 1,
                "the visitor is counted",
            )
            return screen

    return asyncio.run(handshake())


@pytest.mark.covers("W15")
def test_from_the_console_to_the_desktop_behind_a_gateway(stand: Stand, tmp_path: Path) -> None:
    """The console's token, taken to where the resolver says, opens the desktop, until its session ends."""
    mappings = tmp_path / "mappings.json"
    (server,) = stand.servers()
    names = {"InternalDnsName": "localhost"}
    mappings.write_text(json.dumps([{"ServerIdType": "Id", "ServerId": server["Id"], "DnsNames": names}]))
    assert "loaded 1 " in broker_command(stand, "register-server-dns-mappings", "--file-path", mappings)

    session_id = create(stand, "desk-1")
    saved = saved_connection(stand, "desk-1", tmp_path)
    assert (saved["sessionid"], saved["user"]) == (session_id, ME)

    answer = resolved(stand, session_id).raise_for_status().json()
    assert answer["DcvServerEndpoint"] == "localhost"
    assert str(answer["Port"]) == saved["port"] == str(server["Port"])
    assert resolved(stand, session_id, "QUIC").status_code == 404
    screen = look_through(stand, answer, saved["authtoken"])
    assert (screen.width, screen.height) == (800, 600)

    other_id = create(stand, "desk-2")
    for wrong_id, token in ((other_id, saved["authtoken"]), (session_id, saved["authtoken"] + "x")):
        assert status_of(answer["Port"], wrong_id, token) == 403
    stand.call("deleteSessions", [{"SessionId": session_id, "Owner": ME}])
    wait_until(lambda: stand.session(session_id)["State"] == "DELETED", "its end")
    assert resolved(stand, session_id).status_code == 404
    assert status_of(answer["Port"], session_id, saved["authtoken"]) in (403, 404)


def status_of(port: int, session_id: str, token: str) -> int:
    """With which status the entrance sends somebody away."""

    async def ask() -> int:
        async with asyncio.timeout(30):
            with pytest.raises(InvalidStatus) as refusal:
                async with websocket(url_of(port, session_id, token)):
                    pass
        return refusal.value.response.status_code

    return asyncio.run(ask())


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
def test_no_secret_lies_about_after_a_whole_run(stand: Stand, tmp_path: Path) -> None:
    """Tokens, passwords, keys and permissions are in no log at any level, no arguments and no variables.

    Nor are they in a file that others may read: a whole run is searched for them, from the
    registration of an agent to a visitor on a desktop and the native viewer.
    """
    if not shutil.which("xterm"):
        pytest.skip("xterm is missing: apt-get install xterm")
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
    saved = saved_connection(stand, "desk-1", tmp_path, PATH=path, DISPLAY=":99")
    answer = resolved(stand, session_id).raise_for_status().json()
    look_through(stand, answer | {"DcvServerEndpoint": "localhost"}, saved["authtoken"])
    link = subprocess.run(
        [
            str(COMMANDS / "dcvtui"),
            "get-session-connection-data",
            "--session-id",
            session_id,
            "--user",
            "guest",
        ],
        env={"PATH": path, "HOME": str(tmp_path), **stand.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    guest = re.search(r"eyJ[\w.-]+", link.stdout)
    assert guest
    status_of(answer["Port"], session_id, guest[0])

    secrets = {
        "the API client's password": stand.client_secret,
        "an access token": stand.token.split(".")[2],
        "a connection token": saved["authtoken"].split(".")[2],
        "a guest's connection token": guest[0].split(".")[2],
        "a software statement": statement,
        "permissions": "planted-words-of-the-permissions",
        "permissions in Base64": permissions[:40],
        **agent_secrets(stand),
        **{f"signing key {number}": line for number, line in enumerate(signing_keys(stand))},
    }
    assert all(len(secret) >= 32 for secret in secrets.values())
    wait_until((stand.folder / "session-environment").exists, "the session's own words")
    assert processes_show(secrets, but=set()) == []
    psutil.Process(int((stand.folder / "viewer-pid").read_text())).kill()
    stand.end_sessions()
    assert files_show(stand.folder, secrets) == files_show(tmp_path, secrets) == []
    logs = [path for path in stand.folder.rglob("*.log") if path.stat().st_size]
    assert len(logs) >= 3, f"there is something to search: {logs}"
    assert not link.stderr or not any(secret in link.stderr for secret in secrets.values())


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
