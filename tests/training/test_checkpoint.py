"""The schedules that see one half of the validation clips: each chooses as in a training of its own."""

from __future__ import annotations

from dataclasses import replace

import made
import numpy as np
import pandas
import pytest
from test_loop import AUDIO, VIDEO

from emibook.evaluation import halves
from emibook.sequences.load import load
from emibook.sequences.packed import Sequences
from emibook.training import Partitions, Recipe, TrainingConfig, checkpoint, load_model, predict, train

RECIPE = Recipe("quick", learning_rate=0.02, batch=8, epochs=14, patience=2, threads=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    corpus = made.corpus(work / "root", valid=24)
    made.write(corpus, work, "aus", signal=1.0, empty=("00033",))
    return load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid")


def part_of(sequences: Sequences, chosen: np.ndarray) -> Sequences:
    clips = np.flatnonzero(chosen)
    rows = [sequences.values[sequences.offsets[clip] : sequences.offsets[clip + 1]] for clip in clips]
    return replace(
        sequences,
        values=np.concatenate(rows),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        targets=sequences.targets[clips],
        clips=tuple(sequences.clips[clip] for clip in clips),
        participants=tuple(sequences.participants[clip] for clip in clips),
    )


def run(pair, folder, recipe=RECIPE, model=AUDIO, half=None):
    train(Partitions(*pair, half), TrainingConfig(recipe, 0, model), folder, device="cpu", progress=False)


def learning_rates(folder) -> list[float]:
    return list(pandas.read_csv(folder / "log.csv")["learning_rate"])


@pytest.mark.parametrize("model", [AUDIO, VIDEO])
def test_each_half_is_predicted_as_by_a_training_that_had_the_other_half_only(pair, tmp_path, model):
    half = halves(pair[1].participants)
    run(pair, tmp_path / "all", model=model, half=half)
    unseen = pandas.read_csv(tmp_path / "all" / "halves.csv", dtype={"clip": str})
    assert tuple(unseen["clip"]) == pair[1].clips and list(unseen["half"]) == list(half)
    schedules = [learning_rates(tmp_path / "all")]
    for number in (0, 1):
        folder = tmp_path / str(number)
        run((pair[0], part_of(pair[1], half == number)), folder, model=model)
        predicted = predict(load_model(folder), pair[1])
        ours = unseen.loc[half != number, list(pair[1].target_names)]
        np.testing.assert_allclose(ours, predicted[half != number], atol=1e-5)
        schedules.append(learning_rates(folder))
    assert len(set(map(tuple, schedules))) > 1, "all had one schedule: no fork was needed and the test shows little"
    run(pair, tmp_path / "without", model=model)
    same = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("all", "without")]
    assert same[0] == same[1] and not (tmp_path / "without" / "halves.csv").exists()
    assert not list(tmp_path.glob("*/state-*"))


@pytest.mark.parametrize("stop_after", [3, 9, 15, 20])
def test_a_training_stopped_in_a_fork_too_ends_with_the_same_numbers(pair, tmp_path, monkeypatch, stop_after):
    half = halves(pair[1].participants)
    states = []
    finish_epoch = checkpoint.TrainingState.finish_epoch

    def stops(state, *arguments):
        finish_epoch(state, *arguments)
        states.append(state.name)
        if len(states) == stop_after:
            raise KeyboardInterrupt

    run(pair, tmp_path / "whole", half=half)
    monkeypatch.setattr(checkpoint.TrainingState, "finish_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(pair, tmp_path / "stopped", half=half)
    assert stop_after <= RECIPE.epochs or "all" != states[-1], "no fork was made"
    monkeypatch.setattr(checkpoint.TrainingState, "finish_epoch", finish_epoch)
    run(pair, tmp_path / "stopped", half=half)
    for name in ("weights.safetensors", "halves.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_one_training_serves_all_schedules_while_their_learning_rates_agree(pair, tmp_path, monkeypatch):
    states = []
    finish_epoch = checkpoint.TrainingState.finish_epoch
    monkeypatch.setattr(checkpoint.TrainingState, "finish_epoch",
                        lambda state, *rest: states.append(state.name) or finish_epoch(state, *rest))
    run(pair, tmp_path, replace(RECIPE, patience=50), half=halves(pair[1].participants))
    assert states == ["all"] * RECIPE.epochs


def test_the_half_that_is_scored_cannot_reach_the_choice(pair, tmp_path):
    """Other labels of one half: what was chosen by the other half stays as it was."""
    half = halves(pair[1].participants)
    targets = pair[1].targets.copy()
    targets[half == 1] = np.random.default_rng(0).random(targets[half == 1].shape)
    unseen = []
    for name, valid in (("a", pair[1]), ("b", replace(pair[1], targets=targets))):
        run((pair[0], valid), tmp_path / name, half=half)
        unseen.append(pandas.read_csv(tmp_path / name / "halves.csv").iloc[:, 2:].to_numpy())
    np.testing.assert_array_equal(unseen[0][half == 1], unseen[1][half == 1])
    assert np.abs(unseen[0][half == 0] - unseen[1][half == 0]).max() > 1e-3
