"""The certificate that the entrance shows: the administrator's, or one the host makes for itself.

A DCV server does the same: without a certificate of its own it makes one that
nobody has signed, and clients ask their user. It lives in the agent's state folder.
"""

import ipaddress
import logging
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker_stub.agent.identity import write_private

logger = logging.getLogger(__name__)

_LIFETIME = timedelta(days=825)
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)
_LONGEST_COMMON_NAME = 64


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The TLS context of the entrance: TLS 1.2 or newer.

    When the files change, those who come from then on are shown the new certificate; nobody
    who is there already is disturbed, and files that cannot be used change nothing.

    Raises:
        OSError, ssl.SSLError: the files cannot be used.
    """
    current, seen = _context(certificate, key), _seen(certificate, key)
    door = _context(certificate, key)

    def look_again(
        link: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context_of_link: ssl.SSLContext
    ) -> None:
        nonlocal current, seen
        if (now := _seen(certificate, key)) != seen:
            seen = now
            try:
                current = _context(certificate, key)
                logger.info("The certificate of the entrance has changed.")
            except (OSError, ssl.SSLError) as error:
                logger.warning("The changed certificate of the entrance cannot be used: %s", error)
        link.context = current

    # Asked at the beginning of each handshake, with a name or without.
    door.sni_callback = look_again
    return door


def _seen(*files: Path) -> tuple[tuple[int, int, int], ...]:
    """What changes when a file does."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context


def own_certificate(folder: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """The host's own certificate and its key, made anew when it nears its end or the names change.

    Args:
        folder: Where it is kept.
        names: Host names and addresses that it is to state.
        now: The present time, aware.
    """
    certificate_file, key_file = folder / "entrance.pem", folder / "entrance.key"
    wanted = _alternative_names(names)
    if not _is_good(certificate_file, key_file, wanted, now):
        _make(certificate_file, key_file, wanted, now)
    return certificate_file, key_file


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        try:
            found[x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))] = None
        except ValueError:
            if name.isascii() and name:
                found[x509.DNSName(name)] = None
    return list(found)


def _is_good(certificate_file: Path, key_file: Path, names: list[x509.GeneralName], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        stated = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        server_context(certificate_file, key_file)
    except (OSError, ValueError, ssl.SSLError, x509.ExtensionNotFound):
        return False
    return set(stated) == set(names) and certificate.not_valid_after_utc - now > _RENEW_BEFORE


def _make(certificate_file: Path, key_file: Path, names: list[x509.GeneralName], now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    title = next((name.value for name in names if isinstance(name, x509.DNSName)), "remote desktops")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:_LONGEST_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(key_file, secret.decode())
    write_private(certificate_file, certificate.public_bytes(pem).decode())
    certificate_file.chmod(0o644)  # clients may pin it
