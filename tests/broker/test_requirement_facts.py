"""The facts that placement keeps are those of the API's answers, however they came about."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.broker.requirement_facts import requirement_facts
from broker_stub.broker.server import ServerRecord, host_wire, server_wire, tags_of_block
from dcvtui.api.server_facts import exact_float, facts_of
from tests.broker.scene import Scene, server_block, tag_list

_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_MEMBERS = {
    "memory": ("totalBytes", "usedBytes"),
    "swap": ("totalBytes", "usedBytes"),
    "cpuLoadAverage": ("oneMinute", "fiveMinutes", "fifteenMinutes"),
    "cpuInfo": ("architecture", "modelName", "vendor", "numberOfCpus", "physicalCoresPerCpu"),
    "os": ("family", "name", "version", "kernelVersion", "buildNumber"),
    "aws": ("region", "ec2InstanceType", "ec2InstanceId", "ec2ImageId"),
}
_HOSTS = st.fixed_dictionaries(
    {},
    optional={
        section: st.fixed_dictionaries({}, optional=dict.fromkeys(members, _VALUES))
        for section, members in _MEMBERS.items()
    },
)
_TAGS = st.dictionaries(st.text(max_size=4), st.text(max_size=4))
_METRICS = st.fixed_dictionaries(
    {
        section: st.fixed_dictionaries(dict.fromkeys(_MEMBERS[section], st.integers() | st.floats()))
        for section in ("memory", "swap", "cpuLoadAverage")
    }
)


def expected(server: ServerRecord) -> dict[str, Any]:
    return facts_of(server_wire(server) | {"Host": host_wire(server)})


def exact(facts: dict[str, Any]) -> dict[str, Any]:
    """With floats as the language compares them; what is no number counts as missing."""
    read = {key: exact_float(value) if type(value) is float else value for key, value in facts.items()}
    return {key: value for key, value in read.items() if value is not None}


@given(
    host=_HOSTS, tags=st.dictionaries(st.text(max_size=4), st.text(max_size=4)), version=st.text(max_size=3)
)
def test_they_are_those_of_the_answer(host: Any, tags: dict[str, str], version: str) -> None:
    block = server_block(host=host, version=version, tags=tag_list(**tags))
    server = ServerRecord("srv", block=block, tags=tags_of_block(block), agent_version="9")
    assert exact(requirement_facts(server)) == expected(server)


@given(host=_HOSTS, metrics=st.lists(_METRICS, max_size=4), looked_at=st.lists(st.booleans(), min_size=4))
def test_new_metrics_are_seen_whenever_somebody_looks(host: Any, metrics: Any, looked_at: list[bool]) -> None:
    scene = Scene()
    scene.hello("srv", server_block(host=copy.deepcopy(host)))
    server = scene.registry.server("srv")
    assert server
    for reported, is_looked_at in zip(metrics, looked_at, strict=False):
        scene.reports_server("srv", {"host": reported})
        if is_looked_at:
            assert exact(requirement_facts(server)) == expected(server)
    assert exact(requirement_facts(server)) == expected(server)


def test_they_are_those_of_the_answer_for_an_invented_fleet() -> None:
    for invented in SimulatedFleet.invent(seed=3, servers=24, is_still=True).servers:
        block = server_block(host=invented.host_facts(), tags=tag_list(**invented.plan.tags))
        server = ServerRecord("srv", block=block, tags=tags_of_block(block))
        assert exact(requirement_facts(server)) == expected(server)
