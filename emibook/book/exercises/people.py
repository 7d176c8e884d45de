"""Chapter 2: how many raters are needed, a fair comparison for an average, and the weights of two predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from emibook.book.exercises import hints

WANTED = 0.95


def raters_needed(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.1: raters per group for a reliability of 0.95, from the correlation of two groups of ten."""
    agreement = float(found["ceiling"].loc[("both", "mean"), "reliability"])
    exact = 10 * WANTED * (1 - agreement) / (agreement * (1 - WANTED))
    if not hints.number(answer, exact / 10, 0.05):
        return "That is how many times ten; the number of raters was asked for."
    if 0 < exact - hints.one(answer) < 1:
        return "It falls just short: with that many the reliability stays below what is wanted."
    return hints.number(answer, float(np.ceil(exact)), 0.5, "the number of raters")


def equal_raters(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.2: (emotion,) the correlation that twice as many raters of the face would reach."""
    six = found["fusion"].drop("mean")
    reliability = found["ceiling"].loc["face"].drop("mean")["reliability"].to_numpy()
    truth = six["r_face"].to_numpy() / np.sqrt((1 + reliability) / 2)
    if not hints.numbers(answer, six["r_face"] * 2 / (1 + reliability), 1e-3):
        return "That corrects both groups. Of the two that are correlated here one stays as it is."
    if not hints.numbers(answer, six["r_face"] / np.sqrt(reliability), 1e-3):
        return "That removes all rating noise; twice as many raters remove half of it."
    return hints.numbers(answer, truth, 2e-3, list(six.index), "correlation")


def weights(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.3: (emotion,) the weight of the face raters in a regression on both, as a share."""
    six = found["fusion"].drop("mean")
    deviation = np.array([six["s_face"], six["s_voice"]])
    raw = np.array([six["r_face"] - six["between"] * six["r_voice"], six["r_voice"] - six["between"] * six["r_face"]])
    truth = (raw / deviation)[0] / (raw / deviation).sum(axis=0)
    if not hints.numbers(answer, 1 - truth, 1e-3):
        return "That is the share of those who heard."
    if not hints.numbers(answer, raw[0] / raw.sum(axis=0), 1e-3):
        return "Right for two predictions of equal variance; here divide each weight by its standard deviation."
    return hints.numbers(answer, truth, 2e-3, list(six.index), "share")


CHECKS = {"2.1": raters_needed, "2.2": equal_raters, "2.3": weights}
