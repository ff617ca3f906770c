"""The broker's settings, nested by topic, with the keys of `session-manager-broker.properties` as aliases.

`settings_keys` says what becomes of every key, `settings_file` reads the file. Each
field's docstring is its documentation. Fields marked `LIVE` follow the file while
the broker runs, when it is told to read it again; the others need a restart.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SecretStr

SERVICE_PATH = Path("/var/lib/dcvsmbroker")
SERVICE_LOG_PATH = Path("/var/log/dcv-session-manager-broker")

SQLITE_URL = "jdbc:sqlite:"

LIVE: dict[str, JsonValue] = {"live": True}
"""Marks a field that a running broker can change."""


def _boolean(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _integer(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if not text.lstrip("+-").isascii() or not text.lstrip("+-").isdecimal():
            raise ValueError("must be a whole number")
        return int(text)
    return value


def _names(value: Any) -> Any:
    return [name for part in value.split(",") if (name := part.strip())] if isinstance(value, str) else value


def _address(value: Any) -> Any:
    text = str(value).strip()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _image_format(value: Any) -> Any:
    return "jpeg" if _lower(value) == "jpg" else _lower(value)


def _database_file(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    path = value.removeprefix(SQLITE_URL).partition("?")[0]
    if not value.startswith(SQLITE_URL) or not path.startswith("/"):
        raise ValueError(f"must be {SQLITE_URL}/PATH for persistence-db = sqlite")
    return Path(path)


Switch = Annotated[bool, BeforeValidator(_boolean)]
Whole = Annotated[int, BeforeValidator(_integer)]
Port = Annotated[int, BeforeValidator(_integer), Field(ge=0, le=65535)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Address = Annotated[str, BeforeValidator(_address)]
DatabaseFile = Annotated[Path, BeforeValidator(_database_file)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
ImageFormat = Annotated[Literal["png", "jpeg"], BeforeValidator(_image_format)]


class Topic(BaseModel):
    """Settings that belong together; each field's alias is its key in the file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class Files(Topic):
    """Where the broker keeps things."""

    working_path: Path = Field(default=SERVICE_PATH, alias="session-manager-working-path")
    """Folder for everything the broker writes; only the broker may read it."""
    database_file: DatabaseFile | None = Field(default=None, alias="jdbc-connection-url")
    """`jdbc:sqlite:/PATH` with `enable-persistence` puts the database elsewhere than in the working path."""
    allow_insecure_config: Switch = Field(default=False, alias="ext-allow-insecure-config")
    """Start although others may read or write the configuration file."""


class ClientApi(Topic):
    """The listener for API clients, and the limits of the API."""

    https_port: Port = Field(default=8443, alias="client-to-broker-connector-https-port")
    """Port for API clients; 0 lets the system choose."""
    bind_host: Address = Field(default="0.0.0.0", alias="client-to-broker-connector-bind-host")  # noqa: S104  documented default
    """Address to listen on; `::` takes both families."""
    key_store_file: Path | None = Field(default=None, alias="client-to-broker-connector-key-store-file")
    """Key store (PKCS#12 or PEM) with the listener's certificate; none: a generated one."""
    key_store_pass: SecretStr | None = Field(default=None, alias="client-to-broker-connector-key-store-pass")
    """Its password."""
    enable_api_yaml: Switch = Field(default=True, alias="enable-api-yaml", json_schema_extra=LIVE)
    """Serve the API definition at `/dcv-session-manager-api.yaml`."""
    live_changes: Switch = Field(default=True, alias="ext-live-changes")
    """Tell consoles of changes as they happen, at a path of our own that `/health` announces."""
    max_requests_per_second: Whole = Field(
        default=1000, ge=1, alias="max-api-requests-per-second", json_schema_extra=LIVE
    )
    """Requests per second and caller address; those above are answered 429."""
    throttle_by_forwarded_for: Switch = Field(
        default=False, alias="enable-throttling-forwarded-for-header", json_schema_extra=LIVE
    )
    """Take the caller address for throttling from `X-Forwarded-For`."""
    screenshot_max_width: Whole = Field(
        default=160, ge=1, alias="session-screenshot-max-width", json_schema_extra=LIVE
    )
    """Width of a screenshot when the request gives none."""
    screenshot_max_height: Whole = Field(
        default=100, ge=1, alias="session-screenshot-max-height", json_schema_extra=LIVE
    )
    """Height of a screenshot when the request gives none."""
    screenshot_format: ImageFormat = Field(
        default="png", alias="session-screenshot-format", json_schema_extra=LIVE
    )
    """`png` or `jpeg`."""


