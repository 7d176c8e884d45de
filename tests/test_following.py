from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from emibook.corpus.puppet import UNITS, Identity, Pose, Puppet, Scene
from emibook.preprocess import frames
from emibook.preprocess.faces import Detections, Detector, area, intersection, shares
from emibook.preprocess.following import INTERVAL, STRIDE, THOROUGH, find, follow

CLIPS = Path(__file__).parents[2] / "shared" / "clips"


@pytest.fixture(scope="module")
def detector():
    return Detector()


# ---------------------------------------------------------------- who is followed

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


# ---------------------------------------------------------------- from picture to picture

class World:
    """Stands in for the detector: knows where the faces of each picture are, and counts what it is asked."""

    def __init__(self, *frames):
        """``frames``: of each picture the boxes (x, y, width) or (x, y, width, probability)."""
        self.truth = [seen(*people) for people in frames]
        self.searched, self.thorough, self.refined = [], [], []

    def images(self, tones=None):
        """Pictures that hold their own number; of another tone after a cut."""
        for i in range(len(self.truth)):
            image = np.full((360, 640, 3), tones[i] if tones else 90, np.uint8)
            image[0, 0] = i // 256, i % 256, 0
            yield image

    def faces(self, image):
        return self.truth[int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])]

    def search(self, image, smallest):
        number = int(image[0, 0, 1])
        (self.searched if smallest else self.thorough).append(number)
        faces = self.faces(image)
        return faces[faces.boxes[:, 2] - faces.boxes[:, 0] >= max(smallest, 20)]

    def refine(self, image, boxes, *, around=False):
        faces = self.faces(image)
        self.refined.append(int(image[0, 0, 1]))
        near = [any(shares(face, np.asarray(box)[None])[0] > (0.5 if around else 0.7) for box in boxes)
                for face in faces.boxes]
        return faces[np.array(near, bool)]


def found(world, **settings):
    """How many faces each picture has, in order."""
    pictures = list(find(world.images(**settings), world))
    assert [int(image[0, 0, 1]) for image, _ in pictures] == [i % 256 for i in range(len(world.truth))]
    return [len(faces) for _, faces in pictures]


def test_a_calm_face_is_searched_for_once_in_a_while():
    world = World(*[[(200 + i, 100, 90)] for i in range(200)])
    assert found(world) == [1] * 200
    assert len(world.searched) == 1 + 199 // INTERVAL and world.thorough == []
    assert len(world.refined) == 199


def test_who_appears_is_traced_back_to_the_first_picture():
    for first in range(20, 20 + 2 * STRIDE):
        world = World(*[[]] * first, *[[(200, 100, 90)]] * 30)
        assert found(world) == [0] * first + [1] * 30
        assert len(world.searched) <= 2 + first // STRIDE


def test_a_small_face_is_found_where_there_is_no_other_and_then_followed():
    world = World(*[[(200, 100, 25)]] * 100)
    assert found(world) == [1] * 100 and world.thorough == [0]
    late = World(*[[]] * 50, *[[(200, 100, 25)]] * 100)
    counts = found(late)
    assert counts[:50] == [0] * 50 and counts[50 + STRIDE * THOROUGH:] == [1] * (100 - STRIDE * THOROUGH)


def test_whoever_comes_in_beside_is_found_at_the_next_search():
    world = World(*[[(100, 100, 90)]] * 30, *[[(100, 100, 90), (400, 100, 80)]] * 100)
    counts = found(world)
    assert counts[:30] == [1] * 30 and counts[INTERVAL:] == [2] * (130 - INTERVAL)


def test_somebody_hidden_for_a_moment_is_back_at_once():
    hidden = [[(400, 100, 80)]] * 8
    both = [(100, 100, 90), (400, 100, 80)]
    world = World(*[both] * 20, *hidden, *[both] * 20)
    assert found(world) == [2] * 20 + [1] * 8 + [2] * 20


def test_a_fast_face_is_expected_where_it_goes():
    """Forty pixels a picture, and as fast again: half a face's width."""
    places = np.cumsum([0, *np.linspace(5, 45, 15), *[45] * 5])
    world = World(*[[(20 + x, 100, 90)] for x in places])
    assert found(world) == [1] * len(places) and len(world.searched) == 1


def test_a_cut_is_searched_at_once():
    world = World(*[[(100, 100, 90)]] * 10, *[[(400, 60, 120)]] * 10, *[[]] * 10)
    assert found(world, tones=[90] * 10 + [160] * 10 + [20] * 10) == [1] * 20 + [0] * 10
    assert {10, 20} <= set(world.searched)


