"""The features that permissions files speak of, and sets of them as bit masks.

A file can have thousands of statements that are evaluated for thousands of
people while somebody types, so sets of features are integers inside the other
permissions modules; names come in and go out here.
"""

import re
from collections.abc import Iterable, Iterator

FEATURES = (
    "audio-in",
    "audio-out",
    "clipboard-copy",
    "clipboard-paste",
    "display",
    "extensions-client",
    "extensions-server",
    "file-download",
    "file-upload",
    "gamepad",
    "keyboard",
    "keyboard-sas",
    "mouse",
    "pointer",
    "printer",
    "screenshot",
    "smartcard",
    "stylus",
    "touch",
    "unsupervised-access",
    "usb",
    "webauthn-redirection",
    "webcam",
)

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "see": ("display", "pointer"),
    "control": ("mouse", "keyboard", "keyboard-sas", "touch", "stylus", "gamepad"),
    "clipboard": ("clipboard-copy", "clipboard-paste"),
    "files": ("file-upload", "file-download", "printer"),
    "sound and camera": ("audio-in", "audio-out", "webcam"),
    "devices": ("usb", "smartcard", "webauthn-redirection"),
    "other": ("screenshot", "extensions-client", "extensions-server", "unsupervised-access"),
}
"""The columns of a matrix on a narrow screen. Every feature is in one of them."""

# The DCV server's release that knew a feature first; those that are not here are older than 2017.3.
FEATURE_SINCE = {
    "gamepad": (2022, 0),
    "keyboard-sas": (2017, 3),
    "pointer": (2017, 3),
    "screenshot": (2021, 2),
    "touch": (2017, 3),
    "webauthn-redirection": (2023, 1),
    "webcam": (2021, 0),
}

_BITS = {name: 1 << number for number, name in enumerate(FEATURES)}
ALL = (1 << len(FEATURES)) - 1

# What a file can name without defining it. Public files use clipboard-management although no list of features
# has it; they mean these two.
UNLISTED_ALIAS = "clipboard-management"
PREDEFINED = _BITS | {"builtin": ALL, UNLISTED_ALIAS: _BITS["clipboard-copy"] | _BITS["clipboard-paste"]}


def mask_of(names: Iterable[str]) -> int:
    """The set of these features."""
    mask = 0
    for name in names:
        mask |= _BITS[name]
    return mask


def names_in(mask: int) -> Iterator[str]:
    """The features of a set, in the order of `FEATURES`."""
    while mask:
        lowest = mask & -mask
        yield FEATURES[lowest.bit_length() - 1]
        mask ^= lowest


def is_newer(feature: str, server_version: str) -> bool:
    """Whether the feature came after that release of the DCV server; false if the release is unreadable."""
    release = re.match(r"([0-9]{1,6})\.([0-9]{1,6})", server_version)
    since = FEATURE_SINCE.get(feature)
    return bool(since and release and since > (int(release[1]), int(release[2])))
