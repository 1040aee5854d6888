"""Statistics of a two-alternative choice: exact test, interval, bootstrap, sample size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
MAX_RESPONDENTS = 100_000


@dataclass(frozen=True)
class BinomialTest:
    """Votes against the hypothesis that both methods are liked equally often.

    Attributes
    ----------
    votes, of : int
        Votes for ours, and all votes.
    proportion : float
        votes / of.
    deviation : float
        Standard deviation of the proportion, sqrt(p (1 - p) / of).
    p_one_sided : float
        Exact binomial p against the alternative "ours is liked more often" (proportion > 0.5).
    p_two_sided : float
        Exact binomial p against the alternative "the proportion is not 0.5".
    interval : (float, float)
        95 % interval of the proportion (Clopper and Pearson).
    """

    votes: int
    of: int
    proportion: float
    deviation: float
    p_one_sided: float
    p_two_sided: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = map(percent, self.interval)
        return (
            f"votes for ours       {self.votes} of {self.of}\n"
            f"proportion           {percent(self.proportion)}\n"
            f"standard deviation   {percent(self.deviation)}\n"
            f"one-sided p          {self.p_one_sided:.4g}   "
            "(exact binomial; alternative: ours is liked more often)\n"
            f"two-sided p          {self.p_two_sided:.4g}   "
            "(exact binomial; alternative: one of the two is liked more often)\n"
            f"95 % interval        {low} to {high}   (Clopper-Pearson)"
        )


def percent(share: float) -> str:
    """Write a share as a percentage with one decimal, "57.5 %"."""
    return f"{100 * share:.1f} %"


def binomial_test(votes: int, of: int) -> BinomialTest:
    """Test whether ours is liked more often than the baseline.

    Parameters
    ----------
    votes : int
        Votes for ours, 0 to `of`.
    of : int
        All votes, at least 1.

    Returns
    -------
    BinomialTest

    Raises
    ------
    ValueError
        If the counts are out of range.

    Notes
    -----
    The test takes the votes as independent. Votes of one respondent are not; report
    :func:`cluster_bootstrap` beside it.
    """
    from scipy.stats import binomtest

    if of < 1:
        raise ValueError(f"of={of}: at least one vote is needed")
    if not 0 <= votes <= of:
        raise ValueError(f"votes={votes}: must be from 0 to the {of} votes in all")
    greater = binomtest(votes, of, alternative="greater")
    both = binomtest(votes, of)
    interval = both.proportion_ci(CONFIDENCE, method="exact")
    proportion = votes / of
    return BinomialTest(
        votes=votes,
        of=of,
        proportion=proportion,
        deviation=math.sqrt(proportion * (1 - proportion) / of),
        p_one_sided=float(greater.pvalue),
        p_two_sided=float(both.pvalue),
        interval=(float(interval.low), float(interval.high)),
    )


def cluster_bootstrap(
    votes: Sequence[int], of: Sequence[int], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """95 % interval of the proportion when whole respondents are drawn again.

    Parameters
    ----------
    votes, of : sequence of int
        Votes for ours and all votes of each respondent who voted.
    seed : int
        Of the random draws.
    resamples : int
        Number of draws.

    Returns
    -------
    (float, float) or None
        2.5 and 97.5 percentile; None with fewer than two respondents.
    """
    own, all_votes = np.asarray(votes, np.int64), np.asarray(of, np.int64)
    count = len(own)
    if count < 2:
        return None
    random = np.random.default_rng(seed)
    times = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    proportions = (times @ own) / (times @ all_votes)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(proportions, (tail, 1 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class Power:
    """How many respondents a study needs.

    Attributes
    ----------
    respondents, votes : int
        Smallest number of respondents, and the votes that they give.
    power : float
        Probability that the exact test is significant with that many.
    effect, level, correlation : float
    two_sided : bool
    """

    respondents: int
    votes: int
    power: float
    effect: float
    level: float
    correlation: float
    two_sided: bool

    def __str__(self) -> str:
        side = "two-sided" if self.two_sided else "one-sided"
        dependence = (
            "votes of one respondent taken as independent"
            if self.correlation == 0
            else f"votes of one respondent correlated by {self.correlation:g}"
        )
        return (
            f"{self.respondents} respondents ({self.votes} votes) find a proportion of "
            f"{100 * self.effect:g} % with power {self.power:.3f}\n"
            f"({side} exact binomial test at level {self.level:g}, {dependence})"
        )


def power(
    effect: float,
    pairs_per_respondent: int,
    *,
    level: float = 0.05,
    wished: float = 0.8,
    two_sided: bool = True,
    correlation: float = 0.0,
) -> Power:
    """Find how many respondents are needed to find a wished effect.

    Parameters
    ----------
    effect : float
        The proportion of votes for ours that should be found, above 0.5 and below 1.
    pairs_per_respondent : int
        Votes of each respondent.
    level : float
        Significance level of the exact binomial test, above 0 and below 1.
    wished : float
        Probability with which the test should be significant, above 0 and below 1.
    two_sided : bool
        Whether the alternative is "the proportion is not 0.5" or "above 0.5".
    correlation : float
        Correlation of the votes of one respondent, 0 to 1: K votes count as
        K / (1 + (K - 1) correlation) independent ones.

    Returns
    -------
    Power
        With the smallest number of respondents from which on the power is never below `wished`
        (the power of an exact test does not grow steadily).

    Raises
    ------
    ValueError
        If an argument is out of range, or more than 100,000 respondents would be needed.
    """
    if not 0.5 < effect < 1:
        raise ValueError(f"effect={effect}: give a proportion above 0.5 and below 1, such as 0.575")
    if pairs_per_respondent < 1:
        raise ValueError(f"pairs_per_respondent={pairs_per_respondent}: must be at least 1")
    for name, value in (("level", level), ("wished", wished)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value}: must be above 0 and below 1")
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation={correlation}: must be from 0 to 1")

    independent = pairs_per_respondent / (1 + (pairs_per_respondent - 1) * correlation)
    # Most studies are small. A range is enough when its second half holds no failure: the teeth
    # of the power curve get lower and lower.
    for limit in (1_000, MAX_RESPONDENTS):
        votes = np.floor(np.arange(1, limit + 1) * independent + 1e-9)
        powers = _exact_power(votes, effect, level, two_sided)
        failing = np.flatnonzero(powers < wished)
        index = int(failing[-1]) + 1 if len(failing) else 0
        if index <= limit // 2:
            break
    if index == MAX_RESPONDENTS:
        raise ValueError(
            f"effect={effect}: more than {MAX_RESPONDENTS:,} respondents would be needed; "
            "ask for a larger effect or more pairs per respondent"
        )
    return Power(
        respondents=index + 1,
        votes=(index + 1) * pairs_per_respondent,
        power=float(powers[index]),
        effect=effect,
        level=level,
        correlation=correlation,
        two_sided=two_sided,
    )


def _exact_power(votes: np.ndarray, effect: float, level: float, two_sided: bool) -> np.ndarray:
    """Power of the exact test of 0.5, one value per number of votes."""
    from scipy.stats import binom

    tail = level / 2 if two_sided else level
    # isf gives the largest count whose upper tail beyond it fits into the level.
    critical = binom.isf(tail, votes, 0.5)
    powers = binom.sf(critical, votes, effect)
    if two_sided:
        powers = powers + binom.cdf(votes - critical - 1, votes, effect)
    return powers
