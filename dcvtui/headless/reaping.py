"""`reap`: which sessions it deletes, as an action on everything that a filter finds."""

from functools import partial

from dcvtui.headless.changes import Bulk
from dcvtui.selection import to_reap


def reaped(expression: str, *, force: bool, include_connected: bool, is_confirmed: bool) -> Bulk:
    """The action; a dry run of it that finds something ends with 5."""
    select = partial(to_reap, include_connected=include_connected, force=force)
    return Bulk(expression, {"Force": True} if force else {}, select, is_confirmed, is_reaping=True)
