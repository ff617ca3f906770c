"""The dcv backend on a fake `dcv`: what it runs, what it understands, and what it makes of failures."""

import asyncio
import base64
import getpass
import io
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pictures

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.dcv_backend import DcvBackend
from dcvtui.api.states import SessionType
from tests.agent.fake_dcv import FakeDcv, dcv_settings
from tests.agent.x_sessions import needs_root, passable_place, script, spec_of, until

ME = getpass.getuser()
NASTY = "a 'b' \"c\"; $(touch /tmp/oops)\n`x` --gl=on | & \\ ü"


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place() as folder:
        yield folder


@pytest.fixture
def dcv(place: Path) -> FakeDcv:
    return FakeDcv(place / "dcv")


@pytest.fixture
async def backend(dcv: FakeDcv, place: Path) -> AsyncIterator[DcvBackend]:
    # Only what a test asks for is to be counted: no looks in between.
    backend = await DcvBackend.open(dcv_settings(dcv, place, poll_s=3600.0))
    await until(lambda: len(dcv.calls) == 1)
    yield backend
    await backend.stop()


async def refusal(work: object) -> BackendError:
    with pytest.raises(BackendError) as refused:
        await work  # type: ignore[misc]  # any coroutine
    return refused.value


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# ------------------------------------------------------------------ what is run


@pytest.mark.covers("S1", "S3", "G13")
async def test_a_virtual_session_is_created_with_exactly_these_arguments(
    backend: DcvBackend, dcv: FakeDcv, place: Path
) -> None:
    """Every option of a request reaches `dcv` as an argument of its own, the owner as owner and user, and
    no shell looks at a hostile name."""
    init = script(place / "init" / "desk.sh", "exit 0")
    info = await backend.create(
        replace(
            spec_of(name=NASTY, init_file="desk.sh", permissions="[permissions]\n", storage_root="%home%"),
            dcv_gl_enabled=True,
            max_concurrent_clients=2,
        )
    )
    (arguments,) = dcv.calls_of("create-session")
    permissions = str(place / "state" / "s-1" / "permissions")
    assert arguments == [
        *("create-session", "--type", "virtual", "--owner", ME, "--user", ME, "--name", NASTY),
        *("--init", str(init), "--gl", "on", "--storage-root", "%home%"),
        *("--max-concurrent-clients", "2", "--permissions-file", permissions, "s-1"),
    ]
    assert (info.name, info.max_concurrent_clients) == (NASTY, 2)
    (environment,) = (c["environment"] for c in dcv.calls if c["arguments"][0] == "create-session")
    assert environment["LC_ALL"] == "C.UTF-8"
    assert "PYTEST_CURRENT_TEST" not in environment


