"""The first two things that must work before TLS: the name is known, and something answers there.

Shared by the test of a new broker and by `doctor`. The sentences have no
subject, because the name of the step stands before them.
"""

import asyncio
import ipaddress
import socket

from dcvtui.api.text import visible
from dcvtui.errors import Unreachable
from dcvtui.first_trust import CHECK_PORT


async def find_addresses(host: str, port: int, deadline_s: float) -> str:
    """The addresses of a name, with commas; empty for an address in numbers.

    Raises:
        Unreachable: there is none, or the name service does not answer.
    """
    if is_literal(host):
        return ""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Unreachable("the name service does not answer. Check this machine's DNS settings.") from None
    except (OSError, UnicodeError):
        raise Unreachable(
            f"no address is known for '{visible(host)}'. Check the spelling and the DNS settings."
        ) from None
    return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))


async def reach(host: str, port: int, deadline_s: float) -> None:
    """Open a connection and close it again.

    Raises:
        Unreachable: nothing answers in time, or not there.
    """
    try:
        async with asyncio.timeout(deadline_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise Unreachable(
            f"no answer within {deadline_s:g} seconds. Check the address, and whether a firewall is between."
        ) from None
    except ConnectionRefusedError:
        raise Unreachable(f"connection refused. Check that the broker runs. {CHECK_PORT}") from None
    except OSError as error:
        reason = (error.strerror or "the connection failed").lower()
        raise Unreachable(f"{reason}. Check the address and the network.") from None
    writer.transport.abort()


def is_literal(host: str) -> bool:
    """An address in numbers, which needs no finding."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
