"""What runs in a session that names no program: the best that a host has."""

from collections.abc import Callable

import pytest

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.desktop import desktop_command


def host_with(*programs: str) -> Callable[[str], str | None]:
    return lambda program: f"/usr/bin/{program}" if program in programs else None


def test_a_desktop_goes_before_a_window_manager_and_that_before_a_terminal() -> None:
    everything = ("mate-session", "dbus-run-session", "openbox", "twm", "xterm", "sh")
    assert desktop_command(find=host_with(*everything)) == (
        "/usr/bin/dbus-run-session",
        "--",
        "/usr/bin/mate-session",
    )
    assert desktop_command(find=host_with("startlxde")) == ("/usr/bin/startlxde",)
    openbox, option, beside = desktop_command(
        find=host_with("twm", "x-window-manager", "openbox", "xterm", "sh")
    )
    assert (openbox, option) == ("/usr/bin/openbox", "--startup")
    assert beside.startswith("/usr/bin/xterm ")
    shell, option, script = desktop_command(find=host_with("x-window-manager", "xterm", "sh"))
    assert (shell, option) == ("/usr/bin/sh", "-c")
    assert script.startswith("/usr/bin/x-window-manager & manager=$!;")
    assert script.endswith(" & wait $manager")
    assert desktop_command(find=host_with("xterm", "sh"))[0] == "/usr/bin/xterm"


def test_a_window_manager_without_anything_to_start_is_no_desktop() -> None:
    with pytest.raises(BackendError, match="apt-get install openbox xterm") as refused:
        desktop_command(find=host_with("openbox", "sh"))
    assert refused.value.code is Failure.DCV_SERVER_UNAVAILABLE


def test_the_administrators_choice_is_taken_in_its_order_and_nothing_else() -> None:
    wanted = (("kiosk", "--full"), ("xterm", "-ls"))
    assert desktop_command(wanted, host_with("kiosk", "xterm")) == ("/usr/bin/kiosk", "--full")
    assert desktop_command(wanted, host_with("xterm", "mate-session")) == ("/usr/bin/xterm", "-ls")
    with pytest.raises(BackendError, match=r"looked for kiosk, xterm\): see backend.desktop"):
        desktop_command(wanted, host_with("mate-session"))
