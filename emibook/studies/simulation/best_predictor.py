"""The best predictor of simulated clips: what it reaches, exactly or between bounds, and plans for a given level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from emibook import InputError
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.puppet.labels import LATENT
from emibook.studies.simulation.attainable import attainable, expected_label, multiple_correlation, needed
from emibook.studies.simulation.features import (
    BY_FACE,
    CROSSING,
    MODALITY,
    WIDTHS,
    SimulatedSet,
    Simulation,
    channels,
    clips,
)
from emibook.studies.simulation.patterns import PATTERNS, lower_bound, posterior, recoverable_share


def plan(
    levels: Mapping[str, float],
    *,
    patterns: str = "mixed",
    crossing: float = CROSSING,
    widths: Mapping[str, int] | None = None,
    between_person_sd: float = 0.0,
    **options: object,
) -> Simulation:
    """A simulation whose mean attainable correlations are the given ones, for example those of Table 2.

    Args:
        levels: by feature set, mean over emotions; ``resnet18+aus`` is what the two allow together, which decides how
            strongly their noises correlate. Where there is no formula (see ``bounds``) the upper bound meets it.
        patterns: one of ``patterns.PATTERNS`` for every emotion, or ``mixed``: each for two emotions of a modality.
        crossing: see ``CROSSING``.
        widths: features per set, where not ``WIDTHS``.
        between_person_sd: see ``BETWEEN_PERSON_SD``; the levels are then those of an average person.
        options: of ``Simulation``: clips, steps, frame_rate, seed.

    Raises:
        InputError: an unknown pattern, a level above the noise ceiling, or a joint level that its sets cannot give.
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
        shift = {"V": 0, "A": 1}[MODALITY.get(name, "V")]
        in_time = tuple(PATTERNS[(emotion + shift) % 3] if patterns == "mixed" else patterns for emotion in range(6))
        first = Simulation((SimulatedSet(name, widths[name], tuple(start), in_time),), **options)

        def scaled(factor: float, first: Simulation = first, start: np.ndarray = start) -> Simulation:
            return replace(first, sets=(replace(first.sets[0], correlations=tuple(np.minimum(start * factor, 0.999))),))

        def alone(factor: float, scaled: Callable = scaled, name: str = name) -> float:
            return float(upper_bound(scaled(factor), name).mean())

        sets.append(scaled(_solve(alone, level, 0.3, 2.0, name)).sets[0])
    simulation = Simulation(tuple(sets), **options)
    for name, level in levels.items():
        if "+" in name:

            def together(correlation: float, simulation: Simulation = simulation, name: str = name) -> float:
                return float(upper_bound(replace(simulation, noise_correlation=correlation), name).mean())

            # Noises that are nearly the same would cancel, so the minimum lies somewhere before 1.
            least = min(np.linspace(0, 0.95, 20), key=together)
            simulation = replace(simulation, noise_correlation=_solve(together, level, least, 0.0, name))
    return replace(simulation, between_person_sd=between_person_sd)


def _solve(function: Callable[[float], float], wanted: float, low: float, high: float, what: str) -> float:
    """The argument at which ``function``, which grows from ``low`` to ``high``, equals ``wanted``; by bisection."""
    if not function(low) <= wanted <= function(high):
        raise InputError(f"{what}: {wanted:g} is not between {function(low):.4f} and {function(high):.4f}, "
                         "the range that can be planted")
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > wanted else (middle, high)
    return (low + high) / 2


def bounds(simulation: Simulation, *features: str) -> np.ndarray:
    """(emotion, 2) lower and upper bound of the correlation of the best predictor of one clip, over all clips.

    Both are equal, and exact, where every score lies in the mean. Else the upper bound is for a predictor that knows
    every onset's position; the lower one is for the best predictor from the scores in means alone, or for the given
    estimator of the emotion's own channel (``patterns.lower_bound``). A clip that is empty counts with the prediction
    of the best constant. From a single clip nothing does better; a predictor that knew which clips are of one
    participant could.

    Args:
        features: one set, several joined, or several branches: everything that the predictor sees.

    Raises:
        ValueError: participants differ in their slopes (``Simulation.between_person_sd``): there is no formula.
    """
    sets, cases, weights = _cases(simulation, features)
    below = attainable(latent_weights(simulation.noise_correlation, sets,
                                      _error_variance(simulation, sets, cases, ("mean",)))[1])
    for case, (steps, *present) in enumerate(cases.T):
        for planted in (planted for number, planted in enumerate(sets) if present[number]):
            for emotion, pattern in enumerate(planted.patterns):
                if pattern != "mean":
                    alone = lower_bound(pattern, planted.correlations[emotion], int(steps), simulation.clock)
                    below[case, emotion] = max(below[case, emotion], alone)
    return np.stack([np.sqrt(weights @ below**2), upper_bound(simulation, *features)], axis=1)


