"""The valid choice that somebody probably meant, as the end of a sentence."""

from collections.abc import Iterable


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Name the nearest valid choice; empty if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it

    by_folded = {name.lower(): name for name in known}
    near = get_close_matches(wrong.lower(), by_folded, 1)
    return f" Did you mean '{by_folded[near[0]]}'?" if near else ""
