"""The faces in every picture of a clip, found again from picture to picture instead of searched for.

    first picture, a cut, every INTERVAL pictures   the cascade searches the picture, shrunk
    every picture                                   the last boxes are refined by the cascade's last two networks
    a face is doubtful or gone                      they try boxes around the last one
    nobody is there                                 every STRIDE pictures a search; who is found is traced back

Source: section 3.2.1 of the paper, which runs the whole cascade on every picture; ``exhaustive`` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from emibook.preprocess.faces import NONE, SAME, Detections, Detector, shares

SHARE_SEARCHED = 9
"""A search looks for faces down to this share of the picture's shorter side."""
INTERVAL = 90
"""Pictures after which the picture is searched though its faces are followed, for who came in."""
SOON = 6
"""The same while somebody is gone."""
STRIDE = 3
"""Of a stretch without a face every third picture is searched."""
THOROUGH = 10
"""Every tenth of those searches goes down to the smallest faces that the cascade finds."""
SURE = 0.97
"""A refined face of this probability needs no word from the cascade's first network."""
STILL = 0.1
"""A face that moves less than this share of its width is expected where it was."""
PATIENCE = 15
"""For so many pictures somebody who is gone is searched for where they were."""
CUT = 28.0
"""Grey values (of 255) by which pictures differ, on average over a coarse grid, at a cut."""


def find(
    images: Iterable[np.ndarray], detector: Detector, *, exhaustive: bool = False
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Each image of a clip, (height, width, 3) uint8 RGB, with its faces, in order; at most ``STRIDE`` images are held.

    An image that is the same object as the one before is looked at once. ``exhaustive`` runs the whole cascade on
    every image and shrinks none.
    """
    if exhaustive:
        last, faces = None, NONE
        for image in images:
            if image is not last:
                faces = detector.detect([image])[0]
            last = image
            yield image, faces
        return
    search = _Search(detector)
    for image in images:
        yield from search.next(image)
    yield from search.rest()


class _Search:
    """What ``find`` remembers of a clip between its images."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.last: np.ndarray | None = None
        self.faces = NONE  # of the last image
        self.motion = np.zeros((0, 4), np.float32)  # by how much each face's box moved to the last image
        # Who is gone: the last box, where it was expected to be next, and for how many images.
        self.gone: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.waiting: list[np.ndarray] = []  # images without a face so far, not searched yet
        self.since = 0  # images since the picture was searched
        self.searches = 0  # in a row that found nobody

    def next(self, image: np.ndarray) -> Iterator[tuple[np.ndarray, Detections]]:
        """What is known when ``image`` has come: itself, or those that waited, or nothing yet."""
        if image is self.last:
            if self.waiting:
                self.waiting.append(image)
            else:
                yield image, self.faces
            return
        fresh = self.last is None or _difference(image, self.last) > CUT
        if fresh:
            yield from self.rest()
            self.gone, self.faces, self.motion, self.searches = [], NONE, self.motion[:0], 0
        self.last = image
        self.since += 1
        if not fresh:
            self.faces = self._followed(image)
        if fresh or len(self.faces) and self.since >= (SOON if self.gone else INTERVAL):
            self.faces = _joined(self.faces, self._searched(image))
            self.motion = _grown(self.motion, len(self.faces))
        if len(self.faces) or fresh:
            yield from self._traced_back()
            yield image, self.faces
            return
        self.waiting.append(image)
        if len(self.waiting) >= STRIDE:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[np.ndarray, Detections]]:
        """The images that waited: the newest is searched, and who is found is traced back."""
        if not self.waiting:
            return
        image = self.waiting.pop()
        self.faces = self._searched(image)
        self.motion = _grown(self.motion[:0], len(self.faces))
        yield from self._traced_back()
        yield image, self.faces

    def _followed(self, image: np.ndarray) -> Detections:
        """The faces of the last image in this one, and those that had gone and are back."""
        last, expected = self.faces.boxes, self.faces.boxes + self.motion
        refined = self.detector.refine(image, expected)
        faces = refined[refined.probabilities >= SURE]
        doubtful = refined.boxes[refined.probabilities < SURE]
        gone, self.gone = [*zip(last, expected, [0] * len(last), strict=True), *self.gone], []
        for box, place, age in gone:
            if len(faces) and _touches(place, faces.boxes):
                continue
            near = [each for each in doubtful if _touches(place, each[None])]
            found = self.detector.refine(image, [*near, place, box], around=True)
            faces = _joined(faces, found)
            if not len(found) and age < PATIENCE:
                self.gone.append((box, place, age + 1))
        self.motion = _motion(last, faces.boxes)
        return faces

    def _searched(self, image: np.ndarray) -> Detections:
        """The large faces of the picture; where nobody is seen, now and then the smallest as well."""
        self.since = 0
        faces = self.detector.search(image, min(image.shape[:2]) / SHARE_SEARCHED)
        if len(faces) or len(self.faces):
            self.searches = 0
            return faces
        self.searches += 1
        return self.detector.search(image, 0) if self.searches % THOROUGH == 1 else faces

    def _traced_back(self) -> Iterator[tuple[np.ndarray, Detections]]:
        """The images that waited, with those faces of the image after them that were there already."""
        traced, after, image = [], self.faces, self.last
        for earlier in reversed(self.waiting):
            if earlier is not image:
                after, image = self.detector.refine(earlier, after.boxes), earlier
            traced.append((earlier, after))
        self.waiting = []
        yield from reversed(traced)


def _motion(last: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How far each of ``boxes`` (face, 4) has moved since ``last`` (n, 4); (face, 4), zero where it hardly did."""
    motion = np.zeros_like(boxes)
    for moved, box in zip(motion, boxes, strict=True):
        if len(last) and (shared := shares(box, last)).max() > 0.2:
            before = last[shared.argmax()]
            step = (box[:2] + box[2:] - before[:2] - before[2:]) / 2
            if np.abs(step).max() > STILL * (box[2] - box[0]):
                moved[:] = np.tile(step, 2)
    return motion


def _grown(motion: np.ndarray, count: int) -> np.ndarray:
    """``motion`` for ``count`` faces, of which the new ones stand still."""
    return np.concatenate([motion, np.zeros((count - len(motion), 4), np.float32)])


def _difference(image: np.ndarray, other: np.ndarray) -> float:
    """How much two images differ on a grid of 32 points across, in grey values; of different sizes wholly."""
    if image.shape != other.shape:
        return 255.0
    step = max(1, image.shape[1] // 32)
    return float(np.abs(image[::step, ::step].astype(np.int16) - other[::step, ::step]).mean())


def _touches(box: np.ndarray, boxes: np.ndarray) -> bool:
    return bool((shares(box, boxes) > 0.4).any())


def _joined(faces: Detections, more: Detections) -> Detections:
    """All of ``faces``, and those of ``more`` that are none of them."""
    if not len(faces) or not len(more):
        return faces if len(faces) else more
    new = np.array([shares(box, faces.boxes).max() <= SAME for box in more.boxes])
    return Detections(*(np.concatenate([some, others[new]]) for some, others in (
        (faces.boxes, more.boxes), (faces.probabilities, more.probabilities), (faces.landmarks, more.landmarks))))
