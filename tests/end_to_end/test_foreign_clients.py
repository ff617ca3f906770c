"""Generated clients on a broker with agents: strict Java, and what the developer guide's generator makes.

The examples they run are in `tests/foreign`; what they need is fetched by `make tools`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.generated_client import generate_client
from tests.fleet_process import FleetProcess, fleet_process
from tests.foreign import tools
from tests.wire_schema import DEFINITION_PATH

EXAMPLES = Path(tools.__file__).parent
DONE = "all nine operations"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetProcess]:
    """Four servers, the first of them an idle one with Linux."""
    with fleet_process(tmp_path_factory.mktemp("foreign"), servers=4, sessions=8) as fleet:
        yield fleet


@pytest.fixture
def idle_server(fleet: FleetProcess) -> str:
    """A server that takes anybody's session."""
    with fleet.client() as client:
        servers = client.post("/describeServers").json()["Servers"]
    return next(
        str(server["Id"])
        for server in servers
        if server["Host"]["Os"]["Family"] == "linux"
        and server["Availability"] == "AVAILABLE"
        and not server["VirtualSessionCount"]
    )


def run(command: list[str | Path]) -> str:
    """Run a program to its end; returns what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.timeout(600)
@pytest.mark.covers("C19")
def test_a_strict_java_client_runs_the_guides_examples(
    fleet: FleetProcess, idle_server: str, tmp_path: Path
) -> None:
    """The Java client generated from the definition runs all nine operations and finds nothing unlisted.

    It throws on a field that the definition does not list and on a value of another type.
    """
    libraries = f"{tools.java_libraries()}/*"
    generated = generate_client(DEFINITION_PATH, tmp_path / "client", language="java")
    sources = list((generated / "src" / "main" / "java").rglob("*.java"))
    options: list[str | Path] = ["-nowarn", "-proc:none", "-cp", libraries, "-d", tmp_path / "classes"]
    run(["javac", *options, EXAMPLES / "GuideExamples.java", *sources])
    classes = f"{tmp_path / 'classes'}:{libraries}"
    arguments: list[str | Path] = [fleet.url, fleet.ca_file, fleet.token(), idle_server]
    assert DONE in run(["java", "-cp", classes, "GuideExamples", *arguments])


@pytest.mark.timeout(600)
@pytest.mark.covers("C19")
def test_the_guides_own_generator_makes_a_client_that_runs_its_examples(
    fleet: FleetProcess, idle_server: str, tmp_path: Path
) -> None:
    """swagger-codegen's Python client runs the developer guide's examples, names and addresses apart."""
    generator = tools.swagger_codegen()
    folder = tmp_path / "client"
    run(["java", "-jar", generator, "generate", "-l", "python", "-i", DEFINITION_PATH, "-o", folder])
    arguments: list[str | Path] = [
        fleet.url,
        fleet.ca_file,
        fleet.client_id,
        fleet.client_secret,
        idle_server,
    ]
    assert DONE in run([sys.executable, EXAMPLES / "guide_examples.py", folder, *arguments])
