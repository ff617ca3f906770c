"""How administration commands talk to a running broker, and how they end and print.

The commands themselves are in `cli` and `trust_commands`; what they ask is
answered by `broker.admin` through a socket file in the working path.
"""

# ruff: noqa: PLC0415  imports inside functions: a short command should not pay for a whole broker

import enum
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    import httpx

    from broker_stub.broker.settings import Settings

# A broker that is asked to look at an authorization server waits for that first.
_ANSWER_WITHIN_S = 60.0

CONFIG_VARIABLE = "DCVSM_BROKER_CONFIG"


class ExitCode(enum.IntEnum):
    """How the broker's commands end."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 69
    NOT_PERMITTED = 77
    CONFIGURATION = 78


def fail(sentence: str, code: ExitCode) -> NoReturn:
    """End the command with a sentence on standard error."""
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option that names the configuration file."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),  # whether it can be read is said in our words
        envvar=CONFIG_VARIABLE,
        help="The broker's properties file.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


def say(text: str, as_json: bool, **fields: Any) -> None:
    """Print the text of the original, or one JSON document with the same content."""
    click.echo(json.dumps(fields) if as_json else text)


def jackson(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects as JSON in the layout of the original's printer, which scripts know."""
    return "[ " + ", ".join(_jackson_object(row, "") for row in rows) + " ]" if rows else "[ ]"


def _jackson_object(row: Mapping[str, Any], indent: str) -> str:
    inner = indent + "  "

    def value(of: Any) -> str:
        return _jackson_object(of, inner) if isinstance(of, Mapping) else _printable_json(of)

    pairs = (f"{inner}{json.dumps(key)} : {value(each)}" for key, each in row.items())
    return "{\n" + ",\n".join(pairs) + f"\n{indent}}}" if row else "{ }"


def _printable_json(value: Any) -> str:
    """JSON with letters of every language as they are, and what a terminal would obey as codes."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def ask_broker(config: Path | None, method: str, path: str, asked: Any = None) -> "httpx.Response":
    """Ask the running broker; whatever is wrong ends the command with a sentence."""
    import httpx

    from broker_stub.broker.sockets import ListenError, short_path
    from broker_stub.broker.working_path import socket_path

    socket_file = socket_path(settings_for_administration(config).files.working_path)
    not_running = f"the broker is not running (no answer on {socket_file})"
    try:
        with short_path(socket_file) as name:
            transport = httpx.HTTPTransport(uds=name)
            with httpx.Client(transport=transport, timeout=_ANSWER_WITHIN_S) as client:
                response = client.request(method, f"http://broker{path}", json=asked, headers=_names_itself())
    except (FileNotFoundError, ListenError):
        fail(not_running, ExitCode.UNREACHABLE)
    except PermissionError:
        fail(f"you may not use {socket_file}; run as root or the service user", ExitCode.NOT_PERMITTED)
    except httpx.ConnectError as error:
        if isinstance(_cause(error), PermissionError):
            fail(f"you may not use {socket_file}; run as root or the service user", ExitCode.NOT_PERMITTED)
        fail(not_running, ExitCode.UNREACHABLE)
    except httpx.TimeoutException:
        fail(f"the broker does not answer on {socket_file}", ExitCode.UNREACHABLE)
    except httpx.HTTPError:
        fail(not_running, ExitCode.UNREACHABLE)
    if response.is_success:
        return response
    if response.status_code == httpx.codes.FORBIDDEN:
        fail(f"you may not use {socket_file}; run as root or the service user", ExitCode.NOT_PERMITTED)
    try:
        sentence = str(response.json()["error"])
    except (ValueError, KeyError):
        sentence = f"the broker answered {response.status_code}"
    fail(sentence, ExitCode.REFUSED)


def _names_itself() -> dict[str, str]:
    """The command's name, for the broker's audit trail."""
    context = click.get_current_context(silent=True)
    return {"X-Command": context.info_name} if context is not None and context.info_name else {}


def _cause(error: BaseException) -> BaseException:
    while following := error.__cause__ or error.__context__:
        error = following
    return error


def is_missing(file: Path) -> bool:
    """Whether there is no such file; one that may not be read ends the command."""
    try:
        with file.open("rb"):
            return False
    except PermissionError:
        fail(f"you may not read {file}; run as root or the service user", ExitCode.NOT_PERMITTED)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # what is wrong with it is said when it is read


def settings_for_administration(config: Path | None) -> "Settings":
    """The settings of the broker that is to be asked; without a file those of a plain installation."""
    from broker_stub.broker.settings_file import DEFAULT_FILE, SettingsError, load_file, load_values

    file = config or DEFAULT_FILE
    if is_missing(file) and config is None:
        return load_values({}).settings
    try:
        return load_file(file, allow_insecure=True).settings
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(ExitCode.CONFIGURATION)
