"""An event loop whose time passes as fast as the work on it allows: an hour of waiting takes no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Never waits: when nothing has happened, the time that would have been waited has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.passed += timeout
        return found


class FastLoop(asyncio.SelectorEventLoop):
    """For work without threads and sockets."""

    def __init__(self) -> None:
        self._fast = _Selector()
        super().__init__(self._fast)

    def time(self) -> float:
        """Seconds of this loop's own time."""
        return self._fast.passed


def run_fast(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in fast time."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(work)
