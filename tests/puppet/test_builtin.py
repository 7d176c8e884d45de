"""The built-in encoders: fitted once per machine, the same each time, and scored on people they have not seen."""

from __future__ import annotations

import json
import os
import shutil
import threading

import cv2
import numpy as np
import pytest

from emibook import InputError
from emibook.compute import Resources
from emibook.features import EXTRACTORS
from emibook.features.action_units import UNITS, describe
from emibook.preprocess.alignment import CROP_SIZE, TEMPLATE
from emibook.puppet import builtin, train_resnet18
from emibook.puppet.builtin import FitRecipe, Stills
from emibook.puppet.stills import STILLS

pytestmark = pytest.mark.slow
TINY = FitRecipe(people=6, held_out=2, steps=2, batch=4, components=8)
QUIET = Resources(workers=2, progress=False)


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
        builtin.fit(name, folder, TINY, resources=QUIET)
    return folder


@pytest.fixture
def cache(encoders, tmp_path, monkeypatch):
    """A cache of its own that holds the stills of ``TINY``."""
    cache = tmp_path / "cache"
    (cache / "encoders").mkdir(parents=True)
    os.symlink(encoders / f"stills-{builtin.VERSION}", cache / "encoders" / f"stills-{builtin.VERSION}")
    monkeypatch.setenv("EMIBOOK_CACHE", str(cache))
    return cache


@pytest.fixture
def fits(monkeypatch):
    """A fit of ``aus`` that takes no time, and the list of its calls."""
    calls = []

    def fitted(training, held_out, recipe, progress):
        calls.append((set(training.person), set(held_out.person)))
        return {"slopes": np.full(1, recipe.steps, np.float32)}, {}

    monkeypatch.setitem(builtin.FITS, "aus", fitted)
    return calls


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
    stills = builtin.draw(encoders, 6, QUIET)
    faces = stills.images[:3], np.arange(3) / 30, stills.landmarks[:3]
    for name in builtin.FITS:
        values = EXTRACTORS[name].load("builtin", encoders)(*faces).values
        assert values.shape == (3, EXTRACTORS[name].width) and np.abs(values[0] - values[1]).max() > 1e-3


def test_the_extractor_computes_what_the_whole_trunk_does(encoders):
    """It leaves out the blocks that are the identity and folds batch normalisation into the convolutions."""
    import torch

    from emibook.features.resnet18 import builtin_input, read_resnet18, resnet18_trunk

    stills = builtin.draw(encoders, 6, QUIET)
    trunk = resnet18_trunk().eval()
    trunk.load_state_dict(read_resnet18(encoders / "resnet18-builtin.safetensors"))
    with torch.inference_mode():
        expected = trunk(builtin_input(torch.from_numpy(stills.images[:3]))).numpy()
    encoder = EXTRACTORS["resnet18"].load("builtin", encoders)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in encoder.model.modules()) == 12
    faces = stills.images[:3], np.arange(3) / 30, stills.landmarks[:3]
    np.testing.assert_allclose(encoder(*faces).values, expected, rtol=1e-3, atol=1e-3)


def test_stills_are_aligned_faces_of_people_in_many_expressions(encoders):
    stills = builtin.draw(encoders, 6, QUIET)
    assert len(stills) >= 0.97 * 6 * STILLS  # MTCNN finds the drawn faces
    assert stills.images.shape[1:] == (CROP_SIZE, CROP_SIZE, 3) and stills.images.dtype == np.uint8
    assert np.abs(stills.landmarks - TEMPLATE).mean() < 3  # the crop is aligned, and they are in its pixels
    assert stills.units.min() == 0 and 3 < stills.units.max() <= 5 and (stills.units.std(0) > 0).all()
    assert stills.emotions.min() == 0 and 0.3 < stills.emotions.max() <= 1


def test_rendering_resumes_replaces_damaged_files_and_depends_on_nothing_else(encoders, tmp_path):
    first, second = sorted((encoders / f"stills-{builtin.VERSION}").iterdir())
    folder = tmp_path / first.parent.name
    folder.mkdir()
    os.link(first, folder / first.name)
    (folder / second.name).write_bytes(second.read_bytes()[:-100])
    before = first.stat().st_mtime_ns
    again = builtin.draw(tmp_path, 6, Resources(workers=1, progress=False))
    assert first.stat().st_mtime_ns == before
    stills = builtin.draw(encoders, 6, QUIET)
    for key in ("images", "landmarks", "units", "emotions", "person"):
        np.testing.assert_array_equal(getattr(again, key), getattr(stills, key))