@pytest.mark.covers("S1")
async def test_what_was_not_asked_for_is_no_argument(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A plain request makes a plain command: no option stands for what the request leaves to the host."""
    await backend.create(spec_of(name=""))
    assert dcv.calls_of("create-session") == [
        ["create-session", "--type", "virtual", "--owner", ME, "--user", ME, "s-1"]
    ]


@pytest.mark.covers("S3")
async def test_a_console_session_has_an_owner_but_no_user(backend: DcvBackend, dcv: FakeDcv) -> None:
    """The console session is created for an owner; whose desktop it shows is not for `dcv` to say."""
    info = await backend.create(replace(spec_of(), type=SessionType.CONSOLE, dcv_gl_enabled=False))
    assert dcv.calls_of("create-session") == [
        ["create-session", "--type", "console", "--owner", ME, "--name", "cad-1", "s-1"]
    ]
    assert info.type is SessionType.CONSOLE


@pytest.mark.covers("S2")
async def test_on_windows_linux_options_are_left_out(place: Path) -> None:
    """A Windows host gets none of the options that exist on Linux only, offers the console session and
    refuses virtual ones."""
    dcv = FakeDcv(place / "dcv", is_windows=True)
    backend = await DcvBackend.open(dcv_settings(dcv, place, is_windows=True))
    try:
        probe = await backend.probe()
        assert (probe.console_allowed, probe.virtual_allowed) == (True, False)
        assert (await refusal(backend.create(spec_of()))).code is Failure.TYPE_NOT_SUPPORTED
        await backend.create(replace(spec_of(), type=SessionType.CONSOLE))
        assert dcv.calls_of("create-session") == [["create-session", "--owner", ME, "--name", "cad-1", "s-1"]]
        assert (await backend.list())[0].type is SessionType.CONSOLE
    finally:
        await backend.stop()


@pytest.mark.covers("S32")
async def test_console_and_virtual_sessions_exclude_each_other(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A second console session, or a virtual one beside it, is refused with a reason, and is not tried."""
    dcv.appear("console", type="console")
    for kind in SessionType:
        refused = await refusal(backend.create(replace(spec_of(), type=kind)))
        assert refused.code is Failure.CONSOLE_BUSY
        assert refused.message
    assert dcv.calls_of("create-session") == []


@pytest.mark.covers("S34")
async def test_a_session_name_may_have_256_characters_and_no_more(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A name of 256 characters passes; one more is refused before `dcv` is asked."""
    await backend.create(spec_of(name="n" * 256))
    assert "longer than 256" in (await refusal(backend.create(spec_of("s-2", name="n" * 257)))).message
    assert len(dcv.calls_of("create-session")) == 1


@pytest.mark.covers("S4", "S5", "G14", "G15")
@pytest.mark.parametrize("kind", ["init", "autorun"])
async def test_bad_start_files_are_refused_before_any_process_starts(
    backend: DcvBackend, dcv: FakeDcv, place: Path, kind: str
) -> None:
    """A start file that is missing, not executable, outside its folder, or reached through a link that
    leads out is refused with its name in the reason, and nothing is run."""
    folder = place / kind
    (folder / "plain.txt").write_text("no program")
    (folder / "out").symlink_to("/bin/true")
    failure = Failure.INIT_FILE_INVALID if kind == "init" else Failure.AUTORUN_FILE_INVALID
    for name in ("/bin/true", "../init/plain.txt", "out", "missing.sh", "plain.txt"):
        spec = spec_of(init_file=name) if kind == "init" else spec_of(autorun_file=name)
        refused = await refusal(backend.create(spec))
        assert refused.code is failure
        assert name in refused.message
    assert {call["arguments"][0] for call in dcv.calls} == {"list-sessions"}


@pytest.mark.covers("S33", "G14")
async def test_an_unknown_owner_is_refused_with_a_reason(backend: DcvBackend, dcv: FakeDcv) -> None:
    """An owner who is no user of the host gets no session, and the reason says so."""
    refused = await refusal(backend.create(spec_of(owner="no-such-user")))
    assert (refused.code, refused.message) == (
        Failure.OWNER_NOT_FOUND,
        "Specified user is not a local user",
    )
    assert dcv.calls_of("create-session") == []


# ------------------------------------------------------------------ when a session counts


@pytest.mark.covers("S6", "G14")
@pytest.mark.parametrize("after_s", [0.0, 0.15])
async def test_a_session_that_vanishes_after_creation_is_a_failed_creation(
    backend: DcvBackend, dcv: FakeDcv, place: Path, after_s: float
) -> None:
    """`dcv create-session` succeeds even if the desktop dies at once: that is a failure with a reason."""
    dcv.go_wrong("create-session", vanish_after_s=after_s)
    slow = await DcvBackend.open(dcv_settings(dcv, place, settle_s=1.0, poll_s=3600.0))
    refused = await refusal(slow.create(spec_of()))
    await slow.stop()
    assert refused.code is Failure.DCV_COMMAND_FAILED
    assert "ended right after its creation" in refused.message
    assert await backend.list() == []


@pytest.mark.covers("S7")
async def test_a_session_is_usable_only_with_its_display(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A creation is answered only when the session shows a display and its authority file is there; until
    then the session is not listed."""
    dcv.go_wrong("create-session", display_after_s=600)
    creation = asyncio.create_task(backend.create(spec_of()))
    await until(lambda: len(dcv.calls_of("describe-session")) > 2)
    assert await backend.list() == []
    assert not creation.done()
    dcv.change("s-1", shows_at=0)
    info = await creation
    assert await backend.list() == [info]


@pytest.mark.covers("S7")
async def test_a_display_that_never_comes_up_is_given_up_and_cleared(dcv: FakeDcv, place: Path) -> None:
    """A session without a display at the end of its time is a failure, and is closed again."""
    backend = await DcvBackend.open(dcv_settings(dcv, place, create_limit_s=1.0))
    dcv.go_wrong("create-session", display_after_s=600)
    refused = await refusal(backend.create(spec_of()))
    await backend.stop()
    assert refused.code is Failure.TIMEOUT
    assert dcv.sessions == {}
    assert dcv.calls_of("close-session") == [["close-session", "s-1"]]


async def test_a_cancelled_creation_is_undone(backend: DcvBackend, dcv: FakeDcv) -> None:
    dcv.go_wrong("create-session", display_after_s=600)
    creation = asyncio.create_task(backend.create(spec_of()))
    await until(lambda: dcv.sessions)
    creation.cancel()
    await asyncio.gather(creation, return_exceptions=True)
    assert await backend.list() == []
    await until(lambda: not dcv.sessions)


@pytest.mark.covers("G16")
async def test_autorun_runs_in_the_session_with_its_arguments(backend: DcvBackend, place: Path) -> None:
    """The autorun program is started as the owner, in the session's display, with its arguments in order."""
    told = place / "out"
    script(
        place / "autorun" / "tool.sh",
        f'printf "%s\\n" "$DISPLAY" "$USER" "$@" > {told}.new\nmv {told}.new {told}',
    )
    await backend.create(spec_of(autorun_file="tool.sh", arguments=("one", "two words", "$HOME")))
    await until(told.exists)
    assert told.read_text().splitlines() == [":1", ME, "one", "two words", "$HOME"]


@pytest.mark.covers("G16")
async def test_a_failing_autorun_fails_no_session(backend: DcvBackend, place: Path) -> None:
    """A program that ends with an error at once, or cannot even be started, leaves its session READY."""
    script(place / "autorun" / "bad.sh", "exit 3")
    broken = place / "autorun" / "broken.sh"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    for number, name in enumerate(("bad.sh", "broken.sh")):
        await backend.create(spec_of(f"s-{number}", autorun_file=name))
    assert len(await backend.list()) == 2


# ------------------------------------------------------------------ what is understood


@pytest.mark.covers("S8")
async def test_both_forms_of_time_and_missing_keys_are_read(backend: DcvBackend, dcv: FakeDcv) -> None:
    """Times with and without parts of a second, an empty last disconnection, unknown keys and missing
    ones: all are taken as they are meant."""
    dcv.appear("s-1", created_at=1_590_000_000.25, unknown={"a": 1})
    (info,) = await backend.list()
    assert info.creation_time.isoformat() == "2020-05-20T18:40:00.250000+00:00"
    assert info.last_disconnection_time is None
    dcv.change("s-1", **{"last-disconnection-time": "2020-05-20T19:00:01Z", "num-of-connections": 3})
    dcv.go_wrong("list-sessions", has_old_times=True)
    (info,) = await backend.list()
    assert info.creation_time.isoformat() == "2020-05-20T18:40:00+00:00"
    assert info.last_disconnection_time is not None
    assert info.last_disconnection_time.isoformat() == "2020-05-20T19:00:01+00:00"
    assert info.num_of_connections == 3
    dcv.go_wrong("list-sessions", without=["creation-time", "type", "name", "storage-root", "x11-display"])
    (info,) = await backend.list()
    assert (info.name, info.type, info.storage_root) == ("", SessionType.VIRTUAL, "")
    assert await backend.list() == [info]  # the time it was first seen stays


@pytest.mark.covers("S8")
async def test_a_list_without_detail_is_completed_by_describing(backend: DcvBackend, dcv: FakeDcv) -> None:
    """Old releases list ids only: each session is then described on its own."""
    for number in range(6):
        dcv.appear(f"s-{number}", owner="bo", name=f"n-{number}")
    dcv.go_wrong("list-sessions", is_bare=True)
    assert [(one.owner, one.name) for one in await backend.list()] == [("bo", f"n-{n}") for n in range(6)]
    assert len(dcv.calls_of("describe-session")) == 6


async def test_a_state_folder_that_cannot_be_tidied_hides_no_session(dcv: FakeDcv, place: Path) -> None:
    """Sessions are listed, and those made by hand noticed, whatever is wrong with the agent's own files."""
    backend = await DcvBackend.open(dcv_settings(dcv, place, poll_s=0.05))
    try:
        await until(backend.changed.is_set)
        (place / "state").write_text("no folder")
        backend.changed.clear()
        dcv.appear("by hand")
        await asyncio.wait_for(backend.changed.wait(), 30)
        assert [one.id for one in await backend.list()] == ["by hand"]
    finally:
        await backend.stop()


@pytest.mark.covers("S9")
@pytest.mark.parametrize("output", ["", "\n", "[]", " [] \n"])
async def test_an_empty_list_means_no_sessions(backend: DcvBackend, dcv: FakeDcv, output: str) -> None:
    """An empty array and no output at all both say that there are no sessions."""
    dcv.appear("s-1")
    dcv.go_wrong("list-sessions", stdout=output)
    assert await backend.list() == []


@pytest.mark.covers("S9")
@pytest.mark.parametrize(
    "output", ["Session: 's-1' (owner:ana)", "{}", '[{"name": "x"}]', "[", "null", "[1]"]
)
async def test_garbage_never_means_that_sessions_are_gone(
    backend: DcvBackend, dcv: FakeDcv, output: str
) -> None:
    """What cannot be read says nothing about the sessions: the list fails instead of being empty."""
    dcv.appear("s-1")
    dcv.go_wrong("list-sessions", stdout=output)
    refused = await refusal(backend.list())
    assert refused.code is Failure.DCV_SERVER_UNAVAILABLE
    assert "cannot be read" in refused.message
    dcv.recover()
    assert [one.id for one in await backend.list()] == ["s-1"]


async def test_more_output_than_anybody_needs_is_refused(backend: DcvBackend, dcv: FakeDcv) -> None:
    dcv.go_wrong("list-sessions", stdout=" " * 1024, repeated=40 * 1024)
    assert "more than 32 MiB" in (await refusal(backend.list())).message


async def test_version_and_endpoints_are_asked_for_once(backend: DcvBackend, dcv: FakeDcv) -> None:
    dcv.offer_endpoints(
        {
            "endpoints": [
                {"address": "*", "port": "8443", "protocol": "tcp", "web-url-path": "/desk"},
                {"address": "*", "port": 8443, "transport": "QUIC"},
                {"fingerprint": "ab:cd"},
            ]
        }
    )
    probe = await backend.probe()
    assert probe.version == "2024.0-19030"
    assert [(one.port, one.protocol, one.web_url_path) for one in probe.endpoints] == [
        (8443, "HTTP", "/desk"),
        (8443, "QUIC", None),
    ]
    assert await backend.probe() == probe
    assert len(dcv.calls_of("version")) == len(dcv.calls_of("list-endpoints")) == 1


@pytest.mark.parametrize("endpoints", [None, [], "x", [{"port": 99999}], {"deep": [[[[[{"port": 1}]]]]]}])
async def test_endpoints_that_cannot_be_read_are_the_usual_one(
    backend: DcvBackend, dcv: FakeDcv, endpoints: object
) -> None:
    dcv.offer_endpoints(endpoints)
    (endpoint,) = (await backend.probe()).endpoints
    assert (endpoint.port, endpoint.protocol, endpoint.web_url_path) == (8443, "HTTP", "/")


# ------------------------------------------------------------------ when it fails


@pytest.mark.covers("S10")
async def test_a_hanging_command_is_killed_with_its_children(dcv: FakeDcv, place: Path) -> None:
    """A `dcv` that does not end is killed at its limit, with what it started, and the agent goes on."""
    backend = await DcvBackend.open(dcv_settings(dcv, place, list_limit_s=3.0, poll_s=3600.0))
    await until(lambda: len(dcv.calls) == 1)
    dcv.go_wrong("list-sessions", hangs=True)
    refused = await refusal(backend.list())
    assert "timed out after 3 seconds" in refused.message
    assert len(dcv.hanging) == 2
    await until(lambda: not any(is_running(pid) for pid in dcv.hanging))
    dcv.recover()
    assert await backend.list() == []
    await backend.stop()


@pytest.mark.covers("S10")
async def test_a_question_given_up_leaves_no_process(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A caller that stops waiting takes the running command with it."""
    dcv.go_wrong("list-connections", hangs=True)
    question = asyncio.create_task(backend.connections("s-1"))
    await until(lambda: len(dcv.hanging) == 2)
    question.cancel()
    await asyncio.gather(question, return_exceptions=True)
    await until(lambda: not any(is_running(pid) for pid in dcv.hanging))


@pytest.mark.covers("S11")
async def test_the_commands_own_words_reach_the_operator(backend: DcvBackend, dcv: FakeDcv) -> None:
    """What `dcv` complains about is the reason: one line, at most 400 characters, no control characters."""
    dcv.go_wrong("create-session", stderr="could not\n\tcreate \x1b[31msession\x00: " + "x" * 900)
    refused = await refusal(backend.create(spec_of()))
    assert refused.code is Failure.DCV_COMMAND_FAILED
    assert refused.message.startswith("could not create [31msession : xxx")
    assert len(refused.message) == 400
    assert re.fullmatch(r"[ -~]+", refused.message)
    dcv.go_wrong("create-session", stderr="", code=7)
    assert "status 7" in (await refusal(backend.create(spec_of()))).message


@pytest.mark.covers("S12")
@pytest.mark.parametrize("words", ["ERROR: All licenses in use.", "could not start: no licenses available"])
async def test_exhausted_licences_say_so_and_let_another_server_try(
    backend: DcvBackend, dcv: FakeDcv, words: str
) -> None:
    """A host without a free licence gives one clear reason, with a code after which the broker tries
    another server."""
    from broker_stub.channel import RETRY_ELSEWHERE

    dcv.go_wrong("create-session", stderr=words)
    refused = await refusal(backend.create(spec_of()))
    assert refused.message == "All licenses in use"
    assert str(refused.code) in RETRY_ELSEWHERE


async def test_a_missing_command_is_not_healthy(place: Path, dcv: FakeDcv) -> None:
    dcv.program.unlink()
    backend = await DcvBackend.open(dcv_settings(dcv, place))
    probe = await backend.probe()
    assert not probe.healthy
    assert str(dcv.program) in probe.reason
    assert (await refusal(backend.list())).code is Failure.DCV_SERVER_UNAVAILABLE
    await backend.stop()


async def test_the_folder_of_the_command_will_do(dcv: FakeDcv, place: Path) -> None:
    backend = await DcvBackend.open(dcv_settings(dcv, place, program=dcv.program.parent))
    assert (await backend.probe()).healthy
    await backend.stop()


# ------------------------------------------------------------------ permissions


@pytest.mark.covers("S13", "G17")
async def test_permissions_are_set_in_exactly_one_of_three_ways(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A text is handed over as a file, an empty one takes everything away, and none goes back to the
    host's own."""
    await backend.create(spec_of())
    text = "[permissions]\r\nü allow display\n"
    for wanted in (text, "", None):
        await backend.set_permissions("s-1", wanted)
        assert dcv.sessions["s-1"]["permissions"] == (text.replace("\r\n", "\n") if wanted else wanted)
    modes = [call[3] for call in dcv.calls_of("set-permissions")]
    assert modes == ["--file", "--none", "--reset-builtin"]
    assert all(call[1:3] == ["--session", "s-1"] for call in dcv.calls_of("set-permissions"))


@pytest.mark.covers("S14", "G17")
async def test_permissions_files_are_private_and_go_with_their_session(
    backend: DcvBackend, dcv: FakeDcv, place: Path
) -> None:
    """The file written for `dcv` is readable by the agent's user only, and is gone when the session is:
    closed by command, or ended by itself."""
    for session_id in ("s-1", "s-2"):
        await backend.create(spec_of(session_id, permissions="[permissions]\n"))
        file = place / "state" / session_id / "permissions"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert file.stat().st_uid == os.geteuid()
    await backend.close("s-1", force=False)
    dcv.disappear("s-2")
    assert await backend.list() == []
    assert list((place / "state").iterdir()) == []


async def test_refused_permissions_say_why(backend: DcvBackend, dcv: FakeDcv) -> None:
    await backend.create(spec_of())
    dcv.go_wrong("set-permissions", stderr="line 2: unknown feature 'fly'")
    refused = await refusal(backend.set_permissions("s-1", "x"))
    assert (refused.code, refused.message) == (Failure.DCV_COMMAND_FAILED, "line 2: unknown feature 'fly'")


# ------------------------------------------------------------------ screenshots, connections


@pytest.mark.covers("S15", "G18")
async def test_screenshots_are_asked_for_with_these_arguments(backend: DcvBackend, dcv: FakeDcv) -> None:
    """A picture is asked for as JSON, in the wanted format and size, of the primary display."""
    await backend.create(spec_of())
    (image,) = await backend.screenshot("s-1", 800, 600, "jpeg")
    assert dcv.calls_of("get-screenshot") == [
        [
            "get-screenshot",
            "--json",
            "--format",
            "jpeg",
            "--max-width",
            "800",
            "--max-height",
            "600",
            "--primary",
            "s-1",
        ]
    ]
    assert (image.format, image.width, image.height, image.primary) == ("jpeg", 800, 450, True)


@pytest.mark.covers("S15")
async def test_a_picture_is_passed_on_as_it_came(backend: DcvBackend, dcv: FakeDcv) -> None:
    """The bytes of a picture are those that `dcv` printed, not drawn or packed anew."""
    await backend.create(spec_of())
    file = io.BytesIO()
    Pictures.new("RGB", (40, 30), (1, 2, 3)).save(file, "png", compress_level=0)
    answer = {"format": "png", "base64": base64.b64encode(file.getvalue()).decode()}
    dcv.go_wrong("get-screenshot", stdout=json.dumps(answer))
    (image,) = await backend.screenshot("s-1", 800, 600, "png")
    assert image.data == file.getvalue()
    assert (image.format, image.width, image.height) == ("png", 40, 30)


@pytest.mark.covers("S16", "S17")
async def test_screenshots_are_never_larger_than_the_screen(backend: DcvBackend) -> None:
    """A bound above the screen changes nothing; with one bound alone the other side follows."""
    await backend.create(spec_of())
    for width, height, size in (
        (5000, 5000, (1280, 720)),
        (640, None, (640, 360)),
        (None, 90, (160, 90)),
    ):
        (image,) = await backend.screenshot("s-1", width, height, "png")
        assert (image.width, image.height) == size


@pytest.mark.covers("S15")
@pytest.mark.parametrize(
    "fault",
    [
        {"without": ["base64"]},
        {"without": ["format"]},
        {"draws": "jpeg"},
        {"stdout": "PNG"},
        {"stdout": "[]"},
    ],
)
async def test_a_picture_that_is_none_is_refused(
    backend: DcvBackend, dcv: FakeDcv, fault: dict[str, object]
) -> None:
    """An answer without a picture, or with one of another format than it says, is no screenshot."""
    await backend.create(spec_of())
    dcv.go_wrong("get-screenshot", **fault)
    refused = await refusal(backend.screenshot("s-1", 80, 60, "png"))
    assert refused.code is Failure.DCV_COMMAND_FAILED
    assert "cannot be read" in refused.message


async def test_connections_that_cannot_be_counted_are_not_none(backend: DcvBackend, dcv: FakeDcv) -> None:
    dcv.appear("s-1", **{"num-of-connections": 2})
    assert await backend.connections("s-1") == 2
    dcv.go_wrong("list-connections", stdout="{}")
    assert "not known" in (await refusal(backend.connections("s-1"))).message


# ------------------------------------------------------------------ what happens by itself


async def test_polling_tells_what_nobody_asked_for(dcv: FakeDcv, place: Path) -> None:
    backend = await DcvBackend.open(dcv_settings(dcv, place, poll_s=0.1))
    happenings: tuple[Callable[[], None], ...] = (
        lambda: dcv.appear("by hand"),
        lambda: dcv.change("by hand", **{"num-of-connections": 1}),
        lambda: dcv.go_wrong("list-sessions", stderr="no server"),
        dcv.recover,
        lambda: dcv.disappear("by hand"),
    )
    for happens in happenings:
        await until(backend.changed.is_set)
        backend.changed.clear()
        happens()
    await until(backend.changed.is_set)
    assert await backend.list() == []
    await backend.stop()


async def test_the_limit_of_clients_is_known_after_a_restart(
    backend: DcvBackend, dcv: FakeDcv, place: Path
) -> None:
    made = await backend.create(replace(spec_of(), max_concurrent_clients=4))
    again = await DcvBackend.open(dcv_settings(dcv, place))
    assert await again.list() == [made]
    await again.stop()


async def test_ids_that_look_like_options_are_not_handed_over(backend: DcvBackend, dcv: FakeDcv) -> None:
    for work in (
        backend.close("--all", True),
        backend.connections("-j"),
        backend.screenshot("", 1, 1, "png"),
    ):
        await refusal(work)
    assert {call["arguments"][0] for call in dcv.calls} == {"list-sessions"}


@needs_root
async def test_system_users_get_no_session(dcv: FakeDcv, place: Path) -> None:
    backend = await DcvBackend.open(dcv_settings(dcv, place, minimum_uid=1000))
    refused = await refusal(backend.create(spec_of(owner="daemon")))
    assert refused.code is Failure.OWNER_NOT_FOUND
    await backend.stop()
