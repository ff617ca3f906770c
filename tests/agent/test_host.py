"""Facts of this machine, and of machines made of files."""

import asyncio
import json
from pathlib import Path

import pytest

from broker_stub.agent import host
from broker_stub.agent.host import RealHost, address_towards, cpu_facts, os_facts, query_gpus
from broker_stub.channel_messages import FROM_AGENT, Name, read
from tests.agent.small_host import SmallFacts


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.covers("G8")
async def test_this_hosts_facts_are_plausible_and_pass_the_channel() -> None:
    """On a real Linux host every fact is there and plausible: bytes of memory and swap, load averages,
    processors, the family of the system in lower case; and the broker's reader takes them."""
    facts = await RealHost().read()
    assert facts["os"]["family"] == "linux"
    assert facts["os"]["kernelVersion"]
    assert facts["memory"]["totalBytes"] > facts["memory"]["usedBytes"] > 2**20
    assert 0 <= facts["swap"]["usedBytes"] <= facts["swap"]["totalBytes"]
    assert set(facts["cpuLoadAverage"]) == {"oneMinute", "fiveMinutes", "fifteenMinutes"}
    assert facts["cpuInfo"]["numberOfCpus"] >= 1
    assert facts["cpuInfo"]["physicalCoresPerCpu"] >= 1
    assert facts["cpuInfo"]["modelName"]
    assert isinstance(facts["gpus"], list)
    assert isinstance(facts["loggedInUsers"], list)
    assert "aws" not in facts
    body = {"requestId": "0" * 32, "seq": 1, "mode": "full", "server": {"host": facts}}
    message = read(json.dumps({Name.SERVER_UPDATE_REQUEST: body}), FROM_AGENT)
    assert message.body["server"]["host"] == facts


async def test_what_hardly_changes_is_read_every_ten_minutes(tmp_path: Path) -> None:
    now = 0.0
    real = RealHost(root=tmp_path, clock=lambda: now)
    write(tmp_path, "etc/os-release", 'NAME="First"\n')
    assert (await real.read())["os"]["name"] == "First"
    write(tmp_path, "etc/os-release", 'NAME="Second"\n')
    now = 599.0
    assert (await real.read())["os"]["name"] == "First"
    now = 601.0
    assert (await real.read())["os"]["name"] == "Second"


async def test_users_are_left_out_when_nobody_should_ask() -> None:
    assert (await RealHost(reports_users=False).read())["loggedInUsers"] == []


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ('NAME="Rocky Linux"\nVERSION_ID="9.3"\n', "Rocky Linux", "9.3"),
        ("NAME='Alpine'\nVERSION_ID=3.20\n# VERSION_ID=1\n", "Alpine", "3.20"),
    ],
)
def test_the_release_file_is_understood(tmp_path: Path, text: str, name: str, version: str) -> None:
    write(tmp_path, "usr/lib/os-release", text)
    facts = os_facts(tmp_path)
    assert (facts["name"], facts["version"]) == (name, version)


def test_without_a_release_file_the_kernel_speaks(tmp_path: Path) -> None:
    assert os_facts(tmp_path)["name"] == "Linux"


def test_a_processor_of_another_kind_is_described(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n")
    assert cpu_facts(tmp_path)["vendor"] == "0x41"
    write(
        tmp_path,
        "proc/cpuinfo",
        "vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 0\n\nphysical id\t: 1\n",
    )
    facts = cpu_facts(tmp_path)
    assert (facts["vendor"], facts["modelName"]) == ("GenuineIntel", "Xeon")


async def test_graphics_processors_are_found_in_the_list_of_devices(tmp_path: Path) -> None:
    for name, device_class, vendor, device in (
        ("0000:00:01.0", "0x030000", "0x1002", "0x7310"),
        ("0000:00:02.0", "0x020000", "0x8086", "0x1000"),
        ("0000:00:03.0", "0x030200", "0x4242", "0x0001"),
    ):
        folder = f"sys/bus/pci/devices/{name}"
        write(tmp_path, f"{folder}/class", device_class + "\n")
        write(tmp_path, f"{folder}/vendor", vendor + "\n")
        write(tmp_path, f"{folder}/device", device + "\n")
    assert await query_gpus(tmp_path) == [
        {"vendor": "AMD", "modelName": "0x1002:0x7310"},
        {"vendor": "0x4242", "modelName": "0x4242:0x0001"},
    ]
    assert await query_gpus(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("script", "models"),
    [
        ("echo 'Tesla T4'\necho 'NVIDIA A10G'", ["Tesla T4", "NVIDIA A10G"]),
        ("echo 'No devices were found'; exit 9", []),
        ("exec sleep 60", []),
    ],
)
async def test_nvidias_own_tool_is_asked_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, models: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(host, "_GPU_QUERY_S", 0.3)
    async with asyncio.timeout(10):
        found = await query_gpus(tmp_path)
    assert [gpu["modelName"] for gpu in found] == models
    assert all(gpu["vendor"] == "NVIDIA" for gpu in found)


def test_the_address_is_that_of_the_interface_towards_the_broker() -> None:
    assert address_towards("127.0.0.1", 8445).ip == "127.0.0.1"
    assert address_towards("127.0.0.1", 8445).hostname
    assert address_towards("", 0).ip in ("", "127.0.0.1", "::1")


def test_nobody_is_outside_a_session_on_linux() -> None:
    assert not RealHost().has_outside_user()
    assert not SmallFacts().has_outside_user()
