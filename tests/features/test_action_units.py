"""The built-in estimator of action units: its description of a face, its columns and its ranges."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from emibook import InputError
from emibook.features import EXTRACTORS
from emibook.features.action_units import DESCRIPTION, GEOMETRY, NAMES, UNITS, ActionUnitEstimator, describe
from emibook.features.weights import Weights, file_fingerprint

EYES_NOSE_MOUTH = np.array([[38, 51], [74, 51], [56, 72], [42, 92], [71, 92]], np.float32)


def faces(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
    return images, np.arange(count) / 30, EYES_NOSE_MOUTH + rng.normal(0, 1, (count, 5, 2)).astype(np.float32)


def estimator(tmp_path, slopes: np.ndarray | None = None, offsets: np.ndarray | None = None) -> ActionUnitEstimator:
    rng = np.random.default_rng(0)
    slopes = rng.normal(0, 0.01, (DESCRIPTION, 34)).astype(np.float32) if slopes is None else slopes
    offsets = np.full(34, 0.5, np.float32) if offsets is None else offsets
    save_file({"slopes": slopes, "offsets": offsets}, tmp_path / "aus.safetensors")
    weights = Weights("builtin", "aus.safetensors", file_fingerprint(tmp_path / "aus.safetensors"))
    return ActionUnitEstimator(weights, tmp_path)


def test_the_columns_are_openfaces_17_units_twice():
    assert NAMES[:17] == tuple(f"AU{unit:02d}_r" for unit in UNITS) and NAMES[0] == "AU01_r" and NAMES[16] == "AU45_r"
    assert NAMES[17:] == tuple(name[:-1] + "c" for name in NAMES[:17])
    assert "AU28_c" not in NAMES  # OpenFace detects it, and gives it no intensity


def test_the_names_are_those_of_openfaces_own_files():
    """Read from real OpenFace tables where they lie beside the repository."""
    from pathlib import Path

    folder = Path(__file__).parents[3] / "shared" / "openface_csv"
    if not folder.is_dir():
        pytest.skip("no OpenFace tables beside the repository")
    for path in folder.glob("*.csv"):
        header = [name.strip() for name in path.open().readline().split(",")]
        assert [name for name in header if re.fullmatch(r"AU\d\d_r", name)] == list(NAMES[:17])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_faces(tmp_path, count):
    images, times, landmarks = faces(count)
    encoder = estimator(tmp_path)
    sequence = encoder(images, times, landmarks)
    assert sequence.values.shape == (count, EXTRACTORS["aus"].width) and sequence.names == NAMES
    np.testing.assert_array_equal(sequence.times, times)
    np.testing.assert_array_equal(encoder(images, times, landmarks).values, sequence.values)
    for row in range(count):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(encoder(images[one], times[one], landmarks[one]).values[0], sequence.values[row])


def test_values_stay_between_nothing_and_all(tmp_path):
    rng = np.random.default_rng(1)
    values = estimator(tmp_path, rng.normal(0, 1, (DESCRIPTION, 34)).astype(np.float32))(*faces(9)).values
    assert values.min() == 0 and values.max() == 1


def test_the_models_are_linear_in_the_description(tmp_path):
    images, times, landmarks = faces(4)
    rng = np.random.default_rng(2)
    slopes, offsets = rng.normal(0, 1e-3, (DESCRIPTION, 34)).astype(np.float32), np.full(34, 0.5, np.float32)
    values = estimator(tmp_path, slopes, offsets)(images, times, landmarks).values
    expected = np.stack([describe(*pair) for pair in zip(images, landmarks, strict=True)]) @ slopes + offsets
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_geometry_is_in_crop_widths_and_knows_distances():
    description = describe(faces(1)[0][0], EYES_NOSE_MOUTH)[-GEOMETRY:]
    mirrored = (EYES_NOSE_MOUTH * [-1, 1] + [111, 0])[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(description[:10], (EYES_NOSE_MOUTH + mirrored).ravel() / 224, atol=1e-6)
    assert description[10] == pytest.approx((74 - 38) / 112)  # between the eyes
    assert description[19] == pytest.approx((71 - 42) / 112)  # across the mouth


def test_a_face_and_its_mirror_image_are_described_alike():
    image, landmarks = faces(3)[0][2], faces(3)[2][2]
    mirrored = (landmarks * [-1, 1] + [111, 0])[[1, 0, 2, 4, 3]]
    one, other = describe(image, landmarks), describe(np.ascontiguousarray(image[:, ::-1]), mirrored)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - describe(faces(3)[0][1], landmarks)).max() > 0.1


def coarse(image: np.ndarray) -> np.ndarray:
    """(column, row, number) the histograms of 8-pixel cells of the left half, as ``describe`` gives them."""
    return describe(image, EYES_NOSE_MOUTH)[: 7 * 13 * 72].reshape(7, 13, 72)


def test_histograms_see_edges_where_they_are_and_not_brightness():
    image = np.full((112, 112, 3), 100, np.uint8)
    image[:, 80:] = 180
    brighter = np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(coarse(brighter), coarse(image), atol=1e-6)
    columns = np.flatnonzero(np.abs(coarse(image)).max((1, 2)) > 0.1)
    # The edge at 80 is at 32 in the mirror image. Block c covers pixels 8c to 8c + 15; interpolation reaches half a
    # cell further.
    assert columns.min() >= 2 and columns.max() <= 4 and 3 in columns


@pytest.mark.parametrize(("place", "fine"), [((40, 30), 0), ((90, 30), 1), ((8, 4), None)])
def test_eyes_and_mouth_are_looked_at_twice_as_finely(place, fine):
    """What changes at a place changes the coarse histograms and the fine ones of that part, no others."""
    image = np.full((112, 112, 3), 100, np.uint8)
    other = image.copy()
    other[place[0] : place[0] + 3, place[1] : place[1] + 3] = 200
    changed = np.abs(describe(image, EYES_NOSE_MOUTH) - describe(other, EYES_NOSE_MOUTH)) > 0.01
    ends = np.cumsum([0, 7 * 13 * 72, 10 * 11 * 48, 10 * 11 * 48, GEOMETRY])
    whole, eyes, mouth, geometry = (changed[start:end].any() for start, end in zip(ends, ends[1:], strict=False))
    assert whole and not geometry and (eyes, mouth) == (fine == 0, fine == 1)


def test_another_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no estimator of action units"):
        estimator(tmp_path, np.zeros((5, 34), np.float32))
