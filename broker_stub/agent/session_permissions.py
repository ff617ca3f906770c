"""What the permissions file of an X session means on this host.

No DCV server reads the file here, so the agent does: it refuses a text with errors,
and answers which features a person has, with the groups this host knows of.
"""

import grp
import os
import pwd

from broker_stub.agent.backend import BackendError, Failure
from dcvtui.api.permissions import DEFAULT_TEXT, Level, evaluate, parse

DISPLAY = "display"


def check(text: str | None) -> None:
    """Refuse a permissions text that says something else than its author meant.

    Import lines alone are let pass: they have no effect here, and the same text is
    right on hosts whose server follows them.

    Raises:
        BackendError: with the first error and where it stands.
    """
    if text is None:
        return
    for finding in parse(text).diagnostics:
        if finding.level is Level.ERROR and not finding.code.startswith("E-IMPORT-"):
            raise BackendError(
                Failure.PERMISSIONS_INVALID,
                f"The permissions file is wrong in line {finding.line}: {finding.text}",
            )


def rights_of(text: str | None, owner: str, user: str) -> frozenset[str]:
    """The features a user has in a session; may take long where groups come from a directory service.

    Args:
        text: The session's permissions file, `None` for the defaults: everything to the owner.
        owner: The session's owner.
        user: Whose rights are asked for; need not be known to this host.
    """
    return evaluate(DEFAULT_TEXT if text is None else text, owner, user, _groups_of(user))


def _groups_of(user: str) -> tuple[str, ...]:
    try:
        entry = pwd.getpwnam(user)
        numbers = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, ValueError, OSError):
        return ()
    return tuple(name for name in map(_group_name, numbers) if name)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""
