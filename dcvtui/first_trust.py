"""What to keep of a broker's certificate when nothing vouches for it yet (command line specification, 4.2).

Shakes hands and reads what is offered; no request is made and no secret is
known here. Whether the offer is accepted is decided by a person elsewhere.
"""

import asyncio
import ssl
from dataclasses import dataclass

from dcvtui.api.text import visible
from dcvtui.errors import Unreachable
from dcvtui.trust import OfferedCertificate, Trust, offered_certificate, ssl_context

_UNKNOWN_CA = "signed by an unknown CA"
_OTHER_NAME = "made for another name than this address"
# Numbers of OpenSSL's X509_V_ERR_…; its own texts help only those who know them.
_REASONS = {
    2: _UNKNOWN_CA,
    10: "expired",
    18: "signed by itself",
    19: _UNKNOWN_CA,
    20: _UNKNOWN_CA,
    21: _UNKNOWN_CA,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
_CA_ON_BROKER = "/var/lib/dcvsmbroker/security/dcvsmbroker_ca.pem"
_PRINT_FINGERPRINT = "openssl x509 -noout -fingerprint -sha256"
CHECK_PORT = "Check the port; a broker's for clients is usually 8443."


@dataclass(frozen=True, slots=True)
class Pin:
    """What would be trusted from now on if a person accepts it.

    Attributes:
        trust: by which the broker passes.
        certificate: whose fingerprint is to be compared: the CA's, or the broker's own.
        fault: why the broker is not trusted without.
    """

    trust: Trust
    certificate: OfferedCertificate
    fault: str

    @property
    def is_ca(self) -> bool:
        """The CA is kept, so that renewed certificates pass without a question."""
        return self.trust.ca_pem is not None


async def fault_of(host: str, port: int, trust: Trust, deadline_s: float) -> str | None:
    """Why a broker's certificate is not trusted this way, as the end of a sentence; None if it is.

    Raises:
        ConfigError: the CA file cannot be used.
        Unreachable: there is no TLS to speak.
    """
    context = ssl_context(trust)
    try:
        # A handshake that is cancelled leaves its socket open; one that times out by itself does not.
        async with asyncio.timeout(2 * deadline_s):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, ssl_handshake_timeout=deadline_s
            )
    except ssl.SSLCertVerificationError as error:
        if trust.fingerprint is not None:
            return "not the one that is pinned"
        return _REASONS.get(error.verify_code) or visible(error.verify_message or str(error)).rstrip(".")
    except ssl.SSLError:
        raise Unreachable(f"what answers there does not speak TLS. {CHECK_PORT}") from None
    except OSError:  # no answer in time is one, too
        raise Unreachable(f"the connection ended before TLS began. {CHECK_PORT}") from None
    writer.transport.abort()
    return None


async def pin_for(host: str, port: int, fault: str, deadline_s: float) -> Pin:
    """What to pin: the CA offered where it vouches for this address, else the broker's own certificate.

    Args:
        host: of the broker.
        port: of its client API.
        fault: why it is not trusted by what is trusted now.
        deadline_s: for each handshake.

    Raises:
        Unreachable: no certificate could be had.
    """
    offered = await offered_certificate(host, port, deadline_s)
    if offered is None:
        raise Unreachable("the connection ended before a certificate came. Try again.")
    ca = offered.ca
    if ca is not None:
        trust = Trust(ca_pem=ca.pem)
        other_fault = await fault_of(host, port, trust, deadline_s)
        if other_fault is None:
            return Pin(trust, ca, fault)
        fault = fault if other_fault == fault else f"{fault}, and {other_fault}"
    return Pin(Trust(fingerprint=offered.fingerprint), offered, fault)


def _described(certificate: OfferedCertificate) -> str:
    try:
        return f"{visible(certificate.subject)}\n  valid until {certificate.validity[1]:%Y-%m-%d}"
    except ValueError:  # TLS takes certificates that the stricter reader does not
        return "whom it names cannot be read"


def question(pin: Pin, port: int) -> str:
    """What to look at before a certificate is accepted, and how to see the same at the broker."""
    digits = pin.certificate.fingerprint.removeprefix("SHA256:")
    half = len(digits) // 2 + 1
    # In lines of their own that a shell takes as one, so that they can be pasted.
    command = (
        f"{_PRINT_FINGERPRINT} \\\n    -in {_CA_ON_BROKER}"
        if pin.is_ca
        else f"openssl s_client -connect localhost:{port} </dev/null |\n    {_PRINT_FINGERPRINT}"
    )
    return (
        f"{pin.fault}.\n"
        f"  {_described(pin.certificate)}\n"
        "  SHA-256\n"
        f"  {digits[:half]}\n"
        f"  {digits[half:]}\n"
        "  Compare on the broker:\n"
        f"  {command}"
    )
