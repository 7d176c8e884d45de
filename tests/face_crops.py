"""Images of the size of face crops, without a face in them."""

from __future__ import annotations

import cv2
import numpy as np


def faces(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise: images (face, 112, 112, 3), times (face,), landmarks (face, 5, 2)."""
    rng = np.random.default_rng(count)
    landmarks = rng.uniform(20, 90, (count, 5, 2)).astype(np.float32)
    return rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8), np.arange(count) / 30, landmarks


def smooth_faces(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops with areas and edges, as a face has, each a little different from the one before."""
    images, times, landmarks = faces(count)
    coarse = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (112, 112, 3)).astype(np.float32), (0, 0), 6)
    coarse = (coarse - coarse.min()) / np.ptp(coarse) * 200
    for index, image in enumerate(images):
        image[:] = np.roll(coarse, index, axis=1) + image * 0.1
    return images, times, landmarks


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(face,) between rows of the same face."""
    rows, others = rows.astype(np.float64), others.astype(np.float64)
    return (rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)