class Sessions(Topic):
    """How sessions are created, and how long records of them stay."""

    queue_max_size: Whole = Field(
        default=1000, ge=0, alias="create-sessions-queue-max-size", json_schema_extra=LIVE
    )
    """Create requests that may wait for a server."""
    queue_max_time_s: Whole = Field(
        default=1800, ge=1, alias="create-sessions-queue-max-time-seconds", json_schema_extra=LIVE
    )
    """How long one may wait."""
    retries_on_failure: Whole = Field(
        default=2, ge=0, alias="create-sessions-number-of-retries-on-failure", json_schema_extra=LIVE
    )
    """Further attempts after a creation failed on a host."""
    create_deadline_s: Whole = Field(
        default=60, ge=1, le=86_400, alias="ext-create-deadline-seconds", json_schema_extra=LIVE
    )
    """How long a host may take to create a session before the attempt counts as failed."""
    autorun_arguments_max: Whole = Field(
        default=50, ge=0, alias="autorun-file-arguments-max-size", json_schema_extra=LIVE
    )
    """Most entries of `AutorunFileArguments`."""
    autorun_argument_length_max: Whole = Field(
        default=150, ge=0, alias="autorun-file-arguments-max-argument-length", json_schema_extra=LIVE
    )
    """Most characters of one of them."""
    connection_token_minutes: Whole = Field(
        default=60, ge=1, alias="connect-session-token-duration-minutes", json_schema_extra=LIVE
    )
    """How long a connection token stays valid."""
    deleted_kept_s: Whole = Field(
        default=3600, ge=0, alias="delete-session-duration-seconds", json_schema_extra=LIVE
    )
    """How long a deleted session is still described."""
    unreachable_server_kept_s: Whole = Field(
        default=1800, ge=60, alias="seconds-before-deleting-unreachable-dcv-server", json_schema_extra=LIVE
    )
    """How long a server is still described after its agent was lost."""
    unreachable_sessions_kept_s: Whole | None = Field(
        default=None,
        ge=0,
        alias="seconds-before-deleting-sessions-unreachable-server",
        json_schema_extra=LIVE,
    )
    """The same for the sessions of such a server; not set: they go with their server."""


class Authorization(Topic):
    """Who may talk to the broker."""

    enable_authorization_server: Switch = Field(default=True, alias="enable-authorization-server")
    """The broker itself issues access tokens."""
    enable_authorization: Switch = Field(default=True, alias="enable-authorization")
    """API requests need an access token."""
    enable_agent_authorization: Switch = Field(default=True, alias="enable-agent-authorization")
    """Agents register and authenticate."""
    access_token_s: Whole = Field(
        default=3600, ge=1, alias="ext-access-token-duration-seconds", json_schema_extra=LIVE
    )
    """Lifetime of issued access tokens."""
    reject_default_statement: Switch = Field(default=False, alias="ext-reject-default-software-statement")
    """Refuse the software statement that every installation knows."""
    external_issuers: Names = Field(default=(), alias="ext-external-auth-issuers", json_schema_extra=LIVE)
    """Issuers that external tokens may name; empty: any."""
    external_audiences: Names = Field(default=(), alias="ext-external-auth-audiences", json_schema_extra=LIVE)
    """Audiences that external tokens must name one of; empty: any."""
    external_scopes: Names = Field(
        default=(), alias="ext-external-auth-required-scopes", json_schema_extra=LIVE
    )
    """Scopes that external tokens must hold; empty: none."""


