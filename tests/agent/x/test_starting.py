"""How X sessions start: whose they are, what runs in them, and what is refused."""

import asyncio
import io
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pictures

from broker_stub.agent import processes
from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_session import XSettings
from dcvtui.api.states import SessionType
from tests.agent.x_sessions import (
    ME,
    OTHER,
    folder_of,
    needs_root,
    needs_xvfb,
    nothing_left,
    opened,
    program_of,
    script,
    session_of,
    settings_in,
    spec_of,
    until,
)

pytestmark = needs_xvfb


needs_xterm = pytest.mark.skipif(
    not shutil.which("xterm") or "nologin" in pwd.getpwnam(ME).pw_shell,
    reason="needs xterm (apt-get install xterm) and a user with a login shell",
)


def uid_of(process: processes.Process) -> int:
    return Path(f"/proc/{process.pid}").stat().st_uid


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


@needs_root
@pytest.mark.covers("S18")
async def test_the_x_server_and_the_program_belong_to_the_owner(
    settings: XSettings, backend: XBackend
) -> None:
    """The X server of a session and the program in it run under the user id of the session's owner."""
    await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))
    session = session_of(settings)
    expected = pwd.getpwnam(OTHER).pw_uid
    assert uid_of(session.x_server) == expected
    assert uid_of(session.init) == expected


@pytest.mark.covers("S19")
async def test_ten_creations_at_once_have_ten_displays_and_ten_cookies(
    settings: XSettings, backend: XBackend
) -> None:
    """Sessions that are created at the same moment get a display and a secret of their own each."""
    ids = [f"s-{number}" for number in range(10)]
    await asyncio.gather(*(backend.create(spec_of(one, init_file="stay.sh")) for one in ids))
    assert len({session_of(settings, one).display for one in ids}) == 10
    assert len({folder_of(settings, one).authority.read_bytes() for one in ids}) == 10
    assert sorted(session.id for session in await backend.list()) == sorted(ids)


@pytest.mark.covers("S20")
async def test_the_authority_file_is_the_owners_alone_and_needed(
    settings: XSettings, backend: XBackend
) -> None:
    """Only the owner can read the secret of a display, and without it nobody gets a picture of it, not even
    root."""
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
@pytest.mark.covers("S21")
async def test_a_terminal_is_seen_in_the_screenshot_within_three_seconds(
    settings: XSettings, backend: XBackend
) -> None:
    """What the init program draws is in the screenshot three seconds after the session is usable."""
    script(settings.init_folder / "term.sh", "exec xterm -bg navy -fg yellow -e 'echo hello; exec sleep 600'")
    await backend.create(spec_of(init_file="term.sh"))
    # Three seconds of a processor of one's own: where others work as well, they last longer.
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    async with asyncio.timeout(3 * share):
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


@pytest.mark.covers("S22", "G16")
async def test_the_autorun_program_runs_as_the_owner_with_its_arguments_in_order(
    settings: XSettings, backend: XBackend, place: Path
) -> None:
    """The autorun program runs as the owner in the session's display and gets its arguments unchanged, in
    order, whatever a shell would make of them."""
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


@pytest.mark.covers("G16")
async def test_a_failing_autorun_program_does_not_fail_the_session(
    settings: XSettings, backend: XBackend
) -> None:
    """An autorun program that cannot be run is written to the session's log, and the session lives."""
    (settings.autorun_folder / "broken").write_text("#!/no/such/interpreter\n")
    (settings.autorun_folder / "broken").chmod(0o755)
    await backend.create(spec_of(init_file="stay.sh", autorun_file="broken"))
    await until(lambda: "broken" in folder_of(settings).log.tail())


@pytest.mark.covers("S6")
async def test_a_program_that_ends_at_once_is_a_failed_creation_with_its_last_words(
    settings: XSettings, backend: XBackend
) -> None:
    """A session whose program ends at once never counts as created: the reason holds its exit code and what
    it said last, and nothing of the session is left."""
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


@pytest.mark.parametrize("name", ["/bin/true", "../init/stay.sh", "sub/../stay.sh", "out", "", "C:\\x"])
@pytest.mark.covers("S4")
async def test_start_files_that_leave_their_folder_are_refused(
    settings: XSettings, backend: XBackend, name: str
) -> None:
    """Names of init and autorun files that are absolute, climb, or lead out of their folder through a link
    are refused before any process starts."""
    for folder in (settings.init_folder, settings.autorun_folder):
        (folder / "out").symlink_to("/bin/true")
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file=name))
    assert refused.value.code is Failure.INIT_FILE_INVALID
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file="stay.sh", autorun_file=name))
    assert refused.value.code is Failure.AUTORUN_FILE_INVALID
    assert not folder_of(settings).servers()


