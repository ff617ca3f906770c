"""Key stores and trust stores of an administrator: what opens, what is shown, what is refused and how."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from broker_stub.broker.key_stores import (
    Identity,
    KeyStoreError,
    pem_of,
    problems_of,
    read_ca,
    read_identity,
    read_trusted,
)
from broker_stub.broker.listener_tls import server_context

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def certificate_of(
    subject: str,
    key: Key,
    issuer: str = "",
    issuer_key: Key | None = None,
    *,
    is_ca: bool = False,
    days: int = 90,
) -> x509.Certificate:
    """A certificate for a test, signed by itself unless an issuer is named."""
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer or subject)
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=100))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(issuer_key or key, hashes.SHA256())
    )


def own_identity(key: Key | None = None) -> Identity:
    """A certificate with an intermediate and a root above it."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    root_key, middle_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate_of("root", root_key, is_ca=True)
    middle = certificate_of("middle", middle_key, "root", root_key, is_ca=True)
    return Identity(key, certificate_of("broker", key, "middle", middle_key), (middle, root))


def pem_key(key: Key, password: bytes | None = None) -> bytes:
    secured = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secured)


def pkcs12_of(identity: Identity, password: bytes | None) -> bytes:
    secured = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = identity.key
    assert isinstance(key, Key)
    return pkcs12.serialize_key_and_certificates(
        b"broker", key, identity.certificate, list(identity.chain), secured
    )


@pytest.mark.covers("B10")
@pytest.mark.parametrize("suffix", ["p12", "jks", "pem", "store"])
def test_stores_are_recognised_by_their_content(tmp_path: Path, suffix: str) -> None:
    """PKCS#12 and PEM key stores open whatever their suffix, and keep the chain in order."""
    identity = own_identity()
    path = tmp_path / f"store.{suffix}"
    path.write_bytes(pkcs12_of(identity, b"secret"))
    assert read_identity(path, "secret", NOW).certificate == identity.certificate
    assert read_identity(path, "secret", NOW).chain == identity.chain
    key = identity.key
    assert isinstance(key, Key)
    for content in (
        pem_key(key) + pem_of((identity.certificate, *identity.chain)),
        pem_of((*identity.chain, identity.certificate)) + pem_key(key, b"secret"),
        b"Bag Attributes\n" + pem_of(identity.chain) + pem_key(key) + pem_of((identity.certificate,)),
    ):
        path.write_bytes(content)
        found = read_identity(path, "secret", NOW)
        assert (found.certificate, found.chain) == (identity.certificate, identity.chain)


@pytest.mark.parametrize("password", [None, b""])
def test_a_store_without_a_password_opens(tmp_path: Path, password: bytes | None) -> None:
    path = tmp_path / "store.p12"
    path.write_bytes(pkcs12_of(own_identity(), password))
    assert read_identity(path, None, NOW)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_an_identity_is_shown_and_leaves_no_key_behind(tmp_path: Path, key: Key) -> None:
    context = server_context()
    own_identity(key).load_into(context, tmp_path)
    assert not list(tmp_path.iterdir())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.covers("B10")
