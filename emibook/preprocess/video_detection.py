"""The faces in every picture of a clip, found again from picture to picture instead of searched for.

    first picture, a cut, every INTERVAL pictures   the cascade searches the picture, shrunk
    every third picture, where all faces are sure   the last boxes are refined by the cascade's last two networks
    and nearly still
    the two between                                 a straight line
    every picture, where one moves or is not sure   the boxes, moved on, are refined
    a face is doubtful or gone                      boxes around the last one are tried
    nobody is there                                 every STRIDE pictures a search; who is found is traced back

Source: section 3.2.1 of the paper, which runs the whole cascade on every picture; ``exhaustive`` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from emibook.preprocess.detector import NONE, SAME, Detections, Detector, shares

SHARE_SEARCHED = 9
"""A search looks for faces down to this share of the picture's shorter side."""
SHARE_BESIDE = 5
"""The same for who came in beside a face that is followed."""
INTERVAL = 90
"""Pictures after which the picture is searched though its faces are followed, for who came in."""
SOON = 6
"""The same while somebody is gone."""
SKIPPED = 2
"""Pictures between two that are looked at, while every face is sure and stands nearly still."""
STRIDE = 3
"""Of a stretch without a face every third picture is searched."""
THOROUGH = 10
"""Every tenth of those searches goes down to the smallest faces that the cascade finds."""
SURE = 0.97
"""A refined face of this probability is taken as it is; for one below it, boxes around it are tried as well."""
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
        yield from _find_everywhere(images, detector)
        return
    search = _Search(detector)
    for image in images:
        yield from search.next(image)
    yield from search.rest()


def _find_everywhere(images: Iterable[np.ndarray], detector: Detector) -> Iterator[tuple[np.ndarray, Detections]]:
    """The cascade on every image, as many at once as the detector takes."""
    held: list[tuple[np.ndarray, int]] = []
    for image in images:
        if held and image is held[-1][0]:
            held[-1] = (image, held[-1][1] + 1)
            continue
        if len(held) == detector.batch:
            yield from _everywhere(held, detector)
            held = []
        held.append((image, 1))
    yield from _everywhere(held, detector)


def _everywhere(held: list[tuple[np.ndarray, int]], detector: Detector) -> Iterator[tuple[np.ndarray, Detections]]:
    for (image, times), faces in zip(held, detector.detect([image for image, _ in held]), strict=True):
        yield from [(image, faces)] * times


Answer = Iterator[tuple[np.ndarray, Detections]]


class _Search:
    """What ``find`` remembers of a clip between its images. An image that is given several times is held once."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.last: np.ndarray | None = None
        self.faces = NONE  # of the last image that was looked at
        self.motion = np.zeros((0, 4), np.float32)  # by how much each face's box moved to that image
        # Who is gone: the last box, where it was expected to be next, and for how many images.
        self.gone: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.skipped: list[tuple[np.ndarray, int]] = []  # images since, with how often each was given
        self.waiting: list[tuple[np.ndarray, int]] = []  # images without a face so far, not searched yet
        self.since = 0  # images since the picture was searched
        self.searches = 0  # in a row that found nobody

    def next(self, image: np.ndarray) -> Answer:
        """What is known when ``image`` has come: itself, or those before it too, or nothing yet."""
        if image is self.last:
            for held in (self.skipped, self.waiting):
                if held:
                    held[-1] = (image, held[-1][1] + 1)
                    return
            yield image, self.faces
            return
        fresh = self.last is None or _difference(image, self.last) > CUT
        if fresh:
            yield from self.rest()
            self.gone, self.faces, self.motion, self.searches = [], NONE, self.motion[:0], 0
        self.last = image
        self.since += 1
        if fresh:
            self.faces = self._searched(image)
            self.motion = _grown(self.motion, len(self.faces))
            yield image, self.faces
        elif len(self.faces) and not self.gone and not self.motion.any():
            self.skipped.append((image, 1))
            if len(self.skipped) > SKIPPED:
                yield from self._skipped_over()
        else:
            yield from self._looked_at(image, 1)

    def rest(self) -> Answer:
        """The images that are still held."""
        skipped, self.skipped = self.skipped, []
        for image, times in skipped:
            yield from self._looked_at(image, times)
        if self.waiting:
            yield from self._searched_back()

    def _skipped_over(self) -> Answer:
        """The skipped images: a face lies on the line between two sure and steady ones, or else it is sought."""
        image, times = self.skipped[-1]
        before, after = self.faces, self.detector.refine(image, self.faces.boxes)
        sure = len(before) == len(after) and min(before.probabilities.min(), after.probabilities.min()) >= SURE
        if not sure or _motion(before.boxes, after.boxes).any():
            yield from self.rest()
            return
        self.skipped.pop()
        frames = sum(repeats for _, repeats in self.skipped) + 1
        passed = 1
        for between, repeats in self.skipped:
            faces = _between(before, after, passed / frames)
            yield from [(between, faces)] * repeats
            passed += repeats
        self.skipped, self.faces = [], after
        yield from self._looked_round(image, times)

    def _looked_at(self, image: np.ndarray, times: int) -> Answer:
        """An image whose faces are sought near those of the image before."""
        self.faces = self._followed(image)
        if len(self.faces):
            yield from self._looked_round(image, times)
            return
        self.waiting.append((image, times))
        if len(self.waiting) >= STRIDE:
            yield from self._searched_back()

    def _looked_round(self, image: np.ndarray, times: int) -> Answer:
        """An image with a face; now and then it is searched for others."""
        if self.since >= (SOON if self.gone else INTERVAL):
            self.faces = _joined(self.faces, self._searched(image))
        self.motion = _grown(self.motion, len(self.faces))
        yield from self._traced_back(image)
        yield from [(image, self.faces)] * times

    def _searched_back(self) -> Answer:
        """The images that waited: the newest is searched, and who is found is traced back."""
        image, times = self.waiting.pop()
        self.faces = self._searched(image)
        self.motion = _grown(self.motion[:0], len(self.faces))
        yield from self._traced_back(image)
        yield from [(image, self.faces)] * times

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
        share = SHARE_BESIDE if len(self.faces) else SHARE_SEARCHED
        faces = self.detector.search(image, min(image.shape[:2]) / share)
        if len(faces) or len(self.faces):
            self.searches = 0
            return faces
        self.searches += 1
        return self.detector.search(image, 0) if self.searches % THOROUGH == 1 else faces

    def _traced_back(self, image: np.ndarray) -> Answer:
        """The images that waited for ``image``, with those of its faces that were there already."""
        traced, after = [], self.faces
        for earlier, times in reversed(self.waiting):
            after = self.detector.refine(earlier, after.boxes)
            traced += [(earlier, after)] * times
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


def _between(before: Detections, after: Detections, share: float) -> Detections:
    """The faces that have gone that share of the way from ``before`` to ``after``, which are the same faces."""
    return Detections(*((1 - share) * one + share * other for one, other in (
        (before.boxes, after.boxes), (before.probabilities, after.probabilities),
        (before.landmarks, after.landmarks))))


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
