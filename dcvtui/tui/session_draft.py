"""What the form for new sessions holds: a draft, the requests made of it, and what the fleet says to it.

No widgets here: `create_form` shows a draft, and the console keeps it per
profile. The rules for a server that can take a session are those of placement,
as far as a console can know them.
"""

import base64
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from dcvtui.api.requirements import RequirementsError, parse
from dcvtui.api.server_facts import Facts
from dcvtui.api.states import Availability, SessionType
from dcvtui.fleet import ServerRecord
from dcvtui.operations import numbered_name

MAX_COUNT: Final = 200
"""More sessions than this at once is a slip of the finger; the broker takes them 50 to a request."""

# Field of the form by the word of the API that a refusal begins with (API specification, 5.2).
_FIELD_OF_WORD: Final = {
    "Owner": "owner",
    "Name": "name",
    "Type": "type",
    "Requirements": "requirements",
    "EnqueueRequest": "enqueue",
    "PermissionsFile": "permissions",
    "InitFile": "init_file",
    "InitFilePath": "init_file",
    "AutorunFile": "autorun_file",
    "AutorunFileArguments": "arguments",
    "MaxConcurrentClients": "max_clients",
    "StorageRoot": "storage_root",
    "DcvGlEnabled": "gl",
    "DisableRetryOnFailure": "retry",
}
_FIRST_WORD: Final = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class SessionDraft:
    """The fields as typed; `only` are the numbers that are left when others were accepted already."""

    owner: str = ""
    name: str = ""
    count: str = "1"
    type: str = SessionType.VIRTUAL
    requirements: str = ""
    enqueue: bool = False
    permissions: str | None = None
    """Text of the permissions file; `None` for the server's default."""
    init_file: str = ""
    autorun_file: str = ""
    arguments: str = ""
    """Words as in a shell: blanks part them, quotes keep them together."""
    max_clients: str = ""
    storage_root: str = ""
    gl: str = ""
    """`yes`, `no`, or "" for what the server does by default."""
    retry: bool = True
    only: tuple[int, ...] = ()

    @property
    def numbers(self) -> Sequence[int]:
        """The values of `{n}` to be sent, none if the count is no number."""
        if self.only:
            return self.only
        count = _whole_number(self.count)
        return range(1, count + 1) if count is not None and 1 <= count <= MAX_COUNT else ()

    def name_of(self, number: int) -> str:
        """The name of one session: `{n}` and `{owner}` filled in."""
        return numbered_name(self.name, number, self.owner)


def _whole_number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else None


_REMEMBERED: Final = [one.name for one in fields(SessionDraft) if one.name not in ("only", "permissions")]


def to_form(draft: SessionDraft, *, with_permissions: bool = True) -> dict[str, Any]:
    """What is saved of a draft, by the names of its fields."""
    form = {name: getattr(draft, name) for name in _REMEMBERED}
    return form | ({"permissions": draft.permissions} if with_permissions else {})


def from_form(form: Mapping[str, Any]) -> SessionDraft:
    """The draft of a saved form; what is missing or of the wrong kind is as in an empty form."""
    empty = SessionDraft()
    values: dict[str, Any] = {
        name: form[name]
        for name in _REMEMBERED
        if isinstance(form.get(name), type(getattr(empty, name)) if name != "type" else str)
    }
    if values.get("type") not in list(SessionType):
        values.pop("type", None)
    permissions = form.get("permissions")
    return SessionDraft(**values, permissions=permissions if isinstance(permissions, str) else None)


def form_line(form: Mapping[str, Any]) -> str:
    """A saved form in one line."""
    draft = from_form(form)
    parts = [draft.name, draft.owner, draft.type, f"x{draft.count}" if draft.count != "1" else "",
             draft.requirements]  # fmt: skip
    return "  ".join(part for part in parts if part)


def problems(draft: SessionDraft) -> dict[str, str]:
    """What keeps the draft from being sent, by field; all other faults are the broker's to find."""
    found: dict[str, str] = {}
    if not draft.owner.strip():
        found["owner"] = "An owner is required."
    if not draft.name.strip():
        found["name"] = "A name is required."
    if not draft.numbers:
        found["count"] = f"A number from 1 to {MAX_COUNT}."
    if draft.max_clients.strip() and not _whole_number(draft.max_clients):
        found["max_clients"] = "A number from 1, or nothing for no limit."
    try:
        shlex.split(draft.arguments)
    except ValueError:
        found["arguments"] = "A quote is not closed."
    return found


