"""The entrance of a host with real Xvnc sessions: who gets in, who does not, and what is counted."""

import asyncio
import errno
import logging
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from broker_stub.agent.entrance import Entrance
from broker_stub.agent.entrance_certificate import own_certificate, server_context
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder
from broker_stub.channel import Unreachable
from tests.agent.vnc_client import RfbOverWebSocket, Screen, any_certificate, stranger, url_of, websocket
from tests.agent.x_sessions import ME, needs_xvnc, passable_place, script, settings_in, spec_of, until

pytestmark = needs_xvnc

GUEST = "a-guest"
TOKEN = "eyJ-the-secret-token"


class KnownTokens:
    """A broker that knows one token for each user, and may be out of reach."""

    def __init__(self) -> None:
        self.is_reachable = True
        self.asked: list[tuple[str, str]] = []

    async def user_of(self, session_id: str, token: str, client_address: str) -> str | None:
        if not self.is_reachable:
            raise Unreachable("The broker is away")
        self.asked.append((session_id, client_address))
        return token.removeprefix(f"{TOKEN}-of-") if token.startswith(f"{TOKEN}-of-") else None


@dataclass
class Host:
    """A host with an entrance."""

    backend: XBackend
    entrance: Entrance
    tokens: KnownTokens
    settings: XSettings

    def url(self, user: str = ME, session_id: str = "s-1") -> str:
        return url_of(self.entrance.endpoint.port, session_id, f"{TOKEN}-of-{user}")

    async def connections(self, session_id: str = "s-1") -> int:
        return await self.backend.connections(session_id)

    def folder(self, session_id: str = "s-1") -> SessionFolder:
        return SessionFolder(self.settings.state_folder.resolve() / "sessions" / session_id)

    async def until_connected(self, count: int) -> None:
        async with asyncio.timeout(10):
            while await self.connections() != count:  # noqa: ASYNC110  nothing tells of strangers
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(place: Path, **changes: object) -> AsyncIterator[Host]:
    settings = settings_in(place, server=ServerKind.XVNC, **changes)
    script(settings.init_folder / "stay.sh", "exec sleep 600")
    files = own_certificate(place, ["localhost", "127.0.0.1"], datetime.now(UTC))
    tokens = KnownTokens()
    async with AsyncExitStack() as stack:
        backend = await XBackend.open(settings)
        stack.push_async_callback(backend.stop)
        entrance = Entrance(backend.clients, tokens)
        await entrance.open("127.0.0.1", 0, server_context(*files))
        stack.push_async_callback(entrance.close)
        try:
            yield Host(backend, entrance, tokens, settings)
        finally:
            for session in await backend.list():
                await backend.close(session.id, force=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place() as place:
        yield place


@pytest.fixture
async def host(place: Path) -> AsyncIterator[Host]:
    async with running(place) as host:
        yield host


async def refused(url: str) -> tuple[int, str]:
    """The status and the sentence with which an entrance sends a client away."""
    with pytest.raises(InvalidStatus) as refusal:
        async with websocket(url):
            pass
    response = refusal.value.response
    return response.status_code, (response.body or b"").decode()


# ------------------------------------------------------------------ coming in


async def test_a_good_token_leads_to_the_sessions_screen(host: Host) -> None:
    await host.backend.create(spec_of(name="wind tunnel", init_file="stay.sh"))
    async with websocket(host.url()) as client:
        assert client.connection.subprotocol == "binary"
        screen = await client.handshake()
    assert (screen.width, screen.height) == (800, 600)
    assert "wind tunnel" in screen.name
    assert host.tokens.asked == [("s-1", "127.0.0.1")]


async def test_a_token_that_the_broker_refuses_opens_nothing(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    status, sentence = await refused(url_of(host.entrance.endpoint.port, "s-1", "guess"))
    assert (status, sentence) == (403, "The token is not valid for this session.\n")
    assert await host.connections() == 0


async def test_a_broker_out_of_reach_is_said_and_lets_nobody_in(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    host.tokens.is_reachable = False
    status, sentence = await refused(host.url())
    assert (status, "try again later" in sentence) == (503, True)


async def test_a_session_that_is_not_here_is_not_found(host: Host) -> None:
    assert (await refused(host.url(session_id="elsewhere")))[0] == 404


async def test_what_is_no_visit_gets_a_plain_answer(host: Host) -> None:
    port = host.entrance.endpoint.port
    base = f"https://127.0.0.1:{port}"
    async with httpx.AsyncClient(verify=any_certificate(), base_url=base, trust_env=False) as client:
        page = await client.get("/", params={"authToken": "x"})
        assert (page.status_code, "no web page" in page.text) == (426, True)
        assert (await client.get("/elsewhere")).status_code == 404
    wss = f"wss://127.0.0.1:{port}"
    for address in (
        "/",
        "/?authToken=x",
        "/?sessionId=s-1",
        "/?authToken=%ff&sessionId=s-1",
        "/?" + "&a" * 50,
    ):
        assert (await refused(wss + address))[0] == 400
    assert not host.tokens.asked


async def test_no_token_is_in_the_log_at_any_level(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Not even with everything logged does a connection token reach the agent's log."""
    caplog.set_level(logging.DEBUG)
    await host.backend.create(spec_of(init_file="stay.sh"))
    async with websocket(host.url()) as client:
        await client.handshake()
    await refused(host.url(user=GUEST))
    await refused(url_of(host.entrance.endpoint.port, "s-1", TOKEN))
    # A client's own library may log what it likes; those records are of this test.
    said = [record.getMessage() for record in caplog.records if record.name != "websockets.client"]
    assert any("came in" in line for line in said)
    assert not any(TOKEN in line for line in said)


async def test_a_renewed_certificate_is_shown_to_the_next_one_who_comes(host: Host, place: Path) -> None:
    """Who is inside stays; a pair of files that do not fit together changes nothing."""
    await host.backend.create(spec_of(init_file="stay.sh"))
    certificate, key = place / "entrance.pem", place / "entrance.key"
    first = ssl.create_default_context(cafile=certificate)
    async with websocket(host.url(), first) as inside:
        await inside.handshake()
        kept = key.read_bytes()
        certificate.unlink()
        own_certificate(place, ["localhost", "127.0.0.1"], datetime.now(UTC))
        renewed = key.read_bytes()
        key.write_bytes(kept)
        async with websocket(host.url(), first) as client:
            await client.handshake()
        key.write_bytes(renewed)
        async with websocket(host.url(), ssl.create_default_context(cafile=certificate)) as client:
            await client.handshake()
        await host.until_connected(1)
        assert await (await inside.connection.ping()) >= 0


@pytest.mark.parametrize(("message", "code"), [("text", 1003), (b"x" * 2_000_000, 1009)])
async def test_what_is_no_rfb_message_ends_the_visit(host: Host, message: str | bytes, code: int) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    async with websocket(host.url()) as client:
        await client.handshake()
        await client.connection.send(message)
        with pytest.raises(ConnectionClosed):
            while True:
                await client.read(1)
        assert client.connection.close_code == code
    await host.until_connected(0)


async def test_a_guest_whose_input_cannot_be_checked_is_shown_out(host: Host) -> None:
    looks = f"[permissions]\n%owner% allow builtin\n{GUEST} allow display\n"
    await host.backend.create(spec_of(init_file="stay.sh", permissions=looks))
    async with websocket(host.url(user=GUEST)) as guest:
        await guest.handshake()
        await guest.write(b"\x99 no message that anybody knows")
        with pytest.raises(ConnectionClosed):
            while True:
                await guest.read(1)
        assert guest.connection.close_code == 1008
    await host.until_connected(0)


async def test_strangers_at_the_door_do_not_keep_others_out(host: Host) -> None:
    """Connections that say nothing, half a request or nonsense cost nobody else anything."""
    await host.backend.create(spec_of(init_file="stay.sh"))
    port = host.entrance.endpoint.port
    links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
    try:
        for link, words in zip(
            links, (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", os.urandom(64)) * 10, strict=True
        ):
            with suppress(OSError):
                link.sendall(words)
        async with websocket(host.url()) as client:
            await client.handshake()
    finally:
        for link in links:
            link.close()


async def test_a_full_host_takes_nobody_more(place: Path) -> None:
    async with running(place) as host:
        host.entrance._most_clients = 1
        await host.backend.create(spec_of(init_file="stay.sh"))
        await host.backend.create(spec_of("s-2", init_file="stay.sh"))
        async with websocket(host.url()) as client:
            await client.handshake()
            assert (await refused(host.url(session_id="s-2")))[0] == 503
        await host.until_connected(0)
        async with websocket(host.url(session_id="s-2")) as client:
            await client.handshake()


# ------------------------------------------------------------------ permissions


async def test_only_who_may_see_the_display_gets_in(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    status, sentence = await refused(host.url(user=GUEST))
    assert (status, "permissions" in sentence) == (403, True)
    text = f"[permissions]\n%owner% allow builtin\n{GUEST} allow display\n"
    await host.backend.set_permissions("s-1", text)
    async with websocket(host.url(user=GUEST)) as client:
        await client.handshake()


async def test_taking_the_display_away_ends_the_visit_and_no_other(host: Host) -> None:
    text = f"[permissions]\n%owner% allow builtin\n{GUEST} allow display\n"
    await host.backend.create(spec_of(init_file="stay.sh", permissions=text))
    async with websocket(host.url()) as owner, websocket(host.url(user=GUEST)) as guest:
        await owner.handshake()
        await guest.handshake()
        await host.backend.set_permissions("s-1", None)
        with pytest.raises(ConnectionClosed) as closed:
            await guest.read(1)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, "permissions" in closed.value.rcvd.reason) == (1008, True)
        await host.until_connected(1)
        await owner.write(b"\x03\x00" + bytes(8))  # still served
        assert await (await owner.connection.ping()) >= 0
    assert (await refused(host.url(user=GUEST)))[0] == 403


async def test_an_empty_permissions_file_keeps_the_owner_out_too(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh", permissions=""))
    assert (await refused(host.url()))[0] == 403


@pytest.mark.skipif(not shutil.which("xterm"), reason="xterm is missing: apt-get install xterm")
async def test_who_may_only_look_cannot_type(host: Host, place: Path) -> None:
    """The keys of a guest without the permission for the keyboard reach no program; those of the owner do,
    and so do the guest's as soon as the permission is given, without connecting again."""
    written = host.settings.init_folder / "written"
    read = f'while read -r line; do echo "$line" >> {written}; done'
    script(host.settings.init_folder / "term.sh", f"exec xterm -geometry 200x60+0+0 -e sh -c '{read}'")
    guest_looks = f"[permissions]\n%owner% allow builtin\n{GUEST} allow display\n"
    await host.backend.create(spec_of(init_file="term.sh", permissions=guest_looks))
    async with websocket(host.url()) as owner, websocket(host.url(user=GUEST)) as guest:
        await owner.handshake()
        await guest.handshake()
        # Over the terminal: without a window manager keys go where the pointer is.
        await owner.point(200, 200)
        await until_typed(owner, "b", written)
        await guest.type("a\r")
        await owner.type("c\r")
        await until(lambda: "c" in written.read_text())
        assert "a" not in written.read_text()
        await host.backend.set_permissions("s-1", guest_looks + f"{GUEST} allow keyboard\n")
        await until_typed(guest, "d", written)


async def until_typed(client: RfbOverWebSocket, letter: str, written: Path) -> None:
    """Type a line until a program has read it: at first there may be none yet."""

    def is_there() -> bool:
        return written.exists() and letter in written.read_text()

    async with asyncio.timeout(30):
        while not is_there():
            await client.type(f"{letter}\r")
            await asyncio.sleep(0.2)


# ------------------------------------------------------------------ counting


@pytest.mark.covers("S30")
async def test_connections_are_counted_limited_and_their_end_is_noted(host: Host) -> None:
    """The number of connections follows clients as they come and go, one more than the session may have
    is turned away, and the time at which somebody left is kept, over a restart of the agent too."""
    await host.backend.create(replace(spec_of(init_file="stay.sh"), max_concurrent_clients=2))
    assert await host.connections() == 0
    async with websocket(host.url()) as first:
        await first.handshake()
        assert await host.connections() == 1
        async with websocket(host.url()) as second:
            await second.handshake()
            assert await host.connections() == 2
            status, sentence = await refused(host.url())
            assert (status, sentence) == (503, "The session has as many clients as it may have: 2.\n")
            (session,) = await host.backend.list()
            assert (session.num_of_connections, session.last_disconnection_time) == (2, None)
            host.backend.changed.clear()
            before = datetime.now(UTC)
        await asyncio.wait_for(host.backend.changed.wait(), 10)
        (session,) = await host.backend.list()
        assert session.num_of_connections == 1
        assert session.last_disconnection_time is not None
        assert before <= session.last_disconnection_time <= datetime.now(UTC)
        # Who comes back at once is not turned away because the X server has not looked yet.
        async with websocket(host.url()) as third:
            await third.handshake()
    await host.until_connected(0)
    left = (await host.backend.list())[0].last_disconnection_time
    later = await XBackend.open(host.settings)
    assert (await later.list())[0].last_disconnection_time == left
    await later.stop()


@pytest.mark.parametrize("limited", ["session", "host"])
async def test_clients_that_come_at_once_do_not_pass_the_limit_together(host: Host, limited: str) -> None:
    most = 1 if limited == "session" else None
    await host.backend.create(replace(spec_of(init_file="stay.sh"), max_concurrent_clients=most))
    if limited == "host":
        host.entrance._most_clients = 1

    async def come() -> Screen | None:
        try:
            async with websocket(host.url()) as client:
                screen = await client.handshake()
                await tried.wait()
                return screen
        except InvalidStatus as refusal:
            assert refusal.response.status_code == 503
            return None

    tried = asyncio.Event()
    comers = [asyncio.create_task(come()) for _ in range(6)]
    await until(lambda: sum(comer.done() for comer in comers) == 5, 20)
    tried.set()
    assert sum(screen is not None for screen in await asyncio.gather(*comers)) == 1


async def test_a_full_disk_keeps_nobody_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the number of clients cannot be written down, they are counted all the same."""
    await host.backend.create(spec_of(init_file="stay.sh"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SessionFolder, "write", full)
    async with websocket(host.url()) as client:
        await client.handshake()
        assert (await host.backend.list())[0].num_of_connections == 1
    await host.until_connected(0)


async def test_a_client_past_the_entrance_counts_too(host: Host) -> None:
    await host.backend.create(replace(spec_of(init_file="stay.sh"), max_concurrent_clients=1))
    _, writer = await stranger(host.folder().rfb_socket)
    await host.until_connected(1)
    assert (await refused(host.url()))[0] == 503
    writer.close()
    await writer.wait_closed()
    await host.until_connected(0)
    assert (await host.backend.list())[0].last_disconnection_time is not None


# ------------------------------------------------------------------ ends


async def test_the_end_of_a_session_ends_its_visits(host: Host) -> None:
    await host.backend.create(spec_of(init_file="stay.sh"))
    async with websocket(host.url()) as client:
        await client.handshake()
        await host.backend.close("s-1", force=True)
        with pytest.raises(ConnectionClosed):
            while True:
                await client.read(1)
    assert not host.folder().path.exists()


async def test_sessions_outlive_the_entrance_and_clients_are_told(place: Path) -> None:
    async with running(place) as host:
        await host.backend.create(spec_of(init_file="stay.sh"))
        async with websocket(host.url()) as client:
            await client.handshake()
            await host.entrance.close()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.read(1)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        (session,) = await host.backend.list()
        assert (session.num_of_connections, session.last_disconnection_time is None) == (0, False)


async def test_another_socket_in_the_place_of_the_servers_is_not_used(host: Host) -> None:
    """The owner of a session can put what he likes into its folder, but not lead its clients elsewhere."""
    await host.backend.create(spec_of(init_file="stay.sh"))
    await host.backend.create(spec_of("s-2", init_file="stay.sh"))
    own = host.folder().rfb_socket
    own.unlink()
    own.symlink_to(host.folder("s-2").rfb_socket)
    assert (await refused(host.url()))[0] == 502


async def test_a_session_on_xvfb_takes_no_clients(place: Path) -> None:
    async with running(place) as host:
        plain = await XBackend.open(replace(host.settings, server=ServerKind.XVFB))
        await plain.create(spec_of(init_file="stay.sh"))
        await plain.stop()
        adopting = await XBackend.open(host.settings)
        host.entrance._reception = adopting.clients
        assert (await refused(host.url()))[0] == 501
        await adopting.close("s-1", force=True)
        await adopting.stop()