def upper_bound(simulation: Simulation, *features: str) -> np.ndarray:
    """(emotion,) the upper end of ``bounds``: what can be reached where every onset's position is known."""
    sets, cases, weights = _cases(simulation, features)
    error = _error_variance(simulation, sets, cases, PATTERNS)
    above = attainable(latent_weights(simulation.noise_correlation, sets, error)[1])
    return np.sqrt(weights @ above**2)


def _cases(
    simulation: Simulation, features: Sequence[str]
) -> tuple[list[SimulatedSet], np.ndarray, np.ndarray]:
    """The kinds of clips, which differ in length and in the modalities that are present.

    Returns:
        The sets; (1 + set, case) the number of steps, and whether each set is present; (case,) the share of clips.
    """
    if simulation.between_person_sd:
        raise ValueError("no formula where participants differ in their slopes")
    sets = [planted for name in features for planted in simulation.chosen(name)]
    table = clips(simulation).table
    codes, counts = np.unique(table["steps"] * 4 + table["V"] * 2 + table["A"], return_counts=True)
    present = {"V": codes // 2 % 2, "A": codes % 2}
    return sets, np.stack([codes // 4, *(present[planted.modality] for planted in sets)]), counts / counts.sum()


def _error_variance(
    simulation: Simulation, sets: Sequence[SimulatedSet], cases: np.ndarray, patterns: Sequence[str]
) -> np.ndarray:
    """(case, set, emotion) error variance of a score whose position is known; infinite for other ``patterns``."""
    error = np.full((cases.shape[1], len(sets), len(EMOTIONS)), np.inf)
    steps, back = np.unique(cases[0], return_inverse=True)
    for pattern in set(patterns) & set(sum((planted.patterns for planted in sets), ())):
        share = np.array([recoverable_share(pattern, int(count), simulation.clock) for count in steps])[back]
        for number, planted in enumerate(sets):
            emotions = np.flatnonzero(np.array(planted.patterns) == pattern)
            error[:, number, emotions] = np.where(cases[number + 1], (1 - share) / share, np.inf)[:, None]
    return error


def predict(simulation: Simulation, partition: str, *features: str) -> np.ndarray:
    """(clip, emotion) the predictions of an oracle, which knows the whole model but no clip's score.

    It is the best predictor where every score lies in the mean. Else it takes each score's estimate as normal, with its
    own error variance, so the best predictor does at least as well.
    """
    sets = [planted for name in features for planted in simulation.chosen(name)]
    rows = np.flatnonzero(clips(simulation).table["partition"].to_numpy() == partition)
    estimate, error = np.zeros((2, len(rows), len(sets), len(EMOTIONS)))
    for number, planted in enumerate(sets):
        for row, series in enumerate(channels(simulation, planted, rows)):
            for emotion, pattern in enumerate(planted.patterns):
                mean, variance = (0.0, 1.0)
                if series is not None:
                    mean, variance = posterior(pattern, series[:, emotion], simulation.clock)
                share = max(1 - variance, 0.0)
                estimate[row, number, emotion] = mean / share if share > 1e-6 else 0.0
                error[row, number, emotion] = variance / share if share > 1e-6 else np.inf
    weights, multiple = latent_weights(simulation.noise_correlation, sets, error)
    latent = np.einsum("cse,cs->ce", weights, estimate.reshape(len(rows), -1))
    return expected_label(latent, multiple)


def latent_weights(
    noise_correlation: float, sets: Sequence[SimulatedSet], error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best linear estimate of L from the scores' estimates.

    Args:
        noise_correlation: see ``Simulation``.
        error: (case, set, emotion) the error variance of each score's estimate; infinite where it is not seen.

    Returns:
        Weights (case, score, emotion), and the multiple correlation (case, emotion) of the estimate with L.
    """
    correlation = np.array([planted.correlations for planted in sets]).ravel()
    emotion = np.tile(np.arange(len(EMOTIONS)), len(sets))
    number = np.repeat(np.arange(len(sets)), len(EMOTIONS))
    modality = np.array([planted.modality for planted in sets])[number]
    same_set, same_modality = number[:, None] == number, modality[:, None] == modality
    shared = np.where(same_set, 1.0, np.where(same_modality, noise_correlation, 0.0))
    shared *= emotion[:, None] == emotion
    noise = np.sqrt(1 - correlation**2)
    covariance = np.outer(correlation, correlation) * LATENT[np.ix_(emotion, emotion)] + np.outer(noise, noise) * shared
    error = np.minimum(error.reshape(len(error), -1), 1e9)
    covariance = covariance + error[:, :, None] * np.eye(len(emotion))
    with_latent = np.broadcast_to(correlation[:, None] * LATENT[emotion], (*error.shape, len(EMOTIONS)))
    return np.linalg.solve(covariance, with_latent), multiple_correlation(covariance, with_latent)
