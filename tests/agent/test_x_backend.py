"""Real X sessions; the numbers S.. are those of the DCV server specification's checklist."""

import asyncio
import contextlib
import io
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pictures

from broker_stub.agent import processes
from broker_stub.agent.backend import BackendError, Failure, Image, ImageFormat, Monitor
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.layouts import read_layout
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_layout import resizing_program
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder, XSession
from dcvtui.api.states import SessionType
from tests.agent.x_sessions import (
    ME,
    OTHER,
    grabbers,
    needs_root,
    needs_xvfb,
    needs_xvnc,
    passable_place,
    script,
    settings_in,
    spec_of,
    until,
)

pytestmark = needs_xvfb


needs_xterm = pytest.mark.skipif(
    not shutil.which("xterm") or "nologin" in pwd.getpwnam(ME).pw_shell,
    reason="needs xterm (apt-get install xterm) and a user with a login shell",
)


needs_xrandr = pytest.mark.skipif(
    resizing_program() is None, reason="xrandr is missing: apt-get install x11-xserver-utils"
)


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place() as place:
        yield place


@pytest.fixture
def settings(place: Path) -> XSettings:
    settings = settings_in(place)
    script(settings.init_folder / "stay.sh", "exec sleep 600")
    return settings


@asynccontextmanager
async def opened(settings: XSettings) -> AsyncIterator[XBackend]:
    """A backend whose sessions end with the test, whatever happened."""
    backend = await XBackend.open(settings)
    try:
        yield backend
    finally:
        for session in await backend.list():
            await backend.close(session.id, force=True)
        await backend.stop()


@pytest.fixture
async def backend(settings: XSettings) -> AsyncIterator[XBackend]:
    async with opened(settings) as backend:
        yield backend


def folder_of(settings: XSettings, session_id: str = "s-1") -> SessionFolder:
    return SessionFolder(settings.state_folder / "sessions" / session_id)


def session_of(settings: XSettings, session_id: str = "s-1") -> XSession:
    session = folder_of(settings, session_id).read()
    assert session is not None
    return session


def uid_of(process: processes.Process) -> int:
    return Path(f"/proc/{process.pid}").stat().st_uid


def program_of(process: processes.Process) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().strip()


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


def nothing_left(settings: XSettings, session_id: str, display: int) -> bool:
    return not (
        folder_of(settings, session_id).programs()
        or folder_of(settings, session_id).servers()
        or Path(f"/tmp/.X11-unix/X{display}").exists()
        or Path(f"/tmp/.X{display}-lock").exists()
        or folder_of(settings, session_id).path.exists()
    )


# ------------------------------------------------------------------ starting


@needs_root
async def test_s18_the_x_server_and_the_program_belong_to_the_owner(
    settings: XSettings, backend: XBackend
) -> None:
    await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))
    session = session_of(settings)
    expected = pwd.getpwnam(OTHER).pw_uid
    assert uid_of(session.x_server) == expected
    assert uid_of(session.init) == expected


def facts_of(process: processes.Process) -> dict[str, str]:
    """What the system says of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def limits_of(process: processes.Process) -> dict[str, tuple[str, str]]:
    """Soft and hard limits by the system's names."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def files_of(process: processes.Process) -> set[str]:
    """What its descriptors stand for."""
    found = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


@pytest.mark.parametrize("kind", [ServerKind.XVFB, pytest.param(ServerKind.XVNC, marks=needs_xvnc)])
async def test_what_runs_in_a_session_has_its_owners_rights_and_no_more(
    settings: XSettings, monkeypatch: pytest.MonkeyPatch, kind: ServerKind
) -> None:
    """X server, program and autorun program have user, groups and limits of the session's owner, no
    privilege, the environment of a fresh login, and no descriptor of the agent but their log and the pipe
    that tells the display's number."""
    owner = OTHER if os.geteuid() == 0 else ME
    monkeypatch.setenv("A_SECRET_OF_THE_AGENT", "x")
    script(settings.autorun_folder / "beside.sh", "exec sleep 601")
    secret = settings.state_folder / "a-secret-file"
    before = os.umask(0o077)
    try:
        with secret.open("w") as file, socket.create_server(("127.0.0.1", 0)) as listener:
            os.set_inheritable(file.fileno(), True)
            listener.set_inheritable(True)
            async with opened(replace(settings, server=kind)) as backend:
                await backend.create(spec_of(owner=owner, init_file="stay.sh", autorun_file="beside.sh"))
                session, folder = session_of(settings), folder_of(settings)
                programs = [one for one in folder.programs() if program_of(one) == "sleep"]
                assert len(programs) == 2
                for process in (session.x_server, *programs):
                    check_rights(process, pwd.getpwnam(owner))
                    opened_files = files_of(process)
                    assert str(secret) not in opened_files
                    assert f"socket:[{os.fstat(listener.fileno()).st_ino}]" not in opened_files
                for process in programs:
                    log = str(folder.path / "session.log")
                    assert files_of(process) == {"/dev/null", log}
                    check_environment(process, session, folder)
    finally:
        os.umask(before)


