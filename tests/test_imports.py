"""What a fresh interpreter loads: the import contracts see static imports, this sees the deferred ones."""

import subprocess
import sys
from pathlib import Path

import pytest

import dcvtui.cli

SCREEN = {"textual", "rich"}
NETWORK = {"httpx", "authlib", "starlette", "uvicorn", "websockets", "sqlalchemy"}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a statement loads in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "broker_check",
        "client",
        "config",
        "connect",
        "fleet",
        "images",
        "operations",
        "output",
        "polling",
        "query",
        "terminal",
        "cli",
    ],
)
def test_headless_modules_load_no_screen(module: str) -> None:
    assert not loaded_by(f"import dcvtui.{module}") & SCREEN


@pytest.mark.parametrize("package", ["commands", "headless"])
def test_no_command_loads_the_screen(package: str) -> None:
    folder = Path(dcvtui.cli.__file__).parent / package
    modules = [f"dcvtui.{package}.{path.stem}" for path in folder.glob("[a-z]*.py")]
    assert len(modules) > 8
    assert not loaded_by(f"import {', '.join(modules)}") & SCREEN


@pytest.mark.parametrize(
    "module", ["fleet", "query", "api.requirements", "api.permissions", "api.states", "api.text"]
)
def test_modules_of_the_first_paint_load_neither_models_nor_network(module: str) -> None:
    assert not loaded_by(f"import dcvtui.{module}") & (SCREEN | NETWORK | {"pydantic", "PIL"})


@pytest.mark.parametrize("module", ["channel", "broker.registry", "broker.placement"])
def test_rules_of_broker_and_agent_load_no_network(module: str) -> None:
    assert not loaded_by(f"import broker_stub.{module}") & (SCREEN | NETWORK | {"PIL"})


def test_administration_commands_load_no_broker() -> None:
    needed = "cli", "broker.settings_file", "broker.sockets", "broker.working_path"
    loaded = loaded_by("import " + ", ".join(f"broker_stub.{module}" for module in needed))
    assert not loaded & (SCREEN | {"sqlalchemy", "starlette", "uvicorn", "joserfc", "PIL"})


def test_pillow_waits_for_the_first_picture() -> None:
    assert "PIL" not in loaded_by("import dcvtui.images, dcvtui.tui.app")


def test_the_models_load_nothing_else_of_the_program() -> None:
    ours = "sorted(n for n in sys.modules if n.partition('.')[0] in ('dcvtui', 'broker_stub'))"
    code = f"import sys, dcvtui.api.models\nprint({ours})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dcvtui', 'dcvtui.api', 'dcvtui.api.models']"
