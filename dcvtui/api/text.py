"""Text from elsewhere made safe to show: nothing a broker or a user names may steer the terminal.

Names, owners and error texts come from other people. In front of a person they
pass through `visible`; JSON keeps them as they are, escaped by JSON itself.
"""

import re
from unicodedata import category, east_asian_width

# Control characters (with tab and line breaks: one value is one line), lone surrogates that no
# terminal encoding can carry, and format characters that reorder or hide their neighbours; letters
# that are blank; and what joins or varies pictures, because no two terminals agree how wide the
# result is. The two joiners U+200C and U+200D stay between letters: Persian and Hindi need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe0e\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U0001f3fb-\U0001f3ff\U000e0000-\U000e01ef]"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
)
_DELETE = 0x7F
_WITHOUT_WIDTH = frozenset(("Mn", "Me", "Mc"))


def visible(text: str) -> str:
    """Show control characters and direction marks as codes: `␛` for escape, `<U+202E>` for an override."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point < 0x20:
        return chr(0x2400 + point)
    return "␡" if point == _DELETE else f"<U+{point:04X}>"


def cell_width(text: str) -> int:
    """How many terminal cells a line of visible text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if character.isascii():
        return 1
    if category(character) in _WITHOUT_WIDTH or character in "\u200c\u200d":
        return 0
    if "\u1160" <= character <= "\u11ff":  # the parts of Hangul that join the one before
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
