from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import seen

from emibook.preprocess import frames
from emibook.preprocess.detector import Detector
from emibook.preprocess.tracking import compare_tracks, track

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


def test_the_largest_face_at_the_beginning_is_the_main_person_in_any_order():
    clip = [seen((0, 0, 40), (200, 0, 60)), seen((201, 0, 58), (0, 0, 40)), seen((0, 0, 90), (202, 0, 57))]
    assert track(clip) == [1, 0, 1]


def test_an_uncertain_face_is_tracked_only_without_another():
    assert track([seen((0, 0, 90, 0.8), (200, 0, 40, 0.95))]) == [1]
    assert track([seen((0, 0, 90, 0.8), (200, 0, 40, 0.75))]) == [0]
    # Somebody who is there for a moment only is no one to follow, however large.
    assert track([seen((0, 0, 90), (200, 0, 40))] + [seen((200, 0, 40))] * 20) == [1] + [0] * 20
    assert track([seen((0, 0, 90))] + [seen((200, 0, 40))] * 20) == [None] + [0] * 20
    assert track([seen((0, 0, 90), (200, 0, 40))] + [seen((200, 0, 40))] * 3) == [0] + [None] * 3
    # The first confident face is in the third frame; the same person was there before.
    clip = [seen((0, 0, 90, 0.8)), seen((0, 0, 90, 0.8), (198, 0, 40, 0.8)), seen((200, 0, 40))]
    assert track(clip) == [None, 1, 0]


def test_another_person_never_replaces_a_lost_one():
    here, there = (100, 50, 50), (400, 50, 50)
    clip = [seen(here, there)] * 5 + [seen(there)] * 60
    assert track(clip) == [0] * 5 + [None] * 60


def test_a_neighbour_in_the_grown_box_keeps_his_own_track():
    here, beside = (100, 50, 50), (145, 50, 48)
    clip = [seen(here, beside)] * 5 + [seen(beside)] * 20 + [seen(beside, here)] * 3
    assert track(clip) == [0] * 5 + [None] * 20 + [1] * 3


def test_a_passer_by_does_not_take_over_the_track():
    still = (150, 50, 50)
    walks = [(8 * i, 48, 52) for i in range(40)]
    hidden = [i for i, (x, _, width) in enumerate(walks) if abs(x + width / 2 - 175) < 45]
    clip = [seen(walks[i]) if i in hidden else seen(walks[i], still) for i in range(len(walks))]
    assert len(hidden) > 8
    # The one who walks is the larger and the first; then the other way round.
    assert track(clip) == [0] * 40
    clip = [seen((150, 50, 54))] + [seen(*([walks[i]] if i in hidden else [walks[i], still])) for i in range(40)]
    assert track(clip) == [0] + [None if i in hidden else 1 for i in range(40)]


def test_two_who_cross_keep_their_places():
    left_to_right = [(10 * i, 50, 60) for i in range(31)]
    right_to_left = [(300 - 10 * i, 140, 50) for i in range(31)]
    clip = [seen(b, a) if i % 2 else seen(a, b)
            for i, (a, b) in enumerate(zip(left_to_right, right_to_left, strict=True))]
    assert track(clip) == [i % 2 for i in range(31)]


def test_a_lost_person_is_matched_nearby_and_not_far_away():
    lost = [seen()] * 10
    assert track([seen((100, 50, 50)), *lost, seen((130, 60, 48))])[-1] == 0
    assert track([seen((100, 50, 50)), *lost, seen((220, 60, 48))])[-1] is None
    assert track([seen((100, 50, 50)), *lost, seen((105, 55, 100))])[-1] is None
    assert track([seen((100, 50, 50)), *lost, seen((105, 55, 50, 0.8))])[-1] is None
    # The box grows with time: what is too far after one frame is near enough after ten.
    assert track([seen((100, 50, 50)), seen(), seen((143, 60, 48))])[-1] is None
    assert track([seen((100, 50, 50)), *lost, seen((143, 60, 48))])[-1] == 0


def test_clips_without_a_face_have_no_main_person():
    assert track([]) == []
    assert track([seen(), seen()]) == [None, None]


def test_no_track_jumps():
    """Whatever is seen, two faces in a row that are said to be one person's overlap and are of like size."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        clip = [seen(*[(rng.uniform(0, 300), rng.uniform(0, 150), rng.uniform(20, 90), rng.uniform(0.7, 1))
                       for _ in range(rng.integers(0, 5))]) for _ in range(60)]
        person = track(clip)
        for i in range(1, len(clip)):
            if person[i - 1] is None or person[i] is None:
                continue
            was, now = clip[i - 1].boxes[person[i - 1]], clip[i].boxes[person[i]]
            assert (np.minimum(was[2:], now[2:]) > np.maximum(was[:2], now[:2])).all()
            assert 1 / 1.7 < (now[2] - now[0]) / (was[2] - was[0]) < 1.7


def test_tracks_are_compared_for_the_main_person():
    there = (400, 100, 60)
    points = np.array([[30, 40], [70, 40], [50, 60], [35, 90], [65, 90]], np.float32)

    def at(x, y, *more):
        faces = seen((x, y, 100), *more)
        faces.landmarks[0] = points + (x, y)
        return faces

    truth = [at(100, 100, there)] * 6 + [seen(there)] * 2
    other = [at(100, 100)] * 5 + [at(110, 100, there)] + [seen(), at(110, 100)]
    rows = compare_tracks(truth, other)
    assert rows[:, 0].tolist() == [1] * 7 + [0]
    np.testing.assert_allclose(rows[:5, 1:], [[1, 0]] * 5, atol=1e-6)
    np.testing.assert_allclose(rows[5, 1:], [90 / 110, 10 / 40], rtol=1e-5)
    assert np.isnan(rows[6:, 1:]).all()


@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not at hand")
def test_one_person_of_a_crowd_is_tracked_until_she_leaves():
    """A woman crosses a hall in front of others and is out of the picture after 1.4 s."""
    pictures = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
                for image in islice(frames(CLIPS / "facenet_video.mp4"), 50)]
    clip = Detector().detect(pictures)
    person = track(clip)
    middles = np.array([clip[i].boxes[face, 0::2].mean() for i, face in enumerate(person) if face is not None])
    assert person.index(None) in (41, 42) and set(person[42:]) == {None}
    assert (np.diff(middles) >= 0).all() and middles[0] < 200 and middles[-1] > 800
