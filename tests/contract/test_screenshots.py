"""GetSessionScreenshots: sizes, formats, and items that fail alone."""

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from broker_stub.broker.operations import Operations, ScreenshotRules
from broker_stub.broker.page_tokens import PageTokens
from dcvtui.api.models import GetSessionScreenshotRequestData, read_request
from tests.broker.api_calls import refused
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts
from tests.running import running_broker

RESOLUTION = (1920, 1080)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux)."""
    async with running_broker(tmp_path) as broker, running_hosts(broker, A, B) as hosts:
        yield Fleet(broker, *hosts)


def picture(shot: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    """The kind and size of the primary picture, read from its bytes."""
    (primary,) = [image for image in shot["SessionScreenshot"]["Images"] if image["Primary"]]
    image = Image.open(io.BytesIO(base64.b64decode(primary["Data"], validate=True)))
    image.load()
    assert primary["Format"] == str(image.format).lower()
    return primary["Format"], image.size


async def size(fleet: Fleet, session: dict[str, Any], **fields: Any) -> tuple[int, int]:
    """How large the picture of a session is."""
    answer = await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"], **fields}])
    (shot,) = answer["SuccessfulList"]
    return picture(shot)[1]


async def wide(fleet: Fleet) -> dict[str, Any]:
    """A session of the size that the documentation's examples have; simulated desktops differ."""
    for _ in range(40):
        session = await fleet.ready()
        if await size(fleet, session, MaxWidth=9999, MaxHeight=9999) == RESOLUTION:
            return session
        await fleet.delete(session, Force=True)
    raise AssertionError("no desktop of that size in 40 attempts")


@pytest.mark.covers("C135")
async def test_a_picture_fits_the_configured_size(fleet: Fleet) -> None:
    """Without sizes a picture is a PNG that fits in 160 × 100 with its proportions, one of them primary."""
    session = await wide(fleet)
    (shot,) = (await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"]}]))["SuccessfulList"]
    assert shot["SessionScreenshot"]["SessionId"] == session["Id"]
    assert picture(shot) == ("png", (160, 90))
    assert sum(image["Primary"] for image in shot["SessionScreenshot"]["Images"]) == 1


@pytest.mark.covers("C136", "C137")
async def test_a_picture_fits_the_asked_size(fleet: Fleet) -> None:
    """Width and height bound the picture, each with its own default; it is never larger than the session."""
    session = await wide(fleet)
    full = await size(fleet, session, MaxWidth=100_000, MaxHeight=100_000)
    assert full == RESOLUTION
    assert await size(fleet, session, MaxWidth=800, MaxHeight=600) == (800, 450)
    assert await size(fleet, session, MaxWidth=400) == (178, 100), "bounded by the configured height too"
    assert await size(fleet, session, MaxHeight=1080) == (160, 90), "bounded by the configured width too"
    assert await size(fleet, session, MaxWidth=1, MaxHeight=1) == (1, 1)
    assert await size(fleet, session, MaxWidth=2**40, MaxHeight="2000") == RESOLUTION


@pytest.mark.covers("C135")
async def test_the_default_size_is_a_setting(tmp_path: Path) -> None:
    """An administrator chooses how large a picture is that nobody asked a size for."""
    async with (
        running_broker(
            tmp_path, session_screenshot_max_width=640, session_screenshot_max_height=300
        ) as broker,
        running_hosts(broker, B) as hosts,
    ):
        fleet = Fleet(broker, *hosts)
        assert await size(fleet, await wide(fleet)) == (533, 300)


@pytest.mark.covers("C138")
async def test_a_size_is_at_least_one_pixel(fleet: Fleet) -> None:
    """A width or height below 1 refuses the request and is named; null stands for the default."""
    session = await wide(fleet)
    for field in ("MaxWidth", "MaxHeight"):
        for value in (0, -5, "0", "-1"):
            item = {"SessionId": session["Id"], field: value}
            text = await refused(fleet.broker, "getSessionScreenshots", [item])
            assert text == f"{field} must be greater than 0"
    assert await size(fleet, session, MaxWidth=None, MaxHeight=None) == (160, 90)


@pytest.mark.covers("C139")
async def test_pictures_as_jpeg(tmp_path: Path) -> None:
    """With JPEG configured pictures are JPEGs and say so."""
    for name in ("jpeg", "jpg"):
        async with (
            running_broker(tmp_path / name, session_screenshot_format=name) as broker,
            running_hosts(broker, B) as hosts,
        ):
            fleet = Fleet(broker, *hosts)
            session = await wide(fleet)
            shots = await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"]}])
            assert picture(shots["SuccessfulList"][0]) == ("jpeg", (160, 90))


@pytest.mark.covers("C140")
async def test_pictures_fail_one_by_one(fleet: Fleet) -> None:
    """Six sessions fit in one call; an unknown one and one that is not ready fail alone, with an echo."""
    sessions = [await fleet.ready() for _ in range(6)]
    waiting = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
    items: list[dict[str, Any]] = [{"SessionId": session["Id"]} for session in sessions]
    bad: list[dict[str, Any]] = [
        {"SessionId": "nothing", "MaxWidth": 5},
        {"SessionId": waiting["Id"]},
        {},
        {"SessionId": " ", "MaxHeight": 7},
    ]
    answer = await fleet.call("getSessionScreenshots", [bad[0], *items, *bad[1:]])
    taken = [shot["SessionScreenshot"]["SessionId"] for shot in answer["SuccessfulList"]]
    assert taken == [session["Id"] for session in sessions]
    reasons = [
        "Dcv session not found.",
        "Dcv session is not in READY state.",
        "SessionId is required",
        "SessionId is required",
    ]
    assert answer["UnsuccessfulList"] == [
        {"GetSessionScreenshotRequestData": item, "FailureReason": reason}
        for item, reason in zip(bad, reasons, strict=True)
    ]


async def test_out_of_sight_there_is_no_picture(fleet: Fleet) -> None:
    """A session whose agent is lost is not READY, so there is no picture of it."""
    session = await fleet.ready()
    fleet.hosts[1].agent.leave()
    await fleet.until_state(session["Id"], "UNKNOWN")
    shot = await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"]}])
    assert shot["UnsuccessfulList"][0]["FailureReason"] == "Dcv session is not in READY state."


async def test_a_slow_host_fails_only_its_own_pictures(fleet: Fleet) -> None:
    """Pictures are taken side by side: a host that does not answer in time holds up no other."""
    broker = fleet.broker.broker
    rules = ScreenshotRules(limit_s=0.5)
    operations = Operations(broker.coordinator, broker.tokens, PageTokens(b"s" * 32), broker.agents, rules)
    on_a = await fleet.ready(Type="CONSOLE", Requirements="tag:color = 'pink'")
    on_b = await fleet.ready(Requirements="tag:size = 'big'")
    fleet.hosts[0].server.faults.hanging_screenshot = True
    fields = [{"SessionId": on_a["Id"]}] * 4 + [{"SessionId": on_b["Id"]}]
    items = [read_request(GetSessionScreenshotRequestData, each) for each in fields]
    answer = json.loads(await operations.session_screenshots(items))
    assert [shot["SessionScreenshot"]["SessionId"] for shot in answer["SuccessfulList"]] == [on_b["Id"]]
    reasons = [failed["FailureReason"] for failed in answer["UnsuccessfulList"]]
    assert reasons == ["Timed out while getting the screenshot."] * 4
