"""Ridge regression on time averages, its penalty tuned by cross-validation over training participants."""

from __future__ import annotations

import numpy as np

from emibook.models.ridge import RidgeOnAverages
from emibook.sequences.packed import Sequences

PENALTIES = np.geomspace(1, 1e6, 13)
"""In clips: the effect of a penalty equals that of as many clips without signal."""


def ridge(training: Sequences, *others: Sequences) -> list[np.ndarray]:
    """(clip, target) predictions for each of ``others``, by ridge regression on time averages of ``training``.

    Each target has its own penalty: the one that predicts held-out training participants best. A clip without a step is
    predicted as the training mean.
    """
    model = RidgeOnAverages.fit(training, PENALTIES / len(training.names))
    return [model.predict(clips) for clips in others]
