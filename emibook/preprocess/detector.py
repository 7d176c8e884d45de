"""Faces in a picture: found by MTCNN's cascade, found again near where they were, cropped upright by five landmarks.

Source: section 3.2.1 of the paper (MTCNN on every frame, the face cropped by the coordinates of its key points);
Zhang et al. (2016), arXiv 1604.02878, for the cascade; Umeyama (1991), doi 10.1109/34.88573, for the similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN

CROP = 112
"""Height and width of an aligned face in pixels."""
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five points in their order; left and right are the viewer's."""
TEMPLATE = np.array([[40.0, 45.0], [72.0, 45.0], [56.0, 63.0], [43.0, 81.5], [69.0, 81.5]], dtype=np.float32)
"""Where the five landmarks land in a crop, pixels (landmark, xy). There is room for raised brows and a dropped jaw."""

SMALLEST = 20
"""MTCNN looks for faces of 20 pixels and more, and fails on pictures that could not hold one."""
SAME = 0.7
"""Two boxes of which one has more than this share in the other are one face, as in the cascade."""
FINE = 96
"""Pixels across a face that are enough for the cascade's later networks, which see it in 24 and in 48."""
PROPOSALS = (
    (0, 0, 0, 0), (-0.1, -0.1, 0.1, 0.1), (0.1, 0.1, -0.1, -0.1),
    (-0.12, 0, -0.12, 0), (0.12, 0, 0.12, 0), (0, -0.12, 0, -0.12), (0, 0.12, 0, 0.12),
)
"""By how much of a box's side its x1, y1, x2, y2 are moved, to look for a face around it."""
BATCH = {"cpu": 1, "cuda": 16}
"""Pictures given to MTCNN at once: more than one is no faster on a processor's core."""


