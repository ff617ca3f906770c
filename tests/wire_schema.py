"""API definitions as data: where they are, their bare shape, and a validator as strict as any client.

Clients generated for Java throw on a field that the schema does not list, so
the validator here takes nothing that is not written in the definition.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcvtui.api import models
from dcvtui.api.models import WireModel

REPOSITORY = Path(__file__).resolve().parents[1]
OWN_PATH = REPOSITORY / "broker_stub" / "broker" / "dcv-session-manager-api.yaml"
REFERENCE_PATH = REPOSITORY.parent / "shared" / "spec" / "reference" / "dcv-session-manager-api.yaml"

_WORDS = {"description", "summary", "example", "externalDocs", "xml"}


def own_definition() -> dict[str, Any]:
    """The definition that our broker serves."""
    return load(OWN_PATH)


def reference_definition() -> dict[str, Any]:
    """The published definition; skips the test where it is not at hand."""
    if not REFERENCE_PATH.exists():
        pytest.skip(f"The published API definition is not at {REFERENCE_PATH}.")
    return load(REFERENCE_PATH)


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


# ------------------------------------------------------------------ strict validation

# Section 1.3 of the API specification.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def faults(definition: dict[str, Any], schema_name: str, value: Any) -> list[str]:
    """What a strict reader finds wrong with an answer; each fault begins with its place."""
    return _faults(definition, {"$ref": f"#/components/schemas/{schema_name}"}, value, schema_name)


def _faults(definition: dict[str, Any], schema: dict[str, Any], value: Any, place: str) -> list[str]:
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/components/schemas/")
        return _faults(definition, definition["components"]["schemas"][name], value, place)
    kind = schema.get("type", "object")
    right_type = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not right_type:
        return [f"{place}: {kind} expected, not {value!r}"]
    if kind == "array":
        items = schema["items"]
        return [
            fault
            for number, item in enumerate(value)
            for fault in _faults(definition, items, item, f"{place}[{number}]")
        ]
    if kind == "object":
        known = schema["properties"]
        unlisted = [f"{place}.{name}: not in the schema" for name in value if name not in known]
        return unlisted + [
            fault
            for name, item in value.items()
            if name in known
            for fault in _faults(definition, known[name], item, f"{place}.{name}")
        ]
    return _format_faults(schema.get("format"), value, place)


def _format_faults(form: str | None, value: Any, place: str) -> list[str]:
    limits = {"int32": 2**31, "int64": 2**63}
    if form in limits and not -limits[form] <= value < limits[form]:
        return [f"{place}: {value} is no {form}"]
    if form == "date-time" and not _TIME.fullmatch(value):
        return [f"{place}: {value} is no UTC time with milliseconds"]
    return []
