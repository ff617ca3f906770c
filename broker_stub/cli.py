"""The commands `dcv-session-manager-broker` and `dcv-session-manager-agent`.

`start` runs a broker; the other broker commands talk to a running one through
its administration socket. Scripts cut the printed texts, which are therefore
stable. The agent's command lives in `agent_cli`.
"""

# ruff: noqa: PLC0415  imports inside commands: a short command should not pay for a whole broker

import enum
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import click

if TYPE_CHECKING:
    import httpx

    from broker_stub.broker.settings import Settings

_CONFIG_VARIABLE = "DCVSM_BROKER_CONFIG"


class ExitCode(enum.IntEnum):
    """How the broker's commands end."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 69
    NOT_PERMITTED = 77
    CONFIGURATION = 78


def agent_main() -> None:
    """Entry point of `dcv-session-manager-agent`."""
    from broker_stub.agent_cli import agent_main as run_agent

    run_agent()


def _fail(sentence: str, code: ExitCode) -> NoReturn:
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)


def _config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=_CONFIG_VARIABLE,
        help="The broker's properties file.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def broker_main() -> None:
    """Run and administer the Session Manager broker."""


@broker_main.command()
@_config_option
@click.option("--ready-fd", type=int, help="Write one JSON line to this descriptor when ready.")
@click.option(
    "--allow-insecure-config", is_flag=True, help="Start although others may read or write the file."
)
def start(config: Path | None, ready_fd: int | None, allow_insecure_config: bool) -> None:
    """Run the broker in the foreground until SIGTERM or SIGINT."""
    from broker_stub.broker.coordinator import utc_now
    from broker_stub.broker.key_stores import problems_of
    from broker_stub.broker.process import run
    from broker_stub.broker.service import prepare_working_path
    from broker_stub.broker.settings_file import DEFAULT_FILE, SettingsError, load_file

    try:
        loaded = load_file(
            config or DEFAULT_FILE, allow_insecure_config, lambda values: problems_of(values, utc_now())
        )
        prepare_working_path(loaded.settings.files.working_path)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(ExitCode.CONFIGURATION)
    _log_to_stderr(loaded.settings.running.log_level)
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning(warning)
    sys.exit(run(loaded.settings, ready_fd))


@broker_main.command("register-api-client")
@click.option("--client-name", "--name", "-cn", "name", required=True, help="Name of the new client.")
@click.option("--allow-duplicate-name", is_flag=True, help="Accept the name of another active client.")
@_config_option
@_json_option
def register_api_client(name: str, allow_duplicate_name: bool, config: Path | None, as_json: bool) -> None:
    """Register an API client and print its credentials, which cannot be shown again."""
    if not name.strip() or len(name) > 256:
        raise click.UsageError("The client name must have 1 to 256 characters.")
    asked = {"name": name, "allowDuplicateName": allow_duplicate_name}
    answer = _ask_broker(config, "POST", "/api-clients", asked).json()
    if as_json:
        click.echo(json.dumps(answer))
        return
    # Exactly one blank before client-password: published parsers cut the id at it.
    click.echo(f"client-id: {answer['clientId']}\n client-password: {answer['clientPassword']}")


@broker_main.command("describe-api-clients")
@_config_option
@_json_option
def describe_api_clients(config: Path | None, as_json: bool) -> None:
    """List the API clients, unregistered ones included."""
    clients = _ask_broker(config, "GET", "/api-clients").json()
    click.echo(json.dumps(clients) if as_json else f"Api clients\n{jackson(clients)}")


@broker_main.command("unregister-api-client")
@click.option("--client-id", "-ci", required=True, help="Id of the client.")
@_config_option
def unregister_api_client(client_id: str, config: Path | None) -> None:
    """Refuse an API client and its tokens from now on."""
    _ask_broker(config, "DELETE", f"/api-clients/{quote(client_id, safe='')}")
    click.echo("Client ID unregistered.")


def jackson(rows: Sequence[dict[str, Any]]) -> str:
    """JSON in the layout of the original's printer, which scripts know."""
    if not rows:
        return "[ ]"

    def pairs(row: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(key)} : {json.dumps(value)}" for key, value in row.items())

    return "[ {\n" + "\n}, {\n".join(pairs(row) for row in rows) + "\n} ]"


def _ask_broker(config: Path | None, method: str, path: str, asked: Any = None) -> "httpx.Response":
    """Ask the running broker; whatever is wrong ends the command with a sentence."""
    import httpx

    from broker_stub.broker.admin import socket_path
    from broker_stub.broker.listeners import ListenError, short_path

    socket_file = socket_path(_settings_for_administration(config).files.working_path)
    not_running = f"the broker is not running (no answer on {socket_file})"
    try:
        with short_path(socket_file) as name, httpx.Client(transport=httpx.HTTPTransport(uds=name)) as client:
            response = client.request(method, f"http://broker{path}", json=asked)
    except (FileNotFoundError, ListenError):
        _fail(not_running, ExitCode.UNREACHABLE)
    except PermissionError:
        _fail(f"you may not use {socket_file}; run as root or the service user", ExitCode.NOT_PERMITTED)
    except httpx.ConnectError as error:
        if isinstance(_cause(error), PermissionError):
            _fail(f"you may not use {socket_file}; run as root or the service user", ExitCode.NOT_PERMITTED)
        _fail(not_running, ExitCode.UNREACHABLE)
    except httpx.HTTPError:
        _fail(not_running, ExitCode.UNREACHABLE)
    if response.is_success:
        return response
    try:
        sentence = str(response.json()["error"])
    except (ValueError, KeyError):
        sentence = f"the broker answered {response.status_code}"
    _fail(sentence, ExitCode.REFUSED)


def _cause(error: BaseException) -> BaseException:
    while following := error.__cause__ or error.__context__:
        error = following
    return error


def _settings_for_administration(config: Path | None) -> "Settings":
    from broker_stub.broker.settings_file import DEFAULT_FILE, SettingsError, load_file, load_values

    try:
        if config is None and not DEFAULT_FILE.exists():
            return load_values({}).settings
        return load_file(config or DEFAULT_FILE, allow_insecure=True).settings
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(ExitCode.CONFIGURATION)


def _log_to_stderr(level: str) -> None:
    from broker_stub.log_lines import LogLines

    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(LogLines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[output])
    # uvicorn tells of every start and stop, httpx of every request.
    for noisy in ("uvicorn", "httpx"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
