"""Key stores and trust stores that an administrator brings: PKCS#12 and PEM, recognised by their content.

The suffix says nothing: recent Java tools write PKCS#12 under `.jks`. The older JKS
format has no kept reader for Python and is answered with the one-line conversion.
Passwords go into nothing that is logged or raised here.
"""

import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

_JKS = b"\xfe\xed\xfe\xed"
_JCEKS = b"\xce\xce\xce\xce"
_DER_SEQUENCE = b"\x30"
_PEM_MARK = b"-----BEGIN "
_PEM_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_LARGEST = 4 * 1024 * 1024


class KeyStoreError(Exception):
    """A store cannot be used; the text is a sentence that names the file, never the password."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a listener shows: its certificate, those between it and a CA, and its key."""

    key: PrivateKeyTypes
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    def __repr__(self) -> str:
        return f"Identity({self.certificate.subject.rfc4514_string()!r})"

    @property
    def kind(self) -> type:
        """The kind of key, such as RSA; TLS keeps one certificate of each kind."""
        return type(self.certificate.public_key())

    def load_into(self, context: ssl.SSLContext, folder: Path) -> None:
        """Let a TLS context show this identity; connections that are open keep the one they began with.

        Args:
            context: The listener's context.
            folder: A folder for the broker alone. Python's TLS reads files only, so the key lies
                there for a moment, encrypted with a password that nobody ever sees.
        """
        password = secrets.token_bytes(32).hex().encode()
        content = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        ) + pem_of((self.certificate, *self.chain))
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".identity-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            context.load_cert_chain(name, password=password)
        finally:
            Path(name).unlink()


def pem_of(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates one after the other as PEM."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def read_identity(path: Path, password: str | None, now: datetime) -> Identity:
    """Read a key store.

    Args:
        path: The file.
        password: What opens it, if anything is needed.
        now: The present time, aware.

    Raises:
        KeyStoreError: it cannot be read, holds no key, or its certificate is expired or of another key.
    """
    key, certificates = _contents(path, password)
    if key is None:
        raise KeyStoreError(f"The key store {path} holds no private key.")
    spki = _public(key.public_key())
    own = next((each for each in certificates if _public(each.public_key()) == spki), None)
    if own is None:
        raise KeyStoreError(f"The key store {path} holds no certificate of its private key.")
    if own.not_valid_after_utc <= now:
        raise KeyStoreError(
            f"The certificate in the key store {path} is expired since {own.not_valid_after_utc:%Y-%m-%d}."
        )
    return Identity(key, own, _ordered_chain(own, [each for each in certificates if each != own]))


def read_trusted(path: Path, password: str | None) -> tuple[x509.Certificate, ...]:
    """Read a trust store: the CAs whose certificates are taken.

    Raises:
        KeyStoreError: it cannot be read or holds no certificate.
    """
    _, certificates = _contents(path, password)
    if not certificates:
        raise KeyStoreError(f"The trust store {path} holds no certificate.")
    return tuple(certificates)


def read_ca(certificate_file: Path, key_file: Path, now: datetime) -> Identity:
    """Read a CA of the administrator's own, which is to sign the broker's certificates.

    Raises:
        KeyStoreError: the files cannot be read, do not belong together, or are of no CA.
    """
    _, certificates = _contents(certificate_file, None)
    key, _ = _contents(key_file, None)
    if key is None or not certificates or _public(key.public_key()) != _public(certificates[0].public_key()):
        raise KeyStoreError(f"{key_file} does not hold the private key of the CA in {certificate_file}.")
    ca = certificates[0]
    try:
        is_ca = ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise KeyStoreError(f"The certificate in {certificate_file} is of no CA: it may not sign others.")
    if ca.not_valid_after_utc <= now:
        raise KeyStoreError(
            f"The CA in {certificate_file} is expired since {ca.not_valid_after_utc:%Y-%m-%d}."
        )
    return Identity(key, ca, tuple(certificates[1:]))


def problems_of(values: Mapping[str, str], now: datetime) -> list[str]:
    """What is wrong with the files that keys of the properties file name: one sentence each."""
    checks: list[Callable[[], object]] = []
    is_on = {key for key, value in values.items() if value.lower() == "true"}
    for name in ("client", "agent", "gateway"):
        key = f"{name}-to-broker-connector-key-store-file"
        if key in values and (name != "gateway" or "enable-gateway" in is_on):
            password = values.get(f"{name}-to-broker-connector-key-store-pass")
            checks.append(partial(read_identity, Path(values[key]), password, now))
    trust_store = values.get("gateway-to-broker-connector-trust-store-file")
    if trust_store and {"enable-gateway", "enable-tls-client-auth-gateway"} <= is_on:
        password = values.get("gateway-to-broker-connector-trust-store-pass")
        checks.append(partial(read_trusted, Path(trust_store), password))
    ca_file, ca_key_file = values.get("ext-tls-ca-cert-file"), values.get("ext-tls-ca-key-file")
    if ca_file and ca_key_file:
        checks.append(partial(read_ca, Path(ca_file), Path(ca_key_file), now))
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except KeyStoreError as error:
            problems[str(error)] = None
    return list(problems)


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _ordered_chain(own: x509.Certificate, others: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The issuers of a certificate, each after the one it signed; what does not belong stays out."""
    chain: list[x509.Certificate] = []
    current = own
    while current.issuer != current.subject:
        issuer = next((each for each in others if each.subject == current.issuer and each not in chain), None)
        if issuer is None:
            break
        chain.append(issuer)
        current = issuer
    return tuple(chain)


def _contents(path: Path, password: str | None) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise KeyStoreError(f"The store {path} cannot be read: {error.strerror}.") from None
    if content.startswith((_JKS, _JCEKS)):
        raise KeyStoreError(
            f"The store {path} has Java's own format; convert it: keytool -importkeystore "
            f"-srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12"
        )
    if _PEM_MARK in content:
        return _pem_contents(path, content, password)
    if content.startswith(_DER_SEQUENCE):
        return _pkcs12_contents(path, content, password)
    raise KeyStoreError(f"The store {path} is neither PKCS#12 nor PEM.")


def _pkcs12_contents(
    path: Path, content: bytes, password: str | None
) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    try:
        store = pkcs12.load_pkcs12(content, password.encode() if password is not None else None)
    except ValueError:
        reason = "the password is wrong" if password is not None else "it needs a password"
        raise KeyStoreError(f"The store {path} cannot be opened: {reason}, or the file is damaged.") from None
    certificates = [each.certificate for each in (store.cert, *store.additional_certs) if each]
    return store.key, certificates


def _pem_contents(
    path: Path, content: bytes, password: str | None
) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    certificates = []
    if b"-----BEGIN CERTIFICATE-----" in content:
        try:
            certificates = x509.load_pem_x509_certificates(content)
        except ValueError:
            raise KeyStoreError(f"A certificate in {path} is damaged.") from None
    block = _PEM_KEY.search(content)
    if block is None:
        return None, certificates
    encrypted = b"ENCRYPTED" in block[0]
    try:
        secret = password.encode() if password is not None and encrypted else None
        return serialization.load_pem_private_key(block[0], secret), certificates
    except TypeError:
        raise KeyStoreError(f"The private key in {path} needs a password.") from None
    except ValueError:
        reason = "the password is wrong, or the key is damaged" if encrypted else "it is damaged"
        raise KeyStoreError(f"The private key in {path} cannot be read: {reason}.") from None
