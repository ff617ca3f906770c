"""What a client of a session may do, as far as it can be told from what it sends.

RFB knows no rights, so the entrance reads along: messages of a kind that the person
has no permission for go no further. The other direction is pictures in many
codings, and passes as it is: `clipboard-copy`, `pointer` and `audio-out` are not
enforced. Pure: bytes in, bytes out (RFC 6143, and the extensions of TigerVNC).
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KEYBOARD, MOUSE, PASTE = "keyboard", "mouse", "clipboard-paste"

_VERSION_BYTES = 12
_SET_ENCODINGS = 2
_CUT_TEXT = 6
_SET_DESKTOP_SIZE = 251
# Agreed encodings after which messages have another form than here: extended mouse buttons, QEMU's audio.
_CHANGING_ENCODINGS = frozenset((-316, -259))


class NotUnderstoodInput(Exception):  # noqa: N818  named by what happened
    """A person without all rights sent something that cannot be checked against those he has."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of message.

    Attributes:
        head: Bytes after which its length is known.
        rest: How many follow those, from its head.
        needs: One of these rights is needed to send it; nothing means that everybody may.
    """

    head: int
    rest: Callable[[bytes], int] = lambda _: 0
    needs: tuple[str, ...] = ()


def _cut_text(head: bytes) -> int:
    # Negative in the extended form, where it is the length all the same.
    return abs(int(struct.unpack_from(">i", head, 4)[0]))


_KINDS: Mapping[int, _Kind] = {
    0: _Kind(20),  # pixel format
    _SET_ENCODINGS: _Kind(4, lambda head: 4 * int.from_bytes(head[2:4])),
    3: _Kind(10),  # wants an update
    4: _Kind(8, needs=(KEYBOARD,)),
    5: _Kind(6, needs=(MOUSE,)),
    _CUT_TEXT: _Kind(8, _cut_text, (PASTE,)),
    150: _Kind(10),  # continuous updates
    248: _Kind(9, lambda head: head[8]),  # fence
    # Whoever may only look does not resize the screen of those who work.
    _SET_DESKTOP_SIZE: _Kind(8, lambda head: 16 * head[6], (KEYBOARD, MOUSE)),
}
_QEMU = 255
_QEMU_KEY = _Kind(12, needs=(KEYBOARD,))
_RESTRICTING = frozenset(need for kind in _KINDS.values() for need in kind.needs)


class InputFilter:
    """Reads what one client sends, from its first byte on."""

    def __init__(self) -> None:
        self._waiting = b""
        self._at = 0
        """How much of what is waiting is dealt with: cutting it off each time would copy the rest."""
        self._step: Callable[[frozenset[str]], bytes | None] = self._version
        self._left = 0
        self._passes = True
        self._is_lost = False

    def feed(self, data: bytes, rights: frozenset[str]) -> bytes:
        """Take what a client sent; answers what of it may go to the session.

        Args:
            data: The next bytes, cut anywhere.
            rights: The features that this person has at this moment.

        Raises:
            NotUnderstoodInput: the person lacks rights, and this cannot be checked against them.
        """
        if self._is_lost:
            return self._unchecked(data, rights)
        self._waiting += data
        passed = []
        while not self._is_lost and (piece := self._step(rights)) is not None:
            passed.append(piece)
        self._waiting, self._at = self._waiting[self._at :], 0
        if self._is_lost:
            passed.append(self._unchecked(self._waiting, rights))
            self._waiting = b""
        return b"".join(passed)

    def _unchecked(self, data: bytes, rights: frozenset[str]) -> bytes:
        if not rights >= _RESTRICTING:
            raise NotUnderstoodInput("The client sent something that cannot be checked against its rights")
        return data

    # Each step takes what it needs from what is waiting, and answers what may pass; `None` waits for more.

    def _take(self, length: int) -> bytes | None:
        end = self._at + length
        if len(self._waiting) < end:
            return None
        taken, self._at = self._waiting[self._at : end], end
        return taken

    def _peek(self, length: int) -> bytes | None:
        end = self._at + length
        return None if len(self._waiting) < end else self._waiting[self._at : end]

    def _version(self, _rights: frozenset[str]) -> bytes | None:
        version = self._take(_VERSION_BYTES)
        if version is not None:
            # Before version 3.7 the server chose the security by itself.
            self._step = self._initialisation if version < b"RFB 003.007\n" else self._security
        return version

    def _security(self, _rights: frozenset[str]) -> bytes | None:
        choice = self._take(1)
        if choice is not None:
            self._step = self._initialisation
        return choice

    def _initialisation(self, _rights: frozenset[str]) -> bytes | None:
        shared = self._take(1)
        if shared is not None:
            self._step = self._message
        return shared

    def _message(self, rights: frozenset[str]) -> bytes | None:
        begin = self._peek(2)
        if begin is None:
            return None
        kind = _QEMU_KEY if begin == bytes((_QEMU, 0)) else _KINDS.get(begin[0])
        if kind is None:
            self._is_lost = True
            return b""
        if begin[0] == _SET_ENCODINGS:
            return self._encodings()
        head = self._take(kind.head)
        if head is None:
            return None
        self._left = kind.rest(head)
        # Decided once for the whole message: half a message would be worse than none.
        self._passes = not kind.needs or any(need in rights for need in kind.needs)
        if self._left:
            self._step = self._rest
        return head if self._passes else b""

    def _encodings(self) -> bytes | None:
        head = self._peek(4)
        whole = self._take(4 + 4 * int.from_bytes(head[2:])) if head else None
        if whole is None:
            return None
        kept = [one for (one,) in struct.iter_unpack(">i", whole[4:]) if one not in _CHANGING_ENCODINGS]
        return struct.pack(f">BxH{len(kept)}i", _SET_ENCODINGS, len(kept), *kept)

    def _rest(self, _rights: frozenset[str]) -> bytes | None:
        piece = self._take(min(self._left, len(self._waiting) - self._at))
        if not piece:
            return None
        self._left -= len(piece)
        if not self._left:
            self._step = self._message
        return piece if self._passes else b""
