from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from emibook.puppet import eyes_and_mouth
from emibook.puppet.looks import SKINS, Glasses
from emibook.puppet.muscles import INDEX
from emibook.puppet.renderer import UNIT_NAMES, UNITS, Identity, Pose, Puppet, Scene

NEUTRAL = np.zeros(len(UNITS))


def person(seed: int) -> Puppet:
    rng = np.random.default_rng([seed, 77])
    return Puppet(Identity.random(rng), Scene.random(rng))


@pytest.fixture(scope="module")
def puppets() -> list[Puppet]:
    return [person(seed) for seed in range(4)]


def only(unit: int, intensity: float = 5.0) -> np.ndarray:
    units = NEUTRAL.copy()
    units[INDEX[unit]] = intensity
    return units


def change(puppet: Puppet, units: np.ndarray) -> np.ndarray:
    """(height, width) absolute change from the face at rest, in grey levels."""
    return np.abs(puppet.draw(units).astype(int) - puppet.draw(NEUTRAL)).mean(2)


def rows_of(puppet: Puppet, y: float) -> int:
    """Row of the picture at a height in face units."""
    return round((puppet.scene.y + y * puppet.scene.scale) * puppet.height)


def test_names_are_those_of_the_units():
    assert UNIT_NAMES[0] == "AU01" and UNIT_NAMES[-1] == "AU45" and len(UNIT_NAMES) == len(UNITS) == 17


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_shows_and_shows_more_the_stronger_it_is(puppets, unit):
    for puppet in puppets:
        amounts = [change(puppet, only(unit, intensity)).sum() for intensity in (1, 2, 3, 4, 5)]
        assert amounts[0] > 300, f"{unit} at intensity 1 changes next to nothing: {amounts}"
        assert (np.diff(amounts) > 0).all()


def test_units_look_different_from_each_other(puppets):
    for puppet in puppets:
        rest = puppet.draw(NEUTRAL).astype(float)
        moves = np.stack([cv2.blur(puppet.draw(only(unit)) - rest, (3, 3)).ravel() for unit in UNITS])
        moves /= np.linalg.norm(moves, axis=1, keepdims=True)
        alike = moves @ moves.T - np.eye(len(UNITS))
        first, second = np.unravel_index(alike.argmax(), alike.shape)
        assert alike.max() < 0.9, f"{UNIT_NAMES[first]} and {UNIT_NAMES[second]} look alike: {alike.max():.2f}"


MUSCLES = {
    1: (0, 0.55, -1.0, -0.1), 2: (0.22, 1.0, -1.0, -0.1), 4: (0, 0.95, -0.5, 0.05), 5: (0.15, 0.7, -0.3, 0.08),
    6: (0.05, 1.1, -0.2, 0.85), 7: (0.15, 0.75, -0.25, 0.2), 9: (0, 0.6, -0.45, 1.0), 10: (0, 0.6, 0.35, 1.1),
    12: (0, 0.95, 0.2, 1.15), 14: (0, 0.9, 0.6, 1.3), 15: (0, 0.8, 0.75, 1.45), 17: (0, 0.6, 0.7, 1.6),
    20: (0, 1.0, 0.5, 1.55), 23: (0, 0.8, 0.6, 1.35), 25: (0, 0.45, 0.65, 1.3), 26: (0, 1.0, 0.8, 2.3),
    45: (0.15, 0.75, -0.25, 0.15),
}
"""Where each unit may move the face: distance from the middle and height, in face units from between the eyes."""


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_moves_its_own_part_of_the_face(puppets, unit):
    near, far, low, high = MUSCLES[unit]
    for puppet in puppets:
        size = puppet.scene.scale * puppet.height
        rows, columns = np.mgrid[: puppet.height, : puppet.width]
        x, y = abs(columns - puppet.scene.x * puppet.width) / size, (rows - puppet.scene.y * puppet.height) / size
        inside = (near <= x) & (x <= far) & (low <= y) & (y <= high)
        moved = change(puppet, only(unit))
        assert moved[inside].sum() > 0.93 * moved.sum()
        assert moved[inside].mean() > 12 * moved[~inside].mean()


