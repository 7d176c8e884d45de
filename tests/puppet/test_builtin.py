"""The built-in encoders: drawn once, fitted the same each time, and scored on people they have not seen."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from emibook import InputError
from emibook.features import EXTRACTORS
from emibook.features.aus import CROP, UNITS, describe
from emibook.preprocess.detector import TEMPLATE
from emibook.puppet import builtin
from emibook.puppet.builtin import Recipe, Stills, ridge
from emibook.puppet.stills import STILLS

pytestmark = pytest.mark.slow
TINY = Recipe(people=6, held_out=2, steps=2, batch=4, components=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread for ``fit``, because threads that wait for each other crawl on a machine that is busy with tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Both encoders, fitted on 72 stills: enough to show that it all runs, not to be of use."""
    folder = tmp_path_factory.mktemp("encoders")
    for name in builtin.FITS:
        builtin.fit(name, folder, TINY, workers=2, progress=False)
    return folder


def test_an_encoder_is_written_with_what_it_is_and_how_well_it_does(encoders):
    for name in builtin.FITS:
        about = json.loads((encoders / f"{name}-builtin.json").read_text())
        assert about["note"] == "fitted on drawings; says nothing about people"
        stills = about["stills"]
        assert stills["drawn"] == 6 * STILLS == stills["faces"] == stills["training"] + stills["held_out"]
        scores = about["pearson_on_held_out_identities"]
        assert list(scores["units"]) == [f"AU{unit:02d}" for unit in UNITS]
        assert all(score is None or -1 <= score <= 1 for score in scores["units"].values())
        weights = builtin.ready(name, encoders)
        assert weights.label == "builtin" and weights == EXTRACTORS[name].resolve("builtin", encoders)
        weights.path(encoders)  # checks the file's SHA-256
    assert not [path.name for path in encoders.iterdir() if path.name.startswith(".")]


def test_the_fitted_encoders_look_at_faces(encoders):
    stills = builtin.draw(encoders, 6, progress=False)
    faces = stills.images[:3], np.arange(3) / 30, stills.landmarks[:3]
    for name in builtin.FITS:
        values = EXTRACTORS[name].load("builtin", encoders)(*faces).values
        assert values.shape == (3, EXTRACTORS[name].width) and np.abs(values[0] - values[1]).max() > 1e-3


def test_stills_are_aligned_faces_of_people_in_many_expressions(encoders):
    stills = builtin.draw(encoders, 6, progress=False)
    assert len(stills) >= 0.97 * 6 * STILLS  # MTCNN finds the drawn faces
    assert stills.images.shape[1:] == (CROP, CROP, 3) and stills.images.dtype == np.uint8
    assert np.abs(stills.landmarks - TEMPLATE).mean() < 3  # the crop is aligned, and they are in its pixels
    assert stills.units.min() == 0 and 3 < stills.units.max() <= 5 and (stills.units.std(0) > 0).all()
    assert stills.emotions.min() == 0 and 0.3 < stills.emotions.max() <= 1


def test_drawing_goes_on_where_it_stopped_and_depends_on_nothing_else(encoders, tmp_path):
    first, _ = sorted((encoders / f"stills-{builtin.VERSION}").iterdir())
    folder = tmp_path / first.parent.name
    folder.mkdir()
    os.link(first, folder / first.name)
    before = first.stat().st_mtime_ns
    again = builtin.draw(tmp_path, 6, workers=1, progress=False)
    assert first.stat().st_mtime_ns == before
    stills = builtin.draw(encoders, 6, progress=False)
    for key in ("images", "landmarks", "units", "emotions", "person"):
        np.testing.assert_array_equal(getattr(again, key), getattr(stills, key))


