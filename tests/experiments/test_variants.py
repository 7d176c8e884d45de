"""Ablations state only their difference, and change what they name and nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace

import feature_corpus
import numpy as np
import pandas
import pytest
import torch

from emibook import InputError
from emibook.experiments.recipes import ABLATIONS, IMPROVED, IMPROVEMENTS, RECIPES, variant_for
from emibook.experiments.runs import LEDGER, Run
from emibook.experiments.training_run import Experiment, make_run, run_folder
from emibook.experiments.variants import BASE, Variant
from emibook.features import store
from emibook.models import rebuild
from emibook.sequences.timeline import SequenceConfig
from emibook.training.loop import Recipe

QUICK = Recipe("quick", learning_rate=3e-3, batch=10, epochs=1, threads=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Clips of which one has a gap, two faces of 330 steps."""
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root", 6, 4, 2)
    for name in ("aus", "wav2vec2"):
        feature_corpus.write(corpus, work, name, signal=1)
        folder = store.feature_folder(work, name)
        rng = np.random.default_rng(0)
        for clip in ("00001", "00007"):
            rows = np.delete(np.arange(600), np.arange(100, 120))
            long = feature_corpus.sequence(name, rng.normal(size=(580, feature_corpus.WIDTHS[name])),
                                           rows / (30 if name == "aus" else 50))
            store.save(long, store.clip_path(folder, clip))
    return corpus, work


def test_every_option_differs_from_the_default_and_no_two_are_the_same():
    defaults = {**asdict(SequenceConfig()), **rebuild({"kind": "regressor", "in_features": 4}).config}
    seen = []
    for name, variant in (ABLATIONS | IMPROVEMENTS).items():
        assert variant.name == name
        options = {**variant.sequence, **variant.model}
        assert all(defaults[option] != value for option, value in options.items()), name
        assert all(getattr(RECIPES["paper"], option) != value for option, value in variant.recipe.items()), name
        seen.append((options, dict(variant.recipe)))
        assert len(options) + len(variant.recipe) >= 1
    assert all(one != other for place, one in enumerate(seen) for other in seen[:place])


@pytest.mark.parametrize("name", ABLATIONS | IMPROVEMENTS)
def test_every_ablation_trains_and_is_a_run_of_its_own_where_it_concerns_the_branch(world, name):
    corpus, work = world
    variant = variant_for(name)
    variant = replace(variant, recipe={**variant.recipe, **({"epochs": 2} if "epochs" in variant.recipe else {})})
    recipe = replace(QUICK, batch=4) if "average" in variant.recipe else QUICK  # the average of one step is that step
    for branch in ("aus", "wav2vec2"):
        folder = make_run(Experiment.of(corpus, work, recipe, variant), branch, 0, feature_corpus.QUIET)
        base = make_run(Experiment.of(corpus, work, recipe), branch, 0, feature_corpus.QUIET)
        one, other = Run.open(folder), Run.open(base)
        differs = [key for key in one.config if one.config[key] != other.config[key] and key != "variant"]
        places = {place for place in ("sequence", "model", "recipe") if getattr(variant, place)}
        assert set(differs) <= places and (folder == base) == (not differs)
        clips = corpus.partition("valid")["clip"]
        same = np.array_equal(one.predictions("valid", clips)[0], other.predictions("valid", clips)[0])
        if "epochs" in variant.recipe:  # the best may be among the first
            same = len(pandas.read_csv(folder / "log.csv")) == 1
        assert same == (not differs), f"{name} is said to differ for {branch} and does not, or the reverse"
    face_only = {"gaps-kept", "width-of-input", "no-positions", "dropout"}
    sound_only = {"sound-mean", "sound-own-rate"}
    folders = {branch: run_folder(Experiment.of(corpus, work, QUICK, variant), branch,
                                  0) for branch in ("aus", "wav2vec2")}
    bases = {branch: run_folder(Experiment.of(corpus, work, QUICK), branch, 0) for branch in folders}
    assert (folders["aus"] == bases["aus"]) == (name in sound_only)
    assert (folders["wav2vec2"] == bases["wav2vec2"]) == (name in face_only)


