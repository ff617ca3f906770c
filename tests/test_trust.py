"""Fingerprints as people write them; what a context accepts is tested in `test_client` over real TLS."""

import hashlib
import ssl
from pathlib import Path

import pytest

from dcvtui.errors import ConfigError
from dcvtui.trust import Trust, fingerprint_of, offered_certificate, read_fingerprint, ssl_context
from tests.awkward_broker import make_certificate

PRINTED = ":".join(["0A"] * 32)


@pytest.mark.parametrize(
    "text",
    [
        f"SHA256:{PRINTED}",
        PRINTED,
        PRINTED.lower(),
        PRINTED.replace(":", ""),
        f"sha256 Fingerprint={PRINTED}",
        f"SHA256: {PRINTED.replace(':', ' ')}",
        f"  {PRINTED}\n",
    ],
)
def test_a_fingerprint_is_read_however_it_was_copied(text: str) -> None:
    assert read_fingerprint(text) == f"SHA256:{PRINTED}"


@pytest.mark.parametrize("text", ["", "SHA256:", "0A" * 31, "0A" * 33, "0G" * 32, "SHA1:" + "0A" * 32])
def test_what_is_no_fingerprint_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        read_fingerprint(text)


def test_the_fingerprint_is_that_of_openssl(tmp_path: Path) -> None:
    pem, _ = make_certificate(tmp_path, ("localhost",))
    der = ssl.PEM_cert_to_DER_cert(pem.read_text())
    assert fingerprint_of(der).replace(":", "") == "SHA256" + hashlib.sha256(der).hexdigest().upper()
    assert read_fingerprint(fingerprint_of(der)) == fingerprint_of(der)


def test_certificates_are_checked_unless_somebody_asked_for_no_check(tmp_path: Path) -> None:
    pem, _ = make_certificate(tmp_path, ("localhost",))
    for trust, mode in (
        (Trust(), ssl.CERT_REQUIRED),
        (Trust(ca_file=pem), ssl.CERT_REQUIRED),
        (Trust(is_verified=False), ssl.CERT_NONE),
    ):
        context = ssl_context(trust)
        assert (context.verify_mode, context.check_hostname) == (mode, mode is ssl.CERT_REQUIRED)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_nobody_there_offers_no_certificate() -> None:
    assert await offered_certificate("127.0.0.1", 9) is None
