"""Confidence interval of a mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95


def student_interval(values: ArrayLike) -> tuple[float, float] | None:
    """Confidence interval of the mean, mean +- t(n - 1) s / sqrt(n).

    Parameters
    ----------
    values : array (n,)

    Returns
    -------
    (float, float) or None
        Its ends at 95 %; None where it is not defined: fewer than two values, or an infinite one.
    """
    from scipy.stats import t

    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        return None
    mean = numbers.mean()
    half = t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * numbers.std(ddof=1)
    half /= math.sqrt(len(numbers))
    return float(mean - half), float(mean + half)