def test_a_fit_repeated_gives_the_same_bytes_whatever_the_caller_did(encoders, tmp_path):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    for name in builtin.FITS:
        assert builtin.fit(name, tmp_path, TINY, stills=encoders, resources=QUIET) == builtin.ready(name, encoders)
    assert torch.rand(1) == expected and torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_an_encoder_is_fitted_once_and_linked_into_every_work_folder(cache, fits, tmp_path, capsys):
    first, second = tmp_path / "one" / "encoders", tmp_path / "two" / "encoders"
    weights = builtin.encoder("aus", first, recipe=TINY, resources=QUIET)
    report = capsys.readouterr().err
    assert report.count("\n") == 1 and "no published weights" in report and str(cache) in report
    assert builtin.encoder("aus", second, recipe=TINY, resources=QUIET) == weights and len(fits) == 1
    assert capsys.readouterr().err == ""
    assert (first / weights.file).samefile(second / weights.file)
    shutil.rmtree(cache)
    assert builtin.encoder("aus", first, recipe=TINY, resources=QUIET) == weights and not cache.exists()


def test_another_recipe_is_another_encoder(cache, fits, tmp_path):
    longer = FitRecipe(**{**vars(TINY), "steps": 3})
    weights = [builtin.encoder("aus", tmp_path / str(recipe.steps), recipe=recipe, resources=QUIET)
               for recipe in (TINY, longer, TINY)]
    assert len(fits) == 2 and weights[0] == weights[2] != weights[1]


@pytest.mark.parametrize("damage", ["weights cut", "weights foreign", "description cut", "weights gone"])
def test_a_damaged_encoder_in_the_cache_is_reported_and_fitted_again(cache, fits, tmp_path, capsys, damage):
    weights = builtin.encoder("aus", tmp_path / "one", recipe=TINY, resources=QUIET)
    (folder,) = (cache / "encoders").glob("aus-*")
    path = folder / (f"aus-builtin.{'json' if 'description' in damage else 'safetensors'}")
    content = path.read_bytes()
    path.unlink()  # the other link of the file stays whole
    if "gone" not in damage:
        path.write_bytes(content[:-5] if "cut" in damage else b"0" * len(content))
    capsys.readouterr()
    assert builtin.encoder("aus", tmp_path / "two", recipe=TINY, resources=QUIET) == weights and len(fits) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "damaged" in lines[0] and str(folder) in lines[0] and len(lines) == 2
    assert builtin.ready("aus", folder) == weights


def test_an_encoder_of_another_version_is_replaced_in_the_work_folder(cache, fits, tmp_path):
    weights = builtin.encoder("aus", tmp_path / "one", recipe=TINY, resources=QUIET)
    path = tmp_path / "one" / "aus-builtin.json"
    text = path.read_text().replace(f'"version": "{builtin.VERSION}"', '"version": "0"')
    path.unlink()
    path.write_text(text)
    assert builtin.ready("aus", tmp_path / "one") is None
    assert builtin.encoder("aus", tmp_path / "one", recipe=TINY, resources=QUIET) == weights and len(fits) == 1
    assert builtin.ready("aus", tmp_path / "one") == weights


