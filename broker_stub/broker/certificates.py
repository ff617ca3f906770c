"""The broker's own CA and server certificate, made at first start and kept in `<working path>/security`.

The CA lives ten years and never changes by itself: clients pin it. An administrator's
own CA can sign in its place. The leaf lives one year and is renewed when it nears its
end or when this host's names change. What cannot stand in a certificate is skipped
with a warning; naming trouble never stops the start.
"""

import contextlib
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker_stub.broker.key_stores import Identity, KeyStoreError, pem_of, read_ca

logger = logging.getLogger(__name__)

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=5)

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")

PrivateKey = ec.EllipticCurvePrivateKey
CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class OwnCa:
    """The files of a CA that an administrator brings (`ext-tls-ca-cert-file`, `ext-tls-ca-key-file`)."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of a broker's TLS identity."""

    ca_file: Path
    """What clients trust."""
    chain_file: Path
    """The leaf followed by the CA, so that a client can pin what it is shown."""
    key_file: Path
    """The leaf's private key, mode 0600."""

    def identity(self) -> Identity:
        """What the files hold."""
        leaf, *issuers = x509.load_pem_x509_certificates(self.chain_file.read_bytes())
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        return Identity(key, leaf, tuple(issuers))


def prepare(
    working_path: Path,
    names: Iterable[str],
    now: datetime,
    own_ca: OwnCa | None = None,
    *,
    anew: bool = False,
) -> Certificates:
    """Make or renew what is missing or old.

    Args:
        working_path: The broker's folder; certificates go to its `security` folder.
        names: Host names and addresses the certificate should state, see `local_names`.
        now: The present time, aware.
        own_ca: Signs instead of the generated CA.
        anew: Make a new server certificate although the one there is good.

    Returns:
        The files to serve with.

    Raises:
        OSError: the folder cannot be written.
        KeyStoreError: the own CA cannot be used.
    """
    folder = working_path / "security"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(
        ca_file=folder / "dcvsmbroker_ca.pem",
        chain_file=folder / "dcvsmbroker.pem",
        key_file=folder / "dcvsmbroker.key",
    )
    if own_ca is None:
        ca_key: CaKey
        ca, ca_key = _ca(files.ca_file, folder / "dcvsmbroker_ca.key", now)
        chain: tuple[x509.Certificate, ...] = (ca,)
    else:
        identity = read_ca(own_ca.certificate_file, own_ca.key_file, now)
        ca, ca_key = identity.certificate, _signing_key(identity, own_ca.key_file)
        chain = (ca, *identity.chain)
        files = replace(files, ca_file=own_ca.certificate_file)
    wanted = alternative_names(names)
    leaf = _load(files.chain_file, files.key_file)
    if anew or leaf is None or not _still_good(leaf[0], ca, wanted, now):
        _new_leaf(files, chain, ca_key, wanted, now)
    return files


def _signing_key(identity: Identity, file: Path) -> CaKey:
    if not isinstance(identity.key, CaKey):
        raise KeyStoreError(f"The CA key in {file} is neither RSA nor an elliptic curve.")
    return identity.key


def local_names(extra: Iterable[str] = ()) -> list[str]:
    """Every name and address under which this host may be called, the given ones included."""
    host = socket.gethostname()
    names = [host, _full_name(host), "localhost", "127.0.0.1", "::1"]
    with contextlib.suppress(OSError):  # no interface can be listed in some containers; the rest still stands
        for addresses in psutil.net_if_addrs().values():
            names += [each.address for each in addresses if each.family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys([*names, *extra]))


def _full_name(host: str) -> str:
    try:
        return socket.getfqdn(host)
    except (OSError, UnicodeError):
        return host


def alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """The names that a certificate can state; the others are skipped with a warning."""
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        if general := _general_name(name.partition("%")[0].strip()):  # fe80::1%eth0 has a zone
            found[general] = None
        else:
            logger.warning("The name %r cannot stand in a certificate and is left out.", name)
    return list(found)


def _general_name(name: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode("ascii") if not name.isascii() else name
    except UnicodeError:
        return None
    labels = ascii_name.rstrip(".").split(".")
    if labels[0] == "*" and len(labels) > 2:
        labels = labels[1:]
    if len(ascii_name) > 253 or not all(_LABEL.match(label) for label in labels):
        return None
    return x509.DNSName(ascii_name.rstrip("."))


def _still_good(
    leaf: x509.Certificate, ca: x509.Certificate, names: list[x509.GeneralName], now: datetime
) -> bool:
    # A leaf that ends with its CA gains nothing from a renewal.
    ends_soon = (
        leaf.not_valid_after_utc - now < RENEW_BEFORE and leaf.not_valid_after_utc < ca.not_valid_after_utc
    )
    if ends_soon or leaf.issuer != ca.subject:
        return False
    try:
        leaf.verify_directly_issued_by(ca)
        stated = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(stated) == set(names)


def _ca(certificate_file: Path, key_file: Path, now: datetime) -> tuple[x509.Certificate, PrivateKey]:
    found = _load(certificate_file, key_file)
    if found and found[0].not_valid_after_utc > now:
        return found
    if certificate_file.exists():
        # Never in silence: whoever trusts the old file will refuse the new certificate.
        logger.warning(
            "The CA %s is expired, damaged or without its key and is replaced; "
            "give clients and agents the new file.",
            certificate_file,
        )
    return _new_ca(certificate_file, key_file, now)


def _load(certificate_file: Path, key_file: Path) -> tuple[x509.Certificate, PrivateKey] | None:
    try:
        certificate = x509.load_pem_x509_certificates(certificate_file.read_bytes())[0]
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None  # not there yet, or damaged
    if not isinstance(key, PrivateKey) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _new_ca(certificate_file: Path, key_file: Path, now: datetime) -> tuple[x509.Certificate, PrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The number tells the CAs of several brokers apart in a client's list.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Session Manager Broker CA {serial:x}"[:64])])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(name, name, key, serial, (now, now + CA_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem(key), 0o600)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    logger.info("Made a CA; clients trust the broker with %s.", certificate_file)
    return certificate, key


def _new_leaf(
    files: Certificates,
    issuers: Sequence[x509.Certificate],
    ca_key: CaKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> None:
    ca = issuers[0]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Session Manager Broker")])
    end = min(now + LEAF_LIFETIME, ca.not_valid_after_utc)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())  # type: ignore[arg-type]  # RSA or EC
    certificate = (
        _builder(name, ca.subject, key, x509.random_serial_number(), (now, end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write(files.key_file, _pem(key), 0o600)
    _write(files.chain_file, pem_of((certificate, *issuers)), 0o644)
    logger.info("Made a server certificate, valid until %s.", certificate.not_valid_after_utc.date())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, serial: int, period: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(period[0] - CLOCK_SKEW)
        .not_valid_after(period[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a whole file in place at once, never readable by more than `mode` says."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
