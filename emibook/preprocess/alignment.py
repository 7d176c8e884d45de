"""Face alignment: bring a face into a crop of fixed size by its five landmarks.

Source: section 3.2.1 of the paper (the face is cropped by the coordinates of its key points); Umeyama (1991),
doi 10.1109/34.88573, for the similarity transformation.
"""

from __future__ import annotations

import cv2
import numpy as np

CROP_SIZE = 112
"""Height and width of an aligned face in pixels."""
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five landmarks in their order; left and right are the viewer's."""
TEMPLATE = np.array([[40.0, 45.0], [72.0, 45.0], [56.0, 63.0], [43.0, 81.5], [69.0, 81.5]], dtype=np.float32)
"""Target positions of the five landmarks in a crop, pixels (landmark, xy), with room for raised brows and an open
mouth."""


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, single scale and shift that bring points nearest to their targets in least squares.

    Never a reflection. In the plane, and without reflection, Umeyama's least squares are those of one complex factor.

    Args:
        points: (point, 2) x and y.
        targets: (point, 2) where they should lie.

    Returns:
        float64 matrix (2, 3); ``p @ matrix[:, :2].T + matrix[:, 2]`` maps points p.

    Source: Umeyama (1991), equations (38) to (42).
    """
    source, target = (np.asarray(coordinates, np.float64) @ (1, 1j) for coordinates in (points, targets))
    source_mean, target_mean = source.mean(), target.mean()
    centred = source - source_mean
    factor = (centred.conj() @ target) / max((centred.conj() @ centred).real, 1e-12)
    shift = target_mean - factor * source_mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def upright_box(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """As ``similarity``, without a rotation: it maps the upright box around the points onto that of the targets."""
    (low, high), (target_low, target_high) = (
        (coordinates.min(axis=0), coordinates.max(axis=0))
        for coordinates in (np.asarray(points, np.float64), np.asarray(targets, np.float64))
    )
    scale = (target_high - target_low).max() / max((high - low).max(), 1e-12)
    shift = (target_low + target_high - scale * (low + high)) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


CROPS = {"warp": similarity, "box": upright_box}
"""How a face is brought into its crop by its landmarks: ``warp`` rotates it upright, ``box`` only shifts and scales.

The paper has "the coordinates of facial key points to crop the facial image" (section 3.2.1), which fits both.
"""


def align(image: np.ndarray, landmarks: np.ndarray, crop: str = "warp") -> np.ndarray:
    """The face with these landmarks, brought onto ``TEMPLATE``.

    Against aliasing, a face larger than the crop is halved while it is at least twice as large, then resampled at twice
    the size of the crop and halved once more. Outside the image, its border is repeated.

    Args:
        image: (height, width, 3) uint8 RGB.
        landmarks: (5, 2) in pixels of ``image``.
        crop: a key of ``CROPS``.

    Returns:
        (112, 112, 3) uint8 RGB.
    """
    matrix = CROPS[crop](landmarks, TEMPLATE)
    corners = np.array([[-1, -1], [CROP_SIZE, -1], [-1, CROP_SIZE], [CROP_SIZE, CROP_SIZE]], np.float64)
    reach = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - 2, 0, limit - 1)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 3, low + 1, limit)
    part = image[low[1]:high[1], low[0]:high[0]]
    matrix[:, 2] += matrix[:, :2] @ low
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    # The centre of pixel (0, 0) lies half a pixel from the edge, before and after a change of scale.
    while scale <= 0.5:
        part, scale = halve(part), 2 * scale
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)
        matrix[:, :2] *= 2
    finer = 2 if scale < 1 else 1
    matrix *= finer
    matrix[:, 2] += (finer - 1) / 2
    size = (finer * CROP_SIZE, finer * CROP_SIZE)
    face = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return halve(face) if finer == 2 else face


def halve(image: np.ndarray) -> np.ndarray:
    """The image at half its size, each pixel the mean of 2x2; an odd last row or column is left out."""
    even = image[:image.shape[0] // 2 * 2, :image.shape[1] // 2 * 2]
    return cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
