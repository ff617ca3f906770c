"""Settings that switch parts of the client API on and off, seen from outside."""

from pathlib import Path

import httpx
import pytest
import yaml

from tests.broker_process import broker_process, write_config
from tests.running import RunningBroker, running_broker

PROBE = "/sessionConnectionData/aSession/aOwner"


async def without_header(broker: RunningBroker, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls, trust_env=False) as client:
        return await client.request(method, path)


@pytest.mark.covers("B11")
async def test_the_api_definition_is_served_to_anybody_unless_switched_off(tmp_path: Path) -> None:
    """The definition needs no token; with `enable-api-yaml = false` there is none: 404."""
    async with running_broker(tmp_path) as broker:
        answer = await without_header(broker, "GET", "/dcv-session-manager-api.yaml")
        assert answer.status_code == 200
        assert yaml.safe_load(answer.text)["paths"]
    async with running_broker(tmp_path, enable_api_yaml="False") as broker:
        assert (await without_header(broker, "GET", "/dcv-session-manager-api.yaml")).status_code == 404


@pytest.mark.covers("B26")
async def test_the_probe_of_installers_is_answered_before_it_is_understood(tmp_path: Path) -> None:
    """A request without a header is told so in the known words, before its parameters are looked at.

    With `enable-authorization = false` it is served, and a header that is there is not looked at.
    """
    async with running_broker(tmp_path) as broker:
        for method, path in (("GET", PROBE), ("POST", "/describeSessions"), ("POST", "/createSessions")):
            answer = await without_header(broker, method, path)
            assert (answer.status_code, answer.json()) == (401, {"error": "No authorization header"})
            assert answer.headers["www-authenticate"] == "Bearer"
    async with running_broker(tmp_path, enable_authorization="false") as broker:
        answer = await without_header(broker, "GET", PROBE)
        assert answer.status_code == 400
        assert "authorization" not in answer.text
        assert (await without_header(broker, "POST", "/describeSessions")).status_code == 200
        headers = {"Authorization": "Bearer nonsense"}
        assert (await broker.client.post("/describeSessions", headers=headers)).status_code == 200


async def test_serving_everybody_is_said_loudly(tmp_path: Path) -> None:
    config = write_config(tmp_path, enable_authorization="false")
    async with broker_process(config) as broker:
        assert await broker.stop() == 0
    log = (tmp_path / "broker" / "log" / "broker.log").read_text()
    assert "ATTENTION: enable-authorization is false" in log
