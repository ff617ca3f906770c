"""What was typed for a broker is tested against real ones, in the order in which they could harm."""

import asyncio
import contextlib
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcvtui.broker_check import BrokerCheck, BrokerEntry, Step, broker_url
from dcvtui.client import BrokerClient
from dcvtui.config import Files, Options, resolve
from dcvtui.errors import ConfigError
from dcvtui.profiles import Profile, read_profiles, save_profile
from dcvtui.trust import fingerprint_of
from tests.awkward_broker import Asked, AwkwardBroker, awkward_broker, reply
from tests.running import RunningBroker, running_broker


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


async def page_of_html(_asked: Asked) -> bytes:
    return reply(content=b"<html><title>Printer</title></html>")


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[AwkwardBroker]:
    """A server with a certificate that it signed itself, and that is no broker."""
    async with awkward_broker(tmp_path, page_of_html) as server:
        server.token_answer = page_of_html
        yield server


@pytest.fixture
def check(tmp_path: Path) -> BrokerCheck:
    return BrokerCheck(tmp_path / "dcvtui" / "profiles.toml")


def entry_for(broker: RunningBroker, **fields: str) -> BrokerEntry:
    address = broker.url.removeprefix("https://")
    return replace(BrokerEntry(address, broker.client_id, broker.client_secret), **fields)


async def steps_of(check: BrokerCheck, entry: BrokerEntry) -> list[Step]:
    return [step async for step in check.steps(entry)]


def done(steps: list[Step]) -> list[str]:
    return [step.name for step in steps if step.is_done]


def certificate_fingerprint(pem_file: Path) -> str:
    """Of the first certificate in the file; what signed it follows."""
    first, end, _ = pem_file.read_text().partition("-----END CERTIFICATE-----")
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(first + end))


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("broker.example", "https://broker.example:8443"),
        (" broker.example:443 ", "https://broker.example:443"),
        ("broker.example:", "https://broker.example:8443"),
        ("broker.example/api", "https://broker.example:8443/api"),
        ("[::1]", "https://[::1]:8443"),
        ("https://broker.example/", "https://broker.example"),
        ("https://broker.example:9000", "https://broker.example:9000"),
    ],
)
def test_an_address_is_taken_as_people_type_it(typed: str, url: str) -> None:
    assert broker_url(typed) == url


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "is empty"),
        ("http://broker.example", "begins with http://"),
        ("broker.example:port", "is not a URL"),
        ("two words", "is not a URL"),
        ("me:pw@broker.example", "holds a user or password"),
    ],
)
async def test_what_is_no_address_fails_before_anything_is_asked(
    check: BrokerCheck, typed: str, words: str
) -> None:
    [step] = await steps_of(check, BrokerEntry(typed, "id", "secret"))
    assert (step.name, step.is_done) == ("name", False)
    assert words in step.text


# ------------------------------------------------------------------ name and reach


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a..b", "x" * 64 + ".example"])
async def test_a_name_without_an_address_says_so(check: BrokerCheck, host: str) -> None:
    [step] = await steps_of(check, BrokerEntry(host, "id", "secret"))
    assert step == Step(
        "name",
        is_done=False,
        text=f"no address is known for '{host}'. Check the spelling and the DNS settings.",
    )


async def test_a_name_is_shown_with_what_it_stands_for(check: BrokerCheck, running: RunningBroker) -> None:
    address = running.url.replace("127.0.0.1", "localhost")
    first, *_ = await steps_of(check, entry_for(running, address=address))
    assert first.is_done
    assert "127.0.0.1" in first.text


async def test_a_refused_port_says_so(check: BrokerCheck) -> None:
    steps = await steps_of(check, BrokerEntry("127.0.0.1:9", "id", "secret"))
    assert done(steps) == ["name"]
    assert steps[-1].name == "reach"
    assert steps[-1].text.startswith("connection refused. Check that the broker runs.")


@contextlib.asynccontextmanager
async def plain_server(answer: bytes | None) -> AsyncIterator[str]:
    """A server without TLS: answers whatever comes with the bytes given, or never."""

    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                if answer is not None:
                    writer.write(answer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in serving if task))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there does not speak TLS"),
        (None, "the connection ended before TLS began"),
    ],
)
async def test_a_server_without_tls_says_so(tmp_path: Path, answer: bytes | None, words: str) -> None:
    check = BrokerCheck(tmp_path / "profiles.toml", deadline_s=0.3)
    async with plain_server(answer) as address:
        steps = await steps_of(check, BrokerEntry(address, "id", "secret"))
    assert done(steps) == ["name", "reach"]
    assert steps[-1].name == "TLS"
    assert steps[-1].text.startswith(words)
    assert steps[-1].fingerprint == ""