def check_rights(process: processes.Process, owner: pwd.struct_passwd) -> None:
    facts = facts_of(process)
    assert facts["Uid"] == " ".join([str(owner.pw_uid)] * 4)
    assert facts["Gid"] == " ".join([str(owner.pw_gid)] * 4)
    assert facts["Umask"] == "0022"
    assert limits_of(process)["Max open files"][0] == "1024"
    assert limits_of(process)["Max core file size"] == ("0", "0")
    assert int(facts["SigBlk"], 16) == 0
    if os.geteuid() == 0 and owner.pw_uid != 0:
        groups = os.getgrouplist(owner.pw_name, owner.pw_gid)
        assert sorted(map(int, facts["Groups"].split())) == sorted(groups)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(facts[kind], 16) == 0, kind


def check_environment(process: processes.Process, session: XSession, folder: SessionFolder) -> None:
    entries = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    variables = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    owner = pwd.getpwnam(session.owner)
    assert variables["USER"] == variables["LOGNAME"] == session.owner
    assert variables["HOME"] == owner.pw_dir
    assert variables["DISPLAY"] == f":{session.display}"
    assert variables["XAUTHORITY"] == str(folder.authority)
    known = {"USER", "LOGNAME", "HOME", "SHELL", "PATH", "LANG", "PWD", "XDG_RUNTIME_DIR", "XDG_SESSION_TYPE"}
    ours = {"DISPLAY", "XAUTHORITY", "DCV_SESSION_ID", "DCV_SESSION_AUTHORITY"}
    assert set(variables) <= known | ours
    assert os.getsid(process.pid) in (process.pid, session.init.pid)


@needs_root
async def test_pictures_of_a_session_are_taken_as_its_owner(settings: XSettings, backend: XBackend) -> None:
    """What a session's X server sends is never read by a process with more rights than its owner has."""
    await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))
    assert await backend.screenshot("s-1", 100, 100, "png")
    (grabber,) = grabbers()
    facts = facts_of(processes.Process(grabber.pid, 0))
    assert facts["Uid"] == " ".join([str(pwd.getpwnam(OTHER).pw_uid)] * 4)
    assert (facts["Groups"], int(facts["CapEff"], 16), int(facts["CapPrm"], 16)) == ("", 0, 0)


async def test_limits_of_the_host_are_passed_on(settings: XSettings) -> None:
    limits = ChildLimits(open_files=256, processes=4000)
    async with opened(replace(settings, limits=limits)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        found = limits_of(session_of(settings).init)
        assert (found["Max open files"][0], found["Max processes"][0]) == ("256", "4000")


async def test_s19_ten_creations_at_once_have_ten_displays_and_ten_cookies(
    settings: XSettings, backend: XBackend
) -> None:
    ids = [f"s-{number}" for number in range(10)]
    await asyncio.gather(*(backend.create(spec_of(one, init_file="stay.sh")) for one in ids))
    assert len({session_of(settings, one).display for one in ids}) == 10
    assert len({folder_of(settings, one).authority.read_bytes() for one in ids}) == 10
    assert sorted(session.id for session in await backend.list()) == sorted(ids)


async def test_s20_the_authority_file_is_the_owners_alone_and_needed(
    settings: XSettings, backend: XBackend
) -> None:
    owner = OTHER if os.geteuid() == 0 else ME
    await backend.create(spec_of(owner=owner, init_file="stay.sh"))
    status = folder_of(settings).authority.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, pwd.getpwnam(owner).pw_uid)
    program = f"from PIL import ImageGrab; ImageGrab.grab(xdisplay=':{session_of(settings).display}')"
    for authority, code in (("/dev/null", 1), (str(folder_of(settings).authority), 0)):
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env={"XAUTHORITY": authority}, stderr=subprocess.DEVNULL
        )
        assert await client.wait() == code


