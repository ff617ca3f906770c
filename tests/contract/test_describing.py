"""DescribeSessions and DescribeServers: parameters, pages and filters, on a broker without hosts."""

import re
from typing import Any

import pytest

from dcvtui.api import models
from tests.broker.api_calls import (
    OBJECT_OPERATIONS,
    call,
    new_owner,
    owner_filter,
    queue,
    refused,
)
from tests.running import RunningBroker

# In the loop of the one broker of this module.
pytestmark = pytest.mark.asyncio(loop_scope="module")


# ------------------------------------------------------------------ describing


@pytest.mark.covers("C39")
async def test_no_parameters_in_every_form(broker: RunningBroker) -> None:
    """An empty body, `null`, an empty object and empty values all ask for every session."""
    await queue(broker, new_owner())
    bodies = [b"", b"null", b"{}", b'{"SessionIds":[],"Filters":[],"NextToken":""}']
    answers = [(await broker.client.post("/describeSessions", content=body)).json() for body in bodies]
    assert answers[0]["Sessions"]
    assert all(answer["Sessions"] == answers[0]["Sessions"] for answer in answers)


REQUEST_FIELDS: dict[str, type[models.WireModel]] = {
    "createSessions": models.CreateSessionRequestData,
    "deleteSessions": models.DeleteSessionRequestData,
    "sessionPermissions": models.UpdateSessionPermissionsRequestData,
    "getSessionScreenshots": models.GetSessionScreenshotRequestData,
    "openServers": models.OpenServerRequestData,
    "closeServers": models.CloseServerRequestData,
}


@pytest.mark.covers("C40")
async def test_null_equals_leaving_out(broker: RunningBroker) -> None:
    """Null for a field, whichever it is, changes nothing: not what is asked for, not what is created."""
    owner = new_owner()
    await queue(broker, owner, 2)
    for nulls in (
        dict.fromkeys(models.DescribeSessionsRequestData.wire_names().values()),
        {**owner_filter(owner), "SessionIds": None, "MaxResults": None, "NextToken": None},
    ):
        fields = {name: value for name, value in nulls.items() if value is not None}
        with_nulls = await call(broker, "describeSessions", nulls)
        without = await call(broker, "describeSessions", fields)
        assert with_nulls["Sessions"] == without["Sessions"] != []
    await call(
        broker,
        "describeServers",
        dict.fromkeys(models.DescribeServersRequestData.wire_names().values()),
    )
    for operation, model in REQUEST_FIELDS.items():
        nulls = dict.fromkeys(model.wire_names().values())
        (with_null,) = (await call(broker, operation, [nulls]))["UnsuccessfulList"]
        (empty,) = (await call(broker, operation, [{}]))["UnsuccessfulList"]
        assert with_null == empty
    item = dict.fromkeys(models.CreateSessionRequestData.wire_names().values())
    item |= {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True}
    created = (await call(broker, "createSessions", [item]))["SuccessfulList"]
    assert len(created) == 1
    deletion = {"SessionId": created[0]["Id"], "Owner": owner, "Force": None}
    assert (await call(broker, "deleteSessions", [deletion]))["UnsuccessfulList"] == []


@pytest.mark.covers("C41")
async def test_field_names_are_read_in_other_spellings(broker: RunningBroker) -> None:
    """Letter case, `_` and `-` in a field's name make no difference."""
    await queue(broker, new_owner())
    (session_id,) = await queue(broker, new_owner())
    for field in ("SessionIds", "session_ids", "sessionIds", "session-ids"):
        (session,) = (await call(broker, "describeSessions", {field: [session_id]}))["Sessions"]
        assert session["Id"] == session_id


@pytest.mark.covers("C42")
async def test_the_range_of_max_results(broker: RunningBroker) -> None:
    """A page holds 1 to 1000 results; other numbers are refused with a text that says so."""
    for operation in OBJECT_OPERATIONS:
        for value in (0, -1, 1001, 10**30):
            text = await refused(broker, operation, {"MaxResults": value})
            assert text == "MaxResults must be between 1 and 1000"
        for value in (1, 1000):
            await call(broker, operation, {"MaxResults": value})


@pytest.mark.covers("C43")
async def test_a_page_holds_a_thousand(broker: RunningBroker) -> None:
    """Unless asked otherwise a page holds 1000 sessions, and a token leads to the rest of them."""
    owner = new_owner()
    made = await queue(broker, owner, 500) + await queue(broker, owner, 500) + await queue(broker, owner, 200)
    first = await call(broker, "describeSessions", owner_filter(owner))
    assert len(first["Sessions"]) == 1000
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,1024}", first["NextToken"])
    second = await call(broker, "describeSessions", {**owner_filter(owner), "NextToken": first["NextToken"]})
    assert len(second["Sessions"]) == 200
    assert "NextToken" not in second
    found = [session["Id"] for session in first["Sessions"] + second["Sessions"]]
    assert sorted(found) == sorted(made)
    await call(
        broker, "deleteSessions", [{"SessionId": id, "Owner": owner, "Force": True} for id in made[:1000]]
    )