def test_a_fit_repeated_gives_the_same_bytes_whatever_the_caller_did(encoders, tmp_path):
    import torch

    os.symlink(encoders / f"stills-{builtin.VERSION}", tmp_path / f"stills-{builtin.VERSION}")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    for name in builtin.FITS:
        assert builtin.fit(name, tmp_path, TINY, progress=False) == builtin.ready(name, encoders)
    assert torch.rand(1) == expected and torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_an_encoder_that_is_not_whole_is_fitted_again(encoders, tmp_path):
    assert builtin.ready("aus", tmp_path) is None
    path = tmp_path / "aus-builtin.json"
    path.write_text((encoders / path.name).read_text())
    assert builtin.ready("aus", tmp_path) is None  # the weights are not there
    os.link(encoders / "aus-builtin.safetensors", tmp_path / "aus-builtin.safetensors")
    assert builtin.ready("aus", tmp_path) == builtin.ready("aus", encoders)
    path.write_text(path.read_text().replace(f'"version": "{builtin.VERSION}"', '"version": "0"'))
    assert builtin.ready("aus", tmp_path) is None
    path.write_text("{")
    assert builtin.ready("aus", tmp_path) is None


def test_what_cannot_be_fitted_is_refused(encoders):
    with pytest.raises(InputError, match="resnet18 and aus have"):
        builtin.fit("vit", encoders)
    with pytest.raises(InputError, match="too few"):
        builtin.fit("aus", encoders, Recipe(people=6, held_out=6), progress=False)


def test_nobody_is_both_fitted_on_and_scored(encoders, tmp_path, monkeypatch):
    os.symlink(encoders / f"stills-{builtin.VERSION}", tmp_path / f"stills-{builtin.VERSION}")
    people = {}

    def fitted(training, held_out, recipe, progress):
        people.update(training=set(training.person), held_out=set(held_out.person))
        return {"slopes": np.zeros(1, np.float32)}, {}

    monkeypatch.setitem(builtin.FITS, "aus", fitted)
    builtin.fit("aus", tmp_path, TINY, progress=False)
    assert people == {"training": {2, 3, 4, 5}, "held_out": {0, 1}}


def test_a_picture_without_a_face_is_no_still():
    assert builtin.aligned(np.full((240, 320, 3), 90, np.uint8)) is None


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge_equals_least_squares_with_the_penalty_as_extra_rows(shape, penalty):
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(3, 1, shape), rng.normal(1, 2, (shape[0], 2))
    slopes, offsets = ridge(inputs.copy(), truth, np.arange(len(inputs)) % 3, [penalty])
    centred = inputs - inputs.mean(0)
    scale = (centred**2).sum() / shape[0]  # the mean squared length of an input
    rows = np.vstack([centred, np.sqrt(penalty * scale) * np.eye(shape[1])])
    wanted = np.concatenate([truth - truth.mean(0), np.zeros((shape[1], 2))])
    np.testing.assert_allclose(slopes, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-10)
    predicted = inputs @ slopes + offsets
    np.testing.assert_allclose(predicted.mean(0), truth.mean(0))  # the offset is not penalised


def test_each_output_gets_the_penalty_that_does_best_on_samples_left_out():
    rng = np.random.default_rng(1)
    inputs = rng.normal(0, 1, (60, 30))
    fold = np.arange(60) // 20
    truth = np.stack([inputs @ rng.normal(0, 1, 30), rng.normal(0, 1, 60)], 1)  # told by the inputs, and by nothing
    slopes, _ = ridge(inputs.copy(), truth, fold, [1e-4, 1e4])
    for column, penalty in enumerate([1e-4, 1e4]):
        np.testing.assert_allclose(slopes[:, column], ridge(inputs.copy(), truth, fold, [penalty])[0][:, column])


def barred(count: int, seed: int) -> Stills:
    """Pictures in which unit 1 is the height of a bright bar, unit 2 of a dark one; the other units cannot be seen."""
    rng = np.random.default_rng(seed)
    units = rng.uniform(0, 5, (count, len(UNITS))).astype(np.float32)
    images = np.full((count, CROP, CROP, 3), 100, np.uint8)
    for image, row in zip(images, units, strict=True):
        image[20 : 24 + int(14 * row[0]), 10:40] = 220
        image[20 : 24 + int(14 * row[1]), 70:100] = 10
    images += rng.integers(0, 20, images.shape, dtype=np.uint8)
    emotions = rng.uniform(0, 1, (count, 6)).astype(np.float32)
    return Stills(images, np.tile(TEMPLATE, (count, 1, 1)), units, emotions, np.arange(count), count)


