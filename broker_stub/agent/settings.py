"""`agent.conf`: its keys, their defaults, and everything that can be wrong with a file.

The file is TOML in the form of the original product, with sections of our own
(`backend`, `entrance`, `state`, `server`, `ec2`) beside its two. All errors are reported at once
and end the program with status 78; unknown keys only warn.
"""

import difflib
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails

from broker_stub.agent.layouts import read_layout, write_layout

DEFAULT_FILE = Path("/etc/dcv-session-manager-agent/agent.conf")
FILE_VERSION = "0.1"
EXIT_CONFIGURATION = 78
_SLOW_INTERVAL_S = 120
_MOST_STATEMENT_BYTES = 64 * 1024

_ON_WINDOWS = sys.platform == "win32"


class SettingsError(Exception):
    """The file cannot be used; `problems` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value else value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be an absolute path")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _geometry(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([1-9][0-9]{2,4})x([1-9][0-9]{2,4})", value)
        if match is None:
            raise ValueError("must be a size such as 1280x720")
        return (int(match[1]), int(match[2]))
    return value


def _layout(value: str) -> str:
    return write_layout(read_layout(value))


PathText = Annotated[Path, BeforeValidator(_path)]
AbsolutePath = Annotated[Path, BeforeValidator(_path), AfterValidator(_absolute)]


class Section(BaseModel):
    """A part of the file. Types are taken as TOML has them: a number is no text."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class AgentSection(Section):
    """`[agent]`"""

    broker_host: Annotated[str, AfterValidator(_not_empty)]
    """DNS name or address of the broker, or of the load balancer before several."""
    broker_port: int = Field(default=8445, ge=1, le=65535)
    """The broker's port for agents."""
    ca_file: PathText | None = None
    """PEM of the CA behind the broker's certificate; without it the system's CAs are used."""
    tls_strict: bool = True
    """Whether the broker's certificate is checked at all."""
    software_statement_path: PathText | None = None
    """File with the software statement to register with, instead of the one every installation knows."""
    tags_folder: AbsolutePath = Path(
        r"C:\Program Files\NICE\DCVSessionManagerAgent\conf\tags"
        if _ON_WINDOWS
        else "/etc/dcv-session-manager-agent/tags/"
    )
    """Folder of files with this server's tags."""
    init_folder: AbsolutePath = Path("/var/lib/dcv-session-manager-agent/init")
    """Scripts that may be a virtual session's program."""
    autorun_folder: AbsolutePath = Path(
        r"C:\ProgramData\NICE\DCVSessionManagerAgent\autorun"
        if _ON_WINDOWS
        else "/var/lib/dcv-session-manager-agent/autorun"
    )
    """Programs that may be started in a new session."""
    max_virtual_sessions: int = Field(default=-1, ge=-1)
    """Most virtual sessions on this host; -1 for any number."""
    max_concurrent_sessions_per_user: int = Field(default=1, ge=1)
    """Most virtual sessions of one user on this host."""
    broker_update_interval: int = Field(default=30, ge=1, le=3600)
    """Seconds between two reports to the broker."""
    enable_query_logged_in_users: bool = True
    """Whether the users who are logged in on this host are reported."""
    dcv_root: AbsolutePath = Path("/usr/bin/dcv")
    """The DCV command line, or the folder it is in."""


class LogSection(Section):
    """`[log]`"""

    level: Literal["error", "warning", "info", "debug", "trace"] = "info"
    """How much is written."""
    directory: AbsolutePath = Path(
        r"C:\ProgramData\NICE\DCVSessionManagerAgent\log"
        if _ON_WINDOWS
        else "/var/log/dcv-session-manager-agent/"
    )
    """Folder of `agent.log`."""
    rotation: Literal["hourly", "daily", "never"] | Annotated[int, Field(ge=1, le=1000)] = "daily"
    """When a new file is begun, or how many old ones are kept."""
    max_file_size: int = Field(
        default=10_485_760, ge=1024, validation_alias=AliasChoices("max_file_size", "max-file-size")
    )
    """Bytes after which a new file is begun."""


