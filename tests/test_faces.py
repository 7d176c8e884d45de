from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from emibook.corpus.puppet import UNITS, Identity, Pose, Puppet, Scene
from emibook.preprocess import faces, frames
from emibook.preprocess.faces import CROP, TEMPLATE, Detections, Detector, align, follow, similarity

CLIPS = Path(__file__).parents[2] / "shared" / "clips"


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def portraits():
    """Three people who do nothing, 320x240."""
    people = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        people.append(Puppet(Identity.random(rng), Scene.random(rng)).draw(np.zeros(len(UNITS)), pose=Pose()))
    return people


def turned(image, points, degrees, scale, shift=(0.0, 0.0)):
    """The image and its points, turned about the middle, scaled and shifted."""
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    matrix[:, 2] += (size[0] - width) / 2 + shift[0], (size[1] - height) / 2 + shift[1]
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(image, matrix, size, flags=smooth, borderMode=cv2.BORDER_REPLICATE), \
        points @ matrix[:, :2].T + matrix[:, 2]


# ---------------------------------------------------------------- finding

def test_a_drawn_face_is_found_where_it_is(detector, portraits):
    for found in detector.detect(portraits):
        assert len(found) == 1 and found.probabilities[0] > 0.99
        left_eye, right_eye, nose, mouth_left, mouth_right = found.landmarks[0]
        assert left_eye[0] < nose[0] < right_eye[0] and mouth_left[0] < nose[0] < mouth_right[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
        x1, y1, x2, y2 = found.boxes[0]
        assert ((found.landmarks[0] > (x1, y1)) & (found.landmarks[0] < (x2, y2))).all()


def test_boxes_and_landmarks_go_with_the_picture(detector, portraits):
    here = detector.detect([portraits[0]])[0]
    moved = detector.detect([np.roll(portraits[0], (16, -24), axis=(0, 1))])[0]
    assert np.abs(moved.landmarks[0] - here.landmarks[0] - (-24, 16)).max() < 4
    assert np.abs(moved.boxes[0] - here.boxes[0] - (-24, 16, -24, 16)).max() < 12


def test_all_faces_of_a_picture_are_found(detector, portraits):
    both = np.hstack(portraits[:2])
    found = detector.detect([both])[0]
    assert len(found) == 2
    assert sorted(int(x > 320) for x in found.boxes[:, 0]) == [0, 1]


def test_what_is_no_face_is_none(detector):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert [len(found) for found in detector.detect([np.zeros((120, 160, 3), np.uint8), noise])] == [0, 0]
    for height, width in ((1, 1), (19, 400), (20, 20)):
        assert len(detector.detect([np.full((height, width, 3), 128, np.uint8)])[0]) == 0
    assert detector.detect([]) == []


def test_several_pictures_at_once_give_what_each_gives_alone(detector, portraits, monkeypatch):
    pictures = [*portraits, np.zeros_like(portraits[0]), np.hstack([portraits[1][:, :160], portraits[2][:, 160:]])]
    alone = detector.detect(pictures)
    monkeypatch.setitem(faces.BATCH, "cpu", 3)
    for one, other in zip(alone, detector.detect(pictures), strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)


def test_detections_check_themselves():
    with pytest.raises(ValueError, match="shapes"):
        Detections(np.zeros((2, 4)), np.zeros(1), np.zeros((2, 5, 2)))


# ---------------------------------------------------------------- following

def seen(*people):
    """The detections of one frame; each person is (x, y, width) or (x, y, width, probability)."""
    boxes = np.array([(x, y, x + width, y + 1.2 * width) for x, y, width, *_ in people], np.float32).reshape(-1, 4)
    probabilities = np.array([p[0] if p else 0.99 for _, _, _, *p in people], np.float32)
    return Detections(boxes, probabilities, np.zeros((len(people), 5, 2), np.float32))


def test_the_largest_at_first_is_followed_wherever_it_stands_in_the_list():
    clip = [seen((0, 0, 40), (200, 0, 60)), seen((201, 0, 58), (0, 0, 40)), seen((0, 0, 90), (202, 0, 57))]
    assert follow(clip) == [1, 0, 1]


def test_a_doubtful_face_is_followed_only_where_there_is_no_other():
    assert follow([seen((0, 0, 90, 0.8), (200, 0, 40, 0.95))]) == [1]
    assert follow([seen((0, 0, 90, 0.8), (200, 0, 40, 0.75))]) == [0]
    # Somebody who is there for a moment only is no one to follow, however large.
    assert follow([seen((0, 0, 90), (200, 0, 40))] + [seen((200, 0, 40))] * 20) == [1] + [0] * 20
    assert follow([seen((0, 0, 90))] + [seen((200, 0, 40))] * 20) == [None] + [0] * 20
    assert follow([seen((0, 0, 90), (200, 0, 40))] + [seen((200, 0, 40))] * 3) == [0] + [None] * 3
    # The first confident face is in the third frame; the same person was there before.
    clip = [seen((0, 0, 90, 0.8)), seen((0, 0, 90, 0.8), (198, 0, 40, 0.8)), seen((200, 0, 40))]
    assert follow(clip) == [None, 1, 0]


def test_another_person_is_never_taken_for_the_one_who_is_gone():
    here, there = (100, 50, 50), (400, 50, 50)
    clip = [seen(here, there)] * 5 + [seen(there)] * 60
    assert follow(clip) == [0] * 5 + [None] * 60


def test_a_neighbour_in_the_grown_box_is_not_taken_because_he_was_there_before():
    here, beside = (100, 50, 50), (145, 50, 48)
    clip = [seen(here, beside)] * 5 + [seen(beside)] * 20 + [seen(beside, here)] * 3
    assert follow(clip) == [0] * 5 + [None] * 20 + [1] * 3


def test_somebody_who_walks_through_the_picture_is_not_taken():
    still = (150, 50, 50)
    walks = [(8 * i, 48, 52) for i in range(40)]
    hidden = [i for i, (x, _, width) in enumerate(walks) if abs(x + width / 2 - 175) < 45]
    clip = [seen(walks[i]) if i in hidden else seen(walks[i], still) for i in range(len(walks))]
    assert len(hidden) > 8
    # The one who walks is the larger and the first; then the other way round.
    assert follow(clip) == [0] * 40
    clip = [seen((150, 50, 54))] + [seen(*([walks[i]] if i in hidden else [walks[i], still])) for i in range(40)]
    assert follow(clip) == [0] + [None if i in hidden else 1 for i in range(40)]


def test_two_who_cross_keep_their_places():
    left_to_right = [(10 * i, 50, 60) for i in range(31)]
    right_to_left = [(300 - 10 * i, 140, 50) for i in range(31)]
    clip = [seen(b, a) if i % 2 else seen(a, b)
            for i, (a, b) in enumerate(zip(left_to_right, right_to_left, strict=True))]
    assert follow(clip) == [i % 2 for i in range(31)]


def test_a_person_is_found_again_near_by_and_not_far_away():
    lost = [seen()] * 10
    assert follow([seen((100, 50, 50)), *lost, seen((130, 60, 48))])[-1] == 0
    assert follow([seen((100, 50, 50)), *lost, seen((220, 60, 48))])[-1] is None
    assert follow([seen((100, 50, 50)), *lost, seen((105, 55, 100))])[-1] is None
    assert follow([seen((100, 50, 50)), *lost, seen((105, 55, 50, 0.8))])[-1] is None
    # The box grows with time: what is too far after one frame is near enough after ten.
    assert follow([seen((100, 50, 50)), seen(), seen((143, 60, 48))])[-1] is None
    assert follow([seen((100, 50, 50)), *lost, seen((143, 60, 48))])[-1] == 0


def test_nobody_to_follow():
    assert follow([]) == []
    assert follow([seen(), seen()]) == [None, None]


def test_no_step_of_any_clip_is_a_jump():
    """Whatever is seen, two faces in a row that are said to be one person's overlap and are of like size."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        clip = [seen(*[(rng.uniform(0, 300), rng.uniform(0, 150), rng.uniform(20, 90), rng.uniform(0.7, 1))
                       for _ in range(rng.integers(0, 5))]) for _ in range(60)]
        person = follow(clip)
        for i in range(1, len(clip)):
            if person[i - 1] is None or person[i] is None:
                continue
            was, now = clip[i - 1].boxes[person[i - 1]], clip[i].boxes[person[i]]
            assert (np.minimum(was[2:], now[2:]) > np.maximum(was[:2], now[:2])).all()
            assert 1 / 1.7 < (now[2] - now[0]) / (was[2] - was[0]) < 1.7


# ---------------------------------------------------------------- aligning

def test_similarity_is_the_least_squares_solution():
    """Against the same problem as four linear unknowns: x' = a x - b y + s, y' = b x + a y + t."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        points, onto = rng.uniform(0, 100, (5, 2)), TEMPLATE + rng.normal(0, 3, (5, 2))
        x, y, zero, one = *points.T, np.zeros(5), np.ones(5)
        unknowns = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
        a, b, s, t = np.linalg.lstsq(unknowns, onto.T.ravel(), rcond=None)[0]
        np.testing.assert_allclose(similarity(points, onto), [[a, -b, s], [b, a, t]], atol=1e-8)


def test_similarity_finds_a_known_turn_and_never_mirrors():
    angle, scale, shift = np.deg2rad(37), 2.5, np.array([-40.0, 12.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(similarity(TEMPLATE, TEMPLATE @ turn.T + shift), np.column_stack([turn, shift]),
                               atol=1e-4)
    assert np.linalg.det(similarity(TEMPLATE * (-1, 1), TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (30, 1), (-90, 1), (180, 1.5), (15, 3), (0, 6), (-20, 0.8)])
def test_a_crop_is_the_same_however_the_face_stood(detector, portraits, degrees, scale):
    landmarks = detector.detect([portraits[0]])[0].landmarks[0]
    once = align(portraits[0], landmarks).astype(int)
    assert once.shape == (CROP, CROP, 3)
    again = align(*turned(portraits[0], landmarks, degrees, scale)).astype(int)
    middle = slice(16, 96)
    assert np.abs(once - again)[middle, middle].mean() < 2.5


def test_landmarks_land_on_the_template(portraits):
    """Bright dots at the landmarks of a turned face are in the crop where the template has them."""
    spots = np.array([[130, 90], [180, 110], [148, 125], [118, 140], [160, 158]], np.float32)
    target = spots @ similarity(spots, TEMPLATE)[:, :2].T + similarity(spots, TEMPLATE)[:, 2]
    for scale in (1, 4):
        image = np.zeros((240 * scale, 320 * scale, 3), np.uint8)
        for x, y in (spots + 0.5) * scale - 0.5:
            cv2.circle(image, (round(float(x)), round(float(y))), round(3 * scale), (255, 255, 255), -1)
        crop = align(image, (spots + 0.5) * scale - 0.5)[..., 0].astype(float)
        for x, y in target:
            rows, columns = np.mgrid[round(y) - 6:round(y) + 7, round(x) - 6:round(x) + 7]
            weight = crop[rows, columns]
            assert abs((weight * columns).sum() / weight.sum() - x) < 0.4
            assert abs((weight * rows).sum() / weight.sum() - y) < 0.4
    assert np.abs(target - TEMPLATE).max() < 15


def test_a_large_face_does_not_alias():
    """Stripes far finer than a pixel of the crop come out as their mean, not as broad false stripes."""
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255
    for scale in (3, 5.3, 7.7):
        crop = align(image, TEMPLATE * scale + 200).astype(float)
        assert abs(crop.mean() - 127.5) < 2 and crop[8:-8, 8:-8].std() < 12


def test_a_face_at_the_border_continues_the_picture():
    image = np.full((100, 100, 3), (10, 120, 200), np.uint8)
    for shift in ((-60, -60), (70, 20), (0, 90)):
        assert (align(image, TEMPLATE + shift) == (10, 120, 200)).all()


# ---------------------------------------------------------------- real clips

@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not at hand")
def test_one_person_of_a_crowd_is_followed_until_she_leaves(detector):
    """A woman crosses a hall in front of others and is out of the picture after 1.4 s."""
    pictures = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
                for image in islice(frames(CLIPS / "facenet_video.mp4"), 50)]
    clip = detector.detect(pictures)
    person = follow(clip)
    middles = np.array([clip[i].boxes[face, 0::2].mean() for i, face in enumerate(person) if face is not None])
    assert person.index(None) in (41, 42) and set(person[42:]) == {None}
    assert (np.diff(middles) >= 0).all() and middles[0] < 200 and middles[-1] > 800
