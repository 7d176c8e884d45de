from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import feature_corpus
import numpy as np
import pandas
import pytest
import torch

from emibook import InputError
from emibook.evaluation import paired_difference
from emibook.metrics import pearson
from emibook.models import rebuild
from emibook.sequences.load import load
from emibook.studies.simulation.corpus import sequences as drawn
from emibook.studies.simulation.sizes import Size
from emibook.training import (
    Partitions,
    Recipe,
    TrainingConfig,
    checkpoint,
    load_model,
    loop,
    microbatch,
    predict,
    train,
)
from emibook.training.partitions import statistics

QUICK = Recipe("quick", learning_rate=3e-3, batch=8, epochs=6, threads=1)
AUDIO = {"kind": "regressor", "transformer_layers": 0, "channels": 16}
VIDEO = {"kind": "regressor", "transformer_layers": 1, "channels": 16}
NUMBERS = ("loss", "learning_rate", "mean_pearson")


def run(sequences, folder, recipe=QUICK, seed=0, model=AUDIO) -> pandas.DataFrame:
    train(Partitions(*sequences), TrainingConfig(recipe, seed, model), folder, device="cpu", progress=False)
    return pandas.read_csv(folder / "log.csv")


def same(first: Path, second: Path) -> None:
    assert (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()
    logs = [pandas.read_csv(folder / "log.csv").drop(columns="seconds") for folder in (first, second)]
    pandas.testing.assert_frame_equal(*logs, check_exact=True)


@pytest.mark.parametrize("model", [AUDIO, VIDEO, {"kind": "recurrent", "channels": 16}, {"kind": "linear"}])
def test_learns_a_planted_signal(sequences, tmp_path, model):
    log = run(sequences, tmp_path, replace(QUICK, learning_rate=0.01, epochs=40), model=model)
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]
    assert log["mean_pearson"].max() > 0.8


def test_same_seed_same_numbers_other_seed_other_numbers(sequences, tmp_path):
    torch.manual_seed(1)
    run(sequences, tmp_path / "a", model=VIDEO)
    torch.manual_seed(2)
    np.random.seed(3)
    run(sequences, tmp_path / "b", model=VIDEO)
    same(tmp_path / "a", tmp_path / "b")
    run(sequences, tmp_path / "c", seed=1, model=VIDEO)
    models = [load_model(tmp_path / folder) for folder in "ac"]
    assert not np.allclose(*(predict(model, sequences[1]) for model in models), atol=1e-3)


