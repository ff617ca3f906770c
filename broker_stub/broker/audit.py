"""Who is being served, and the audit trail: who asked for what, from where, with which outcome.

Each request has one `Call`, which `front` begins and ends; whoever learns something
about it, such as the API client behind a token, notes it there. Secrets, tokens and
permissions texts have no place in a note.
"""

import logging
import random
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

trail = logging.getLogger("broker_stub.audit")

_MOST_NAMED = 20

Detail = str | int


@dataclass(slots=True)
class Call:
    """One request while it is served.

    Attributes:
        request_id: Names it in answers and in every log.
        address: Where it comes from.
        actor: The client, agent or user that asks; empty while nobody is known.
        details: What else the audit trail should say.
    """

    request_id: str
    address: str
    actor: str = ""
    details: dict[str, Detail] = field(default_factory=dict)


_ids = random.Random()  # noqa: S311  see _new_id
_current: ContextVar[Call | None] = ContextVar("call", default=None)


def _new_id() -> str:
    """A random UUID (version 4). It names and is no secret, so it costs no call of the system."""
    digits = f"{_ids.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def begin(address: str) -> Call:
    """Begin to serve a request in this task and in those that it starts."""
    call = Call(_new_id(), address)
    _current.set(call)
    return call


def current() -> Call | None:
    """The request that is being served, if any."""
    return _current.get()


def request_id() -> str:
    """The id of the request that is being served; a new one outside of any."""
    call = _current.get()
    return call.request_id if call is not None else _new_id()


def note_actor(actor: str) -> None:
    """Note who asks."""
    if call := _current.get():
        call.actor = actor


def note(**details: Detail) -> None:
    """Note what the audit trail should say of the request."""
    if call := _current.get():
        call.details.update(details)


def note_items(done: Sequence[str], failed: int) -> None:
    """Note how the items of a request ended.

    Args:
        done: Ids of what was done; a few of them are named.
        failed: How many items failed.
    """
    named = ",".join(done[:_MOST_NAMED])
    note(done=len(done), failed=failed, **({"ids": named} if named else {}))


def write(action: str, outcome: str, call: Call) -> None:
    """Write the line of a request."""
    trail.info(
        "%s: %s",
        action,
        outcome,
        extra={
            "audit": {
                "action": action,
                "outcome": outcome,
                "actor": call.actor or "anybody",
                "address": call.address,
                "request": call.request_id,
                **call.details,
            }
        },
    )
