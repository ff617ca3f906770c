"""What every test of the project shares: switches, a clean environment, the gate of all answers."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers, promises, reply_gate, wire_schema

_GATE = pytest.StashKey[reply_gate.Gate]()
_LEFTOVERS = pytest.StashKey[leftovers.Check]()
_results: dict[str, list[str]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", action="store_true", help="run the benchmarks and print their ratios")
    parser.addoption(
        "--examples", type=int, default=200, help="requests to make from the API definition (default: 200)"
    )
    parser.addoption(
        "--faults", type=int, default=1000, help="faults between broker and agents (default: 1000)"
    )
    parser.addoption(
        "--conformance",
        action="store_true",
        help="run what holds the published contract, and print what it promises",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have every answer of every broker checked that a test starts, and see what a run leaves behind."""
    _check_answers(config)
    config.stash[_LEFTOVERS] = leftovers.Check()
    config.pluginmanager.register(config.stash[_LEFTOVERS])


def _check_answers(config: pytest.Config) -> None:
    if config.getoption("--bench"):
        return  # checking costs time of the broker's loop
    folder = Path(tempfile.mkdtemp(prefix="reply-gate-"))
    config.add_cleanup(lambda: shutil.rmtree(folder))
    gate = config.stash[_GATE] = reply_gate.install(folder)
    gate.open(wire_schema.nearest_definition())


@pytest.fixture
def gate(pytestconfig: pytest.Config) -> reply_gate.Gate:
    """What brokers answered out of line since the test began; for the test of the gate itself."""
    if _GATE not in pytestconfig.stash:
        pytest.skip("Answers are not checked during benchmarks.")
    return pytestconfig.stash[_GATE]


@pytest.fixture(autouse=True)
def every_answer_is_as_defined(pytestconfig: pytest.Config) -> Iterator[None]:
    """No broker answered anything that a strict client could not read."""
    yield
    if _GATE in pytestconfig.stash:
        found = pytestconfig.stash[_GATE].take()
        assert not found, "a broker sent what a strict client does not read:\n" + "\n".join(found)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Brokers that outlive their last test are heard to their end."""
    if _GATE in session.config.stash and (late := session.config.stash[_GATE].take()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nafter the last test a broker sent what a strict client does not read:", *late, sep="\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _results.setdefault(report.nodeid.partition("[")[0], []).append(report.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--conformance"):
        terminalreporter.section("promises")
        for line in promises.table(promises.promises_in(), _results):
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--conformance"):
        unmarked = [item for item in items if not item.get_closest_marker(promises.MARKER)]
        config.hook.pytest_deselected(items=unmarked)
        items[:] = [item for item in items if item not in set(unmarked)]
    if config.getoption("--bench"):
        return
    skip = pytest.mark.skip(reason="a benchmark: runs with --bench")
    for item in items:
        if item.get_closest_marker("bench"):
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def watched_folders(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folders of single tests belong to a run."""
    pytestconfig.stash[_LEFTOVERS].watch(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def no_developer_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A run depends on nothing outside: no profile, no variable, no state of the person who runs it."""
    home: Path = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("DCV_SM_", "DCVTUI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    yield
