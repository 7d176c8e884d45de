"""The noise ceiling against votes whose chances are known, and numbers of raters inferred from fractions."""

from __future__ import annotations

import crema_d_files
import feature_corpus
import numpy as np
import pytest

from emibook import InputError
from emibook.cli import main
from emibook.corpus import crema_d_votes
from emibook.puppet import labels
from emibook.studies.human import label_ceiling

CLIPS, RATERS = 40_000, 8


@pytest.fixture(scope="module")
def coins():
    """Chances (clip, 2) that nobody knows, and the votes of raters, another number of them in each clip."""
    rng = np.random.default_rng(3)
    raters = rng.integers(RATERS - 3, RATERS + 3, CLIPS)
    chances = np.stack([rng.beta(0.4, 1.6, CLIPS), np.clip(rng.normal(0.4, 0.08, CLIPS), 0, 1)], axis=1)
    return chances, raters, rng.binomial(raters[:, None], chances), rng.binomial(raters[:, None], chances)


def whole(clips: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(clips, int), np.ones((1, 1))


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)])


def test_reliability_is_that_of_two_groups_and_its_root_that_of_the_chances(coins):
    chances, raters, first, second = coins
    fractions = first / raters[:, None]
    found = label_ceiling.reliability(fractions, raters, *whole(CLIPS))[0]
    np.testing.assert_allclose(found, correlations(fractions, second / raters[:, None]), atol=0.02)
    np.testing.assert_allclose(np.sqrt(found), correlations(fractions, chances), atol=0.03)
    assert found[0] > 0.7 and found[1] < 0.35, "much to know in the one, little in the other"


def test_split_halves_and_the_formula_agree(coins):
    _, raters, first, _ = coins
    halves = label_ceiling.split_half_reliability(first, raters, np.random.default_rng(0))
    np.testing.assert_allclose(halves, label_ceiling.reliability(first / raters[:, None], raters,
                                                               *whole(CLIPS))[0], atol=0.02)


def test_drawing_clips_is_repeating_them(coins):
    _, raters, first, _ = coins
    fractions, raters = (first / raters[:, None])[:40], raters[:40]
    weights = np.random.default_rng(1).integers(0, 3, 40)
    repeated = np.repeat(np.arange(40), weights)
    drawn = label_ceiling.reliability(fractions, raters, np.arange(40), weights[None].astype(float))
    np.testing.assert_allclose(drawn, label_ceiling.reliability(fractions[repeated],
                                                              raters[repeated], *whole(len(repeated))))


def test_raters_are_inferred_from_denominators():
    told = np.array([[0.333, 0.667, 0], [0.5, 0, 1], [0, 0, 0], [0.4, 0.2, 0.4], [1 / 7, 0, 6 / 7], [0.2, 1 / 3, 0],
                     [np.pi / 10, 0.1234, 0], [-0.2, 0.2, 0], [3, 1, 2]])
    least, most = label_ceiling.infer_raters(told)
    assert least.tolist() == [3, 2, 1, 5, 7, 15, 0, 0, 0]
    assert most.tolist() == [15, 14, 15, 15, 14, 15, 0, 0, 0]


def test_inferred_raters_put_the_ceiling_between_two(coins):
    _, raters, first, _ = coins
    fractions = np.concatenate([first, raters[:, None] - first], axis=1) / raters[:, None]
    least, most = label_ceiling.infer_raters(np.round(fractions, 3))
    assert (least > 0).all() and (raters % least == 0).all() and (least <= raters).all()
    low, truth, high = (label_ceiling.reliability(fractions, each, *whole(CLIPS))[0] for each in (least, raters, most))
    assert (low < truth - 0.005).all() and (truth < high).all()