def test_leaves_torch_as_it_was(sequences, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    run(sequences, tmp_path, replace(QUICK, epochs=1, threads=threads + 1))
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


@pytest.mark.parametrize(("stop_after", "options"), [
    (1, {}), (4, {}), (7, {}), (4, {"decay": 0.5, "average": 0.9}), (7, {"average": 0.5}),
])  # fmt: skip
def test_a_training_stopped_between_epochs_ends_with_the_same_numbers(
    sequences, tmp_path, monkeypatch, stop_after, options
):
    """The score never rises here, so waiting and a halved rate have to be taken up as well."""
    recipe = replace(QUICK, epochs=9, patience=5, **options)
    monkeypatch.setattr(loop, "pearson", lambda truth, prediction, names: np.full(len(names), 0.5))
    log = run(sequences, tmp_path / "whole", recipe, model=VIDEO)
    finish_epoch = checkpoint.TrainingState.finish_epoch

    def stops(state, row, *rest):
        finish_epoch(state, row, *rest)
        if row["epoch"] == stop_after:
            raise KeyboardInterrupt

    assert list(log["learning_rate"] / recipe.learning_rate) == [1] * 6 + [0.5] * 3
    monkeypatch.setattr(checkpoint.TrainingState, "finish_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(sequences, tmp_path / "stopped", recipe, model=VIDEO)
    assert not (tmp_path / "stopped" / "weights.safetensors").exists()
    monkeypatch.setattr(checkpoint.TrainingState, "finish_epoch", finish_epoch)
    again = run(sequences, tmp_path / "stopped", recipe, model=VIDEO)
    same(tmp_path / "whole", tmp_path / "stopped")
    assert list(again["seconds"][:stop_after]) != list(log["seconds"][:stop_after]), "these epochs were repeated"
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [
        "log.csv", "training.json", "weights.safetensors"
    ]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_decay_and_average_equal_pytorchs_own(sequences, tmp_path, average):
    """Weights with two axes shrink by learning rate times decay in each step; the running average is kept."""
    recipe = replace(QUICK, epochs=1, decay=0.5, average=average)
    run(sequences, tmp_path, recipe)
    torch.manual_seed(0)
    model = rebuild({**AUDIO, "in_features": len(sequences[0].names), "targets": sequences[0].targets.shape[1]})
    model.standardise(*map(torch.from_numpy, statistics(sequences[0])))
    matrices = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    assert {parameter.dim() for parameter in biases} == {1} and len(biases) == len(matrices)
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": biases, "weight_decay": 0.0}], lr=recipe.learning_rate, weight_decay=0.5)
    rng = np.random.default_rng([0, 0])
    order, feed = rng.permutation(np.flatnonzero(sequences[0].present)), loop.Feed(sequences[0], "cpu")
    expected = None
    for step, first in enumerate(range(0, len(order), recipe.batch)):
        optimizer.zero_grad()
        microbatch.gradient(model, feed, order[first : first + recipe.batch], recipe)
        optimizer.step()
        now = [parameter.detach().clone() for parameter in model.parameters()]
        kept = min(average, (1 + step) / (10 + step)) if average and step else 0.0
        expected = [kept * before + (1 - kept) * after for before, after in zip(expected or now, now, strict=True)]
    for ours, theirs in zip(load_model(tmp_path).parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_with_an_average_the_logged_score_is_that_of_the_averaged_weights(sequences, tmp_path):
    log = run(sequences, tmp_path / "average", replace(QUICK, learning_rate=0.02, average=0.9))
    plain = run(sequences, tmp_path / "plain", replace(QUICK, learning_rate=0.02))
    assert log["loss"].to_list() == plain["loss"].to_list(), "it trains as without"
    assert log["mean_pearson"].to_list() != plain["mean_pearson"].to_list()
    valid = sequences[1]
    rho = pearson(valid.targets, predict(load_model(tmp_path / "average"), valid))
    assert rho.mean() == pytest.approx(log["mean_pearson"].max(), abs=1e-12)


def test_an_epoch_is_every_clip_that_has_something_once_in_an_order_of_its_own(sequences, tmp_path, monkeypatch):
    batches, gradient = [], loop.gradient

    def listed(model, feed, clips, recipe):
        batches.append(clips)
        return gradient(model, feed, clips, recipe)

    monkeypatch.setattr(loop, "gradient", listed)
    run(sequences, tmp_path, replace(QUICK, epochs=2))
    assert [len(clips) for clips in batches] == [8, 8, 8, 5] * 2
    first, second = np.concatenate(batches[:4]), np.concatenate(batches[4:])
    expected = [clip for clip in range(30) if clip != 3]  # the one without a face
    assert sorted(first) == sorted(second) == expected
    assert list(first) != list(second)


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
import feature_corpus, test_loop
from emibook.sequences.load import load
work = Path({work!r})
corpus = feature_corpus.corpus(work / "root")
pair = load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid")
test_loop.run(pair, work / "killed", test_loop.LONG, model=test_loop.VIDEO)
"""
LONG = replace(QUICK, epochs=60, patience=3)


def test_a_killed_training_ends_with_the_same_numbers(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root")
    feature_corpus.write(corpus, tmp_path, "aus", signal=2.0)
    pair = load(corpus, tmp_path, "aus", "train"), load(corpus, tmp_path, "aus", "valid")
    run(pair, tmp_path / "whole", LONG, model=VIDEO)
    script = KILLED.format(tests=str(Path(__file__).parents[1]), work=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"})
    log = tmp_path / "killed" / "log.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    epochs = log.read_text().count("\n") - 1
    assert 5 <= epochs < LONG.epochs
    run(pair, tmp_path / "killed", LONG, model=VIDEO)
    same(tmp_path / "whole", tmp_path / "killed")


def test_the_best_epoch_is_kept_and_the_logged_score_is_that_of_its_weights(sequences, tmp_path):
    log = run(sequences, tmp_path, replace(QUICK, epochs=12, learning_rate=0.02))
    valid = sequences[1]
    rho = pearson(valid.targets, predict(load_model(tmp_path), valid))
    assert rho.mean() == pytest.approx(log["mean_pearson"].max(), abs=1e-12)
    best = log.loc[log["mean_pearson"].idxmax()]
    np.testing.assert_allclose(rho, [best[f"pearson {name}"] for name in valid.target_names], atol=1e-12)
    assert log["mean_pearson"].idxmax() < len(log) - 1, "the last epoch is the best: the test shows nothing"


def test_the_rate_is_halved_after_epochs_without_a_rise(sequences, tmp_path):
    log = run(sequences, tmp_path, replace(QUICK, epochs=30, learning_rate=0.02, patience=4))
    rate, best, waited, expected = 0.02, -np.inf, 0, []
    for score in log["mean_pearson"]:
        expected.append(rate)
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == 4:
            rate, waited = rate / 2, 0
    np.testing.assert_allclose(log["learning_rate"], expected)
    assert log["learning_rate"].iloc[-1] < 0.02, "the rate never fell: the test shows nothing"


def test_an_empty_clip_is_predicted_as_the_training_mean_and_not_trained_on(sequences, tmp_path):
    pair = sequences
    run(pair, tmp_path / "a")
    predicted = predict(load_model(tmp_path / "a"), pair[1])[3]
    np.testing.assert_allclose(predicted, pair[0].targets.mean(axis=0), atol=1e-6)
    # Two targets that trade places over the empty clip and leave the mean as it is: nothing else may change.
    mean = pair[0].targets[3]
    other = pair[0].targets.copy()
    other[3] = mean + 0.3
    run((replace(pair[0], targets=other), pair[1]), tmp_path / "b")
    first, second = load_model(tmp_path / "a").state_dict(), load_model(tmp_path / "b").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first if name != "target_mean")


def test_validation_values_only_choose_they_never_train(sequences, tmp_path):
    """Other validation labels may choose another epoch and rate; the losses before the first choice are the same."""
    recipe = replace(QUICK, epochs=3)
    log = run(sequences, tmp_path / "a", recipe)
    noise = np.random.default_rng(0).random(sequences[1].targets.shape).astype(np.float32)
    other = run((sequences[0], replace(sequences[1], targets=noise)), tmp_path / "b", recipe)
    pandas.testing.assert_series_equal(log["loss"], other["loss"], check_exact=True)
    assert list(log["mean_pearson"]) != list(other["mean_pearson"])


def refusal(pair, folder, recipe=QUICK) -> str:
    with pytest.raises(InputError) as error:
        run(pair, folder, recipe)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_belongs_to_one_training(sequences, tmp_path):
    run(sequences, tmp_path)
    written = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    run(sequences, tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == written
    assert "other settings" in refusal(sequences, tmp_path, replace(QUICK, learning_rate=1e-4))


def test_a_folder_that_is_no_run_is_refused_in_one_line(sequences, tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        load_model(tmp_path)
    run(sequences, tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="train it again") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [AUDIO, VIDEO, {"kind": "recurrent", "channels": 16}])
def test_bfloat16_trains_to_the_same_and_keeps_weights_in_float32(sequences, tmp_path, monkeypatch, model):
    for module in (loop, microbatch):
        monkeypatch.setattr(module, "native_precision", lambda device: "bfloat16")  # slow elsewhere, and the same
    recipe = replace(QUICK, learning_rate=0.01, epochs=6)
    logs = [run(sequences, tmp_path / precision, replace(recipe, precision=precision), model=model)
            for precision in ("float32", "bfloat16", "native")]
    models = [load_model(tmp_path / precision) for precision in ("float32", "bfloat16", "native")]
    assert all(p.dtype == torch.float32 for p in models[1].parameters())
    full, low, native = (predict(model, sequences[1]) for model in models)
    np.testing.assert_array_equal(low, native)
    assert low.dtype == np.float32 and np.abs(full - low).max() > 0, "bfloat16 was not used"
    cosine = (full * low).sum() / np.linalg.norm(full) / np.linalg.norm(low)
    assert cosine > 0.99 and abs(logs[0]["mean_pearson"].max() - logs[1]["mean_pearson"].max()) < 0.05


@pytest.mark.parametrize(("features", "model"), [("aus", VIDEO), ("wav2vec2", AUDIO)])
def test_half_precision_changes_no_conclusion(features, model, tmp_path, monkeypatch):
    """The two scores differ by far less than rows of the paper's tables do, the nearest of which lie .01 apart."""
    for module in (loop, microbatch):
        monkeypatch.setattr(module, "native_precision", lambda device: "bfloat16")
    plan = Size("some", (900, 600, 0), 12, 4.0, 16).plan({features: 0.6}, "mean")
    parts = [drawn(plan, features, name) for name in ("train", "valid")]
    recipe = replace(QUICK, batch=32, epochs=5)
    scores, predictions = [], []
    for precision in ("float32", "bfloat16"):
        scores.append(run(parts, tmp_path / precision, replace(recipe, precision=precision), model=model))
        predictions.append(predict(load_model(tmp_path / precision), parts[1]))
    gain = paired_difference(parts[1].targets, [predictions[1]], [predictions[0]], parts[1].participants)
    assert scores[0]["mean_pearson"].max() > 0.45, "there is a conclusion"
    assert 0 < abs(gain.mean) < 0.004 and max(-gain.low, gain.high) < 0.01


def test_a_precision_or_device_that_does_not_exist_is_refused(sequences, tmp_path, monkeypatch):
    for module in (loop, microbatch):
        monkeypatch.setattr(module, "native_precision", lambda device: "float32")
    assert "no bfloat16 of its own" in refusal(sequences, tmp_path, replace(QUICK, precision="bfloat16"))
    run(sequences, tmp_path / "native", replace(QUICK, precision="native", epochs=1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, message in (("cuda", "no GPU that torch can use"), ("tpu", "there are cpu and cuda")):
        with pytest.raises(InputError, match=message):
            train(Partitions(*sequences), TrainingConfig(QUICK), tmp_path, device=device)
    for option, value in (("loss", "huber"), ("precision", "float8"), ("learning_rate", 0), ("epochs", 0)):
        with pytest.raises(InputError, match=option):
            replace(QUICK, **{option: value})


def test_a_recipe_without_standardising_leaves_the_features_as_they_are(sequences, tmp_path):
    run(sequences, tmp_path, replace(QUICK, epochs=1, standardise=False))
    model = load_model(tmp_path)
    assert (model.feature_mean == 0).all() and (model.feature_scale == 1).all() and model.target_mean.abs().sum() > 0
