"""Text from elsewhere made safe to show: nothing a broker or a user names may steer the terminal.

Names, owners and error texts come from other people. In front of a person they
pass through `visible`; JSON keeps them as they are, escaped by JSON itself.
"""

import re
from unicodedata import combining, east_asian_width

# Control characters (with tab and line breaks: one value is one line), lone surrogates that no
# terminal encoding can carry, and format characters that reorder or hide their neighbours. The two
# joiners U+200C and U+200D stay: Persian and emoji need them, and they move nothing.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_DELETE = 0x7F


def visible(text: str) -> str:
    """Show control characters and direction marks as codes: `␛` for escape, `<U+202E>` for an override."""
    return text if text.isprintable() else _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point < 0x20:
        return chr(0x2400 + point)
    return "␡" if point == _DELETE else f"<U+{point:04X}>"


def cell_width(text: str) -> int:
    """How many terminal cells a line of visible text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if combining(character) or character in "\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
