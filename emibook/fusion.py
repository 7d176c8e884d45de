"""Late fusion: branches trained apart, their predictions averaged.

Source: paper section 3.5, equation (5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from emibook import InputError


def late_fusion(*predictions: ArrayLike, present: Sequence[ArrayLike] | None = None) -> np.ndarray:
    """The average of the branches' predictions, clip by clip.

    Args:
        predictions: each branch's predictions, (clip, emotion), of the same clips in the same order. A row of NaN says
            that the branch has nothing to say of the clip.
        present: for each branch (clip,), true where the clip has something in its modality; what the branch says of
            the other clips (the training mean) is then left out.

    Returns:
        (clip, emotion) float64. A clip that one branch lacks is carried by the others. A clip that all of them lack
        is the average of what they say of it nevertheless: the training mean, or NaN where they say NaN.

    Raises:
        InputError: no branch, or branches of different shapes.

    Example:
        >>> late_fusion([[0.2, 0.4]], [[0.4, 0.0]])
        array([[0.3, 0.2]])
    """
    if not predictions:
        raise InputError("late fusion needs at least one branch's predictions")
    branches = [np.asarray(prediction, np.float64) for prediction in predictions]
    shapes = {branch.shape for branch in branches}
    if len(shapes) > 1 or branches[0].ndim != 2:
        raise InputError(f"branches of shapes {', '.join(map(str, shapes))}; all must be (clip, emotion) of one shape")
    stacked = np.stack(branches)  # (branch, clip, emotion)
    said = ~np.isnan(stacked).all(axis=2)  # (branch, clip)
    if present is not None:
        there = np.asarray([np.asarray(mask, bool) for mask in present])
        if there.shape != said.shape:
            raise InputError(f"present has shape {there.shape}, expected (branch, clip) {said.shape}")
        there &= said
        said = np.where(there.any(axis=0), there, said)
    weights = said / np.maximum(said.sum(axis=0), 1)  # (branch, clip), each clip's sum to one
    fused = (np.where(said[..., None], stacked, 0.0) * weights[..., None]).sum(axis=0)
    return np.where(said.any(axis=0)[:, None], fused, np.nan)
