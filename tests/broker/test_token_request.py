"""The token endpoint as HTTP: where grant and credentials may stand, and what is refused how."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from broker_stub.broker.token_request import token_endpoint

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GOOD = ("client-1", "s3cret+/=%41:x")
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    endpoint = token_endpoint(lambda *given: given == GOOD, lambda client_id: (f"token-of-{client_id}", 3600))
    app = Starlette(routes=[Route("/oauth2/token", endpoint, methods=["POST"])])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://broker") as client:
        yield client


@pytest.mark.covers("C20", "C23", "B25")
async def test_basic_and_the_grant_in_the_query(http: httpx.AsyncClient) -> None:
    """Credentials in the header and the grant in the address give a token that nobody may store."""
    answer = await http.post("/oauth2/token", params=GRANT, auth=GOOD, headers=FORM)
    assert answer.status_code == 200
    assert answer.json() == {"access_token": "token-of-client-1", "token_type": "Bearer", "expires_in": 3600}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"


@pytest.mark.covers("C21", "B25")
async def test_the_grant_in_the_body(http: httpx.AsyncClient) -> None:
    """Credentials in the header and the grant in the form give a token; a scope is ignored."""
    answer = await http.post("/oauth2/token", data={**GRANT, "scope": "anything"}, auth=GOOD)
    assert answer.status_code == 200


@pytest.mark.covers("C22")
async def test_credentials_in_the_body(http: httpx.AsyncClient) -> None:
    """Grant and credentials all in the form give a token too."""
    form = {**GRANT, "client_id": GOOD[0], "client_secret": GOOD[1]}
    assert (await http.post("/oauth2/token", data=form)).status_code == 200


async def test_a_percent_encoded_basic_header_is_tried_second(http: httpx.AsyncClient) -> None:
    value = base64.b64encode(b"client%2D1:s3cret%2B%2F%3D%2541%3Ax").decode()
    answer = await http.post("/oauth2/token", params=GRANT, headers={"Authorization": f"basic {value}"})
    assert answer.status_code == 200


@pytest.mark.covers("C24", "B25")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"client-1:wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"nobody:x").decode()},
        {"Authorization": "Bearer token"},
    ],
)
async def test_wrong_or_missing_credentials(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Missing, unreadable and wrong credentials and an unknown client all get the same 401."""
    answer = await http.post("/oauth2/token", params=GRANT, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.headers["www-authenticate"] == 'Basic realm="dcv-session-manager"'
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.covers("C25")
async def test_grant_types(http: httpx.AsyncClient) -> None:
    """A missing grant is an invalid request, and any but client credentials is not supported."""
    missing = await http.post("/oauth2/token", auth=GOOD)
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")
    other = await http.post("/oauth2/token", data={"grant_type": "password"}, auth=GOOD)
    assert (other.status_code, other.json()["error"]) == (400, "unsupported_grant_type")
    both = await http.post("/oauth2/token", params=GRANT, data={"grant_type": "password"}, auth=GOOD)
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    same = await http.post("/oauth2/token", params=GRANT, data=GRANT, auth=GOOD)
    assert same.status_code == 200


@pytest.mark.covers("C26")
@pytest.mark.parametrize("name", ["client_secret", "client_id"])
async def test_credentials_in_the_query(http: httpx.AsyncClient, name: str) -> None:
    """Credentials in the address, where logs keep them, are refused."""
    answer = await http.post("/oauth2/token", params={**GRANT, name: GOOD[1]}, auth=GOOD)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_credentials_twice(http: httpx.AsyncClient) -> None:
    for form in ({"client_secret": GOOD[1]}, {"client_id": "other"}):
        answer = await http.post("/oauth2/token", data={**GRANT, **form}, auth=GOOD)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    doubled = b"grant_type=client_credentials&client_id=a&client_id=b&client_secret=c"
    answer = await http.post("/oauth2/token", content=doubled, headers=FORM)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    named = await http.post("/oauth2/token", data={**GRANT, "client_id": GOOD[0]}, auth=GOOD)
    assert named.status_code == 200


async def test_misplaced_credentials_then_wrong_ones_then_the_grant(http: httpx.AsyncClient) -> None:
    wrong = ("client-1", "wrong")
    first = await http.post(
        "/oauth2/token", params={"client_secret": "x", "grant_type": "password"}, auth=wrong
    )
    second = await http.post("/oauth2/token", params={"grant_type": "password"}, auth=wrong)
    third = await http.post("/oauth2/token", params={"grant_type": "password"}, auth=GOOD)
    assert [each.json()["error"] for each in (first, second, third)] == [
        "invalid_request",
        "invalid_client",
        "unsupported_grant_type",
    ]


async def test_nonsense_bodies_are_refused_and_never_a_fault(http: httpx.AsyncClient) -> None:
    for body in (b"\xff\xfe", b"&".join(b"a=b" for _ in range(1000)), b"x" * 100_000, b"grant_type=%FF"):
        answer = await http.post("/oauth2/token", content=body, headers=FORM, auth=GOOD)
        assert answer.status_code == 400
        assert answer.json()["error"] in ("invalid_request", "unsupported_grant_type")
