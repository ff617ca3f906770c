"""The command `dcv-session-manager-agent`: reads the settings and runs the agent.

Errors of the configuration are sentences on standard error and status 78;
everything else is in the agent's log file.
"""

# ruff: noqa: PLC0415  imports inside the command: its help should not pay for a whole agent

import logging
import sys
from pathlib import Path

import click

from broker_stub.service_commands import AGENT_FILE_COMMANDS
from broker_stub.session_commands import SESSION_COMMANDS

_CONFIG_VARIABLE = "DCVSM_AGENT_CONFIG"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def agent_main() -> None:
    """Run the Session Manager agent of this host."""


for command in (*AGENT_FILE_COMMANDS, *SESSION_COMMANDS):
    agent_main.add_command(command)


@agent_main.command()
@click.option("--config", type=click.Path(path_type=Path), envvar=_CONFIG_VARIABLE, help="The agent's file.")
def start(config: Path | None) -> None:
    """Run the agent in the foreground until SIGTERM or SIGINT."""
    from broker_stub.agent.agent_log import log_to_file
    from broker_stub.agent.process import check_host, run
    from broker_stub.agent.settings import DEFAULT_FILE, EXIT_CONFIGURATION, SettingsError, load_settings

    config = config or DEFAULT_FILE
    try:
        loaded = load_settings(config)
        check_host(loaded.settings)
        log_to_file(loaded.settings.log)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    except OSError as error:
        click.echo(f"error: The log file cannot be written: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
        logging.getLogger(__name__).warning(warning)
    sys.exit(run(loaded, config))
