"""What the best predictor of simulated clips reaches, exactly or between bounds; and plans that allow a given level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from emibook import InputError
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.puppet.labels import LATENT
from emibook.studies.simulation.attainable import attainable, best_guess, multiple_correlation, needed
from emibook.studies.simulation.features import (
    BY_FACE,
    CROSSING,
    MODALITY,
    WIDTHS,
    Planted,
    Simulation,
    channels,
    clips,
)
from emibook.studies.simulation.patterns import PATTERNS, at_least, read, told


def plan(
    levels: Mapping[str, float],
    *,
    patterns: str = "mixed",
    crossing: float = CROSSING,
    widths: Mapping[str, int] | None = None,
    legible: float = 0.0,
    **options: object,
) -> Simulation:
    """A simulation whose mean attainable correlation is the one given for each feature set, for example Table 2's.

    Args:
        levels: mean over emotions by feature set; ``resnet18+aus`` says what the two allow together, which decides how
            alike their noises are. Where there is no formula (see ``bounds``) it is the upper bound that is met.
        patterns: one of ``patterns.PATTERNS`` for every emotion, or ``mixed``: each two emotions of a modality.
        crossing: see ``CROSSING``.
        widths: features a set, where not ``WIDTHS``.
        legible: how much people differ in how well they can be read; the levels are then those of an average person.
        options: of ``Simulation``: clips, steps, rate, seed.

    Raises:
        InputError: a level that raters' noise forbids, or a joint level outside what its sets can give.
    """
    if patterns not in (*PATTERNS, "mixed"):
        raise InputError(f"no pattern {patterns!r}; there are {', '.join(PATTERNS)} and mixed")
    single = {name: level for name, level in levels.items() if "+" not in name}
    widths = {**WIDTHS, **(widths or {})}
    sets = []
    for name, level in single.items():
        sign = BY_FACE if MODALITY.get(name) == "V" else -BY_FACE
        wanted = np.clip(level + crossing * sign, 0.01, None)
        try:
            start = needed(wanted)
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None
        turn = {"V": 0, "A": 1}[MODALITY.get(name, "V")]
        places = tuple(PATTERNS[(emotion + turn) % 3] if patterns == "mixed" else patterns for emotion in range(6))
        first = Simulation((Planted(name, widths[name], tuple(start), places),), **options)

        def scaled(factor: float, first: Simulation = first, start: np.ndarray = start) -> Simulation:
            return replace(first, sets=(replace(first.sets[0], correlations=tuple(np.minimum(start * factor, 0.999))),))

        def alone(factor: float, scaled: Callable = scaled, name: str = name) -> float:
            return float(highest(scaled(factor), name).mean())

        sets.append(scaled(_solve(alone, level, 0.3, 2.0, name)).sets[0])
    simulation = Simulation(tuple(sets), **options)
    for name, level in levels.items():
        if "+" in name:

            def together(alike: float, simulation: Simulation = simulation, name: str = name) -> float:
                return float(highest(replace(simulation, alike=alike), name).mean())

            # Noises that are all but one would cancel, so the least is allowed somewhere before 1.
            least = min(np.linspace(0, 0.95, 20), key=together)
            simulation = replace(simulation, alike=_solve(together, level, least, 0.0, name))
    return replace(simulation, legible=legible)


def _solve(function: Callable[[float], float], wanted: float, low: float, high: float, what: str) -> float:
    """Where ``function``, which grows from ``low`` to ``high``, is ``wanted``."""
    if not function(low) <= wanted <= function(high):
        raise InputError(f"{what}: {wanted:g} is not between {function(low):.4f} and {function(high):.4f}, "
                         "which is all that can be planted")
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > wanted else (middle, high)
    return (low + high) / 2


def bounds(simulation: Simulation, *features: str) -> np.ndarray:
    """(emotion, 2) between what the correlation of the best predictor of one clip lies, over all clips drawn.

    ``features``: one set, several joined, or several branches: all that the predictor sees. Both ends are equal, and
    the value is exact, where every score lies in the mean. Else above: every place is told. Below: the best predictor
    from the scores in means alone, or what a stated reader makes of the emotion's own channel (``patterns.at_least``).
    A clip in which nothing is seen counts with what the best constant says of it. Nobody can do better from one clip;
    who knows which clips are of one person could.

    Raises:
        ValueError: people differ in legibility (``Simulation.legible``), for which there is no formula.
    """
    sets, cases, weights = _cases(simulation, features)
    below = attainable(guess(simulation.alike, sets, _error(simulation, sets, cases, ("mean",)))[1])
    for case, (steps, *there) in enumerate(cases.T):
        for each in (each for number, each in enumerate(sets) if there[number]):
            for emotion, pattern in enumerate(each.patterns):
                if pattern != "mean":
                    found = at_least(pattern, each.correlations[emotion], int(steps), simulation.clock)
                    below[case, emotion] = max(below[case, emotion], found)
    return np.stack([np.sqrt(weights @ below**2), highest(simulation, *features)], axis=1)


def highest(simulation: Simulation, *features: str) -> np.ndarray:
    """(emotion,) the upper end of ``bounds``: what can be reached where every place is told."""
    sets, cases, weights = _cases(simulation, features)
    above = attainable(guess(simulation.alike, sets, _error(simulation, sets, cases, PATTERNS))[1])
    return np.sqrt(weights @ above**2)


def _cases(simulation: Simulation, features: Sequence[str]) -> tuple[list[Planted], np.ndarray, np.ndarray]:
    """The sets, (1 + set, case) the different numbers of steps with what is there of each set, and each one's share."""
    if simulation.legible:
        raise ValueError("no formula where people differ in legibility")
    sets = [each for name in features for each in simulation.chosen(name)]
    table = clips(simulation).table
    codes, counts = np.unique(table["steps"] * 4 + table["V"] * 2 + table["A"], return_counts=True)
    there = {"V": codes // 2 % 2, "A": codes % 2}
    return sets, np.stack([codes // 4, *(there[each.modality] for each in sets)]), counts / counts.sum()


def _error(
    simulation: Simulation, sets: Sequence[Planted], cases: np.ndarray, patterns: Sequence[str]
) -> np.ndarray:
    """(case, set, emotion) with what variance a score is read whose place is told; infinite for other ``patterns``."""
    error = np.full((cases.shape[1], len(sets), len(EMOTIONS)), np.inf)
    steps, back = np.unique(cases[0], return_inverse=True)
    for pattern in set(patterns) & set(sum((each.patterns for each in sets), ())):
        share = np.array([told(pattern, int(each), simulation.clock) for each in steps])[back]
        for number, each in enumerate(sets):
            here = np.flatnonzero(np.array(each.patterns) == pattern)
            error[:, number, here] = np.where(cases[number + 1], (1 - share) / share, np.inf)[:, None]
    return error


def best(simulation: Simulation, partition: str, *features: str) -> np.ndarray:
    """(clip, emotion) what the best predictor says, who knows all of the model but no clip's score.

    Exact where every score lies in the mean; else it takes each reading of a score for normal, with its own error, and
    is a predictor like any other: the best one does at least as well.
    """
    sets = [each for name in features for each in simulation.chosen(name)]
    places = np.flatnonzero(clips(simulation).table["partition"].to_numpy() == partition)
    seen, error = np.zeros((2, len(places), len(sets), len(EMOTIONS)))
    for number, each in enumerate(sets):
        for row, series in enumerate(channels(simulation, each, places)):
            for emotion, pattern in enumerate(each.patterns):
                mean, variance = (0.0, 1.0) if series is None else read(pattern, series[:, emotion], simulation.clock)
                known = max(1 - variance, 0.0)
                seen[row, number, emotion] = mean / known if known > 1e-6 else 0.0
                error[row, number, emotion] = variance / known if known > 1e-6 else np.inf
    weights, multiple = guess(simulation.alike, sets, error)
    latent = np.einsum("cse,cs->ce", weights, seen.reshape(len(places), -1))
    return best_guess(latent, multiple)


def guess(alike: float, sets: Sequence[Planted], error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (case, score, emotion) of the best guess of L and its multiple correlation (case, emotion).

    ``error`` (case, set, emotion) is the variance with which each score is read; infinite where it is not seen.
    """
    correlation = np.array([each.correlations for each in sets]).ravel()
    emotion = np.tile(np.arange(len(EMOTIONS)), len(sets))
    number = np.repeat(np.arange(len(sets)), len(EMOTIONS))
    modality = np.array([each.modality for each in sets])[number]
    shared = np.where(number[:, None] == number, 1.0, np.where(modality[:, None] == modality, alike, 0.0))
    shared *= emotion[:, None] == emotion
    noise = np.sqrt(1 - correlation**2)
    covariance = np.outer(correlation, correlation) * LATENT[np.ix_(emotion, emotion)] + np.outer(noise, noise) * shared
    error = np.minimum(error.reshape(len(error), -1), 1e9)
    covariance = covariance + error[:, :, None] * np.eye(len(emotion))
    with_latent = np.broadcast_to(correlation[:, None] * LATENT[emotion], (*error.shape, len(EMOTIONS)))
    return np.linalg.solve(covariance, with_latent), multiple_correlation(covariance, with_latent)