# ------------------------------------------------------------------ trust


async def test_a_broker_with_its_own_ca_offers_the_ca(check: BrokerCheck, running: RunningBroker) -> None:
    steps = await steps_of(check, entry_for(running))
    assert done(steps) == ["name", "reach"]
    fingerprint = certificate_fingerprint(running.ca_file)
    assert steps[-1].fingerprint == fingerprint
    lines = steps[-1].text.splitlines()
    assert lines[0] == "signed by an unknown CA."
    assert lines[1].startswith("  CN=Session Manager Broker CA ")
    assert lines[2].startswith("  valid until 20")
    assert "SHA256:" + lines[4].strip() + lines[5].strip() == fingerprint
    assert lines[-1] == "    -in /var/lib/dcvsmbroker/security/dcvsmbroker_ca.pem"
    assert max(map(len, lines)) <= 69, "what fits beside each other at 80 columns"


async def test_an_accepted_ca_becomes_the_profiles_ca_file(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path
) -> None:
    entry = entry_for(running, fingerprint=certificate_fingerprint(running.ca_file))
    steps = await steps_of(check, entry)
    assert steps[-1] == Step("API", is_done=True, text="0 servers")
    assert done(steps) == ["name", "reach", "TLS", "token", "API"]
    assert await check.save(entry) == f"Saved in {tmp_path}/dcvtui/ (0600)."
    kept = tmp_path / "dcvtui" / "127.0.0.1_ca.pem"
    assert ssl.PEM_cert_to_DER_cert(kept.read_text()) == ssl.PEM_cert_to_DER_cert(running.ca_file.read_text())
    for path in kept.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    [profile] = read_profiles(tmp_path / "dcvtui" / "profiles.toml").profiles.values()
    assert profile == Profile(
        "127.0.0.1", running.url, running.client_id, running.client_secret, ca_file=kept
    )


async def test_what_was_saved_is_what_the_program_starts_with(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path
) -> None:
    entry = entry_for(running, fingerprint=certificate_fingerprint(running.ca_file))
    await steps_of(check, entry)
    await check.save(entry)
    files = Files(tmp_path / "dcvtui" / "profiles.toml", tmp_path / "none.conf")
    async with BrokerClient.to(resolve(Options(), {}, files)) as client:
        assert (await client.describe_servers_page())["Servers"] == []


async def test_only_its_own_certificate_offered_is_pinned_and_nothing_sent_before(
    check: BrokerCheck, stranger: AwkwardBroker, tmp_path: Path
) -> None:
    async def pages(_asked: Asked) -> bytes:
        return reply({"Servers": [{}], "NextToken": "t"})

    stranger.answer, stranger.token_answer = pages, None
    entry = BrokerEntry(stranger.url, "id", "s3cret")
    steps = await steps_of(check, entry)
    fingerprint = certificate_fingerprint(stranger.ca_file)
    assert (steps[-1].name, steps[-1].fingerprint) == ("TLS", fingerprint)
    assert steps[-1].text.startswith("signed by itself.\n  CN=localhost\n  valid until ")
    assert "openssl s_client -connect localhost:" in steps[-1].text
    assert (stranger.token_requests, stranger.asked) == ([], [])
    entry = replace(entry, fingerprint=fingerprint)
    steps = await steps_of(check, entry)
    assert steps[-1] == Step("API", is_done=True, text="more than 1 server")
    await check.save(entry)
    profile = read_profiles(tmp_path / "dcvtui" / "profiles.toml").profiles["127.0.0.1"]
    assert (profile.fingerprint, profile.ca_file) == (fingerprint, None)


async def test_a_ca_that_does_not_vouch_for_the_address_is_not_kept(
    check: BrokerCheck, tmp_path: Path
) -> None:
    """The certificate names this host's addresses; 127.0.0.2 reaches it and is none of them."""
    async with running_broker(tmp_path, client_to_broker_connector_bind_host="127.0.0.2") as broker:
        leaf = certificate_fingerprint(tmp_path / "broker" / "security" / "dcvsmbroker.pem")
        address = broker.url.rpartition(":")[2]
        entry = entry_for(broker, address=f"127.0.0.2:{address}")
        steps = await steps_of(check, entry)
        assert steps[-1].text.startswith(
            "signed by an unknown CA, and made for another name than this address.\n"
            "  CN=Session Manager Broker\n  valid until "
        )
        assert steps[-1].fingerprint == leaf
        assert done(await steps_of(check, replace(entry, fingerprint=leaf)))[-1] == "API"
        by_file = await steps_of(check, replace(entry, ca_file=str(broker.ca_file)))
        assert by_file[-1].text.startswith("by the CA file given it is made for another name")
        assert by_file[-1].fingerprint == ""