@dataclass(frozen=True)
class Detections:
    """The faces of one picture, in its pixels: float32 ``boxes`` (face, 4) as x1 y1 x2 y2, ``probabilities`` (face,)
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
        """The faces that ``chosen``, a mask or places, chooses."""
        return Detections(self.boxes[chosen], self.probabilities[chosen], self.landmarks[chosen])


NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class Detector:
    """facenet-pytorch's MTCNN with its own weights and thresholds, on every face of a picture.

    On a GPU its networks compute in float16, which moves a box less than another size of the picture does.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.batch = device, BATCH[torch.device(device).type]
        self._cascade = MTCNN(keep_all=True, device=torch.device(device))
        for network in (self._cascade.pnet, self._cascade.rnet, self._cascade.onet):
            network.to(memory_format=torch.channels_last)  # its pooling takes half the time so, on a processor
            if self._cascade.device.type == "cuda":
                in_half(network)

    def detect(self, images: Sequence[np.ndarray], *, scale: float = 1.0) -> list[Detections]:
        """The faces in each image, (height, width, 3) uint8 RGB, by the whole cascade; the images have one size.

        ``scale``: the cascade sees the images at that scale; what it finds is in pixels of the images all the same.
        """
        if not len(images) or min(images[0].shape[:2]) < SMALLEST:
            return [NONE] * len(images)
        whole = np.array(images[0].shape[1::-1])
        if scale != 1:
            smooth, size = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR, np.rint(scale * whole).astype(int)
            images = [cv2.resize(image, size.tolist(), interpolation=smooth) for image in images]
            whole = whole / size
        found = []
        for start in range(0, len(images), self.batch):
            batch = np.stack(images[start:start + self.batch])
            found += [_detections(*faces) for faces in zip(*self._cascade.detect(batch, landmarks=True), strict=True)]
        if scale == 1:
            return found
        return [Detections((faces.boxes * np.tile(whole, 2)).astype(np.float32), faces.probabilities,
                           (faces.landmarks * whole).astype(np.float32)) for faces in found]

    def search(self, image: np.ndarray, smallest: float, within: np.ndarray | None = None) -> Detections:
        """The faces at least ``smallest`` pixels wide, in all of the image or in the box ``within`` (x1 y1 x2 y2).

        The cascade sees the picture shrunk until such a face is as small as it can find; what it finds there is then
        refined on the picture itself.
        """
        size = np.array(image.shape[1::-1])
        low, high = np.zeros(2, int), size
        if within is not None:
            low = np.clip(np.floor(within[:2]), 0, size - 1).astype(int)
            high = np.clip(np.ceil(within[2:]), low + 1, size).astype(int)
        part = image[low[1]:high[1], low[0]:high[0]]
        scale = max(1.0, smallest / SMALLEST)
        if scale > 1:
            small = np.maximum(np.rint((high - low) / scale), 1).astype(int)
            part = cv2.resize(part, small.tolist(), interpolation=cv2.INTER_AREA)
        found = self.detect([part])[0]
        if scale == 1 and within is None:
            return found
        step = (high - low) / part.shape[1::-1]
        return self.refine(image, found.boxes * np.tile(step, 2) + np.tile(low, 2))

    @torch.inference_mode()
    def refine(self, image: np.ndarray, boxes: np.ndarray, *, around: bool = False) -> Detections:
        """The faces near ``boxes`` (face, 4), by the cascade's second and third network and with its thresholds.

        A box may be off by a quarter of its width or so. The third network's answer depends on how the box lies, and
        the cascade asks it about several that its first network proposes: ``around`` tries several about each box.
        """
        squares = _squares(np.asarray(boxes, np.float64).reshape(-1, 4))
        if around:
            side = squares[:, 2:3] - squares[:, :1]
            squares = np.concatenate([squares + side * np.array(moved) for moved in PROPOSALS])
        if not len(squares):
            return NONE
        image, scale, low = _shrunk_about(image, squares)
        squares = np.concatenate([squares[:, :2] - low - 1 + scale, squares[:, 2:] - low], axis=1) / scale
        offset = 0.5 * (1 - 1 / scale)  # the cascade cuts whole pixels off; of larger ones that would be more
        shifts, sure = (out.numpy(force=True) for out in self._cascade.rnet(self._patches(image, squares, 24, offset)))
        sure = sure[:, 1]
        kept = _without_repeats(squares, sure, self._cascade.thresholds[1], _overlaps)
        squares = _squares(_shifted(squares, shifts))[kept]
        if not len(squares):
            return NONE
        patches = self._patches(image, squares, 48, offset)
        shifts, points, sure = (out.numpy(force=True) for out in self._cascade.onet(patches))
        sure = sure[:, 1]
        across = squares[:, 2:] - squares[:, :2] + 1
        landmarks = across[:, None] * points.reshape(-1, 2, 5).transpose(0, 2, 1) + squares[:, None, :2] - 1
        boxes = _shifted(squares, shifts)
        kept = _without_repeats(boxes, sure, self._cascade.thresholds[2], shares)
        # Back to the picture. A box counts its first pixel from one, as the cascade does.
        boxes = np.concatenate([(boxes[:, :2] - 1) * scale + 1 + low, boxes[:, 2:] * scale + low], axis=1)
        landmarks = landmarks * scale + low
        return Detections(boxes[kept].astype(np.float32), sure[kept], landmarks[kept].astype(np.float32))

    def _patches(self, image: np.ndarray, squares: np.ndarray, size: int, offset: float = 0.0) -> torch.Tensor:
        """What lies in each square, cut as the cascade cuts: (face, 3, size, size) in -1..1.

        The cascade leaves off what part of a pixel a corner has; ``offset`` is added before.
        """
        limit = np.tile(image.shape[1::-1], 2)
        patches = np.empty((len(squares), size, size, 3), np.uint8)
        corners = np.clip(np.trunc(squares + offset), 1, limit).astype(int)
        for patch, (x1, y1, x2, y2) in zip(patches, corners.tolist(), strict=True):
            part = image[min(y1, y2) - 1:y2, min(x1, x2) - 1:x2]
            if min(part.shape[:2]) >= 2 * size:
                part = _halved(part)  # averages of whole pixels take a tenth of the time
            cv2.resize(part, (size, size), patch, interpolation=cv2.INTER_AREA)
        pixels = (patches.astype(np.float32) - np.float32(127.5)) / np.float32(128)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)


def in_half(network: torch.nn.Module) -> None:
    """Let a network of the cascade compute in float16. What it answers is float32: a box's area is beyond float16."""
    whole = network.forward

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(pixels.device.type, torch.float16):
            return tuple(each.float() for each in whole(pixels))

    network.forward = forward


