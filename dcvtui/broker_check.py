"""Tests what was typed for a broker, a step at a time, and keeps what passed as a profile.

The steps go from the name to the first answer, and the client secret leaves this
machine only after the certificate is trusted. Used by the first screen; knows no
screen itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dcvtui.api.text import visible
from dcvtui.config import Credentials, check_url, is_same_origin
from dcvtui.errors import NotAuthorized, NotTrusted, ProgramError
from dcvtui.first_trust import Pin, fault_of, pin_for
from dcvtui.private_files import file_stem, replace_private, shown_path
from dcvtui.profiles import Profile, cannot_save, read_profiles, save_profile
from dcvtui.reach import find_addresses, reach
from dcvtui.trust import OfferedCertificate, Trust

DEADLINE_S = 5.0
_USUAL_PORT = 8443
_CA_ON_BROKER = "/var/lib/dcvsmbroker/security/dcvsmbroker_ca.pem"
_PRINT_FINGERPRINT = "openssl x509 -noout -fingerprint -sha256"


@dataclass(frozen=True, slots=True)
class BrokerEntry:
    """What is asked for; `fingerprint` is the certificate that the operator accepted."""

    address: str = ""
    client_id: str = ""
    secret: str = field(default="", repr=False)
    ca_file: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the test: name, reach, TLS, token or API.

    Attributes:
        name: what was tested.
        is_done: it went well.
        text: what was found; for a step that failed why, and what to do.
        fingerprint: of a certificate that the operator may accept; the test ends there.
    """

    name: str
    is_done: bool
    text: str = ""
    fingerprint: str = ""


def broker_url(address: str) -> str:
    """The URL of an address as people type it: `broker.example` means HTTPS and the usual port.

    Raises:
        ConfigError: it is no broker's address.
    """
    text = address.strip()
    if "://" in text:
        return check_url(text, "the form")
    url = check_url(f"https://{text}" if text else "", "the form")
    parts = urlsplit(url)
    return url if parts.port else url.replace(parts.netloc, f"{parts.netloc.rstrip(':')}:{_USUAL_PORT}", 1)


