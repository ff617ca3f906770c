"""Facts and metrics of the machine the agent runs on, as the channel carries them.

Nothing here leaves the machine but a question about the host's own name, and on
machines of Amazon EC2 one to its metadata service. What never changes is read once, what may change
rarely every ten minutes, the rest each time.
"""

import asyncio
import contextlib
import logging
import platform
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from broker_stub.agent.ec2 import aws_facts, is_of_ec2
from broker_stub.agent.identity import Address

logger = logging.getLogger(__name__)

_SLOW_FACTS_S = 600.0
_GPU_QUERY_S = 5.0
_MOST_USERS = 1024
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x1d0f": "Amazon", "0x15ad": "VMware"}
_DISPLAY_CLASS = "0x03"
_ROOT = Path("/")


class RealHost:
    """This machine.

    Args:
        reports_users: Whether logged-in users are looked for.
        root: Where the system's files are; another folder in tests.
        ec2_endpoint: Where to ask about this machine if its firmware says it is one of EC2; nothing
            asks nobody.
        clock: Seconds, only moving forward.
    """

    def __init__(
        self,
        *,
        reports_users: bool = True,
        root: Path = _ROOT,
        ec2_endpoint: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reports_users = reports_users
        self._ec2_endpoint = ec2_endpoint
        self._root = root
        self._clock = clock
        self._slow: dict[str, Any] = {}
        self._slow_until = 0.0

    async def read(self) -> dict[str, Any]:
        """The `host` member of a report."""
        if not self._slow or self._clock() >= self._slow_until:
            self._slow = {
                "os": os_facts(self._root),
                "cpuInfo": cpu_facts(self._root),
                "gpus": await query_gpus(self._root),
            }
            if self._ec2_endpoint and is_of_ec2(self._root):
                facts = await aws_facts(self._ec2_endpoint)
                self._slow |= {"aws": facts} if facts else {}
            self._slow_until = self._clock() + _SLOW_FACTS_S
        return self._slow | metrics(reports_users=self._reports_users)

    def has_outside_user(self) -> bool:
        """Somebody logged in outside any session makes only a Windows host unavailable."""
        return False


def metrics(*, reports_users: bool = True) -> dict[str, Any]:
    """What changes all the time: load, memory, swap, users."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    one, five, fifteen = psutil.getloadavg()
    return {
        "memory": {"totalBytes": memory.total, "usedBytes": memory.total - memory.available},
        "swap": {"totalBytes": swap.total, "usedBytes": swap.used},
        "cpuLoadAverage": {
            "oneMinute": round(one, 2),
            "fiveMinutes": round(five, 2),
            "fifteenMinutes": round(fifteen, 2),
        },
        "loggedInUsers": logged_in_users() if reports_users else [],
    }


def logged_in_users() -> list[dict[str, str]]:
    """Users with an open login, each once."""
    try:
        names = sorted({user.name for user in psutil.users()})
    except OSError:  # no login records, as in most containers
        return []
    return [{"username": name[:256]} for name in names[:_MOST_USERS]]


def os_facts(root: Path = _ROOT) -> dict[str, str]:
    """The operating system; the family in lower case, as placement rules expect it."""
    release = _release(root)
    facts = {
        "family": platform.system().lower() or "unknown",
        "name": release.get("NAME") or platform.system(),
        "version": release.get("VERSION_ID") or platform.version(),
        "kernelVersion": platform.release(),
    }
    if build := release.get("BUILD_ID"):
        facts["buildNumber"] = build
    return {name: value[:256] for name, value in facts.items()}


def _release(root: Path) -> dict[str, str]:
    for name in ("etc/os-release", "usr/lib/os-release"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (root / name).read_text(encoding="utf-8")
            found = re.findall(r"^([A-Z_0-9]+)=(?:\"([^\"]*)\"|'([^']*)'|(.*))$", text, re.MULTILINE)
            return {key: double or single or plain.strip() for key, double, single, plain in found}
    return {}


def cpu_facts(root: Path = _ROOT) -> dict[str, Any]:
    """The processor: how many logical ones, and physical cores in each socket."""
    first = _first_processor(root)
    sockets = len(set(re.findall(r"^physical id\s*:\s*(\d+)", _cpuinfo(root), re.MULTILINE))) or 1
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return {
        "vendor": first.get("vendor_id") or first.get("CPU implementer") or "unknown",
        "modelName": first.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "numberOfCpus": psutil.cpu_count() or 1,
        "physicalCoresPerCpu": max(1, cores // sockets),
    }


def _cpuinfo(root: Path) -> str:
    try:
        return (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_processor(root: Path) -> dict[str, str]:
    block = _cpuinfo(root).partition("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip()[:256] for name, _, value in pairs}


# ------------------------------------------------------------------ graphics


async def query_gpus(root: Path = _ROOT) -> list[dict[str, str]]:
    """Graphics processors: by NVIDIA's own tool where it is, the others from the system's list of devices."""
    nvidia = await _ask_nvidia()
    others = _listed_gpus(root)
    if nvidia:
        others = [gpu for gpu in others if gpu["vendor"] != "NVIDIA"]
    return (nvidia + others)[:64]


async def _ask_nvidia() -> list[dict[str, str]]:
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    process = await asyncio.create_subprocess_exec(
        program,
        "--query-gpu=name",
        "--format=csv,noheader",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_GPU_QUERY_S):
            output, _ = await process.communicate()
    except TimeoutError:
        logger.warning(
            "nvidia-smi did not answer within %g s; its processors are not reported.", _GPU_QUERY_S
        )
        process.kill()
        await process.wait()
        return []
    if process.returncode:
        return []
    names = (line.strip()[:256] for line in output.decode(errors="replace").splitlines())
    return [{"vendor": "NVIDIA", "modelName": name} for name in names if name]


def _listed_gpus(root: Path) -> list[dict[str, str]]:
    return [
        {"vendor": _VENDORS.get(vendor, vendor), "modelName": f"{vendor}:{device}"}
        for vendor, device in _display_devices(root / "sys/bus/pci/devices")
    ]


def _display_devices(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        devices = sorted(folder.iterdir())
    except OSError:
        return
    for device in devices:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (device / "class").read_text(encoding="ascii").startswith(_DISPLAY_CLASS):
                vendor = (device / "vendor").read_text(encoding="ascii").strip()
                yield vendor, (device / "device").read_text(encoding="ascii").strip()


# ------------------------------------------------------------------ address


def address_towards(broker_host: str, broker_port: int) -> Address:
    """This host's names, and its address on the interface that reaches the broker, empty if none does now."""
    hostname = socket.gethostname()
    dns_name = socket.getfqdn(hostname)
    return Address(hostname, _local_ip(broker_host, broker_port), dns_name if "." in dns_name else "")


def _local_ip(broker_host: str, broker_port: int) -> str:
    try:
        found = socket.getaddrinfo(broker_host, broker_port, type=socket.SOCK_DGRAM)
    except OSError:
        found = []
    for family, kind, protocol, _, target in found:
        # Connecting a datagram socket sends nothing; it only asks the system which way it would go.
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    return ""
