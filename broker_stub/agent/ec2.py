"""What the metadata service of Amazon EC2 says of this machine, asked only on machines of EC2.

The firmware tells where the agent runs, so a machine anywhere else sends nothing
to the service's address, which may be somebody else's there. The service is asked
with a token of a session, as its second version demands, and with little patience.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

logger = logging.getLogger(__name__)

ENDPOINT = "http://169.254.169.254"
"""The service's own address on every machine of EC2 (EC2 user guide, instance metadata)."""
OFF_VARIABLE = "AWS_EC2_METADATA_DISABLED"
"""The switch that all AWS tools share; `true` in any case of letters."""
LIMIT_S = 1.0
_TOKEN_LIVES_S = "60"  # noqa: S105  a number of seconds, no secret
_MOST_BYTES = 64 * 1024
_VENDOR_FILES = ("sys_vendor", "bios_vendor", "board_vendor", "chassis_vendor")
_MEMBERS = {
    "region": "region",
    "instanceType": "ec2InstanceType",
    "instanceId": "ec2InstanceId",
    "imageId": "ec2ImageId",
}


def is_switched_off(environment: Mapping[str, str]) -> bool:
    """Whether the environment forbids asking the service."""
    return environment.get(OFF_VARIABLE, "").strip().lower() == "true"


def is_of_ec2(root: Path = Path("/")) -> bool:
    """Whether the firmware says that this is a machine of EC2. Asks nobody.

    Args:
        root: Where the system's files are.
    """
    for name in _VENDOR_FILES:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (root / "sys/class/dmi/id" / name).read_text(encoding="ascii").strip() == "Amazon EC2":
                return True
    # Machines of the Xen generations call themselves Xen; their id begins with these letters.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (root / "sys/hypervisor/uuid").read_text(encoding="ascii").lower().startswith("ec2")
    return False


async def aws_facts(endpoint: str = ENDPOINT, limit_s: float = LIMIT_S) -> dict[str, str]:
    """Ask the service; the `aws` member of a report, empty if it does not answer.

    Args:
        endpoint: Where the service is.
        limit_s: Seconds for both questions together.
    """
    try:
        async with (
            asyncio.timeout(limit_s),
            httpx.AsyncClient(base_url=endpoint, trust_env=False, follow_redirects=False) as client,
        ):
            lives = {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_LIVES_S}
            token = (await client.put("/latest/api/token", headers=lives)).raise_for_status().text
            answer = await client.get(
                "/latest/dynamic/instance-identity/document", headers={"X-aws-ec2-metadata-token": token}
            )
            return _facts(answer.raise_for_status())
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        logger.info("The EC2 metadata service at %s does not answer: %s", endpoint, reason)
        return {}


def _facts(answer: httpx.Response) -> dict[str, str]:
    if len(answer.content) > _MOST_BYTES:
        raise ValueError("its answer is too large")
    document: Any = answer.json()
    if not isinstance(document, dict):
        raise ValueError("its answer is no object")  # noqa: TRY004  one kind of error for all answers
    return {
        ours: document[theirs][:256]
        for theirs, ours in _MEMBERS.items()
        if isinstance(document.get(theirs), str) and document[theirs]
    }
