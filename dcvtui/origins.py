"""The values of the configuration as they may be shown, each with where it comes from, for `config show`.

Secrets are masked here and nowhere else. Which value counts is decided in
`dcvtui.config`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dcvtui.private_files import shown_path
from dcvtui.profiles import Profile
from dcvtui.trust import Trust

if TYPE_CHECKING:
    from dcvtui.config import Credentials

_MASK = "•••"
_DEFAULT = "default"


class Setting(NamedTuple):
    """One value, as it may be shown, and where it comes from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Origins:
    """Where values come from.

    Attributes:
        stored: the profile or file that counts; empty if none does.
        url: of the address.
        credentials: of those parts of the credentials that are not stored.
        trust: of what to trust; empty if that is stored.
        read_only: of the wish to change nothing; empty if that is stored.
    """

    stored: str = ""
    url: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)
    trust: str = ""
    read_only: str = ""


def settings_of(
    url: str, place: Profile, credentials: "Credentials | None", trust: Trust, origins: Origins
) -> Iterator[Setting]:
    """Every value that counts.

    Args:
        url: of the broker.
        place: what is stored for it; a profile without a name if nothing is.
        credentials: None for a broker that asks for no token.
        trust: which certificate it must show.
        origins: where they come from.
    """
    stored = origins.stored or _DEFAULT
    if place.name:
        yield Setting("profile", place.name, stored)
    yield Setting("url", url, origins.url)
    yield from _credentials(place, credentials, origins.credentials, stored)
    says_trust = bool(place.no_verify_ssl or place.ca_file or place.fingerprint)
    yield Setting("trust", _in_words(trust), origins.trust or (stored if says_trust else _DEFAULT))
    is_read_only = bool(origins.read_only) or place.read_only
    yield Setting(
        "read_only", str(is_read_only).lower(), origins.read_only or (stored if is_read_only else _DEFAULT)
    )
    blank = Profile("")
    for name in ("gateway", "address_tag", "output_format", "debug"):
        value = getattr(place, name)
        if value:
            shown = "true" if value is True else str(value)
            yield Setting(name, shown, _DEFAULT if value == getattr(blank, name) else stored)


def _credentials(
    place: Profile, credentials: "Credentials | None", origins: Mapping[str, str], stored: str
) -> Iterator[Setting]:
    if credentials is None:
        yield Setting("no_token", "true", stored)
        return
    for name, value in (
        ("client_id", credentials.client_id),
        ("client_secret", _MASK if credentials.client_secret else ""),
        ("access_token", _MASK if credentials.access_token else ""),
        ("token_url", credentials.token_url),
        ("scope", credentials.scope),
    ):
        if value:
            is_in_keyring = name == "client_secret" and place.secret_in_keyring
            yield Setting(name, value, origins.get(name, "the keyring" if is_in_keyring else stored))


def _in_words(trust: Trust) -> str:
    if trust.fingerprint:
        return trust.fingerprint
    if not trust.is_verified:
        return "any certificate (no-verify-ssl)"
    return f"the CA in {shown_path(trust.ca_file)}" if trust.ca_file else "the CAs of the system"