@needs_xterm
async def test_s21_an_xterm_is_seen_in_the_screenshot_within_three_seconds(
    settings: XSettings, backend: XBackend
) -> None:
    script(settings.init_folder / "term.sh", "exec xterm -bg navy -fg yellow -e 'echo hello; exec sleep 600'")
    await backend.create(spec_of(init_file="term.sh"))
    async with asyncio.timeout(3):
        while True:
            (image,) = await backend.screenshot("s-1", None, None, "png")
            with Pictures.open(io.BytesIO(image.data)) as picture:
                colors = picture.getcolors(100_000)
            if colors is None or len(colors) > 2:
                break
    assert (image.width, image.height, image.primary) == (800, 600, True)


@pytest.mark.skipif(
    not (shutil.which("openbox") and shutil.which("xterm")),
    reason="needs openbox and xterm (apt-get install)",
)
async def test_without_an_init_file_a_session_is_a_desktop_to_work_with(place: Path) -> None:
    """A window with a terminal on a coloured ground, not a black screen."""
    async with opened(settings_in(place, geometry=(1280, 720))) as backend:
        await backend.create(spec_of())
        async with asyncio.timeout(30):
            while True:
                (image,) = await backend.screenshot("s-1", None, None, "png")
                with Pictures.open(io.BytesIO(image.data)) as picture:
                    colours = {colour for _, colour in picture.convert("RGB").getcolors(1_000_000) or ()}
                    ground = picture.convert("RGB").getpixel((1270, 710))
                if len(colours) > 20:  # a frame with shades, and letters with smooth edges
                    break
                await asyncio.sleep(0.1)
        assert ground == (0x25, 0x38, 0x4A)


@needs_xterm
async def test_without_an_init_file_the_first_installed_desktop_runs(
    place: Path,
) -> None:
    settings = settings_in(place, desktop_commands=(("no-such-desktop",), ("xterm",)))
    async with opened(settings) as backend:
        await backend.create(spec_of())
        assert program_of(session_of(settings).init) == "xterm"


async def test_without_any_desktop_program_the_reason_names_the_package(place: Path) -> None:
    async with opened(settings_in(place, desktop_commands=(("no-such-desktop",),))) as backend:
        with pytest.raises(BackendError, match=r"no-such-desktop.*backend\.desktop"):
            await backend.create(spec_of())


async def test_s22_the_autorun_program_runs_as_the_owner_with_its_arguments_in_order(
    settings: XSettings, backend: XBackend, place: Path
) -> None:
    owner = OTHER if os.geteuid() == 0 else ME
    out = place / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    script(
        settings.autorun_folder / "run.sh",
        f'{{ id -un; echo "$DISPLAY"; for one in "$@"; do echo "<$one>"; done; }} > {out}/new\n'
        f"mv {out}/new {out}/said",
    )
    arguments = ("one", "two words", "$(id)", "; rm -rf x")
    await backend.create(
        spec_of(owner=owner, init_file="stay.sh", autorun_file="run.sh", arguments=arguments)
    )
    await until((out / "said").exists)
    assert (out / "said").read_text().splitlines() == [
        owner,
        f":{session_of(settings).display}",
        *(f"<{argument}>" for argument in arguments),
    ]


async def test_a_failing_autorun_program_does_not_fail_the_session(
    settings: XSettings, backend: XBackend
) -> None:
    (settings.autorun_folder / "broken").write_text("#!/no/such/interpreter\n")
    (settings.autorun_folder / "broken").chmod(0o755)
    await backend.create(spec_of(init_file="stay.sh", autorun_file="broken"))
    await until(lambda: "broken" in folder_of(settings).log.tail())


async def test_s6_a_program_that_ends_at_once_is_a_failed_creation_with_its_last_words(
    settings: XSettings, backend: XBackend
) -> None:
    script(settings.init_folder / "dies.sh", "echo out of graphics memory >&2; exit 7")
    with pytest.raises(BackendError, match=r"dies\.sh ended at once with exit code 7: .*graphics memory"):
        await backend.create(spec_of(init_file="dies.sh"))
    assert await backend.list() == []
    assert not folder_of(settings).servers()
    assert not folder_of(settings).path.exists()


