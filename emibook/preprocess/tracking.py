"""Tracking: which person each face of a clip belongs to, and who is the main person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emibook.preprocess.detector import Detections, area, intersection

CONFIDENT = 0.9
"""The main person is chosen among faces at least this probable, where the clip has any. A person who was lost for long
is matched only with such a face, because less probable detections are often hair or a hand."""
SHORT_GAP, MIN_IOU = 5, 0.5
"""A person who was lost for at most so many frames is matched with any face of this intersection over union."""
MIN_SHARE = 0.3
"""At least this share of a face lies in the last box of its person, grown by the time since."""
SIZE_RATIO = 1.6
"""A person's box is at most this much wider or narrower than the last one."""
GROWTH, MAX_GROWTH = 0.1, 2.0
"""How much a person's last box grows with each frame without the person, and at most."""
MIN_FRAMES = 5
"""The main person is seen in at least so many frames: MTCNN's false detections are shorter."""


@dataclass
class _Person:
    """One person of a clip so far."""

    box: np.ndarray
    """(4,) the last box."""
    gap: int = 0
    """Frames since."""
    frames: int = 0
    """In how many frames the person was detected."""
    entrance: tuple[int, float] | None = None
    """Minus the first frame with a confident face of the person, and the area of that face."""
    uncertain_entrance: tuple[int, float] | None = None
    """The same for a face of any probability."""


class Tracker:
    """Assigns the faces of each frame to persons.

    A face belongs to the person whose last box it overlaps most; persons who were in the frame before come first. The
    box of a person who is lost grows with time, up to twice its size. Everybody is tracked, so that a bystander's face
    is not taken for the main person's.
    """

    def __init__(self) -> None:
        self._persons: list[_Person] = []
        self._frame = -1

    def add(self, faces: Detections) -> dict[int, int]:
        """The next frame: the person of each face, by face; persons are numbered in the order of their first frame."""
        self._frame += 1
        owner = self._match(faces)
        for person in self._persons:
            person.gap += 1
        for face in range(len(faces)):
            if face not in owner:
                owner[face] = len(self._persons)
                self._persons.append(_Person(faces.boxes[face]))
            person = self._persons[owner[face]]
            person.box, person.gap, person.frames = faces.boxes[face], 0, person.frames + 1
            entrance = (-self._frame, float(area(person.box)))
            person.uncertain_entrance = person.uncertain_entrance or entrance
            if faces.probabilities[face] >= CONFIDENT:
                person.entrance = person.entrance or entrance
        return owner

    def main_person(self) -> int | None:
        """The person with the largest face at the beginning; None without a face.

        It is the largest face of probability 0.9 or more in the first frame that has one, among persons who are in five
        frames or more (among all, where there is no such person).
        """
        entrances = {index: person.entrance for index, person in enumerate(self._persons) if person.entrance}
        lasting = {index: entrance for index, entrance in entrances.items()
                   if self._persons[index].frames >= MIN_FRAMES}
        uncertain = {index: person.uncertain_entrance for index, person in enumerate(self._persons)}
        for candidates in (lasting, entrances, uncertain):
            if candidates:
                return max(candidates, key=candidates.__getitem__)
        return None

    def may_be_main(self, person: int) -> bool:
        """Whether this person can still become the main one; False is final."""
        entrance, best = self._persons[person].entrance, self.main_person()
        leader = self._persons[best]
        if leader.entrance is None or leader.frames < MIN_FRAMES:
            return True
        return entrance is not None and entrance >= leader.entrance

    def _match(self, faces: Detections) -> dict[int, int]:
        """The person of each face, by face, for the faces that belong to a person of the frames before."""
        if not len(faces) or not self._persons:
            return {}
        last = np.array([person.box for person in self._persons])
        gap = np.array([person.gap for person in self._persons])
        growth = np.minimum(1 + GROWTH * gap, MAX_GROWTH)[:, None]
        centre, half = (last[:, :2] + last[:, 2:]) / 2, (last[:, 2:] - last[:, :2]) / 2
        grown = np.concatenate([centre - growth * half, centre + growth * half], axis=1)
        size, before = area(faces.boxes)[None], area(last)[:, None]  # both broadcast to (person, face)
        share = intersection(grown, faces.boxes) / size
        both = intersection(last, faces.boxes)
        iou = both / (size + before - both)
        ratio = np.sqrt(size / before)
        near = (gap <= SHORT_GAP)[:, None] & (iou >= MIN_IOU)
        certain = (gap == 0)[:, None] | near | (faces.probabilities >= CONFIDENT)
        possible = (share >= MIN_SHARE) & (1 / SIZE_RATIO <= ratio) & (ratio <= SIZE_RATIO) & certain
        pairs = np.argwhere(possible)
        best = np.lexsort((share[possible], iou[possible], gap[pairs[:, 0]] == 0))[::-1]
        owner: dict[int, int] = {}
        for person, face in pairs[best].tolist():
            if face not in owner and person not in owner.values():
                owner[face] = person
        return owner


def track(clip: Sequence[Detections]) -> list[int | None]:
    """The index of the main person's face in each frame; None where there is none. See ``Tracker``."""
    tracker = Tracker()
    owners = [tracker.add(faces) for faces in clip]
    main = tracker.main_person()
    return [next((face for face, person in owner.items() if person == main), None) for owner in owners]


def compare_tracks(truth: Sequence[Detections], other: Sequence[Detections]) -> np.ndarray:
    """How much two sets of detections of one clip differ for the main person, frame by frame: (frame, 3).

    Columns: 1 where both have that person's face or both lack it, else 0; the boxes' intersection over union; the mean
    distance of the five landmarks, in distances between the eyes. The latter two are NaN where one lacks the face.
    """
    rows = np.full((len(truth), 3), np.nan)
    for row, one, face, two, match in zip(rows, truth, track(truth), other, track(other), strict=True):
        row[0] = (face is None) == (match is None)
        if face is not None and match is not None:
            box, points = one.boxes[face], one.landmarks[face]
            both = intersection(box[None], two.boxes[[match]])[0, 0]
            row[1] = both / (area(box) + area(two.boxes[match]) - both)
            distances = np.linalg.norm(points - two.landmarks[match], axis=1)
            row[2] = distances.mean() / np.linalg.norm(points[0] - points[1])
    return rows
