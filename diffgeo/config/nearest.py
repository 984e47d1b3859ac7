"""What a mistyped word was meant to be: the nearest of the words that there are, and the sentence
that says so.

The distance of two words is the least number of letters to insert, to leave out, to replace, or of
neighbours to exchange, none of them touched twice (optimal string alignment): trian is at 1 from
train. It is taken of words without capitals, hyphens and underscores, so that dpmpp2m is at 0 from
dpmpp_2m. A word that is begun, swiss for swissroll, is near too. What is farther than a third of
the letters is not near: better no advice than a wrong one.

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

MOST = 3  # words that are named
FEW = 8  # choices that may be listed whole
BEGUN = 3  # letters from which on a word may be the beginning, or a part, of another


def nearest(word: str, known: Iterable[str], most: int = MOST) -> list[str]:
    """The words of `known` that are near to `word`, the nearest first, at most so many. Words with
    dots are compared part by part."""
    found = []
    for other in dict.fromkeys(known):
        far = apart(word, other)
        if far is not None:
            found.append((far, distance(word, other), other))
    return [other for _, _, other in sorted(found)[:most]]


def apart(word: str, other: str) -> float | None:
    """How far two words are apart, part by part; None where any part is too far, or where one has
    more parts."""
    parts = word.split(".")
    others = other.split(".")
    if len(parts) != len(others):
        return None
    total = 0.0
    for part, wanted in zip(parts, others, strict=True):
        far = apart_in_one(part, wanted)
        if far is None:
            return None
        total += far
    return total


def apart_in_one(part: str, other: str) -> float | None:
    """The distance of two parts, 0 to a third of their letters, or 1 where one begins or holds the
    other; None for more."""
    plain = folded(part)
    wanted = folded(other)
    far = distance(plain, wanted)
    if far <= max(1, max(len(plain), len(wanted)) // 3) and far < max(len(plain), len(wanted)):
        return far
    begun = len(plain) >= BEGUN and (wanted.startswith(plain) or plain.startswith(wanted))
    if begun and len(wanted) >= BEGUN:
        return 1.5
    inside = plain in wanted or wanted in plain
    return 2.5 if inside and min(len(plain), len(wanted)) > BEGUN else None


def folded(word: str) -> str:
    """A word without what is easily mistaken: capitals, hyphens, underscores, spaces; DPM++ is
    dpmpp."""
    return re.sub(r"[-_\s]", "", word.lower()).replace("+", "p")


def distance(word: str, other: str) -> int:
    """The optimal string alignment distance of two words."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        after = [i]
        for j, wanted in enumerate(other, 1):
            best = min(row[j] + 1, after[j - 1] + 1, row[j - 1] + (letter != wanted))
            exchanged = i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted
            if exchanged:
                best = min(best, before[j - 2] + 1)
            after.append(best)
        before, row = row, after
    return row[-1]


def did_you_mean(words: Iterable[str]) -> str:
    """did you mean a, b or c?"""
    return f"did you mean {either(list(words))}?"


def either(words: list[str]) -> str:
    """a, b or c."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def advice(word: str, known: Collection[str], listed: str, write: str = "write one of") -> str:
    """What to say after a `word` that is none of `known`, with what goes before: what it was meant
    to be; else all of them, where they are few; else what lists them (`diffgeo help sampler`)."""
    near = nearest(word, known)
    if near:
        return f": {did_you_mean(near)}"
    if len(known) <= FEW:
        return f"; {write} {', '.join(known)}"
    return f"; {listed} lists the {len(known)} that there are"