def test_brows_move_in_the_direction_of_their_unit():
    rng = np.random.default_rng(5)
    identity = Identity(seed=3, skin=0.1, hair_color=(30, 26, 26), style="short", cloth=(90, 90, 90), iris=(70, 50, 30))
    puppet = Puppet(identity, Scene(seed=int(rng.integers(9)), light=(0.0, -0.3, 0.95)))

    def height_of_brow(units: np.ndarray, outer: bool) -> float:
        """Centre of what is dark above the eye, in rows from the top."""
        size = puppet.scene.scale * puppet.height
        middle = puppet.scene.x * puppet.width + (0.62 if outer else 0.24) * size
        rows = slice(rows_of(puppet, -0.62), rows_of(puppet, -0.12))
        strip = puppet.draw(units)[rows, round(middle - 2) : round(middle + 3)].mean((1, 2))
        dark = np.clip(np.median(strip) - 25 - strip, 0, None)
        return float((dark * np.arange(len(dark))).sum() / dark.sum())

    inner, outer = height_of_brow(NEUTRAL, False), height_of_brow(NEUTRAL, True)
    assert height_of_brow(only(1), False) < inner - 2 and abs(height_of_brow(only(1), True) - outer) < 2
    assert height_of_brow(only(2), True) < outer - 2 and abs(height_of_brow(only(2), False) - inner) < 2
    assert height_of_brow(only(4), False) > inner + 1


def test_a_blink_covers_the_eye(puppets):
    for puppet in puppets:
        size = puppet.scene.scale * puppet.height
        column = round(puppet.scene.x * puppet.width - puppet.identity.eye_distance * size)
        box = np.s_[rows_of(puppet, -0.08) : rows_of(puppet, -0.02), column - 7 : column + 8]
        deviations = [puppet.draw(only(45, intensity))[box].mean(2).std() for intensity in (0, 5)]
        assert deviations[1] < 0.5 * deviations[0]


def test_the_jaw_lowers_the_chin(puppets):
    mouth = [puppet.draw(only(26)) for puppet in puppets]
    for puppet, dropped in zip(puppets, mouth, strict=True):
        middle = round(puppet.scene.x * puppet.width)
        chin = slice(rows_of(puppet, 1.25), rows_of(puppet, 1.9))
        assert np.abs(dropped[chin, middle].astype(int) - puppet.draw(NEUTRAL)[chin, middle]).mean() > 2


def test_nothing_is_left_of_the_last_expression():
    puppet = person(9)
    before = puppet.draw(NEUTRAL)
    puppet.draw(np.full(len(UNITS), 4.0), pose=Pose(yaw=0.2))
    assert np.array_equal(puppet.draw(NEUTRAL), before)


def test_same_person_same_picture_and_noise_as_strong_as_requested():
    one, two = person(2), person(2)
    assert np.array_equal(one.draw(only(12), noise_rng=np.random.default_rng(0)),
                          two.draw(only(12), noise_rng=np.random.default_rng(0)))
    clean = one.draw(NEUTRAL).astype(float)
    grain = one.draw(NEUTRAL, noise_rng=np.random.default_rng(1)) - clean
    assert 0.6 * one.scene.noise < grain.std() < 1.4 * one.scene.noise and abs(grain.mean()) < 0.3


def test_head_moves_with_its_pose():
    puppet = person(1)
    size = puppet.scene.scale * puppet.height
    head = np.s_[20 : rows_of(puppet, 1.0), 60:260]
    still = cv2.cvtColor(puppet.draw(NEUTRAL), cv2.COLOR_RGB2GRAY)[head].astype(np.float32)
    moved = cv2.cvtColor(puppet.draw(NEUTRAL, pose=Pose(x=0.2, y=-0.1)), cv2.COLOR_RGB2GRAY)[head].astype(np.float32)
    window = cv2.createHanningWindow(still.shape[::-1], cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate(still, moved, window)
    assert shift == pytest.approx((0.2 * size, -0.1 * size), abs=1.5)


def test_the_backdrop_shows_where_nobody_is():
    puppet = person(3)
    green = np.zeros_like(puppet.backdrop) + np.array([0, 200, 0], np.uint8)
    picture = puppet.draw(NEUTRAL, backdrop=green)
    assert (picture[:30, :30] == [0, 200, 0]).all()
    assert np.array_equal(picture[rows_of(puppet, 0.7), 155:165], puppet.draw(NEUTRAL)[rows_of(puppet, 0.7), 155:165])


def test_units_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"\(16,\)"):
        person(0).draw(np.zeros(16))


def test_skins_run_from_light_to_dark():
    brightness = SKINS.sum(1)
    assert (np.diff(brightness) < 0).all() and brightness[0] > 3 * brightness[-1]


@pytest.mark.slow
def test_mtcnn_finds_forty_faces_of_any_skin_with_glasses_and_without():
    import torch

    from emibook.puppet.stills import hit_rate

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other crawl on a machine that is busy with tests
    hits = hit_rate(people=40)
    torch.set_num_threads(threads)
    assert hits.detected.shape == (40, 6) and hits.rate >= 0.99
    for some in (hits.skin < 0.33, hits.skin > 0.67, hits.glasses, ~hits.glasses):
        assert some.sum() >= 3 and hits.detected[some].mean() >= 0.98


