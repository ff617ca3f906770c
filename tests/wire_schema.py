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
    return load(REFERENCE_PATH if REFERENCE_PATH.exists() else OWN_PATH)


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