class AgentListener(Topic):
    """The listener for agents and for the token checks of DCV servers."""

    https_port: Port = Field(default=8445, alias="agent-to-broker-connector-https-port")
    """Port for agents; 0 lets the system choose."""
    bind_host: Address = Field(default="0.0.0.0", alias="agent-to-broker-connector-bind-host")  # noqa: S104  documented default
    """Address to listen on."""
    key_store_file: Path | None = Field(default=None, alias="agent-to-broker-connector-key-store-file")
    """Key store (PKCS#12 or PEM) with the listener's certificate; none: a generated one."""
    key_store_pass: SecretStr | None = Field(default=None, alias="agent-to-broker-connector-key-store-pass")
    """Its password."""
    loss_grace_s: Whole = Field(default=15, ge=0, alias="ext-agent-loss-grace-seconds")
    """Time between a lost channel and `UNREACHABLE_AGENT`."""


class Gateway(Topic):
    """The listener for the Connection Gateway."""

    enabled: Switch = Field(default=False, alias="enable-gateway")
    """Open the session resolver."""
    https_port: Port = Field(default=8447, alias="gateway-to-broker-connector-https-port")
    """Its port."""
    bind_host: Address = Field(default="0.0.0.0", alias="gateway-to-broker-connector-bind-host")  # noqa: S104  documented default
    """Address to listen on."""
    key_store_file: Path | None = Field(default=None, alias="gateway-to-broker-connector-key-store-file")
    """Key store (PKCS#12 or PEM) with the listener's certificate; none: a generated one."""
    key_store_pass: SecretStr | None = Field(default=None, alias="gateway-to-broker-connector-key-store-pass")
    """Its password."""
    require_client_certificate: Switch = Field(default=False, alias="enable-tls-client-auth-gateway")
    """Refuse a gateway that shows no certificate of the trust store."""
    trust_store_file: Path | None = Field(default=None, alias="gateway-to-broker-connector-trust-store-file")
    """The CAs (PKCS#12 or PEM) whose certificates gateways may show."""
    trust_store_pass: SecretStr | None = Field(
        default=None, alias="gateway-to-broker-connector-trust-store-pass"
    )
    """Its password."""


class Tls(Topic):
    """Generated certificates."""

    extra_names: Names = Field(default=(), alias="ext-tls-extra-names")
    """More host names and addresses for the certificate."""
    ca_cert_file: Path | None = Field(default=None, alias="ext-tls-ca-cert-file")
    """CA certificate (PEM) that signs the generated certificates, instead of a generated CA."""
    ca_key_file: Path | None = Field(default=None, alias="ext-tls-ca-key-file")
    """Its private key (PEM, not encrypted)."""


class Running(Topic):
    """Stopping, logging, metrics."""

    shutdown_grace_s: Whole = Field(default=10, ge=0, alias="ext-shutdown-grace-seconds")
    """How long requests under way may take after SIGTERM."""
    log_path: Path = Field(default=SERVICE_LOG_PATH, alias="ext-log-path")
    """Folder of `broker.log` and `audit.log`; with a working path of one's own: `log` in it."""
    log_level: LogLevel = Field(default="info", alias="ext-log-level", json_schema_extra=LIVE)
    """Least severity that is logged."""
    log_format: Literal["text", "json"] = Field(default="text", alias="ext-log-format")
    """`json` for one object per line."""
    fleet_name: str = Field(default="default", alias="metrics-fleet-name-dimension")
    """Label of the metrics."""
    metrics_bind: Address = Field(default="127.0.0.1", alias="ext-metrics-bind")
    """Address of the metrics listener."""
    metrics_port: Port = Field(default=0, alias="ext-metrics-port")
    """Its port; 0: none."""


class Settings(Topic):
    """Everything the broker can be told."""

    files: Files = Files()
    client: ClientApi = ClientApi()
    sessions: Sessions = Sessions()
    authorization: Authorization = Authorization()
    agent: AgentListener = AgentListener()
    gateway: Gateway = Gateway()
    tls: Tls = Tls()
    running: Running = Running()
