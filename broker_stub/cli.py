"""The commands `dcv-session-manager-broker` and `dcv-session-manager-agent`.

`start` runs a broker; the other broker commands talk to a running one through
its administration socket. Scripts cut the printed texts, which are therefore
stable. Those about authorization and gateways are in `trust_commands`, those about
the broker itself in `service_commands`; the agent's command lives in `agent_cli`.
"""

# ruff: noqa: PLC0415  imports inside commands: a short command should not pay for a whole broker

import json
import logging
import sys
from pathlib import Path
from urllib.parse import quote

import click

from broker_stub.admin_client import ExitCode, ask_broker, config_option, jackson, json_option, say
from broker_stub.service_commands import SERVICE_COMMANDS
from broker_stub.trust_commands import TRUST_COMMANDS


def agent_main() -> None:
    """Entry point of `dcv-session-manager-agent`."""
    from broker_stub.agent_cli import agent_main as run_agent

    run_agent()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def broker_main() -> None:
    """Run and administer the Session Manager broker."""


for command in (*TRUST_COMMANDS, *SERVICE_COMMANDS):
    broker_main.add_command(command)


@broker_main.command()
@config_option
@click.option("--ready-fd", type=int, help="Write one JSON line to this descriptor when ready.")
@click.option(
    "--allow-insecure-config", is_flag=True, help="Start although others may read or write the file."
)
def start(config: Path | None, ready_fd: int | None, allow_insecure_config: bool) -> None:
    """Run the broker in the foreground until SIGTERM or SIGINT."""
    from broker_stub.broker import logs
    from broker_stub.broker.coordinator import utc_now
    from broker_stub.broker.key_stores import problems_of
    from broker_stub.broker.process import run
    from broker_stub.broker.settings_file import DEFAULT_FILE, Loaded, SettingsError, load_file
    from broker_stub.broker.working_path import prepare_working_path

    def read() -> Loaded:
        return load_file(
            config or DEFAULT_FILE, allow_insecure_config, lambda values: problems_of(values, utc_now())
        )

    try:
        loaded = read()
        prepare_working_path(loaded.settings.files.working_path)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(ExitCode.CONFIGURATION)
    logs.log_to(loaded.settings.running)
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    sys.exit(run(loaded.settings, ready_fd, read))


@broker_main.command("register-api-client")
@click.option("--client-name", "--name", "-cn", "name", required=True, help="Name of the new client.")
@click.option("--allow-duplicate-name", is_flag=True, help="Accept the name of another active client.")
@config_option
@json_option
def register_api_client(name: str, allow_duplicate_name: bool, config: Path | None, as_json: bool) -> None:
    """Register an API client and print its credentials, which cannot be shown again."""
    if not name.strip() or len(name) > 256:
        raise click.UsageError("The client name must have 1 to 256 characters.")
    asked = {"name": name, "allowDuplicateName": allow_duplicate_name}
    answer = ask_broker(config, "POST", "/api-clients", asked).json()
    if as_json:
        click.echo(json.dumps(answer))
        return
    # Exactly one blank before client-password: published parsers cut the id at it.
    click.echo(f"client-id: {answer['clientId']}\n client-password: {answer['clientPassword']}")


@broker_main.command("describe-api-clients")
@config_option
@json_option
def describe_api_clients(config: Path | None, as_json: bool) -> None:
    """List the API clients, unregistered ones included."""
    clients = ask_broker(config, "GET", "/api-clients").json()
    click.echo(json.dumps(clients) if as_json else f"Api clients\n{jackson(clients)}")


@broker_main.command("unregister-api-client")
@click.option("--client-id", "-ci", required=True, help="Id of the client.")
@config_option
@json_option
def unregister_api_client(client_id: str, config: Path | None, as_json: bool) -> None:
    """Refuse an API client and its tokens from now on."""
    ask_broker(config, "DELETE", f"/api-clients/{quote(client_id, safe='')}")
    say("Client ID unregistered.", as_json, id=client_id, active=False)
