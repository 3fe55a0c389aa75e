"""Figures as ratios with their spread: an absolute number is the machine's, a ratio within one run is the program's."""

import logging
import random
import statistics
from collections.abc import Sequence

from rich.console import Console

RESAMPLES = 1000
LOW, HIGH = 5, 95
"""The percentiles between which a ratio is printed."""
PLAIN = 100.0
"""Milliseconds from which they are printed whole; below, with three digits."""
WIDTH = 140
"""Columns where there is no terminal, so that no row has to be broken."""


def screen() -> Console:
    """Return where to print, and keep libraries from printing over it."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values don't exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median, and the 5th to the 99th percentile."""
    found = (1000 * percentile(seconds, at) for at in (50, LOW, 99))
    median, low, high = (f"{each:.0f}" if each >= PLAIN else f"{each:.3g}" for each in found)
    return f"{median} ms ({low} to {high})"


def ratio(values: Sequence[float], base: Sequence[float], percent: float = 50) -> str:
    """Return the ratio of two percentiles, and between what it lies in 90 % of resampled runs."""
    chance = random.Random(1)  # noqa: S311 - no secret is made of it
    resampled = [
        percentile(chance.choices(values, k=len(values)), percent)
        / percentile(chance.choices(base, k=len(base)), percent)
        for _ in range(RESAMPLES)
    ]
    found = percentile(values, percent) / percentile(base, percent)
    return f"{found:.2f} ({percentile(resampled, LOW):.2f} to {percentile(resampled, HIGH):.2f})"


def spread(values: Sequence[float]) -> str:
    """Return the mean of a few values, and the least and the greatest."""
    return f"{statistics.fmean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def among(values: Sequence[float], base: Sequence[float]) -> str:
    """Return the ratio of the means of a few values, and the least and the greatest that single ones give."""
    found = statistics.fmean(values) / statistics.fmean(base)
    return f"{found:.2f} ({min(values) / max(base):.2f} to {max(values) / min(base):.2f})"
