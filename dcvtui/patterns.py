"""Regular expressions of filters, limited to those that cannot hold the screen up.

Python's `re` tries every way a pattern can match and cannot be interrupted:
`(a+)+$` takes minutes on one long name, and a filter looks at fifty thousand
rows between two keys. Pure; used by `dcvtui.query`.
"""

import re
import warnings

# A repeated group in which something is repeated or chosen doubles the ways with every letter: refused
# whatever it holds, because telling the harmless ones apart takes a solver. Without it the ways grow with
# a power of the text's length; few free repetitions and a text of bounded length keep that power small.
_LONGEST_PATTERN = 200
_FREE_REPETITIONS = 3
_OPTIONS = 10
_LONGEST_TEXT = 1000
_REPETITION = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")


class PatternError(ValueError):
    """A pattern that is not understood or would take too long; `position` counts characters from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class Pattern:
    """A regular expression that was understood, without regard to letter case."""

    def __init__(self, text: str) -> None:
        """Understand a pattern.

        Raises:
            PatternError: it is none, or would take too long.
        """
        try:
            with warnings.catch_warnings():
                # `[[` will mean something else some day; a warning would be written over the screen.
                warnings.simplefilter("ignore", FutureWarning)
                self._compiled = re.compile(text, re.IGNORECASE | re.MULTILINE)
        except re.error as error:
            raise PatternError(f"not a regular expression: {error.msg}", error.pos or 0) from None
        except (OverflowError, RecursionError):
            raise PatternError("this regular expression is too large") from None
        _refuse_costly(text)

    def is_in(self, text: str) -> bool:
        """Whether the beginning of a text, as far as anybody reads it, holds a match."""
        return self._compiled.search(text, 0, _LONGEST_TEXT) is not None


def _refuse_costly(pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise PatternError(
            f"a regular expression has at most {_LONGEST_PATTERN} characters", _LONGEST_PATTERN
        )
    open_groups: list[bool] = []
    """For each open bracket, whether something in it is repeated or chosen."""
    free = options = place = 0
    has_options = False
    while place < len(pattern):
        here = pattern[place]
        if here == "\\":
            place, has_options = place + 2, False
        elif here == "[":
            place, has_options = _end_of_class(pattern, place), False
        elif here == "(":
            open_groups.append(False)
            # `(?:`, `(?=`, `(?P<`: the question mark repeats nothing.
            place, has_options = place + (2 if pattern.startswith("(?", place) else 1), False
        elif here == ")":
            has_options = open_groups.pop() if open_groups else False
            if has_options and open_groups:
                open_groups[-1] = True
            place += 1
        elif here == "|":
            options += bool(open_groups)
            open_groups[-1:] = [True] if open_groups else []
            place, has_options = place + 1, False
        elif repetition := _REPETITION.match(pattern, place):
            is_free = here in "*+" or bool(repetition[2] and not repetition[3])
            is_exact = here == "{" and not repetition[2]
            if has_options and here != "?":
                raise PatternError("a repetition or choice inside a repeated bracket takes too long", place)
            free, options = free + is_free, options + (not is_exact)
            open_groups[-1:] = [True] if open_groups else []
            place = repetition.end()
            # `*?` and `*+` are one repetition.
            place, has_options = place + pattern.startswith(("?", "+"), place), False
        else:
            place, has_options = place + 1, False
        if free > _FREE_REPETITIONS or options > _OPTIONS:
            raise PatternError("so many repetitions and choices take too long", max(0, place - 1))


def _end_of_class(pattern: str, start: int) -> int:
    place = start + 1 + pattern.startswith("^", start + 1)
    place += pattern.startswith("]", place)  # as the first one it means itself
    while place < len(pattern) and pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place + 1