async def test_another_certificate_than_the_accepted_one_is_asked_for_again(
    check: BrokerCheck, stranger: AwkwardBroker
) -> None:
    old = "SHA256:" + ":".join(["0A"] * 32)
    steps = await steps_of(check, BrokerEntry(stranger.url, "id", "s3cret", fingerprint=old))
    assert steps[-1].fingerprint == certificate_fingerprint(stranger.ca_file)
    assert stranger.token_requests == []


async def test_a_ca_file_is_enough_and_kept_where_it_is(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = entry_for(running, ca_file=str(running.ca_file.relative_to(tmp_path)))
    assert done(await steps_of(check, entry))[-1] == "API"
    await check.save(entry)
    profile = read_profiles(tmp_path / "dcvtui" / "profiles.toml").profiles["127.0.0.1"]
    assert (profile.ca_file, profile.fingerprint) == (running.ca_file, None)


async def test_a_ca_file_of_another_or_none_says_so(
    check: BrokerCheck, running: RunningBroker, stranger: AwkwardBroker
) -> None:
    steps = await steps_of(check, entry_for(running, ca_file=str(stranger.ca_file)))
    assert steps[-1] == Step(
        "TLS",
        is_done=False,
        text="by the CA file given it is signed by an unknown CA. Correct the file, or empty the field to "
        "compare a fingerprint instead.",
    )
    steps = await steps_of(check, entry_for(running, ca_file="~/none.pem"))
    assert "none.pem' does not exist" in steps[-1].text


async def test_a_broker_that_the_system_trusts_asks_nothing(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca_file))
    entry = entry_for(running)
    assert done(await steps_of(check, entry))[-1] == "API"
    await check.save(entry)
    profile = read_profiles(tmp_path / "dcvtui" / "profiles.toml").profiles["127.0.0.1"]
    assert (profile.ca_file, profile.fingerprint) == (None, None)


# ------------------------------------------------------------------ token and API


async def test_a_wrong_secret_says_so(check: BrokerCheck, running: RunningBroker) -> None:
    entry = entry_for(running, ca_file=str(running.ca_file), secret="wrong")
    steps = await steps_of(check, entry)
    assert done(steps) == ["name", "reach", "TLS"]
    assert steps[-1].name == "token"
    assert steps[-1].text.startswith("wrong client id or secret. The broker's `register-api-client`")
    with pytest.raises(ValueError, match="passed"):
        await check.save(entry)


async def test_what_is_not_a_broker_says_so(check: BrokerCheck, stranger: AwkwardBroker) -> None:
    entry = BrokerEntry(stranger.url, "id", "s3cret", ca_file=str(stranger.ca_file))
    steps = await steps_of(check, entry)
    assert steps[-1].name == "token"
    assert 'a page of HTML ("Printer"), which no broker does' in steps[-1].text
    stranger.token_answer = None
    steps = await steps_of(check, entry)
    assert (done(steps)[-1], steps[-1].name) == ("token", "API")
    assert "which no broker does" in steps[-1].text


# ------------------------------------------------------------------ keeping


async def test_another_broker_of_that_name_keeps_its_profile(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path
) -> None:
    path = tmp_path / "dcvtui" / "profiles.toml"
    save_profile(path, Profile("127.0.0.1", "https://127.0.0.1:1", "other", "secret"))
    entry = entry_for(running, ca_file=str(running.ca_file))
    await steps_of(check, entry)
    await check.save(entry)
    found = read_profiles(path)
    assert found.profiles["127.0.0.1"].client_id == "other"
    assert found.default == running.url.removeprefix("https://")


async def test_a_file_that_cannot_be_written_is_one_sentence(
    check: BrokerCheck, running: RunningBroker, tmp_path: Path
) -> None:
    (tmp_path / "dcvtui" / "127.0.0.1_ca.pem").mkdir(parents=True)
    entry = entry_for(running, fingerprint=certificate_fingerprint(running.ca_file))
    await steps_of(check, entry)
    with pytest.raises(ConfigError, match="could not be saved in"):
        await check.save(entry)


def test_the_secret_is_in_no_representation() -> None:
    assert "s3cret" not in repr(BrokerEntry("a", "b", "s3cret"))
