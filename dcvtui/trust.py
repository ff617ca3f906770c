"""Which certificate a broker must show: a CA file, a pinned fingerprint, or the system's trust.

Makes the TLS context for the one HTTP client, and reads what a distrusted
broker offers so that a person can compare fingerprints. The values are light;
the TLS library is loaded by the functions that need it.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dcvtui.api.text import visible
from dcvtui.errors import ConfigError

if TYPE_CHECKING:
    import ssl

_DIGITS = frozenset("0123456789ABCDEF")
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Trust:
    """What to trust, the strongest first; nothing given means the system's CAs.

    Attributes:
        ca_file: PEM file with the broker's CA, or with the broker's own certificate.
        ca_pem: the same as text, for a CA that was accepted and is in no file yet.
        fingerprint: `SHA256:AB:…`; equality with the broker's certificate replaces chain and name.
        is_verified: False takes any certificate; only for people who asked for that by name.
        with_system: the system's CAs count too, beside the CA given.
    """

    ca_file: Path | None = None
    ca_pem: str | None = field(default=None, repr=False)
    fingerprint: str | None = None
    is_verified: bool = True
    with_system: bool = False

    @property
    def elsewhere(self) -> "Trust":
        """What another address than the broker's may show, such as that of a token server.

        A broker's pin says nothing about others, and a CA that a broker made for itself signs no
        certificate of a public service.
        """
        return replace(self, fingerprint=None, with_system=True)

    @property
    def in_words(self) -> str:
        """What is trusted, as a person is told."""
        if not self.is_verified:
            return "any certificate"
        if self.fingerprint:
            return f"pinned {self.fingerprint}"
        return f"CA file {self.ca_file}" if self.ca_file else "the system's CAs"


@dataclass(frozen=True, slots=True)
class OfferedCertificate:
    """What a broker showed before anything was sent to it.

    Attributes:
        der: the certificate.
        above: the certificates sent along with it, each signing the one before; not checked.
    """

    der: bytes
    above: tuple[bytes, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Its SHA-256 fingerprint, see `fingerprint_of`."""
        return fingerprint_of(self.der)

    @property
    def subject(self) -> str:
        """Whom it names, in the form of RFC 4514; not checked by anybody."""
        from cryptography import x509  # noqa: PLC0415  40 ms that only a question about trust needs

        return x509.load_der_x509_certificate(self.der).subject.rfc4514_string()

    @property
    def validity(self) -> tuple[datetime, datetime]:
        """From when until when it says it is valid, in UTC."""
        from cryptography import x509  # noqa: PLC0415  as above

        certificate = x509.load_der_x509_certificate(self.der)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    @property
    def ca(self) -> "OfferedCertificate | None":
        """The topmost CA that was sent along; whether it signed anything shows when it is trusted."""
        from cryptography import x509  # noqa: PLC0415  as above

        for der in reversed(self.above):
            try:
                extensions = x509.load_der_x509_certificate(der).extensions
                is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            except (ValueError, x509.ExtensionNotFound):
                continue
            if is_ca:
                return OfferedCertificate(der)
        return None

    @property
    def pem(self) -> str:
        """The certificate as the text of a PEM file."""
        import ssl  # noqa: PLC0415  as in `ssl_context`

        return ssl.DER_cert_to_PEM_cert(self.der)


def fingerprint_of(certificate: bytes) -> str:
    """The SHA-256 fingerprint of a DER certificate as `SHA256:AB:CD:…`, the digits as openssl prints them."""
    return "SHA256:" + hashlib.sha256(certificate).digest().hex(":").upper()


def read_fingerprint(text: str) -> str:
    """Bring a fingerprint typed or pasted by a person into the form of `fingerprint_of`.

    Raises:
        ConfigError: it is not a SHA-256 fingerprint.
    """
    digits = text.strip().upper().removeprefix("SHA256").removeprefix(" FINGERPRINT").lstrip(":= ")
    digits = digits.replace(":", "").replace(" ", "")
    if len(digits) != _SHA256_DIGITS or not _DIGITS.issuperset(digits):
        raise ConfigError(
            f"'{visible(text)}' is not a SHA-256 fingerprint: it has 64 hexadecimal digits, "
            "as in SHA256:AB:CD:…, the way `openssl x509 -noout -fingerprint -sha256` prints it.",
            exit_code=252,
        )
    return "SHA256:" + ":".join(digits[i : i + 2] for i in range(0, _SHA256_DIGITS, 2))


def ssl_context(trust: Trust) -> "ssl.SSLContext":
    """The TLS context that accepts exactly what is trusted.

    Raises:
        ConfigError: the CA file is missing, unreadable or holds no certificate.
    """
    import ssl  # noqa: PLC0415  the values of this module are needed before the console's first paint

    if trust.fingerprint is not None:
        return _pinned_context(trust.fingerprint)
    if not trust.is_verified:
        return _open_context()
    if trust.ca_file is None and trust.ca_pem is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=trust.ca_file, cadata=trust.ca_pem)
    except FileNotFoundError:
        raise ConfigError(
            f"The CA file '{trust.ca_file}' does not exist. Copy the broker's CA there or name another file "
            "with --ca-bundle."
        ) from None
    except OSError as error:  # ssl.SSLError is one: what is in the file is no certificate
        reason = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"The CA file '{trust.ca_file}' cannot be used: {reason}. Name a PEM file with the broker's CA "
            "with --ca-bundle."
        ) from None
    # Brokers make their CA themselves, some without the extensions that Python 3.13 asks for by
    # default; and the file may hold the broker's own certificate instead of a CA.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if trust.with_system:
        context.load_default_certs()
    return context


def _open_context() -> "ssl.SSLContext":
    import ssl  # noqa: PLC0415  as above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _pinned_context(fingerprint: str) -> "ssl.SSLContext":
    """A context whose handshake fails, before anything is sent, unless the certificate is the pinned one."""
    import ssl  # noqa: PLC0415  as above

    class PinnedConnection(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            offered = fingerprint_of(self.getpeercert(binary_form=True) or b"")
            if offered != fingerprint:
                raise ssl.SSLCertVerificationError(1, f"it is not the pinned {fingerprint}")

    context = _open_context()
    context.sslobject_class = PinnedConnection
    return context


async def offered_certificate(host: str, port: int, timeout_s: float = 5.0) -> OfferedCertificate | None:
    """The certificate a server shows, whoever signed it; nothing but the handshake is sent.

    Returns:
        None when no certificate could be had within the time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=_open_context())
    except (OSError, TimeoutError):
        return None
    ssl_object = writer.get_extra_info("ssl_object")
    certificate, above = ssl_object.getpeercert(binary_form=True), _chain_of(ssl_object)[1:]
    writer.transport.abort()
    return OfferedCertificate(certificate, above) if certificate else None


def _chain_of(ssl_object: "ssl.SSLObject") -> tuple[bytes, ...]:
    """The chain a server sent, its own certificate first; empty where Python does not tell it."""
    import ssl  # noqa: PLC0415  as above

    if read := getattr(ssl_object, "get_unverified_chain", None):
        return tuple(read())
    # Public since Python 3.13; before, only the object underneath has it, in certificates of its own class.
    read = getattr(getattr(ssl_object, "_sslobj", None), "get_unverified_chain", None)
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in read() or ()) if read else ()
