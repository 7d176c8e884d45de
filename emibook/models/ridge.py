"""Ridge regression: on any inputs, and on each feature's mean over the clip as the baseline without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import KernelCenterer

from emibook import InputError
from emibook.sequences.packed import Sequences

PENALTIES = tuple(10.0**power for power in np.arange(-2.5, 1.5, 0.5))  # shares of the inputs' mean squared length
FOLDS = 5  # of the cross-validation that chooses each target's penalty


def fit_ridge(
    inputs: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    folds: int = FOLDS,
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression, the penalty of each target chosen by cross-validation over groups.

    The penalty chosen has the least squared error on groups left out. Where there are more features than samples, all
    is computed from the samples' inner products (``KernelRidge``), which are multiplied out once for all folds.

    Args:
        inputs: (sample, feature).
        targets: (sample, target).
        groups: (sample,) whom a sample is of; no group is in two folds.
        penalties: shares of the mean squared length of the centred inputs. The intercept is not penalised.
        folds: at most; as many as there are groups where these are fewer.

    Returns:
        Slopes (feature, target) and intercepts (target,).

    Raises:
        InputError: all samples are of one group, and there are several penalties to choose from.
    """
    mean = inputs.mean(axis=0)
    centred = inputs - mean
    alphas = np.asarray(penalties, float) * float(np.einsum("sf,sf->", centred, centred)) / len(centred)
    wide = centred.shape[1] > len(centred)
    kernel = centred @ centred.T if wide else np.empty((0, 0))

    def left_out(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        if wide:
            return _from_kernel(kernel, targets, kept, out, alphas)
        return _from_inputs(centred, targets, kept, out, alphas)

    chosen = _choose(left_out, targets, groups, alphas, folds)
    if not wide:
        model = Ridge(alpha=chosen, solver="svd").fit(centred, targets)
        slopes = model.coef_.T
    else:
        dual = np.empty(targets.shape, centred.dtype)
        for alpha in np.unique(chosen):
            same = chosen == alpha
            model = KernelRidge(alpha=alpha, kernel="precomputed")
            dual[:, same] = model.fit(kernel, targets[:, same] - targets[:, same].mean(axis=0)).dual_coef_
        slopes = centred.T @ dual
    return slopes, targets.mean(axis=0) - mean @ slopes


def _choose(
    left_out: Callable[[np.ndarray, np.ndarray], np.ndarray],
    targets: np.ndarray,
    groups: np.ndarray,
    alphas: np.ndarray,
    folds: int,
) -> np.ndarray:
    """(target,) the penalty that predicts best what is left out; ``left_out`` as ``_from_inputs``."""
    if len(alphas) == 1:
        return np.repeat(alphas, targets.shape[1])
    count = min(folds, len(np.unique(groups)))
    if count < 2:
        raise InputError("ridge regression chooses its penalty on participants left out, and here is only one")
    errors = np.zeros((len(alphas), targets.shape[1]))
    for kept, out in GroupKFold(count).split(targets, groups=groups):
        errors += ((left_out(kept, out) - targets[out]) ** 2).sum(axis=1)
    return alphas[errors.argmin(axis=0)]


def _from_inputs(
    inputs: np.ndarray, targets: np.ndarray, kept: np.ndarray, out: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """(penalty, sample, target) predictions for ``out`` by fits on ``kept``: one decomposition for all penalties."""
    repeated = np.tile(targets[kept], len(alphas))
    model = Ridge(alpha=np.repeat(alphas, targets.shape[1]), solver="svd").fit(inputs[kept], repeated)
    return model.predict(inputs[out]).reshape(len(out), len(alphas), -1).swapaxes(0, 1)


def _from_kernel(
    kernel: np.ndarray, targets: np.ndarray, kept: np.ndarray, out: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """The same from the inner products (sample, sample) of the inputs."""
    centre = KernelCenterer()
    fitted = centre.fit_transform(kernel[np.ix_(kept, kept)])
    others = centre.transform(kernel[np.ix_(out, kept)])
    mean = targets[kept].mean(axis=0)
    models = (KernelRidge(alpha=alpha, kernel="precomputed").fit(fitted, targets[kept] - mean) for alpha in alphas)
    return np.stack([model.predict(others) + mean for model in models])


@dataclass(frozen=True, eq=False)
class RidgeOnAverages:
    """Ridge regression on each feature's mean over the clip.

    ``slopes`` (feature, target) for features standardised by ``mean`` and ``scale`` (feature,), and ``intercepts``
    (target,), the training means.
    """

    slopes: np.ndarray
    intercepts: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, train: Sequences, penalties: Sequence[float] = PENALTIES) -> RidgeOnAverages:
        """Fit on the clips that have any step; a participant is never in two folds.

        A clip whose participant is unknown counts as a participant of its own.
        """
        averages = time_averages(train)[train.present]
        targets = train.targets[train.present].astype(np.float64)
        known = np.asarray(train.participants)[train.present]
        alone = np.array([f"clip {clip}" for clip in range(len(known))])
        participants = np.where(known == "", alone, known)
        mean, scale = averages.mean(axis=0), averages.std(axis=0)
        scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
        slopes, intercepts = fit_ridge((averages - mean) / scale, targets, participants, penalties)
        return cls(slopes, intercepts, mean, scale)

    def predict(self, sequences: Sequences) -> np.ndarray:
        """(clip, target); a clip without a step is predicted as the training mean."""
        standardised = (time_averages(sequences) - self.mean) / self.scale
        return np.nan_to_num(standardised) @ self.slopes + self.intercepts


def time_averages(sequences: Sequences) -> np.ndarray:
    """(clip, feature) float64: each feature's mean over the clip's steps; NaN where a clip has none."""
    averages = np.full((len(sequences), len(sequences.names)), np.nan)
    for clip in np.flatnonzero(sequences.present):
        rows = sequences.rows(*sequences.offsets[clip : clip + 2])
        averages[clip] = np.nanmean(rows, axis=0, dtype=np.float64)  # a row of NaN is a gap
    return averages