async def test_a_cancelled_creation_leaves_nothing_behind(settings: XSettings, backend: XBackend) -> None:
    creation = asyncio.create_task(backend.create(spec_of(init_file="stay.sh")))
    await until(lambda: folder_of(settings).programs())
    display = session_of(settings).display
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    await until(lambda: nothing_left(settings, "s-1", display))
    await backend.create(spec_of(init_file="stay.sh"))


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("name", ["/bin/true", "../init/stay.sh", "sub/../stay.sh", "out", "", "C:\\x"])
async def test_s4_start_files_that_leave_their_folder_are_refused(
    settings: XSettings, backend: XBackend, name: str
) -> None:
    for folder in (settings.init_folder, settings.autorun_folder):
        (folder / "out").symlink_to("/bin/true")
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file=name))
    assert refused.value.code is Failure.INIT_FILE_INVALID
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file="stay.sh", autorun_file=name))
    assert refused.value.code is Failure.AUTORUN_FILE_INVALID
    assert not folder_of(settings).servers()


async def test_s4_an_absolute_init_file_inside_the_folder_is_taken(
    settings: XSettings, backend: XBackend
) -> None:
    await backend.create(spec_of(init_file=str(settings.init_folder / "stay.sh")))


async def test_s5_a_missing_or_not_executable_file_is_named(settings: XSettings, backend: XBackend) -> None:
    (settings.init_folder / "plain.txt").write_text("x")
    for name in ("missing.sh", "plain.txt"):
        with pytest.raises(BackendError, match=name) as refused:
            await backend.create(spec_of(init_file=name))
        assert refused.value.code is Failure.INIT_FILE_INVALID


@needs_root
async def test_s5_a_file_the_owner_cannot_execute_is_refused(settings: XSettings, backend: XBackend) -> None:
    (settings.init_folder / "stay.sh").chmod(0o700)
    with pytest.raises(BackendError, match=f"cannot be executed by {OTHER}"):
        await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))


async def test_s33_an_unknown_owner_is_refused(backend: XBackend) -> None:
    with pytest.raises(BackendError, match="Specified user is not a local user") as refused:
        await backend.create(spec_of(owner="no-such-user"))
    assert refused.value.code is Failure.OWNER_NOT_FOUND


@needs_root
async def test_s33_root_starts_nothing_for_system_users_unless_told_so(settings: XSettings) -> None:
    async with opened(replace(settings, minimum_uid=1000)) as backend:
        with pytest.raises(BackendError, match="system user"):
            await backend.create(spec_of(owner="root", init_file="stay.sh"))


async def test_s32_console_sessions_are_refused_with_a_reason(backend: XBackend) -> None:
    with pytest.raises(BackendError, match="virtual sessions only") as refused:
        await backend.create(replace(spec_of(), type=SessionType.CONSOLE))
    assert refused.value.code is Failure.TYPE_NOT_SUPPORTED
    assert not (await backend.probe()).console_allowed


async def test_a_session_id_is_never_a_path(backend: XBackend) -> None:
    for session_id in ("../x", ".", "a/b", ""):
        with pytest.raises(BackendError):
            await backend.create(spec_of(session_id, init_file="stay.sh"))


async def test_a_missing_x_server_is_one_sentence_with_the_command_that_helps(
    backend: XBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("broker_stub.agent.x_programs.PATH", str(tmp_path))
    probe = await backend.probe()
    assert not probe.healthy
    assert "apt-get install xvfb xterm" in probe.reason
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file="stay.sh"))
    assert refused.value.code is Failure.DCV_SERVER_UNAVAILABLE


# ------------------------------------------------------------------ living and ending


async def test_s16_s17_screenshots_are_bounded_in_proportion_and_never_enlarged(backend: XBackend) -> None:
    await backend.create(spec_of(init_file="stay.sh"))
    for bounds, size in (
        ((160, 100), (133, 100)),
        ((400, None), (400, 300)),
        ((None, 150), (200, 150)),
        ((4000, 3000), (800, 600)),
    ):
        formats: tuple[ImageFormat, ...] = ("png", "jpeg")
        for image_format in formats:
            (image,) = await backend.screenshot("s-1", bounds[0], bounds[1], image_format)
            with Pictures.open(io.BytesIO(image.data)) as picture:
                assert (picture.size, picture.format) == (size, image_format.upper())
            assert (image.width, image.height) == size


