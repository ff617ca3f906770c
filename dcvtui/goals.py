"""What a person waits for after a change, and when it is reached, or will never be.

Sessions and servers come in as the broker describes them, `None` once it lists
them no longer. Pure; asking and waiting is done in `dcvtui.headless.waiting`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from dcvtui.api.states import Availability, SessionState, UnavailabilityReason

Wire = Mapping[str, Any]

SESSION_GOALS = tuple(state.lower() for state in SessionState)
SERVER_GOALS = ("available", "closed", "empty")


class Progress(StrEnum):
    """How far something is on its way to a goal."""

    ON_THE_WAY = "on the way"
    REACHED = "reached"
    HOPELESS = "hopeless"


class Judgement(NamedTuple):
    """How far, and why it will not get there."""

    progress: Progress
    reason: str = ""


_ON_THE_WAY = Judgement(Progress.ON_THE_WAY)
_REACHED = Judgement(Progress.REACHED)


def judge_session(goal: str, session: Wire | None, before: str = "") -> Judgement:
    """How far a session is.

    Args:
        goal: a state in lower case; `deleted` also means that the broker lists it no longer.
        session: as it is described now.
        before: the state it was seen in before.
    """
    state = str(session.get("State", "")) if session else SessionState.DELETED.value
    if state.lower() == goal:
        return _REACHED
    reason = str((session or {}).get("StateReason") or "")
    if session is None:
        return Judgement(Progress.HOPELESS, "the broker lists it no longer")
    if goal == "ready":
        if state in (SessionState.UNKNOWN, SessionState.DELETING, SessionState.DELETED):
            return Judgement(Progress.HOPELESS, reason or f"it turned {state} instead of READY")
    elif state == SessionState.DELETED:
        return Judgement(Progress.HOPELESS, reason or "it is DELETED")
    if goal == "deleted" and before == SessionState.DELETING and state == SessionState.READY:
        return Judgement(Progress.HOPELESS, reason or "its host did not close it")
    return _ON_THE_WAY


def judge_server(goal: str, server: Wire | None) -> Judgement:
    """How far a server is; `goal` is one of `SERVER_GOALS`."""
    if server is None:
        return Judgement(Progress.HOPELESS, "the broker lists it no longer")
    if goal == "available":
        is_there = server.get("Availability") == Availability.AVAILABLE
    elif goal == "closed":
        is_there = server.get("UnavailabilityReason") == UnavailabilityReason.SERVER_CLOSED
    else:
        is_there = not any(server.get(name) for name in ("ConsoleSessionCount", "VirtualSessionCount"))
    return _REACHED if is_there else _ON_THE_WAY


def state_in_words(kind: str, wire: Wire | None) -> str:
    """The state of a session or server in the broker's words, for the line that tells of a transition.

    Args:
        kind: `Sessions` or `Servers`.
        wire: as it is described now.
    """
    if wire is None:
        return "no longer listed"
    if kind == "Sessions":
        substate = wire.get("Substate")
        return f"{wire.get('State', '')}{f' ({substate})' if substate else ''}"
    sessions = sum(int(wire.get(name) or 0) for name in ("ConsoleSessionCount", "VirtualSessionCount"))
    state = wire.get("UnavailabilityReason") or wire.get("Availability") or ""
    return f"{state}, {sessions} session{'' if sessions == 1 else 's'}"
