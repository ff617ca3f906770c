"""Reads `session-manager-broker.properties` into `Settings`; reports all that is wrong at once.

All 63 keys of the original product are recognised, each with its treatment:
honoured, mapped to another mechanism, or ignored with one warning. Keys that a
later version will honour are refused or warned about, never silently dropped.
"""

import difflib
import getpass
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from broker_stub.broker import properties
from broker_stub.broker.settings import SERVICE_PATH, Settings, Topic

DEFAULT_FILE = Path("/etc/dcv-session-manager-broker/session-manager-broker.properties")
SERVICE_USER = "dcvsmbroker"


class SettingsError(Exception):
    """The configuration cannot be used; `problems` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class Loaded:
    """Settings with what should be said about the file they came from."""

    settings: Settings
    warnings: list[str] = field(default_factory=list)


IGNORED = {
    "broker-java-home": "no Java is used",
    "broker-to-broker-port": "a single broker needs no port for others",
    "broker-to-broker-bind-host": "a single broker needs no port for others",
    "broker-to-broker-discovery-port": "a single broker needs no discovery",
    "broker-to-broker-distributed-memory-max-size-mb": "the store is a database file",
    "broker-to-broker-key-store-file": "a single broker needs no port for others",
    "broker-to-broker-key-store-pass": "a single broker needs no port for others",
    "broker-to-broker-connection-login": "a single broker needs no port for others",
    "broker-to-broker-connection-pass": "a single broker needs no port for others",
    "cli-to-broker-port": "the administration command uses a socket file in the working path",
    "enable-cloud-watch-metrics": "metrics are not sent to CloudWatch",
    "cloud-watch-region": "metrics are not sent to CloudWatch",
    "dynamodb-region": "DynamoDB is not used",
    "dynamodb-table-rcu": "DynamoDB is not used",
    "dynamodb-table-wcu": "DynamoDB is not used",
    "dynamodb-table-name-prefix": "DynamoDB is not used",
}
"""Keys of the original product that have no effect here, with the reason that is logged."""

NOT_YET = {
    "enable-gateway": "this version has no session resolver",
    "enable-tls-client-auth-gateway": "this version has no session resolver",
    "gateway-to-broker-connector-key-store-file": "this version has no session resolver",
    "gateway-to-broker-connector-trust-store-file": "this version has no session resolver",
    "ext-external-auth-issuers": "this version takes no tokens of external servers",
    "ext-external-auth-audiences": "this version takes no tokens of external servers",
    "ext-external-auth-required-scopes": "this version takes no tokens of external servers",
    "ext-metrics-bind": "this version has no metrics listener",
    "ext-metrics-port": "this version has no metrics listener",
    "ext-log-format": "this version logs text only",
}
"""Keys that are read and checked but do nothing in this version, with the reason that is logged."""

_KEY_STORES = "key stores cannot be read by this version; remove the key to use generated certificates"
_ONE_BROKER = "this version runs as a single broker; remove the key"

REFUSED = {
    "client-to-broker-connector-key-store-file": _KEY_STORES,
    "agent-to-broker-connector-key-store-file": _KEY_STORES,
    "broker-to-broker-discovery-multicast-group": _ONE_BROKER,
    "broker-to-broker-discovery-multicast-port": _ONE_BROKER,
    "broker-to-broker-discovery-aws-region": _ONE_BROKER,
    "broker-to-broker-discovery-aws-alb-target-group-arn": _ONE_BROKER,
    "ext-tls-ca-cert-file": "this version signs certificates with its own CA only; remove the key",
    "ext-tls-ca-key-file": "this version signs certificates with its own CA only; remove the key",
}
"""Keys whose effect would be missed badly: a value for one stops the start."""

_SILENT = {
    # Parts of a key refused or warned about above; files carry them along.
    "client-to-broker-connector-key-store-pass",
    "agent-to-broker-connector-key-store-pass",
    "gateway-to-broker-connector-key-store-pass",
    "gateway-to-broker-connector-trust-store-pass",
    "jdbc-connection-url",
    "jdbc-user",
    "jdbc-password",
}
_READ_HERE = {
    "broker-to-broker-discovery-addresses",
    "delete-session-duration-hours",
    "enable-persistence",
    "persistence-db",
}
_SECRET_ENDINGS = ("-pass", "-password")


def _fields() -> dict[str, tuple[str, FieldInfo]]:
    found: dict[str, tuple[str, FieldInfo]] = {}
    for topic, topic_field in Settings.model_fields.items():
        model: type[Topic] = type(topic_field.default)
        found.update({str(info.alias): (topic, info) for info in model.model_fields.values()})
    return found


_FIELDS = _fields()
KNOWN_KEYS = frozenset(_FIELDS) | NOT_YET.keys() | IGNORED.keys() | REFUSED.keys() | _SILENT | _READ_HERE


def load_file(path: Path, allow_insecure: bool = False) -> Loaded:
    """Read the configuration file.

    Args:
        path: The properties file.
        allow_insecure: Start although others may read or write the file.

    Returns:
        The settings and the warnings to log.

    Raises:
        SettingsError: with all problems of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError([f"The configuration file {path} cannot be read: {reason}."]) from None
    pairs, warnings = _last_values(properties.parse(text))
    loaded, problems = _settings_of(pairs)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        sentence = (
            f"The configuration file {path} has mode {mode:04o}: "
            "only its owner may write it and others must have no access."
        )
        if allow_insecure or (loaded and loaded.settings.files.allow_insecure_config):
            warnings.append(sentence)
        else:
            problems.insert(0, f"{sentence} Use chmod 640, or --allow-insecure-config.")
    if problems or loaded is None:
        raise SettingsError(problems)
    return Loaded(loaded.settings, warnings + loaded.warnings)