def test_of_two_that_need_an_encoder_at_once_one_fits_it(cache, fits, tmp_path):
    results = {}

    def need(name):
        results[name] = builtin.encoder("aus", tmp_path / name, recipe=TINY, resources=QUIET)

    threads = [threading.Thread(target=need, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fits) == 1 and results["a"] == results["b"]


def test_a_cache_that_cannot_be_written_is_reported(fits, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMIBOOK_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="EMIBOOK_CACHE"):
        builtin.encoder("aus", tmp_path / "encoders", recipe=TINY, resources=QUIET)


def test_what_cannot_be_fitted_is_refused(encoders):
    for function in (builtin.fit, builtin.encoder):
        with pytest.raises(InputError, match="resnet18 and aus have"):
            function("vit", encoders)
    with pytest.raises(InputError, match="too few"):
        builtin.fit("aus", encoders, FitRecipe(people=6, held_out=6), resources=QUIET)


def test_nobody_is_both_fitted_on_and_scored(encoders, tmp_path, fits):
    builtin.fit("aus", tmp_path, TINY, stills=encoders, resources=QUIET)
    assert fits == [({2, 3, 4, 5}, {0, 1})]


def test_a_picture_without_a_face_is_no_still():
    assert builtin.aligned(np.full((240, 320, 3), 90, np.uint8)) is None


def barred(count: int, seed: int) -> Stills:
    """Pictures in which unit 1 is the height of a bright bar, unit 2 of a dark one; the other units cannot be seen."""
    rng = np.random.default_rng(seed)
    units = rng.uniform(0, 5, (count, len(UNITS))).astype(np.float32)
    images = np.full((count, CROP_SIZE, CROP_SIZE, 3), 100, np.uint8)
    for image, row in zip(images, units, strict=True):
        image[20 : 24 + int(14 * row[0]), 10:40] = 220
        image[20 : 24 + int(14 * row[1]), 70:100] = 10
    images += rng.integers(0, 20, images.shape, dtype=np.uint8)
    emotions = rng.uniform(0, 1, (count, 6)).astype(np.float32)
    return Stills(images, np.tile(TEMPLATE, (count, 1, 1)), units, emotions, np.arange(count), count)


@pytest.mark.parametrize("name", ["resnet18", "aus"])
def test_what_is_in_the_picture_is_learned_and_what_is_not_is_not(name):
    _, scores = builtin.FITS[name](barred(120, 0), barred(60, 1), FitRecipe(steps=15, batch=8, components=8), False)
    units = scores["units"]
    assert units["AU01"] > 0.9 and units["AU02"] > 0.9
    rest = [score or 0.0 for unit, score in units.items() if unit not in ("AU01", "AU02")]
    assert abs(np.mean(rest)) < 0.25 and max(rest) < 0.6


def test_the_network_learns_from_step_to_step(monkeypatch):
    """A linear readout sees much even in a network that learns nothing; so the training error is looked at too."""
    from torch.nn import functional

    errors, mse_loss = [], functional.mse_loss

    def recorded(outputs, truth, **keywords):
        errors.append(float(mse_loss(outputs, truth)))
        return mse_loss(outputs, truth, **keywords)

    monkeypatch.setattr(functional, "mse_loss", recorded)
    builtin.FITS["resnet18"](barred(120, 0), barred(60, 1), FitRecipe(steps=30, batch=8, components=3), False)
    assert len(errors) == 30 and np.mean(errors[-5:]) < 0.93 * np.mean(errors[:5])


def test_a_unit_that_cannot_be_seen_is_predicted_by_its_mean():
    """The penalty is chosen for each unit: small where the unit shows (1 is the error of the mean), large elsewhere."""
    training, held_out = barred(120, 0), barred(60, 1)
    state, _ = builtin.FITS["aus"](training, held_out, FitRecipe(), False)
    inputs = np.stack([describe(*pair) for pair in zip(held_out.images, held_out.landmarks, strict=True)])
    truth = held_out.units / 5
    # With one small penalty for all, the mean over the unseen is 1.17; with one large for all, the seen are at 0.78.
    error = ((inputs @ state["slopes"][:, :17] + state["offsets"][:17] - truth) ** 2).mean(0) / truth.var(0)
    assert error[:2].max() < 0.05 and error[2:].mean() < 1.1


def test_about_half_of_a_batch_is_mirrored_and_no_more_is_done():
    import torch

    batch = torch.rand(400, 3, 4, 6)
    seen = train_resnet18.mirrored(batch, np.random.default_rng(0))
    turned, kept = ((seen == other).flatten(1).all(1) for other in (batch.flip(-1), batch))
    assert (turned ^ kept).all() and 150 < turned.sum() < 250


def test_the_first_convolution_whitens_what_it_sees():
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (20, 3, 60, 60)).astype(np.float32)
    smooth = np.stack([[cv2.GaussianBlur(plane, (0, 0), 2) * 8 for plane in face] for face in noise])
    pixels = torch.from_numpy(smooth + 0.3 * noise)
    responses = functional.conv2d(pixels, train_resnet18.whitening(pixels), stride=3).transpose(0, 1).flatten(1)
    assert torch.equal(responses[:32], -responses[32:])
    covariance = responses[:32] @ responses[:32].T / responses.shape[1]
    apart = covariance - torch.diag(covariance.diag())
    assert covariance.diag().min() > 0.8 and covariance.diag().max() < 1.05 and apart.abs().max() < 0.05


def test_components_are_those_of_the_singular_value_decomposition():
    inputs = np.random.default_rng(0).normal(2, 1, (30, 50)) * np.linspace(3, 0.1, 50)
    centred = inputs - inputs.mean(0)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    found = train_resnet18.components(inputs.copy(), 4)
    np.testing.assert_allclose(np.abs(found / np.linalg.norm(found, axis=0)), np.abs(u[:, :4]), atol=1e-8)