async def test_a_hanging_x_server_costs_one_screenshot_and_not_the_agent(
    settings: XSettings,
) -> None:
    async with opened(replace(settings, screenshot_limit_s=0.3)) as backend:
        await backend.create(spec_of("s-1", init_file="stay.sh"))
        await backend.create(spec_of("s-2", init_file="stay.sh"))
        hanging = session_of(settings).x_server
        os.kill(hanging.pid, signal.SIGSTOP)
        with pytest.raises(BackendError) as refused:
            await backend.screenshot("s-1", 100, 100, "png")
        assert refused.value.code is Failure.TIMEOUT
        assert await backend.screenshot("s-2", 100, 100, "png")


def sizes(images: Sequence[Image]) -> list[tuple[int, int]]:
    return [(image.width, image.height) for image in images]


@needs_xrandr
@pytest.mark.covers("S28")
async def test_another_layout_shows_in_the_screenshot_and_in_the_session(
    settings: XSettings, backend: XBackend
) -> None:
    """A session that is given another size has screenshots of that size, and says so itself; one on Xvfb
    can become smaller but not larger than it was started."""
    await backend.create(spec_of(init_file="stay.sh"))
    assert (await backend.list())[0].display_layout == (Monitor(0, 0, 800, 600, is_primary=True),)
    for size in ((640, 480), (800, 600), (700, 500), (640, 480)):
        backend.changed.clear()
        await backend.set_layout("s-1", f"{size[0]}x{size[1]}")
        assert backend.changed.is_set()
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [size]
        (session,) = await backend.list()
        assert session.display_layout == (Monitor(0, 0, *size, is_primary=True),)
    with pytest.raises(BackendError, match="cannot be larger than it was started, 800x600"):
        await backend.set_layout("s-1", "801x600")
    with pytest.raises(BackendError, match="is not a size such as"):
        await backend.set_layout("s-1", "huge")
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(640, 480)]


@needs_xrandr
@needs_xvnc
@pytest.mark.covers("S28", "S29")
async def test_each_monitor_has_a_picture_and_the_primary_one_comes_first(settings: XSettings) -> None:
    """With several monitors there is one picture each, of that monitor's size; exactly one says that it
    is the primary one, and it is the first of the layout. A session on Xvnc can grow."""
    async with opened(replace(settings, server=ServerKind.XVNC)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        await backend.set_layout("s-1", "1024x768+640+0,640x480+0+0")
        images = await backend.screenshot("s-1", None, None, "png")
        assert sizes(images) == [(1024, 768), (640, 480)]
        assert [image.primary for image in images] == [True, False]
        assert sizes(await backend.screenshot("s-1", 512, None, "png")) == [(512, 384), (512, 384)]
        assert (await backend.list())[0].display_layout == (
            Monitor(640, 0, 1024, 768, is_primary=True),
            Monitor(0, 0, 640, 480),
        )
        await backend.set_layout("s-1", "1920x1080")
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(1920, 1080)]


@needs_xrandr
@needs_xvnc
async def test_new_sessions_can_have_several_monitors_from_the_start(settings: XSettings) -> None:
    layout = read_layout("800x600,640x480")
    async with opened(replace(settings, server=ServerKind.XVNC, layout=layout)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600), (640, 480)]


