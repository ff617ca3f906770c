"""Commands about the brokers a person knows, and about this machine's settings."""

from typing import Any

import click

from dcvtui.options import Command, Given, Group


@click.command(cls=Command)
@click.option("--client-id", metavar="ID", help="Of the API client; asked for when not given.")
@click.option(
    "--client-secret-file", "secret_file", metavar="PATH",
    help="File with the secret, '-' for standard input; asked for, unseen, when not given.",
)  # fmt: skip
@click.option("--default", "is_default", is_flag=True, help="Make it the default profile.")
@click.option("--in-file", is_flag=True, help="Keep the secret in the file, also where a keyring answers.")
@click.pass_obj
def login(given: Given, /, **asked: Any) -> int:
    """Test a broker and keep it as a profile.

    \b
    dcvtui login --profile prod --broker-url https://broker.example:8443

    What is not given is asked for. The secret goes into the desktop's keyring where one answers, else into
    a file that only you can read. It is sent only after the broker's certificate is trusted.
    """
    import os  # noqa: PLC0415  quick help

    from dcvtui.headless.brokers import Login, log_in  # noqa: PLC0415  as above

    return log_in(Login.asked(given.options, os.environ, **asked))


@click.command(cls=Command)
@click.argument("name", required=False, metavar="[PROFILE]")
@click.option(
    "--forget", "is_forgetting", is_flag=True, help="Take the whole profile away, not only the secret."
)
@click.pass_obj
def logout(given: Given, name: str | None, is_forgetting: bool) -> int:
    """Take the secret of a profile away.

    Without a name, the default's.
    """
    import os  # noqa: PLC0415  as above

    from dcvtui.config import Files  # noqa: PLC0415  as above
    from dcvtui.headless.brokers import log_out  # noqa: PLC0415  as above

    named = name or given.options.profile or os.environ.get("DCVTUI_PROFILE")
    return log_out(Files.standard(os.environ).profiles, named, is_forgetting=is_forgetting)


@click.command(cls=Command)
@click.option("--default", metavar="NAME", help="Make this profile the default.")
@click.pass_obj
def profiles(given: Given, default: str | None) -> int:
    """List the brokers you know."""
    import os  # noqa: PLC0415  as above

    from dcvtui.config import Files  # noqa: PLC0415  as above
    from dcvtui.headless.brokers import print_profiles  # noqa: PLC0415  as above

    return print_profiles(Files.standard(os.environ).profiles, default, given.format())


@click.command(cls=Command)
@click.pass_obj
def doctor(given: Given) -> int:
    """Look at the way to the broker and the terminal.

    Returns 5 if something does not work.
    """
    from dcvtui.errors import ProgramError  # noqa: PLC0415  as above
    from dcvtui.headless.checkup import print_findings  # noqa: PLC0415  as above

    chosen = given.format()
    try:
        return print_findings(given.connection(), chosen)
    except ProgramError as error:
        return print_findings(error, chosen)


@click.command(cls=Command)
@click.pass_obj
def locate(given: Given) -> int:
    """Print where every file is."""
    import os  # noqa: PLC0415  as above

    from dcvtui.headless.places import print_places  # noqa: PLC0415  as above

    return print_places(os.environ, given.format())


@click.group(cls=Group)
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.pass_obj
def show(given: Given) -> int:
    """Print every value with where it comes from, secrets masked."""
    from dcvtui.headless.places import print_settings  # noqa: PLC0415  as above

    return print_settings(given.connection(), given.format())