@pytest.mark.covers("S4")
async def test_an_absolute_init_file_inside_the_folder_is_taken(
    settings: XSettings, backend: XBackend
) -> None:
    """The one absolute name that is allowed is that of an init file inside its folder."""
    await backend.create(spec_of(init_file=str(settings.init_folder / "stay.sh")))


@pytest.mark.covers("S5")
async def test_a_missing_or_not_executable_file_is_named(settings: XSettings, backend: XBackend) -> None:
    """An init or autorun file that is missing or cannot be executed fails the creation with a reason that
    names it."""
    (settings.init_folder / "plain.txt").write_text("x")
    for name in ("missing.sh", "plain.txt"):
        with pytest.raises(BackendError, match=name) as refused:
            await backend.create(spec_of(init_file=name))
        assert refused.value.code is Failure.INIT_FILE_INVALID


@needs_root
@pytest.mark.covers("S5")
async def test_a_file_the_owner_cannot_execute_is_refused(settings: XSettings, backend: XBackend) -> None:
    """A file that root could execute but the owner cannot is refused with a reason that names it."""
    (settings.init_folder / "stay.sh").chmod(0o700)
    with pytest.raises(BackendError, match=f"cannot be executed by {OTHER}"):
        await backend.create(spec_of(owner=OTHER, init_file="stay.sh"))


@pytest.mark.covers("S33")
async def test_an_unknown_owner_is_refused(backend: XBackend) -> None:
    """A session for a user whom the host does not know is refused with that reason."""
    with pytest.raises(BackendError, match="Specified user is not a local user") as refused:
        await backend.create(spec_of(owner="no-such-user"))
    assert refused.value.code is Failure.OWNER_NOT_FOUND


@needs_root
@pytest.mark.covers("S33")
async def test_root_starts_nothing_for_system_users_unless_told_so(settings: XSettings) -> None:
    """A session for a system user is refused with that reason, unless the host's settings allow it."""
    async with opened(replace(settings, minimum_uid=1000)) as backend:
        with pytest.raises(BackendError, match="system user"):
            await backend.create(spec_of(owner="root", init_file="stay.sh"))


@pytest.mark.covers("S32")
async def test_console_sessions_are_refused_without_a_display_to_share(backend: XBackend) -> None:
    """A host without a display on its own screen refuses console sessions with that reason, and offers
    none."""
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


@pytest.mark.covers("S31")
async def test_the_storage_root_is_expanded_or_off(backend: XBackend) -> None:
    """The owner's home stands where the storage root says so; a folder that is not there switches storage
    off and fails nothing."""
    home = pwd.getpwnam(ME).pw_dir
    home_in_use = home if is_folder(home) else ""
    for number, (wanted, used) in enumerate(
        ((None, ""), ("%home%", home_in_use), ("%home%/no/such/folder", ""), ("relative", ""))
    ):
        spec = replace(spec_of(f"s-{number}", init_file="stay.sh"), storage_root=wanted)
        assert (await backend.create(spec)).storage_root == used


@pytest.mark.covers("S34")
async def test_a_name_has_at_most_256_characters(backend: XBackend) -> None:
    """A session's name of 256 characters arrives whole, and one of 257 is refused with that reason."""
    name = "n" * 250 + "'\";\n$x"
    assert len(name) == 256
    assert (await backend.create(spec_of(name=name, init_file="stay.sh"))).name == name
    with pytest.raises(BackendError, match="at most 256 characters"):
        await backend.create(spec_of("s-2", name="n" * 257, init_file="stay.sh"))
    assert [session.id for session in await backend.list()] == ["s-1"]


@pytest.mark.covers("S7")
async def test_a_display_that_does_not_answer_is_no_session(
    settings: XSettings, backend: XBackend, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """An X server that says it is ready but does not answer makes no session, and nothing of it stays."""
    says = "import os, sys, time; os.write(int(sys.argv[1]), b'54321\\n'); time.sleep(600)"
    script(place / "Xvfb", f'exec {sys.executable} -c "{says}" $2')
    monkeypatch.setattr("broker_stub.agent.x_programs.PATH", str(place))
    with pytest.raises(BackendError, match="display is not reachable"):
        await backend.create(spec_of(init_file="stay.sh"))
    assert await backend.list() == []
    assert nothing_left(settings, "s-1", 54_321)
