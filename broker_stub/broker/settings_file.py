"""Reads `session-manager-broker.properties` into `Settings`; reports all that is wrong at once.

What a key means stands in `settings_keys` and `settings`. Where each value came
from is kept, for `show-config`. Files that keys name are looked at in
`key_stores`, as their contents are part of what can be wrong.
"""

import getpass
import ipaddress
import os
import socket
import stat
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from broker_stub.broker import properties
from broker_stub.broker.settings import SERVICE_PATH, Settings
from broker_stub.broker.settings_keys import (
    DATABASE_URL,
    DELETED_HOURS,
    DELETED_SECONDS,
    DISCOVERY_ADDRESSES,
    ENABLE_PERSISTENCE,
    FIELDS,
    IGNORED,
    KNOWN_KEYS,
    LOG_PATH,
    ONE_BROKER,
    PERSISTENCE_DB,
    REFUSED,
    UNREACHABLE_SESSIONS,
    WORKING_PATH,
    fold,
    is_secret,
    unknown_key,
)

DEFAULT_FILE = Path("/etc/dcv-session-manager-broker/session-manager-broker.properties")
SERVICE_USER = "dcvsmbroker"


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class Loaded:
    """Settings with where they came from and what should be said about it.

    Attributes:
        settings: The values.
        warnings: Sentences to log.
        values: What was given, by key, secrets included.
        lines: The line of each key in the file.
        file: The file they came from, if from one.
    """

    settings: Settings
    warnings: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict, repr=False)
    lines: dict[str, int] = field(default_factory=dict)
    file: Path | None = None


def _no_check(_values: Mapping[str, str]) -> list[str]:
    return []


def load_file(
    path: Path,
    allow_insecure: bool = False,
    check: Callable[[Mapping[str, str]], list[str]] = _no_check,
) -> Loaded:
    """Read the configuration file.

    Args:
        path: The properties file.
        allow_insecure: Start although others may read or write the file.
        check: Finds problems that are not in the values themselves, such as files they name.

    Returns:
        The settings and the warnings to log.

    Raises:
        SettingsError: with all problems of the file.
    """
    try:
        content = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        hint = ""
        if isinstance(error, FileNotFoundError) and path == DEFAULT_FILE:
            hint = " dcv-session-manager-broker install-files makes one, and --config names another."
        raise SettingsError(
            [f"The configuration file {path} cannot be read: {error.strerror}.{hint}"]
        ) from None
    if b"\0" in content:
        raise SettingsError([f"The configuration file {path} cannot be read: it is no text."])
    text, is_utf8 = _decoded(content)
    pairs = properties.parse(text)
    values, warnings = _last_values(pairs)
    if not is_utf8:
        warnings.insert(
            0, f"The configuration file {path} is not UTF-8; it is read as Latin-1, as Java does."
        )
    loaded, problems = _settings_of(values)
    problems += check({key: value.strip() for key, value in values.items() if value.strip()})
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        sentence = (
            f"The configuration file {path} has mode {mode:04o}: "
            "only its owner may write it and others must have no access."
        )
        if allow_insecure or values.get("ext-allow-insecure-config", "").strip().lower() == "true":
            warnings.append(sentence)
        else:
            problems.insert(0, f"{sentence} Use chmod 640, or --allow-insecure-config.")
    if problems or loaded is None:
        raise SettingsError(problems)
    loaded.warnings = warnings + loaded.warnings
    loaded.lines = {fold(pair.key): pair.line for pair in pairs}
    loaded.file = path
    return loaded


def load_values(values: Mapping[str, str]) -> Loaded:
    """Settings from keys and values as they would stand in a file.

    Raises:
        SettingsError: with all problems.
    """
    loaded, problems = _settings_of(dict(values))
    if problems or loaded is None:
        raise SettingsError(problems)
    return loaded


def _decoded(content: bytes) -> tuple[str, bool]:
    """The text of a file, and whether it is UTF-8; Java reads such files as Latin-1, which is any bytes."""
    try:
        return content.removeprefix(BOM_UTF8).decode("utf-8"), True
    except UnicodeDecodeError:
        return content.decode("latin-1"), False


