"""Administration commands about trust: authorization servers, keys, statements, agents, gateways' names.

They talk to a running broker. Names, options and printed texts are those of the
original product, byte for byte where they are published; scripts cut them.
"""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from broker_stub.admin_client import ExitCode, ask_broker, config_option, fail, jackson, json_option, say

_LONGEST_FILE = 16 * 1024 * 1024
_LONGEST_STATEMENT = 64 * 1024

# ------------------------------------------------------------------ authorization servers


@click.command("register-auth-server")
@click.option("--url", "-u", required=True, help="Where the server publishes its keys (JWKS).")
@click.option(
    "--algorithm",
    "--alg",
    help="What its tokens are signed with, if its keys do not say so; RS256 without this option.",
)
@click.option("--check", is_flag=True, help="Get the keys first, and fail if there are none.")
@config_option
@json_option
def register_auth_server(
    url: str, algorithm: str | None, check: bool, config: Path | None, as_json: bool
) -> None:
    """Accept access tokens of an external authorization server."""
    asked = {"url": url, "algorithm": algorithm, "check": check}
    answer = ask_broker(config, "POST", "/auth-servers", asked).json()
    _warn(answer["warnings"])
    say("Jwk url registered.", as_json, url=url, warnings=answer["warnings"])


@click.command("list-auth-servers")
@config_option
@json_option
def list_auth_servers(config: Path | None, as_json: bool) -> None:
    """List the external authorization servers."""
    servers = ask_broker(config, "GET", "/auth-servers").json()
    if as_json:
        click.echo(json.dumps(servers))
        return
    urls = ", ".join(json.dumps(server["url"]) for server in servers)
    click.echo(f"Urls: [ {urls} ]" if urls else "Urls: [ ]")


@click.command("unregister-auth-server")
@click.option("--url", "-u", required=True, help="The address that was registered.")
@config_option
@json_option
def unregister_auth_server(url: str, config: Path | None, as_json: bool) -> None:
    """Refuse the access tokens of an external authorization server from now on."""
    ask_broker(config, "DELETE", "/auth-servers", {"url": url})
    say(f"Jwk url{url} unregistered", as_json, url=url)  # the original has no blank there


@click.command("renew-auth-server-api-key")
@click.option(
    "--grace-seconds",
    type=click.IntRange(0, 7 * 86400),
    default=0,
    help="How long tokens that are out stay good; without it they are refused at once.",
)
@config_option
@json_option
def renew_auth_server_api_key(grace_seconds: int, config: Path | None, as_json: bool) -> None:
    """Sign access tokens with a new key; clients keep their ids and passwords."""
    ask_broker(config, "POST", "/access-keys", {"graceSeconds": grace_seconds})
    say("Keys renewed.", as_json, graceSeconds=grace_seconds)


# ------------------------------------------------------------------ agents


@click.command("generate-software-statement")
@config_option
@json_option
def generate_software_statement(config: Path | None, as_json: bool) -> None:
    """Make a software statement, with which agents may register."""
    answer = ask_broker(config, "POST", "/software-statements").json()
    click.echo(json.dumps(answer) if as_json else f"software-statement: {answer['softwareStatement']}")


@click.command("describe-software-statements")
@config_option
@json_option
def describe_software_statements(config: Path | None, as_json: bool) -> None:
    """List the software statements, deactivated ones included."""
    statements = ask_broker(config, "GET", "/software-statements").json()
    if as_json:
        click.echo(json.dumps(statements))
        return
    rows = [
        {
            "software-statement": one["softwareStatement"],
            "issued-at": f"{datetime.fromisoformat(one['issuedAt']):%Y.%m.%d %H:%M:%S} +0000",
            "is-active": "true" if one["isActive"] else "false",
        }
        for one in statements
    ]
    click.echo(f"Software Statements\n{jackson(rows)}")


@click.command("deactivate-software-statement")
@click.option(
    "--software-statement",
    "-ss",
    "statement",
    required=True,
    help="Its text; - reads it from standard input, out of sight of others on this host.",
)
@config_option
@json_option
def deactivate_software_statement(statement: str, config: Path | None, as_json: bool) -> None:
    """Let no further agent register with a statement; those that did stay registered."""
    if statement == "-":
        statement = sys.stdin.read(_LONGEST_STATEMENT).strip()
    ask_broker(config, "DELETE", "/software-statements", {"softwareStatement": statement})
    say(f"Software statement {statement} deactivated", as_json, isActive=False)


@click.command("describe-agent-clients")
@config_option
@json_option
def describe_agent_clients(config: Path | None, as_json: bool) -> None:
    """List the registered agents, unregistered ones included."""
    clients = ask_broker(config, "GET", "/agent-clients").json()
    click.echo(json.dumps(clients) if as_json else f"Session manager agent clients\n{jackson(clients)}")


@click.command("unregister-agent-client")
@click.option("--client-id", "-ci", required=True, help="Id of the agent client.")
@config_option
@json_option
def unregister_agent_client(client_id: str, config: Path | None, as_json: bool) -> None:
    """Refuse an agent and close its channel; it may register anew while its statement is active."""
    ask_broker(config, "DELETE", f"/agent-clients/{quote(client_id, safe='')}")
    say(f"agent client {client_id} unregistered", as_json, id=client_id, active=False)


# ------------------------------------------------------------------ gateways


@click.command("register-server-dns-mappings")
@click.option(
    "--file-path",
    "-fp",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="A JSON list of mappings.",
)
@click.option("--replace", is_flag=True, help="Drop all other mappings.")
@config_option
@json_option
def register_server_dns_mappings(file: Path, replace: bool, config: Path | None, as_json: bool) -> None:
    """Tell under which DNS names gateways reach servers."""
    try:
        if file.stat().st_size > _LONGEST_FILE:
            fail(f"{file} has more than {_LONGEST_FILE // 1024 // 1024} MiB", ExitCode.REFUSED)
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", ExitCode.REFUSED)
    except UnicodeDecodeError:
        fail(f"{file} cannot be read: it is not UTF-8 text", ExitCode.REFUSED)
    answer = ask_broker(config, "POST", "/dns-mappings", {"text": text, "replace": replace}).json()
    _warn(answer["warnings"])
    text = f"Successfully loaded {answer['count']} server id - dns name mappings from file {file}"
    say(text, as_json, **answer)


@click.command("describe-server-dns-mappings")
@config_option
@json_option
def describe_server_dns_mappings(config: Path | None, as_json: bool) -> None:
    """List the DNS names of servers."""
    mappings: list[dict[str, Any]] = ask_broker(config, "GET", "/dns-mappings").json()
    click.echo(json.dumps(mappings) if as_json else jackson(mappings))


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        click.echo(f"warning: {sentence}", err=True)


TRUST_COMMANDS = (
    register_auth_server,
    list_auth_servers,
    unregister_auth_server,
    renew_auth_server_api_key,
    generate_software_statement,
    describe_software_statements,
    deactivate_software_statement,
    describe_agent_clients,
    unregister_agent_client,
    register_server_dns_mappings,
    describe_server_dns_mappings,
)
