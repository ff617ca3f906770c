"""A client that is generated from an API definition and used as it comes out of the generator.

It judges our broker as other people's programs do. Each reply is also held
against the definition more strictly than this client would by itself.
"""

import importlib
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.strict_schema import faults
from tests.wire_schema import load

_GENERATOR = Path(sys.executable).with_name("openapi-generator-cli")
PACKAGE = "generated_session_manager_client"


def generate_client(definition: Path, folder: Path, language: str = "python") -> Path:
    """Generate a client; returns its folder, to be imported from. Skips the test without Java."""
    if shutil.which("java") is None:
        pytest.skip("Java is not installed, and the generator of API clients needs it.")
    command: list[str | Path] = [_GENERATOR, "generate", "-g", language, "-i", definition, "-o", folder]
    if language == "python":
        command += ["--package-name", PACKAGE]
    command += ["--global-property", "apiTests=false,modelTests=false"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


class GeneratedClient:
    """The generated package with a token, and what the broker answered to it.

    Args:
        folder: where the package was generated.
        definition: the definition it was generated from.
        url: the broker's client address.
        ca_file: what to trust.
        credentials: client id and password.

    Attributes:
        models: the generated package; its request classes take wire names.
        answered: names of the answers' schemas so far.
    """

    def __init__(
        self, folder: Path, definition: Path, url: str, ca_file: Path, credentials: tuple[str, str]
    ) -> None:
        self._definition = load(definition)
        self._sent: dict[str, Callable[..., Any]] = {}
        self.answered: set[str] = set()
        self.models = _imported(folder)
        configuration = self.models.Configuration(
            host=url, access_token=_token(url, ca_file, credentials), ssl_ca_cert=str(ca_file)
        )
        self._client = self.models.ApiClient(configuration)
        self.sessions = self.models.SessionsApi(self._client)
        self.servers = self.models.ServersApi(self._client)
        self.permissions = self.models.SessionPermissionsApi(self._client)
        self.connections = self.models.GetSessionConnectionDataApi(self._client)

    def close(self) -> None:
        """Close the connections that the client keeps."""
        self._client.rest_client.pool_manager.clear()

    def ask(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Call an operation (its `…_with_http_info` form); returns the client's own reading of the answer."""
        answer = operation(*arguments)
        assert answer.status_code == 200
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert headers["content-type"].partition(";")[0] == "application/json"
        schema = type(answer.data).__name__
        raw = json.loads(answer.raw_data.decode("utf-8"), parse_constant=_no_json)
        assert faults(self._definition, schema, raw) == []
        # The client has read all of it: what it would write is what came.
        assert _plain(answer.data.to_dict()) == raw
        self.answered.add(schema)
        return answer.data


def _imported(folder: Path) -> Any:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(folder))


def _token(url: str, ca_file: Path, credentials: tuple[str, str]) -> str:
    with httpx.Client(
        base_url=url, verify=ssl.create_default_context(cafile=ca_file), trust_env=False
    ) as client:
        answer = client.post("/oauth2/token", params={"grant_type": "client_credentials"}, auth=credentials)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


def _no_json(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def _plain(value: Any) -> Any:
    """What the client read as JSON has it: times as text, without the nulls that it adds by itself."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
    return value