class LimitsSection(Section):
    """`[backend.limits]`, ours: what the processes of an X session may use."""

    open_files: int = Field(default=1024, ge=64)
    """Files open at once in one process; a program may raise it by itself, as in a login."""
    core_bytes: int = Field(default=0, ge=0)
    """Size of the picture of memory that a crash leaves behind."""
    processes: int | None = Field(default=None, ge=16)
    """Processes of one user over all sessions; the system's own number without it."""
    memory_bytes: int | None = Field(default=None, ge=64 * 2**20)
    """Address space of one process; any without it."""


Seconds = Annotated[float, Field(ge=0, le=7 * 86_400, strict=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=False)]


class SimulatedFaultSection(Section):
    """One of `[[backend.simulated.faults]]`: what goes wrong, when, and where. Times are seconds."""

    kind: Literal["slow", "failing", "stuck", "unhealthy", "unreachable", "flapping"]
    """What: commands take longer, creations fail, commands never end, no DCV server, no agent, on and off."""
    first_s: Seconds = 60.0
    """When it comes for the first time after the start."""
    for_s: Seconds = 60.0
    """How long it lasts."""
    every_s: Annotated[float, Field(ge=1, le=7 * 86_400, strict=False)] | None = None
    """From one coming to the next; without it, it comes once."""
    share: Share = 0.1
    """For how many of all servers, from 0 to 1."""


class SimulatedSection(Section):
    """`[backend.simulated]`, ours: a fleet that one process invents, for load tests."""

    servers: int = Field(default=12, ge=1, le=10_000)
    """How many."""
    sessions: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Sessions at the start; about two and a half for each server if not given."""
    seed: int = 7
    """The same seed and sizes make the same fleet."""
    still: bool = False
    """Whether nothing happens by itself."""
    latency_s: Seconds = 0.0
    """Seconds that every command takes longer."""
    failing_share: Share = 0.0
    """How many of all creations fail, from 0 to 1."""
    faults: list[SimulatedFaultSection] = Field(default_factory=list)
    """What else goes wrong, and when."""


class BackendSection(Section):
    """`[backend]`, ours: what runs the sessions."""

    type: Literal["auto", "dcv", "xvfb", "xvnc", "simulated"] = "auto"
    """`auto` takes what is installed."""
    console: Literal["auto"] | bool = "auto"
    """Whether console sessions are offered; on X hosts only where the next two keys name a display."""
    console_display: str | None = Field(default=None, pattern="^:[0-9]{1,5}$")
    """The X display on this host's own screen, such as `:0`."""
    console_authority: AbsolutePath | None = None
    """X authority file with its cookie; pictures are taken as the owner of this file."""
    session_user_mode: Literal["auto", "setuid", "same"] = "auto"
    """Whether sessions run as their owners or all as the agent's user."""
    geometry: Annotated[tuple[int, int], BeforeValidator(_geometry)] = (1280, 720)
    """Screen of a new X session."""
    layout: Annotated[str, AfterValidator(_layout)] | None = None
    """Monitors of a new X session, such as `1280x720,1024x768`; the first is the primary one."""
    desktop: list[Annotated[list[str], Field(min_length=1)]] = Field(default_factory=list)
    """Commands for a session without init file, such as `[["startxfce4"], ["xterm", "-ls"]]`: the first
    that is installed is run. Without it the best desktop, window manager or terminal of the host."""
    limits: LimitsSection = LimitsSection()
    """What the processes of an X session may use."""
    minimum_uid: int = Field(default=1000, ge=0)
    """An agent that runs as root starts no session for users with a lower number: system users."""
    simulated: SimulatedSection = SimulatedSection()
    """Size and faults of a simulated fleet; only for the type of that name."""