def requests(draft: SessionDraft) -> list[dict[str, Any]]:
    """The items of CreateSessions in the order of `numbers`; the draft must have no `problems`."""
    common: dict[str, Any] = {"Owner": draft.owner.strip(), "Type": draft.type}
    if draft.requirements.strip():
        common["Requirements"] = draft.requirements.strip()
    if draft.enqueue:
        common["EnqueueRequest"] = True
    if draft.permissions is not None:
        common["PermissionsFile"] = base64.b64encode(draft.permissions.encode()).decode()
    for field, name in (("InitFile", draft.init_file), ("AutorunFile", draft.autorun_file)):
        if name.strip():
            common[field] = name.strip()
    if arguments := shlex.split(draft.arguments):
        common["AutorunFileArguments"] = arguments
    if draft.max_clients.strip():
        common["MaxConcurrentClients"] = int(draft.max_clients)
    if draft.storage_root.strip():
        common["StorageRoot"] = draft.storage_root.strip()
    if draft.gl:
        common["DcvGlEnabled"] = draft.gl == "yes"
    if not draft.retry:
        common["DisableRetryOnFailure"] = True
    return [{"Name": draft.name_of(number), **common} for number in draft.numbers]


def field_of(reason: str) -> str | None:
    """The field a refusal is about: the one its text begins with; `None` if it is about none."""
    if reason.startswith("Invalid requirements"):
        return "requirements"
    word = _FIRST_WORD.match(reason)
    return _FIELD_OF_WORD.get(word[0]) if word else None


# ------------------------------------------------------------------ what the fleet says


@dataclass(frozen=True, slots=True)
class Preview:
    """How many servers fulfil a requirement, and how many of these could take a session now."""

    total: int
    matching: int
    ready: int
    places: int | None
    """Sessions these servers could take together; `None` for any number."""


def free_places(server: ServerRecord, draft: SessionDraft) -> int | None:
    """How many sessions such as the draft's the server could take now; `None` for any number."""
    if server.availability != Availability.AVAILABLE or server.console_sessions:
        return 0
    family = server.os_family.lower()
    if draft.type == SessionType.CONSOLE:
        # Autorun in console sessions is a matter of Windows (API specification, 4.3).
        fits = not server.sessions and (not draft.autorun_file.strip() or family == "windows")
        return 1 if fits else 0
    if family != "linux":
        return 0
    limit = next((value for key, value in server.tags if key == "dcv:max-virtual-sessions"), "")
    number = _whole_number(limit)
    return None if number is None else max(0, number - server.virtual_sessions)


def preview(draft: SessionDraft, fleet: Iterable[tuple[ServerRecord, Facts]]) -> Preview:
    """Evaluate the requirement of a draft against the servers that are known.

    Raises:
        RequirementsError: the requirement cannot be read.
    """
    matches = parse(draft.requirements).matches
    total = matching = ready = 0
    places: int | None = 0
    for server, facts in fleet:
        total += 1
        if not matches(facts):
            continue
        matching += 1
        free = free_places(server, draft)
        if free == 0:
            continue
        ready += 1
        places = None if places is None or free is None else places + free
    return Preview(total, matching, ready, places)


def preview_sentence(draft: SessionDraft, seen: Preview, as_of: str = "") -> str:
    """The preview in words: `matches 12 of 240 servers, 7 of them can take a VIRTUAL session now`."""
    noun = "server" if seen.total == 1 else "servers"
    said = f"matches {seen.matching:,} of {seen.total:,} {noun}"
    if seen.matching:
        said += f", {seen.ready:,} of them can take a {draft.type} session now"
    waiting = 0 if seen.places is None else max(0, len(draft.numbers) - seen.places)
    if waiting and seen.matching:
        fate = "wait" if draft.enqueue else "be refused"
        said += f": {'one' if waiting == 1 else waiting} would {fate}"
    return f"{said} (as of {as_of})" if as_of else said


def requirement_fault(error: RequirementsError) -> str:
    """What is wrong with a requirement, and what was probably meant."""
    return error.sentence
