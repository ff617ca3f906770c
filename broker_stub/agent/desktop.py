"""What runs in an X session that asks for no program of its own: the best this host has.

A desktop that is made to be started by one command comes first, then a window
manager with a terminal, then a terminal alone. The session ends with it.
"""

import shlex
import shutil
from collections.abc import Callable, Sequence

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.owners import PATH

BACKGROUND = 0x25384A
"""Colour of the screen behind everything, red, green, blue; desktops paint over it."""

# Those that run without a login manager, which in a session of ours nobody is.
_DESKTOPS = ("startxfce4", "mate-session", "startlxqt", "startlxde")
_WINDOW_MANAGERS = (
    *("icewm", "jwm", "fluxbox", "xfwm4", "marco", "metacity", "fvwm3", "fvwm"),
    "x-window-manager",
)
# A login shell: no login has read the owner's profile before.
_TERMINAL = (
    *("xterm", "-ls", "-fa", "Monospace", "-fs", "11", "-geometry", "96x28+48+64"),
    *("-bg", "#1c2430", "-fg", "#d8dee9", "-cr", "#88c0d0"),
)

Find = Callable[[str], str | None]


def _find(program: str) -> str | None:
    return shutil.which(program, path=PATH)


def desktop_command(wanted: Sequence[Sequence[str]] = (), find: Find = _find) -> tuple[str, ...]:
    """The command of a session without an init file.

    Args:
        wanted: The administrator's choice: the first of these commands that is installed.
        find: Where a program is, `None` if it is not installed.

    Raises:
        BackendError: nothing is installed that could be shown.
    """
    if wanted:
        for program, *arguments in wanted:
            if path := find(program):
                return (path, *arguments)
        names = ", ".join(command[0] for command in wanted)
        raise BackendError(
            Failure.DCV_SERVER_UNAVAILABLE,
            f"No program to show in the session is installed (looked for {names}): see backend.desktop",
        )
    return _desktop(find) or _window_manager(find) or _terminal(find)


def _desktop(find: Find) -> tuple[str, ...] | None:
    if (path := _first(find, _DESKTOPS)) is None:
        return None
    # Their parts talk over a bus that otherwise a login would have started.
    bus = find("dbus-run-session")
    return (bus, "--", path) if bus else (path,)


def _window_manager(find: Find) -> tuple[str, ...] | None:
    """A window manager with a terminal, which may come only when the manager is ready.

    A window that is mapped while a manager starts may wait for seconds, or for ever: measured
    with openbox and xterm, one time in three.
    """
    terminal = find(_TERMINAL[0])
    if terminal is None:
        return None
    beside = shlex.join((terminal, *_TERMINAL[1:]))
    if openbox := find("openbox"):
        return (openbox, "--startup", beside)
    manager, shell = _first(find, _WINDOW_MANAGERS), find("sh")
    if manager is None or shell is None:
        return None
    # The others do not tell when they are ready.
    return (shell, "-c", f"{shlex.quote(manager)} & manager=$!; sleep 1; {beside} & wait $manager")


def _terminal(find: Find) -> tuple[str, ...]:
    if path := find(_TERMINAL[0]):
        return (path, *_TERMINAL[1:])
    raise BackendError(
        Failure.DCV_SERVER_UNAVAILABLE,
        "No program to show in the session is installed: apt-get install openbox xterm",
    )


def _first(find: Find, programs: Sequence[str]) -> str | None:
    return next((path for path in map(find, programs) if path), None)