def test_what_is_wrong_with_a_store_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    """Wrong password, missing key, foreign or expired certificate are told apart; no password is shown."""
    identity = own_identity()
    other = ec.generate_private_key(ec.SECP256R1())
    store, bundle = tmp_path / "store.p12", tmp_path / "bundle.pem"
    store.write_bytes(pkcs12_of(identity, b"right"))
    key = identity.key
    assert isinstance(key, Key)
    cases = [
        (store, "wr0ng", None, "the password is wrong"),
        (store, None, None, "it needs a password"),
        (bundle, "wr0ng", pem_key(key, b"right") + pem_of((identity.certificate,)), "the password is wrong"),
        (bundle, None, pem_key(key, b"right") + pem_of((identity.certificate,)), "needs a password"),
        (bundle, None, pem_of((identity.certificate,)), "holds no private key"),
        (bundle, None, pem_key(other) + pem_of((identity.certificate,)), "no certificate of its private key"),
        (
            bundle,
            None,
            pem_key(other) + pem_of((certificate_of("x", other, days=-1),)),
            "expired since 2026-02-28",
        ),
        (bundle, None, b"hello", "neither PKCS#12 nor PEM"),
        (bundle, None, b"\x30\x82\x01", "damaged"),
        (bundle, None, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is damaged"),
        (tmp_path / "nothing", None, None, "No such file"),
    ]
    for path, password, content, reason in cases:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(KeyStoreError) as caught:
            read_identity(path, password, NOW)
        assert reason in str(caught.value)
        assert str(path) in str(caught.value)
        assert "wr0ng" not in str(caught.value)


@pytest.mark.covers("B10")
@pytest.mark.skipif(not shutil.which("keytool"), reason="needs keytool, which comes with Java")
def test_javas_own_format_ends_in_the_conversion_that_works(tmp_path: Path) -> None:
    """A JKS key store is answered with a keytool line, and what that line makes opens."""
    path = tmp_path / "store.jks"
    make = "-genkeypair -alias broker -keyalg RSA -keysize 2048 -dname CN=broker -validity 90 -storetype JKS"
    secret = ["-storepass", "secret", "-keypass", "secret"]
    subprocess.run(["keytool", *make.split(), "-keystore", path, *secret], check=True, capture_output=True)
    with pytest.raises(KeyStoreError) as caught:
        read_identity(path, "secret", datetime.now(UTC))
    command = str(caught.value).partition("convert it: ")[2].split()
    assert command[:2] == ["keytool", "-importkeystore"]
    passwords = ["-srcstorepass", "secret", "-deststorepass", "secret"]
    subprocess.run([*command, *passwords], check=True, capture_output=True)
    assert read_identity(tmp_path / "store.jks.p12", "secret", datetime.now(UTC)).certificate


def test_trust_stores_hold_cas_without_keys(tmp_path: Path) -> None:
    ca, other = own_identity().chain
    path = tmp_path / "trust"
    path.write_bytes(pem_of((ca, other)))
    assert read_trusted(path, None) == (ca, other)
    path.write_bytes(
        pkcs12.serialize_java_truststore(
            [pkcs12.PKCS12Certificate(ca, b"ca")], serialization.BestAvailableEncryption(b"secret")
        )
    )
    assert read_trusted(path, "secret") == (ca,)
    path.write_bytes(pem_key(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(KeyStoreError, match="holds no certificate"):
        read_trusted(path, None)


def test_a_ca_of_ones_own_must_be_one(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    files = tmp_path / "ca.pem", tmp_path / "ca.key"
    files[1].write_bytes(pem_key(key))
    for is_ca, days, reason in ((False, 90, "of no CA"), (True, -1, "expired"), (True, 90, "")):
        files[0].write_bytes(pem_of((certificate_of("ca", key, is_ca=is_ca, days=days),)))
        if reason:
            with pytest.raises(KeyStoreError, match=reason):
                read_ca(*files, NOW)
    assert read_ca(*files, NOW).key
    files[1].write_bytes(pem_key(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(KeyStoreError, match="does not hold the private key"):
        read_ca(*files, NOW)


def test_only_stores_that_are_used_are_looked_at(tmp_path: Path) -> None:
    values = {
        "gateway-to-broker-connector-key-store-file": "/nothing.p12",
        "gateway-to-broker-connector-trust-store-file": "/nothing.pem",
    }
    assert problems_of(values, NOW) == []
    values |= {"enable-gateway": "true", "enable-tls-client-auth-gateway": "TRUE"}
    assert len(problems_of(values, NOW)) == 2
    values |= {"client-to-broker-connector-key-store-file": "/nothing.p12"}
    assert len(problems_of(values, NOW)) == 2, "one sentence for one file"
