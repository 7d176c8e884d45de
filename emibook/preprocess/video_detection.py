"""The faces in every frame of a clip: tracked from frame to frame instead of detected by the whole cascade each time.

    first frame, a cut, every INTERVAL frames      the cascade detects, on a downsampled frame
    every third frame, while all faces are         the last boxes are refined by the cascade's last two networks
    certain and nearly still
    the two frames between                         linear interpolation
    every frame, where a face moves or is          the boxes, moved on, are refined
    uncertain
    a face is uncertain or lost                    boxes around the last one are tried
    no face                                        the cascade detects every STRIDE frames; a face that it finds is
                                                   tracked back through the frames before

Source: section 3.2.1 of the paper, which runs the whole cascade on every frame; ``exhaustive`` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from emibook.preprocess.detector import MAX_OVERLAP, NO_FACES, Detections, Detector, overlap

SHARE_FIRST = 9
"""The cascade detects faces down to this fraction (1/9) of the frame's shorter side, where no face is tracked."""
SHARE_BESIDE = 5
"""The same for further faces beside a tracked one."""
INTERVAL = 90
"""Frames after which the cascade looks for further faces beside tracked ones."""
INTERVAL_LOST = 6
"""The same while a face is lost."""
SKIPPED = 2
"""Frames interpolated between two refined ones, while every face is certain and nearly still."""
STRIDE = 3
"""While there is no face, the cascade runs on every third frame."""
THOROUGH = 10
"""Every tenth of these detections goes down to the smallest faces that the cascade can detect."""
CERTAIN = 0.97
"""A refined face of this probability is accepted; for one below it, boxes around it are tried as well."""
STILL = 0.1
"""A face that moves by less than this fraction of its width counts as still."""
PATIENCE = 15
"""For so many frames a lost face is looked for at its last box."""
CUT = 28.0
"""Mean difference of two frames at a cut, in grey values (0..255) on a coarse grid."""

Frames = Iterator[tuple[np.ndarray, Detections]]
"""Images, each with its faces."""


def detect_faces(images: Iterable[np.ndarray], detector: Detector, *, exhaustive: bool = False) -> Frames:
    """Yield each image of a clip with its faces, in order; at most ``STRIDE`` images are held.

    Args:
        images: (height, width, 3) uint8 RGB. An image that is the same object as the one before is processed once.
        detector: MTCNN.
        exhaustive: the whole cascade on every image at full size.
    """
    if exhaustive:
        yield from _detect_in_batches(images, detector)
        return
    tracker = _VideoDetector(detector)
    for image in images:
        yield from tracker.add(image)
    yield from tracker.flush()


def _detect_in_batches(images: Iterable[np.ndarray], detector: Detector) -> Frames:
    """The cascade on every image, in batches of the detector's size."""
    held: list[tuple[np.ndarray, int]] = []
    for image in images:
        if held and image is held[-1][0]:
            held[-1] = (image, held[-1][1] + 1)
            continue
        if len(held) == detector.batch:
            yield from _detect_batch(held, detector)
            held = []
        held.append((image, 1))
    yield from _detect_batch(held, detector)


def _detect_batch(held: list[tuple[np.ndarray, int]], detector: Detector) -> Frames:
    for (image, repeats), faces in zip(held, detector.detect([image for image, _ in held]), strict=True):
        yield from [(image, faces)] * repeats


