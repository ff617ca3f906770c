"""The broker's CA and certificate."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import DNSName, IPAddress

from broker_stub.broker import certificates
from broker_stub.broker.certificates import Certificates, prepare

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ["host.example.org", "localhost", "127.0.0.1", "::1"]


def chain(files: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(files.chain_file.read_bytes())


def stated(leaf: x509.Certificate) -> x509.SubjectAlternativeName:
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


@pytest.mark.covers("B8")
def test_first_start_makes_a_ca_and_a_leaf_signed_by_it(tmp_path: Path) -> None:
    """The first start makes a CA at the documented path and a certificate that verifies against it."""
    files = prepare(tmp_path, NAMES, NOW)
    leaf, sent_ca = chain(files)
    ca = x509.load_pem_x509_certificate(files.ca_file.read_bytes())
    assert files.ca_file == tmp_path / "security" / "dcvsmbroker_ca.pem"
    assert sent_ca == ca, "the chain that is sent includes the CA, so that clients can pin it"
    leaf.verify_directly_issued_by(ca)
    assert stated(leaf).get_values_for_type(DNSName) == ["host.example.org", "localhost"]
    assert [str(address) for address in stated(leaf).get_values_for_type(IPAddress)] == ["127.0.0.1", "::1"]


@pytest.mark.covers("B8")
def test_this_host_is_named_in_full() -> None:
    """The certificate names the host, `localhost`, its addresses and the names that were asked for."""
    names = certificates.local_names(["extra.example.org"])
    assert {"localhost", "127.0.0.1", "::1", "extra.example.org"} <= set(names)


@pytest.mark.covers("B9")
def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """A second start uses the same CA and certificate."""
    files = prepare(tmp_path, NAMES, NOW)
    before = {path: path.read_bytes() for path in (tmp_path / "security").iterdir()}
    assert prepare(tmp_path, NAMES, NOW + timedelta(days=300)) == files
    assert {path: path.read_bytes() for path in (tmp_path / "security").iterdir()} == before


@pytest.mark.covers("B9")
def test_a_leaf_near_its_end_is_renewed_under_the_same_ca(tmp_path: Path) -> None:
    """A certificate with less than 30 days left is renewed under the same CA."""
    old_leaf, ca = chain(prepare(tmp_path, NAMES, NOW))
    later = NOW + timedelta(days=336)
    new_leaf, same_ca = chain(prepare(tmp_path, NAMES, later))
    assert same_ca == ca
    assert new_leaf != old_leaf
    assert new_leaf.not_valid_after_utc == later + timedelta(days=365)


@pytest.mark.covers("B9")
@pytest.mark.parametrize("names", [[*NAMES, "10.1.2.3"], NAMES[1:]])
def test_a_leaf_is_renewed_when_names_change(tmp_path: Path, names: list[str]) -> None:
    """A certificate is renewed under the same CA when the host's names or addresses change."""
    _, ca = chain(prepare(tmp_path, NAMES, NOW))
    leaf, same_ca = chain(prepare(tmp_path, names, NOW))
    assert same_ca == ca
    assert set(stated(leaf)) == set(certificates.alternative_names(names))


def test_clocks_that_are_five_minutes_behind_accept_the_certificate(tmp_path: Path) -> None:
    for certificate in chain(prepare(tmp_path, NAMES, NOW)):
        assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)


def test_the_ca_lives_ten_years_and_the_leaf_never_longer(tmp_path: Path) -> None:
    leaf, ca = chain(prepare(tmp_path, NAMES, NOW))
    assert ca.not_valid_after_utc == NOW + timedelta(days=3650)
    late_leaf, _ = chain(prepare(tmp_path, NAMES, NOW + timedelta(days=3500)))
    assert late_leaf.not_valid_after_utc == ca.not_valid_after_utc
    assert leaf.not_valid_after_utc < ca.not_valid_after_utc


def test_keys_are_for_the_broker_alone(tmp_path: Path) -> None:
    prepare(tmp_path, NAMES, NOW)
    keys = list((tmp_path / "security").glob("*.key"))
    assert len(keys) == 2
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_names_that_cannot_stand_in_a_certificate_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = ["under_score", "", "-dash", "a" * 64, "a..b", "bad name", "x*y", "." * 10]
    leaf, _ = chain(prepare(tmp_path, [*NAMES, *bad], NOW))
    assert set(stated(leaf)) == set(certificates.alternative_names(NAMES))
    assert sum("cannot stand in a certificate" in text for text in caplog.messages) == len(bad)


def test_zones_wildcards_and_international_names_are_understood() -> None:
    names = certificates.alternative_names(["fe80::1%eth0", "*.example.org", "bücher.example", "host."])
    assert names == [
        IPAddress(ipaddress.ip_address("fe80::1")),
        DNSName("*.example.org"),
        DNSName("xn--bcher-kva.example"),
        DNSName("host"),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_leaf_is_replaced_quietly_and_a_damaged_ca_never(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    files = prepare(tmp_path, NAMES, NOW)
    _, ca = chain(files)
    files.chain_file.write_bytes(content)
    assert chain(prepare(tmp_path, NAMES, NOW))[1] == ca
    assert not caplog.messages
    files.ca_file.write_bytes(content)
    assert chain(prepare(tmp_path, NAMES, NOW))[1] != ca
    assert any("give clients and agents the new file" in text for text in caplog.messages)


def test_a_leaf_of_another_key_is_replaced(tmp_path: Path) -> None:
    files = prepare(tmp_path / "a", NAMES, NOW)
    other = prepare(tmp_path / "b", NAMES, NOW)
    files.key_file.write_bytes(other.key_file.read_bytes())
    leaf, _ = chain(prepare(tmp_path / "a", NAMES, NOW))
    assert files.identity().key.public_key() == leaf.public_key()
    assert set(stated(leaf)) == set(certificates.alternative_names(NAMES))
