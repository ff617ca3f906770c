"""The definition that the broker serves: the same client, other words.

What counts of the published definition, its names and types, is kept beside this file
in `definition_facts.json`, so that this is tested where the published file is not at hand.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.strict_schema import faults
from tests.wire_schema import (
    OWN_PATH,
    REFERENCE_PATH,
    facts,
    model_shape,
    own_definition,
    reference_definition,
    schema_shape,
    shape,
    wire_models,
    words,
)

FACTS = json.loads(Path(__file__).with_name("definition_facts.json").read_text(encoding="utf-8"))


@pytest.mark.covers("C38")
def test_its_names_and_types_are_those_of_the_published_definition() -> None:
    """Paths, methods, tags, operation ids, schemas, properties, types and formats are the published ones."""
    own = facts(own_definition())
    assert own == FACTS
    # Generated constructors take their arguments in this order.
    assert list(own["operations"]) == list(FACTS["operations"])
    assert list(own["schemas"]) == list(FACTS["schemas"])
    for name, schema in own["schemas"].items():
        assert list(schema) == list(FACTS["schemas"][name]), name


def test_the_facts_kept_here_are_those_of_the_published_file() -> None:
    assert facts(reference_definition()) == FACTS


@pytest.mark.covers("C38")
def test_a_client_generated_from_it_is_the_one_of_the_published_definition() -> None:
    """Without their words, the served definition and the published one are equal, part by part."""
    own, published = own_definition(), reference_definition()
    for part in ("paths", "components", "security"):
        # The published file writes one boolean default as a text; generators read both alike.
        assert shape(own[part]) == _with_boolean_defaults(shape(published[part]))


def _with_boolean_defaults(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            name: value == "true"
            if name == "default" and part.get("type") == "boolean"
            else _with_boolean_defaults(value)
            for name, value in part.items()
        }
    return [_with_boolean_defaults(item) for item in part] if isinstance(part, list) else part


def test_order_of_paths_schemas_and_properties_is_the_published_one() -> None:
    # Generated constructors take their arguments in this order.
    own, published = own_definition(), reference_definition()
    assert list(own["paths"]) == list(published["paths"])
    own_schemas, published_schemas = own["components"]["schemas"], published["components"]["schemas"]
    assert list(own_schemas) == list(published_schemas)
    for name, schema in own_schemas.items():
        assert list(schema["properties"]) == list(published_schemas[name]["properties"]), name


@pytest.mark.covers("C38")
def test_its_text_is_the_projects_own() -> None:
    """No sentence of the published definition is in the served one."""
    own, published = own_definition(), reference_definition()
    assert words(own) & words(published) == set()
    assert OWN_PATH.read_text(encoding="utf-8") != REFERENCE_PATH.read_text(encoding="utf-8")


def test_everything_in_it_is_described() -> None:
    own = own_definition()
    assert str(own["openapi"]).startswith("3.0.")
    assert own["security"] == [{"bearerAuth": []}]
    for methods in own["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
    for name, schema in own["components"]["schemas"].items():
        assert schema["description"], name
        for field, value in schema["properties"].items():
            assert "$ref" in value or value["description"], f"{name}.{field}"


def test_tags_and_operations_are_those_of_the_specification() -> None:
    found = {
        (path, method, *operation["tags"], operation["operationId"])
        for path, methods in own_definition()["paths"].items()
        for method, operation in methods.items()
    }
    assert found == {
        ("/describeSessions", "post", "sessions", "describeSessions"),
        ("/describeServers", "post", "servers", "describeServers"),
        ("/createSessions", "post", "sessions", "createSessions"),
        ("/deleteSessions", "post", "sessions", "deleteSessions"),
        ("/sessionPermissions", "put", "sessionPermissions", "updateSessionPermissions"),
        (
            "/sessionConnectionData/{sessionId}/{user}",
            "get",
            "GetSessionConnectionData",
            "GetSessionConnectionData",
        ),
        ("/getSessionScreenshots", "post", "sessions", "getSessionScreenshots"),
        ("/openServers", "post", "servers", "openServers"),
        ("/closeServers", "post", "servers", "closeServers"),
    }


def test_its_schemas_are_the_models() -> None:
    schemas = own_definition()["components"]["schemas"]
    models = wire_models()
    assert set(schemas) == set(models)
    for name, schema in schemas.items():
        assert schema_shape(schema) == model_shape(models[name]), name
        assert "required" not in schema
        assert "additionalProperties" not in schema


# ------------------------------------------------------------------ the strict validator of the tests


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ("DescribeServersResponse", {"RequestId": "x", "Servers": []}, ""),
        ("Server", {"Port": "8443", "Endpoints": [{"Port": 8443}]}, ""),
        ("Server", {"Port": 8443}, r"Server\.Port: string expected"),
        ("Server", {"port": "8443"}, r"Server\.port: not in the schema"),
        ("Server", {"Host": {"Aws": {"Ec2InstanceId": "i"}}}, r"Aws\.Ec2InstanceId: not in the schema"),
        ("Server", {"Tags": None}, r"Server\.Tags: array expected, not None"),
        ("Server", {"ConsoleSessionCount": 1.0}, "integer expected"),
        ("Server", {"ConsoleSessionCount": True}, "integer expected"),
        ("Server", {"ConsoleSessionCount": 2**31}, "is no int32"),
        ("Session", {"CreationTime": "2026-03-30T15:47:06.822Z"}, ""),
        ("Session", {"CreationTime": "2026-03-30T15:47:06Z"}, "is no UTC time"),
        ("CpuLoadAverage", {"OneMinute": 1}, ""),
        ("SessionScreenshotImage", {"Primary": "true"}, "boolean expected"),
    ],
)
def test_the_validator_takes_nothing_but_the_schema(schema: str, value: Any, expected: str) -> None:
    found = faults(own_definition(), schema, value)
    assert len(found) == bool(expected)
    assert re.search(expected, "".join(found))
