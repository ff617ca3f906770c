"""`permissions`: everything about permissions files that needs no broker."""

from typing import Any

import click

from dcvtui.options import Given, Group

_FILE = "'-' is standard input."


@click.group(cls=Group)
def permissions() -> None:
    """Check, explain, compare permissions files.

    And print presets. No broker is asked.
    """


@permissions.command()
@click.argument("file", metavar="FILE")
@click.option("--strict", "is_strict", is_flag=True, help="Return 5 for warnings too.")
@click.option("--owner", metavar="TEXT", help="Owner of the session it is meant for.")
@click.option("--windows", is_flag=True, help="It is meant for a Windows server.")
@click.option("--server-version", metavar="TEXT", help="Release of the DCV server it is meant for.")
@click.pass_obj
def check(given: Given, /, file: str, is_strict: bool, **context: Any) -> int:
    """Print what is wrong with a file, and where.

    '-' is standard input. Returns 0 without errors, 5 with some.
    """
    from dcvtui.api.permissions import Context  # noqa: PLC0415  quick help
    from dcvtui.headless import permission_files  # noqa: PLC0415  as above

    return permission_files.check(
        file, context=Context(**context), is_strict=is_strict, chosen=given.format()
    )


@permissions.command()
@click.argument("file", metavar="FILE")
@click.option("--owner", required=True, metavar="TEXT", help="Owner of the session.")
@click.option("--user", required=True, metavar="TEXT", help="Whose rights to explain.")
@click.option("--os-group", "os_groups", multiple=True, metavar="TEXT", help="A group of the host he is in.")
@click.option("--windows", "is_windows", is_flag=True, help="Compare names as Windows does.")
@click.pass_obj
def explain(given: Given, /, file: str, **person: Any) -> int:
    """Print what one user may do, and which line decides.

    '-' is standard input.
    """
    from dcvtui.headless import permission_files  # noqa: PLC0415  as above

    return permission_files.explain_rights(file, permission_files.Person(**person), given.format())


@permissions.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--owner", metavar="TEXT", help="Owner of the session.")
@click.pass_obj
def diff(given: Given, old: str, new: str, owner: str | None) -> int:
    """Print who gains and loses what by a new text.

    And what changes in the text. '-' is standard input. Returns 5 if rights differ.
    """
    from dcvtui.headless import permission_files  # noqa: PLC0415  as above

    if old == new == "-":
        raise click.BadParameter("Standard input can be read once only.", param_hint="OLD NEW")
    return permission_files.diff(old, new, owner, given.format())


@permissions.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--for", "actor", metavar="X", help="A user, group:NAME or osgroup:NAME.")
@click.option("--file", "path", metavar="FILE", help=f"Print this file with the preset applied; {_FILE}")
@click.pass_obj
def preset(given: Given, name: str | None, actor: str | None, path: str | None) -> int:
    """Print the statements of a preset.

    Without a name it lists the presets.
    """
    from dcvtui.headless import permission_files  # noqa: PLC0415  as above

    return permission_files.preset(name, actor, path, given.format())
