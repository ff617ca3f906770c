"""A certificate for Connection Gateways, from a small CA of their own, and the broker's trust store for it.

Whoever has the key may ask the broker where sessions are. The CA's key is thrown away:
a new certificate means a new trust store.
"""

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker_stub.broker.settings_file import SERVICE_USER

LIFETIME = timedelta(days=3650)
_CLOCK_SKEW = timedelta(minutes=5)
_FOLDER_MODE = 0o750


class AlreadyThere(Exception):  # noqa: N818  named by what is wrong
    """A file would be replaced; the text is its path."""


@dataclass(frozen=True, slots=True)
class GatewayFiles:
    """What was made."""

    key_file: Path
    certificate_file: Path
    trust_store_file: Path
    password: str
    """Opens the trust store."""

    def __repr__(self) -> str:
        return f"GatewayFiles({str(self.key_file.parent)!r})"


def make(folder: Path, now: datetime, *, replace: bool = False) -> GatewayFiles:
    """Make all three files.

    Args:
        folder: Where they go; made for root and its group if it is missing.
        now: The present time, aware.
        replace: Replace files that are there.

    Raises:
        AlreadyThere: one is there.
        OSError: the folder cannot be written.
    """
    made = GatewayFiles(
        folder / "dcv_gateway_key.pem",
        folder / "dcv_gateway_cert.pem",
        folder / "dcv_gateway_trust_store.p12",
        secrets.token_urlsafe(24),
    )
    paths = (made.key_file, made.certificate_file, made.trust_store_file)
    if not replace:
        for path in paths:
            if path.exists():
                raise AlreadyThere(path)
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    _let_broker_read(folder)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("DCV Gateway CA", ca_key.public_key(), "DCV Gateway CA", ca_key, now)
    certificate = _certificate("DCV Gateway", key.public_key(), "DCV Gateway CA", ca_key, now)
    _write(
        made.key_file,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        0o600,
    )
    _write(made.certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o640)
    store = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(ca, b"dcv-gateway-ca")],
        serialization.BestAvailableEncryption(made.password.encode()),
    )
    _write(made.trust_store_file, store, 0o640)
    _let_broker_read(made.trust_store_file)
    return made


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    is_ca = name == issuer
    subject, signer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not is_ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _let_broker_read(path: Path) -> None:
    """Give the service's group what it has to read; elsewhere the broker runs as whoever made it."""
    with contextlib.suppress(LookupError, PermissionError):
        shutil.chown(path, group=SERVICE_USER)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
