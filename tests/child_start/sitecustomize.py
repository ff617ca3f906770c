"""Python runs this in every child of a test that inherits `PYTHONPATH`: brokers among them get their gate."""

import importlib.util
import os
from pathlib import Path

if folder := os.environ.get("REPLY_GATE_FOLDER"):
    path = Path(__file__).parents[1] / "reply_gate.py"
    spec = importlib.util.spec_from_file_location("reply_gate", path)
    assert spec is not None
    assert spec.loader is not None
    gate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gate)
    gate.install(Path(folder))
