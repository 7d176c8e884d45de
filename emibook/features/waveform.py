"""What all encoders of sound share: samples as floating-point numbers, and which sounds go into one batch.

A clip without sound has a sequence of no rows. A clip with any sound, however short, has at least one row: where it is
shorter than an encoder's receptive field, it is padded with zeros after (``wav2vec2``) or around it (``mfcc``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emibook.preprocess.media import SAMPLE_RATE

BATCH = {"cpu": 0, "cuda": 120 * SAMPLE_RATE}  # samples in one batch, padding included; 0: one clip at a time


def as_float(samples: np.ndarray | None) -> np.ndarray:
    """16-bit samples (sample,) as float32 in -1..1; an empty array where there is no sound."""
    return np.zeros(0, np.float32) if samples is None else samples.astype(np.float32) / 32768


def batches(lengths: Sequence[int], most: int, *, equal: bool = False) -> list[list[int]]:
    """Batches of items of similar length, as lists of their indices.

    The result depends on nothing but the lengths and their order.

    Args:
        lengths: length of each item.
        most: a batch padded to its longest item holds at most this, or is a single item.
        equal: put only items of equal length together.
    """
    grouped: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        length, batch = lengths[index], grouped[-1] if grouped else None
        if batch is None or length * (len(batch) + 1) > most or (equal and lengths[batch[0]] != length):
            grouped.append([index])
        else:
            batch.append(index)
    return grouped
