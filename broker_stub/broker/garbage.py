"""Keeps Python's collection of cycles from holding the broker up: a fleet is a lot to walk through.

A full collection looks at every object that lives long. With 10,000 servers and
50,000 sessions that is a quarter of a second in which nothing is answered, about
once a minute, and it finds nothing: records are no part of cycles. The settings
are those of the whole process, so only `process` uses this.
"""

import asyncio
import gc

_YOUNG = 2_000
_YOUNG_TO_MIDDLE = 10
_NEVER = 1_000_000_000
_ARRIVED_S = 120
_COLLECTED_EVERY_S = 3600


async def keep_collections_short(
    arrived_s: float = _ARRIVED_S, collected_every_s: float = _COLLECTED_EVERY_S
) -> None:
    """Let collections look at young objects only, until cancelled; then they are as before.

    Args:
        arrived_s: When the fleet has arrived and is set aside, in seconds from now.
        collected_every_s: How often what has come since then is looked at after all, and set aside.
    """
    before = gc.get_threshold()
    # Collections of the old generation are never begun by themselves.
    gc.set_threshold(_YOUNG, _YOUNG_TO_MIDDLE, _NEVER)
    gc.freeze()
    try:
        await asyncio.sleep(arrived_s)
        gc.freeze()
        while True:
            await asyncio.sleep(collected_every_s)
            # Something may be left over after all: short, as what was set aside is not looked at.
            gc.collect()
            gc.freeze()
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