def test_labels_as_the_papers_lie_between_too():
    """One to six raters who may tick several emotions: what the drawn corpus has, and its numbers of raters."""
    drawn = labels.sample_labels(np.arange(20_000) // 20, np.arange(20_000) % 500, np.random.default_rng(0))
    least, most = label_ceiling.infer_raters(np.round(drawn.values, 3))
    assert (least <= drawn.raters).all() and (drawn.raters <= most).all()
    low, truth, high = (label_ceiling.reliability(drawn.values, each, *whole(20_000))[0] for each in
                        (least, drawn.raters, most))
    assert (low < truth).all() and (truth < high).all()


def test_a_corpus_without_votes(tmp_path):
    corpus = feature_corpus.corpus(tmp_path, 60, 30, 20)
    found = label_ceiling.from_fractions(corpus)
    assert not found.known and found.clips == 90 and found.over == "participants" and found.excluded == 0
    assert list(found.table.index) == [*feature_corpus.TARGETS, "mean"]
    assert (found.table["noise_ceiling"] <= found.table["noise_ceiling_max"]).all()
    assert found.table.loc["mean", "noise_ceiling"] == pytest.approx(found.table["noise_ceiling"][:-1].mean())
    assert "20" not in label_ceiling.summary(found).split("clips")[0]
    clips = corpus.clips.copy()
    clips.loc[0, feature_corpus.TARGETS[0]] = 0.12345
    few = label_ceiling.from_fractions(type(corpus)("made", tmp_path, clips, corpus.targets))
    assert few.clips == 89 and few.excluded == 1 and "1 clips were left out" in label_ceiling.summary(few)
    clips[list(feature_corpus.TARGETS)] *= 1.2345
    with pytest.raises(InputError, match="labels of [0-9]+ of 90 clips are no fractions of 20 raters or fewer"):
        label_ceiling.from_fractions(type(corpus)("made", tmp_path, clips, corpus.targets))


def test_labels_that_tell_nothing_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"video")
    assert main(["ceiling", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "0 clips with labels" in said and said.count("\n") == 1
    for clip in "bcd":
        (tmp_path / f"{clip}.mp4").write_bytes(b"video")
    (tmp_path / "about.csv").write_text("clip,joy\na,0\nb,1\nc,1\nd,0\n")
    with pytest.raises(InputError, match="every label is 0 or 1"):
        label_ceiling.ceiling(tmp_path)
    with pytest.raises(InputError, match="1 of 2 clips have fewer than two raters"):
        label_ceiling.from_counts("made", ("a", "b"), np.array([[1, 0], [3, 3]]), ["", ""])


def test_who_is_who_can_be_told_where_the_corpus_does_not(tmp_path, capsys):
    root, rng = tmp_path / "root", np.random.default_rng(0)
    root.mkdir()
    names = [f"c{number}" for number in range(40)]
    for name in names:
        (root / f"{name}.mp4").write_bytes(b"video")
    (root / "about.csv").write_text("clip,joy\n" + "".join(f"{name},{rng.integers(6) / 5}\n" for name in names))
    table = tmp_path / "people.csv"
    table.write_text("clip,participant\n" + "".join(f"{name},p{place // 4}\n" for place, name in enumerate(names)))
    assert label_ceiling.ceiling(root).over.startswith("clips (too narrow")
    assert label_ceiling.ceiling(root, participants=table).over == "participants"
    assert main(["ceiling", str(root), "--participants", str(table)]) == 0
    said = capsys.readouterr().out
    assert "interval over participants." in said
    assert main(["ceiling", str(root), "--participants", str(tmp_path / "nobody.csv")]) == 1
    told = capsys.readouterr().err
    assert "nobody.csv" in told and told.count("\n") == 1


def test_the_command_on_votes_alone(tmp_path, capsys):
    clips = [f"{actor}_DFA_{meant}_XX" for actor in (1001, 1002, 1049) for meant in crema_d_files.EMOTIONS]
    crema_d_files.write_votes(tmp_path / "tabulatedVotes.csv", clips, crema_d_files.simulated_votes(clips))
    assert main(["ceiling", str(tmp_path), "--ratings", "face"]) == 0
    said = capsys.readouterr().out
    assert "split_half" in said and "crema-d, rated by face: 18 clips" in said and "counted from the votes" in said


@pytest.mark.skipif(crema_d_files.real() is None, reason=crema_d_files.ABSENT)
def test_the_real_votes_and_what_their_fractions_would_have_told():
    found = label_ceiling.ceiling(crema_d_files.real())
    assert found.clips == 7442 and found.over == "participants"
    mean = found.table.loc["mean"]
    assert mean["split_half"] == pytest.approx(0.889, abs=0.002)
    assert mean["reliability"] == pytest.approx(0.888, abs=0.002)
    assert mean["noise_ceiling"] == pytest.approx(0.943, abs=0.002)
    assert mean["low"] < mean["noise_ceiling"] < mean["high"]
    bias = label_ceiling.inference_bias(crema_d_votes.read(crema_d_files.real())).loc["both"]
    assert {key: round(bias[key], 3) for key in label_ceiling.ON_CREMA_D} == label_ceiling.ON_CREMA_D
    assert bias["raters_min"] < bias["raters"] < bias["raters_max"]
