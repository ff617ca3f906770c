"""What to talk to, as whom, and what to trust: options, environment, profiles, and which of them wins.

`resolve` states the precedence in one place (section 4.1 of the command line's
specification). Address and credentials come from one place, and a stored secret
never goes to an address it was not stored for. Reads files, opens no
connection. Light on purpose: the console needs it before its first paint.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dcvtui.api.text import visible
from dcvtui.errors import ConfigError
from dcvtui.nearest import did_you_mean
from dcvtui.origins import Origins, Setting, settings_of
from dcvtui.profiles import Profile, ProfileFile, read_conf, read_profiles
from dcvtui.trust import Trust, read_fingerprint

BAD_OPTION = 252
_IGNORED = "DCV_SM_BROKER_URL, DCV_SM_CLIENT_ID, DCV_SM_CLIENT_PASSWORD, DCV_SM_OAUTH2_TOKEN"


@dataclass(frozen=True, slots=True)
class Credentials:
    """As whom to talk to a broker.

    Attributes:
        client_id: of the API client.
        client_secret: its password.
        access_token: a ready token; then none is fetched and a 401 is final.
        token_url: address of the token server; None means the broker's own.
        scope: what to ask an external token server for.
    """

    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    access_token: str | None = field(default=None, repr=False)
    token_url: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """One broker, with everything needed to talk to it.

    Attributes:
        name: of the profile, else the broker's host and port.
        url: of the client API, without a slash at its end.
        credentials: None for a broker that asks for no token.
        trust: which certificate it must show.
        read_only: nothing may be changed through this connection.
        gateway: `host:port` that clients go through.
        address_tag: server tag with the address for clients.
        output_format: from `dcvsmcli.conf`.
        debug: from `dcvsmcli.conf`.
        notes: sentences for standard error, one line each.
        profile: the profile that it comes from; None if it comes from elsewhere.
        settings: each value with where it comes from, secrets masked.
    """

    name: str
    url: str
    credentials: Credentials | None
    trust: Trust = field(default_factory=Trust)
    read_only: bool = False
    gateway: str | None = None
    address_tag: str = "public_ipv4"
    output_format: str | None = None
    debug: bool = False
    notes: tuple[str, ...] = ()
    profile: Profile | None = None
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None where it says nothing."""

    profile: str | None = None
    conf: Path | None = None
    broker_url: str | None = None
    auth_server: str | None = None
    ca_bundle: Path | None = None
    trust_fingerprint: str | None = None
    no_verify_ssl: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Where the configuration files are."""

    profiles: Path
    conf: Path

    @classmethod
    def standard(cls, environ: Mapping[str, str]) -> "Files":
        """The usual places on this system."""
        import platformdirs  # noqa: PLC0415  the pure parts of this module need no file

        profiles = platformdirs.user_config_path("dcvtui") / "profiles.toml"
        if os.name == "nt":
            return cls(profiles, Path.home() / "dcvsmcli.conf")
        folder = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return cls(profiles, Path(folder) / "dcvsmcli.conf")


def resolve(options: Options, environ: Mapping[str, str], files: Files) -> Connection:
    """Find the broker to talk to.

    The order of force is: a profile named by option or `DCVTUI_PROFILE` (it brings its own credentials
    and `DCV_SM_*` is ignored), options, environment, the default profile, `dcvsmcli.conf`.

    Raises:
        ConfigError: nothing is configured, something is missing, or a secret would go astray.
    """
    profiles = read_profiles(files.profiles)
    named = options.profile or environ.get("DCVTUI_PROFILE")
    if named:
        return _finish(
            _Choice.of_profile(_named(profiles, named), options, environ), options, {}, profiles.notes
        )
    stored = _stored(options, profiles, files)
    choice = _Choice.without_name(stored, options, environ, sorted(profiles.profiles))
    return _finish(choice, options, environ, profiles.notes)


def check_url(text: str, origin: str, exit_code: int = 253) -> str:
    """Check a broker's address; gives it back without a slash at its end.

    Raises:
        ConfigError: with the exit code given; it names the origin.
    """
    parts = _split(text)
    shown = visible(text)
    problem = ""
    if "://" not in text:
        problem = f"has no scheme; write https://{shown}" if text.strip() else "is empty"
    elif parts is None or not parts.hostname or any(c.isspace() or not c.isprintable() for c in text):
        problem = "is not a URL; it looks like https://broker.example:8443"
    elif parts.scheme.lower() != "https":
        problem = f"begins with {visible(parts.scheme)}://, but brokers are only reached by https://"
    elif parts.username is not None or parts.password is not None:
        shown = "https://…@" + visible(parts.netloc.rpartition("@")[2])
        problem = "holds a user or password; give the client id and secret in a profile or by DCV_SM_*"
    elif parts.query or parts.fragment:
        problem = "has a '?' or '#' part, which a broker's address has not"
    if problem:
        raise ConfigError(f"The broker's address '{shown}' from {origin} {problem}.", exit_code)
    return text.rstrip("/")


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return None
    return parts


def _origin_of(url: str) -> tuple[str, int]:
    parts = _split(url)
    return ((parts.hostname or "").lower(), parts.port or 443) if parts else (url, 0)


def is_same_origin(one: str | None, other: str | None) -> bool:
    """Two addresses name the same host and port."""
    return bool(one and other) and _origin_of(str(one)) == _origin_of(str(other))


@dataclass(frozen=True, slots=True)
class _Stored:
    """Something on disk that can name a broker, and how to call it in a sentence."""

    profile: Profile
    origin: str
    is_profile: bool


def _named(profiles: ProfileFile, name: str) -> _Stored:
    if name not in profiles.profiles:
        known = ", ".join(sorted(profiles.profiles)) or "none"
        near = did_you_mean(name, profiles.profiles)
        raise ConfigError(
            f"There is no profile '{visible(name)}' in '{profiles.path}'.{near} Known: {known}."
        )
    return _Stored(profiles.profiles[name], f"the profile '{name}'", is_profile=True)


def _stored(options: Options, profiles: ProfileFile, files: Files) -> list[_Stored]:
    """What is on disk, the strongest first. A file named by option leaves no room for the default profile."""
    stored = []
    if options.conf is None and profiles.default:
        stored.append(_named(profiles, profiles.default))
    conf = options.conf or files.conf
    if options.conf is not None or conf.exists():
        stored.append(_Stored(read_conf(conf), f"'{conf}'", is_profile=False))
    return stored


@dataclass(frozen=True, slots=True)
class _Choice:
    """Where the address comes from, and the credentials that go there."""

    url: str
    url_origin: str
    url_exit_code: int
    credentials: Credentials | None
    place: Profile
    notes: tuple[str, ...] = ()
    stored: _Stored | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each part of the credentials comes from, if not from what is stored."""

    @classmethod
    def of_profile(cls, stored: _Stored, options: Options, environ: Mapping[str, str]) -> "_Choice":
        profile = stored.profile
        if not profile.url:
            raise ConfigError(
                f'There is no url in {stored.origin}. Add it: url = "https://broker.example:8443".'
            )
        if options.broker_url and not is_same_origin(options.broker_url, profile.url):
            raise _astray("--broker-url", options.broker_url, stored)
        _refuse_other_token_server("--auth-server", options.auth_server, stored)
        ignored = [name for name in _IGNORED.split(", ") if environ.get(name)]
        notes = (f"{', '.join(ignored)} ignored: {stored.origin} brings its own address and credentials.",)
        credentials = _own_credentials(stored)
        return cls(profile.url, stored.origin, 253, credentials, profile, notes if ignored else (), stored)

    @classmethod
    def without_name(
        cls, stored: list[_Stored], options: Options, environ: Mapping[str, str], names: list[str]
    ) -> "_Choice":
        url, origin, code = _asked_address(options, environ)
        client_id, secret = environ.get("DCV_SM_CLIENT_ID"), environ.get("DCV_SM_CLIENT_PASSWORD")
        token = environ.get("DCV_SM_OAUTH2_TOKEN")
        place = _place_for(url, stored)
        if url is None and place is not None and place.is_profile and _has_secret(place.profile):
            return cls.of_profile(place, options, environ)
        if url is None:
            if place is None or not place.profile.url:
                is_first_run = not (stored or names or client_id or token)
                raise _no_address(stored, names, is_first_run=is_first_run)
            url, origin = place.profile.url, place.origin
        token_url = options.auth_server or environ.get("DCV_SM_AUTH_SERVER_URL")
        profile = place.profile if place else Profile("")
        if place and _has_secret(profile) and not token and not secret:
            name = "--auth-server" if options.auth_server else "DCV_SM_AUTH_SERVER_URL"
            _refuse_other_token_server(name, token_url, place)
        if profile.no_token and not (token or secret):
            return cls(url, origin, code, None, profile, stored=place)
        origins = _credential_origins(options, environ)
        client_id = client_id or profile.client_id
        secret = secret or (None if token else _secret_of(profile))
        if not token and not (client_id and secret):
            raise _no_credentials(url, origin, stored, place)
        credentials = Credentials(
            client_id or "", secret or "", token, token_url or profile.token_url, profile.scope
        )
        return cls(url, origin, code, credentials, profile, stored=place, origins=origins)


