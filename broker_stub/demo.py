"""A local broker with a living fleet in one command: throw-away credentials, nothing left afterwards.

This is the front that the `demo` command uses. The work is done by a supervisor
process (`demo_supervisor`) that ends when the pipe from here closes, so the demo
never outlives the program that started it, however that one dies.
"""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_STOP_LIMIT_S = 30.0


class DemoError(Exception):
    """The demo could not be started; why is on standard error already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What kind of fleet the demo has."""

    servers: int = 12
    sessions: int | None = None
    """About two and a half per server if not said."""
    seed: int = 7
    is_still: bool = False
    """Nothing changes by itself; what an operator does still works."""

    def __post_init__(self) -> None:
        if self.servers < 0 or (self.sessions or 0) < 0:
            raise ValueError("numbers of servers and sessions cannot be negative")

    def arguments(self) -> list[str]:
        """As the supervisor's command line takes them."""
        arguments = ["--servers", str(self.servers), "--seed", str(self.seed)]
        if self.sessions is not None:
            arguments += ["--sessions", str(self.sessions)]
        return [*arguments, "--still"] if self.is_still else arguments


@dataclass(slots=True)
class Demo:
    """A running demo, and how to reach it; a context manager that stops it."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    ca_file: Path
    state_dir: Path
    _supervisor: subprocess.Popen[str] = field(repr=False)

    def as_json(self) -> str:
        """One line for programs: where the broker is and who may ask it."""
        return json.dumps(
            {
                "url": self.url,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "ca_file": str(self.ca_file),
                "state_dir": str(self.state_dir),
            }
        )

    def wait(self) -> int:
        """Wait until the demo ends by itself or is stopped; answers the supervisor's exit code."""
        return self._supervisor.wait()

    def stop(self) -> None:
        """End everything and return when nothing is left."""
        _stop(self._supervisor)

    def __enter__(self) -> "Demo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_demo(options: DemoOptions, *, has_console: bool = True) -> Demo:
    """Start the demo and return when the whole fleet is there.

    Args:
        options: What kind of fleet.
        has_console: Whether a console is going to use the terminal: then nothing is written to
            standard error once the demo is ready.

    Raises:
        DemoError: it could not be started.
    """
    arguments = options.arguments()
    if has_console:
        arguments.append("--quiet")
    supervisor = subprocess.Popen(
        # Not from the current folder: a file there could stand in for a module of ours.
        [sys.executable, "-P", "-m", "broker_stub.demo_supervisor", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C and a hang-up reach the program in the terminal, which then ends the demo in order.
        start_new_session=True,
    )
    try:
        return _demo_of(supervisor)
    except BaseException:
        _stop(supervisor)
        raise


def _demo_of(supervisor: subprocess.Popen[str]) -> Demo:
    line = supervisor.stdout.readline() if supervisor.stdout else ""
    if not line:
        raise DemoError(f"The demo could not be started (exit code {supervisor.wait()})")
    said = json.loads(line)
    return Demo(
        url=said["url"],
        client_id=said["client_id"],
        client_secret=said["client_secret"],
        ca_file=Path(said["ca_file"]),
        state_dir=Path(said["state_dir"]),
        _supervisor=supervisor,
    )


class _ToldToEnd(BaseException):
    """A signal came; raised where the main thread waits, whatever it waits for."""


def run_without_console(options: DemoOptions) -> int:
    """Run the demo for other programs: one JSON line on standard output, then wait for a signal.

    Returns:
        The exit code: 0 after SIGINT, SIGTERM or SIGHUP, 1 if the demo could not be started or
        ended by itself.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def tell(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # an impatient second one must not stop the clearing up
        raise _ToldToEnd

    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        with start_demo(options, has_console=False) as demo:
            sys.stdout.write(demo.as_json() + "\n")
            sys.stdout.flush()
            demo.wait()
        sys.stderr.write("The demo ended by itself.\n")
    except _ToldToEnd:
        return 0
    except DemoError as error:
        sys.stderr.write(f"{error}.\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 1


def _stop(supervisor: subprocess.Popen[str]) -> None:
    if supervisor.stdin:
        with suppress(OSError):
            supervisor.stdin.close()
    try:
        supervisor.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()  # its own children notice that and end, too
        supervisor.wait()
    if supervisor.stdout:
        supervisor.stdout.close()
