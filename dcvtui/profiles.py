"""The two files that can hold a broker: our profile file and the official client's `dcvsmcli.conf`.

The profile file is TOML, readable by its owner only because it may hold client
secrets; `dcvsmcli.conf` is read as it is. Which of them counts is decided in
`dcvtui.config`; nothing here knows options or environment.
"""

import os
import stat
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dcvtui.errors import ConfigError
from dcvtui.private_files import file_stem, replace_private
from dcvtui.trust import Trust

# Exit code of the official client for a configuration file that is missing or damaged.
DAMAGED = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """A broker an operator knows. The attributes are the keys of the profile file.

    Attributes:
        name: how the operator calls it; the table is `[profiles.NAME]`.
        url: address of the broker's client API, such as `https://broker.example:8443`.
        client_id: of the API client registered at the broker.
        client_secret: its password.
        secret_in_keyring: true if the password is in the desktop's keyring instead.
        no_token: true for a broker that asks for no token (`enable-authorization = false`).
        token_url: address of an external token server, when the broker gives no tokens itself.
        scope: what to ask the external token server for.
        ca_file: PEM file with the broker's CA; a relative path starts at the profile file.
        fingerprint: pinned `SHA256:…` of the broker's own certificate, in place of a CA.
        read_only: true switches off everything that changes something.
        gateway: `host:port` of the connection gateway that clients go through.
        address_tag: server tag with the address for clients.
        no_verify_ssl: true takes any certificate. Only read from `dcvsmcli.conf`, never written.
        output_format: how answers are printed. Only read from `dcvsmcli.conf`.
        debug: true logs to standard error. Only read from `dcvsmcli.conf`.
    """

    name: str
    url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    secret_in_keyring: bool = False
    no_token: bool = False
    token_url: str | None = None
    scope: str | None = None
    ca_file: Path | None = None
    fingerprint: str | None = None
    read_only: bool = False
    gateway: str | None = None
    address_tag: str = "public_ipv4"
    no_verify_ssl: bool = False
    output_format: str | None = None
    debug: bool = False


_CONF_ONLY = ("no_verify_ssl", "output_format", "debug")
_FLAGS = ("secret_in_keyring", "no_token", "read_only")
KEYS = tuple(f.name for f in fields(Profile) if f.name not in ("name", *_CONF_ONLY))


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """What the profile file says; empty where there is none.

    Attributes:
        path: of the file.
        profiles: by name.
        default: name of the profile that counts when none is named.
        notes: what a person should know, such as keys that are not understood.
    """

    path: Path
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    default: str | None = None
    notes: tuple[str, ...] = ()


def read_profiles(path: Path) -> ProfileFile:
    """Read the profile file.

    Raises:
        ConfigError: the file is damaged, or others than its owner can read it.
    """
    document = _document(path)
    tables = document.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f"'{path}' is damaged: [profiles.NAME] must be tables.", DAMAGED)
    notes = _unknown_keys(path, "", document, ("default", "profiles"))
    for name, table in tables.items():
        notes += _unknown_keys(path, f"profiles.{name}.", table, KEYS)
    profiles = {name: _profile(path, name, table) for name, table in tables.items()}
    default = document.get("default") or (next(iter(profiles)) if len(profiles) == 1 else None)
    if default is not None and default not in profiles:
        raise ConfigError(f"'{path}' names '{default}' as default, but has no [profiles.{default}].", DAMAGED)
    return ProfileFile(path, profiles, default, tuple(notes))


def save_profile(path: Path, profile: Profile, *, is_default: bool = False) -> None:
    """Write a profile into the profile file; the others and unknown keys stay as they are.

    The file is replaced at once, so that a crash leaves the old one, and only its owner can read it.

    Raises:
        ConfigError: the present file is damaged or the new one cannot be written.
    """
    import tomli_w  # noqa: PLC0415  only saving needs it

    document = _document(path)
    tables = document.setdefault("profiles", {})
    kept = {key: value for key, value in tables.get(profile.name, {}).items() if key not in KEYS}
    blank = Profile(profile.name)
    set_keys = {key: getattr(profile, key) for key in KEYS if getattr(profile, key) != getattr(blank, key)}
    tables[profile.name] = kept | {
        key: str(value) if isinstance(value, Path) else value for key, value in set_keys.items()
    }
    if is_default or "default" not in document:
        document = {"default": profile.name} | document | {"default": profile.name}
    _write(path, tomli_w.dumps(document).encode())


