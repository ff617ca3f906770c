"""The token endpoints judged by a client that somebody else wrote: authlib's, in its usual forms."""

import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from authlib.integrations.base_client.errors import OAuthError  # type: ignore[import-untyped]  # no stubs

from tests.broker.raw_agent import raw_agent, register
from tests.running import RunningBroker, running_broker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it recommends a newer HTTP library at its import
    from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]  # no stubs

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("third_party")) as running:
        yield running


def client(broker: RunningBroker, method: str, secret: str | None = None, **options: Any) -> Any:
    return AsyncOAuth2Client(
        client_id=broker.client_id,
        client_secret=broker.client_secret if secret is None else secret,
        token_endpoint_auth_method=method,
        grant_type="client_credentials",
        token_endpoint=f"{broker.url}/oauth2/token",
        base_url=broker.url,
        verify=broker.tls,
        trust_env=False,
        **options,
    )


@METHODS
async def test_a_token_is_fetched_and_opens_the_api(broker: RunningBroker, method: str) -> None:
    async with client(broker, method) as http:
        token = await http.fetch_token()
        assert (token["token_type"], token["expires_in"] > 0) == ("Bearer", True)
        item = {"Name": "n", "Owner": method, "Type": "VIRTUAL", "EnqueueRequest": True}
        created = await http.post("/createSessions", json=[item])
        assert created.raise_for_status().json()["SuccessfulList"][0]["Owner"] == method
        listed = await http.post("/describeSessions", json={"Filters": [{"Key": "owner", "Value": method}]})
        assert [one["Name"] for one in listed.json()["Sessions"]] == ["n"]


@METHODS
async def test_the_grant_may_stand_in_the_address(broker: RunningBroker, method: str) -> None:
    async with client(broker, method) as http:
        await http.fetch_token(f"{broker.url}/oauth2/token?grant_type=client_credentials")
        assert (await http.post("/describeServers", json={})).status_code == 200


@METHODS
async def test_a_token_at_its_end_is_fetched_anew_by_the_client(broker: RunningBroker, method: str) -> None:
    async with client(broker, method) as http:
        first = dict(await http.fetch_token())
        http.token = first | {"expires_at": 1, "access_token": "an.old.one"}
        assert (await http.post("/describeServers", json={})).status_code == 200
        assert http.token["access_token"] != "an.old.one"


@METHODS
@pytest.mark.parametrize("secret", ["wrong", "", "wröng%+ :"])
async def test_a_wrong_secret_has_the_standards_name(broker: RunningBroker, method: str, secret: str) -> None:
    async with client(broker, method, secret) as http:
        with pytest.raises(OAuthError, match="invalid_client"):
            await http.fetch_token()


async def test_another_grant_has_the_standards_name(broker: RunningBroker) -> None:
    async with client(broker, "client_secret_basic") as http:
        with pytest.raises(OAuthError, match="unsupported_grant_type"):
            await http.fetch_token(grant_type="password", username="ana", password="x")


@METHODS
async def test_agents_could_be_written_with_it_too(broker: RunningBroker, method: str) -> None:
    credentials = (await register(broker)).json()
    async with AsyncOAuth2Client(
        credentials["client_id"],
        credentials["client_secret"],
        token_endpoint_auth_method=method,
        verify=broker.tls,
        trust_env=False,
    ) as http:
        token = await http.fetch_token(
            f"{broker.agent_url}/agent/oauth2/token", grant_type="client_credentials"
        )
    async with raw_agent(broker, token["access_token"]) as agent:
        assert (await agent.greet())["result"]["success"]
