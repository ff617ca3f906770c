"""Requests and answers of the Session Manager API, field names as on the wire.

Both sides use these: the broker reads requests tolerantly and exactly reports
what it cannot read, clients read answers tolerantly (unknown fields are
ignored, printed variants of the guide are understood). Nothing here does I/O.

Attributes are `snake_case`; the wire's PascalCase names are mapped once, in
`_wire_name`. Pages of servers and sessions are not read through these models on
hot paths, see `dcvtui.fleet`.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError

_DECIMAL = re.compile(r"[+-]?[0-9]+\Z")


class RequestError(ValueError):
    """A request that is refused whole with HTTP 400; the text is the API's error text."""


def _wire_name(attribute: str) -> str:
    name = "".join(part.capitalize() for part in attribute.split("_"))
    # The JSON says EC2InstanceId although everything else is plain PascalCase (API specification, D6).
    return "EC2" + name[3:] if name.startswith("Ec2") else name


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("not an integer")  # noqa: TRY004  pydantic turns ValueError into its own report
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DECIMAL.match(value):
        return int(value)
    raise ValueError("not an integer")


def _long(value: Any) -> int:
    number = _integer(value)
    # Requests are echoed, and a generated client fails on a whole answer with a longer number in it.
    if not -(2**63) <= number < 2**63:
        raise ValueError("not an integer of 64 bits")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("not a boolean")


