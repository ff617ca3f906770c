"""What every test of the project shares: the switch for benchmarks and a clean environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import promises

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
