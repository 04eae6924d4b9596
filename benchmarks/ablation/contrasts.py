"""Computes differences between arms over paired seeds, with intervals and significance tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy import stats

from benchmarks.ablation.protocol import Contrast

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The difference between two arms, in points of top-1.

    Attributes:
        contrast: the two arms.
        seeds: the seeds that both arms have, in ascending order.
        values: the difference for each seed.
        mean: the mean of the values.
        interval: Student's t interval of the mean at ``CONFIDENCE``; None with fewer than two seeds.
        p: p value of the paired t test; None with fewer than two seeds.
        adjusted: p after Holm's correction over the primary contrasts; None for other contrasts, and if ``p`` is None.
    """

    contrast: Contrast
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    interval: Optional[tuple[float, float]]
    p: Optional[float]
    adjusted: Optional[float] = None

    @property
    def is_resolved(self) -> bool:
        """Whether the interval excludes 0 and, for a primary contrast, ``adjusted`` is below 1 - ``CONFIDENCE``."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return False
        return self.adjusted is None or self.adjusted < 1 - CONFIDENCE


def interval(values: Sequence[float]) -> Optional[tuple[float, float]]:
    """Student's t interval of the mean at ``CONFIDENCE``; None with fewer than two values."""
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def difference(contrast: Contrast, accuracies: Mapping[str, Mapping[int, float]]) -> Optional[Difference]:
    """The difference between two arms over the seeds that both have; None if they have no seed in common.

    Args:
        contrast: the two arms.
        accuracies: top-1 in percent, by arm and seed.
    """
    first, second = accuracies.get(contrast.arm, {}), accuracies.get(contrast.over, {})
    seeds = tuple(sorted(set(first) & set(second)))
    if not seeds:
        return None
    values = tuple(first[seed] - second[seed] for seed in seeds)
    p = None
    if len(values) > 1:
        p = 1.0 if not any(values) else float(stats.ttest_1samp(values, 0).pvalue)
        p = 0.0 if math.isnan(p) else p  # NaN: all differences are equal, so their variance is 0
    return Difference(contrast, seeds, values, float(np.mean(values)), interval(values), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = largest
    return adjusted


def differences(
    contrasts: Sequence[Contrast], accuracies: Mapping[str, Mapping[int, float]]
) -> dict[Contrast, Optional[Difference]]:
    """The difference of each contrast; None if its arms have no seed in common.

    The p values of primary contrasts are corrected for the number of primary contrasts, even if some of these cannot be
    computed yet.

    Args:
        contrasts: the contrasts.
        accuracies: top-1 in percent, by arm and seed.
    """
    found = {contrast: difference(contrast, accuracies) for contrast in contrasts}
    primary = [contrast for contrast in contrasts if contrast.primary]
    known = {c: d.p for c in primary if (d := found[c]) is not None and d.p is not None}
    # A missing contrast gets the p value 1, so that the others are corrected for it as well.
    for contrast, p in zip(primary, holm([known.get(c, 1.0) for c in primary]), strict=True):
        if (one := found[contrast]) is not None and contrast in known:
            found[contrast] = Difference(one.contrast, one.seeds, one.values, one.mean, one.interval, one.p, adjusted=p)
    return found
