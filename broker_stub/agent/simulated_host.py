"""The server block a simulated host reports: fixed facts, and metrics that move like real ones.

Metrics are functions of seed and time, not a random walk: any moment can be
asked for, in any order, and the same moment always gives the same value.
"""

import math
from collections.abc import Sequence
from typing import Any

from broker_stub.agent.simulated_fleet import GIB, PlannedServer

DCV_VERSION = "2024.0-19030"
_REGIONS = {"fra": "eu-central-1", "dub": "eu-west-1", "gre": "eu-west-3"}


def endpoints(server: PlannedServer) -> list[dict[str, Any]]:
    """Where clients would reach the sessions of a host: WebSocket everywhere, QUIC on machines with a GPU."""
    found: list[dict[str, Any]] = [
        {"ipAddress": server.ip, "port": 8443, "protocol": "HTTP", "webUrlPath": "/"},
    ]
    if server.machine.gpus:
        found.append({"ipAddress": server.ip, "port": 8443, "protocol": "QUIC"})
    return found


def fixed_facts(server: PlannedServer) -> dict[str, Any]:
    """Members of the host block that never change."""
    machine, system = server.machine, server.system
    os_facts = {"family": server.os_family, "name": system.name, "version": system.version}
    if system.kernel_version:
        os_facts["kernelVersion"] = system.kernel_version
    if system.build_number:
        os_facts["buildNumber"] = system.build_number
    facts: dict[str, Any] = {
        "os": os_facts,
        "cpuInfo": {
            "vendor": machine.cpu_vendor,
            "modelName": machine.cpu_model,
            "architecture": "x86_64",
            "numberOfCpus": machine.cpus,
            "physicalCoresPerCpu": 1,
        },
        "gpus": [{"vendor": "NVIDIA", "modelName": model} for model in machine.gpus],
    }
    if machine.instance_type:
        facts["aws"] = {
            "region": _REGIONS[server.tags["site"]],
            "ec2InstanceType": machine.instance_type,
            "ec2InstanceId": "i-" + server.fingerprint.replace("-", "")[:17],
            "ec2ImageId": "ami-0" + server.tags["site"].encode().hex() + "5eed0f1ee7"[:10],
        }
    return facts


def metrics(server: PlannedServer, time_s: float, users: Sequence[str], clients: int) -> dict[str, Any]:
    """Members of the host block that move: load, memory, swap, logged-in users.

    Args:
        server: Which host.
        time_s: The moment, in seconds.
        users: Owners of the sessions on the host.
        clients: People connected to them.
    """
    cpus = server.machine.cpus
    busy = min(0.7, 0.03 + 0.02 * len(users) + 0.06 * clients)
    loads = [round(cpus * _around(busy, 0.45, server.index, time_s, period), 2) for period in (70, 310, 910)]
    total = server.machine.memory_gib * GIB
    used_share = min(0.97, 0.06 + 0.045 * len(users) + 0.06 * clients)
    used = int(total * min(0.99, _around(used_share, 0.12, server.index + 7, time_s, 600)))
    swap_total = 8 * GIB
    swap_used = int(swap_total * max(0.0, used_share - 0.6))
    return {
        "cpuLoadAverage": dict(zip(("oneMinute", "fiveMinutes", "fifteenMinutes"), loads, strict=True)),
        "memory": {"totalBytes": total, "usedBytes": _megabytes(used)},
        "swap": {"totalBytes": swap_total, "usedBytes": _megabytes(swap_used)},
        "loggedInUsers": [{"username": user} for user in sorted(set(users))],
    }


def _around(level: float, swing: float, phase: int, time_s: float, period_s: float) -> float:
    """A level that swings by a share of itself: three waves that do not repeat together for hours."""
    waves = (
        math.sin(2 * math.pi * time_s / period_s + phase * 1.7)
        + 0.5 * math.sin(2 * math.pi * time_s / (period_s * 0.37) + phase * 2.9)
        + 0.3 * math.sin(2 * math.pi * time_s / (period_s * 5.3) + phase * 0.6)
    )
    return max(0.0, level * (1 + swing * waves / 1.8))


def _megabytes(size: int) -> int:
    return size // 2**20 * 2**20