async def test_a_full_last_page_is_the_last(broker: RunningBroker) -> None:
    """A page that ends with the last session has no token, also if it is full."""
    owner = new_owner()
    await queue(broker, owner, 4)
    first = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 2})
    body = {**owner_filter(owner), "MaxResults": 2, "NextToken": first["NextToken"]}
    second = await call(broker, "describeSessions", body)
    assert len(second["Sessions"]) == 2
    assert "NextToken" not in second


@pytest.mark.covers("C46")
async def test_pages_survive_changes_between_them(broker: RunningBroker) -> None:
    """What comes and goes between two pages makes nothing else appear twice or not at all."""
    owner = new_owner()
    made = await queue(broker, owner, 6)
    order = [each["Id"] for each in (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"]]
    body: dict[str, Any] = {**owner_filter(owner), "MaxResults": 2}
    page = await call(broker, "describeSessions", body)
    seen = [session["Id"] for session in page["Sessions"]]
    gone = [order[1], order[2]]
    await call(broker, "deleteSessions", [{"SessionId": id, "Owner": owner, "Force": True} for id in gone])
    await queue(broker, owner, 1)
    while "NextToken" in page:
        page = await call(broker, "describeSessions", {**body, "NextToken": page["NextToken"]})
        seen += [session["Id"] for session in page["Sessions"]]
    assert len(seen) == len(set(seen))
    assert set(made) - set(gone) <= set(seen)


@pytest.mark.covers("C47")
async def test_a_token_goes_on_with_other_criteria(broker: RunningBroker) -> None:
    """A token says where to go on; the page size may change, and ids beside it choose among the rest."""
    owner = new_owner()
    await queue(broker, owner, 5)
    order = [each["Id"] for each in (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"]]
    page = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 1})
    rest = await call(
        broker, "describeSessions", {**owner_filter(owner), "MaxResults": 3, "NextToken": page["NextToken"]}
    )
    assert [session["Id"] for session in rest["Sessions"]] == order[1:4]
    some = await call(
        broker, "describeSessions", {"SessionIds": [order[0], order[4]], "NextToken": page["NextToken"]}
    )
    assert [session["Id"] for session in some["Sessions"]] == [order[4]]


@pytest.mark.covers("C48")
async def test_page_tokens_that_were_not_issued(broker: RunningBroker) -> None:
    """A token that is garbled, cut off, or of the other operation is refused."""
    owner = new_owner()
    await queue(broker, owner, 2)
    token = (await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 1}))["NextToken"]
    for bad in ("nonsense", token[:-3], token[1:], "é", "A" * 2000):
        assert await refused(broker, "describeSessions", {"NextToken": bad}) == "Invalid NextToken"
    assert await refused(broker, "describeServers", {"NextToken": token}) == "Invalid NextToken"


@pytest.mark.covers("C50")
async def test_unknown_and_repeated_ids(broker: RunningBroker) -> None:
    """Ids that nobody knows are left out in silence; one that is named twice is described once."""
    (session_id,) = await queue(broker, new_owner())
    assert (await call(broker, "describeServers", {"ServerIds": ["nothing"]}))["Servers"] == []
    found = await call(broker, "describeSessions", {"SessionIds": [session_id, "nothing", session_id]})
    assert [session["Id"] for session in found["Sessions"]] == [session_id]


@pytest.mark.covers("C51", "C53", "C54")
async def test_filters_for_an_owner(broker: RunningBroker) -> None:
    """The owner is compared letter by letter; a session without a server fits no tag; filters are ANDed."""
    owner = new_owner().upper()
    (session_id,) = await queue(broker, owner)

    async def found(*filters: tuple[str, str]) -> list[str]:
        body = {"Filters": [{"Key": key, "Value": value} for key, value in filters]}
        return [session["Id"] for session in (await call(broker, "describeSessions", body))["Sessions"]]

    assert await found(("owner", owner)) == await found(("Owner", owner)) == [session_id]
    assert await found(("owner", owner.lower())) == []
    assert await found(("owner", owner), ("tag:color", "pink")) == []
    assert await found(("owner", owner), ("owner", "other")) == []
    assert await found(("owner", owner), ("owner", owner)) == [session_id]


@pytest.mark.covers("C55")
async def test_other_filters_are_refused(broker: RunningBroker) -> None:
    """A filter that does not exist is named and refused, and so is one without a key or a value."""
    for key in ("name", "Tag:x", ""):
        text = await refused(broker, "describeSessions", {"Filters": [{"Key": key, "Value": "x"}]})
        assert text == f'Unsupported filter "{key}"'
    for incomplete in ({"Key": "owner"}, {"Value": "x"}, {}, {"Key": "owner", "Value": None}):
        text = await refused(broker, "describeSessions", {"Filters": [incomplete]})
        assert text == 'Invalid value for field "Filters"'
