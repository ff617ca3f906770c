"""Tests what was typed for a broker, a step at a time, and keeps what passed as a profile.

The steps go from the name to the first answer, and the client secret leaves this
machine only after the certificate is trusted. Used by the first screen; knows no
screen itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from dcvtui.config import Credentials, check_url, is_same_origin
from dcvtui.errors import NotAuthorized, NotTrusted, ProgramError
from dcvtui.first_trust import fault_of, pin_for, question
from dcvtui.private_files import shown_path
from dcvtui.profiles import Profile, keep_trust, read_profiles, save_profile
from dcvtui.reach import find_addresses, reach
from dcvtui.trust import Trust

DEADLINE_S = 5.0
_USUAL_PORT = 8443


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
        error: why it failed, for an exit code.
        fingerprint: of a certificate that the operator may accept; the test ends there.
    """

    name: str
    is_done: bool
    text: str = ""
    fingerprint: str = ""
    error: ProgramError | None = field(default=None, compare=False)


def broker_url(address: str) -> str:
    """The URL of an address as people type it: `broker.example` means HTTPS and the usual port.

    Raises:
        ConfigError: it is no broker's address.
    """
    text = address.strip()
    if "://" in text:
        return check_url(text, "your entry")
    url = check_url(f"https://{text}" if text else "", "your entry")
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

    async def save(
        self, entry: BrokerEntry, *, name: str = "", in_keyring: bool = False, is_default: bool = True
    ) -> str:
        """Save the entry that passed as a profile, readable by its owner only.

        What a profile of this name says beside, such as its gateway, stays.

        Args:
            entry: the one that passed.
            name: of the profile; without one it is called after the broker's host.
            in_keyring: put the secret into the desktop's keyring if one answers.
            is_default: it is the profile that counts when none is named.

        Returns:
            A sentence that says where.

        Raises:
            ConfigError: the file cannot be written.
            ValueError: another entry passed, or none.
        """
        if self._passed is None or self._passed[0] != entry:
            raise ValueError("only an entry that passed every step is saved")
        return await asyncio.to_thread(self._save, *self._passed, name, in_keyring, is_default)

    def _save(self, entry: BrokerEntry, trust: Trust, name: str, in_keyring: bool, is_default: bool) -> str:
        from dcvtui import keyring_secrets  # noqa: PLC0415  only saving needs it

        url = broker_url(entry.address)
        name = name or self._free_name(url)
        known = read_profiles(self._profiles).profiles.get(name, Profile(name))
        is_kept = in_keyring and keyring_secrets.keep(url, entry.client_id, entry.secret)
        profile = replace(
            known,
            url=url,
            client_id=entry.client_id,
            client_secret=None if is_kept else entry.secret,
            secret_in_keyring=is_kept,
            no_token=False,
        )
        save_profile(self._profiles, keep_trust(self._profiles, profile, trust), is_default=is_default)
        where = f"Saved in {shown_path(self._profiles.parent)}/ (0600)."
        return f"{where} The secret is in the keyring." if is_kept else where

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
        return Step(name, is_done=False, text=error.sentence, fingerprint=error.fingerprint, error=error)
    except ProgramError as error:
        return Step(name, is_done=False, text=error.sentence, error=error)


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
        if self._entry.fingerprint:
            # Of the broker's own certificate, as errors show it; the one in the question below may be a CA's.
            self.trust = Trust(fingerprint=self._entry.fingerprint)
            if await self._fault() is None:
                return ""
            self.trust = Trust()
        pin = await pin_for(self._host, self._port, fault, self._deadline_s)
        if pin.certificate.fingerprint != self._entry.fingerprint:
            raise NotTrusted(question(pin, self._port), fingerprint=pin.certificate.fingerprint)
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