class EntranceSection(Section):
    """`[entrance]`, ours: where people connect to sessions on Xvnc."""

    address: str | None = None
    """Address of the interface to listen on; without it all."""
    port: int = Field(default=8443, ge=0, le=65535)
    """TCP port; 0 takes any that is free."""
    web_url_path: str = Field(default="/", pattern="^/[A-Za-z0-9._~/-]*$")
    """Path of the address that clients open."""
    certificate_file: PathText | None = None
    """PEM of the certificate that clients are shown; without it the host makes one that nobody signed."""
    key_file: PathText | None = None
    """PEM of that certificate's private key."""
    token_verifier: str | None = Field(default=None, pattern="^https://[^/?#@]+(/[^?#]*)?$")
    """Where connection tokens are checked, if not at the broker."""
    max_clients: int = Field(default=512, ge=1)
    """Most clients of all sessions of this host together."""


class StateSection(Section):
    """`[state]`, ours."""

    directory: AbsolutePath = Path("/var/lib/dcv-session-manager-agent/state")
    """Where identity, journal and sessions are kept."""


class EndpointSection(Section):
    """One of `[[server.endpoints]]`: where clients reach the sessions of this host."""

    port: int = Field(ge=1, le=65535)
    """TCP or UDP port."""
    protocol: Literal["HTTP", "QUIC"] = "HTTP"
    """`HTTP` for WebSocket over TCP, `QUIC` for UDP."""
    web_url_path: str | None = Field(default="/", pattern="^/")
    """Path of the web client."""
    ip_address: str | None = None
    """Address, if not the server's own."""


class ServerSection(Section):
    """`[server]`, ours: what is reported instead of what was found."""

    ip: str | None = None
    """Address of this server."""
    hostname: str | None = None
    """Its host name."""
    dns_name: str | None = None
    """Its DNS name."""
    endpoints: list[EndpointSection] | None = None
    """Where clients reach its sessions."""


class Ec2Section(Section):
    """`[ec2]`, ours: facts about a machine of Amazon EC2, asked for only where the firmware says so."""

    metadata: bool = True
    """Whether the metadata service is asked at all; `AWS_EC2_METADATA_DISABLED=true` forbids it as well."""
    endpoint: str = Field(default="http://169.254.169.254", pattern="^https?://[^/?#@]+$")
    """Where the service is."""


class AgentSettings(Section):
    """All of `agent.conf`."""

    agent: AgentSection
    log: LogSection = LogSection()
    backend: BackendSection = BackendSection()
    entrance: EntranceSection = EntranceSection()
    state: StateSection = StateSection()
    server: ServerSection = ServerSection()
    ec2: Ec2Section = Ec2Section()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, what belongs to them in other files, and what should be said about them."""

    settings: AgentSettings
    statement: str | None = field(default=None, repr=False)
    warnings: list[str] = field(default_factory=list)


def load_settings(path: Path) -> Loaded:
    """Read a configuration file.

    Raises:
        SettingsError: with everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}."]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"{path} is not TOML: {error}."]) from None
    problems: list[str] = []
    warnings = _unknown_names(content)
    version = content.pop("version", None)
    if version is None:
        warnings.append(f"version is missing; {FILE_VERSION!r} is assumed.")
    elif version != FILE_VERSION:
        problems.append(f"version is {version!r}; this agent reads version {FILE_VERSION!r}.")
    settings = None
    try:
        settings = AgentSettings.model_validate({"agent": {}, **content})
    except ValidationError as error:
        problems += _sentences(error.errors(), text)
    statement = None
    if settings is not None:
        statement = _statement(settings.agent.software_statement_path, problems)
        warnings += _doubts(settings)
    if settings is None or problems:
        raise SettingsError(f"{path}: {problem}" for problem in problems)
    return Loaded(settings, statement, warnings)


def _statement(path: Path | None, problems: list[str]) -> str | None:
    if path is None:
        return None
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(_MOST_STATEMENT_BYTES).strip()
    except OSError as error:
        problems.append(f"agent.software_statement_path: {path} cannot be read: {error.strerror}.")
        return None
    except UnicodeDecodeError:
        problems.append(f"agent.software_statement_path: {path} does not hold a software statement.")
        return None
    if not text:
        problems.append(f"agent.software_statement_path: {path} is empty.")
    return text


