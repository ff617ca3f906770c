"""Requests that schemathesis makes from the API definition, right and wrong ones, on a broker with agents.

Two hundred of them by default; `--examples 2000` asks for more. The same requests
are made in every run. Most that a definition alone leads to name sessions and
servers that do not exist, so some are given the ids of those that do.
"""

import base64
import copy
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dcvtui.api.permissions import DEFAULT_TEXT
from tests.fleet_process import FleetProcess, fleet_process
from tests.strict_schema import faults
from tests.wire_schema import DEFINITION_PATH, load

NEEDED = {
    "CreateSessionRequestData": ["Name", "Owner", "Type"],
    "DeleteSessionRequestData": ["SessionId", "Owner"],
    "UpdateSessionPermissionsRequestData": ["SessionId", "Owner", "PermissionsFile"],
    "GetSessionScreenshotRequestData": ["SessionId"],
    "OpenServerRequestData": ["ServerId"],
    "CloseServerRequestData": ["ServerId"],
}
"""What an item of a request cannot do without."""

_ANSWERS = {400, 404, 405, 413}
"""What a request that is not carried out may get: refused, no such path, no such method, too large."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetProcess]:
    """Four servers that finish what they are told, with some sessions on them."""
    with fleet_process(tmp_path_factory.mktemp("made"), servers=4, sessions=8) as fleet:
        yield fleet


class RealNames:
    """Values that mean something to the broker, put into requests here and there."""

    def __init__(self) -> None:
        self._known: dict[str, list[Any]] = {
            "Type": ["VIRTUAL", "CONSOLE"],
            "Requirements": ["server:Host.Os.Family = 'linux'", "tag:team := 'a' or server:Ip != ''"],
            "PermissionsFile": [base64.b64encode(DEFAULT_TEXT.encode()).decode()],
            "MaxWidth": [320],
            "MaxHeight": [200],
            "MaxResults": [1, 1000],
            "MaxConcurrentClients": [1],
            "Key": ["owner", "tag:team"],
            "AutorunFile": [None],
            "InitFile": [None],
            "InitFilePath": [None],
            "StorageRoot": ["%home%"],
        }

    def learn(self, answer: Any) -> None:
        """Remember what an answer names."""
        for session in answer.get("Sessions", ()):
            self._add("SessionId", session.get("Id"))
            self._add("Owner", session.get("Owner"))
        for server in answer.get("Servers", ()):
            self._add("ServerId", server.get("Id"))
        self._add("NextToken", answer.get("NextToken"))

    def _add(self, name: str, value: Any) -> None:
        known = self._known.setdefault(name, [])
        if value and value not in known:
            known.append(value)
            del known[:-50]

    def put_into(self, body: Any, chance: random.Random) -> Any:
        """The body with most of its values replaced by real ones."""
        if isinstance(body, list):
            return [self.put_into(item, chance) for item in body]
        if not isinstance(body, dict):
            return body
        return {name: self._value(name, value, chance) for name, value in body.items()}

    def _value(self, name: str, value: Any, chance: random.Random) -> Any:
        if name == "Filters":
            return self.put_into(value, chance)
        known = self._known.get("SessionId" if name == "sessionId" else name.removesuffix("s"))
        if not known or chance.random() < 0.2:
            return value
        return [chance.choice(known)] if name.endswith("Ids") else chance.choice(known)


def narrowed(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without what only its silence allows.

    It does not say that its schemas are objects, nor which fields a request cannot do
    without: taken by the letter, nearly all that it allows is refused at first sight.
    """
    narrow = copy.deepcopy(definition)
    schemas = narrow["components"]["schemas"]
    for schema in schemas.values():
        if "properties" in schema:
            schema |= {"type": "object", "additionalProperties": False}
    for name, fields in NEEDED.items():
        schemas[f"{name}Sent"] = schemas[name] | {"required": fields}
    for path in narrow["paths"].values():
        for operation in path.values():
            if "requestBody" in operation:
                sent = operation["requestBody"]["content"]["application/json"]["schema"]
                reference = sent.get("items", sent)
                if reference["$ref"].rpartition("/")[2] in NEEDED:
                    reference["$ref"] += "Sent"
    return narrow


@pytest.mark.timeout(1800)
@pytest.mark.covers("C18")
def test_no_made_request_breaks_the_broker_or_gets_an_answer_outside_the_definition(
    fleet: FleetProcess, pytestconfig: pytest.Config
) -> None:
    """Whatever is sent, no answer is a server error, and each is of the form that the definition gives it.

    No field is there that the definition does not list, none is null, and every
    refusal is JSON with the one field `error`.
    """
    # Imported here: it takes a second, which runs without this test need not wait.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    )

    checks = [
        not_a_server_error,
        response_schema_conformance,
        response_headers_conformance,
        content_type_conformance,
    ]
    definition = load(DEFINITION_PATH)
    modes = schemathesis.GenerationMode
    published = schemathesis.openapi.from_path(DEFINITION_PATH)
    narrow = schemathesis.openapi.from_dict(narrowed(definition))
    right, wrong = (narrow.as_strategy(mode) for mode in (modes.POSITIVE, modes.NEGATIVE))
    cases = st.one_of(right, right, right, wrong, published.as_strategy(modes.POSITIVE))
    names = RealNames()
    token = f"Bearer {fleet.token()}"
    count: Counter[tuple[str, int]] = Counter()
    carried_out: set[str] = set()

    @settings(
        max_examples=pytestconfig.getoption("--examples"),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, seed=st.integers(0, 2**32))
    def run(case: Any, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secret
        case.body = names.put_into(case.body, chance)
        case.path_parameters = names.put_into(case.path_parameters, chance)
        # Not with `call`, which leaves the token out of some of the wrong requests.
        request = case.as_transport_kwargs(fleet.url)
        request["headers"]["Authorization"] = token
        response = session.request(**request, verify=str(fleet.ca_file), timeout=60)
        count[case.path, response.status_code] += 1
        if response.status_code == 200:
            case.validate_response(response, checks=checks)
            assert faults(definition, _answer_schema(case), response.json()) == []
            names.learn(response.json())
            if response.json().get("SuccessfulList"):
                carried_out.add(case.path)
        else:
            assert response.status_code in _ANSWERS, case.as_curl_command()
            assert list(response.json()) == ["error"]

    with requests.Session() as session:
        session.trust_env = False
        with fleet.client() as client:
            for path in ("describeSessions", "describeServers"):
                names.learn(client.post(f"/{path}", json={"MaxResults": 3}).json())
        run()
    print(f"answers: {dict(sorted(count.items()))}; carried out: {carried_out}")


def _answer_schema(case: Any) -> str:
    responses = case.operation.definition.raw["responses"]
    return str(responses["200"]["content"]["application/json"]["schema"]["$ref"]).rpartition("/")[2]
