"""What the processes of a session may use of their host: limits like those of a login.

They are set by `prlimit` (util-linux) before the program itself begins. Python could
do it only between fork and exec, where a program with threads must not run Python.
"""

import resource
import shutil
from dataclasses import dataclass

from broker_stub.agent.owners import PATH

_MOST_OPEN_FILES = 524_288


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Limits of each process, whatever the agent itself may."""

    open_files: int = 1024
    """A program may raise it to half a million by itself, as in a login."""
    core_bytes: int = 0
    """Size of the picture of memory that a crash leaves behind."""
    processes: int | None = None
    """Of one user, over all sessions; `None` leaves the system's own number."""
    memory_bytes: int | None = None
    """Address space of one process; `None` for any."""

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command that runs a program within them; as it is on a host without `prlimit`."""
        if (prlimit := shutil.which("prlimit", path=PATH)) is None:
            return [program, *arguments]
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = _MOST_OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_OPEN_FILES)
        options = [f"--nofile={min(self.open_files, hard)}:{hard}", f"--core={self.core_bytes}"]
        if self.processes is not None:
            options.append(f"--nproc={self.processes}")
        if self.memory_bytes is not None:
            options.append(f"--as={self.memory_bytes}")
        return [prlimit, *options, program, *arguments]
