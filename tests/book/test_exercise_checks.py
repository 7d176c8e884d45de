"""Checks of the chapters that need little: right answers pass, likely mistakes are told apart, no hint tells."""

import numpy as np
import pytest

import emibook
from emibook.book.exercises import Unsolved

RIGHT_AND_WRONG = [  # exercise, right answer, then mistakes with a word of the hint for each
    ("1.1", 2 / 3, {0.5: "covariance", 0.7: "too large", -2 / 3: "wrong sign"}),
    ("1.2", 0.5, {float(np.sin(2 * np.pi / 3)): "beyond one half", 0.3: "too small"}),
    ("3.1", 38416, {10_000: "one standard error", 196: "root"}),
    ("4.1", 3.0, {300.0: "hundred times too large"}),
    ("4.2", 124, {125: "400 samples"}),
    ("4.3", 2.0, {28: "another one"}),
    ("7.1", 197, {196: "One more token", 14: "one side"}),
    ("8.1", -6.0206, {-3.0103: "half the power", 6.0206: "wrong sign"}),
    ("8.2", -76.15, {-12.04: "Each band", -481.6: "root of their number"}),
    ("8.3", 149, {150: "400 samples"}),
    ("9.1", 1.0, {1.5: "without a penalty"}),
    ("10.1", 31, {62: "three taps", 5: "too small"}),
    ("10.2", 8, {7: "too small"}),
    ("10.3", 31, {21: "overlap"}),
    ("11.1", 0.75, {0.25: "first weight"}),
    ("11.2", (1, 2, 3, 6, 7), {(1, 2, 3, 4): "2 of them missing and 1 that do not"}),
    ("12.1", 0.16 / 6, {0.16: "sum of the squares", (0.16 / 6) ** 0.5: "root"}),
    ("17.1", 0.25, {0.6: "turns it around"}),
    ("17.2", ("b", "c"), {("a", "b"): "1 uses missing", ("x",): "not a letter"}),
    ("a1.1", (16, 546), {(300, 546): "over the batch", (16,): "leaves two"}),
    ("a1.2", -1.0, {5.0: "odd number"}),
]


def hint(number, answer, **given):
    with pytest.raises(Unsolved) as stop:
        emibook.check_exercise(number, answer, **given)
    return str(stop.value)


@pytest.mark.parametrize(("number", "right", "mistakes"), RIGHT_AND_WRONG, ids=[row[0] for row in RIGHT_AND_WRONG])
def test_an_answer_is_judged(number, right, mistakes):
    emibook.check_exercise(number, right)
    for answer, word in mistakes.items():
        said = hint(number, answer)
        assert word in said
        assert str(right) not in said.removeprefix(f"Exercise {number}")


def test_1_3_wants_the_smallest_number_for_all_labels_at_once():
    labels = np.array([[0, 0.5, 1 / 3], [0, 0, 1], [0.4, 0, 0]])
    emibook.check_exercise("1.3", [6, 1, 5], labels=labels)
    assert "clip 0 is too small" in hint("1.3", [3, 1, 5], labels=labels)


def test_1_4_takes_any_change_of_units_and_nothing_else():
    emibook.check_exercise("1.4", lambda table: table * np.arange(1, 7) + 5)
    assert "what it was" in hint("1.4", lambda table: table)
    assert "correlation changes" in hint("1.4", lambda table: table**2)
    assert "(300,)" in hint("1.4", lambda table: table.ravel())


def test_3_2_tells_a_difference_of_unpaired_draws():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 2))
    seen = truth + rng.normal(size=truth.shape)
    both = seen + 0.05 * rng.normal(size=truth.shape)
    people = [f"p{clip % 30}" for clip in range(300)]
    given = {"truth": truth, "seen": seen, "both": both, "people": people}
    assert "same resample" in hint("3.2", (-0.08, 0.08), **given)
    assert "too large" in hint("3.2", (0.03, 0.04), **given)
    emibook.check_exercise("3.3", 0.0, truth=truth, seen=seen, both=-seen, people=people)


def test_7_3_wants_each_persons_mean_taken_away():
    rng = np.random.default_rng(0)
    who = np.repeat([f"p{number}" for number in range(10)], 8)
    table = rng.normal(size=(80, 4)) + 9 * np.repeat(rng.normal(size=(10, 4)), 8, axis=0)
    given = {"averages": {"aus": table}, "participants": who}
    assert "too large" in hint("7.3", {"aus": 1.0}, **given) and "missing" in hint("7.3", {}, **given)


def test_9_3_is_not_won_with_the_labels():
    truth = np.random.default_rng(0).random((40, 2))
    noise = np.random.default_rng(1).random((40, 2))
    given = {"truth": truth, "baseline": truth + 2 * noise}
    emibook.check_exercise("9.3", truth + noise, **given)
    assert "validation labels" in hint("9.3", truth, **given)
    assert "no more than" in hint("9.3", truth + 4 * noise, **given)


def test_10_4_wants_past_and_future():
    torch = pytest.importorskip("torch")
    emibook.check_exercise("10.4", lambda values: values.cumsum(1) + values.flip(1).cumsum(1).flip(1))
    assert "future" in hint("10.4", lambda values: values.cumsum(1))
    assert "past" in hint("10.4", lambda values: values.flip(1).cumsum(1).flip(1))
    assert "time has to stay" in hint("10.4", lambda values: values[:, :-1])
    assert "A function" in hint("10.4", torch.zeros(2))
    assert "each time" in hint("10.4", lambda values: torch.rand(1, 41, 2))
    assert "returns a NoneType" in hint("10.4", lambda values: None)


def test_12_2_counts_as_the_training_does():
    given = {"scores": [0.1, 0.2, 0.2, 0.1, 0.3, 0.1, 0.1], "patience": 2}
    emibook.check_exercise("12.2", [4, 7], **given)
    assert "from one" in hint("12.2", [3, 6], **given)
    assert "missing" in hint("12.2", [4], **given)


def test_17_3_leaves_nothing_out():
    words = "one two three four five"
    names = ("who", "asked", "labels", "groups", "use", "misuse")
    sheet = {name: f"{words} {name}" for name in names}
    emibook.check_exercise("17.3", sheet)
    assert "'groups'" in hint("17.3", sheet | {"groups": "none"})
    assert "same answer" in hint("17.3", dict.fromkeys(names, words))
