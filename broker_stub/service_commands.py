"""Commands about the broker itself: its configuration, its state, its certificates, its files on a host.

None of them has a name of the original product. Those that look at files work
without a running broker.
"""

# ruff: noqa: PLC0415  imports inside commands: a short command should not pay for a whole broker

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker_stub.admin_client import ExitCode, ask_broker, config_option, fail, is_missing, json_option
from broker_stub.shipped_files import AGENT_FILES, BROKER_FILES, ShippedFile, install

if TYPE_CHECKING:
    from broker_stub.broker.settings_file import Loaded

CREDENTIALS_FOLDER = Path("/etc/dcv-session-manager-broker/resolver-creds")


@click.command("show-config")
@config_option
@json_option
@click.option("--set", "only_set", is_flag=True, help="Only what the file sets.")
def show_config(config: Path | None, as_json: bool, only_set: bool) -> None:
    """Show every key with its value, where it came from and what it does; secrets are hidden."""
    from broker_stub.broker import settings_report

    loaded = _read(config, allow_insecure=True)
    found = settings_report.rows(loaded)
    if only_set:
        found = [row for row in found if row.key in loaded.values]
    if as_json:
        click.echo(json.dumps([row.as_json() for row in found], indent=2))
        return
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(settings_report.text(found))


@click.command("check-config")
@config_option
@click.option("--allow-insecure-config", is_flag=True, help="Accept a file that others may read or write.")
def check_config(config: Path | None, allow_insecure_config: bool) -> None:
    """Say everything that is wrong with the configuration and the files it names."""
    loaded = _read(config, allow_insecure=allow_insecure_config, with_files=True)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo("The configuration is good.")


@click.command("status")
@config_option
@json_option
def status(config: Path | None, as_json: bool) -> None:
    """Show listeners, agents, sessions, queue and database of the running broker."""
    found: dict[str, Any] = ask_broker(config, "GET", "/status").json()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        click.echo(f"{name}: {_words(value)}")


@click.command("reload")
@config_option
@json_option
def reload(config: Path | None, as_json: bool) -> None:
    """Let the running broker read its configuration file again."""
    found = ask_broker(config, "POST", "/reload").json()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"changed: {_words(found['changed'])}")
    click.echo(f"needs a restart: {_words(found['needsRestart'])}")


@click.command("issue-certificates")
@config_option
@json_option
def issue_certificates(config: Path | None, as_json: bool) -> None:
    """Let the running broker make and show a new certificate under the same CA; no connection is closed."""
    answer = ask_broker(config, "POST", "/certificates").json()
    if as_json:
        click.echo(json.dumps(answer))
        return
    for name, left in answer["daysLeft"].items():
        click.echo(f"{name}: {left:.0f} days left")


@click.command("export-ca")
@config_option
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen."
)
def export_ca(config: Path | None, output: Path | None) -> None:
    """Print the CA certificate (PEM) that agents, DCV servers, gateways and API clients trust."""
    settings = _read(config, allow_insecure=True).settings
    path = settings.tls.ca_cert_file or settings.files.working_path / "security" / "dcvsmbroker_ca.pem"
    try:
        content = path.read_text(encoding="ascii")
        if output is not None:
            output.write_text(content, encoding="ascii")
            return
    except PermissionError as error:
        fail(f"you may not use {error.filename}; run as root or the service user", ExitCode.NOT_PERMITTED)
    except FileNotFoundError:
        fail(f"there is no CA at {path} yet: start the broker once", ExitCode.REFUSED)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", ExitCode.REFUSED)
    click.echo(content, nl=False)


@click.command("gen-gateway-certificates")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=CREDENTIALS_FOLDER,
    show_default=True,
    help="Where the files go.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def gen_gateway_certificates(folder: Path, force: bool, as_json: bool) -> None:
    """Make a certificate for Connection Gateways, and the trust store with which the broker checks it."""
    from broker_stub.broker.coordinator import utc_now
    from broker_stub.broker.gateway_certificates import AlreadyThere, make

    try:
        made = make(folder, utc_now(), replace=force)
    except AlreadyThere as error:
        fail(f"{error} is there already; --force replaces it", ExitCode.REFUSED)
    except PermissionError as error:
        fail(f"you may not write {error.filename}; run as root", ExitCode.NOT_PERMITTED)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", ExitCode.REFUSED)
    if as_json:
        paths = {"folder": folder, "key": made.key_file, "certificate": made.certificate_file}
        shown = {name: str(path) for name, path in {**paths, "trustStore": made.trust_store_file}.items()}
        click.echo(json.dumps({**shown, "trustStorePassword": made.password}))
        return
    click.echo(f"Folder: {folder}")
    click.echo(f"Key: {made.key_file.name}")
    click.echo(f"Certificate: {made.certificate_file.name}")
    click.echo(f"Trust store: {made.trust_store_file.name}")
    click.echo(f"Trust store password: {made.password}")


@click.command("version")
def version() -> None:
    """Print the version of the broker."""
    from importlib.metadata import version as version_of

    click.echo(f"dcv-session-manager-broker {version_of('dcvtui')}")


def _files_commands(files: tuple[ShippedFile, ...]) -> tuple[click.Command, click.Command]:
    names = click.Choice([file.name for file in files])

    @click.command("print-file")
    @click.argument("name", type=names)
    def print_file(name: str) -> None:
        """Print an example configuration or a systemd unit that comes with the package."""
        click.echo(next(file for file in files if file.name == name).text(), nl=False)

    @click.command("install-files")
    @click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("/"),
        help="A folder in place of /, for those who build packages.",
    )
    def install_files(root: Path) -> None:
        """Put the systemd unit and, if there is none, the example configuration where they belong."""
        try:
            said = install(files, root)
        except OSError as error:
            code = ExitCode.NOT_PERMITTED if isinstance(error, PermissionError) else ExitCode.REFUSED
            fail(f"{error.filename}: {error.strerror}", code)
        for sentence in said:
            click.echo(sentence)

    return print_file, install_files


def _read(config: Path | None, *, allow_insecure: bool, with_files: bool = False) -> "Loaded":
    from broker_stub.broker.coordinator import utc_now
    from broker_stub.broker.key_stores import problems_of
    from broker_stub.broker.settings_file import DEFAULT_FILE, SettingsError, load_file, load_values

    file = config or DEFAULT_FILE

    def check(values: Mapping[str, str]) -> list[str]:
        return problems_of(values, utc_now()) if with_files else []

    if is_missing(file) and config is None:
        return load_values({})
    try:
        return load_file(file, allow_insecure, check)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(ExitCode.CONFIGURATION)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each not in (0, "")) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


SERVICE_COMMANDS = (
    show_config,
    check_config,
    status,
    reload,
    issue_certificates,
    export_ca,
    gen_gateway_certificates,
    version,
    *_files_commands(BROKER_FILES),
)
AGENT_FILE_COMMANDS = _files_commands(AGENT_FILES)
