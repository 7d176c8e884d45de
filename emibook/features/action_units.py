"""Action units of an aligned face: 17 intensities and 17 presences, by the built-in estimator.

Histograms of oriented gradients of the 112-pixel crop, and the geometry of its five landmarks, go to one linear (ridge)
model a unit. OpenFace 2 estimates action units in the same way, from its own 112-pixel aligned face and its own
landmarks, with support vector machines in the place of ridge.
Source: the paper, section 3.2.1 (17 units, detection and intensity, 34 columns, intensity on 0..1); Baltrusaitis et
al., "OpenFace 2.0" (2018), for histograms and geometry into linear models.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from emibook import InputError
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, load_state

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
NAMES = tuple(f"AU{unit:02d}_{kind}" for kind in "rc" for unit in UNITS)
CROP = 112  # pixels
HIGHEST = 5.0  # intensities are scored on 0..5
PRESENT = 1.0  # an intensity from which a unit counts as present: level A of five
GEOMETRY = 20

# 14x14 cells of 8 pixels in overlapping blocks of 2x2, 18 orientations on the full circle (a brow is dark above its
# lower edge, a fold is not): 13 x 13 x 4 x 18 values. The numbers between are OpenCV's defaults.
_HISTOGRAMS = cv2.HOGDescriptor((CROP, CROP), (16, 16), (8, 8), (8, 8), 18, 1, -1, 0, 0.2, False, 64, True)
DESCRIPTION = _HISTOGRAMS.getDescriptorSize() + GEOMETRY


def describe(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(112, 112, 3) uint8 RGB and (5, 2) landmarks in crop pixels to the (description,) float32 the models read.

    The landmarks enter as their coordinates and their ten distances, in units of the crop's width.
    """
    points = np.asarray(landmarks, np.float32) / CROP
    first, second = np.triu_indices(len(points), 1)
    distances = np.linalg.norm(points[first] - points[second], axis=1)
    histograms = _HISTOGRAMS.compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).ravel()
    return np.concatenate([histograms, points.ravel(), distances]).astype(np.float32)


class ActionUnits:
    """34 columns a face: ``AU01_r``... intensity / 5 in 0..1, then ``AU01_c``... presence in 0..1.

    Called with ``images`` (face, 112, 112, 3) uint8 RGB, ``times`` (face,) seconds and ``landmarks`` (face, 5, 2) in
    crop pixels.
    """

    name, version, width = "aus", "1", len(NAMES)
    names = NAMES

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        path = weights.path(folder)
        state = load_state(path)
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        if shapes != {"slopes": (DESCRIPTION, self.width), "offsets": (self.width,)}:
            raise InputError(f"{path} holds {shapes}, no estimator of action units; delete it to fit it again")
        self.slopes, self.offsets = state["slopes"].numpy(), state["offsets"].numpy()
        self.label = weights.label

    def __call__(self, images: np.ndarray, times: np.ndarray, landmarks: np.ndarray) -> FeatureSequence:
        values = np.zeros((len(images), self.width), np.float32)
        for row, image, points in zip(values, images, landmarks, strict=True):
            row[:] = np.clip(describe(image, points) @ self.slopes + self.offsets, 0, 1)
        return FeatureSequence(values, np.asarray(times, np.float64), NAMES, self.name, self.label, self.version)