def _last_values(pairs: Iterable[properties.Property]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    warnings = []
    for pair in pairs:
        key = fold(pair.key)
        if key in values:
            warnings.append(f"{key} is set again on line {pair.line}; the last value counts.")
        values[key] = pair.value
    return values, warnings


def _settings_of(given: Mapping[str, str]) -> tuple[Loaded | None, list[str]]:
    values = {fold(key): value.strip() for key, value in given.items() if value.strip()}
    asked = dict(values)
    warnings = [unknown_key(key) for key in values if key not in KNOWN_KEYS]
    warnings += [f"{key} has no effect: {IGNORED[key]}." for key in values if key in IGNORED]
    problems = [f"{key}: {REFUSED[key]}." for key in values if key in REFUSED]
    problems += _discovery_problems(values) + _persistence_problems(values) + _pair_problems(values)
    warnings += _deleted_kept(values)
    warnings += _paths(values)
    warnings += _database(values)
    settings, invalid = _validated(values)
    problems += invalid
    if settings is None:
        return None, problems
    settings, limited = _limited(settings)
    warnings += limited
    if not settings.authorization.enable_authorization:
        warnings.append(
            "ATTENTION: enable-authorization is false, so anybody who reaches the port may do everything."
        )
    return Loaded(settings, warnings, asked), problems


def _limited(settings: Settings) -> tuple[Settings, list[str]]:
    sessions = settings.sessions
    limit = sessions.unreachable_server_kept_s
    if (sessions.unreachable_sessions_kept_s or 0) <= limit:
        return settings, []
    limited = sessions.model_copy(update={"unreachable_sessions_kept_s": limit})
    warning = f"{UNREACHABLE_SESSIONS} is limited to {limit}, when the server itself goes."
    return settings.model_copy(update={"sessions": limited}), [warning]


def _validated(values: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    by_topic: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if key in FIELDS:
            by_topic.setdefault(FIELDS[key][0], {})[key] = value
    try:
        return Settings.model_validate(by_topic), []
    except ValidationError as error:
        return None, [_problem(str(item["loc"][1]), values, item["msg"]) for item in error.errors()]


def _problem(key: str, values: Mapping[str, str], message: str) -> str:
    shown = "(hidden)" if is_secret(key) else repr(values.get(key, ""))
    # pydantic writes "Value error, must be true or false" and "Input should be less than ...".
    reason = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{key} = {shown}: {reason}."


def _deleted_kept(values: dict[str, str]) -> list[str]:
    hours = values.pop(DELETED_HOURS, None)
    if hours is None:
        return []
    if DELETED_SECONDS in values:
        return [f"{DELETED_HOURS} has no effect: {DELETED_SECONDS} is set too."]
    # A value that is no number stays as it is and is reported under the newer name.
    values[DELETED_SECONDS] = str(int(hours) * 3600) if hours.isascii() and hours.isdecimal() else hours
    return [f"{DELETED_HOURS} is the older form of {DELETED_SECONDS}."]


def _paths(values: dict[str, str]) -> list[str]:
    warnings = []
    if WORKING_PATH not in values:
        is_service = os.geteuid() == 0 or getpass.getuser() == SERVICE_USER
        chosen = SERVICE_PATH if is_service else platformdirs.user_state_path(SERVICE_USER)
        values[WORKING_PATH] = str(chosen)
        warnings.append(f"{WORKING_PATH} is not set; using {chosen}, never the temporary folder.")
    path = Path(values[WORKING_PATH])
    if path != SERVICE_PATH:
        # Several brokers of one host, as in demonstrations, must not write to one log.
        values.setdefault(LOG_PATH, str(path / "log"))
    return warnings


def _database(values: dict[str, str]) -> list[str]:
    """Leave the address of a database aside where it is not used, and say what in it has no effect."""
    is_used = values.get(ENABLE_PERSISTENCE, "").lower() == "true" and values.get(PERSISTENCE_DB) == "sqlite"
    if not is_used:
        values.pop(DATABASE_URL, None)
        return []
    without_effect: list[str] = [key for key in ("jdbc-user", "jdbc-password") if key in values]
    options = values.get(DATABASE_URL, "").partition("?")[2]
    names = [option.partition("=")[0] for option in options.split("&") if option]
    # The file is made if it is missing, whether that is asked for or not.
    without_effect += [f"{DATABASE_URL}: {name}" for name in names if name != "createDatabaseIfNotExist"]
    return [f"{name} has no effect: the database is a file." for name in without_effect]


def _persistence_problems(values: Mapping[str, str]) -> list[str]:
    enabled = values.get(ENABLE_PERSISTENCE, "false").lower()
    if enabled not in ("true", "false"):
        return [f"{ENABLE_PERSISTENCE} = {values[ENABLE_PERSISTENCE]!r}: must be true or false."]
    database = values.get(PERSISTENCE_DB, "")
    if enabled == "false" or database == "sqlite":
        return []
    return [
        f"{PERSISTENCE_DB} = {database!r}: this version keeps its data in SQLite, by itself in the working "
        f"path; set {ENABLE_PERSISTENCE} = false, or {PERSISTENCE_DB} = sqlite."
    ]


def _pair_problems(values: Mapping[str, str]) -> list[str]:
    """Keys that are of use only together."""
    problems = []
    certificate, key = "ext-tls-ca-cert-file", "ext-tls-ca-key-file"
    if (certificate in values) != (key in values):
        missing, given = (key, certificate) if certificate in values else (certificate, key)
        problems.append(f"{given} needs {missing} beside it.")
    trust_store = "gateway-to-broker-connector-trust-store-file"
    asks = values.get("enable-tls-client-auth-gateway", "").lower() == "true"
    is_open = values.get("enable-gateway", "").lower() == "true"
    if asks and is_open and trust_store not in values:
        problems.append(
            f"enable-tls-client-auth-gateway needs {trust_store}; "
            "dcv-session-manager-broker gen-gateway-certificates makes one."
        )
    return problems


def _discovery_problems(values: Mapping[str, str]) -> list[str]:
    parts = [part.strip() for part in values.get(DISCOVERY_ADDRESSES, "").split(",")]
    hosts = [part.rpartition(":")[0].strip("[]") if ":" in part else part for part in parts if part]
    others = [host for host in hosts if not _is_own(host)]
    if not others:
        return []
    return [f"{DISCOVERY_ADDRESSES} names another broker ({', '.join(others)}): {ONE_BROKER}."]


def _is_own(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in ("localhost", socket.gethostname().lower(), socket.getfqdn().lower())
    return address.is_loopback or _is_address_of_this_host(address)


def _is_address_of_this_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a socket can be bound to it, which the system allows for its own addresses only."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