def test_a_picture_that_stays_is_looked_at_once():
    world = World([(100, 100, 90)], [], [(100, 100, 90)])
    one, two, three = world.images()
    counts = [len(faces) for _, faces in find([one, one, one, two, two, two, two, three, three], world)]
    assert counts == [1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert sorted({*world.searched, *world.refined}) == [0, 1, 2] and len(world.refined) <= 5


def test_no_more_than_a_few_pictures_are_held():
    world = World(*[[]] * 40)
    taken = 0

    def counted():
        nonlocal taken
        for image in world.images():
            taken += 1
            yield image

    for given, _ in enumerate(find(counted(), world)):
        assert taken - given <= STRIDE


def test_exhaustive_is_the_cascade_on_every_picture():
    class Cascade:
        def __init__(self):
            self.count = 0

        def detect(self, images):
            self.count += len(images)
            return [seen((100, 100, 90))] * len(images)

    cascade, world = Cascade(), World(*[[]] * 12)
    assert [len(faces) for _, faces in find(world.images(), cascade, exhaustive=True)] == [1] * 12
    assert cascade.count == 12


def acted(count, x=0.0):
    """Somebody drawn who nods, turns and speaks, 320x240."""
    rng = np.random.default_rng(7)
    puppet = Puppet(Identity.random(rng), Scene.random(rng))
    for i in range(count):
        units = 2 + 2 * np.sin(i / 6 + np.arange(len(UNITS)))
        units[-1] = 5 * (i % 20 > 16)
        yield puppet.draw(units, pose=Pose(x=x + 0.3 * np.sin(i / 9), roll=0.15 * np.sin(i / 7)), noise_rng=rng)


def differences(truth, other):
    """Frame by frame: IoU of the followed boxes, and the landmarks' mean distance in distances of the eyes."""
    rows = []
    for one, a, two, b in zip(truth, follow(truth), other, follow(other), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            both = intersection(one.boxes[[a]], two.boxes[[b]])[0, 0]
            eyes = np.linalg.norm(one.landmarks[a, 0] - one.landmarks[a, 1])
            rows.append((both / (area(one.boxes[a]) + area(two.boxes[b]) - both),
                         np.linalg.norm(one.landmarks[a] - two.landmarks[b], axis=1).mean() / eyes))
    return rows


def in_a_smaller_picture(detector, images):
    """What the cascade finds in pictures 5 % smaller, in pixels of the pictures."""
    for image in images:
        size = (round(0.95 * image.shape[1]), round(0.95 * image.shape[0]))
        faces = detector.detect([cv2.resize(image, size, interpolation=cv2.INTER_AREA)])[0]
        scale = np.array(image.shape[1::-1], np.float32) / size
        yield Detections(faces.boxes * np.tile(scale, 2), faces.probabilities, faces.landmarks * scale)


def assert_as_near_as_the_cascade_is_to_itself(detector, *clips):
    """Over all frames of the clips: the cascade beside itself on a smaller picture is how steady it is."""
    ours, itself = [], []
    for images in clips:
        truth = detector.detect(images)
        ours += differences(truth, [faces for _, faces in find(images, detector)])
        itself += differences(truth, list(in_a_smaller_picture(detector, images)))
    (overlap, distance), (own_overlap, own_distance) = np.median(ours, axis=0), np.median(itself, axis=0)
    assert overlap >= own_overlap - 0.02 and distance <= 1.25 * own_distance


def test_a_drawn_face_is_followed_as_the_cascade_finds_it(detector):
    blank = np.full((240, 320, 3), 90, np.uint8)
    images = [*acted(50), *[blank] * 10, *acted(30, x=0.2)]
    assert_as_near_as_the_cascade_is_to_itself(detector, images)


def test_two_faces_are_told_apart_as_the_cascade_tells_them(detector):
    """The one on the right is the smaller: of two as large as each other, chance would say who is followed."""
    images = [np.hstack([one, cv2.copyMakeBorder(cv2.resize(two, (240, 180)), 30, 30, 0, 0, cv2.BORDER_REPLICATE)])
              for one, two in zip(acted(40), acted(40, x=0.3), strict=True)]
    assert_as_near_as_the_cascade_is_to_itself(detector, images)


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


@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not at hand")
def test_real_faces_are_followed_as_the_cascade_finds_them(detector):
    names = ("single_face.mp4", "fer_test.mp4")
    assert_as_near_as_the_cascade_is_to_itself(detector, *(list(islice(frames(CLIPS / name), 50)) for name in names))
