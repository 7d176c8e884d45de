"""The score that an average of two predictions can reach, and whether the paper's Table 3 can follow from its Table 2.

For one emotion: correlations r1 and r2 of two predictions with the truth, and r12 with each other. The average also
depends on their standard deviations s1 and s2. There are three cases:

    equal        both have the same standard deviation             (r1 + r2) / sqrt(2 + 2 r12)
    calibrated   standard deviations in proportion to r, s = r     (r1^2 + r2^2) / sqrt(r1^2 + r2^2 + 2 r1 r2 r12)
    best         optimal weights                                   sqrt((r1^2 + r2^2 - 2 r1 r2 r12) / (1 - r12^2))

A squared error, the paper's loss, leads to the calibrated case. No average with any standard deviations exceeds the
optimal weights. Two predictions with independent errors have r12 = r1 r2; with opposing errors it is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas
from numpy.typing import ArrayLike

from emibook import InputError


class TableRow(Protocol):
    """A row of the paper's tables, as in ``paper_rows.TABLE2`` and ``TABLE3``."""

    features: str
    branches: tuple[str, ...]
    paper: float | None


def average(
    r1: ArrayLike, r2: ArrayLike, r12: ArrayLike, s1: ArrayLike = 1.0, s2: ArrayLike = 1.0
) -> np.ndarray:
    """The correlation with the truth of the average of two predictions with standard deviations ``s1`` and ``s2``."""
    r1, r2, r12, s1, s2 = (np.asarray(value, np.float64) for value in (r1, r2, r12, s1, s2))
    return (s1 * r1 + s2 * r2) / np.sqrt(s1**2 + s2**2 + 2 * s1 * s2 * r12)


def calibrated(r1: ArrayLike, r2: ArrayLike, r12: ArrayLike) -> np.ndarray:
    """As ``average``, of two calibrated predictions."""
    return average(r1, r2, r12, r1, r2)


def best(r1: ArrayLike, r2: ArrayLike, r12: ArrayLike) -> np.ndarray:
    """As ``average``, of the two with optimal weights: an upper bound for any standard deviations."""
    r1, r2, r12 = (np.asarray(value, np.float64) for value in (r1, r2, r12))
    return np.sqrt((r1**2 + r2**2 - 2 * r1 * r2 * r12) / (1 - r12**2))


def implied(r1: float, r2: float, fused: float) -> dict[str, float]:
    """The correlation r12 between two branches at which each case scores ``fused``.

    ``best`` is the largest r12 with which any weights reach it.

    Raises:
        InputError: correlations outside (0, 1), or ``fused`` not above the better branch, where r12 is undetermined.
    """
    if not (0 < r1 < 1 and 0 < r2 < 1 and 0 < fused < 1):
        raise InputError(f"correlations {r1:g}, {r2:g} and {fused:g}: all three must lie between 0 and 1")
    if fused <= max(r1, r2):
        raise InputError(f"the average's {fused:g} is not above the better branch's {max(r1, r2):g}: this does not "
                         "determine the correlation between the branches")
    power = r1**2 + r2**2
    # best^2 (1 - r12^2) = power - 2 r1 r2 r12 has two solutions; the smaller one is where a negative r12 helps.
    product = r1 * r2
    root = np.sqrt(product**2 - fused**2 * (power - fused**2))
    return {
        "equal": (r1 + r2) ** 2 / (2 * fused**2) - 1,
        "calibrated": (power**2 / fused**2 - power) / (2 * product),
        "best": float((product - root) / fused**2),
    }


def crossed(r1: float, r2: float, by: float) -> tuple[np.ndarray, np.ndarray]:
    """(2,), (2,) correlations in two groups of emotions: either branch is ``by`` better in one and worse in the other.

    The groups have the same size, so the means over emotions stay ``r1`` and ``r2``.
    """
    return np.array([r1 + by, r1 - by]), np.array([r2 - by, r2 + by])


def crossing_needed(r1: float, r2: float, fused: float) -> float:
    """The smallest crossing of the emotions at which calibrated branches with independent errors average to ``fused``.

    0 where none is needed; NaN where none is enough: a branch would need a negative correlation for an emotion.
    """
    steps = np.linspace(0, min(r1, r2), 2001)
    reached = np.array([_independent(*crossed(r1, r2, by)) for by in steps])
    enough = np.flatnonzero(reached >= fused)
    return float(steps[enough[0]]) if len(enough) else float("nan")


def _independent(r1: ArrayLike, r2: ArrayLike) -> float:
    """Mean over emotions of calibrated averages of branches with independent errors."""
    return float(np.mean(calibrated(r1, r2, np.multiply(r1, r2))))


def imply(table2: Sequence[TableRow], table3: Sequence[TableRow], crossing: float) -> pandas.DataFrame:
    """What each row of Table 3 implies about its two branches; rows without a value of the paper are left out.

    Index ``features``. Columns: ``visual, sound, fused`` as in the paper; ``equal, calibrated`` at r12 = 0;
    ``independent``, calibrated with independent errors; ``crossed``, the mean over two groups of emotions in which the
    branches are better by ``crossing`` in turn, with optimal weights at r12 = 0; ``r12 equal, r12 calibrated,
    r12 best``, see ``implied``; ``r12 errors``, of the errors, given r12 calibrated; ``crossing needed``; ``expected``,
    the fused value if r12 were that of the row before (calibrated); ``verdict``.
    """
    alone = {row.features: row.paper for row in table2}
    rows, before = {}, None
    for row in table3:
        if row.paper is None:
            continue
        r1, r2 = (alone[branch] for branch in row.branches)
        r12 = implied(r1, r2, row.paper)
        errors = (r12["calibrated"] - r1 * r2) / np.sqrt((1 - r1**2) * (1 - r2**2))
        with_crossing = float(np.mean(best(*crossed(r1, r2, crossing), 0.0)))
        rows[row.features] = {
            "visual": r1,
            "sound": r2,
            "fused": row.paper,
            "equal": float(average(r1, r2, 0.0)),
            "calibrated": float(calibrated(r1, r2, 0.0)),
            "independent": _independent(r1, r2),
            "crossed": with_crossing,
            **{f"r12 {case}": value for case, value in r12.items()},
            "r12 errors": float(errors),
            "crossing needed": crossing_needed(r1, r2, row.paper),
            "expected": np.nan if before is None else float(calibrated(r1, r2, before)),
            "verdict": _verdict(row.paper, _independent(r1, r2), with_crossing),
        }
        before = r12["calibrated"]
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("features")


FOLLOWS = "follows: branches whose errors are independent average to it or more"
CROSSES = "possible: needs emotions that cross, or branches whose errors oppose each other"
OPPOSES = "needs branches whose errors oppose each other, even where emotions cross as far as given"


def _verdict(fused: float, independent: float, with_crossing: float) -> str:
    if fused <= independent:
        return FOLLOWS
    return CROSSES if fused <= with_crossing else OPPOSES