@pytest.mark.covers("S35")
async def test_no_x_program_is_needed_and_a_missing_xrandr_only_keeps_the_size(
    settings: XSettings, backend: XBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a host with an X server and nothing of the usual X programs sessions run and are looked at; without
    xrandr they keep the size they were started with, and whoever asks for another is told what to install."""
    for program in ("Xvfb", "test", "sh", "sleep"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    for module in ("owners", "x_programs", "desktop", "x_layout", "child_limits"):
        monkeypatch.setattr(f"broker_stub.agent.{module}.PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    await backend.create(spec_of(init_file="stay.sh"))
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600)]
    with pytest.raises(BackendError, match="apt-get install x11-xserver-utils"):
        await backend.set_layout("s-1", "640x480")
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600)]


async def test_permissions_are_kept_in_a_private_file(settings: XSettings, backend: XBackend) -> None:
    await backend.create(spec_of(init_file="stay.sh", permissions="[permissions]\n%owner% allow builtin\n"))
    path = folder_of(settings).path / "permissions"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "builtin" in path.read_text()
    await backend.set_permissions("s-1", "")
    assert path.read_text() == ""
    await backend.set_permissions("s-1", None)
    assert not path.exists()


async def test_s23_the_session_ends_when_its_program_ends(settings: XSettings, backend: XBackend) -> None:
    script(settings.init_folder / "wait.sh", f"while [ ! -e {settings.init_folder}/go ]; do sleep 0.05; done")
    await backend.create(spec_of(init_file="wait.sh"))
    display = session_of(settings).display
    backend.changed.clear()
    (settings.init_folder / "go").touch()
    await asyncio.wait_for(backend.changed.wait(), 2)
    assert await backend.list() == []
    await until(lambda: nothing_left(settings, "s-1", display))


async def test_s26_closing_ends_programs_before_the_x_server_and_leaves_nothing(
    settings: XSettings, backend: XBackend
) -> None:
    said = settings.state_folder / "said"
    script(
        settings.init_folder / "work.sh",
        # A program in a process session of its own, and one that saves its work when asked to end.
        f"setsid sleep 600 &\ntrap 'echo saved > {said}; exit 0' TERM\nwhile :; do sleep 0.05; done",
    )
    await backend.create(spec_of(init_file="work.sh"))
    session = session_of(settings)
    closing = asyncio.create_task(backend.close("s-1", False))
    await until(said.exists)
    assert session.x_server.is_alive or not session.init.is_alive
    await closing
    assert nothing_left(settings, "s-1", session.display)
    assert await backend.list() == []
    with pytest.raises(BackendError) as refused:
        await backend.close("s-1", False)
    assert refused.value.code is Failure.SESSION_NOT_FOUND


async def test_closing_kills_what_does_not_listen_and_force_kills_at_once(
    settings: XSettings, backend: XBackend
) -> None:
    script(settings.init_folder / "deaf.sh", "trap '' TERM\nwhile :; do sleep 0.05; done")
    loop = asyncio.get_running_loop()
    for force, most_s in ((True, 1.5), (False, settings.grace_s + 2)):
        await backend.create(spec_of(init_file="deaf.sh"))
        display, began = session_of(settings).display, loop.time()
        await backend.close("s-1", force)
        assert loop.time() - began < most_s
        assert nothing_left(settings, "s-1", display)


async def test_closing_goes_on_when_the_caller_stops_waiting(settings: XSettings, backend: XBackend) -> None:
    script(settings.init_folder / "deaf.sh", "trap '' TERM\nwhile :; do sleep 0.05; done")
    await backend.create(spec_of(init_file="deaf.sh"))
    display = session_of(settings).display
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.close("s-1", False), 0.05)
    await until(lambda: nothing_left(settings, "s-1", display))


async def test_s27_a_killed_x_server_takes_its_session_with_it_and_no_other(
    settings: XSettings, backend: XBackend
) -> None:
    await backend.create(spec_of("s-1", init_file="stay.sh"))
    await backend.create(spec_of("s-2", init_file="stay.sh"))
    session = session_of(settings)
    backend.changed.clear()
    os.kill(session.x_server.pid, signal.SIGKILL)
    await asyncio.wait_for(backend.changed.wait(), 2)
    assert [one.id for one in await backend.list()] == ["s-2"]
    await until(lambda: nothing_left(settings, "s-1", session.display))
    assert await backend.screenshot("s-2", 100, 100, "png")


async def test_s31_the_storage_root_is_expanded_or_off(backend: XBackend) -> None:
    home = pwd.getpwnam(ME).pw_dir
    home_in_use = home if is_folder(home) else ""
    for number, (wanted, used) in enumerate(
        ((None, ""), ("%home%", home_in_use), ("%home%/no/such/folder", ""), ("relative", ""))
    ):
        spec = replace(spec_of(f"s-{number}", init_file="stay.sh"), storage_root=wanted)
        assert (await backend.create(spec)).storage_root == used


async def test_s34_a_long_name_arrives_whole(backend: XBackend) -> None:
    name = "n" * 250 + "'\";\n$x"
    assert (await backend.create(spec_of(name=name, init_file="stay.sh"))).name == name


async def test_the_log_of_a_session_is_capped(
    settings: XSettings, backend: XBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_stub.agent.x_state.LOG_LIMIT_BYTES", 1000)
    script(settings.init_folder / "talk.sh", "while :; do echo words words words; done")
    await backend.create(spec_of(init_file="talk.sh"))
    log = folder_of(settings).path / "session.log"
    await until(lambda: log.stat().st_size > 100_000)
    os.kill(session_of(settings).init.pid, signal.SIGSTOP)
    await backend.list()
    assert log.stat().st_size < 1000


# ------------------------------------------------------------------ the agent's death

_AGENT = """
import asyncio, json, sys
from pathlib import Path
from broker_stub.agent.x_backend import XBackend
from tests.agent.x_sessions import settings_in, spec_of

async def main():
    backend = await XBackend.open(settings_in(Path(sys.argv[1])))
    for number in range(2):
        await backend.create(spec_of(f"s-{number}", init_file="stay.sh"))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def killed_agent(settings: XSettings) -> None:
    """An agent in a process of its own makes the sessions s-0 and s-1 and is killed."""
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(settings.state_folder.parent), stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    assert await agent.stdout.readline() == b"ready\n"
    agent.kill()
    await agent.communicate()


async def test_s24_sessions_of_a_killed_agent_are_found_again(settings: XSettings) -> None:
    await killed_agent(settings)
    before = {one: session_of(settings, one) for one in ("s-0", "s-1")}
    async with opened(settings) as backend:
        found = {session.id: session for session in await backend.list()}
        assert found == {key: session.info for key, session in before.items()}
        assert all(session.is_alive for session in before.values())
        assert await backend.screenshot("s-0", 100, 100, "png")
        # The end of an adopted one is noticed as well, though it is nobody's child here.
        backend.changed.clear()
        os.kill(before["s-0"].init.pid, signal.SIGKILL)
        await asyncio.wait_for(backend.changed.wait(), 2)
        assert [one.id for one in await backend.list()] == ["s-1"]
        await backend.close("s-1", False)
        assert nothing_left(settings, "s-1", before["s-1"].display)


async def test_s24_what_died_while_no_agent_ran_is_cleared_up(settings: XSettings) -> None:
    await killed_agent(settings)
    sessions = [session_of(settings, one) for one in ("s-0", "s-1")]
    os.kill(sessions[0].x_server.pid, signal.SIGKILL)
    os.kill(sessions[1].init.pid, signal.SIGKILL)
    await until(lambda: not (sessions[0].is_alive or sessions[1].is_alive))
    async with opened(settings) as backend:
        assert await backend.list() == []
        await until(lambda: all(nothing_left(settings, session.id, session.display) for session in sessions))


async def test_s25_a_recycled_process_id_is_not_taken_for_a_session(settings: XSettings) -> None:
    await killed_agent(settings)
    session = session_of(settings, "s-0")
    stranger = await asyncio.create_subprocess_exec("sleep", "600")
    recycled = processes.Process(stranger.pid, session.init.started)
    os.kill(session.init.pid, signal.SIGKILL)
    folder_of(settings, "s-0").write(replace(session, init=recycled))
    async with opened(settings) as backend:
        assert [one.id for one in await backend.list()] == ["s-1"]
        await until(lambda: nothing_left(settings, "s-0", session.display))
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_sessions_of_another_run_of_the_machine_are_not_adopted(settings: XSettings) -> None:
    await killed_agent(settings)
    folder = folder_of(settings, "s-0")
    state = json.loads((folder.path / "state.json").read_text())
    (folder.path / "state.json").write_text(json.dumps(state | {"boot_id": "another"}))
    async with opened(settings) as backend:
        assert [one.id for one in await backend.list()] == ["s-1"]


async def test_a_half_made_session_of_a_killed_agent_is_cleared_up(settings: XSettings) -> None:
    await killed_agent(settings)
    display = session_of(settings, "s-0").display
    (folder_of(settings, "s-0").path / "state.json").write_text("{")
    async with opened(settings) as backend:
        await until(lambda: not folder_of(settings, "s-0").path.exists())
        assert nothing_left(settings, "s-0", display)
        assert [one.id for one in await backend.list()] == ["s-1"]


async def test_sessions_outlive_an_agent_that_stops(settings: XSettings) -> None:
    backend = await XBackend.open(settings)
    made = await backend.create(spec_of(init_file="stay.sh"))
    await backend.stop()
    async with opened(settings) as later:
        assert await later.list() == [made]
