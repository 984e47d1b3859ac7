"""Which way a metric is better, by its name: what a table marks, and what a ranking goes by.

    ↓   the less the better: errors and distances, and whatever is not named here
    ↑   the more the better: shares near the support, precision and recall, PSNR
    →   neither: a share or a ratio that is to be what it is of the law, or the number in `NEAREST`

A metric of a plugin says so in its class, `better = {"mine/*": "more"}` (`metrics.Measure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

LESS, MORE, NEAR = "less", "more", "near"
MARKS = {LESS: "↓", MORE: "↑", NEAR: "→"}
WORDS = {LESS: "less is better", MORE: "more is better", NEAR: "as the law has it is better"}

LARGER = (
    "restore/psnr*",
    "restore/ssim",
    "distance/below_*",
    "precision*",
    "recall*",
    "clip/score",
)
NEAREST = {
    "restore/misfit": 1.0,
    "posterior/spread_ratio": 1.0,
    "calibration/coverage_50": 0.5,
    "calibration/coverage_90": 0.9,
}
SHARES = ("atoms/w_*",)
# errors and distances; a name that is in no list may be of anything
SMALLER = (
    "distance/*",
    "tangential/w2",
    "transport/*",
    "atoms/chi2",
    "atoms/off",
    "flow/rms",
    "denoiser/*_l2*",
    "denoiser/rms*",
    "texture/w2",
    "texture/w2_unbiased",
    "texture/w2_along",
    "texture/w2_across",
    "hallucination/spread",
    "hallucination/flagged",
    "hallucination/between",
    "posterior/w2*",
    "posterior/mean_error",
    "restore/error",
    "start/w2*",
    "fid",
    "fid_*",
    "frechet/*",
    "kid",
    "kid/*",
    "w2",
    "w2/*",
)


def better(key: str, own: Mapping[str, str] = {}) -> str | None:
    """LESS, MORE or NEAR; None for what is neither good nor bad, a count or a size.

    own: pattern -> LESS, MORE or NEAR, of metrics that say so themselves.
    """
    for pattern, way in own.items():
        if fnmatch(key, pattern):
            return way
    if key in NEAREST or matches(key, SHARES):
        return NEAR
    if matches(key, LARGER):
        return MORE
    return LESS if matches(key, SMALLER) else None


def matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def mark(key: str, own: Mapping[str, str] = {}) -> str:
    """The arrow of a metric; "" of what has no better side."""
    way = better(key, own)
    return "" if way is None else MARKS[way]


def legend(marks: Iterable[str]) -> str:
    """What the arrows mean, those that are there."""
    there = set(marks)
    return ", ".join(f"{MARKS[way]} {WORDS[way]}" for way in MARKS if MARKS[way] in there)
