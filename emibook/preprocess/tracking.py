"""Whose face each one is through a clip, and which person is the followed one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emibook.preprocess.detector import Detections, area, intersection

CONFIDENT = 0.9
"""The followed person is chosen among faces at least this probable, where the clip has any; and somebody who was out
of sight for long is found again only in such a face, because what MTCNN is unsure of is often hair or a hand."""
BRIEFLY, STEADY = 5, 0.5
"""Who was out of sight for so few frames is found again in any face whose intersection over union with them is this."""
SHARE = 0.3
"""At least this share of a face lies in the box that its person had last, grown by the time since."""
SIZE_RATIO = 1.6
"""A person's box is at most this much wider or narrower than it was last."""
GROWTH, LARGEST_GROWTH = 0.1, 2.0
"""How much wider and higher a person's box gets with each frame in which the person was not found, and at most."""
LASTING = 5
"""Frames in which somebody is seen at least: MTCNN's false alarms come and go faster."""


@dataclass
class _Person:
    """One person of a clip so far."""

    box: np.ndarray
    """(4,) where they were last."""
    unseen: int = 0
    """Frames since."""
    frames: int = 0
    """In how many frames they were seen."""
    entrance: tuple[int, float] | None = None
    """Minus the first frame in which they are confidently seen, and the area of their face in it."""
    doubtful_entrance: tuple[int, float] | None = None
    """The same, however unsure the face."""


class People:
    """Whose face each one is, frame after frame.

    From frame to frame a face continues the person whose last box it overlaps most, those first who were seen in the
    frame before. A person who is not found leaves a box that grows with time, up to twice its size. Everybody is
    followed, so that a bystander's face is not taken for the followed person's.
    """

    def __init__(self) -> None:
        self._people: list[_Person] = []
        self._frame = -1

    def add(self, faces: Detections) -> dict[int, int]:
        """The person of each face of the next frame; persons are numbered as they first appear."""
        self._frame += 1
        owner = self._owners(faces)
        for person in self._people:
            person.unseen += 1
        for face in range(len(faces)):
            if face not in owner:
                owner[face] = len(self._people)
                self._people.append(_Person(faces.boxes[face]))
            person = self._people[owner[face]]
            person.box, person.unseen, person.frames = faces.boxes[face], 0, person.frames + 1
            here = (-self._frame, float(area(person.box)))
            person.doubtful_entrance = person.doubtful_entrance or here
            if faces.probabilities[face] >= CONFIDENT:
                person.entrance = person.entrance or here
        return owner

    def followed(self) -> int | None:
        """The followed person, the largest at first; None where nobody was seen.

        In the first frame with a face of probability 0.9 or more it is the largest such face, of those whose person
        is seen in five frames or more (of any, where there is none such).
        """
        entrances = {person: each.entrance for person, each in enumerate(self._people) if each.entrance}
        lasting = {person: entrance for person, entrance in entrances.items()
                   if self._people[person].frames >= LASTING}
        doubtful = {person: each.doubtful_entrance for person, each in enumerate(self._people)}
        for known in (lasting, entrances, doubtful):
            if known:
                return max(known, key=known.__getitem__)
        return None

    def may_be_followed(self, person: int) -> bool:
        """Whether that person can still turn out to be the followed one; False is final."""
        entrance, best = self._people[person].entrance, self.followed()
        leader = self._people[best]
        if leader.entrance is None or leader.frames < LASTING:
            return True
        return entrance is not None and entrance >= leader.entrance

    def _owners(self, faces: Detections) -> dict[int, int]:
        """Whose face each one is, for the faces that continue somebody: person by face."""
        if not len(faces) or not self._people:
            return {}
        last = np.array([person.box for person in self._people])
        unseen = np.array([person.unseen for person in self._people])
        growth = np.minimum(1 + GROWTH * unseen, LARGEST_GROWTH)[:, None]
        middle, half = (last[:, :2] + last[:, 2:]) / 2, (last[:, 2:] - last[:, :2]) / 2
        grown = np.concatenate([middle - growth * half, middle + growth * half], axis=1)
        size, before = area(faces.boxes)[None], area(last)[:, None]  # both broadcast to (person, face)
        share = intersection(grown, faces.boxes) / size
        both = intersection(last, faces.boxes)
        overlap = both / (size + before - both)
        ratio = np.sqrt(size / before)
        steady = (unseen <= BRIEFLY)[:, None] & (overlap >= STEADY)
        sure = (unseen == 0)[:, None] | steady | (faces.probabilities >= CONFIDENT)
        may = (share >= SHARE) & (1 / SIZE_RATIO <= ratio) & (ratio <= SIZE_RATIO) & sure
        pairs = np.argwhere(may)
        best = np.lexsort((share[may], overlap[may], unseen[pairs[:, 0]] == 0))[::-1]
        owner: dict[int, int] = {}
        for person, face in pairs[best].tolist():
            if face not in owner and person not in owner.values():
                owner[face] = person
        return owner


def follow(clip: Sequence[Detections]) -> list[int | None]:
    """Which face of each frame is the followed person's; None where that person is not seen. See ``People``."""
    people = People()
    owners = [people.add(faces) for faces in clip]
    followed = people.followed()
    return [next((face for face, person in owner.items() if person == followed), None) for owner in owners]


def agreement(truth: Sequence[Detections], other: Sequence[Detections]) -> np.ndarray:
    """How near two sets of detections of one clip are, frame by frame, about the followed person: (frame, 3).

    Columns: 1 where both have that person's face or neither has, else 0; the boxes' intersection over union; the mean
    distance of the five landmarks, in distances between the eyes. The latter two are NaN where one has no face.
    """
    rows = np.full((len(truth), 3), np.nan)
    for row, one, face, two, again in zip(rows, truth, follow(truth), other, follow(other), strict=True):
        row[0] = (face is None) == (again is None)
        if face is not None and again is not None:
            box, points = one.boxes[face], one.landmarks[face]
            both = intersection(box[None], two.boxes[[again]])[0, 0]
            row[1] = both / (area(box) + area(two.boxes[again]) - both)
            distances = np.linalg.norm(points - two.landmarks[again], axis=1)
            row[2] = distances.mean() / np.linalg.norm(points[0] - points[1])
    return rows
