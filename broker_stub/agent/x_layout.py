"""Gives a running X session another display layout, through `xrandr`.

An Xvfb never grows beyond the size it was started with; an Xvnc takes any. Hosts
without `xrandr` run sessions all the same, with the size they were started with.
"""

import asyncio
import shutil
from collections.abc import Sequence

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.layouts import Head, size_of
from broker_stub.agent.owners import PATH, Owner
from broker_stub.agent.x_programs import ServerKind

MISSING = "The screens of sessions cannot be resized: apt-get install x11-xserver-utils"

# The one output of each server; several monitors are parts of its picture.
_OUTPUTS = {ServerKind.XVFB: "screen", ServerKind.XVNC: "VNC-0"}
_LIMIT_S = 10.0


def resizing_program() -> str | None:
    """Where `xrandr` is, `None` if it is not installed."""
    return shutil.which("xrandr", path=PATH)


async def apply_layout(
    kind: ServerKind,
    heads: tuple[Head, ...],
    largest: tuple[int, int],
    owner: Owner,
    variables: dict[str, str],
) -> None:
    """Set size and monitors of a display.

    Args:
        kind: What runs it.
        heads: The monitors, the primary one first.
        largest: The size an Xvfb was started with.
        owner: As whom to do it.
        variables: With `DISPLAY` and `XAUTHORITY`.

    Raises:
        BackendError: the display cannot have that layout, or `xrandr` is missing or fails.
    """
    program = resizing_program()
    if program is None:
        raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, MISSING)
    width, height = size_of(heads)
    if kind is ServerKind.XVFB and (width > largest[0] or height > largest[1]):
        raise BackendError(
            Failure.DCV_COMMAND_FAILED,
            f"A session on Xvfb cannot be larger than it was started, {largest[0]}x{largest[1]}",
        )
    randr = _XRandR(program, owner, variables)
    output, mode = _OUTPUTS[kind], f"{width}x{height}"
    for name in await randr.monitors():
        await randr.run("--delmonitor", name)
    # Both fail where the mode is known already; whether it can be used is seen in the third step.
    timings = (str(width), "0", "0", "0", str(height), "0", "0", "0")
    await randr.run("--newmode", mode, "0", *timings)
    await randr.run("--addmode", output, mode)
    await randr.must("--output", output, "--mode", mode)
    if len(heads) > 1:
        for number, head in enumerate(heads):
            # A star marks the primary one. The output belongs to the first; the others have none.
            name = f"{'*' if number == 0 else ''}head-{number + 1}"
            place = f"{head.width}/{_mm(head.width)}x{head.height}/{_mm(head.height)}+{head.x}+{head.y}"
            await randr.must("--setmonitor", name, place, output if number == 0 else "none")


def _mm(pixels: int) -> int:
    """Millimetres at 96 dots per inch, so that programs take the usual size of text."""
    return round(pixels * 25.4 / 96)


class _XRandR:
    """Runs the program as the owner of the display."""

    def __init__(self, program: str, owner: Owner, variables: dict[str, str]) -> None:
        self._program = program
        self._owner = owner
        self._variables = variables

    async def must(self, *arguments: str) -> None:
        code, words = await self.run(*arguments)
        if code != 0:
            raise BackendError(Failure.DCV_COMMAND_FAILED, f"The layout could not be set: {words}")

    async def monitors(self) -> Sequence[str]:
        """Names of the monitors that were defined by hand."""
        code, words = await self.run("--listmonitors")
        if code != 0:
            raise BackendError(Failure.DCV_COMMAND_FAILED, f"The session display is not reachable: {words}")
        names = (line.split()[1] for line in words.splitlines()[1:] if len(line.split()) > 1)
        # A plus sign marks those that the server made itself; a star the primary one.
        return [name.lstrip("*") for name in names if not name.startswith("+")]

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what it said."""
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            env=self._variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **self._owner.start_options,
        )
        try:
            async with asyncio.timeout(_LIMIT_S):
                said, _ = await process.communicate()
        except TimeoutError:
            raise BackendError(
                Failure.TIMEOUT, f"The session display did not answer within {_LIMIT_S:g} seconds"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        return process.returncode or 0, said.decode("utf-8", "replace").strip()[-400:]
