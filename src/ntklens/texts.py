"""Texts that have to fit a place."""

from __future__ import annotations


def shortened(text: object, longest: int, *, keep_start: float = 0.5) -> str:
    """Return a text on one line, with "…" in place of what does not fit.

    Args:
        text: any value, as `str` writes it.
        longest: number of characters that there is room for, at least one.
        keep_start: share of the room that the beginning gets; the end gets the others.

    Example:
        >>> shortened("backbone.stage3.block2.conv1", 16), shortened("two  spaces", 16)
        ('backbone…2.conv1', 'two spaces')
    """
    words = " ".join(str(text).split())
    if len(words) <= longest:
        return words
    start = round((longest - 1) * keep_start)
    end = longest - 1 - start
    return f"{words[:start]}…{words[len(words) - end :]}"
