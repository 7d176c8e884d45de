"""Mistakes that public code of this field has made with numbers, each a test of the way from features to a row.

Elsewhere: every clip counts and the last batch is not dropped, validation labels only choose, a perfect prediction
costs a Pearson loss nothing (test_loop); a clip alone equals the clip in any batch, no convolution sees the future
(test_models); no batch writes into what is packed (test_load); correlations over all clips at once, a sparse target
(test_metrics); the choice that does not see what it is scored on (test_checkpoint); weights of a fusion (test_fusion).
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import made
import numpy as np
import pandas
import pytest

from emibook.corpus import Corpus
from emibook.experiments import batch
from emibook.experiments.paper_tables import tables
from emibook.experiments.runs import Run
from emibook.experiments.scoring import cross_fitted, fuse
from emibook.experiments.training_run import Experiment, make_run
from emibook.experiments.variants import Variant
from emibook.features import store
from emibook.metrics import mean_pearson
from emibook.sequences.load import load
from emibook.training.loop import Recipe, load_model, predict

QUICK = Recipe("quick", learning_rate=3e-3, batch=10, epochs=3, threads=1)
ROWS = ["aus", "resnet18+aus", "mfcc"]
NO_FACE, NO_SOUND = "00017", "00019"  # of the validation partition


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    corpus = made.corpus(work / "root", 15, 12, 5)
    for name in ("resnet18", "aus", "mfcc"):
        made.write(corpus, work, name, signal=3.0, empty=(NO_SOUND if name == "mfcc" else NO_FACE,))
    return corpus, work


@pytest.fixture(scope="module", autouse=True)
def nothing_to_extract():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("preprocess", "extract"):
            patch.setattr(batch, name, lambda *_, **__: None)
        yield


def with_clips(corpus: Corpus, clips: pandas.DataFrame) -> Corpus:
    return replace(corpus, clips=clips.reset_index(drop=True))


def both_tables(corpus: Corpus, work) -> pandas.DataFrame:
    made_tables = tables(corpus, work, seeds=1, rows=ROWS, recipe=QUICK, resources=made.QUIET)
    return pandas.concat(made_tables).set_index("features")


def test_validation_clips_in_another_order_give_the_same_rows_in_every_modality(world):
    """Looking a clip up by its row, or permuting the labels but not one modality, would change some row."""
    corpus, work = world
    expected = both_tables(corpus, work)
    valid = corpus.clips["partition"] == "valid"
    shuffled = corpus.clips[valid].sample(frac=1, random_state=3)
    assert list(shuffled["clip"]) != list(corpus.clips["clip"][valid])
    other = with_clips(corpus, pandas.concat([corpus.clips[~valid], shuffled]))
    moved = both_tables(other, work)
    numbers = ["mean", "low", "high", "cross_fitted", "missing", "clips", *(f"pearson {name}" for name in made.TARGETS)]
    # The halves are the same participants whatever the order, and so are the participants that a draw repeats.
    np.testing.assert_allclose(moved[numbers].to_numpy(float), expected[numbers].to_numpy(float), atol=1e-5)
    for branch in ROWS:
        folders = [make_run(Experiment.of(each, work, QUICK), branch, 0, made.QUIET) for each in (corpus, other)]
        first, second = (pandas.read_csv(folder / "predictions.csv", dtype={"clip": str}) for folder in folders)
        assert folders[0] != folders[1] and list(first["clip"]) != list(second["clip"])
        pandas.testing.assert_frame_equal(
            first, second.set_index("clip").loc[first["clip"]].reset_index(), check_exact=False, atol=1e-5
        )


def test_n_is_the_partitions_size_and_clips_without_a_modality_are_predicted_from_the_other_and_counted(world):
    corpus, work = world
    table = both_tables(corpus, work)
    assert (table["clips"] == 12).all()
    assert table["missing"].to_dict() == {
        "aus": 1, "resnet18+aus": 1, "mfcc": 1, "aus & mfcc": 2, "resnet18+aus & mfcc": 2
    }
    runs = [Run.open(make_run(Experiment.of(corpus, work, QUICK), branch, 0, made.QUIET))
            for branch in ("aus", "mfcc")]
    clips = list(corpus.partition("valid")["clip"])
    face, sound = (run.predictions("valid", clips)[0] for run in runs)
    fused = fuse(runs, clips)
    assert len(fused) == 12 and np.isfinite(fused).all()
    expected = (face + sound) / 2
    expected[clips.index(NO_FACE)] = sound[clips.index(NO_FACE)]
    expected[clips.index(NO_SOUND)] = face[clips.index(NO_SOUND)]
    np.testing.assert_allclose(fused, expected)
    truth = corpus.partition("valid")[list(made.TARGETS)].to_numpy()
    assert table.loc["aus & mfcc", "mean"] == pytest.approx(mean_pearson(truth, expected))


def test_fusion_does_not_mind_the_order_of_one_modalitys_file(world, tmp_path):
    corpus, work = world
    folders = [make_run(Experiment.of(corpus, work, QUICK), branch, 0, made.QUIET) for branch in ("aus", "mfcc")]
    moved = shutil.copytree(folders[1], tmp_path / "moved")
    for name in ("predictions.csv", "halves.csv"):
        table = pandas.read_csv(moved / name, dtype=str)
        table.sample(frac=1, random_state=5).to_csv(moved / name, index=False)
        assert (moved / name).read_bytes() != (folders[1] / name).read_bytes()
    clips = corpus.partition("valid")["clip"]
    one, other = ([Run.open(folders[0]), Run.open(second)] for second in (folders[1], moved))
    np.testing.assert_array_equal(fuse(one, clips), fuse(other, clips))
    assert cross_fitted(one, corpus) == cross_fitted(other, corpus)


def test_no_test_value_reaches_training_or_a_row(world, tmp_path):
    """Test labels that are there or NaN, test features that are others or none at all: not one number changes."""
    corpus, work = world
    expected = both_tables(corpus, work)
    test = corpus.clips["partition"] == "test"
    assert corpus.clips.loc[test, list(made.TARGETS)].isna().all(axis=None)
    labelled = corpus.clips.copy()
    labelled.loc[test, list(made.TARGETS)] = np.random.default_rng(0).random((int(test.sum()), 2))
    shutil.copytree(work / "features", tmp_path / "features")
    for name in ("resnet18", "aus", "mfcc"):
        for clip in corpus.clips["clip"][test]:
            path = store.clip_path(store.feature_folder(tmp_path, name), clip)
            there = store.load(path)
            store.save(replace(there, values=100 - 50 * there.values), path)
    for other in (with_clips(corpus, labelled), with_clips(corpus, corpus.clips[~test])):
        again = both_tables(other, tmp_path)
        pandas.testing.assert_frame_equal(again, expected, check_exact=True)


def test_fusion_has_no_weights_to_fit(world):
    """The reported labels cannot reach the fused prediction: with others it is the same, number by number."""
    corpus, work = world
    runs = [Run.open(make_run(Experiment.of(corpus, work, QUICK), branch, 0, made.QUIET))
            for branch in ("aus", "mfcc")]
    clips = corpus.partition("valid")["clip"]
    predicted, present = zip(*(run.predictions("valid", clips) for run in runs), strict=True)
    lone = [fuse([run], clips) for run in runs]
    both = np.all(present, axis=0)
    np.testing.assert_allclose(fuse(runs, clips)[both], ((lone[0] + lone[1]) / 2)[both])
    np.testing.assert_allclose(fuse(runs[::-1], clips), fuse(runs, clips))


def test_what_is_random_in_training_is_off_where_something_is_scored(world):
    """Dropout left on would give other predictions each time, and a score that is not that of the kept weights."""
    corpus, work = world
    half_left_out = Variant("half", model={"dropout": 0.5})
    folder = make_run(Experiment.of(corpus, work, QUICK, half_left_out), "aus", 0, made.QUIET)
    valid = load(corpus, work, "aus", "valid")
    model = load_model(folder).train()
    first, second = predict(model, valid), predict(model, valid)
    np.testing.assert_array_equal(first, second)
    scores = pandas.read_csv(folder / "log.csv")["mean_pearson"]
    assert mean_pearson(valid.targets, first) == pytest.approx(scores.max(), abs=1e-12)
    assert Run.open(folder).metrics["mean_pearson"] == pytest.approx(scores.max(), abs=1e-12)
