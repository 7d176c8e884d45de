"""The 17 action units and their 34 columns, and the built-in estimator of them.

Histograms of oriented gradients (HOG) of the 112-pixel crop, coarse over the face and finer over eyes and mouth, and
the geometry of its five landmarks are the input of one linear (ridge) model per unit. OpenFace 2 estimates action units
in the same way, from its own 112-pixel aligned face and its own landmarks, with support vector machines instead of
ridge regression.
Source: the paper, section 3.2.1 (17 units, detection and intensity, 34 columns, intensity on 0..1); Baltrusaitis et
al., "OpenFace 2.0" (2018), for histograms and geometry into linear models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from emibook import InputError
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, load_state
from emibook.preprocess import CROP_SIZE

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
NAMES = tuple(f"AU{unit:02d}_{kind}" for kind in "rc" for unit in UNITS)
MAX_INTENSITY = 5.0  # intensities are scored on 0..5
PRESENT = 1.0  # an intensity from which a unit counts as present: level A of five
GEOMETRY = 20

MIRRORED = [1, 0, 2, 4, 3]  # the landmark of the other side


@dataclass(frozen=True)
class _Histograms:
    """HOG of some rows and columns of the crop, which have to be symmetric: cells of ``cell`` pixels, blocks of 2x2.

    The orientations are on the full circle, because a brow is dark above its lower edge, and a fold is not.
    """

    rows: slice
    columns: slice
    cell: int
    orientations: int

    @cached_property
    def descriptor(self) -> cv2.HOGDescriptor:
        size = self.columns.stop - self.columns.start, self.rows.stop - self.rows.start
        cell, block = (self.cell,) * 2, (2 * self.cell,) * 2
        # The numbers at the end are OpenCV's defaults.
        return cv2.HOGDescriptor(size, block, cell, cell, self.orientations, 1, -1, 0, 0.2, False, 64, True)

    def of(self, gray: np.ndarray) -> np.ndarray:
        """The mean of the histograms of (112, 112) uint8 and of its mirror image: the left half, which has it all."""
        both = [self.descriptor.compute(np.ascontiguousarray(side[self.rows, self.columns]))
                for side in (gray, gray[:, ::-1])]
        columns = (self.columns.stop - self.columns.start) // self.cell - 1
        blocks = (0.5 * (both[0] + both[1])).reshape(columns, -1)  # OpenCV orders blocks by column, then by row
        return blocks[: (columns + 1) // 2].ravel()


_HISTOGRAMS = (
    _Histograms(slice(0, CROP_SIZE), slice(0, CROP_SIZE), 8, 18),
    _Histograms(slice(18, 66), slice(16, 96), 4, 12),  # brows and eyes
    _Histograms(slice(62, 110), slice(16, 96), 4, 12),  # mouth and chin
)


def describe(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The models' input: (112, 112, 3) uint8 RGB and (5, 2) landmarks in crop pixels to (description,) float32.

    A face and its mirror image have the same description, because every unit here is of both sides. Of the landmarks it
    has the coordinates and their ten distances, in units of the crop's width.
    """
    points = np.asarray(landmarks, np.float32) / CROP_SIZE
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    geometry = 0.5 * (_geometry(points) + _geometry((points * [-1, 1] + [(CROP_SIZE - 1) / CROP_SIZE, 0])[MIRRORED]))
    return np.concatenate([*(histograms.of(gray) for histograms in _HISTOGRAMS), geometry]).astype(np.float32)


def _geometry(points: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(points), 1)
    return np.concatenate([points.ravel(), np.linalg.norm(points[first] - points[second], axis=1)])


DESCRIPTION = len(describe(np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8), np.zeros((5, 2))))


class ActionUnitEstimator:
    """34 columns per face: ``AU01_r``... intensity / 5 in 0..1, then ``AU01_c``... presence in 0..1."""

    name, version, width = "aus", "2", len(NAMES)
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
        """The features of one clip's faces.

        Args:
            images: aligned crops (face, 112, 112, 3), uint8 RGB.
            times: seconds of each face (face,).
            landmarks: five points in crop pixels (face, 5, 2).
        """
        values = np.zeros((len(images), self.width), np.float32)
        for row, image, points in zip(values, images, landmarks, strict=True):
            row[:] = np.clip(describe(image, points) @ self.slopes + self.offsets, 0, 1)
        return FeatureSequence(values, np.asarray(times, np.float64), NAMES, self.name, self.label, self.version)
