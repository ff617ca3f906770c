"""Trust on first use: shows a certificate that nothing vouches for, or that has changed, and asks.

Nothing but a handshake is made before the answer. What is accepted is kept in
the profile, or counts for this run where there is none.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from dcvtui.config import Connection
from dcvtui.first_trust import Pin, fault_of, pin_for, question
from dcvtui.headless.words import ask, is_asking_possible, say
from dcvtui.private_files import shown_path
from dcvtui.profiles import keep_trust, save_profile
from dcvtui.trust import Trust

DEADLINE_S = 5.0


def with_trust(connection: Connection, profiles: Path) -> Connection:
    """The connection, with a certificate that a person has accepted now if it needs one.

    Where nobody can be asked it comes back as it is: the first request then ends with the fingerprint
    and the option to give.

    Args:
        connection: as it was configured.
        profiles: the profile file.

    Raises:
        BrokerError: there is no TLS to speak.
        ConfigError: the certificate cannot be kept.
    """
    pin = asyncio.run(_pin(connection)) if is_asking_possible() else None
    if pin is None or not _is_accepted(connection, pin):
        return connection
    accepted = replace(connection, trust=pin.trust)
    if connection.profile is None:
        say(
            "It is trusted for this run. To keep it: dcvtui login, or give "
            f"--trust-fingerprint {pin.certificate.fingerprint}"
            if not pin.is_ca
            else "It is trusted for this run. To keep it: dcvtui login"
        )
        return accepted
    save_profile(profiles, keep_trust(profiles, connection.profile, pin.trust))
    say(f"Kept for the profile '{connection.profile.name}' in {shown_path(profiles.parent)}/.")
    return accepted


async def _pin(connection: Connection) -> Pin | None:
    parts = urlsplit(connection.url)
    host, port = parts.hostname or "", parts.port or 443
    fault = await fault_of(host, port, connection.trust, DEADLINE_S)
    return None if fault is None else await pin_for(host, port, fault, DEADLINE_S)


def _is_accepted(connection: Connection, pin: Pin) -> bool:
    port = urlsplit(connection.url).port or 443
    sys.stderr.write(f"The certificate of {connection.url} is {question(pin, port)}\n")
    show_former_trust(connection.trust)
    return ask("Trust it from now on?", "")


def show_former_trust(before: Trust) -> None:
    """Say what was trusted until now, to be compared with what is shown above it."""
    if before.fingerprint:
        digits = before.fingerprint.removeprefix("SHA256:")
        half = len(digits) // 2 + 1
        sys.stderr.write(f"  It has CHANGED. Trusted until now:\n  {digits[:half]}\n  {digits[half:]}\n")
    elif before.ca_file:
        sys.stderr.write(f"  It has CHANGED. Trusted until now: what the CA in {before.ca_file} signs\n")
