"""Faces in the pictures of a clip: found by MTCNN, one person followed, cropped upright by five landmarks.

Source: section 3.2.1 of the paper (MTCNN on every frame, the face cropped by the coordinates of its key points);
Zhang et al. (2016), arXiv 1604.02878, for the cascade; Umeyama (1991), doi 10.1109/34.88573, for the similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
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

CONFIDENT = 0.9
"""The followed person is chosen among faces at least this probable, where the clip has any; and somebody who was out
of sight is found again only in such a face, because what MTCNN is unsure of is often hair or a hand."""
SHARE = 0.3
"""At least this share of a face lies in the box that its person had last, grown by the time since."""
SIZE_RATIO = 1.6
"""A person's box is at most this much wider or narrower than it was last."""
GROWTH, LARGEST_GROWTH = 0.1, 2.0
"""How much wider and higher a person's box gets with each frame in which the person was not found, and at most."""
LASTING = 5
"""Frames in which somebody is seen at least: MTCNN's false alarms come and go faster."""
SMALLEST_PICTURE = 20
"""MTCNN looks for faces of 20 pixels and more, and fails on pictures that could not hold one."""
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


NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class Detector:
    """facenet-pytorch's MTCNN with its own weights and thresholds, on every face of a picture."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._cascade = MTCNN(keep_all=True, device=torch.device(device))

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The faces in each image, (height, width, 3) uint8 RGB; the images have one size."""
        if not len(images):
            return []
        if min(images[0].shape[:2]) < SMALLEST_PICTURE:
            return [NONE] * len(images)
        found = []
        size = BATCH[torch.device(self.device).type]
        for start in range(0, len(images), size):
            batch = np.stack(images[start:start + size])
            found += [_detections(*faces) for faces in zip(*self._cascade.detect(batch, landmarks=True), strict=True)]
        return found


def _detections(boxes, probabilities, landmarks) -> Detections:
    """One picture of MTCNN's answer: object arrays, and None where there is no face."""
    if boxes is None:
        return NONE
    faces = Detections(*(np.asarray(part.tolist(), dtype=np.float32) for part in (boxes, probabilities, landmarks)))
    kept = (faces.boxes[:, 2:] - faces.boxes[:, :2] > 1).all(axis=1)
    return Detections(faces.boxes[kept], faces.probabilities[kept], faces.landmarks[kept])


def follow(clip: Sequence[Detections]) -> list[int | None]:
    """Which face of each frame is the followed person's; None where that person is not seen.

    The person is the largest at first: in the first frame with a face of probability 0.9 or more, the largest such
    face, of those whose person is seen in five frames or more (of any, where there is none such). From
    frame to frame a face continues the person whose last box it overlaps most, those first who were seen in the
    frame before. A person who is not found leaves a box that grows with time, up to twice its size. Everybody is
    followed, so that a bystander's face is not taken for the followed person's.
    """
    people = _everybody(clip)
    for lasting, least in ((LASTING, CONFIDENT), (1, CONFIDENT), (1, 0.0)):
        entrances = []
        for person in people:
            shown = (frame for frame, face in person.items() if clip[frame].probabilities[face] >= least)
            first = next(shown, None)
            if first is not None and len(person) >= lasting:
                entrances.append((-first, _area(clip[first].boxes[person[first]]), person))
        if entrances:
            person = max(entrances, key=lambda entrance: entrance[:2])[2]
            return [person.get(frame) for frame in range(len(clip))]
    return [None] * len(clip)


def _everybody(clip: Sequence[Detections]) -> list[dict[int, int]]:
    """Each person of the clip as the face that is theirs by frame, in the order in which they first appear."""
    people: list[dict[int, int]] = []
    last = np.zeros((0, 4), np.float32)  # (person, x1 y1 x2 y2)
    unseen = np.zeros(0, int)  # (person,) frames since the last box
    for frame, faces in enumerate(clip):
        owner = _owners(last, unseen, faces)
        unseen += 1
        new = [face for face in range(len(faces)) if face not in owner]
        owner |= {face: len(people) + i for i, face in enumerate(new)}
        people += [{} for _ in new]
        last = np.concatenate([last, faces.boxes[new]])
        unseen = np.concatenate([unseen, np.zeros(len(new), int)])
        for face, person in owner.items():
            people[person][frame] = face
            last[person], unseen[person] = faces.boxes[face], 0
    return people


def _owners(last: np.ndarray, unseen: np.ndarray, faces: Detections) -> dict[int, int]:
    """Whose face each one is, for the faces that continue somebody: person by face."""
    growth = np.minimum(1 + GROWTH * unseen, LARGEST_GROWTH)[:, None]
    middle, half = (last[:, :2] + last[:, 2:]) / 2, (last[:, 2:] - last[:, :2]) / 2
    grown = np.concatenate([middle - growth * half, middle + growth * half], axis=1)
    size, before = _area(faces.boxes)[None], _area(last)[:, None]  # both broadcast to (person, face)
    share = _intersection(grown, faces.boxes) / size
    both = _intersection(last, faces.boxes)
    overlap = both / (size + before - both)
    ratio = np.sqrt(size / before)
    sure = (unseen == 0)[:, None] | (faces.probabilities >= CONFIDENT)
    may = (share >= SHARE) & (1 / SIZE_RATIO <= ratio) & (ratio <= SIZE_RATIO) & sure
    pairs = np.argwhere(may)
    best = np.lexsort((share[may], overlap[may], unseen[pairs[:, 0]] == 0))[::-1]
    owner: dict[int, int] = {}
    for person, face in pairs[best].tolist():
        if face not in owner and person not in owner.values():
            owner[face] = person
    return owner


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _intersection(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that each of ``some`` (n, 4) has in common with each of ``others`` (m, 4): (n, m)."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The rotation, one scale and shift that bring ``points`` (point, 2) nearest to ``onto`` in least squares.

    Returns a float64 matrix (2, 3); ``p @ matrix[:, :2].T + matrix[:, 2]`` maps points p. Never a mirror image.
    Source: Umeyama (1991), equations (38) to (42).
    """
    points, onto = np.asarray(points, np.float64), np.asarray(onto, np.float64)
    centre, target = points.mean(axis=0), onto.mean(axis=0)
    u, singular, v = np.linalg.svd((onto - target).T @ (points - centre))
    sign = np.array([1.0, np.sign(np.linalg.det(u @ v))])
    scale = (singular * sign).sum() / max(((points - centre) ** 2).sum(), 1e-12)
    turn = scale * (u * sign) @ v
    return np.column_stack([turn, target - turn @ centre])


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face with these landmarks (5, 2), turned, scaled and shifted onto ``TEMPLATE``: (112, 112, 3) uint8 RGB.

    A face that is larger than the crop is shrunk by areas first, so that nothing finer than a pixel of the crop
    is left to alias. What lies outside the picture continues its border.
    """
    matrix = similarity(landmarks, TEMPLATE)
    corners = np.array([[-1, -1], [CROP, -1], [-1, CROP], [CROP, CROP]], np.float64)
    reach = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - 2, 0, limit - 1)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 3, low + 1, limit)
    part = image[low[1]:high[1], low[0]:high[0]]
    matrix[:, 2] += matrix[:, :2] @ low
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    if scale < 1:
        size = np.maximum(np.rint(scale * (high - low)), 1).astype(int)
        part = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
        # The centre of pixel (0, 0) lies half a pixel from the edge, before and after.
        step = (high - low) / size
        matrix[:, 2] += matrix[:, :2] @ ((step - 1) / 2)
        matrix[:, :2] *= step
    return cv2.warpAffine(part, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
