"""What becomes of every key of the properties file: honoured, mapped, ignored or refused, and why.

The 63 keys of the original product and those of our own (`ext-`) are all here.
`settings` holds the values of the honoured ones, `settings_file` reads them.
"""

import difflib
import enum

from pydantic.fields import FieldInfo

from broker_stub.broker.settings import Settings, Topic

WORKING_PATH = "session-manager-working-path"
LOG_PATH = "ext-log-path"
DELETED_HOURS = "delete-session-duration-hours"
DELETED_SECONDS = "delete-session-duration-seconds"
UNREACHABLE_SERVER = "seconds-before-deleting-unreachable-dcv-server"
UNREACHABLE_SESSIONS = "seconds-before-deleting-sessions-unreachable-server"
DISCOVERY_ADDRESSES = "broker-to-broker-discovery-addresses"
ENABLE_PERSISTENCE = "enable-persistence"
PERSISTENCE_DB = "persistence-db"
DATABASE_URL = "jdbc-connection-url"

ONE_BROKER = "this version runs as a single broker; remove the key"
"""Why a second broker is refused."""


class Treatment(enum.StrEnum):
    """What a key does here, compared with the original product."""

    SAME = "same"
    MAPPED = "mapped"
    IGNORED = "ignored"
    REFUSED = "refused"
    OURS = "ours"


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
    "enable-cloud-watch-metrics": "nothing is sent to CloudWatch; ext-metrics-port offers the metrics",
    "cloud-watch-region": "metrics are not sent to CloudWatch",
    "dynamodb-region": "DynamoDB is not used",
    "dynamodb-table-rcu": "DynamoDB is not used",
    "dynamodb-table-wcu": "DynamoDB is not used",
    "dynamodb-table-name-prefix": "DynamoDB is not used",
}
"""Keys of the original product that have no effect here, with the reason that is logged."""

REFUSED = {
    "broker-to-broker-discovery-multicast-group": ONE_BROKER,
    "broker-to-broker-discovery-multicast-port": ONE_BROKER,
    "broker-to-broker-discovery-aws-region": ONE_BROKER,
    "broker-to-broker-discovery-aws-alb-target-group-arn": ONE_BROKER,
}
"""Keys whose effect would be missed badly: a value for one stops the start."""

MAPPED = {
    "cli-to-broker-port": "a socket file in the working path is used; no port is opened",
    "client-to-broker-connector-key-store-file": "PKCS#12 or PEM, recognised by its content",
    "agent-to-broker-connector-key-store-file": "PKCS#12 or PEM, recognised by its content",
    "gateway-to-broker-connector-key-store-file": "PKCS#12 or PEM, recognised by its content",
    "gateway-to-broker-connector-trust-store-file": "PKCS#12 or a list of CAs in PEM",
    DELETED_HOURS: f"the older form of {DELETED_SECONDS}",
    "metrics-fleet-name-dimension": "a label of the Prometheus metrics",
    DISCOVERY_ADDRESSES: "may name this host alone: this version runs as a single broker",
    DATABASE_URL: "with enable-persistence and persistence-db = sqlite: jdbc:sqlite:/PATH",
}
"""Keys whose intent is honoured with another mechanism, which is described here."""

_READ_WITHOUT_FIELD = {
    "cli-to-broker-port",
    DISCOVERY_ADDRESSES,
    DELETED_HOURS,
    ENABLE_PERSISTENCE,
    PERSISTENCE_DB,
    "jdbc-user",
    "jdbc-password",
}
_SECRET_ENDINGS = ("-pass", "-password")


def _fields() -> dict[str, tuple[str, str, FieldInfo]]:
    found: dict[str, tuple[str, str, FieldInfo]] = {}
    for topic, topic_field in Settings.model_fields.items():
        model: type[Topic] = type(topic_field.default)
        found.update({str(info.alias): (topic, name, info) for name, info in model.model_fields.items()})
    return found


FIELDS = _fields()
"""Topic, field name and field of every key that has a value in `Settings`."""

KNOWN_KEYS = frozenset(FIELDS) | IGNORED.keys() | REFUSED.keys() | _READ_WITHOUT_FIELD
"""All keys that a file may hold."""

LIVE_KEYS = frozenset(
    key
    for key, (_, _, info) in FIELDS.items()
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("live")
) | {DELETED_HOURS}
"""The keys that a running broker takes over when it reads its file again."""


def treatment_of(key: str) -> Treatment:
    """What a known key does here."""
    if key in IGNORED:
        return Treatment.IGNORED
    if key in REFUSED:
        return Treatment.REFUSED
    if key in MAPPED:
        return Treatment.MAPPED
    return Treatment.OURS if key.startswith("ext-") else Treatment.SAME


def is_secret(key: str) -> bool:
    """Whether the key's value must never be shown."""
    return key.endswith(_SECRET_ENDINGS)


def fold(key: str) -> str:
    """The spelling of a key under which it is known: published pages print both `-aws-` and `-AWS-`."""
    start = key.lower().find("-aws-")
    return key if start < 0 else key[:start] + "-aws-" + key[start + 5 :]


def unknown_key(key: str) -> str:
    """The warning for a key that nobody knows, with the nearest one that is known."""
    near = difflib.get_close_matches(key, sorted(KNOWN_KEYS), n=1)
    return f"Unknown key {key}" + (f"; did you mean {near[0]}?" if near else ".")
