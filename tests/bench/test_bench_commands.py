"""The quickest commands against the import of the library they are made with; gates nothing by time."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

PROGRAM = str(Path(sys.executable).with_name("dcvtui"))
FLOOR = [sys.executable, "-c", "import click"]
ROUNDS = 15


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    "line", [["--version"], ["--help"], ["describe-sessions", "--help"], ["permissions", "--help"]]
)
def test_time_of_help_and_version_against_the_import_of_click(line: list[str]) -> None:
    pairs = [(seconds([PROGRAM, *line]), seconds(FLOOR)) for _ in range(ROUNDS)]
    ours, floor = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"\ndcvtui {' '.join(line)}: {ratio:.2f}x (aim 1.5x), {ours:.0f} against {floor:.0f} ms")