def _doubts(settings: AgentSettings) -> list[str]:
    agent = settings.agent
    doubts = []
    if settings.backend.session_user_mode == "same":
        doubts.append(
            "backend.session_user_mode is 'same': all sessions run as the agent's own user, "
            "so their owners can see each other's files and screens."
        )
    if not agent.tls_strict:
        doubts.append("agent.tls_strict is false: the broker's certificate is not checked.")
    elif agent.ca_file is None:
        doubts.append(
            "agent.ca_file is not set: the broker's certificate must come from one of the system's CAs."
        )
    if agent.broker_update_interval > _SLOW_INTERVAL_S:
        doubts.append(
            f"agent.broker_update_interval is {agent.broker_update_interval}: "
            f"above {_SLOW_INTERVAL_S} s the broker's view of this host is old."
        )
    return doubts


def _unknown_names(content: Mapping[str, Any]) -> list[str]:
    """One warning for each section and key that means nothing here, with the nearest one that does."""
    warnings: list[str] = []
    for section, fields in AgentSettings.model_fields.items():
        inside = content.get(section)
        if isinstance(inside, Mapping) and isinstance(fields.annotation, type):
            warnings += _unknown_keys(section, fields.annotation, inside)
    sections = set(AgentSettings.model_fields)
    warnings += [
        f"{name} is unknown{_nearest(name, sections)}"
        for name in content
        if name not in {*sections, "version"}
    ]
    return warnings


def _unknown_keys(section: str, model: type[BaseModel], content: Mapping[str, Any]) -> Iterator[str]:
    known = set(model.model_fields) | ({"max-file-size"} if section == "log" else set())
    for key, value in content.items():
        if key not in known:
            yield f"{section}.{key} is unknown{_nearest(key, known)}"
            continue
        inner = _section_in(model, key)
        for one in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(one, Mapping):
                yield from _unknown_keys(f"{section}.{key}", inner, one)


def _section_in(model: type[BaseModel], key: str) -> type[Section] | None:
    """What a key holds, or holds a list of, if that is a section."""
    if key not in model.model_fields:
        return None
    annotation = model.model_fields[key].annotation
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, Section):
            return one
    return None


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]}?" if found else "."


def _sentences(errors: Iterable[ErrorDetails], text: str) -> list[str]:
    """What is wrong, one sentence a key: a union reports every form that did not fit."""
    found: dict[str, str] = {}
    for error in errors:
        place = _place(error["loc"])
        key = ".".join(place)
        if key in found:
            continue
        line = _line_of(text, place)
        where = f" (line {line})" if line else ""
        if error["type"] == "missing":
            found[key] = f"{key} is missing."
        else:
            said = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            found[key] = f"{key}{where}: {said}; it is {_shown(error['input'])}."
    return list(found.values())


def _place(parts: tuple[str | int, ...]) -> list[str]:
    """The names of sections and key; what follows only says which form of a union did not fit."""
    model: type[BaseModel] | None = AgentSettings
    place: list[str] = []
    for part in parts:
        if isinstance(part, str):
            if model is None:
                break
            model = _section_in(model, part)
        place.append(str(part))
    return place


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line_of(text: str, place: list[str]) -> int | None:
    """The line a key stands in. The TOML reader does not tell, so this looks for it in plain files."""
    section, found = "", None
    within = ".".join(part for part in place[:-1] if not part.isdigit())
    dotted = re.compile(rf"\s*{re.escape('.'.join(place))}\s*=")
    plain = re.compile(rf"\s*[\"']?{re.escape(place[-1])}[\"']?\s*=")
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]\s]+)\s*\]+", line):
            section = header[1]
            found = number if place == [section] else found
        elif (dotted if not section else plain).match(line) and section in ("", within):
            return number
    return found