def _credential_origins(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Where those parts of the credentials come from that options and environment give."""
    names = {
        "client_id": "DCV_SM_CLIENT_ID",
        "client_secret": "DCV_SM_CLIENT_PASSWORD",
        "access_token": "DCV_SM_OAUTH2_TOKEN",
        "token_url": "DCV_SM_AUTH_SERVER_URL",
    }
    origins = {part: variable for part, variable in names.items() if environ.get(variable)}
    return origins | ({"token_url": "--auth-server"} if options.auth_server else {})


def _asked_address(options: Options, environ: Mapping[str, str]) -> tuple[str | None, str, int]:
    """The address asked for, its origin, and the exit code if it is none; checked before anything else."""
    if options.broker_url is not None:
        origin, code = "--broker-url", BAD_OPTION
        return check_url(options.broker_url, origin, code), origin, code
    origin, code = "DCV_SM_BROKER_URL", 253
    url = environ.get("DCV_SM_BROKER_URL")
    return check_url(url, origin, code) if url else None, origin, code


def _place_for(url: str | None, stored: list[_Stored]) -> _Stored | None:
    """What is stored for the address asked for; a file without an address goes with any."""
    if url is None:
        with_url = [place for place in stored if place.profile.url]
        return with_url[0] if with_url else None
    for place in stored:
        if not place.profile.url or is_same_origin(url, place.profile.url):
            return place
    return None


def _has_secret(profile: Profile) -> bool:
    return bool(profile.client_secret) or profile.secret_in_keyring or profile.no_token


def _secret_of(profile: Profile) -> str | None:
    """The secret in the file, or the one that the keyring keeps for this very address."""
    if not profile.secret_in_keyring:
        return profile.client_secret
    from dcvtui.keyring_secrets import secret_for  # noqa: PLC0415  few profiles have theirs there

    secret = secret_for(profile.url or "", profile.client_id or "")
    if secret is None:
        raise ConfigError(
            f"The keyring has no secret for the profile '{profile.name}', or does not answer. "
            f"Unlock it, or run: dcvtui login --profile {profile.name}"
        )
    return secret


def _own_credentials(stored: _Stored) -> Credentials | None:
    profile = stored.profile
    if profile.no_token:
        return None
    secret = _secret_of(profile)
    if not (profile.client_id and secret):
        raise ConfigError(
            f"There is no client_id or no client_secret in {stored.origin}. Add both (the broker's "
            "`register-api-client` prints them) with `dcvtui login`, or no_token = true if it asks for none."
        )
    return Credentials(profile.client_id, secret, None, profile.token_url, profile.scope)


def _refuse_other_token_server(name: str, url: str | None, stored: _Stored) -> None:
    profile = stored.profile
    known = profile.token_url or (profile.url if stored.is_profile else None)
    if url and known and not is_same_origin(url, known):
        raise ConfigError(
            f"{name} names another token server than {stored.origin}, and the secret stored there is only "
            "sent to its own. Give client id and secret by DCV_SM_CLIENT_ID and DCV_SM_CLIENT_PASSWORD."
        )


def _astray(name: str, url: str, stored: _Stored) -> ConfigError:
    return ConfigError(
        f"{name} {visible(url)} is not the broker that the secret in {stored.origin} is stored for "
        f"({stored.profile.url}), so it is not sent there. Give credentials for it by DCV_SM_CLIENT_ID and "
        "DCV_SM_CLIENT_PASSWORD, or name its profile with --profile."
    )


def _no_address(stored: list[_Stored], names: list[str], *, is_first_run: bool) -> ConfigError:
    if names and not stored:
        return ConfigError(
            f"Several profiles and none is the default. Name one of them with --profile: {', '.join(names)}."
        )
    where = f" ({stored[0].origin} has none)" if stored else ""
    return ConfigError(
        f"No broker is configured{where}. Give its address with --broker-url or DCV_SM_BROKER_URL and its "
        "credentials by DCV_SM_CLIENT_ID and DCV_SM_CLIENT_PASSWORD, or look around with: dcvtui demo",
        is_first_run=is_first_run,
    )


def _no_credentials(url: str, origin: str, stored: list[_Stored], place: _Stored | None) -> ConfigError:
    others = [other for other in stored if other is not place and _has_secret(other.profile)]
    if place is None and others:
        return _astray(origin, url, others[0])
    if place is not None and place.is_profile:
        return ConfigError(
            f"There is no client secret in {place.origin}. Run: dcvtui login --profile {place.profile.name}"
        )
    return ConfigError(
        "The client id or the client secret is missing. Give both by DCV_SM_CLIENT_ID and "
        "DCV_SM_CLIENT_PASSWORD; the broker's `register-api-client` prints them."
    )


def _finish(
    choice: _Choice, options: Options, environ: Mapping[str, str], file_notes: tuple[str, ...]
) -> Connection:
    url = check_url(choice.url, choice.url_origin, choice.url_exit_code)
    place = choice.place
    trust, trust_origin = _trust(options, environ, place)
    notes = file_notes + choice.notes
    if not trust.is_verified:
        notes += (
            "The broker's certificate is not checked (no-verify-ssl), so anybody on the way can read the "
            "secret; --trust-fingerprint SHA256:… checks it without a CA file.",
        )
    host, port = _origin_of(url)
    origins = Origins(
        choice.stored.origin if choice.stored else "",
        choice.url_origin,
        choice.origins,
        trust_origin,
        "--read-only" if options.read_only else "",
    )
    return Connection(
        name=place.name or f"{host}:{port}",
        url=url,
        credentials=choice.credentials,
        trust=trust,
        read_only=options.read_only or place.read_only,
        gateway=place.gateway,
        address_tag=place.address_tag,
        output_format=place.output_format,
        debug=place.debug,
        notes=notes,
        profile=place if choice.stored and choice.stored.is_profile else None,
        settings=tuple(settings_of(url, place, choice.credentials, trust, origins)),
    )


def _trust(options: Options, environ: Mapping[str, str], place: Profile) -> tuple[Trust, str]:
    """What to trust, and by whose word; empty for what is stored.

    An option is stronger than the environment, and that than a file.
    """
    if options.trust_fingerprint:
        return Trust(fingerprint=read_fingerprint(options.trust_fingerprint)), "--trust-fingerprint"
    if options.no_verify_ssl:
        return Trust(is_verified=False), "--no-verify-ssl"
    if options.ca_bundle:
        return Trust(ca_file=Path(options.ca_bundle).expanduser()), "--ca-bundle"
    if bundle := environ.get("DCV_SM_CA_BUNDLE"):
        return Trust(ca_file=Path(bundle).expanduser()), "DCV_SM_CA_BUNDLE"
    if place.no_verify_ssl:
        return Trust(is_verified=False), ""
    if place.ca_file is None and place.fingerprint:
        return Trust(fingerprint=read_fingerprint(place.fingerprint)), ""
    return Trust(ca_file=place.ca_file), ""
