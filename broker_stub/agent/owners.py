"""The users sessions belong to: looked up, checked, and what a process of theirs starts with.

No PAM session is opened: limits and mounts that PAM would make for a login are
not there for sessions of the X backend.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.start_files import StartFileError, locate

PATH = "/usr/local/bin:/usr/bin:/bin"


class UserMode(StrEnum):
    """As whom sessions run; the values are those of `backend.session_user_mode` in agent.conf."""

    AUTO = "auto"
    """As their owners where the agent is root; else there are only sessions of the agent's own user."""
    SETUID = "setuid"
    """As their owners, which needs root."""
    SAME = "same"
    """All as the agent's own user, whoever owns them: for hosts where nobody minds, such as test hosts."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A local user and how to become one."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @property
    def start_options(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen` that start a program as this user in a process session of its own.

        Only the standard streams and what the caller passes on are inherited.
        """
        options: dict[str, Any] = {
            "start_new_session": True,
            "stdin": subprocess.DEVNULL,
            "cwd": self.home if Path(self.home).is_dir() else "/",
            "umask": 0o022,
        }
        if os.geteuid() == 0:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": self.groups}
        return options

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a fresh login: nothing of the agent's own environment but the language."""
        variables = {
            "HOME": self.home,
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": self.shell,
            "PATH": PATH,
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        runtime = Path(f"/run/user/{self.uid}")
        if runtime.is_dir():
            variables["XDG_RUNTIME_DIR"] = str(runtime)
        return variables

    def may(self, question: str, path: Path) -> bool:
        """Ask the system as this user, with an option of test(1): `-x`, `-r`.

        Only the kernel knows access lists and every folder on the way; this takes some 3 ms.
        """
        program = shutil.which("test", path=PATH) or "test"
        options = self.start_options | {"cwd": "/"}
        return subprocess.run([program, question, str(path)], check=False, env={}, **options).returncode == 0


def find_owner(name: str, minimum_uid: int, mode: UserMode = UserMode.AUTO) -> Owner:
    """Look up a user for whom the agent itself can start programs.

    Args:
        name: As the request names the owner.
        minimum_uid: Users below it get no session from an agent that runs as root.
        mode: As whom sessions run. With `SAME` the answer is the agent's own user, and the owner
            need not be known to this host.

    Raises:
        BackendError: the user is not known, or sessions for that user cannot be started.
    """
    own = os.geteuid()
    if mode is UserMode.SAME:
        return _owner(pwd.getpwuid(own))
    owner = local_user(name)
    if own not in (0, owner.uid):
        raise BackendError(
            Failure.OWNER_NOT_FOUND,
            f"The agent does not run as root and can start sessions for {_name_of(own)} only",
        )
    if own == 0:
        refuse_system_user(owner, minimum_uid)
    return owner


def refuse_system_user(owner: Owner, minimum_uid: int) -> None:
    """Let a system user have no session.

    Raises:
        BackendError: the user is one.
    """
    if owner.uid < minimum_uid:
        raise BackendError(
            Failure.OWNER_NOT_FOUND,
            f"{owner.name} is a system user, and this host starts no sessions for those",
        )


def local_user(name: str) -> Owner:
    """Look a user up; may take long where users come from a directory service.

    Raises:
        BackendError: the user is not known.
    """
    try:
        return _owner(pwd.getpwnam(name))
    except (KeyError, ValueError):  # ValueError: a NUL character in the name
        raise BackendError(Failure.OWNER_NOT_FOUND, "Specified user is not a local user") from None


def _owner(entry: pwd.struct_passwd) -> Owner:
    return Owner(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
        home=entry.pw_dir,
        shell=entry.pw_shell or "/bin/sh",
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def start_file(owner: Owner, folder: Path, name: str, failure: Failure) -> str:
    """The init or autorun file of a name, which the owner of a session can run.

    Args:
        owner: Who is going to run it.
        folder: Where it must be.
        name: Its path inside the folder; that of an init file may be absolute.
        failure: What it is when there is no such file.

    Raises:
        BackendError: there is none, or its owner may not run it.
    """
    try:
        path = locate(folder, name, absolute_allowed=failure is Failure.INIT_FILE_INVALID)
    except StartFileError as error:
        raise BackendError(failure, str(error)) from None
    if not owner.may("-x", path):
        raise BackendError(failure, f"{name!r} in {folder} cannot be executed by {owner.name}")
    return str(path)
