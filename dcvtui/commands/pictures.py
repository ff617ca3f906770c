"""Commands for screenshots: the official one, and `screenshot` for files and the terminal."""

from pathlib import Path
from typing import Any

import click

from dcvtui.commands.shared import Ids, given_fields, session_ids
from dcvtui.options import Command, Given

_WIDTH = click.option("--max-width", type=click.IntRange(min=1), metavar="N", help="Pixels at most.")
_HEIGHT = click.option("--max-height", type=click.IntRange(min=1), metavar="N", help="Pixels at most.")


def _need_ids(ids: Ids) -> None:
    if not ids.values and not ids.is_piped:
        raise click.MissingParameter(param_hint="--session-ids", param_type="option")


@click.command("get-session-screenshots", cls=Command)
@session_ids
@_WIDTH
@_HEIGHT
@click.pass_obj
def get_session_screenshots(given: Given, ids: Ids, max_width: int | None, max_height: int | None) -> int:
    """Print screenshots of sessions as Base64."""
    import asyncio  # noqa: PLC0415  quick help

    from dcvtui.headless.pictures import print_screenshots  # noqa: PLC0415  as above

    _need_ids(ids)
    connection = given.connection()
    items = [given_fields(SessionId=i, MaxWidth=max_width, MaxHeight=max_height) for i in ids]
    chosen = given.format(connection.output_format)
    return asyncio.run(print_screenshots(connection, items, chosen, is_compatible=given.is_compatible))


@click.command(cls=Command)
@session_ids
@click.option("--dir", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Save files here.")
@click.option("--show", is_flag=True, help="Draw them in the terminal; what happens there without --dir.")
@_WIDTH
@_HEIGHT
@click.pass_obj
def screenshot(given: Given, /, ids: Ids, folder: Path | None, show: bool, **sizes: Any) -> int:
    """Save screenshots, or draw them in the terminal."""
    import asyncio  # noqa: PLC0415  as above
    import os  # noqa: PLC0415  as above

    from dcvtui.headless.pictures import PictureRequest, take_pictures  # noqa: PLC0415  as above
    from dcvtui.terminal import from_environment  # noqa: PLC0415  as above

    _need_ids(ids)
    if folder and show:
        raise click.BadParameter("It contradicts --dir. Give one of them.", param_hint="--show")
    wanted = PictureRequest(ids.values, folder, **sizes)
    return asyncio.run(take_pictures(given.connection(), wanted, from_environment(os.environ)))