def _shrunk_about(image: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    """The part of an image that ``squares`` (face, 4) may move in, halved as often as the networks do not mind.

    Returns it with what a pixel of it is in pixels of the image, and where it begins in them, (x, y). Both networks
    then take their small patches from one small part. The image itself where the faces are small, or far apart.
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
        part = _halved(part)
    return part, scale, low


def _halved(image: np.ndarray) -> np.ndarray:
    """The image with each 2x2 pixels averaged, a last odd row or column left out."""
    even = image[:image.shape[0] // 2 * 2, :image.shape[1] // 2 * 2]
    return cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _detections(boxes, probabilities, landmarks) -> Detections:
    """One picture of MTCNN's answer: object arrays, and None where there is no face."""
    if boxes is None:
        return NONE
    faces = Detections(*(np.asarray(part.tolist(), dtype=np.float32) for part in (boxes, probabilities, landmarks)))
    kept = (faces.boxes[:, 2:] - faces.boxes[:, :2] > 1).all(axis=1)
    return Detections(faces.boxes[kept], faces.probabilities[kept], faces.landmarks[kept])


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes (face, 4) widened to squares about the same middle."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _shifted(squares: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Squares (face, 4) with their sides moved by ``shifts`` (face, 4), in widths and heights."""
    return squares + shifts * np.tile(squares[:, 2:] - squares[:, :2] + 1, 2)


def _without_repeats(
    boxes: np.ndarray, probabilities: np.ndarray, least: float, measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> list[int]:
    """Places of the boxes more probable than ``least``, of those that are one face the most probable, in order."""
    kept: list[int] = []
    for face in np.argsort(-probabilities, kind="stable").tolist():
        if probabilities[face] <= least or (boxes[face, 2:] - boxes[face, :2] <= 1).any():
            continue
        if not kept or measure(boxes[face], boxes[kept]).max() <= SAME:
            kept.append(face)
    return sorted(kept)


def area(boxes: np.ndarray) -> np.ndarray:
    """The area of boxes (..., 4), in square pixels: (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that each of ``some`` (n, 4) has in common with each of ``others`` (m, 4): (n, m)."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What ``box`` (4,) has in common with each of ``others`` (n, 4), of what the two cover."""
    both = intersection(box[None], others)[0]
    return both / (area(box) + area(others) - both)


def shares(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What ``box`` (4,) has in common with each of ``others`` (n, 4), of the smaller of the two areas."""
    return intersection(box[None], others)[0] / np.minimum(area(box), area(others))


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The rotation, one scale and shift that bring ``points`` (point, 2) nearest to ``onto`` in least squares.

    Returns a float64 matrix (2, 3); ``p @ matrix[:, :2].T + matrix[:, 2]`` maps points p. Never a mirror image. In the
    plane, and without mirroring, Umeyama's least squares are those of one complex factor.
    Source: Umeyama (1991), equations (38) to (42).
    """
    here, there = (np.asarray(each, np.float64) @ (1, 1j) for each in (points, onto))
    middle, target = here.mean(), there.mean()
    here = here - middle
    factor = (here.conj() @ there) / max((here.conj() @ here).real, 1e-12)
    shift = target - factor * middle
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def boxed(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """As ``similarity``, without a rotation: the points' upright box comes where that of ``onto`` lies, as large."""
    (low, high), (target_low, target_high) = ((each.min(axis=0), each.max(axis=0)) for each in
                                              (np.asarray(points, np.float64), np.asarray(onto, np.float64)))
    scale = (target_high - target_low).max() / max((high - low).max(), 1e-12)
    shift = (target_low + target_high - scale * (low + high)) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


CROPS = {"warp": similarity, "box": boxed}
"""How a face is brought into its crop by its landmarks: turned upright, or as an upright box about them.

The paper has "the coordinates of facial key points to crop the facial image" (section 3.2.1), which both are.
"""


def align(image: np.ndarray, landmarks: np.ndarray, crop: str = "warp") -> np.ndarray:
    """The face with these landmarks (5, 2), brought onto ``TEMPLATE`` by one of ``CROPS``: (112, 112, 3) uint8 RGB.

    A face that is larger than the crop is halved, as often as it is twice as large, then drawn at twice the crop's size
    and halved once more, so that little that is finer than a pixel of the crop is left to alias. What lies outside the
    picture continues its border.
    """
    matrix = CROPS[crop](landmarks, TEMPLATE)
    corners = np.array([[-1, -1], [CROP, -1], [-1, CROP], [CROP, CROP]], np.float64)
    reach = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - 2, 0, limit - 1)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 3, low + 1, limit)
    part = image[low[1]:high[1], low[0]:high[0]]
    matrix[:, 2] += matrix[:, :2] @ low
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    # The centre of pixel (0, 0) lies half a pixel from the edge, before and after a change of scale.
    while scale <= 0.5:
        part, scale = _halved(part), 2 * scale
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)
        matrix[:, :2] *= 2
    finer = 2 if scale < 1 else 1
    matrix *= finer
    matrix[:, 2] += (finer - 1) / 2
    size = (finer * CROP, finer * CROP)
    made = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _halved(made) if finer == 2 else made
