"""The choices of rate and epoch that see one half of the validation clips: each as if it had been a training alone."""

from __future__ import annotations

from dataclasses import replace

import feature_corpus
import numpy as np
import pandas
import pytest
from test_loop import AUDIO, VIDEO

from emibook.evaluation import halves
from emibook.sequences.load import load
from emibook.sequences.packed import Sequences
from emibook.training import checkpoint, loop
from emibook.training.loop import Recipe, load_model, predict, train

RECIPE = Recipe("quick", learning_rate=0.02, batch=8, epochs=14, patience=2, threads=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root", valid=24)
    feature_corpus.write(corpus, work, "aus", signal=1.0, empty=("00033",))
    return load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid")


def part_of(sequences: Sequences, chosen: np.ndarray) -> Sequences:
    clips = np.flatnonzero(chosen)
    rows = [sequences.values[sequences.offsets[clip] : sequences.offsets[clip + 1]] for clip in clips]
    return replace(
        sequences,
        values=np.concatenate(rows),
        offsets=np.concatenate([[0], np.cumsum([len(each) for each in rows])]),
        targets=sequences.targets[clips],
        clips=tuple(sequences.clips[clip] for clip in clips),
        participants=tuple(sequences.participants[clip] for clip in clips),
    )


def rates(folder, recipe, pair, seed, model, half, number) -> tuple[np.ndarray, list[float]]:
    """What a training that has only this half of the validation clips says of the other, and its rates."""
    part = part_of(pair[1], half == number)
    train(pair[0], part, recipe, seed, folder, model=model, device="cpu", progress=False)
    return predict(load_model(folder), pair[1]), list(pandas.read_csv(folder / "log.csv")["learning_rate"])


@pytest.mark.parametrize(("model", "seed"), [(AUDIO, 0), (VIDEO, 0)])
def test_each_half_is_predicted_as_by_a_training_that_had_the_other_half_only(pair, tmp_path, model, seed):
    half = halves(pair[1].participants)
    train(*pair, RECIPE, seed, tmp_path / "all", model=model, halves=half, device="cpu", progress=False)
    unseen = pandas.read_csv(tmp_path / "all" / "halves.csv", dtype={"clip": str})
    assert tuple(unseen["clip"]) == pair[1].clips and list(unseen["half"]) == list(half)
    schedules = [list(pandas.read_csv(tmp_path / "all" / "log.csv")["learning_rate"])]
    for number in (0, 1):
        predicted, schedule = rates(tmp_path / str(number), RECIPE, pair, seed, model, half, number)
        mine = unseen.loc[half != number, list(pair[1].target_names)]
        np.testing.assert_allclose(mine, predicted[half != number], atol=1e-5)
        schedules.append(schedule)
    assert len(set(map(tuple, schedules))) > 1, "all had one schedule: no fork was needed and the test shows little"
    train(*pair, RECIPE, seed, tmp_path / "without", model=model, device="cpu", progress=False)
    same = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("all", "without")]
    assert same[0] == same[1] and not (tmp_path / "without" / "halves.csv").exists()
    assert not list(tmp_path.glob("*/state-*"))


@pytest.mark.parametrize("epochs_made", [3, 9, 15, 20])
def test_a_training_stopped_in_a_fork_too_ends_with_the_same_numbers(pair, tmp_path, monkeypatch, epochs_made):
    half = halves(pair[1].participants)

    def run(folder):
        train(*pair, RECIPE, 0, folder, model=AUDIO, halves=half, device="cpu", progress=False)

    made_epochs = []
    finish = checkpoint.Line.finish_epoch

    def counted(line, *arguments):
        finish(line, *arguments)
        made_epochs.append(line.name)
        if len(made_epochs) == epochs_made:
            raise KeyboardInterrupt

    run(tmp_path / "whole")
    monkeypatch.setattr(checkpoint.Line, "finish_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    assert epochs_made <= RECIPE.epochs or "all" != made_epochs[-1], "no fork was made"
    monkeypatch.setattr(checkpoint.Line, "finish_epoch", finish)
    run(tmp_path / "stopped")
    for name in ("weights.safetensors", "halves.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_one_training_serves_all_while_their_rates_agree(pair, tmp_path, monkeypatch):
    made_epochs = []
    finish = checkpoint.Line.finish_epoch
    monkeypatch.setattr(checkpoint.Line, "finish_epoch", lambda line, *rest: made_epochs.append(line.name) or finish(
        line, *rest))
    patient = replace(RECIPE, patience=50)
    train(*pair, patient, 0, tmp_path, model=AUDIO, halves=halves(pair[1].participants), device="cpu", progress=False)
    assert made_epochs == ["all"] * RECIPE.epochs


def test_the_half_that_is_scored_cannot_reach_the_choice(pair, tmp_path):
    """Other labels of one half: what was chosen by the other half stays as it was."""
    half = halves(pair[1].participants)
    targets = pair[1].targets.copy()
    targets[half == 1] = np.random.default_rng(0).random(targets[half == 1].shape)
    unseen = []
    for name, valid in (("a", pair[1]), ("b", replace(pair[1], targets=targets))):
        train(pair[0], valid, RECIPE, 0, tmp_path / name, model=AUDIO, halves=half, device="cpu", progress=False)
        unseen.append(pandas.read_csv(tmp_path / name / "halves.csv").iloc[:, 2:].to_numpy())
    np.testing.assert_array_equal(unseen[0][half == 1], unseen[1][half == 1])
    assert np.abs(unseen[0][half == 0] - unseen[1][half == 0]).max() > 1e-3
    assert loop.HALVES == checkpoint.HALVES
