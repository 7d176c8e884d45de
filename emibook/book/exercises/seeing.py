"""Chapter 7: patches of a crop, the unit that rises with the smile, and features without the person's mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emibook.book.exercises import hints


def tokens(answer: Any) -> str:
    """7.1: how many tokens a ViT with patches of 16 pixels makes of a picture of 224."""
    if not hints.number(answer, 196, 0.5):
        return "These are the patches. One more token goes with them, and its output is the embedding."
    if not hints.number(answer, 14, 0.5):
        return "That is one side."
    return hints.number(answer, 197, 0.5, "the number of tokens")


def most_correlated(answer: Any, units: Any) -> str:
    """7.2: the intensity most correlated with AU12's over the clip."""
    names = [name for name in units.names if name.endswith("_r") and units.values[:, units.names.index(name)].std() > 0]
    smile = units.values[:, units.names.index("AU12_r")]
    rho = {name: np.corrcoef(smile, units.values[:, units.names.index(name)])[0, 1] for name in names}
    rho.pop("AU12_r", None)
    if answer == "AU12_r":
        return "A unit is always correlated with itself; another one was asked for."
    return hints.chosen(answer, max(rho, key=rho.__getitem__), list(rho))


def without_person_mean(answer: Any, averages: Mapping[str, np.ndarray], participants: Any) -> str:
    """7.3: by feature set, the share of clips whose nearest is the same person's, without each person's mean."""
    participants = np.asarray(participants)
    for name, table in averages.items():
        if name not in answer:
            return f"{name} is missing."
        centred = np.array(table, float)
        for person in np.unique(participants):
            centred[participants == person] -= centred[participants == person].mean(axis=0)
        wrong = hints.number(answer[name], same_person(centred, participants), 0.02, f"the share of {name}")
        if wrong:
            return wrong
    return ""


def same_person(averages: np.ndarray, participants: np.ndarray) -> float:
    """The share of clips whose nearest other clip, features on one scale, shows the same participant."""
    scaled = (averages - averages.mean(axis=0)) / (averages.std(axis=0) + 1e-9)
    distances = ((scaled**2).sum(axis=1)[:, None] - 2 * scaled @ scaled.T + (scaled**2).sum(axis=1))
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(participants[distances.argmin(axis=1)] == participants))


CHECKS = {"7.1": tokens, "7.2": most_correlated, "7.3": without_person_mean}