def load_values(values: Mapping[str, str]) -> Loaded:
    """Settings from keys and values as they would stand in a file.

    Raises:
        SettingsError: with all problems.
    """
    loaded, problems = _settings_of(dict(values))
    if problems or loaded is None:
        raise SettingsError(problems)
    return loaded


def _last_values(pairs: Iterable[properties.Property]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    warnings = []
    for pair in pairs:
        key = _fold_aws(pair.key)
        if key in values:
            warnings.append(f"{key} is set again on line {pair.line}; the last value counts.")
        values[key] = pair.value
    return values, warnings


def _fold_aws(key: str) -> str:
    # Published pages print both `-aws-` and `-AWS-`.
    start = key.lower().find("-aws-")
    return key if start < 0 else key[:start] + "-aws-" + key[start + 5 :]


def _settings_of(values: dict[str, str]) -> tuple[Loaded | None, list[str]]:
    values = {_fold_aws(key): value.strip() for key, value in values.items() if value.strip()}
    warnings = [_unknown(key) for key in values if key not in KNOWN_KEYS]
    warnings += [f"{key} has no effect: {IGNORED[key]}." for key in values if key in IGNORED]
    warnings += [
        f"{key} has no effect yet: {NOT_YET[key]}."
        for key in values
        if key in NOT_YET and _acts(key, values[key])
    ]
    problems = [f"{key}: {REFUSED[key]}." for key in values if key in REFUSED]
    problems += _discovery_problems(values) + _persistence_problems(values)
    warnings += _deleted_kept(values)
    warnings += _working_path(values)
    settings, invalid = _validated(values)
    problems += invalid
    if settings is None:
        return None, problems
    sessions = settings.sessions
    limit = sessions.unreachable_server_kept_s
    if (sessions.unreachable_sessions_kept_s or 0) > limit:
        warnings.append(
            f"seconds-before-deleting-sessions-unreachable-server is limited to {limit}, "
            "when the server itself goes."
        )
        limited = sessions.model_copy(update={"unreachable_sessions_kept_s": limit})
        settings = settings.model_copy(update={"sessions": limited})
    if not settings.authorization.enable_authorization:
        warnings.append(
            "ATTENTION: enable-authorization is false, so anybody who reaches the port may do everything."
        )
    return Loaded(settings, warnings), problems


def _acts(key: str, value: str) -> bool:
    """Whether a key that does nothing yet would do something with this value."""
    return value.lower() not in ("false", "0") and not (key == "ext-log-format" and value == "text")


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, KNOWN_KEYS, n=1)
    return f"Unknown key {key}" + (f"; did you mean {near[0]}?" if near else ".")


def _validated(values: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    by_topic: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if key in _FIELDS:
            by_topic.setdefault(_FIELDS[key][0], {})[key] = value
    try:
        return Settings.model_validate(by_topic), []
    except ValidationError as error:
        return None, [_problem(str(item["loc"][1]), values, item["msg"]) for item in error.errors()]


def _problem(key: str, values: Mapping[str, str], message: str) -> str:
    shown = "(hidden)" if key.endswith(_SECRET_ENDINGS) else repr(values.get(key, ""))
    # pydantic writes "Value error, must be true or false" and "Input should be less than ...".
    reason = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{key} = {shown}: {reason}."


def _deleted_kept(values: dict[str, str]) -> list[str]:
    hours = values.pop("delete-session-duration-hours", None)
    if hours is None:
        return []
    seconds_key = "delete-session-duration-seconds"
    if seconds_key in values:
        return [f"delete-session-duration-hours has no effect: {seconds_key} is set too."]
    # A value that is no number stays as it is and is reported under the newer name.
    values[seconds_key] = str(int(hours) * 3600) if hours.isascii() and hours.isdecimal() else hours
    return [f"delete-session-duration-hours is the older form of {seconds_key}."]


def _working_path(values: dict[str, str]) -> list[str]:
    key = "session-manager-working-path"
    if key in values:
        return []
    is_service = os.geteuid() == 0 or getpass.getuser() == SERVICE_USER
    chosen = SERVICE_PATH if is_service else platformdirs.user_state_path(SERVICE_USER)
    values[key] = str(chosen)
    return [f"{key} is not set; using {chosen}, never the temporary folder."]


def _persistence_problems(values: Mapping[str, str]) -> list[str]:
    if values.get("enable-persistence", "false").lower() not in ("true", "false"):
        return [f"enable-persistence = {values['enable-persistence']!r}: must be true or false."]
    if values.get("enable-persistence", "false").lower() == "false":
        return []
    database = values.get("persistence-db", "")
    if database == "sqlite":
        return []
    return [
        f"persistence-db = {database!r}: this version keeps its data in SQLite in the working path; "
        "set enable-persistence = false, or persistence-db = sqlite."
    ]


def _discovery_problems(values: Mapping[str, str]) -> list[str]:
    key = "broker-to-broker-discovery-addresses"
    hosts = [
        part.strip().rpartition(":")[0].strip("[]") for part in values.get(key, "").split(",") if part.strip()
    ]
    others = [host for host in hosts if not _is_own(host)]
    return [f"{key} names another broker ({', '.join(others)}): {_ONE_BROKER}."] if others else []


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", socket.gethostname().lower())
