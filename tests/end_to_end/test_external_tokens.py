"""The installed command line on a broker that gives no tokens: an authorization server gives them."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.authorization_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    Authorization,
    authorization_server,
    trusted_by_this_process,
)
from tests.client_certificates import ClientCa
from tests.end_to_end.stand import COMMANDS
from tests.running import RunningBroker, running_broker


async def describe_servers(
    broker: RunningBroker, server: Authorization, *options: str, **environment: str
) -> tuple[int, str, str]:
    """Ask for the servers as a script does: status, standard output, standard error."""
    given = {
        "DCV_SM_BROKER_URL": broker.url,
        "DCV_SM_AUTH_SERVER_URL": f"{server.url}/oauth2/token",
        "DCV_SM_CLIENT_ID": CLIENT_ID,
        "DCV_SM_CLIENT_PASSWORD": CLIENT_SECRET,
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        COMMANDS / "dcvtui",
        "describe-servers",
        "--output",
        "json",
        *options,
        env={**os.environ, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.fixture
def public_ca(tmp_path: Path) -> ClientCa:
    """What the system trusts, as it trusts the CAs of the Internet; it signed nothing of the broker's."""
    return ClientCa.make(tmp_path, "public")


async def test_the_brokers_own_ca_and_the_systems_stand_side_by_side(
    tmp_path: Path, public_ca: ClientCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted_by_this_process(public_ca, monkeypatch.setenv)
    async with (
        authorization_server(public_ca, host="localhost") as server,
        running_broker(tmp_path, enable_authorization_server=False) as broker,
    ):
        await broker.broker.external.register(server.keys_url, None)
        trusting = {"DCV_SM_CA_BUNDLE": str(broker.ca_file)}
        status, output, errors = await describe_servers(broker, server, **trusting)
        assert (errors, status) == ("", 0)
        assert '"Servers": []' in output

        server.rotate()
        assert (await describe_servers(broker, server, **trusting))[0] == 0

        await broker.broker.external.unregister(server.keys_url)
        status, output, errors = await describe_servers(broker, server, **trusting)
        assert (status, output) == (254, "")
        assert "Invalid access token" in errors or "does not accept" in errors


async def test_a_token_server_that_nobody_vouches_for_gets_no_secret_and_no_pin(
    tmp_path: Path, public_ca: ClientCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        authorization_server(public_ca, host="localhost") as server,
        running_broker(tmp_path, enable_authorization_server=False) as broker,
    ):
        status, output, errors = await describe_servers(broker, server, DCV_SM_CA_BUNDLE=str(broker.ca_file))
    assert (status, output) == (6, "")
    assert f"The certificate of the token server {server.url}" in errors
    assert "--trust-fingerprint" not in errors, "a pin is the broker's and would shut it out"
    assert server.token_requests == 0
