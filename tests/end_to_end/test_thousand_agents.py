"""A thousand agents lose their broker in one moment, and come back to the next one."""

import asyncio
import re
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.agent.agent_program import config, running
from tests.broker_process import BrokerProcess, broker_command, broker_process, write_config

AGENTS = 1000
FLEET = f"""type = 'simulated'
[backend.simulated]
servers = {AGENTS}
sessions = {AGENTS}
seed = 11
still = true
"""
# What a killed broker looks like from outside, one that is just starting, and one that asks to wait.
EXPECTED = re.compile(r"The channel to the broker ended|cannot be reached|did not answer|HTTP 503|OVERLOADED")


async def token_of(broker: BrokerProcess, credentials: tuple[str, str]) -> str:
    async with broker.client() as client:
        answer = await client.post(
            "/oauth2/token", params={"grant_type": "client_credentials"}, auth=credentials
        )
        return str(answer.raise_for_status().json()["access_token"])


async def reachable(client: httpx.AsyncClient) -> int:
    """How many servers have an agent; those that the broker only remembers are UNKNOWN."""
    found = 0
    question: dict[str, Any] = {"MaxResults": 1000}
    while True:
        answer: dict[str, Any] = (await client.post("/describeServers", json=question)).json()
        states = (server.get("UnavailabilityReason", server["Availability"]) for server in answer["Servers"])
        found += sum(state in ("AVAILABLE", "SERVER_FULL") for state in states)
        if not (token := answer.get("NextToken")):
            return found
        question = {"MaxResults": 1000, "NextToken": token}


async def until_all_are_there(broker: BrokerProcess, credentials: tuple[str, str], within_s: float) -> float:
    """Wait for the thousandth agent; the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(within_s), broker.client(await token_of(broker, credentials)) as client:
        while await reachable(client) < AGENTS:  # noqa: ASYNC110  an API can only be asked
            await asyncio.sleep(0.5)
    return time.monotonic() - began


@pytest.mark.covers("G36")
async def test_a_thousand_agents_come_back_within_a_minute(tmp_path: Path) -> None:
    """A broker with a thousand agents is killed and started again: within a minute all are back, and none
    of them had any trouble but waiting its turn."""
    properties = write_config(tmp_path)
    async with broker_process(properties) as broker:
        status, output, _ = await broker_command(
            "register-api-client", "--client-name", "t", "--config", properties
        )
        assert status == 0
        client_id, secret = (line.split()[-1] for line in output.splitlines() if ":" in line)
        credentials = (client_id, secret)
        url = urlsplit(broker.agent_url)
        conf = config(
            tmp_path,
            backend=FLEET,
            broker_host=url.hostname,
            broker_port=url.port,
            ca_file=str(broker.ca_file),
        )
        usual = conf.read_text().replace("broker_update_interval = 1", "broker_update_interval = 30")
        await asyncio.to_thread(conf.write_text, usual)
        async with running(conf):
            await until_all_are_there(broker, credentials, 120)
            log = tmp_path / "log" / "agent.log"
            before = len(await asyncio.to_thread(log.read_text))
            await broker.stop(signal.SIGKILL)
            properties = write_config(tmp_path, agent_to_broker_connector_https_port=url.port)
            async with broker_process(properties) as again:
                assert await until_all_are_there(again, credentials, 120) < 60
            said = (await asyncio.to_thread(log.read_text))[before:]
    trouble = [line for line in said.splitlines() if " INFO " not in line and not EXPECTED.search(line)]
    assert trouble == []