Integer = Annotated[int, BeforeValidator(_integer)]
Long = Annotated[int, BeforeValidator(_long)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Text = StrictStr


def _plain_text(value: Any) -> Any:
    # Ports are strings in one place and numbers in another (API specification, D5); clients take both.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


AnyText = Annotated[str, BeforeValidator(_plain_text)]


class WireModel(BaseModel):
    """An object of the API. Absent and null fields are `None`; unknown ones are ignored."""

    model_config = ConfigDict(alias_generator=_wire_name, populate_by_name=True, extra="ignore")

    @classmethod
    def wire_names(cls) -> dict[str, str]:
        """The wire name of each field by its attribute name."""
        return {attribute: field.alias or attribute for attribute, field in cls.model_fields.items()}

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Read an answer of any broker: other letter case and separators in names are understood.

        Raises:
            ValidationError: a value has a type that no broker should send.
        """
        return cls.model_validate(_canonical_tree(cls, raw))

    def to_wire(self) -> dict[str, Any]:
        """The object as it goes over the wire: wire names, no nulls."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


# Spellings of the printed guide that differ by more than case and separators.
_REQUEST_ALIASES = {
    "permissionfile": "PermissionsFile",
    "maxconcurrents": "MaxConcurrentClients",
}
_ANSWER_ALIASES = {
    "unsuccessfulllist": "UnsuccessfulList",  # guide, CreateSessions sample (D1)
    "openserverrequestdata": "CloseServerRequestData",  # guide, CloseServers sample (D2)
}


@cache
def _canonical_names(model: type[WireModel]) -> Mapping[str, str]:
    return {_fold(name): name for name in model.wire_names().values()}


def _canonical_tree(model: type[WireModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {**_ANSWER_ALIASES, **_canonical_names(model)}
    children = {
        field.alias: child
        for field in model.model_fields.values()
        if (child := _child_model(field.annotation))
    }
    result: dict[str, Any] = {}
    for name, value in raw.items():
        canonical = names.get(_fold(name))
        if canonical is None or value is None or (canonical in result and name != canonical):
            continue
        result[canonical] = _canonical_value(children.get(canonical), value)
    return result


def _canonical_value(child: type[WireModel] | None, value: Any) -> Any:
    if child and isinstance(value, Mapping):
        return _canonical_tree(child, value)
    if child and isinstance(value, list):
        return [_canonical_value(child, item) for item in value]
    return value


def _child_model(annotation: Any) -> type[WireModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, WireModel) else None
    for argument in getattr(annotation, "__args__", ()):
        if found := _child_model(argument):
            return found
    return None


def canonical_fields(model: type[WireModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request item under canonical names, values as sent, nulls left out.

    Raises:
        RequestError: a field that the model does not have.
    """
    names = _canonical_names(model)
    result: dict[str, Any] = {}
    exact: set[str] = set()
    for name, value in raw.items():
        folded = _fold(name)
        canonical = names.get(folded)
        if canonical is None:
            alias = _REQUEST_ALIASES.get(folded)
            canonical = alias if alias in names.values() else None
        if canonical is None:
            raise RequestError(f'Unrecognized field "{name}"')
        if value is None or canonical in exact:
            continue
        if name == canonical:
            exact.add(canonical)
        elif canonical in result:
            continue  # two other spellings of one field: the first counts
        result[canonical] = value
    return result


RequestT = TypeVar("RequestT", bound=WireModel)


def read_request(model: type[RequestT], raw: Mapping[str, Any]) -> RequestT:
    """Read one request object or item, tolerant as section 1.4 of the API specification says.

    Raises:
        RequestError: with the text of the HTTP 400 answer.
    """
    fields = canonical_fields(model, raw)
    if isinstance(fields.get("Filters"), list):
        filters = fields["Filters"]
        if not all(isinstance(item, Mapping) for item in filters):
            raise RequestError('Invalid value for field "Filters"')
        fields["Filters"] = [canonical_fields(KeyValuePair, item) for item in filters]
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise RequestError(f'Invalid value for field "{field}"') from None


class KeyValuePair(WireModel):
    """A tag of a server, or a filter of DescribeSessions."""

    key: Text | None = None
    value: Text | None = None


# ------------------------------------------------------------------ servers and sessions


class Endpoint(WireModel):
    """Where a DCV server listens: `HTTP` (WebSocket over TCP) or `QUIC` (UDP)."""

    ip_address: str | None = None
    port: Integer | None = None
    web_url_path: str | None = None
    protocol: str | None = None


class Os(WireModel):
    """The operating system of a host."""

    family: str | None = None
    name: str | None = None
    version: str | None = None
    kernel_version: str | None = None
    build_number: str | None = None


class Memory(WireModel):
    """Main memory, in bytes."""

    total_bytes: Integer | None = None
    used_bytes: Integer | None = None


class Swap(WireModel):
    """Swap space, in bytes."""

    total_bytes: Integer | None = None
    used_bytes: Integer | None = None


class Aws(WireModel):
    """Facts of a host that is an EC2 instance."""

    region: str | None = None
    ec2_instance_type: str | None = None
    ec2_instance_id: str | None = None
    ec2_image_id: str | None = None


class CpuInfo(WireModel):
    """The processor of a host."""

    vendor: str | None = None
    model_name: str | None = None
    architecture: str | None = None
    number_of_cpus: Integer | None = None
    physical_cores_per_cpu: Integer | None = None


class CpuLoadAverage(WireModel):
    """Load averages, in runnable processes."""

    one_minute: float | None = None
    five_minutes: float | None = None
    fifteen_minutes: float | None = None


class Gpu(WireModel):
    """One graphics processor."""

    vendor: str | None = None
    model_name: str | None = None


class LoggedInUser(WireModel):
    """A user logged in on a host."""

    username: str | None = None


class Host(WireModel):
    """Facts and metrics of the machine a DCV server runs on."""

    os: Os | None = None
    memory: Memory | None = None
    swap: Swap | None = None
    aws: Aws | None = None
    cpu_info: CpuInfo | None = None
    cpu_load_average: CpuLoadAverage | None = None
    gpus: list[Gpu] | None = None
    logged_in_users: list[LoggedInUser] | None = None


class Server(WireModel):
    """A DCV server as the broker knows it."""

    id: str | None = None
    ip: str | None = None
    hostname: str | None = None
    default_dns_name: str | None = None
    port: AnyText | None = None
    endpoints: list[Endpoint] | None = None
    web_url_path: str | None = None
    version: str | None = None
    session_manager_agent_version: str | None = None
    availability: str | None = None
    unavailability_reason: str | None = None
    console_session_count: Integer | None = None
    virtual_session_count: Integer | None = None
    host: Host | None = None
    tags: list[KeyValuePair] | None = None


class Session(WireModel):
    """A session; its times are RFC 3339 texts in UTC, as sent."""

    id: str | None = None
    name: str | None = None
    owner: str | None = None
    server: Server | None = None
    type: str | None = None
    max_concurrent_clients: Integer | None = None
    state: str | None = None
    substate: str | None = None
    state_reason: str | None = None
    creation_time: str | None = None
    last_disconnection_time: str | None = None
    num_of_connections: Integer | None = None
    storage_root: str | None = None


# ------------------------------------------------------------------ requests


class DescribeSessionsRequestData(WireModel):
    """Body of DescribeSessions."""

    session_ids: list[Text] | None = None
    filters: list[KeyValuePair] | None = None
    max_results: Integer | None = None
    next_token: Text | None = None


class DescribeServersRequestData(WireModel):
    """Body of DescribeServers."""

    server_ids: list[Text] | None = None
    max_results: Integer | None = None
    next_token: Text | None = None


class CreateSessionRequestData(WireModel):
    """One session to create. `permissions_file` is Base64."""

    name: Text | None = None
    owner: Text | None = None
    type: Text | None = None
    dcv_gl_enabled: Boolean | None = None
    max_concurrent_clients: Long | None = None
    init_file_path: Text | None = None
    init_file: Text | None = None
    autorun_file: Text | None = None
    autorun_file_arguments: list[Text] | None = None
    permissions_file: Text | None = None
    requirements: Text | None = None
    enqueue_request: Boolean | None = None
    disable_retry_on_failure: Boolean | None = None
    storage_root: Text | None = None


class DeleteSessionRequestData(WireModel):
    """One session to delete."""

    session_id: Text | None = None
    owner: Text | None = None
    force: Boolean | None = None


class UpdateSessionPermissionsRequestData(WireModel):
    """A new permissions file (Base64) for one session; it replaces the former one whole."""

    session_id: Text | None = None
    owner: Text | None = None
    permissions_file: Text | None = None


class GetSessionScreenshotRequestData(WireModel):
    """A screenshot that fits in the given number of pixels."""

    session_id: Text | None = None
    max_width: Long | None = None
    max_height: Long | None = None


class OpenServerRequestData(WireModel):
    """A server that placement may use again."""

    server_id: Text | None = None


class CloseServerRequestData(WireModel):
    """A server that placement must leave alone."""

    server_id: Text | None = None
    force: Boolean | None = None


# ------------------------------------------------------------------ answers


class DescribeSessionsResponse(WireModel):
    """One page of sessions."""

    request_id: str | None = None
    sessions: list[Session] = Field(default_factory=list)
    next_token: str | None = None


class DescribeServersResponse(WireModel):
    """One page of servers."""

    request_id: str | None = None
    servers: list[Server] = Field(default_factory=list)
    next_token: str | None = None


class UnsuccessfulCreateSessionRequestData(WireModel):
    """A session that was not created, and why."""

    create_session_request_data: CreateSessionRequestData | None = None
    failure_reason: str | None = None


class CreateSessionsResponse(WireModel):
    """Answer of CreateSessions."""

    request_id: str | None = None
    successful_list: list[Session] = Field(default_factory=list)
    unsuccessful_list: list[UnsuccessfulCreateSessionRequestData] = Field(default_factory=list)


class DeleteSessionSuccessfulResponse(WireModel):
    """A session that is being deleted."""

    session_id: str | None = None
    state: str | None = None


class DeleteSessionUnsuccessfulResponse(WireModel):
    """A session that is not deleted, and why."""

    session_id: str | None = None
    failure_reason: str | None = None


class DeleteSessionsResponse(WireModel):
    """Answer of DeleteSessions."""

    request_id: str | None = None
    successful_list: list[DeleteSessionSuccessfulResponse] = Field(default_factory=list)
    unsuccessful_list: list[DeleteSessionUnsuccessfulResponse] = Field(default_factory=list)


class UpdateSessionPermissionsSuccessfulResponse(WireModel):
    """A session whose new permissions were sent to its host."""

    session_id: str | None = None


class UpdateSessionPermissionsUnsuccessfulResponse(WireModel):
    """A session whose permissions stay as they are, and why."""

    session_id: str | None = None
    failure_reason: str | None = None


class UpdateSessionPermissionsResponse(WireModel):
    """Answer of UpdateSessionPermissions."""

    request_id: str | None = None
    successful_list: list[UpdateSessionPermissionsSuccessfulResponse] = Field(default_factory=list)
    unsuccessful_list: list[UpdateSessionPermissionsUnsuccessfulResponse] = Field(default_factory=list)


class GetSessionConnectionDataResponse(WireModel):
    """How to reach a session: its server, and a token for one user. The token is a secret."""

    session: Session | None = None
    connection_token: str | None = Field(default=None, repr=False)


class SessionScreenshotImage(WireModel):
    """A picture of one display; `data` is Base64, `format` is `png` or `jpeg`."""

    format: str | None = None
    data: str | None = Field(default=None, repr=False)
    creation_time: str | None = None
    primary: Boolean | None = None


class SessionScreenshot(WireModel):
    """The pictures of one session."""

    session_id: str | None = None
    images: list[SessionScreenshotImage] = Field(default_factory=list)


class GetSessionScreenshotSuccessfulResponse(WireModel):
    """A session whose picture was taken."""

    session_screenshot: SessionScreenshot | None = None


class GetSessionScreenshotUnsuccessfulResponse(WireModel):
    """A session whose picture was not taken, and why."""

    get_session_screenshot_request_data: GetSessionScreenshotRequestData | None = None
    failure_reason: str | None = None


class GetSessionScreenshotsResponse(WireModel):
    """Answer of GetSessionScreenshots."""

    request_id: str | None = None
    successful_list: list[GetSessionScreenshotSuccessfulResponse] = Field(default_factory=list)
    unsuccessful_list: list[GetSessionScreenshotUnsuccessfulResponse] = Field(default_factory=list)


class OpenServerSuccessfulResponse(WireModel):
    """A server that is open."""

    server_id: str | None = None


class OpenServerUnsuccessfulResponse(WireModel):
    """A server that was not opened, and why."""

    open_server_request_data: OpenServerRequestData | None = None
    failure_code: str | None = None
    failure_reason: str | None = None


class OpenServersResponse(WireModel):
    """Answer of OpenServers."""

    request_id: str | None = None
    successful_list: list[OpenServerSuccessfulResponse] = Field(default_factory=list)
    unsuccessful_list: list[OpenServerUnsuccessfulResponse] = Field(default_factory=list)


class CloseServerSuccessfulResponse(WireModel):
    """A server that is closed."""

    server_id: str | None = None


class CloseServerUnsuccessfulResponse(WireModel):
    """A server that was not closed, and why."""

    close_server_request_data: CloseServerRequestData | None = None
    failure_code: str | None = None
    failure_reason: str | None = None


class CloseServersResponse(WireModel):
    """Answer of CloseServers."""

    request_id: str | None = None
    successful_list: list[CloseServerSuccessfulResponse] = Field(default_factory=list)
    unsuccessful_list: list[CloseServerUnsuccessfulResponse] = Field(default_factory=list)
