"""Chapter 2: how many raters to ask, a fair opponent for an average, and the weights of two predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from emibook.book.exercises import hints

WANTED = 0.95


def to_ask(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.1: raters a group for an agreement of .95, from the agreement of two groups of ten."""
    agreement = float(found["ceiling"].loc[("both", "mean"), "reliability"])
    exact = 10 * WANTED * (1 - agreement) / (agreement * (1 - WANTED))
    if not hints.number(answer, exact / 10, 0.05):
        return "That is how many times ten; the number of raters was asked for."
    if 0 < exact - hints.one(answer) < 1:
        return "It falls just short: with that many the agreement stays below what is wanted."
    return hints.number(answer, float(np.ceil(exact)), 0.5, "the number of raters")


def fair(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.2: (emotion,) what twice as many who saw would reach."""
    six = found["fusion"].drop("mean")
    alike = found["ceiling"].loc["face"].drop("mean")["reliability"].to_numpy()
    truth = six["r_face"].to_numpy() / np.sqrt((1 + alike) / 2)
    if not hints.numbers(answer, six["r_face"] * 2 / (1 + alike), 1e-3):
        return "That brings the agreement of two groups up. Of the two that are correlated here one stays as it is."
    if not hints.numbers(answer, six["r_face"] / np.sqrt(alike), 1e-3):
        return "That takes all luck away; twice as many raters take away half of it."
    return hints.numbers(answer, truth, 2e-3, list(six.index), "correlation")


def weights(answer: Any, found: Mapping[str, pandas.DataFrame]) -> str:
    """2.3: (emotion,) the share of those who saw in a regression on both predictions."""
    six = found["fusion"].drop("mean")
    spread = np.array([six["s_face"], six["s_voice"]])
    raw = np.array([six["r_face"] - six["between"] * six["r_voice"], six["r_voice"] - six["between"] * six["r_face"]])
    truth = (raw / spread)[0] / (raw / spread).sum(axis=0)
    if not hints.numbers(answer, 1 - truth, 1e-3):
        return "That is the share of those who heard."
    if not hints.numbers(answer, raw[0] / raw.sum(axis=0), 1e-3):
        return "Right for two predictions of one spread; these have not, so divide each weight by its spread."
    return hints.numbers(answer, truth, 2e-3, list(six.index), "share")


CHECKS = {"2.1": to_ask, "2.2": fair, "2.3": weights}
