"""API definitions as data: where they are and their bare shape. `strict_schema` reads answers by them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dcvtui.api import models
from dcvtui.api.models import WireModel

REPOSITORY = Path(__file__).resolve().parents[1]
OWN_PATH = REPOSITORY / "broker_stub" / "broker" / "dcv-session-manager-api.yaml"
REFERENCE_PATH = REPOSITORY.parent / "shared" / "spec" / "reference" / "dcv-session-manager-api.yaml"
DEFINITION_PATH = REFERENCE_PATH if REFERENCE_PATH.exists() else OWN_PATH
"""The published definition where it is at hand; else our own, which says the same in other words."""

_WORDS = {"description", "summary", "example", "externalDocs", "xml"}


def own_definition() -> dict[str, Any]:
    """The definition that our broker serves."""
    return load(OWN_PATH)


def reference_definition() -> dict[str, Any]:
    """The published definition; skips the test where it is not at hand."""
    if not REFERENCE_PATH.exists():
        pytest.skip(f"The published API definition is not at {REFERENCE_PATH}.")
    return load(REFERENCE_PATH)


def nearest_definition() -> dict[str, Any]:
    """The published definition, or where it is not at hand ours, which is tested to be equal to it."""
    return load(DEFINITION_PATH)


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def shape(part: Any, *, in_properties: bool = False) -> Any:
    """A part of a definition without words; what is left decides how a generated client looks."""
    if isinstance(part, list):
        return [shape(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return {"$ref": part["$ref"]}
    return {
        name: shape(value, in_properties=name in ("properties", "schemas"))
        for name, value in part.items()
        if in_properties or name not in _WORDS
    }


def facts(definition: dict[str, Any]) -> dict[str, Any]:
    """What decides how clients of a definition look, in few words: names, places, types, what is required."""
    return {
        "security": definition["security"],
        "securitySchemes": shape(definition["components"]["securitySchemes"]),
        "operations": {
            f"{method.upper()} {path}": _operation_facts(operation)
            for path, methods in definition["paths"].items()
            for method, operation in methods.items()
        },
        "schemas": {
            name: {field: _type(value) for field, value in schema["properties"].items()}
            | _beyond_properties(schema)
            for name, schema in definition["components"]["schemas"].items()
        },
    }


def _operation_facts(operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": operation["operationId"], "tags": operation["tags"]}
    if "parameters" in operation:
        found["parameters"] = [
            f"{one['name']} in {one['in']}: {_type(one['schema'])}{', required' * bool(one.get('required'))}"
            for one in operation["parameters"]
        ]
    if body := operation.get("requestBody"):
        found["body"] = _content(body) + ", required" * bool(body.get("required"))
    found["answers"] = {status: _content(answer) for status, answer in operation["responses"].items()}
    return found


def _content(part: dict[str, Any]) -> str:
    return ", ".join(f"{kind}: {_type(one['schema'])}" for kind, one in part.get("content", {}).items())


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if value["type"] == "array":
        return f"[{_type(value['items'])}]"
    more = [value.get("format"), "nullable" if value.get("nullable") else None, *value.get("enum", ())]
    return " ".join([value["type"], *filter(None, more)])


def _beyond_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema says besides its properties and its words; hardly anything is expected here."""
    return {f"({name})": value for name, value in shape(schema).items() if name not in ("type", "properties")}


def words(part: Any) -> set[str]:
    """All sentences a definition says to people, folded."""
    if isinstance(part, list):
        return set().union(*map(words, part))
    if not isinstance(part, dict):
        return set()
    found: set[str] = set()
    for name, value in part.items():
        if name in ("description", "summary", "title") and isinstance(value, str):
            found |= {sentence.strip(" .").casefold() for sentence in value.split(". ")}
        else:
            found |= words(value)
    return found


def model_shape(model: type[WireModel]) -> dict[str, str]:
    """The wire fields of a model with their kinds, written as by `schema_shape`."""
    return schema_shape(model.model_json_schema(by_alias=True))


def schema_shape(schema: dict[str, Any]) -> dict[str, str]:
    """The properties of a schema with their kinds: `string`, `[integer]`, `Server`, `[Server]`."""
    return {name: _kind(value) for name, value in schema.get("properties", {}).items()}


def _kind(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        (value,) = [choice for choice in value["anyOf"] if choice.get("type") != "null"]
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    return f"[{_kind(value['items'])}]" if value["type"] == "array" else str(value["type"])


def wire_models() -> dict[str, type[WireModel]]:
    """The models by schema name."""
    return {
        name: model
        for name, model in vars(models).items()
        if isinstance(model, type) and issubclass(model, WireModel) and model is not WireModel
    }
