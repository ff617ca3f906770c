"""The native viewer is found where there is one, and started without showing anybody the token."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from dcvtui.viewer import Viewer, ViewerError, find_viewer

TEXT = "[version]\nformat=1.0\n\n[connect]\nauthtoken=eyJ.secret.token\n"

SCRIPT = """#!{python}
import json, os, pathlib, stat, sys, time
path = pathlib.Path(sys.argv[1])
found = {{
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "text": path.read_text(),
    "mode": stat.S_IMODE(path.stat().st_mode),
    "folder_mode": stat.S_IMODE(path.parent.stat().st_mode),
}}
part = pathlib.Path({seen!r} + ".part")
part.write_text(json.dumps(found))
part.rename({seen!r})
release = pathlib.Path({seen!r} + ".release")
for _ in range(3000):
    if release.exists():
        sys.exit(int(release.read_text()))
    time.sleep(0.01)
"""


class FakeViewer:
    """A program that writes down what it was given, and ends when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "dcvviewer"
        self.seen_file = folder / "seen.json"
        self.program.write_text(SCRIPT.format(python=sys.executable, seen=str(self.seen_file)))
        self.program.chmod(0o700)

    async def seen(self) -> dict[str, object]:
        await until(self.seen_file.exists)
        found: dict[str, object] = json.loads(self.seen_file.read_text())
        return found

    def end(self, status: int = 0) -> None:
        self.seen_file.with_name("seen.json.release").write_text(str(status))


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  another program's doing has no event
            await asyncio.sleep(0.01)


@pytest.fixture
def fake(tmp_path: Path) -> FakeViewer:
    return FakeViewer(tmp_path)


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    return folder


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.covers("W14", "W4")
async def test_the_viewer_gets_a_file_and_no_token_in_the_open(fake: FakeViewer, runtime: Path) -> None:
    """A viewer's arguments and variables hold no secret; its file is its owner's alone."""
    environ = {"XDG_RUNTIME_DIR": str(runtime), "HOME": "/home/ana", "DCV_SM_CLIENT_SECRET": "planted"}
    viewer = Viewer(fake.program, environ, settled_s=0.01)
    assert await viewer.open(TEXT) == "dcvviewer started"
    seen = await fake.seen()
    arguments = seen["arguments"]
    assert isinstance(arguments, list)
    assert [Path(argument).is_relative_to(runtime) for argument in arguments] == [True]
    assert "secret" not in json.dumps([seen["arguments"], seen["environment"]])
    assert "planted" not in json.dumps(seen["environment"])
    assert (seen["text"], seen["mode"], seen["folder_mode"]) == (TEXT, 0o600, 0o700)
    fake.end()
    await until(lambda: not left_in(runtime))


async def test_the_file_goes_after_a_while_and_the_viewer_stays(fake: FakeViewer, runtime: Path) -> None:
    viewer = Viewer(fake.program, {"XDG_RUNTIME_DIR": str(runtime)}, kept_s=1.0, settled_s=0.01)
    await viewer.open(TEXT)
    await fake.seen()
    await until(lambda: not left_in(runtime))
    fake.end()


async def test_the_file_goes_with_the_console(fake: FakeViewer, runtime: Path) -> None:
    viewer = Viewer(fake.program, {"XDG_RUNTIME_DIR": str(runtime)}, settled_s=0.01)
    await viewer.open(TEXT)
    await fake.seen()
    assert left_in(runtime)
    viewer.close()
    assert not left_in(runtime)
    fake.end()


async def test_a_viewer_that_ends_at_once_is_said(fake: FakeViewer, runtime: Path) -> None:
    fake.end(3)
    viewer = Viewer(fake.program, {"XDG_RUNTIME_DIR": str(runtime)}, settled_s=20)
    with pytest.raises(ViewerError, match="ended at once with status 3"):
        await viewer.open(TEXT)
    await until(lambda: not left_in(runtime))


async def test_a_viewer_that_hands_over_to_another_is_started(fake: FakeViewer, runtime: Path) -> None:
    fake.end(0)
    viewer = Viewer(fake.program, {"XDG_RUNTIME_DIR": str(runtime)}, settled_s=20)
    assert await viewer.open(TEXT) == "dcvviewer started"
    viewer.close()


async def test_a_viewer_that_cannot_be_started_is_said_and_leaves_nothing(
    tmp_path: Path, runtime: Path
) -> None:
    viewer = Viewer(tmp_path / "missing", {"XDG_RUNTIME_DIR": str(runtime)})
    with pytest.raises(ViewerError, match="No such file"):
        await viewer.open(TEXT)
    assert not left_in(runtime)


def test_a_viewer_is_found_where_it_can_be_seen(fake: FakeViewer) -> None:
    path = {"PATH": str(fake.program.parent)}
    assert find_viewer(path | {"DISPLAY": ":0"}, "linux") == fake.program
    assert find_viewer(path | {"WAYLAND_DISPLAY": "w"}, "linux") == fake.program
    assert find_viewer(path, "linux") is None, "there is no screen to show it on"
    assert find_viewer(path | {"DISPLAY": ":0", "SSH_CONNECTION": "a"}, "linux") is None
    assert find_viewer({"PATH": "/nowhere", "DISPLAY": ":0"}, "linux") is None
