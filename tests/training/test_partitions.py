"""What partitions must have to be trained on, and their statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_loop import QUICK, refusal, run

from emibook.training.partitions import statistics


def test_statistics_are_those_of_the_training_steps(sequences):
    part = sequences[0]
    mean, scale, target_mean = statistics(part)
    np.testing.assert_allclose(mean, part.values.astype(np.float64).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, part.values.astype(np.float64).std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(target_mean, part.targets.mean(axis=0), rtol=1e-6)
    constant = part.values.copy()
    constant[:, 1] = 0.1
    assert statistics(replace(part, values=constant))[1][1] == 1


def test_partitions_that_cannot_be_trained_are_refused_in_one_line(sequences, tmp_path):
    part, valid = sequences
    constant = valid.targets.copy()
    constant[:, 1] = 0.25
    text = refusal((part, replace(valid, targets=constant)), tmp_path)
    assert "valid" in text and "Joy is 0.25 in all 18 clips" in text
    unlabelled = part.targets.copy()
    unlabelled[4, 0] = np.nan
    assert "1 of 30 clips lack a label (first 00004)" in refusal((replace(part, targets=unlabelled), valid), tmp_path)
    few = replace(valid, values=valid.values[: valid.offsets[2]], offsets=valid.offsets[:3], targets=valid.targets[:2],
                  clips=valid.clips[:2], participants=valid.participants[:2])
    assert "2 clips are too few" in refusal((part, few), tmp_path)
    empty = replace(part, values=part.values[:0], offsets=np.zeros_like(part.offsets))
    assert "all 30 train clips are empty" in refusal((empty, valid), tmp_path)
    assert "not finite" in refusal((part, valid), tmp_path / "steep", replace(QUICK, learning_rate=1e30))
    assert list(tmp_path.glob("**/weights.safetensors")) == []


@pytest.mark.parametrize("index", [0, 1], ids=["train", "valid"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_nonfinite_feature_is_named_and_not_the_learning_rate(sequences, tmp_path, index, value):
    parts = list(sequences)
    values = parts[index].values.copy()
    row = parts[index].offsets[6] + 2  # the third step of the seventh clip
    values[row, 3] = value
    parts[index] = replace(parts[index], values=values)
    clip = parts[index].clips[6]
    message = f"features aus, clip {clip}, step 2: aus_3 is {value}, not a finite number; make the set again"
    assert refusal(parts, tmp_path) == message
    values[row] = np.nan  # a gap
    run(parts, tmp_path / "gap", replace(QUICK, epochs=1))


def test_gaps_are_in_no_statistic(sequences):
    part = sequences[0]
    values = part.values.copy()
    values[5] = np.nan
    with_gap, without = statistics(replace(part, values=values)), np.delete(part.values, 5, axis=0).astype(float)
    np.testing.assert_allclose(with_gap[0], without.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(with_gap[1], without.std(axis=0), rtol=1e-5)
