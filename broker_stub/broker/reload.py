"""What a running broker takes over from a file that it reads again, and what needs a restart. Pure."""

from dataclasses import dataclass
from typing import Any

from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_keys import FIELDS, LIVE_KEYS


@dataclass(frozen=True, slots=True)
class Reload:
    """The difference between the settings that are used and those of the file.

    Attributes:
        settings: What is used from now on.
        changed: Keys that were taken over.
        needs_restart: Keys whose new values wait for a restart.
    """

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload(current: Settings, wanted: Settings) -> Reload:
    """Take the live settings of a file over into those that are used.

    Args:
        current: What is used.
        wanted: What the file says.
    """
    changed, needs_restart = [], []
    by_topic: dict[str, dict[str, Any]] = {}
    for key, (topic, name, _) in FIELDS.items():
        value = getattr(getattr(wanted, topic), name)
        if value == getattr(getattr(current, topic), name):
            continue
        if key in LIVE_KEYS:
            changed.append(key)
            by_topic.setdefault(topic, {})[name] = value
        else:
            needs_restart.append(key)
    topics = {topic: getattr(current, topic).model_copy(update=values) for topic, values in by_topic.items()}
    return Reload(current.model_copy(update=topics), tuple(changed), tuple(needs_restart))
