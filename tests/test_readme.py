"""What the README shows: the library's example runs as it stands, and every command line is understood."""

import asyncio
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import click
import pytest

from dcvtui.cli import cli
from tests.key_table import with_table
from tests.running_fleet import running_fleet

README = (Path(__file__).parents[1] / "README.md").read_text()


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


async def test_the_example_of_the_library_runs_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", section("As a library"), re.MULTILINE)
    code = dedent(max(blocks, key=len))
    async with running_fleet(tmp_path) as fleet:
        running = fleet.running
        owned = [one for one in await fleet.sessions() if one["Owner"] == "ana" and one["State"] == "READY"]
        for placeholder, value in {
            "https://broker.example:8443": running.url,
            '"id", "secret"': f'"{running.client_id}", "{running.client_secret}"',
            "dcvsmbroker_ca.pem": str(running.ca_file),
        }.items():
            assert placeholder in code
            code = code.replace(placeholder, value)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
        )
        linux = [
            s["Hostname"] for s in (await fleet.servers()).values() if s["Host"]["Os"]["Family"] == "linux"
        ]
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert set(re.findall(r"'([\w-]+)'", lines[0])) == set(linux)
    assert owned
    assert {f"{one['Id']} done " for one in owned} <= set(lines[1:-1])
    assert set(re.findall(r"'(\w+)'", lines[-1])) == {"display", "pointer"}


def test_the_table_of_keys_is_that_of_the_bindings() -> None:
    assert with_table(README) == README, "the keys have changed: `make keys` writes the README's table anew"


def test_every_picture_that_is_shown_is_there_and_every_one_there_is_shown() -> None:
    shown = set(re.findall(r"screenshots/([\w-]+\.(?:png|gif))", README))
    there = {path.name for path in (Path(__file__).parents[1] / "screenshots").iterdir()}
    assert shown == there


def command_lines() -> list[str]:
    """Every line of the README that calls the program, as a shell would take it."""
    text = section("Without a screen") + section("A tour") + section("Your own broker")
    shown = [
        line.removeprefix("    ").removeprefix("$ ") for line in text.splitlines() if line.startswith("    ")
    ]
    inline = [found.replace("\\|", "|") for found in re.findall(r"`(dcvtui [^`]*)`", text)]
    lines = [line for line in (*shown, *inline) if re.match(r"dcvtui [a-z-]", line)]
    return sorted({part.strip() for line in lines for part in line.split(" | ")})


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_of_the_readme_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("an-id\n"))
    words = shlex.split(line)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    with command.make_context("dcvtui", words, parent=context):
        pass
