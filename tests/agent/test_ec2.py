"""Facts of a machine of Amazon EC2: asked only there, quickly, and of a service on loopback in tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker_stub.agent.ec2 import aws_facts, is_of_ec2, is_switched_off
from broker_stub.agent.host import RealHost

DOCUMENT = {
    "region": "eu-central-1",
    "instanceType": "g4dn.xlarge",
    "instanceId": "i-0123456789abcdef0",
    "imageId": "ami-0123456789abcdef0",
    "accountId": "000000000000",
}
FACTS = {
    "region": "eu-central-1",
    "ec2InstanceType": "g4dn.xlarge",
    "ec2InstanceId": "i-0123456789abcdef0",
    "ec2ImageId": "ami-0123456789abcdef0",
}


class MetadataService:
    """A small metadata service: a token first, then the document; it can be silent or talk nonsense."""

    def __init__(self, document: str = json.dumps(DOCUMENT)) -> None:
        self.document = document
        self.asked: list[str] = []
        self.is_silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line = head.partition("\r\n")[0].rpartition(" ")[0]
        self.asked.append(line)
        if self.is_silent:
            await reader.read()
        else:
            is_allowed = line.startswith("PUT") or "x-aws-ec2-metadata-token: t0k3n" in head.lower()
            body = "t0k3n" if line.startswith("PUT") else self.document
            status = "200 OK" if is_allowed else "401 Unauthorized"
            lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", "", body)
            writer.write("\r\n".join(lines).encode())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def firmware(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


@pytest.mark.covers("G8")
async def test_a_machine_of_ec2_reports_what_the_service_says(tmp_path: Path) -> None:
    """On a machine of EC2 the report has the region, and the type, id and image of the instance."""
    service = MetadataService()
    firmware(tmp_path, "sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    async with service.running() as endpoint:
        host = RealHost(root=tmp_path, ec2_endpoint=endpoint)
        assert (await host.read())["aws"] == FACTS
        await host.read()
    assert service.asked == ["PUT /latest/api/token", "GET /latest/dynamic/instance-identity/document"]


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("sys/class/dmi/id/bios_vendor", "Amazon EC2", True),
        ("sys/hypervisor/uuid", "ec2e1916-9099-7caf-fd21-012345abcdef", True),
        ("sys/hypervisor/uuid", "4dc2e191-9099-7caf-fd21-012345abcdef", False),
        ("sys/class/dmi/id/sys_vendor", "QEMU", False),
        ("etc/hostname", "ec2", False),
    ],
)
async def test_only_the_firmware_says_that_a_machine_is_of_ec2(
    tmp_path: Path, name: str, text: str, is_one: bool
) -> None:
    root = firmware(tmp_path, name, text)
    assert is_of_ec2(root) is is_one
    service = MetadataService()
    async with service.running() as endpoint:
        assert ("aws" in await RealHost(root=root, ec2_endpoint=endpoint).read()) is is_one
    assert bool(service.asked) is is_one


async def test_with_the_switch_off_nobody_is_asked(tmp_path: Path) -> None:
    firmware(tmp_path, "sys/class/dmi/id/sys_vendor", "Amazon EC2")
    assert "aws" not in await RealHost(root=tmp_path, ec2_endpoint=None).read()
    assert is_switched_off({"AWS_EC2_METADATA_DISABLED": "True"})
    assert not is_switched_off({"AWS_EC2_METADATA_DISABLED": "false"})
    assert not is_switched_off({})


async def test_a_silent_service_costs_little_time() -> None:
    service = MetadataService()
    service.is_silent = True
    async with service.running() as endpoint:
        async with asyncio.timeout(10):
            assert await aws_facts(endpoint, limit_s=0.2) == {}
    assert await aws_facts(endpoint, limit_s=5.0) == {}  # nobody listens there any more


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        ("", {}),
        ("[]", {}),
        ("<html>", {}),
        (json.dumps({"region": 7, "instanceId": "", "imageId": "x" * 300}), {"ec2ImageId": "x" * 256}),
        (json.dumps({"region": "x" * 70_000}), {}),
    ],
)
async def test_an_answer_that_is_none_is_no_fact(document: str, facts: dict[str, str]) -> None:
    async with MetadataService(document).running() as endpoint:
        assert await aws_facts(endpoint, limit_s=10.0) == facts