class BrokerCheck:
    """Tests entries and saves the one that passed.

    Args:
        profiles: The profile file to save in.
        deadline_s: For finding the name, for a connection and for a handshake, each.
    """

    def __init__(self, profiles: Path, *, deadline_s: float = DEADLINE_S) -> None:
        self._profiles = profiles
        self._deadline_s = deadline_s
        self._passed: tuple[BrokerEntry, Trust] | None = None

    async def steps(self, entry: BrokerEntry) -> AsyncIterator[Step]:
        """Test an entry; ends with the first step that fails."""
        self._passed = None
        attempt = _Attempt(entry, self._deadline_s)
        for name, part in attempt.parts():
            step = await _step(name, part)
            yield step
            if not step.is_done:
                return
        self._passed = (entry, attempt.trust)

    async def save(self, entry: BrokerEntry) -> str:
        """Save the entry that passed as the default profile, readable by its owner only.

        Returns:
            A sentence that says where.

        Raises:
            ConfigError: the file cannot be written.
            ValueError: another entry passed, or none.
        """
        if self._passed is None or self._passed[0] != entry:
            raise ValueError("only an entry that passed every step is saved")
        await asyncio.to_thread(self._save, *self._passed)
        return f"Saved in {shown_path(self._profiles.parent)}/ (0600)."

    def _save(self, entry: BrokerEntry, trust: Trust) -> None:
        url = broker_url(entry.address)
        name = self._free_name(url)
        ca_file = trust.ca_file
        if trust.ca_pem is not None:
            # A relative path starts at the profile file, so that the folder can be moved as a whole.
            ca_file = Path(f"{file_stem(name)}_ca.pem")
            self._save_ca(self._profiles.parent / ca_file, trust.ca_pem)
        profile = Profile(
            name, url, entry.client_id, entry.secret, ca_file=ca_file, fingerprint=trust.fingerprint
        )
        save_profile(self._profiles, profile, is_default=True)

    def _save_ca(self, path: Path, pem: str) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(path, pem.encode())
        except OSError as error:
            raise cannot_save(path, error) from None

    def _free_name(self, url: str) -> str:
        """The broker's host, unless that is the name of another broker."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        known = read_profiles(self._profiles).profiles.get(host)
        is_taken = known is not None and not is_same_origin(known.url, url)
        return f"{host}:{parts.port or 443}" if is_taken else host


Part = Callable[[], Awaitable[str]]
"""Does one step and tells what was found; raises `ProgramError` where it does not go well."""


async def _step(name: str, part: Part) -> Step:
    try:
        return Step(name, is_done=True, text=await part())
    except NotTrusted as error:
        return Step(name, is_done=False, text=error.sentence, fingerprint=error.fingerprint)
    except ProgramError as error:
        return Step(name, is_done=False, text=error.sentence)


class _Attempt:
    """One entry on its way through the steps; each needs what those before it found.

    The steps' sentences have no subject, because the step's name stands before them.
    """

    def __init__(self, entry: BrokerEntry, deadline_s: float) -> None:
        self._entry = entry
        self._deadline_s = deadline_s
        self._url = self._host = ""
        self._port = 0
        self.trust = Trust()

    def parts(self) -> list[tuple[str, Part]]:
        """The steps in their order."""
        return [
            ("name", self._find),
            ("reach", self._reach),
            ("TLS", self._judge),
            ("token", self._authorize),
            ("API", self._ask),
        ]

    async def _find(self) -> str:
        self._url = broker_url(self._entry.address)
        parts = urlsplit(self._url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        return await find_addresses(self._host, self._port, self._deadline_s)

    async def _reach(self) -> str:
        await reach(self._host, self._port, self._deadline_s)
        return ""

    async def _judge(self) -> str:
        """Find what to trust the broker by from now on; the strongest first, see `Trust`."""
        if self._entry.ca_file:
            self.trust = Trust(ca_file=_absolute(self._entry.ca_file))
            fault = await self._fault()
            if fault is not None:
                raise NotTrusted(
                    f"by the CA file given it is {fault}. Correct the file, or empty the field to compare a "
                    "fingerprint instead."
                )
            return ""
        fault = await self._fault()
        if fault is None:
            return ""
        pin = await pin_for(self._host, self._port, fault, self._deadline_s)
        if pin.certificate.fingerprint != self._entry.fingerprint:
            raise NotTrusted(_question(pin, self._port), fingerprint=pin.certificate.fingerprint)
        self.trust = pin.trust
        return ""

    async def _fault(self) -> str | None:
        return await fault_of(self._host, self._port, self.trust, self._deadline_s)

    # The program's HTTP library is loaded by these two only: it comes after the first paint.

    async def _authorize(self) -> str:
        from dcvtui.client import BrokerClient  # noqa: PLC0415  see above

        try:
            async with BrokerClient(self._url, self._credentials, self.trust) as client:
                await client.authorize()
        except NotAuthorized as error:
            if not error.reason:
                raise
            raise NotAuthorized(
                f"{error.reason}. The broker's `register-api-client` prints a new pair."
            ) from None
        return ""

    async def _ask(self) -> str:
        from dcvtui.client import BrokerClient  # noqa: PLC0415  see above

        async with BrokerClient(self._url, self._credentials, self.trust) as client:
            page = await client.describe_servers_page()
        count = len(page["Servers"])
        more = "more than " if "NextToken" in page else ""
        return f"{more}{count:,} server{'' if count == 1 else 's'}"

    @property
    def _credentials(self) -> Credentials:
        return Credentials(self._entry.client_id, self._entry.secret)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _described(certificate: OfferedCertificate) -> str:
    try:
        return f"{visible(certificate.subject)}\n  valid until {certificate.validity[1]:%Y-%m-%d}"
    except ValueError:  # TLS takes certificates that the stricter reader does not
        return "whom it names cannot be read"


def _question(pin: Pin, port: int) -> str:
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
