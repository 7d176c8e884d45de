"""The specification curve: options there to be read, combinations without contradiction, no work repeated."""

from dataclasses import replace

import numpy as np
import pytest

from emibook import InputError
from emibook.corpus import open_corpus
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.evaluation import paired_difference
from emibook.experiments.recipes import ABLATIONS
from emibook.experiments.scoring import fuse
from emibook.experiments.variants import BASE, Variant
from emibook.sequences.load import load
from emibook.sequences.timeline import SequenceConfig
from emibook.studies import specification_curve
from emibook.studies.specification_curve import (
    MOVED,
    ORDER,
    RECIPE,
    REDUCED,
    CurveStudy,
    curve,
    order_kept,
    simulate,
    variants,
)

CLIPS = (40, 30, 0)
QUICK = replace(RECIPE, epochs=2, batch=16)
STUDY = CurveStudy(CLIPS, combinations=0, recipe=QUICK)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    simulate(folder / "corpus", folder, clips=CLIPS)
    return folder / "corpus", folder


def test_what_a_reading_reads_otherwise_is_there(places):
    corpus, steps = open_corpus(places[0]), {"steps": specification_curve.USED_STEPS}
    base, gaps, uniform, own, mean = (
        [load(corpus, places[1], name, "train", SequenceConfig(**steps, **options)) for name in ("aus", "wav2vec2")]
        for options in ({}, {"gaps": "kept"}, {"sampling": "uniform"}, {"sound": "own"}, {"sound": "mean"})
    )
    assert np.isnan(gaps[0].values.astype(float)).any() and not np.isnan(base[0].values.astype(float)).any()
    longer = base[1].lengths == specification_curve.USED_STEPS
    assert longer.any() and not np.array_equal(uniform[1].values, base[1].values)
    assert (own[1].lengths >= base[1].lengths).all() and (own[1].lengths > base[1].lengths).any()
    assert set(mean[1].lengths) <= {0, 1}


def test_variants_are_every_option_and_combinations_without_contradiction():
    found = variants(12, seed=0)
    assert [each.name for each in found[: len(ABLATIONS) + 1]] == [BASE.name, *ABLATIONS]
    joined = [each.name.split("+") for each in found[len(ABLATIONS) + 1 :]]
    assert len(joined) == 12 == len({tuple(names) for names in joined})
    assert all(2 <= len(names) <= 5 and set(names) <= set(ABLATIONS) for names in joined)
    assert [each.name for each in variants(12, seed=0)] == [each.name for each in found]


def test_an_order_is_kept_pair_by_pair():
    assert order_kept([1, 2, 3]) == {"kept": 1.0, "same_order": True}
    assert order_kept([1, 3, 2]) == {"kept": pytest.approx(2 / 3), "same_order": False}
    assert order_kept([1, float("nan"), 2]) == {"kept": pytest.approx(1 / 3), "same_order": False}


def test_epochs_are_in_proportion():
    assert specification_curve._scaled(ABLATIONS["epochs-100"], replace(RECIPE, epochs=6)).recipe == {"epochs": 20}
    assert specification_curve._scaled(ABLATIONS["last-step"], RECIPE) == ABLATIONS["last-step"]


def test_a_variant_that_diverges_is_a_row_without_correlations(places, monkeypatch):
    monkeypatch.setitem(ABLATIONS, "far-too-fast", Variant("far-too-fast", recipe={"learning_rate": 1e30}))
    found = curve(*places, STUDY, chosen=["far-too-fast"], progress=False).iloc[1]
    assert np.isnan(found[[*MOVED, *ORDER]].astype(float)).all() and not found["same_order"] and found["kept"] == 0
    monkeypatch.setitem(ABLATIONS, "no-epochs", Variant("no-epochs", recipe={"batch": 0}))
    with pytest.raises(InputError, match="batch"):
        curve(*places, STUDY, chosen=["no-epochs"], progress=False)


def test_the_curve_says_what_moved_and_makes_nothing_twice(places, monkeypatch):
    chosen = [BASE.name, "last-step", "sound-mean"]
    options = {"chosen": chosen, "progress": False}
    found = curve(*places, STUDY, **options).set_index("variant")
    assert set(found.index) == set(chosen) and (found.loc[BASE.name, list(MOVED)] == 0).all()
    assert found.loc["last-step", "moved"] == found.loc["last-step", ORDER[-1]] - found.loc[BASE.name, ORDER[-1]] != 0
    runs = {name: specification_curve._runs(open_corpus(places[0]), places[1], REDUCED | each, QUICK, 0)
            for name, each in ((BASE.name, BASE), ("last-step", ABLATIONS["last-step"]))}
    valid = open_corpus(places[0]).partition("valid")
    one, base = (fuse([runs[name][each] for each in ORDER[-1].split(" & ")], valid["clip"])
                 for name in ("last-step", BASE.name))
    gain = paired_difference(valid[list(EMOTIONS)].to_numpy(), [one], [base], valid["participant"])
    assert list(found.loc["last-step", list(MOVED)]) == [gain.mean, gain.low, gain.high]
    assert gain.low < gain.mean < gain.high
    # What is heard as a mean moves sound alone.
    same, moved = found.loc["sound-mean", "aus"], found.loc["sound-mean", "wav2vec2"]
    assert same == found.loc[BASE.name, "aus"] and moved != found.loc[BASE.name, "wav2vec2"]
    monkeypatch.setattr("emibook.experiments.training_run.train", None)
    assert curve(*places, STUDY, **options).set_index("variant").equals(found)
    assert REDUCED.sequence == {"steps": specification_curve.USED_STEPS}
