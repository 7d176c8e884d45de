from __future__ import annotations

import cv2
import numpy as np
import pytest

from emibook.preprocess.alignment import CROP_SIZE, TEMPLATE, align, similarity
from emibook.preprocess.detector import Detections, Detector
from emibook.puppet.renderer import UNITS, Identity, Pose, Puppet, Scene


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

def test_a_rendered_face_is_detected_at_its_position(detector, portraits):
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


def test_all_faces_of_an_image_are_detected(detector, portraits):
    both = np.hstack(portraits[:2])
    found = detector.detect([both])[0]
    assert len(found) == 2
    assert sorted(int(x > 320) for x in found.boxes[:, 0]) == [0, 1]


def test_images_without_a_face_give_none(detector):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert [len(found) for found in detector.detect([np.zeros((120, 160, 3), np.uint8), noise])] == [0, 0]
    for height, width in ((1, 1), (19, 400), (20, 20)):
        assert len(detector.detect([np.full((height, width, 3), 128, np.uint8)])[0]) == 0
    assert detector.detect([]) == []


def test_a_batch_equals_single_images(detector, portraits, monkeypatch):
    pictures = [*portraits, np.zeros_like(portraits[0]), np.hstack([portraits[1][:, :160], portraits[2][:, 160:]])]
    alone = detector.detect(pictures)
    monkeypatch.setattr(detector, "batch", 3)
    for one, other in zip(alone, detector.detect(pictures), strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)


def test_detections_at_another_scale_are_in_pixels_of_the_image(detector, portraits):
    here = detector.detect(portraits)
    for scale in (0.8, 1.3):
        for one, other in zip(here, detector.detect(portraits, scale=scale), strict=True):
            assert len(other) == 1 and np.abs(one.landmarks - other.landmarks).max() < 6
            assert np.abs(one.boxes - other.boxes).max() < 15


def test_a_large_face_is_refined_as_a_small_one(detector, portraits):
    """Of a large face the networks see a part that was halved; where it lies is told in pixels of the image."""
    for image, truth in zip(portraits, detector.detect(portraits), strict=True):
        width = truth.boxes[0, 2] - truth.boxes[0, 0]
        near = detector.refine(image, truth.boxes)
        large = np.pad(image.repeat(4, axis=0).repeat(4, axis=1), ((70, 0), (130, 0), (0, 0)), mode="edge")
        moved = np.array([130, 70])
        found = detector.refine(large, 4 * truth.boxes + np.tile(moved, 2))
        assert len(found) == len(near) == 1
        assert np.abs((found.boxes - np.tile(moved, 2)) / 4 - near.boxes).max() < 0.05 * width
        assert np.abs((found.landmarks - moved) / 4 - near.landmarks).max() < 0.03 * width


def test_a_box_near_a_face_is_refined_to_the_face(detector, portraits):
    """Whatever the box is off by, the answer is what the cascade finds, and off the face there is none."""
    for image, truth in zip(portraits, detector.detect(portraits), strict=True):
        width = truth.boxes[0, 2] - truth.boxes[0, 0]
        for x, y, grown in ((0, 0, 0), (0.15, 0, 0), (0, -0.15, 0), (-0.1, 0.1, 0), (0, 0, 0.12), (0, 0, -0.12)):
            moved = truth.boxes + width * np.array([x - grown, y - grown, x + grown, y + grown])
            for around in (False, True):
                found = detector.refine(image, moved, around=around)
                assert len(found) == 1 and found.probabilities[0] > 0.9
                assert np.abs(found.landmarks - truth.landmarks).max() < 0.1 * width
        assert len(detector.refine(image, np.array([[0, 0, width / 2, width / 2]]))) == 0
        # Two boxes about one face are one face.
        assert len(detector.refine(image, np.concatenate([truth.boxes, truth.boxes + 3]))) == 1
    assert len(detector.refine(portraits[0], np.zeros((0, 4)))) == 0


def test_a_search_finds_large_faces_in_a_shrunk_picture(detector, portraits):
    large = cv2.resize(portraits[0], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    truth = detector.detect(portraits)[0]
    width = 3 * (truth.boxes[0, 2] - truth.boxes[0, 0])
    for smallest in (0, width / 4, width / 2):
        found = detector.search(large, smallest)
        assert len(found) == 1 and np.abs(found.landmarks - 3 * truth.landmarks).max() < 0.1 * width
    assert len(detector.search(large, 3 * width)) == 0


def test_detections_check_themselves():
    with pytest.raises(ValueError, match="shapes"):
        Detections(np.zeros((2, 4)), np.zeros(1), np.zeros((2, 5, 2)))


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


def test_similarity_recovers_a_known_rotation_and_never_reflects():
    angle, scale, shift = np.deg2rad(37), 2.5, np.array([-40.0, 12.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(similarity(TEMPLATE, TEMPLATE @ turn.T + shift), np.column_stack([turn, shift]),
                               atol=1e-4)
    assert np.linalg.det(similarity(TEMPLATE * (-1, 1), TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (30, 1), (-90, 1), (180, 1.5), (15, 3), (0, 6), (-20, 0.8)])
def test_a_crop_is_the_same_however_the_face_stood(detector, portraits, degrees, scale):
    landmarks = detector.detect([portraits[0]])[0].landmarks[0]
    once = align(portraits[0], landmarks).astype(int)
    assert once.shape == (CROP_SIZE, CROP_SIZE, 3)
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


def test_a_crop_beyond_the_border_repeats_the_border():
    image = np.full((100, 100, 3), (10, 120, 200), np.uint8)
    for shift in ((-60, -60), (70, 20), (0, 90)):
        assert (align(image, TEMPLATE + shift) == (10, 120, 200)).all()