def test_a_face_found_elsewhere_is_no_hit(monkeypatch):
    from emibook.preprocess.detector import Detections
    from emibook.puppet import stills

    class Beside:
        def detect(self, images):
            points = np.array([[20, 20], [50, 20], [35, 35], [25, 50], [45, 50]], np.float32)
            return [Detections(np.array([[10, 10, 60, 60]], np.float32), np.ones(1, np.float32), points[None])]

    monkeypatch.setattr(stills, "_detector", Beside)
    assert stills.hit_rate(people=1).rate == 0


def with_glasses(seed: int) -> tuple[Puppet, Puppet]:
    """The same person and scene with glasses and without."""
    rng = np.random.default_rng([seed, 78])
    identity, scene, worn = Identity.random(rng), Scene.random(rng), Glasses.random(rng)
    return Puppet(replace(identity, glasses=worn), scene), Puppet(replace(identity, glasses=None), scene)


def test_glasses_sit_before_the_eyes_and_move_with_the_head():
    for seed in range(3):
        puppet, bare = with_glasses(seed)
        for pose in (Pose(), Pose(x=0.2, y=-0.1, walk=0.3)):
            drawn = np.abs(puppet.draw(NEUTRAL, pose=pose).astype(int) - bare.draw(NEUTRAL, pose=pose)).mean(2)
            rows, columns = np.nonzero(drawn > 5)
            unit = puppet.scene.scale * puppet.height
            middle = np.array([puppet.scene.x * 320, puppet.scene.y * 240]) + unit * np.array(
                [pose.x + pose.walk, pose.y])
            assert abs(columns.mean() - middle[0]) < 0.12 * unit and abs(rows.mean() - middle[1]) < 0.15 * unit
            assert np.ptp(columns) > 1.2 * unit and np.ptp(rows) < 0.9 * unit


def test_no_muscle_bends_glasses():
    """What glasses change is at the same place in any expression, and what they cover is still to be seen."""
    for seed in range(3):
        puppet, bare = with_glasses(seed)
        rest = np.abs(puppet.draw(NEUTRAL).astype(int) - bare.draw(NEUTRAL)).mean(2) > 12
        for unit in (1, 2, 4, 6, 9):
            moved = np.abs(puppet.draw(only(unit)).astype(int) - bare.draw(only(unit))).mean(2) > 12
            assert (rest & moved).sum() > 0.8 * min(rest.sum(), moved.sum())
        open_eyes, shut = puppet.draw(NEUTRAL), puppet.draw(only(45))
        assert np.abs(open_eyes.astype(int) - shut).max() > 60


def test_about_one_person_in_six_wears_glasses():
    worn = [Identity.random(np.random.default_rng(seed)).glasses is not None for seed in range(600)]
    assert np.mean(worn) == pytest.approx(1 / 6, abs=0.045)


def test_only_where_something_is_drawn_is_worked_and_no_pixel_differs():
    """Blurring and laying over look at the surroundings of what is drawn; beside the same over the whole of it."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape = tuple(rng.integers(20, 90, 2))
        mask = np.zeros(shape, np.uint8)
        height, width = shape
        ends = rng.integers(-5, [width + 5, height + 5], (rng.integers(1, 5), 2)).astype(np.int32)
        cv2.polylines(mask, [ends], False, int(rng.integers(40, 256)), int(rng.integers(1, 5)), cv2.LINE_AA)
        sigma = float(rng.uniform(0.5, 2.5))
        whole = cv2.GaussianBlur(mask, (0, 0), sigma)
        assert (eyes_and_mouth._blur(mask, sigma) == whole).all()
        worked = np.zeros(shape, bool)
        worked[eyes_and_mouth._bounding_box(whole)] = True
        if whole.any():
            rows, columns = np.nonzero(whole)
            assert worked.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) and worked[whole > 0].all()

        picture, color = rng.integers(0, 256, (2, *shape, 4)).astype(np.uint8)
        weight = whole.astype(np.float32) / 255
        expected = cv2.blendLinear(color, picture, weight, 1 - weight)
        eyes_and_mouth._blend(picture, color, whole)
        assert (picture == expected).all()


def test_an_empty_mask_changes_nothing():
    picture = np.full((9, 9, 4), 77, np.uint8)
    eyes_and_mouth._paint(picture, (1.0, 2.0, 3.0), eyes_and_mouth._blur(np.zeros((9, 9), np.uint8), 1.0))
    assert (picture == 77).all()


def test_a_color_outside_the_range_is_the_nearest_inside():
    picture = np.zeros((4, 5, 4), np.uint8)
    eyes_and_mouth._paint(picture, (300.0, -4.0, 12.9), np.full((4, 5), 255, np.uint8))
    assert (picture == [255, 0, 12, 255]).all()
