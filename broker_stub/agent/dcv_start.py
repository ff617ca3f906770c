"""What is checked and put together before a DCV session is created, and what runs in it besides.

The DCV server starts the session itself; the agent starts only the autorun
program, in the session's display and as its owner.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from broker_stub.agent.backend import BackendError, Failure, SessionSpec
from broker_stub.agent.dcv_output import DcvSession
from broker_stub.agent.owners import Owner, local_user, refuse_system_user, start_file
from dcvtui.api.states import SessionType

_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DcvSettings:
    """How the dcv backend works on this host. Times are seconds."""

    program: Path
    """The `dcv` command, or the folder it is in."""
    state_folder: Path
    """Where it keeps permissions files; private to the agent's user."""
    init_folder: Path
    """Scripts that may be a virtual session's program."""
    autorun_folder: Path
    """Programs that may be started in a new session."""
    console_allowed: bool = True
    """Whether console sessions are offered."""
    minimum_uid: int = 1000
    """System users, below this id, get no session."""
    is_windows: bool = sys.platform == "win32"
    """Whether the command is that of a Windows host, with console sessions only."""
    poll_s: float = 5.0
    """Between two looks at the sessions."""
    create_limit_s: float = 50.0
    """For a creation with all its looks at the new session."""
    create_poll_s: float = 1.0
    """Between two looks at a session that is being created."""
    settle_s: float = 2.5
    """How long a session must stay usable before it counts: the command succeeds even if the desktop
    dies at once."""
    list_limit_s: float = 10.0
    """For `list-sessions` and `describe-session`."""
    probe_limit_s: float = 3.0
    """For `version` and `list-endpoints`; a hello must not wait longer for them."""
    close_limit_s: float = 30.0
    """For `close-session`, and for the session to be gone."""
    permissions_limit_s: float = 10.0
    """For `set-permissions`."""
    screenshot_limit_s: float = 8.0
    """For `get-screenshot`."""


@dataclass(frozen=True, slots=True)
class Start:
    """All that was looked up before anything is started."""

    owner: Owner
    init: str | None
    autorun: tuple[str, ...]


def plan_start(spec: SessionSpec, settings: DcvSettings) -> Start:
    """Check a request against this host. Blocks for some milliseconds, starts no `dcv`.

    Raises:
        BackendError: the session cannot be created as asked.
    """
    _check_type(spec, settings)
    if len(spec.name) > _LONGEST_NAME:
        raise BackendError(
            Failure.DCV_COMMAND_FAILED, f"The session's name is longer than {_LONGEST_NAME} characters"
        )
    owner = local_user(spec.owner)
    refuse_system_user(owner, settings.minimum_uid)
    init = None
    if spec.init_file is not None:
        init = start_file(owner, settings.init_folder, spec.init_file, Failure.INIT_FILE_INVALID)
    autorun: tuple[str, ...] = ()
    if spec.autorun_file is not None:
        program = start_file(owner, settings.autorun_folder, spec.autorun_file, Failure.AUTORUN_FILE_INVALID)
        autorun = (program, *spec.autorun_file_arguments)
    return Start(owner, init, autorun)


def _check_type(spec: SessionSpec, settings: DcvSettings) -> None:
    if spec.type is SessionType.VIRTUAL:
        if settings.is_windows:
            raise BackendError(
                Failure.TYPE_NOT_SUPPORTED, "A Windows host offers the console session only, no virtual ones"
            )
        return
    if not settings.console_allowed:
        raise BackendError(
            Failure.TYPE_NOT_SUPPORTED, "Console sessions are switched off on this host (backend.console)"
        )
    if spec.init_file is not None:
        raise BackendError(Failure.INIT_FILE_INVALID, "A console session takes no init file")
    if spec.autorun_file is not None:
        raise BackendError(Failure.AUTORUN_FILE_INVALID, "A console session takes no autorun file")


def create_arguments(
    spec: SessionSpec, start: Start, permissions: Path | None, *, is_windows: bool
) -> list[str]:
    """The arguments of `dcv create-session` after its name, the id last.

    Args:
        spec: What was asked for.
        start: What was looked up.
        permissions: The file written for it, if it has permissions of its own.
        is_windows: Whether to leave out what exists on Linux only.
    """
    arguments: list[str] = []
    is_virtual = spec.type is SessionType.VIRTUAL
    if not is_windows:
        arguments += ["--type", spec.type.value.lower()]
    arguments += ["--owner", spec.owner]
    if is_virtual and not is_windows:
        arguments += ["--user", spec.owner]
    if spec.name:
        arguments += ["--name", spec.name]
    if is_virtual and not is_windows:
        if start.init is not None:
            arguments += ["--init", start.init]
        if spec.dcv_gl_enabled is not None:
            arguments += ["--gl", "on" if spec.dcv_gl_enabled else "off"]
    if spec.storage_root:
        arguments += ["--storage-root", spec.storage_root]
    if spec.max_concurrent_clients is not None:
        arguments += ["--max-concurrent-clients", str(spec.max_concurrent_clients)]
    if permissions is not None:
        arguments += ["--permissions-file", str(permissions)]
    return [*arguments, spec.session_id]


def start_autorun(start: Start, session: DcvSession) -> subprocess.Popen[bytes]:
    """Start the autorun program in the session's display, as the session's owner.

    Raises:
        OSError: it cannot be started; an agent that is not root can do so for its own user only.
    """
    variables = start.owner.environment | {"XDG_SESSION_TYPE": "x11", "DCV_SESSION_ID": session.id}
    if session.display is not None:
        variables["DISPLAY"] = session.display
    if session.authority is not None:
        variables["XAUTHORITY"] = session.authority
    return subprocess.Popen(
        start.autorun,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **start.owner.start_options,
    )
