"""Face detection: MTCNN's cascade on a whole image, or its last two networks on boxes near known faces.

Source: section 3.2.1 of the paper (MTCNN on every frame); Zhang et al. (2016), arXiv 1604.02878, for the cascade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN

from emibook.preprocess.alignment import halve

MIN_FACE = 20
"""Width in pixels of the smallest face that MTCNN detects; it fails on images smaller than that."""
MAX_OVERLAP = 0.7
"""Boxes that overlap by more than this, of the smaller one's area, are one face, as in the cascade."""
FINE = 96
"""Pixels across a face that are enough for the cascade's later networks, whose input is 24 and 48 pixels wide."""
PROPOSALS = (
    (0, 0, 0, 0), (-0.1, -0.1, 0.1, 0.1), (0.1, 0.1, -0.1, -0.1),
    (-0.12, 0, -0.12, 0), (0.12, 0, 0.12, 0), (0, -0.12, 0, -0.12), (0, 0.12, 0, 0.12),
)
"""Boxes tried around a box: the shifts of its x1, y1, x2, y2, in sides of the box."""
BATCH = {"cpu": 1, "cuda": 16}
"""Images per batch of MTCNN: on one core of a processor, more than one is no faster."""


@dataclass(frozen=True)
class Detections:
    """The faces in one image, in its pixels: float32 ``boxes`` (face, 4) as x1 y1 x2 y2, ``probabilities`` (face,)
    and ``landmarks`` (face, 5, 2) as x y, in the order of ``LANDMARKS``."""

    boxes: np.ndarray
    probabilities: np.ndarray
    landmarks: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.boxes)
        shapes = [self.boxes.shape, self.probabilities.shape, self.landmarks.shape]
        if shapes != [(count, 4), (count,), (count, 5, 2)]:
            raise ValueError(f"detections of {count} faces have the shapes {shapes}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: np.ndarray) -> Detections:
        """The faces that ``chosen``, a mask or indices, selects."""
        return Detections(self.boxes[chosen], self.probabilities[chosen], self.landmarks[chosen])


NO_FACES = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class Detector:
    """facenet-pytorch's MTCNN with its own weights and thresholds, for all faces of an image.

    On a GPU its networks compute in float16, which moves a box less than a change of the image's size does.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.batch = device, BATCH[torch.device(device).type]
        self._cascade = MTCNN(keep_all=True, device=torch.device(device))
        for network in (self._cascade.pnet, self._cascade.rnet, self._cascade.onet):
            network.to(memory_format=torch.channels_last)  # halves the time of its pooling on a processor
            if self._cascade.device.type == "cuda":
                to_half_precision(network)

    def detect(self, images: Sequence[np.ndarray], *, scale: float = 1.0) -> list[Detections]:
        """The faces in each image, by the whole cascade.

        Args:
            images: (height, width, 3) uint8 RGB, all of one size.
            scale: the cascade sees the images at this scale; its detections are in pixels of ``images`` all the same.
        """
        if not len(images) or min(images[0].shape[:2]) < MIN_FACE:
            return [NO_FACES] * len(images)
        whole = np.array(images[0].shape[1::-1])
        if scale != 1:
            interpolation, size = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR, np.rint(scale * whole).astype(int)
            images = [cv2.resize(image, size.tolist(), interpolation=interpolation) for image in images]
            whole = whole / size
        detections = []
        for start in range(0, len(images), self.batch):
            batch = np.stack(images[start:start + self.batch])
            output = self._cascade.detect(batch, landmarks=True)
            detections += [_as_detections(*faces) for faces in zip(*output, strict=True)]
        if scale == 1:
            return detections
        return [Detections((faces.boxes * np.tile(whole, 2)).astype(np.float32), faces.probabilities,
                           (faces.landmarks * whole).astype(np.float32)) for faces in detections]

    def search(self, image: np.ndarray, smallest: float, within: np.ndarray | None = None) -> Detections:
        """The faces at least ``smallest`` pixels wide, in all of the image or in the box ``within`` (x1 y1 x2 y2).

        The cascade sees the image downsampled until such a face is as small as it can detect. Its detections are then
        refined on the image itself.
        """
        size = np.array(image.shape[1::-1])
        low, high = np.zeros(2, int), size
        if within is not None:
            low = np.clip(np.floor(within[:2]), 0, size - 1).astype(int)
            high = np.clip(np.ceil(within[2:]), low + 1, size).astype(int)
        part = image[low[1]:high[1], low[0]:high[0]]
        scale = max(1.0, smallest / MIN_FACE)
        if scale > 1:
            small = np.maximum(np.rint((high - low) / scale), 1).astype(int)
            part = cv2.resize(part, small.tolist(), interpolation=cv2.INTER_AREA)
        faces = self.detect([part])[0]
        if scale == 1 and within is None:
            return faces
        step = (high - low) / part.shape[1::-1]
        return self.refine(image, faces.boxes * np.tile(step, 2) + np.tile(low, 2))

    @torch.inference_mode()
    def refine(self, image: np.ndarray, boxes: np.ndarray, *, around: bool = False) -> Detections:
        """The faces near ``boxes`` (face, 4), by the cascade's second and third network and with its thresholds.

        A box may be off by about a quarter of its width. The third network's output depends on where the box lies, and
        in the cascade it sees several proposals of the first network: ``around`` tries several around each box.
        """
        squares = _squares(np.asarray(boxes, np.float64).reshape(-1, 4))
        if around:
            side = squares[:, 2:3] - squares[:, :1]
            squares = np.concatenate([squares + side * np.array(shift) for shift in PROPOSALS])
        if not len(squares):
            return NO_FACES
        image, scale, low = _downsampled_around(image, squares)
        squares = np.concatenate([squares[:, :2] - low - 1 + scale, squares[:, 2:] - low], axis=1) / scale
        offset = 0.5 * (1 - 1 / scale)  # the cascade truncates to whole pixels, and these are larger
        patches = self._patches(image, squares, 24, offset)
        shifts, scores = (output.numpy(force=True) for output in self._cascade.rnet(patches))
        kept = _suppress_duplicates(squares, scores[:, 1], self._cascade.thresholds[1], _intersection_over_union)
        squares = _squares(_shifted(squares, shifts))[kept]
        if not len(squares):
            return NO_FACES
        patches = self._patches(image, squares, 48, offset)
        shifts, points, scores = (output.numpy(force=True) for output in self._cascade.onet(patches))
        probabilities = scores[:, 1]
        across = squares[:, 2:] - squares[:, :2] + 1
        landmarks = across[:, None] * points.reshape(-1, 2, 5).transpose(0, 2, 1) + squares[:, None, :2] - 1
        boxes = _shifted(squares, shifts)
        kept = _suppress_duplicates(boxes, probabilities, self._cascade.thresholds[2], overlap)
        # Back to the whole image. A box counts its first pixel from one, as the cascade does.
        boxes = np.concatenate([(boxes[:, :2] - 1) * scale + 1 + low, boxes[:, 2:] * scale + low], axis=1)
        landmarks = landmarks * scale + low
        return Detections(boxes[kept].astype(np.float32), probabilities[kept], landmarks[kept].astype(np.float32))

    def _patches(self, image: np.ndarray, squares: np.ndarray, size: int, offset: float = 0.0) -> torch.Tensor:
        """The image in each square, cropped as in the cascade: (face, 3, size, size) in -1..1.

        The cascade truncates corners to whole pixels; ``offset`` is added before.
        """
        limit = np.tile(image.shape[1::-1], 2)
        patches = np.empty((len(squares), size, size, 3), np.uint8)
        corners = np.clip(np.trunc(squares + offset), 1, limit).astype(int)
        for patch, (x1, y1, x2, y2) in zip(patches, corners.tolist(), strict=True):
            part = image[min(y1, y2) - 1:y2, min(x1, x2) - 1:x2]
            if min(part.shape[:2]) >= 2 * size:
                part = halve(part)  # averaging whole pixels takes a tenth of the time
            cv2.resize(part, (size, size), patch, interpolation=cv2.INTER_AREA)
        pixels = (patches.astype(np.float32) - np.float32(127.5)) / np.float32(128)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)


def to_half_precision(network: torch.nn.Module) -> None:
    """Let a network of the cascade compute in float16, with float32 output: the area of a box overflows float16."""
    forward_full = network.forward

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(pixels.device.type, torch.float16):
            return tuple(output.float() for output in forward_full(pixels))

    network.forward = forward


def _downsampled_around(image: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    """The part of an image that ``squares`` (face, 4) may move in, halved as far as the networks' input allows.

    Both networks then take their small patches from one small part. Where the faces are small or far apart, it is the
    image itself.

    Returns:
        The part, the size of its pixels in pixels of the image, and its corner in the image, (x, y).
    """
    sides = squares[:, 2:] - squares[:, :2]
    scale = 1
    while (sides / scale).min() >= 2 * FINE:
        scale *= 2
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor((squares[:, :2] - sides / 2).min(axis=0)).astype(int), 0, limit - 1)
    high = np.clip(np.ceil((squares[:, 2:] + sides / 2).max(axis=0)).astype(int), low + 1, limit)
    if scale == 1 or np.prod(high - low) > 2 * np.prod(2 * sides.max(axis=0)):
        return image, 1, np.zeros(2, int)
    part = image[low[1]:high[1], low[0]:high[0]]
    for _ in range(scale.bit_length() - 1):
        part = halve(part)
    return part, scale, low


def _as_detections(boxes, probabilities, landmarks) -> Detections:
    """MTCNN's output for one image, which is object arrays, or None without a face."""
    if boxes is None:
        return NO_FACES
    faces = Detections(*(np.asarray(part.tolist(), dtype=np.float32) for part in (boxes, probabilities, landmarks)))
    kept = (faces.boxes[:, 2:] - faces.boxes[:, :2] > 1).all(axis=1)
    return Detections(faces.boxes[kept], faces.probabilities[kept], faces.landmarks[kept])


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes (face, 4) widened to squares around the same centre."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _shifted(squares: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Squares (face, 4) with their sides moved by ``shifts`` (face, 4), in widths and heights."""
    return squares + shifts * np.tile(squares[:, 2:] - squares[:, :2] + 1, 2)


def _suppress_duplicates(
    boxes: np.ndarray, probabilities: np.ndarray, threshold: float,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[int]:
    """Non-maximum suppression: the sorted indices of boxes above the threshold, one box per face."""
    kept: list[int] = []
    for face in np.argsort(-probabilities, kind="stable").tolist():
        if probabilities[face] <= threshold or (boxes[face, 2:] - boxes[face, :2] <= 1).any():
            continue
        if not kept or measure(boxes[face], boxes[kept]).max() <= MAX_OVERLAP:
            kept.append(face)
    return sorted(kept)


def area(boxes: np.ndarray) -> np.ndarray:
    """The area of boxes (..., 4), in square pixels: (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area of the intersection of each of ``boxes`` (n, 4) with each of ``others`` (m, 4): (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def _intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersection of ``box`` (4,) with each of ``others`` (n, 4), as a share of their union: (n,)."""
    both = intersection(box[None], others)[0]
    return both / (area(box) + area(others) - both)


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersection of ``box`` (4,) with each of ``others`` (n, 4), as a share of the smaller area: (n,)."""
    return intersection(box[None], others)[0] / np.minimum(area(box), area(others))
