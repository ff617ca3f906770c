"""Which certificate each listener shows, and how a new one takes its place."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from broker_stub.broker.key_stores import pem_of
from broker_stub.broker.listener_tls import ListenerTls
from broker_stub.broker.settings_file import SettingsError, load_values
from tests.broker.test_key_stores import NOW, certificate_of, own_identity, pem_key, pkcs12_of
from tests.running import broker_values, running_broker


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def prepared(folder: Path, clock: Clock, **settings: object) -> ListenerTls:
    return ListenerTls(load_values(broker_values(folder, **settings)).settings, clock)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A listener that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, x509.Certificate]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return reader, writer, x509.load_der_x509_certificate(shown)


@pytest.mark.covers("B9")
async def test_a_renewed_certificate_is_shown_while_connections_stay_open(tmp_path: Path) -> None:
    """A renewal keeps the CA, serves new connections with the new certificate and closes no old one."""
    clock = Clock()
    tls = prepared(tmp_path, clock)
    ca = tls.ca_file.read_bytes()
    async with serving(tls.client) as port:
        reader, writer, before = await connect(port)
        clock.now += timedelta(days=336)
        assert tls.days_left()["client"] < 30
        tls.renew()
        _, new_writer, after = await connect(port)
        assert after != before
        assert after.not_valid_after_utc == clock.now + timedelta(days=365)
        assert tls.ca_file.read_bytes() == ca
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        for each in (writer, new_writer):
            each.close()
            await each.wait_closed()


@pytest.mark.covers("B10")
async def test_each_listener_can_have_its_own_store(tmp_path: Path) -> None:
    """The client listener shows the certificate of its PKCS#12 store, the others the generated one."""
    identity = own_identity()
    store = tmp_path / "store.p12"
    store.write_bytes(pkcs12_of(identity, b"secret"))
    tls = prepared(
        tmp_path / "broker",
        Clock(),
        client_to_broker_connector_key_store_file=store,
        client_to_broker_connector_key_store_pass="secret",
        enable_gateway="true",
    )
    generated = tls.files.identity().certificate
    for context, shown in (
        (tls.client, identity.certificate),
        (tls.agent, generated),
        (tls.gateway, generated),
    ):
        async with serving(context) as port:
            _, writer, found = await connect(port)
            assert found == shown
            writer.close()
            await writer.wait_closed()


async def test_a_changed_store_is_taken_and_a_damaged_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = (certificate_of(name, key) for name in ("first", "second"))
    store.write_bytes(pem_key(key) + pem_of((first,)))
    tls = prepared(tmp_path / "broker", Clock(), agent_to_broker_connector_key_store_file=store)
    rsa_key = rsa.generate_private_key(65537, 2048)
    for content, shown, said in (
        (b"damaged", first, "keeps its certificate"),
        (pem_key(key) + pem_of((second,)), second, ""),
        (pem_key(rsa_key) + pem_of((certificate_of("other", rsa_key),)), second, "another kind of key"),
    ):
        caplog.clear()
        store.write_bytes(content)
        tls.renew()
        assert said in caplog.text
        async with serving(tls.agent) as port:
            _, writer, found = await connect(port)
            assert found == shown
            writer.close()
            await writer.wait_closed()


async def test_a_ca_of_ones_own_signs_the_certificate(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    ca = certificate_of("company CA", key, is_ca=True)
    (tmp_path / "ca.pem").write_bytes(pem_of((ca,)))
    (tmp_path / "ca.key").write_bytes(pem_key(key))
    files = {"ext_tls_ca_cert_file": tmp_path / "ca.pem", "ext_tls_ca_key_file": tmp_path / "ca.key"}
    tls = prepared(tmp_path / "broker", Clock(), **files)
    assert tls.ca_file == tmp_path / "ca.pem"
    identity = tls.files.identity()
    identity.certificate.verify_directly_issued_by(ca)
    assert identity.chain == (ca,)
    assert not (tmp_path / "broker" / "security" / "dcvsmbroker_ca.pem").exists()
    again = prepared(tmp_path / "broker", Clock(), **files)
    assert again.files.identity().certificate == identity.certificate
    assert prepared(tmp_path / "broker", Clock()).files.identity().certificate != identity.certificate


async def test_a_gateway_needs_a_certificate_of_the_trust_store(tmp_path: Path) -> None:
    gateway = own_identity()
    trust = tmp_path / "trust.pem"
    trust.write_bytes(pem_of(gateway.chain))
    tls = prepared(
        tmp_path / "broker",
        Clock(),
        enable_gateway="true",
        enable_tls_client_auth_gateway="true",
        gateway_to_broker_connector_trust_store_file=trust,
    )
    assert tls.gateway.verify_mode == ssl.CERT_REQUIRED
    assert len(tls.gateway.get_ca_certs()) == 2
    assert tls.client.verify_mode == ssl.CERT_NONE


@pytest.mark.covers("B10")
async def test_a_broker_serves_with_an_own_store(tmp_path: Path) -> None:
    """A broker with a key store of its own answers API clients that trust its CA."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificate_of("localhost", key, days=(now - NOW).days + 90)
    store = tmp_path / "store.pem"
    store.write_bytes(pem_key(key) + pem_of((certificate,)))
    async with running_broker(tmp_path, client_to_broker_connector_key_store_file=store) as broker:
        port = int(broker.url.rpartition(":")[2])
        trusted = ssl.create_default_context(cadata=pem_of((certificate,)).decode())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")
        writer.close()
        await writer.wait_closed()
    store.write_bytes(b"damaged")
    with pytest.raises(SettingsError, match="neither PKCS#12 nor PEM"):
        async with running_broker(tmp_path, client_to_broker_connector_key_store_file=store):
            pass
