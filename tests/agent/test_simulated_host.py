"""What simulated hosts say of themselves is believable and fits the channel."""

import pytest

from broker_stub.agent.simulated_fleet import PlannedServer, plan_fleet
from broker_stub.agent.simulated_host import endpoints, fixed_facts, metrics

SERVERS = plan_fleet(3, 60).servers


@pytest.mark.parametrize("server", SERVERS[:12], ids=lambda server: server.hostname)
def test_a_host_says_what_its_system_has(server: PlannedServer) -> None:
    facts = fixed_facts(server)
    system = facts["os"]
    assert ("kernelVersion" in system, "buildNumber" in system) == (
        (True, False) if server.os_family == "linux" else (False, True)
    )
    assert facts["cpuInfo"]["numberOfCpus"] > 0
    assert bool(facts["gpus"]) == (server.tags["gpu"] == "yes")
    assert all(endpoint["ipAddress"] == server.ip for endpoint in endpoints(server))
    assert endpoints(server)[0]["protocol"] == "HTTP"


def test_ids_of_machines_are_their_own() -> None:
    ids = [facts["aws"]["ec2InstanceId"] for facts in map(fixed_facts, SERVERS) if "aws" in facts]
    assert ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("users", [0, 1, 8, 100])
@pytest.mark.parametrize("time_s", [0.0, 1_800_000_000.5])
def test_no_number_of_users_makes_a_host_larger_than_it_is(users: int, time_s: float) -> None:
    for server in SERVERS:
        found = metrics(server, time_s, [f"u{number % 7}" for number in range(users)], users)
        assert found["memory"]["usedBytes"] <= found["memory"]["totalBytes"]
        assert found["swap"]["usedBytes"] <= found["swap"]["totalBytes"]
        assert len(found["loggedInUsers"]) == min(users, 7)
        assert all(0 <= load <= 1.5 * server.machine.cpus for load in found["cpuLoadAverage"].values())


def test_work_shows() -> None:
    idle, busy = (metrics(SERVERS[1], 1000.0, ["ana"] * count, count) for count in (0, 8))
    assert idle["cpuLoadAverage"]["fifteenMinutes"] < busy["cpuLoadAverage"]["fifteenMinutes"]
    assert idle["memory"]["usedBytes"] < busy["memory"]["usedBytes"]