def remove_profile(path: Path, name: str) -> None:
    """Take a profile out of the profile file, and its CA out of the folder; if it was the default, none is.

    Raises:
        ConfigError: as `save_profile`.
    """
    import tomli_w  # noqa: PLC0415  as above

    document = _document(path)
    document.get("profiles", {}).pop(name, None)
    if document.get("default") == name:
        del document["default"]
    _write(path, tomli_w.dumps(document).encode())
    _ca_of(path, name).unlink(missing_ok=True)


def _ca_of(path: Path, name: str) -> Path:
    """Where the CA that was accepted for a profile is kept."""
    return path.parent / f"{file_stem(name)}_ca.pem"


def keep_trust(path: Path, profile: Profile, trust: Trust) -> Profile:
    """The profile with a certificate that was accepted for it; a CA goes into a file beside the profile file.

    Raises:
        ConfigError: the file cannot be written.
    """
    ca_file = trust.ca_file
    if trust.ca_pem is not None:
        # A relative path starts at the profile file, so that the folder can be moved as a whole.
        ca_file = Path(_ca_of(path, profile.name).name)
        _write(path.parent / ca_file, trust.ca_pem.encode())
    return replace(profile, ca_file=ca_file, fingerprint=trust.fingerprint)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, content)
    except OSError as error:
        raise cannot_save(path, error) from None


def cannot_save(path: Path, error: OSError) -> ConfigError:
    """Why a file of a profile is not there."""
    return ConfigError(f"The profile could not be saved in '{path}': {error.strerror or error}.")


def read_conf(path: Path) -> Profile:
    """Read a `dcvsmcli.conf` of the official client.

    A relative `ca-bundle` is looked for in the working directory first, then beside the file.

    Raises:
        ConfigError: it is missing or damaged.
    """
    parser = ConfigParser(interpolation=None)  # secrets may hold a percent sign
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=str(path))
        no_verify_ssl = parser.getboolean("security", "no-verify-ssl", fallback=False)
        debug = parser.getboolean("output", "debug", fallback=False)
    except OSError as error:
        raise ConfigError(
            f"The configuration file '{path}' cannot be read: {error.strerror}.", DAMAGED
        ) from None
    except (IniError, UnicodeDecodeError, ValueError):
        # The parser's own text quotes the line it stumbled over, which may be the one with the secret.
        raise ConfigError(
            f"The configuration file '{path}' is damaged: it must have sections in brackets, "
            "lines 'name = value', and true or false for switches.",
            DAMAGED,
        ) from None

    def text(section: str, name: str) -> str | None:
        return parser.get(section, name, fallback="").strip() or None

    bundle = text("security", "ca-bundle")
    return Profile(
        name="",  # one broker in a file of its own has no name
        url=text("broker", "url"),
        client_id=text("authentication", "client-id"),
        client_secret=text("authentication", "client-password"),
        token_url=text("authentication", "auth-server-url"),
        ca_file=_beside(path, bundle) if bundle else None,
        output_format=text("output", "output-format"),
        no_verify_ssl=no_verify_ssl,
        debug=debug,
    )


def _beside(path: Path, name: str) -> Path:
    named = Path(name).expanduser()
    return named if named.exists() else path.parent / named


def _document(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  not needed on a machine without profiles

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            document = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"The profile file '{path}' cannot be read: {error.strerror}.", DAMAGED) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The profile file '{path}' is damaged: {error}.", DAMAGED) from None
    if os.name == "posix" and mode & 0o077 and "client_secret" in repr(document):
        raise ConfigError(
            f"The profile file '{path}' holds a secret and others can read it (mode {mode:04o}). "
            f"Run: chmod 600 '{path}'"
        )
    return document


def _unknown_keys(path: Path, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> list[str]:
    notes = []
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            meant = f", did you mean '{near[0]}'?" if near else "."
            notes.append(f"'{path}': the key '{prefix}{key}' is not known{meant}")
    return notes


def _profile(path: Path, name: str, table: Mapping[str, Any]) -> Profile:
    values: dict[str, Any] = {}
    for key in KEYS:
        if key not in table:
            continue
        value = table[key]
        wanted = bool if key in _FLAGS else str
        if not isinstance(value, wanted):
            word = "true or false" if wanted is bool else "a text"
            raise ConfigError(f"'{path}' is damaged: profiles.{name}.{key} must be {word}.", DAMAGED)
        values[key] = path.parent / Path(str(value)).expanduser() if key == "ca_file" else value
    return Profile(name, **values)
