"""Checks every answer of every broker that a test starts, in its own process or in a child's.

No test has to remember it: the client listener's class is wrapped as soon as it is
imported. What is wrong with an answer is written down before its last byte leaves,
and fails the test that runs at that moment. Children get here by way of
`child_start/sitecustomize.py`, so nothing but the standard library is loaded until
a broker is.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "REPLY_GATE_FOLDER"
"""Variable with the folder where the definition lies and faults are noted."""

_MODULE = "broker_stub.broker.http_api"
_DEFINITION = "definition.json"
_FAULTS = "faults.txt"
_CONNECTION_DATA = "/sessionConnectionData/"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, MutableMapping[str, Any], Any, Send], Awaitable[None]]


class Gate:
    """Where the definition comes from and faults go to.

    Args:
        folder: Shared by a run of tests and all its children.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_to = 0
        self._definition: dict[str, Any] | None = None
        self._schemas: dict[str, str] = {}
        self._rules: ModuleType | None = None

    def open(self, definition: dict[str, Any]) -> None:
        """Begin: write down what answers are checked against, and have children checked too."""
        (self._folder / _DEFINITION).write_text(json.dumps(definition))
        (self._folder / _FAULTS).touch()
        os.environ[FOLDER] = str(self._folder)
        start = str(Path(__file__).with_name("child_start"))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (start, os.environ.get("PYTHONPATH"))))

    def take(self) -> list[str]:
        """The faults noted since the last time."""
        path = self._folder / _FAULTS
        if path.stat().st_size <= self._read_to:
            return []
        with path.open("rb") as file:
            file.seek(self._read_to)
            noted = file.read()
        self._read_to += len(noted)
        return noted.decode().splitlines()

    def look_at(self, request: str, path: str, status: int, media_type: str, body: bytes) -> None:
        """Note what is wrong with an answer of one of the operations; others are not the API's."""
        self._load()
        schema = self._schemas.get(path)
        if schema is None and path.startswith(_CONNECTION_DATA) and path.count("/") == 3:
            schema = self._schemas[_CONNECTION_DATA]
        if schema is None or self._rules is None:
            return
        found = [] if media_type == "application/json" else [f"the media type is {media_type!r}"]
        if status == 200:
            found += self._rules.answer_faults(self._definition, schema, body)
        else:
            found += self._rules.error_faults(body)
        if found:
            lines = [f"{request} {status}: {fault}".encode("unicode_escape") for fault in found[:10]]
            descriptor = os.open(self._folder / _FAULTS, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))

    def _load(self) -> None:
        if self._definition is not None:
            return
        definition = json.loads((self._folder / _DEFINITION).read_text())
        for path, methods in definition["paths"].items():
            for operation in methods.values():
                content = operation["responses"]["200"]["content"]["application/json"]
                name = content["schema"]["$ref"].rpartition("/")[2]
                self._schemas[_CONNECTION_DATA if path.startswith(_CONNECTION_DATA) else path] = name
        # By its place: a child has the folder of the tests in no path.
        spec = spec_from_file_location("strict_schema", Path(__file__).with_name("strict_schema.py"))
        assert spec is not None
        assert spec.loader is not None
        self._rules = module_from_spec(spec)
        spec.loader.exec_module(self._rules)
        self._definition = definition


def install(folder: Path) -> Gate:
    """Have the answers of every broker of this process checked, whenever it is imported."""
    gate = Gate(folder)
    if module := sys.modules.get(_MODULE):
        _wrap(module, gate)
    else:
        sys.meta_path.insert(0, _Finder(gate))
    return gate


def guarded(app: App, gate: Gate) -> App:
    """An ASGI method that notes what it answers."""

    async def guarded_app(self: Any, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return await app(self, scope, receive, send)
        path = scope["raw_path"].decode("latin-1")
        start: Message = {}
        pieces: list[bytes] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body" and not _is_endless(start):
                pieces.append(message.get("body", b""))
                if not message.get("more_body"):
                    headers = {name.lower(): value for name, value in start["headers"]}
                    media_type = headers.get(b"content-type", b"").decode()
                    gate.look_at(
                        f"{scope['method']} {path}", path, start["status"], media_type, b"".join(pieces)
                    )
            await send(message)

        return await app(self, scope, receive, noting)

    return guarded_app


def _is_endless(start: Message) -> bool:
    return any(value.startswith(b"text/event-stream") for _, value in start["headers"])


def _wrap(module: ModuleType, gate: Gate) -> None:
    listener = module.HttpApi
    listener.__call__ = guarded(listener.__call__, gate)


class _Finder(MetaPathFinder):
    """Finds the one module that is wrapped, once, in its usual place."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Wrapping(spec.loader, self._gate)
        return spec


class _Wrapping(Loader):
    """The usual loader, and the wrapping after it."""

    def __init__(self, usual: Loader, gate: Gate) -> None:
        self._usual = usual
        self._gate = gate

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._usual.exec_module(module)
        _wrap(module, self._gate)
