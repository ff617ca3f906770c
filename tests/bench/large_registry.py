"""A registry that holds as large a fleet as a benchmark wants, put in by hellos without any socket."""

from datetime import UTC, datetime

from broker_stub.broker.events import AgentConnected, Rules
from broker_stub.broker.registry import Registry
from tests.broker.scene import report, server_block, tag_list

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def hello(registry: Registry, number: int, sessions: int = 0, now: datetime = NOW) -> None:
    """Let one agent say hello, with so many sessions on its host."""
    block = server_block(
        hostname=f"host{number:05}",
        tags=tag_list(
            color=("red", "green", "blue")[number % 3],
            rack=f"r{number // 20}",
            size=str(number % 16),
            dcv_max_virtual_sessions="20",
            dcv_os_family="linux",
        ),
    )
    block["host"]["cpuLoadAverage"]["oneMinute"] = number % 7 / 7
    found = [
        report(
            f"x{number}-{index}",
            f"user{(number * 7 + index) % 5000}",
            creationTime="2026-03-30T10:00:00.000Z",
        )
        for index in range(sessions)
    ]
    said = {
        "epoch": 1,
        "instanceId": "i",
        "machineFingerprint": f"m{number}",
        "agentVersion": "1",
        "capabilities": ["virtual"],
        "server": block,
        "sessions": found,
        "updateIntervalSeconds": 30,
    }
    registry.handle(AgentConnected(f"srv-{number:05}", f"c{number}", said), now)


def fleet(servers: int, sessions_each: int = 0, rules: Rules | None = None, now: datetime = NOW) -> Registry:
    """A registry with so many servers that all have a channel."""
    registry = Registry(rules or Rules())
    for number in range(servers):
        hello(registry, number, sessions_each, now)
    return registry
