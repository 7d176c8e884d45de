"""Recovery: ridge regression, and a condition from its plan to its row."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
from safetensors.numpy import load_file

from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.experiments.variants import Variant
from emibook.metrics import pearson
from emibook.models.ridge import time_averages
from emibook.studies import recipe_recovery
from emibook.studies.recipe_recovery import Condition, score, slopes
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation import tuned_ridge
from emibook.studies.simulation.attainable import best_linear, needed
from emibook.studies.simulation.best_predictor import bounds
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.sizes import Size
from emibook.studies.simulation.tuned_ridge import ridge
from emibook.training.loop import Recipe

SIZE = Size("test", (600, 300, 200), 12, 4.0, 8)
QUICK = Recipe("quick", learning_rate=3e-3, batch=32, epochs=4, threads=1)


@pytest.fixture(scope="module")
def simulated():
    simulation = SIZE.plan({"wav2vec2": 0.6}, "mean")
    return simulation, [sequences(simulation, "wav2vec2", name) for name in ("train", "valid")]


def test_ridge_is_the_textbooks_with_the_penalty_that_unseen_people_prefer(simulated, monkeypatch):
    training, valid = simulated[1]
    monkeypatch.setattr(tuned_ridge, "PENALTIES", np.array([50.0]))
    found = ridge(training, valid)[0]
    there = training.present
    inputs, targets = time_averages(training)[there], training.targets[there].astype(float)
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0)
    x, new = (inputs - centre) / scale, (time_averages(valid) - centre) / scale
    weights = np.linalg.solve(x.T @ x + 50 * np.eye(x.shape[1]), x.T @ (targets - targets.mean(axis=0)))
    expected = new @ weights + targets.mean(axis=0)
    assert found[valid.present] == pytest.approx(expected[valid.present])
    assert (~valid.present).any() and np.allclose(found[~valid.present], targets.mean(axis=0))
    # Noise wants a heavy penalty, signal a light one.
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    noise = replace(training, targets=rng.permutation(training.targets))
    spread = [ridge(each, valid)[0][valid.present].std(axis=0).mean() for each in (training, noise)]
    assert spread[1] < 0.3 * spread[0]


def test_ridge_reaches_what_a_line_can(simulated):
    simulation, (training, valid) = simulated
    reached = pearson(valid.targets, ridge(training, valid)[0]).mean()
    highest = best_linear(needed(bounds(simulation, "wav2vec2")[:, 1])).mean()
    assert highest - 0.08 < reached < highest + 0.05


def test_a_subset_holds_few_people_and_their_own_steps(simulated):
    simulation, (training, _) = simulated
    some = sequences(simulation, "wav2vec2", "train", 100)
    assert len(some) == 100 and len(set(some.participants)) < len(set(training.participants))
    for place in (0, 50, 99):
        whole = training.clips.index(some.clips[place])
        rows = slice(*training.offsets[whole : whole + 2])
        assert np.array_equal(some.values[slice(*some.offsets[place : place + 2])], training.values[rows])
        assert np.array_equal(some.targets[place], training.targets[whole])


def test_a_condition_is_scored_once_and_learns(tmp_path):
    condition = Condition("wav2vec2", 0.6, "mean", 600, recipe=QUICK)
    row = score(condition, SIZE, tmp_path, progress=False)
    assert 0.25 < row["reached"] < row["best"] + 0.05 and row["bound_low"] == pytest.approx(0.6, abs=1e-4)
    assert row["share mean"] == pytest.approx(row["reached"] / row["best"])
    assert row["over_ridge"] == pytest.approx(row["reached"] - row["ridge"], abs=1e-6)
    assert row["over_ridge_low"] < row["over_ridge"] < row["over_ridge_high"]
    assert abs(row["test"] - row["reached"]) < 0.25 and 1 <= row["best_epoch"] <= 4
    result = next(tmp_path.glob("runs/*/result.json"))
    result.write_text(json.dumps(row | {"reached": 7.0}))
    assert score(condition, SIZE, tmp_path, progress=False)["reached"] == 7.0, "a finished condition is read"
    result.unlink()
    again = score(condition, SIZE, tmp_path, progress=False)
    assert again | {"seconds": 0} == row | {"seconds": 0}
    slower = Variant("slower", recipe={"learning_rate": 1e-4})
    others = [replace(condition, **change) for change in ({"seed": 1}, {"replication": 1}, {"variant": slower})]
    wider = replace(SIZE, width=9)
    assert len({each.name(SIZE) for each in (condition, *others)} | {condition.name(wider)}) == 5
    assert score(condition, wider, tmp_path, progress=False)["width"] == 9, "another size is another condition"


@pytest.mark.slow
def test_sets_that_are_trained_apart_are_fused_and_held_against_the_best_that_sees_both(tmp_path, monkeypatch):
    quick = replace(QUICK, epochs=2)
    condition = Condition("resnet18 & aus", 0.6, "mean", 400, seed=4, replication=2, recipe=quick)
    joined = Condition("resnet18+aus", 0.6, "mean", 400, seed=4, replication=2, recipe=quick)
    assert condition.plan(SIZE) == joined.plan(SIZE) and condition.name(SIZE) != joined.name(SIZE)
    row, other = (score(each, SIZE, tmp_path, progress=False) for each in (condition, joined))
    for name in ("best", "ridge", "test best", "bound_low", "bound_high", "width"):
        assert row[name] == other[name], name
    valid = sequences(condition.plan(SIZE), "resnet18+aus", "valid")
    folders = [tmp_path / "runs" / condition.name(SIZE) / branch for branch in ("resnet18", "aus")]
    for folder in folders:
        made = json.loads((folder / "training.json").read_text())
        assert (made["seed"], made["model"]["in_features"], made["recipe"]["epochs"]) == (4, 8, 2)
    said = [load_file(folder / "predictions.safetensors")["valid"] for folder in folders]
    alone = [pearson(valid.targets, each).mean() for each in said]
    assert row["by_branch"].split() == [f"{each:.4f}" for each in alone]
    assert row["reached"] == pytest.approx(pearson(valid.targets, sum(said) / 2).mean(), abs=1e-6)
    tables = [pandas.read_csv(folder / "halves.csv") for folder in folders]
    unseen, half = sum(each[list(EMOTIONS)].to_numpy() for each in tables) / 2, tables[0]["half"]
    scores = [pearson(valid.targets[half == each], unseen[half == each]).mean() for each in (0, 1)]
    assert row["cross_fitted"] == pytest.approx(np.mean(scores), abs=1e-6)
    logs = [pandas.read_csv(folder / "log.csv") for folder in folders]
    assert row["best_epoch"] == max(log["mean_pearson"].argmax() + 1 for log in logs)
    assert row["seconds"] == pytest.approx(sum(log["seconds"].sum() for log in logs), abs=0.1)
    # Killed between its two trainings it makes the second alone.
    (tmp_path / "runs" / condition.name(SIZE) / "result.json").unlink()
    shutil.rmtree(folders[1])
    trained, train = [], recipe_recovery.train
    monkeypatch.setattr(recipe_recovery, "train", lambda *given,
                        **also: trained.append(given[2]) or train(*given, **also))
    again = score(condition, SIZE, tmp_path, progress=False)
    assert trained == folders[1:] and again | {"seconds": 0} == row | {"seconds": 0}


def test_slopes_tell_from_which_set_a_prediction_was_made():
    simulation = Condition("resnet18+aus", 0.6, "mean", 400).plan(SIZE)
    drawn = simulated_features.clips(simulation).table
    valid = (drawn["partition"] == "valid").to_numpy()
    first, second = (simulated_features.scores(simulation, each)[valid] for each in simulation.sets)
    found = slopes(simulation, "resnet18+aus", "valid", 3 * first + 0.5 * second + 7, 2 * first + second)
    np.testing.assert_allclose(found, [[1.5] * 6, [0.5] * 6])
    found = slopes(simulation, "resnet18+aus", "valid", np.where(drawn[valid][["V"]], second, 100), first + second)
    np.testing.assert_allclose(found, [[0.0] * 6, [1.0] * 6], atol=1e-9)


def test_a_condition_is_drawn_and_trained_as_it_says(tmp_path):
    narrow = Variant("narrow", model={"channels": 4}, recipe={"epochs": 1, "batch": 64})
    condition = Condition("resnet18+aus", 0.6, "mixed", 500, narrow, replication=3, recipe=QUICK)
    simulation = condition.plan(SIZE)
    assert simulation.clips == (600, 300, 200) and simulation.seed == 3
    assert [each.width for each in simulation.sets] == [8, 8]
    assert bounds(simulation, "resnet18+aus")[:, 1].mean() == pytest.approx(0.6, abs=1e-4)
    for name in ("resnet18", "aus"):
        assert bounds(simulation, name)[:, 1].mean() == pytest.approx(0.54, abs=1e-4)
    row = score(condition, SIZE, tmp_path, progress=False)
    assert (row["width"], row["batch"], row["epochs"], row["learning_rate"]) == (16, 64, 1, QUICK.learning_rate)
    assert [name for name in row if name.startswith("share")] == ["share mean", "share onset", "share rhythm"]
    sums = [sum(row[f"{what} {name}"] for name in ("Determination", "Joy")) for what in ("reached", "best")]
    assert simulation.sets[0].patterns[2::3] == ("rhythm", "rhythm")
    assert row["share rhythm"] == pytest.approx(sums[0] / sums[1])
    made = json.loads(next(tmp_path.glob("runs/*/training.json")).read_text())["model"]
    assert (made["channels"], made["transformer_layers"], made["in_features"]) == (4, 2, 16)