def test_baselines_take_readings_and_recipes_but_have_no_options_of_ours(world):
    corpus, work = world
    both = Variant("both", sequence={"sampling": "uniform"}, model={"pooling": "last"}, recipe={"loss": "mae"})
    run = Run.open(make_run(Experiment.of(corpus, work, QUICK, both), "wav2vec2 (baseline)", 0, feature_corpus.QUIET))
    assert run.config["model"] == {"kind": "linear"} and run.config["recipe"]["loss"] == "mae"
    assert run.config["sequence"]["sampling"] == "uniform" and run.config["variant"] == "both"


def test_the_improved_recipe_is_all_of_its_parts(world):
    assert variant_for("improved") == IMPROVED and IMPROVED.name == "improved"
    joined = variant_for("+".join(IMPROVEMENTS))
    assert replace(joined, name="improved") == IMPROVED and len(IMPROVEMENTS) == 5
    corpus, work = world
    short = replace(IMPROVED, recipe={**IMPROVED.recipe, "epochs": 2})
    for branch in ("aus", "wav2vec2"):
        about = Run.open(make_run(Experiment.of(corpus, work, QUICK, short), branch, 0, feature_corpus.QUIET)).config
        assert about["recipe"]["decay"] == 1.0 and about["recipe"]["average"] == 0.998
        assert about["model"]["residual"] and about["model"]["pooling"] == "statistics"


def test_variants_add_up_and_contradictions_are_refused():
    both = variant_for("no-positions+loss-ccc")
    assert (both.model, both.recipe, both.name) == ({"positions": False}, {"loss": "ccc"}, "no-positions+loss-ccc")
    assert variant_for(None) == variant_for("base") == BASE and variant_for("base+last-step") == ABLATIONS["last-step"]
    for text, said in (("last-step+attention-pooling", "both change pooling"), ("last", "no variant named 'last'")):
        with pytest.raises(InputError, match=said):
            variant_for(text)
    for place in ("sequence", "model", "recipe"):
        with pytest.raises(InputError, match=f"{place} has no depth"):
            Variant("wrong", **{place: {"depth": 3}})


@pytest.mark.filterwarnings("ignore:.* has no correlation")
def test_the_ledger_has_a_row_for_every_training_that_ended_well_or_not(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 6, 4, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    make_run(Experiment.of(corpus, tmp_path, QUICK, ABLATIONS["last-step"]), "aus", 3, feature_corpus.QUIET)
    make_run(Experiment.of(corpus, tmp_path, QUICK, ABLATIONS["last-step"]), "aus", 3, feature_corpus.QUIET)  # finished
    with pytest.raises(InputError):
        make_run(Experiment.of(corpus, tmp_path, replace(QUICK, learning_rate=1e30, epochs=2)),
                 "aus", 0, feature_corpus.QUIET)
    ledger = pandas.read_csv(tmp_path / "runs" / LEDGER)
    assert list(ledger.columns) == ["when", "experiment", "seed", "configuration", "versions", "seconds", "result"]
    assert list(ledger["experiment"]) == ["aus [last-step]", "aus"] and list(ledger["seed"]) == [3, 0]
    (folder,) = (tmp_path / "runs").glob("aus-seed3-*")
    score = Run.open(folder).metrics["mean_pearson"]
    assert ledger["result"][0] == f"mean Pearson {score:.4f}" and folder.name.endswith(ledger["configuration"][0])
    assert "not finite" in ledger["result"][1] and f"torch {torch.__version__}" in ledger["versions"][0]
    assert (pandas.to_datetime(ledger["when"]).diff().dropna() >= pandas.Timedelta(0)).all()


def enter_many(arguments) -> None:
    from pathlib import Path

    from emibook.experiments.runs import write_ledger

    folder, number = arguments
    for seed in range(50):
        write_ledger(Path(folder), {"experiment": "x" * 300, "seed": seed, "configuration": number, "versions": "",
                                    "seconds": 1, "result": "a, b"})


def test_rows_that_are_written_at_the_same_time_are_whole(tmp_path):
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(enter_many, [(str(tmp_path), number) for number in range(4)])
    ledger = pandas.read_csv(tmp_path / "runs" / LEDGER)
    assert len(ledger) == 200 and (ledger["experiment"] == "x" * 300).all() and (ledger["result"] == "a, b").all()
    assert sorted(ledger.groupby("configuration")["seed"].nunique()) == [50] * 4
    assert [path.name for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")] == [LEDGER]
