"""The HTTP library without its own command line, for which it would load rich and pygments.

That is a quarter of its import time, and headless commands are to work without
the screen's libraries. Import httpx from here and from nowhere else in `dcvtui`.
"""

import sys

# None makes the import of this one module fail, for which httpx is prepared: its command line is an extra.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # documented, typeshed leaves it out

import httpx  # noqa: E402  after the line above, which is the point of this module

if sys.modules["httpx._main"] is None:
    del sys.modules["httpx._main"]

__all__ = ["httpx"]