@pytest.mark.parametrize("name", ["resnet18", "aus"])
def test_what_is_in_the_picture_is_learned_and_what_is_not_is_not(name):
    _, scores = builtin.FITS[name](barred(120, 0), barred(60, 1), Recipe(steps=15, batch=8, components=8), False)
    units = scores["units"]
    assert units["AU01"] > 0.9 and units["AU02"] > 0.9
    rest = [score or 0.0 for unit, score in units.items() if unit not in ("AU01", "AU02")]
    assert abs(np.mean(rest)) < 0.25 and max(rest) < 0.6


def test_the_network_learns_from_step_to_step(monkeypatch):
    """A linear readout sees much even in a network that learns nothing; so the training error is looked at too."""
    from torch.nn import functional

    errors, mse_loss = [], functional.mse_loss

    def recorded(answers, truth, **keywords):
        errors.append(float(mse_loss(answers, truth)))
        return mse_loss(answers, truth, **keywords)

    monkeypatch.setattr(functional, "mse_loss", recorded)
    builtin.FITS["resnet18"](barred(120, 0), barred(60, 1), Recipe(steps=30, batch=8, components=3), False)
    assert len(errors) == 30 and np.mean(errors[-5:]) < 0.93 * np.mean(errors[:5])


def test_a_unit_that_cannot_be_seen_is_predicted_by_its_mean():
    """The penalty is chosen for each unit: small where the unit shows (1 is the error of the mean), large elsewhere."""
    training, held_out = barred(120, 0), barred(60, 1)
    state, _ = builtin.FITS["aus"](training, held_out, Recipe(), False)
    inputs = np.stack([describe(*pair) for pair in zip(held_out.images, held_out.landmarks, strict=True)])
    truth = held_out.units / 5
    # With one small penalty for all, the mean over the unseen is 1.17; with one large for all, the seen are at 0.78.
    error = ((inputs @ state["slopes"][:, :17] + state["offsets"][:17] - truth) ** 2).mean(0) / truth.var(0)
    assert error[:2].max() < 0.05 and error[2:].mean() < 1.1


def test_about_half_of_a_batch_is_mirrored_and_no_more_is_done():
    import torch

    batch = torch.rand(400, 3, 4, 6)
    seen = builtin._mirrored(batch, np.random.default_rng(0))
    turned, kept = ((seen == other).flatten(1).all(1) for other in (batch.flip(-1), batch))
    assert (turned ^ kept).all() and 150 < turned.sum() < 250


def test_the_first_convolution_whitens_what_it_sees():
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (20, 3, 60, 60)).astype(np.float32)
    smooth = np.stack([[cv2.GaussianBlur(plane, (0, 0), 2) * 8 for plane in face] for face in noise])
    pixels = torch.from_numpy(smooth + 0.3 * noise)
    answers = functional.conv2d(pixels, builtin._whitening(pixels), stride=3).transpose(0, 1).flatten(1)
    assert torch.equal(answers[:32], -answers[32:])
    covariance = answers[:32] @ answers[:32].T / answers.shape[1]
    apart = covariance - torch.diag(covariance.diag())
    assert covariance.diag().min() > 0.8 and covariance.diag().max() < 1.05 and apart.abs().max() < 0.05


def test_components_are_those_of_the_singular_value_decomposition():
    inputs = np.random.default_rng(0).normal(2, 1, (30, 50)) * np.linspace(3, 0.1, 50)
    centred = inputs - inputs.mean(0)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    found = builtin._components(inputs.copy(), 4)
    np.testing.assert_allclose(np.abs(found / np.linalg.norm(found, axis=0)), np.abs(u[:, :4]), atol=1e-8)