class _VideoDetector:
    """The state of ``detect_faces`` between two images. An image that is repeated is held once, with its count."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.last: np.ndarray | None = None
        self.faces = NO_FACES  # of the last image that was processed
        self.motion = np.zeros((0, 4), np.float32)  # how far each face's box moved to that image
        # Lost faces: the last box, its expected next position, and the number of images since.
        self.lost: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.skipped: list[tuple[np.ndarray, int]] = []  # images since the last processed one, with their counts
        self.waiting: list[tuple[np.ndarray, int]] = []  # images without a face so far, on which nothing ran yet
        self.since = 0  # images since the last detection by the cascade
        self.empty = 0  # detections in a row without a face

    def add(self, image: np.ndarray) -> Frames:
        """The images whose faces are known once ``image`` is there: none, itself, or earlier ones too."""
        if image is self.last:
            for held in (self.skipped, self.waiting):
                if held:
                    held[-1] = (image, held[-1][1] + 1)
                    return
            yield image, self.faces
            return
        is_cut = self.last is None or _difference(image, self.last) > CUT
        if is_cut:
            yield from self.flush()
            self.lost, self.faces, self.motion, self.empty = [], NO_FACES, self.motion[:0], 0
        self.last = image
        self.since += 1
        if is_cut:
            self.faces = self._detect(image)
            self.motion = _extended(self.motion, len(self.faces))
            yield image, self.faces
        elif len(self.faces) and not self.lost and not self.motion.any():
            self.skipped.append((image, 1))
            if len(self.skipped) > SKIPPED:
                yield from self._interpolate()
        else:
            yield from self._process(image, 1)

    def flush(self) -> Frames:
        """The images that are still held."""
        skipped, self.skipped = self.skipped, []
        for image, repeats in skipped:
            yield from self._process(image, repeats)
        if self.waiting:
            yield from self._detect_last_waiting()

    def _interpolate(self) -> Frames:
        """The skipped images: interpolated between two certain and still faces, otherwise each is processed."""
        image, repeats = self.skipped[-1]
        before, after = self.faces, self.detector.refine(image, self.faces.boxes)
        certain = len(before) == len(after) and min(before.probabilities.min(), after.probabilities.min()) >= CERTAIN
        if not certain or _motion(before.boxes, after.boxes).any():
            yield from self.flush()
            return
        self.skipped.pop()
        frames = sum(count for _, count in self.skipped) + 1
        passed = 1
        for between, count in self.skipped:
            faces = _interpolated(before, after, passed / frames)
            yield from [(between, faces)] * count
            passed += count
        self.skipped, self.faces = [], after
        yield from self._with_new_faces(image, repeats)

    def _process(self, image: np.ndarray, repeats: int) -> Frames:
        """An image whose faces are tracked from the image before."""
        self.faces = self._tracked(image)
        if len(self.faces):
            yield from self._with_new_faces(image, repeats)
            return
        self.waiting.append((image, repeats))
        if len(self.waiting) >= STRIDE:
            yield from self._detect_last_waiting()

    def _with_new_faces(self, image: np.ndarray, repeats: int) -> Frames:
        """An image with a tracked face; from time to time the cascade looks for further ones."""
        if self.since >= (INTERVAL_LOST if self.lost else INTERVAL):
            self.faces = _joined(self.faces, self._detect(image))
        self.motion = _extended(self.motion, len(self.faces))
        yield from self._tracked_back(image)
        yield from [(image, self.faces)] * repeats

    def _detect_last_waiting(self) -> Frames:
        """The waiting images: the cascade runs on the newest, and its faces are tracked back through the others."""
        image, repeats = self.waiting.pop()
        self.faces = self._detect(image)
        self.motion = _extended(self.motion[:0], len(self.faces))
        yield from self._tracked_back(image)
        yield from [(image, self.faces)] * repeats

    def _tracked(self, image: np.ndarray) -> Detections:
        """The faces of the last image in this one, and lost faces that are there again."""
        last, expected = self.faces.boxes, self.faces.boxes + self.motion
        refined = self.detector.refine(image, expected)
        faces = refined[refined.probabilities >= CERTAIN]
        uncertain = refined.boxes[refined.probabilities < CERTAIN]
        missing, self.lost = [*zip(last, expected, [0] * len(last), strict=True), *self.lost], []
        for box, position, age in missing:
            if len(faces) and _overlaps(position, faces.boxes):
                continue
            near = [other for other in uncertain if _overlaps(position, other[None])]
            candidates = self.detector.refine(image, [*near, position, box], around=True)
            faces = _joined(faces, candidates)
            if not len(candidates) and age < PATIENCE:
                self.lost.append((box, position, age + 1))
        self.motion = _motion(last, faces.boxes)
        return faces

    def _detect(self, image: np.ndarray) -> Detections:
        """The large faces of the image, by the cascade; without any, from time to time the smallest ones too."""
        self.since = 0
        share = SHARE_BESIDE if len(self.faces) else SHARE_FIRST
        faces = self.detector.search(image, min(image.shape[:2]) / share)
        if len(faces) or len(self.faces):
            self.empty = 0
            return faces
        self.empty += 1
        return self.detector.search(image, 0) if self.empty % THOROUGH == 1 else faces

    def _tracked_back(self, image: np.ndarray) -> Frames:
        """The images that waited for ``image``, with those of its faces that they show already."""
        frames, after = [], self.faces
        for earlier, repeats in reversed(self.waiting):
            after = self.detector.refine(earlier, after.boxes)
            frames += [(earlier, after)] * repeats
        self.waiting = []
        yield from reversed(frames)


def _motion(last: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How far each of ``boxes`` (face, 4) has moved since ``last`` (n, 4): (face, 4), zero for a still face."""
    motion = np.zeros_like(boxes)
    for moved, box in zip(motion, boxes, strict=True):
        if len(last) and (shared := overlap(box, last)).max() > 0.2:
            before = last[shared.argmax()]
            step = (box[:2] + box[2:] - before[:2] - before[2:]) / 2
            if np.abs(step).max() > STILL * (box[2] - box[0]):
                moved[:] = np.tile(step, 2)
    return motion


def _interpolated(before: Detections, after: Detections, share: float) -> Detections:
    """The faces at ``share`` of the way from ``before`` to ``after``, which hold the same faces."""
    return Detections(*((1 - share) * one + share * other for one, other in (
        (before.boxes, after.boxes), (before.probabilities, after.probabilities),
        (before.landmarks, after.landmarks))))


def _extended(motion: np.ndarray, count: int) -> np.ndarray:
    """``motion`` for ``count`` faces, where new faces have none."""
    return np.concatenate([motion, np.zeros((count - len(motion), 4), np.float32)])


def _difference(image: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in grey values on a grid of 32 points across; 255 for images of different sizes."""
    if image.shape != other.shape:
        return 255.0
    step = max(1, image.shape[1] // 32)
    return float(np.abs(image[::step, ::step].astype(np.int16) - other[::step, ::step]).mean())


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> bool:
    return bool((overlap(box, boxes) > 0.4).any())


def _joined(faces: Detections, more: Detections) -> Detections:
    """All of ``faces``, and those of ``more`` that are not among them."""
    if not len(faces) or not len(more):
        return faces if len(faces) else more
    new = np.array([overlap(box, faces.boxes).max() <= MAX_OVERLAP for box in more.boxes])
    return Detections(*(np.concatenate([known, others[new]]) for known, others in (
        (faces.boxes, more.boxes), (faces.probabilities, more.probabilities), (faces.landmarks, more.landmarks))))
