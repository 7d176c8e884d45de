from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import seen

from emibook.preprocess import frames
from emibook.preprocess.detector import Detector, overlap, to_half_precision
from emibook.preprocess.tracking import compare_tracks
from emibook.preprocess.video_detection import INTERVAL, SKIPPED, STRIDE, THOROUGH, detect_faces
from emibook.puppet.renderer import UNITS, Identity, Pose, Puppet, Scene

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@pytest.fixture(scope="module")
def detector():
    return Detector()


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
        near = [any(overlap(face, np.asarray(box)[None])[0] > (0.5 if around else 0.7) for box in boxes)
                for face in faces.boxes]
        return faces[np.array(near, bool)]


def found(world, **settings):
    """How many faces each picture has, in order."""
    pictures = list(detect_faces(world.images(**settings), world))
    assert [int(image[0, 0, 1]) for image, _ in pictures] == [i % 256 for i in range(len(world.truth))]
    return [len(faces) for _, faces in pictures]


def test_a_still_face_is_rarely_detected_by_the_cascade():
    world = World(*[[(200 + i, 100, 90)] for i in range(200)])
    assert found(world) == [1] * 200
    assert len(world.searched) == 1 + 199 // INTERVAL and world.thorough == []
    assert world.refined == list(range(SKIPPED + 1, 200, SKIPPED + 1)) + [199 - 199 % (SKIPPED + 1) + 1]
    places = [faces.boxes[0, 0] for _, faces in detect_faces(world.images(), world)]
    np.testing.assert_allclose(places, np.arange(200, 400), atol=1e-3)  # on the line between, where it is


def test_frames_are_not_interpolated_where_a_face_moves_or_leaves():
    for leaves in range(31, 37):
        world = World(*[[(200, 100, 90)]] * leaves, *[[]] * 30)
        assert found(world) == [1] * leaves + [0] * 30
    starts = [200] * 31 + [200 + 30 * i for i in range(1, 7)] + [380] * 10
    world = World(*[[(x, 100, 90)] for x in starts])
    left = [faces.boxes[0, 0] for _, faces in detect_faces(world.images(), world)]
    np.testing.assert_allclose(left, starts, atol=1e-3)
    doubtful = World(*[[(200, 100, 90)]] * 9, [(200, 100, 90, 0.8)], *[[(200, 100, 90)]] * 10)
    assert found(doubtful) == [1] * 20 and {7, 8, 9} <= set(doubtful.refined)


def test_a_new_face_is_tracked_back_to_its_first_frame():
    for first in range(20, 20 + 2 * STRIDE):
        world = World(*[[]] * first, *[[(200, 100, 90)]] * 30)
        assert found(world) == [0] * first + [1] * 30
        assert len(world.searched) <= 2 + first // STRIDE


def test_a_small_face_is_detected_without_another_and_then_tracked():
    world = World(*[[(200, 100, 25)]] * 100)
    assert found(world) == [1] * 100 and world.thorough == [0]
    late = World(*[[]] * 50, *[[(200, 100, 25)]] * 100)
    counts = found(late)
    assert counts[:50] == [0] * 50 and counts[50 + STRIDE * THOROUGH:] == [1] * (100 - STRIDE * THOROUGH)


def test_a_second_face_is_found_at_the_next_detection():
    world = World(*[[(100, 100, 90)]] * 30, *[[(100, 100, 90), (400, 100, 80)]] * 100)
    counts = found(world)
    assert counts[:30] == [1] * 30 and counts[INTERVAL:] == [2] * (130 - INTERVAL)


def test_a_briefly_hidden_face_is_found_at_once():
    hidden = [[(400, 100, 80)]] * 8
    both = [(100, 100, 90), (400, 100, 80)]
    world = World(*[both] * 20, *hidden, *[both] * 20)
    assert found(world) == [2] * 20 + [1] * 8 + [2] * 20


def test_the_motion_of_a_fast_face_is_extrapolated():
    """Forty pixels a picture, and as fast again: half a face's width."""
    places = np.cumsum([0, *np.linspace(5, 45, 15), *[45] * 5])
    world = World(*[[(20 + x, 100, 90)] for x in places])
    assert found(world) == [1] * len(places) and len(world.searched) == 1


def test_the_cascade_runs_at_a_cut():
    world = World(*[[(100, 100, 90)]] * 10, *[[(400, 60, 120)]] * 10, *[[]] * 10)
    assert found(world, tones=[90] * 10 + [160] * 10 + [20] * 10) == [1] * 20 + [0] * 10
    assert {10, 20} <= set(world.searched)


