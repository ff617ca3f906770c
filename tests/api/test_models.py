"""The wire models: the published schemas, tolerant requests with exact refusals, tolerant answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dcvtui.api.models import (
    CloseServersResponse,
    CreateSessionRequestData,
    CreateSessionsResponse,
    DeleteSessionRequestData,
    DescribeServersRequestData,
    DescribeServersResponse,
    DescribeSessionsRequestData,
    DescribeSessionsResponse,
    GetSessionConnectionDataResponse,
    GetSessionScreenshotRequestData,
    OpenServersResponse,
    RequestError,
    Server,
    UpdateSessionPermissionsRequestData,
    WireModel,
    canonical_fields,
    read_request,
)
from tests.wire_schema import model_shape, reference_definition, schema_shape, wire_models


def refusal(model: type[WireModel], raw: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as caught:
        read_request(model, raw)
    return str(caught.value)


# ------------------------------------------------------------------ the published definition


def test_models_are_the_published_schemas() -> None:
    schemas = reference_definition()["components"]["schemas"]
    models = wire_models()
    assert set(models) == set(schemas)
    for name, schema in schemas.items():
        assert model_shape(models[name]) == schema_shape(schema), name
        assert list(models[name].wire_names().values()) == list(schema["properties"]), name


@pytest.mark.parametrize("name", sorted(wire_models()))
def test_every_model_reads_nothing_and_writes_no_null(name: str) -> None:
    model = wire_models()[name]
    written = model.read({}).to_wire()
    assert model.read(dict.fromkeys(model.wire_names().values())).to_wire() == written
    assert all(value == [] for value in written.values())


def test_lists_of_answers_are_always_there() -> None:
    always = {"SuccessfulList", "UnsuccessfulList", "Images", "Sessions", "Servers"}
    for name, model in wire_models().items():
        assert set(model.read({}).to_wire()) == always & set(model.wire_names().values()), name


# ------------------------------------------------------------------ requests: names


@pytest.mark.parametrize("name", ["SessionIds", "sessionIds", "session_ids", "SESSION-IDS", "session__ids_"])
def test_names_are_read_in_any_case_and_with_separators(name: str) -> None:
    assert read_request(DescribeSessionsRequestData, {name: ["a"]}).session_ids == ["a"]


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("DcvGLEnabled", "DcvGlEnabled"),
        ("PermissionFile", "PermissionsFile"),
        ("permission_file", "PermissionsFile"),
        ("MaxConcurrents", "MaxConcurrentClients"),
        ("max-concurrents", "MaxConcurrentClients"),
        ("InitFilePath", "InitFilePath"),
        ("init_file", "InitFile"),
    ],
)
def test_spellings_of_the_guide_are_read(spelling: str, canonical: str) -> None:
    assert canonical_fields(CreateSessionRequestData, {spelling: 1}) == {canonical: 1}


def test_aliases_are_read_where_the_field_is_and_nowhere_else() -> None:
    read = read_request(UpdateSessionPermissionsRequestData, {"PermissionFile": "eA=="})
    assert read.permissions_file == "eA=="
    assert refusal(DeleteSessionRequestData, {"PermissionFile": "x"}) == 'Unrecognized field "PermissionFile"'


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ({"owner": "first", "Owner": "canonical"}, "canonical"),
        ({"Owner": "canonical", "owner": "other"}, "canonical"),
        ({"owner": "first", "OWNER": "second"}, "first"),
        ({"owner": None, "OWNER": "second"}, "second"),
    ],
)
def test_of_two_spellings_the_canonical_counts_then_the_first(raw: dict[str, Any], value: str) -> None:
    assert canonical_fields(DeleteSessionRequestData, raw) == {"Owner": value}


def test_a_canonical_null_leaves_the_field_out() -> None:
    # Explicit null equals leaving the field out, so another spelling beside it counts.
    assert canonical_fields(DeleteSessionRequestData, {"owner": "x", "Owner": None}) == {"Owner": "x"}
    assert canonical_fields(DeleteSessionRequestData, {"Owner": None, "Force": None}) == {}


@pytest.mark.covers("C69", "C72")
def test_a_request_goes_back_under_canonical_names_with_values_of_their_types() -> None:
    """A refused item is echoed with just the fields sent, spelled canonically, each of its schema's type.

    Texts stay letter by letter; a number or a truth value that was sent as a text goes back as what it is.
    """
    raw: dict[str, Any] = {
        "name": "s",
        "owner": None,
        "max_concurrents": "4",
        "EnqueueRequest": "TRUE",
        "DcvGLEnabled": "false",
        "Type": "Console",
        "InitFilePath": "/x",
        "autorunFileArguments": [],
    }
    assert read_request(CreateSessionRequestData, raw).to_wire() == {
        "Name": "s",
        "MaxConcurrentClients": 4,
        "EnqueueRequest": True,
        "DcvGlEnabled": False,
        "Type": "Console",
        "InitFilePath": "/x",
        "AutorunFileArguments": [],
    }
    size = read_request(GetSessionScreenshotRequestData, {"MaxWidth": 2.0, "MaxHeight": "+3"}).to_wire()
    assert size == {"MaxWidth": 2, "MaxHeight": 3}
    assert {type(value) for value in size.values()} == {int}


# ------------------------------------------------------------------ requests: refusals


@pytest.mark.parametrize(
    ("model", "raw", "text"),
    [
        (DescribeSessionsRequestData, {"Foo": 1}, 'Unrecognized field "Foo"'),
        (DescribeSessionsRequestData, {"foo_bar": None}, 'Unrecognized field "foo_bar"'),
        (DescribeSessionsRequestData, {"ServerIds": []}, 'Unrecognized field "ServerIds"'),
        (CreateSessionRequestData, {"Name": "x", "MaxWidth": 5}, 'Unrecognized field "MaxWidth"'),
        (DescribeSessionsRequestData, {"Filters": [{"Key": "a", "Val": "b"}]}, 'Unrecognized field "Val"'),
        (DescribeSessionsRequestData, {"MaxResults": "abc"}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": 2.5}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": True}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": " 2"}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": "2\n"}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": "٢"}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"max_results": "1e3"}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": "9" * 5000}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": float("inf")}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"MaxResults": float("nan")}, 'Invalid value for field "MaxResults"'),
        (DescribeSessionsRequestData, {"SessionIds": "x"}, 'Invalid value for field "SessionIds"'),
        (DescribeSessionsRequestData, {"SessionIds": ["x", 5]}, 'Invalid value for field "SessionIds"'),
        (DescribeSessionsRequestData, {"SessionIds": ["x", None]}, 'Invalid value for field "SessionIds"'),
        (DescribeSessionsRequestData, {"SessionIds": {"x": 1}}, 'Invalid value for field "SessionIds"'),
        (DescribeSessionsRequestData, {"Filters": "owner"}, 'Invalid value for field "Filters"'),
        (DescribeSessionsRequestData, {"Filters": {"Key": "a"}}, 'Invalid value for field "Filters"'),
        (DescribeSessionsRequestData, {"Filters": ["owner"]}, 'Invalid value for field "Filters"'),
        (
            DescribeSessionsRequestData,
            {"Filters": [{"Key": 5, "Value": "x"}]},
            'Invalid value for field "Filters"',
        ),
        (DescribeSessionsRequestData, {"NextToken": 7}, 'Invalid value for field "NextToken"'),
        (DescribeServersRequestData, {"ServerIds": [[]]}, 'Invalid value for field "ServerIds"'),
        (DeleteSessionRequestData, {"Force": 3}, 'Invalid value for field "Force"'),
        (DeleteSessionRequestData, {"Force": 1}, 'Invalid value for field "Force"'),
        (DeleteSessionRequestData, {"Force": "yes"}, 'Invalid value for field "Force"'),
        (DeleteSessionRequestData, {"SessionId": 12}, 'Invalid value for field "SessionId"'),
        (DeleteSessionRequestData, {"Owner": ["x"]}, 'Invalid value for field "Owner"'),
        (
            CreateSessionRequestData,
            {"AutorunFileArguments": "x"},
            'Invalid value for field "AutorunFileArguments"',
        ),
        (CreateSessionRequestData, {"Type": False}, 'Invalid value for field "Type"'),
        (GetSessionScreenshotRequestData, {"MaxWidth": [1]}, 'Invalid value for field "MaxWidth"'),
        (GetSessionScreenshotRequestData, {"MaxWidth": 2**63}, 'Invalid value for field "MaxWidth"'),
        (
            CreateSessionRequestData,
            {"MaxConcurrentClients": str(-(2**63) - 1)},
            'Invalid value for field "MaxConcurrentClients"',
        ),
    ],
)
def test_refusals_have_the_texts_of_the_api(model: type[WireModel], raw: dict[str, Any], text: str) -> None:
    assert refusal(model, raw) == text


@pytest.mark.parametrize(
    ("value", "number"), [("2", 2), (2, 2), (2.0, 2), ("+2", 2), ("-1", -1), ("007", 7), (0, 0)]
)
def test_integers_are_read_from_numbers_and_texts(value: Any, number: int) -> None:
    read = read_request(DescribeSessionsRequestData, {"MaxResults": value})
    assert read.max_results == number
    assert type(read.max_results) is int


@pytest.mark.parametrize(
    ("value", "truth"), [(True, True), ("true", True), ("FALSE", False), ("False", False)]
)
def test_booleans_are_read_from_texts_too(value: Any, truth: bool) -> None:
    assert read_request(DeleteSessionRequestData, {"Force": value}).force is truth


def test_nulls_equal_leaving_out() -> None:
    for model in wire_models().values():
        if model.__name__.endswith("RequestData"):
            nulls = dict.fromkeys(model.wire_names().values())
            assert read_request(model, nulls) == read_request(model, {})
    # Inside a filter, too.
    read = read_request(DescribeSessionsRequestData, {"Filters": [{"Key": "owner", "Value": None}]})
    assert read.filters
    assert (read.filters[0].key, read.filters[0].value) == ("owner", None)


def test_filters_are_read_in_any_spelling() -> None:
    read = read_request(DescribeSessionsRequestData, {"filters": [{"key": "owner", "VALUE": "ann"}]})
    assert read.to_wire() == {"Filters": [{"Key": "owner", "Value": "ann"}]}


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["SessionIds", "Filters", "MaxResults", "NextToken", "Force", "Owner", "AutorunFileArguments"]
)


@given(
    st.sampled_from(sorted(wire_models())), st.dictionaries(FIELDS | st.text(max_size=5), JSON, max_size=4)
)
def test_any_json_object_is_read_or_refused(name: str, raw: dict[str, Any]) -> None:
    model = wire_models()[name]
    try:
        canonical_fields(model, raw)
        if name.endswith("RequestData") and not name.startswith("Unsuccessful"):
            read_request(model, raw)
    except RequestError as error:
        assert str(error).startswith(("Unrecognized field ", "Invalid value for field "))


# ------------------------------------------------------------------ answers: the variants of section 12


def test_d1_the_misprinted_list_is_read() -> None:
    read = CreateSessionsResponse.read({"UnsuccessfullList": [{"FailureReason": "no"}]})
    assert read.unsuccessful_list[0].failure_reason == "no"
    assert list(read.to_wire()) == ["SuccessfulList", "UnsuccessfulList"]


def test_d2_a_refused_close_under_the_name_of_open_is_read() -> None:
    failed = {"OpenServerRequestData": {"ServerId": "s"}, "FailureCode": "DCV_SERVER_NOT_FOUND"}
    closing = CloseServersResponse.read({"UnsuccessfulList": [failed]}).unsuccessful_list[0]
    assert closing.close_server_request_data
    assert closing.close_server_request_data.server_id == "s"
    opening = OpenServersResponse.read({"UnsuccessfulList": [failed]}).unsuccessful_list[0]
    assert opening.open_server_request_data
    assert opening.open_server_request_data.server_id == "s"


def test_d5_ports_are_read_as_text_and_as_number() -> None:
    for port in ("8443", 8443):
        server = Server.read({"Port": port, "Endpoints": [{"Port": port}]})
        assert server.to_wire() == {"Port": "8443", "Endpoints": [{"Port": 8443}]}


def test_d6_both_spellings_of_ec2_are_read_and_the_wire_has_capitals() -> None:
    for prefix in ("EC2", "Ec2"):
        raw = {
            "Host": {
                "Aws": {f"{prefix}InstanceId": "i", f"{prefix}InstanceType": "t", f"{prefix}ImageId": "a"}
            }
        }
        assert Server.read(raw).to_wire() == {
            "Host": {"Aws": {"EC2InstanceType": "t", "EC2InstanceId": "i", "EC2ImageId": "a"}}
        }


def test_d7_the_printed_python_object_is_read() -> None:
    raw = {
        "session": {
            "id": "x",
            "num_of_connections": 1,
            "server": {
                "endpoints": [{"port": 8443, "web_url_path": "/", "protocol": "HTTP"}],
                "tags": [{"key": "a", "value": "b"}],
            },
        },
        "connection_token": "t",
    }
    assert GetSessionConnectionDataResponse.read(raw).to_wire() == {
        "Session": {
            "Id": "x",
            "Server": {
                "Endpoints": [{"Port": 8443, "WebUrlPath": "/", "Protocol": "HTTP"}],
                "Tags": [{"Key": "a", "Value": "b"}],
            },
            "NumOfConnections": 1,
        },
        "ConnectionToken": "t",
    }


def test_answers_with_more_or_less_are_read() -> None:
    read = DescribeSessionsResponse.read(
        {
            "Sessions": [{"State": "RESTING", "Colour": "red", "Server": None}, {}],
            "Extra": {"a": 1},
            "NextToken": None,
        }
    )
    assert [session.state for session in read.sessions] == ["RESTING", None]
    assert read.next_token is None
    assert DescribeServersResponse.read({"Servers": None}).servers == []


def test_an_answer_of_a_wrong_type_is_not_understood() -> None:
    with pytest.raises(ValidationError):
        DescribeServersResponse.read({"Servers": "none"})


def test_secrets_and_pictures_do_not_show_in_logs() -> None:
    read = GetSessionConnectionDataResponse.read({"ConnectionToken": "s3cret"})
    assert "s3cret" not in repr(read)
