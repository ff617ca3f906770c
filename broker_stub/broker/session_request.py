"""Whether a request makes sense: the second layer of validation (API, 1.5 and 5.2).

The shape of a request was checked when it was read; here its meaning is: what is
required, what fits together, how long it may be. The texts are interface. Several
faults in one item: the first in the order of the field table is reported.
"""

import base64
import binascii
import re
import unicodedata
from typing import Any

from broker_stub.broker.events import Rules
from dcvtui.api import requirements
from dcvtui.api.models import CreateSessionRequestData
from dcvtui.api.states import SessionType

MAX_NAME = 256
MAX_REQUIREMENTS = 4096
MAX_PERMISSIONS_BYTES = 64 * 1024

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")
_BLANKS = re.compile(r"\s+")


class MeaninglessRequest(ValueError):  # noqa: N818  the name is what it says: well formed, but without a meaning
    """A request that is refused; the text is its FailureReason."""


def read_creation(request: CreateSessionRequestData, rules: Rules) -> dict[str, Any]:
    """Check one item of CreateSessions.

    Returns:
        The request under wire names, ready for a host: no blanks where nothing is meant, the type in
        upper case, one spelling of the init file.

    Raises:
        MeaninglessRequest: with the item's FailureReason.
    """
    checked: dict[str, Any] = {
        "Name": _name("Name", request.name),
        "Owner": _name("Owner", request.owner),
        "Type": _type(request.type),
    }
    is_console = checked["Type"] == SessionType.CONSOLE
    optional = {
        "InitFile": _init_file(request, is_console),
        "MaxConcurrentClients": _client_limit(request.max_concurrent_clients),
        "DcvGlEnabled": _gl(request.dcv_gl_enabled, is_console),
        "PermissionsFile": read_permissions_file(request.permissions_file),
        "EnqueueRequest": request.enqueue_request,
        "AutorunFile": _relative_path("AutorunFile", request.autorun_file),
        "AutorunFileArguments": _arguments(request, rules, is_console),
        "DisableRetryOnFailure": request.disable_retry_on_failure,
        "Requirements": _requirements(request.requirements),
        "StorageRoot": _text("StorageRoot", request.storage_root),
    }
    return checked | {name: value for name, value in optional.items() if value not in (None, "", [])}


def read_permissions_file(value: str | None) -> str | None:
    """Check a permissions file in Base64; blanks and line ends in it mean nothing.

    Returns:
        The same without blanks, or `None` if there is nothing.

    Raises:
        MeaninglessRequest: not Base64, or too large.
    """
    if value is None or is_blank(value):
        return None
    packed = _BLANKS.sub("", value)
    try:
        content = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise MeaninglessRequest("PermissionsFile is not valid Base64") from None
    if len(content) > MAX_PERMISSIONS_BYTES:
        raise MeaninglessRequest("PermissionsFile is too large")
    return packed


def is_blank(value: str | None) -> bool:
    """Whether a required field is missing: not there, or only blanks."""
    return value is None or not value.strip()


def required(field: str, value: str | None) -> str:
    """The value of a required field.

    Raises:
        MeaninglessRequest: it is missing or blank.
    """
    if value is None or is_blank(value):
        raise MeaninglessRequest(f"{field} is required")
    return value


def _name(field: str, value: str | None) -> str:
    text = required(field, value)
    if len(text) > MAX_NAME:
        raise MeaninglessRequest(f"{field} is too long")
    # A lone surrogate is no character: it could not be sent to the host.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise MeaninglessRequest(f"{field} contains invalid characters")
    return text


def _type(value: str | None) -> str:
    word = required("Type", value).upper()
    if word not in SessionType.__members__:
        raise MeaninglessRequest("Type must be one of CONSOLE, VIRTUAL")
    return word


def _text(field: str, value: str | None) -> str | None:
    if value is None or is_blank(value):
        return None
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise MeaninglessRequest(f"{field} contains invalid characters")
    return value


def _relative_path(field: str, value: str | None) -> str | None:
    path = _text(field, value)
    if path is not None and (_ABSOLUTE.match(path) or ".." in _SEPARATORS.split(path)):
        raise MeaninglessRequest(f"{field} must be a relative path")
    return path


def _init_file(request: CreateSessionRequestData, is_console: bool) -> str | None:
    # The deprecated spelling may be absolute; the agent then checks that it lies inside its folder (D9).
    path = _relative_path("InitFile", request.init_file) or _text("InitFilePath", request.init_file_path)
    if path is not None and is_console:
        raise MeaninglessRequest("InitFile is not supported for CONSOLE sessions")
    return path


def _client_limit(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise MeaninglessRequest("MaxConcurrentClients must be greater than 0")
    return value


def _gl(value: bool | None, is_console: bool) -> bool | None:
    if value and is_console:
        raise MeaninglessRequest("DcvGlEnabled is not supported for CONSOLE sessions")
    return value


def _arguments(request: CreateSessionRequestData, rules: Rules, is_console: bool) -> list[str] | None:
    arguments = request.autorun_file_arguments
    if not arguments:
        return None
    field = "AutorunFileArguments"
    if is_console:
        raise MeaninglessRequest(f"{field} is not supported for CONSOLE sessions")
    if is_blank(request.autorun_file):
        raise MeaninglessRequest(f"{field} requires AutorunFile")
    if len(arguments) > rules.autorun_arguments_max:
        raise MeaninglessRequest(f"{field} exceeds the maximum of {rules.autorun_arguments_max} arguments")
    if any(len(argument) > rules.autorun_argument_length_max for argument in arguments):
        longest = rules.autorun_argument_length_max
        raise MeaninglessRequest(f"{field} has an argument longer than {longest} characters")
    for argument in arguments:
        _text(field, argument)
    return arguments


def _requirements(value: str | None) -> str | None:
    if value is None or is_blank(value):
        return None
    if len(value) > MAX_REQUIREMENTS:
        raise MeaninglessRequest("Invalid requirements: expression too long")
    try:
        requirements.parse(value)
    except requirements.RequirementsError as error:
        raise MeaninglessRequest(f"Invalid requirements: {error}") from None
    return value
