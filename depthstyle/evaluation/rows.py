"""What one pair of an SSIM table measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Values(NamedTuple):
    """One measure of one pair."""

    ours: float
    baseline: float

    @property
    def difference(self) -> float:
        """Ours minus baseline; 0 where both are the same infinite value."""
        return 0.0 if self.ours == self.baseline else self.ours - self.baseline


@dataclass(frozen=True)
class Row:
    """One pair: its names, each measure's values, and the csv's further columns."""

    image: str
    style: str
    values: Mapping[str, Values]
    extra: Mapping[str, str]

    @property
    def ours(self) -> float:
        """SSIM of ours."""
        return self.values["ssim"].ours

    @property
    def baseline(self) -> float:
        """SSIM of the baseline."""
        return self.values["ssim"].baseline

    @property
    def difference(self) -> float:
        """SSIM of ours minus SSIM of the baseline."""
        return self.values["ssim"].difference
