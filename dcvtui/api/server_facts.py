"""What the requirements language can ask of a server: its properties, its tags, its numbers.

`dcvtui.api.requirements` reads expressions with these names; placement and the
console turn each server into flat facts once, when it changes, and evaluate
expressions over them.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import Any

Fact = str | int | float | Decimal
Facts = Mapping[str, Fact]

TEXT_PROPERTIES = (
    "Id",
    "Hostname",
    "Version",
    "SessionManagerAgentVersion",
    "Host.Os.BuildNumber",
    "Host.Os.Family",
    "Host.Os.KernelVersion",
    "Host.Os.Name",
    "Host.Os.Version",
    "Host.Aws.Ec2InstanceId",
    "Host.Aws.Ec2InstanceType",
    "Host.Aws.Region",
    "Host.Aws.Ec2ImageId",
    "Host.CpuInfo.Architecture",
    "Host.CpuInfo.ModelName",
    "Host.CpuInfo.Vendor",
)
NUMBER_PROPERTIES = (
    "Host.Memory.TotalBytes",
    "Host.Memory.UsedBytes",
    "Host.Swap.TotalBytes",
    "Host.Swap.UsedBytes",
    "Host.CpuLoadAverage.OneMinute",
    "Host.CpuLoadAverage.FiveMinutes",
    "Host.CpuLoadAverage.FifteenMinutes",
    "Host.CpuInfo.NumberOfCpus",
    "Host.CpuInfo.PhysicalCoresPerCpu",
)
PROPERTIES = TEXT_PROPERTIES + NUMBER_PROPERTIES

NUMBER_KEYS = frozenset(f"server:{name}" for name in NUMBER_PROPERTIES)
# The JSON spells EC2, the language Ec2; both are understood (API specification, 9.2 and D6).
SERVER_KEYS = {f"server:{name}": f"server:{name}" for name in PROPERTIES} | {
    f"server:{name.replace('Ec2', 'EC2')}": f"server:{name}" for name in PROPERTIES if "Ec2" in name
}


def nearest_property(name: str) -> str | None:
    """The server property that was probably meant, if one is near; the prefix may be there or not."""
    wanted = name.removeprefix("server:").lower()
    by_folded = {known.lower(): known for known in PROPERTIES}
    endings = [known for folded, known in by_folded.items() if wanted and f".{folded}".endswith(f".{wanted}")]
    if len(endings) == 1:
        return endings[0]
    # Long garbage would cost time and is near to nothing.
    near = get_close_matches(wanted[:80], by_folded, n=1)
    return by_folded[near[0]] if near else None


# ------------------------------------------------------------------ numbers

NUMBER_PATTERN = r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER_PATTERN)


def exact_decimal(text: str) -> Decimal:
    """The exact value of a text that matches `number`."""
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond 18 digits; such a number is larger or nearer to zero than any other.
        mantissa, exponent = re.split("[eE]", text)
        sign = "-" if mantissa.startswith("-") else ""
        tiny = exponent.startswith("-") or not mantissa.strip("+-0.")
        return Decimal(0) if tiny else Decimal(f"{sign}1E+999999999999999999")


@lru_cache(maxsize=4096)
def number_in(text: str) -> Decimal | None:
    """The number a text is, if the whole text is one."""
    return exact_decimal(text) if _NUMBER.fullmatch(text) else None


def exact_float(value: float) -> Decimal | None:
    """What the JSON said: 0.1 means one tenth, which the float is not but its shortest text is.

    `None` for what is no number, which Python's JSON reader lets through.
    """
    return Decimal(repr(value)) if isfinite(value) else None


# ------------------------------------------------------------------ a server's facts

_PATHS = [
    (f"server:{name}", tuple(name.replace("Ec2", "EC2").split(".")), name in NUMBER_PROPERTIES)
    for name in PROPERTIES
]


def facts_of(server: Mapping[str, Any]) -> dict[str, Fact]:
    """The facts of a server as the API describes it (`Host` included), what is missing left out.

    Keys are spelled as in expressions: `server:Host.Os.Family`, `server:Host.Aws.Ec2InstanceId`, `tag:color`.
    """
    facts: dict[str, Fact] = {}
    for key, path, is_number in _PATHS:
        value: Any = server
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        fact = number_fact(value) if is_number else text_fact(value)
        if fact is not None:
            facts[key] = fact
    for tag in server.get("Tags") or ():
        if isinstance(tag, Mapping) and isinstance(tag.get("Value"), str):
            facts[f"tag:{tag.get('Key')}"] = tag["Value"]
    return facts


def number_fact(value: Any) -> int | Decimal | None:
    """A number of the wire as a fact; a number in a text counts too, and a truth value is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return exact_float(value)
    return number_in(value) if isinstance(value, str) else None


def text_fact(value: Any) -> str | None:
    """A text of the wire as a fact; some brokers and agents write numbers where texts belong."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
