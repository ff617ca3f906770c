"""The brokers an operator knows: those of the profile file, and those that are looked at now.

What the console's list of profiles lists. Reading the file is in
`dcvtui.profiles`, choosing what counts in `dcvtui.config`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dcvtui.config import Connection, Files, Options, resolve
from dcvtui.errors import ConfigError
from dcvtui.fleet import Key
from dcvtui.polling import Link
from dcvtui.profiles import read_profiles
from dcvtui.watch import Counts

NOT_OPEN = "not open"


@dataclass(frozen=True, slots=True)
class KnownBroker:
    """A broker that can be looked at.

    Attributes:
        connection: how it is reached; None where its profile cannot be used.
        problem: why it cannot be used.
    """

    name: str
    address: str
    connection: Connection | None
    problem: str = ""
    is_default: bool = False


def known_brokers(files: Files) -> list[KnownBroker]:
    """The brokers of the profile file, in its order; one that cannot be used is listed with the reason.

    Raises:
        ConfigError: the file is damaged.
    """
    found = []
    profiles = read_profiles(files.profiles)
    for name, profile in profiles.profiles.items():
        is_default = name == profiles.default
        try:
            connection = resolve(Options(profile=name), {}, files)
        except ConfigError as error:
            found.append(KnownBroker(name, profile.url or "", None, error.sentence, is_default))
        else:
            found.append(KnownBroker(name, connection.url, connection, "", is_default))
    return found


@dataclass(frozen=True, slots=True)
class BrokerRow:
    """One row of the list of profiles."""

    broker: KnownBroker
    state: str
    """`live`, `polling`, `stale`, `connecting`, or `not open`."""
    why: str
    """Why it is stale, or cannot be used."""
    counts: Counts
    place: int
    """In the order of the file."""

    @property
    def key(self) -> Key:
        """What identifies the row."""
        return ("profile", self.broker.name)

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return self.broker.name

    @property
    def is_open(self) -> bool:
        """Whether it is looked at now."""
        return self.state != NOT_OPEN


def broker_rows(
    known: Iterable[KnownBroker],
    present: Iterable[Connection],
    links: Mapping[str, Link],
    counts: Mapping[str, Counts],
) -> dict[Key, BrokerRow]:
    """The rows, by key: what is known, then what is looked at without being in the profile file.

    Args:
        known: the brokers of the profile file.
        present: those that are looked at.
        links: how fresh what they say is, by name.
        counts: what they have, by name.
    """
    brokers = {broker.name: broker for broker in known}
    for connection in present:
        brokers.setdefault(connection.name, KnownBroker(connection.name, connection.url, connection))
    rows = []
    for place, (name, broker) in enumerate(brokers.items()):
        link = links.get(name)
        state = link.state.value if link else NOT_OPEN
        why = link.why if link else broker.problem
        rows.append(BrokerRow(broker, state, why, counts.get(name, Counts()), place))
    return {row.key: row for row in rows}