def test_a_repeated_image_is_processed_once():
    world = World([(100, 100, 90)], [], [(100, 100, 90)])
    one, two, three = world.images()
    counts = [len(faces) for _, faces in detect_faces([one, one, one, two, two, two, two, three, three], world)]
    assert counts == [1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert sorted({*world.searched, *world.refined}) == [0, 1, 2] and len(world.refined) <= 5


def test_no_more_than_a_few_images_are_held():
    world = World(*[[]] * 40)
    taken = 0

    def counted():
        nonlocal taken
        for image in world.images():
            taken += 1
            yield image

    for given, _ in enumerate(detect_faces(counted(), world)):
        assert taken - given <= STRIDE


def test_exhaustive_is_the_cascade_on_every_image():
    class Cascade:
        def __init__(self, batch):
            self.batch, self.calls = batch, []

        def detect(self, images):
            self.calls.append(len(images))
            return [seen((float(image[0, 0, 1]), 100, 90)) for image in images]

    world = World(*[[]] * 12)
    for batch, calls in ((1, [1] * 12), (5, [5, 5, 2])):
        cascade = Cascade(batch)
        pictures = list(world.images())
        pictures[7:7] = [pictures[6]] * 3  # one that stands for four frames is looked at once
        expected = [int(image[0, 0, 1]) for image in pictures]
        assert [faces.boxes[0, 0] for _, faces in detect_faces(pictures, cascade, exhaustive=True)] == expected
        assert cascade.calls == calls


def acted(count, x=0.0):
    """Somebody drawn who nods, turns and speaks, 320x240."""
    rng = np.random.default_rng(7)
    puppet = Puppet(Identity.random(rng), Scene.random(rng))
    for i in range(count):
        units = 2 + 2 * np.sin(i / 6 + np.arange(len(UNITS)))
        units[-1] = 5 * (i % 20 > 16)
        yield puppet.draw(units, pose=Pose(x=x + 0.3 * np.sin(i / 9), roll=0.15 * np.sin(i / 7)), noise_rng=rng)


def followed(images, detector):
    return [faces for _, faces in detect_faces(images, detector)]


def assert_as_near_as_the_cascade_is_to_itself(detector, *clips, answer=followed):
    """Over all frames of the clips: the cascade beside itself on a smaller picture is how steady it is."""
    ours, itself = [], []
    for images in clips:
        truth = detector.detect(images)
        ours.append(compare_tracks(truth, answer(images, detector)))
        itself.append(compare_tracks(truth, detector.detect(images, scale=0.95)))
    (_, overlap, distance), (_, own_overlap, own_distance) = (np.nanmedian(np.concatenate(each), axis=0)
                                                              for each in (ours, itself))
    assert np.concatenate(ours)[:, 0].mean() >= min(0.99, np.concatenate(itself)[:, 0].mean())
    assert overlap >= own_overlap - 0.02 and distance <= 1.25 * own_distance


def test_a_rendered_face_is_tracked_as_the_cascade_detects_it(detector):
    blank = np.full((240, 320, 3), 90, np.uint8)
    images = [*acted(50), *[blank] * 10, *acted(30, x=0.2)]
    assert_as_near_as_the_cascade_is_to_itself(detector, images)


def test_two_faces_are_tracked_as_the_cascade_detects_them(detector):
    """The one on the right is the smaller: of two as large as each other, chance would say who is followed."""
    images = [np.hstack([one, cv2.copyMakeBorder(cv2.resize(two, (240, 180)), 30, 30, 0, 0, cv2.BORDER_REPLICATE)])
              for one, two in zip(acted(40), acted(40, x=0.3), strict=True)]
    assert_as_near_as_the_cascade_is_to_itself(detector, images)


def test_half_precision_moves_a_face_no_more_than_another_image_size(detector):
    """As on a GPU, pictures go through the networks several at once and in float16."""
    half = Detector()
    half.batch = 8
    for network in (half._cascade.pnet, half._cascade.rnet, half._cascade.onet):
        to_half_precision(network)
    images = [*acted(11), np.full((240, 320, 3), 90, np.uint8), *acted(4, x=0.2)]
    answers = half.detect(images)
    assert not np.array_equal(answers[0].boxes, detector.detect(images[:1])[0].boxes), "it is the same precision"
    assert_as_near_as_the_cascade_is_to_itself(detector, images, answer=lambda images, _: answers)


@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not at hand")
def test_real_faces_are_tracked_as_the_cascade_detects_them(detector):
    names = ("single_face.mp4", "fer_test.mp4")
    assert_as_near_as_the_cascade_is_to_itself(detector, *(list(islice(frames(CLIPS / name), 50)) for name in names))
