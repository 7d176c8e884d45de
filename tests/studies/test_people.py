"""Human raters as predictors: sums against votes written out, expectations against sampled raters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import crema_d_files
import numpy as np
import pandas as pd
import pytest

from emibook import InputError
from emibook.book.exercises import check_exercise
from emibook.cli import main
from emibook.corpus import crema_d_votes
from emibook.corpus.crema_d_votes import EMOTIONS, Votes
from emibook.evaluation import weighted_pearson
from emibook.studies.human import actor_accuracy, people, rater_panels

ACTORS = [f"{number}" for number in range(1001, 1031)]
CLIPS = [f"{actor}_{sentence}_{meant}_XX" for actor in ACTORS for sentence in ("DFA", "IEO", "TIE")
         for meant in crema_d_files.EMOTIONS]


@pytest.fixture(scope="module")
def found():
    return Votes(tuple(CLIPS), crema_d_files.simulated_votes(CLIPS, seed=1, raters=11))


@pytest.fixture(scope="module")
def about():
    return pd.DataFrame({
        "age": [20 + 2 * place for place in range(30)], "sex": ["Male", "Female"] * 15,
        "race": ["Asian"] * 4 + ["Caucasian"] * 26, "ethnicity": "Not Hispanic"}, index=pd.Index(ACTORS, name="actor"))


@pytest.fixture(scope="module")
def results(found, about):
    return people.results(found, about, draws=400)


def correlations(truth, prediction) -> list[float]:
    return [np.corrcoef(one, other)[0, 1] for one, other in zip(truth.T, prediction.T, strict=True)]


def test_all_raters_as_they_are_is_plain_correlation(found, results):
    voice, face, both = found.fractions
    for name, prediction in (("voice", voice), ("face", face), ("average", (voice + face) / 2)):
        np.testing.assert_allclose(results["correlations"].loc[name, list(EMOTIONS)].astype(float),
                                   correlations(both, prediction), atol=1e-10)


def test_drawing_actors_is_the_evaluations_bootstrap(found):
    sums = rater_panels.ActorSums(found)
    _, groups = np.unique(found.actors, return_inverse=True)
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=5)
    voice, face, both = found.fractions
    mine = rater_panels.correlation(np.einsum("da,mae->mde", weights, sums.moments(0.3, None, None)))
    theirs = weighted_pearson(both, (0.3 * face + 0.7 * voice)[None], weights, groups)[:, 0]
    np.testing.assert_allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize(("faces", "voices"), [(4, 0), (0, 5), (3, 3), (6, 2), (1, 1)])
def test_fewer_raters_are_the_expectation_of_leaving_raters_out(found, faces, voices):
    sums = rater_panels.ActorSums(found)
    exact = rater_panels.correlation(sums.moments(faces / (faces + voices), faces, voices).sum(axis=1))
    drawn = rater_panels.sampled_panel(found, faces, voices, np.random.default_rng(2), draws=300)
    np.testing.assert_allclose(exact, drawn, atol=0.008)  # a mean of correlations is not quite that of means


def test_raters_are_sampled_without_replacement(found):
    """A sample of all raters is all raters."""
    most = int(found.raters.max())
    np.testing.assert_allclose(rater_panels.sampled_panel(found, most, 0, np.random.default_rng(0), draws=2),
                               correlations(found.fractions[2], found.fractions[1]), atol=1e-9)


def test_noise_free_raters_reach_what_the_chances_reach():
    rng = np.random.default_rng(5)
    clips = [f"{1001 + place % 90}_DFA_ANG_XX" for place in range(12_000)]
    chances = rng.dirichlet(np.full(6, 0.6), len(clips))
    heard = 0.5 * chances + 0.5 * rng.dirichlet(np.full(6, 0.6), len(clips))
    counts = np.stack([rng.multinomial(9, each) for each in (heard, chances, chances)])
    sums = rater_panels.ActorSums(Votes(tuple(clips), counts))
    both = counts[2] / 9
    reached = rater_panels.correlation(sums.moments(0.0, 0, np.inf).sum(axis=1))
    np.testing.assert_allclose(reached, correlations(both, heard), atol=0.015)
    exact = rater_panels.correlation(sums.moments(0.0, 0, np.inf, noise_free_target=True).sum(axis=1))
    np.testing.assert_allclose(exact, correlations(chances, heard), atol=0.015)
    same = rater_panels.correlation(sums.moments(1.0, np.inf, 0, noise_free_target=True).sum(axis=1))
    np.testing.assert_allclose(same, 1, atol=0.015)


def test_more_raters_never_hurt_and_differences_are_paired(results):
    table = results["correlations"]["mean"]
    assert table["face, 10 raters"] < table["face, 20 raters"] < table["face, noise-free"]
    for name, row in results["differences"].iterrows():
        one, other = name.split(" - ")
        assert row["mean"] == pytest.approx(table[one] - table[other], abs=1e-12)
        assert row["low"] <= row["mean"] <= row["high"]
    alone = results["correlations"].loc["average"]
    paired = results["differences"].loc["average - face"]
    assert paired["high"] - paired["low"] < alone["high"] - alone["low"]


def test_ten_raters_by_how_many_see(results):
    ten, table = results["ten"], results["correlations"]
    for faces, row in ((10, "face, 10 raters"), (5, "5 face + 5 voice"), (7, "7 face + 3 voice"),
                       (0, "voice, 10 raters")):
        assert ten.loc[str(faces), "mean"] == pytest.approx(table.loc[row, "mean"])
    chosen = table.loc[people.FITTED_SPLIT]
    assert (chosen[list(EMOTIONS)] <= ten[list(EMOTIONS)].max() + 1e-9).all(), "chosen on others, so never better"
    assert chosen["mean"] > ten.loc["0", "mean"]


def test_more_raters_in_all(results):
    totals, table = results["totals"], results["correlations"]["mean"]
    for total, one, other in ((10, "face, 10 raters", "5 face + 5 voice"),
                              (20, "face, 20 raters", "10 face + 10 voice")):
        assert totals.loc[total, "face"] == pytest.approx(table[one])
        assert totals.loc[total, "half"] == pytest.approx(table[other])
    assert (totals[["face", "half"]].diff().dropna() > 0).all(axis=None)
    assert totals.loc[100, "face"] < table["face, noise-free"]
    assert totals.loc[100, "half"] < table["average, noise-free"]


def test_weights_are_a_regressions_and_never_see_the_actor_they_are_for(found):
    sums = rater_panels.ActorSums(found)
    shares = rater_panels.best_weights(sums)
    voice, face, both = found.fractions
    for actor in (0, 17):
        others = found.actors != ACTORS[actor]
        for emotion in (0, 3):
            columns = np.stack([face[others, emotion], voice[others, emotion], np.ones(others.sum())], axis=1)
            one, other, _ = np.linalg.lstsq(columns, both[others, emotion], rcond=None)[0]
            assert shares[actor, emotion] == pytest.approx(one / (one + other))
    counts = found.counts.copy()
    counts[:, found.actors == ACTORS[4]] = counts[::-1, found.actors == ACTORS[4]][..., ::-1]
    spoilt = rater_panels.ActorSums(Votes(found.clips, counts))
    np.testing.assert_allclose(rater_panels.best_weights(spoilt)[4], shares[4])
    assert not np.allclose(rater_panels.best_weights(spoilt)[5], shares[5])
    np.testing.assert_array_equal(rater_panels.best_splits(spoilt)[4], rater_panels.best_splits(sums)[4])


def test_the_formula_is_the_measurement(results):
    table = results["fusion"]
    np.testing.assert_allclose(table["formula"], table["measured"], atol=1e-9)
    np.testing.assert_allclose(table["ten_formula"], table["ten_measured"], atol=0.01)


def test_rater_noise_of_the_labels_correlates_errors():
    """Those who heard and those who saw err apart; the rater noise of the labels alone makes their errors correlate."""
    rng = np.random.default_rng(7)
    clips = [f"{1001 + place % 90}_DFA_ANG_XX" for place in range(6_000)]
    chances = rng.dirichlet(np.full(6, 1.0), len(clips))
    counts = np.stack([rng.multinomial(60, 0.5 * chances + 0.5 * rng.dirichlet(np.full(6, 1.0), len(clips)))
                       for _ in range(2)] + [rng.multinomial(6, chances)])
    found = Votes(tuple(clips), counts)
    sums = rater_panels.ActorSums(found)
    table = people.fusion(found, sums, rater_panels.best_weights(sums),
                          rater_panels.best_splits(sums), np.random.default_rng(0))
    assert (table["errors"] > table["errors_noise_free"] + 0.04).all()
    # Both err by half of what the clip is not, so their errors share one half of their variance.
    np.testing.assert_allclose(table["errors_noise_free"], 0.5, atol=0.06)


def test_clips_of_one_actor_make_wider_intervals():
    """Where actors differ, intervals by clip are too narrow, and people_correlations has both."""
    rng = np.random.default_rng(0)
    clips = [f"{actor}_DFA_{meant}_XX" for actor in ACTORS for meant in crema_d_files.EMOTIONS for _ in range(6)]
    unlike = np.repeat(rng.random(30) ** 2, 36)[:, None]
    chances = rng.dirichlet(np.full(6, 0.5), len(clips))
    heard = unlike * chances + (1 - unlike) * rng.dirichlet(np.full(6, 0.5), len(clips))
    counts = np.stack([rng.multinomial(9, each) for each in (heard, chances, chances)])
    found = Votes(tuple(clips), counts)
    about = pd.DataFrame({"age": 30, "sex": "Male", "race": "Unknown", "ethnicity": "Hispanic"}, index=ACTORS)
    row = people.results(found, about, draws=400)["correlations"].loc["voice"]
    assert row["high"] - row["low"] > 1.5 * (row["high_by_clip"] - row["low_by_clip"])


def test_accuracy_is_the_share_who_chose_what_was_meant(found, results):
    table = results["accuracy"]
    shares = []
    for actor in ACTORS:
        right = [found.counts[2, place, crema_d_files.EMOTIONS.index(clip[9:12])] / found.counts[2, place].sum()
                 for place, clip in enumerate(CLIPS) if clip.startswith(actor)]
        shares.append(np.mean(right))
    everybody = table.query("ratings == 'both' and kind == 'all'").iloc[0]
    assert everybody["accuracy"] == pytest.approx(np.mean(shares))
    women = table.query("ratings == 'both' and group == 'Female'").iloc[0]
    assert women["accuracy"] == pytest.approx(np.mean(shares[1::2])) and women["actors"] == 15
    assert women["difference"] == pytest.approx(np.mean(shares[1::2]) - np.mean(shares[::2]))
    assert women["difference_low"] < women["difference"] < women["difference_high"]


def test_verdicts(found, about):
    """A planted difference is found, none is called alike, and few actors are too few whatever they show."""
    counts = np.zeros_like(found.counts)
    women = np.isin(found.actors, ACTORS[1::2])
    asian = np.isin(found.actors, ACTORS[:4])
    right = np.where(asian, 2, np.where(women, 7, 5))
    counts[:, np.arange(len(CLIPS)), found.intended] = right
    counts[:, np.arange(len(CLIPS)), (found.intended + 1) % 6] = 10 - right
    about = about.assign(ethnicity=np.where(np.arange(30) % 4 < 2, "Hispanic", "Not Hispanic"))
    table = actor_accuracy.accuracy(Votes(found.clips, counts), about, np.random.default_rng(0), 400)
    verdict = table.query("ratings == 'face'").set_index("group")["verdict"]
    assert verdict["Male"] == "differs" or verdict["Female"] == "differs"
    assert verdict["Asian"] == "too few to conclude"
    same = counts.copy()
    same[:] = 0
    same[:, np.arange(len(CLIPS)), found.intended] = 5
    same[:, np.arange(len(CLIPS)), (found.intended + 1) % 6] = 5
    table = actor_accuracy.accuracy(Votes(found.clips, same), about, np.random.default_rng(0), 400)
    told = table.query("ratings == 'face' and verdict != ''").set_index("group")
    assert set(told.drop("Asian")["verdict"]) == {"alike"} and told.loc["Asian", "verdict"] == "too few to conclude"
    with pytest.raises(InputError, match="actor 1030 is not in VideoDemographics.csv"):
        actor_accuracy.accuracy(found, about.drop("1030"), np.random.default_rng(0), 10)


def test_what_is_kept_is_what_was_computed(results, tmp_path, found, about):
    paths = people.write(results, tmp_path)
    assert all(path.is_file() for path in paths) and not list(tmp_path.glob(".*"))
    digests = json.loads((tmp_path / "people.json").read_text())["tables"]
    assert digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:-1]}
    again = people.read(tmp_path)
    assert set(again) == set(results)
    for name, table in results.items():
        numbers = table.select_dtypes("number")
        np.testing.assert_allclose(again[name][numbers.columns], numbers, atol=1e-5)
        assert list(map(str, again[name].index)) == list(map(str, table.index))
    with pytest.raises(InputError, match="people_correlations.csv: no such file; make it with emibook people"):
        people.read(tmp_path / "nowhere")
    once, twice = (people.results(found, about, draws=20, seed=3) for _ in range(2))
    for name in once:
        pd.testing.assert_frame_equal(once[name], twice[name])


def test_the_command_writes_all_tables(tmp_path, capsys):
    crema_d_files.write_votes(tmp_path / "tabulatedVotes.csv", CLIPS, crema_d_files.simulated_votes(CLIPS))
    assert main(["people", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no VideoDemographics.csv" in capsys.readouterr().err
    crema_d_files.write_actors(tmp_path / "VideoDemographics.csv", ACTORS)
    assert main(["people", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "7 face + 3 voice" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "people.json", *(f"people_{name}.csv" for name in people.INDEX)}


def test_exercises_know_right_from_wrong(results, capsys):
    six = results["fusion"].drop("mean")
    alike = results["ceiling"].loc["face"].drop("mean")["reliability"].to_numpy()
    right = six["r_face"].to_numpy() / np.sqrt((1 + alike) / 2)
    check_exercise("2.2", right, found=results)
    for wrong, said in ((six["r_face"] * 2 / (1 + alike), "one stays as it is"), (right - 0.1, "too small"),
                        (six["r_face"] / np.sqrt(alike), "half of it")):
        with pytest.raises(InputError, match=said):
            check_exercise("2.2", wrong, found=results)
    agreement = results["ceiling"].loc[("both", "mean"), "reliability"]
    exact = 10 * 19 * (1 - agreement) / agreement
    check_exercise("2.1", np.ceil(exact), found=results)
    for wrong, said in ((np.floor(exact), "just short"), (exact / 10, "how many times ten"), (9 * exact, "too large")):
        with pytest.raises(InputError, match=said):
            check_exercise("2.1", wrong, found=results)
    seen = (six["r_face"] - six["between"] * six["r_voice"]) / six["s_face"]
    heard = (six["r_voice"] - six["between"] * six["r_face"]) / six["s_voice"]
    check_exercise("2.3", seen / (seen + heard), found=results)
    with pytest.raises(InputError, match="those who heard"):
        check_exercise("2.3", heard / (seen + heard), found=results)


@pytest.mark.skipif(crema_d_files.real() is None, reason=crema_d_files.ABSENT)
def test_the_first_look_made_exact_and_kept_with_the_book():
    found = people.from_root(crema_d_files.real())
    table = found["correlations"]["mean"]
    first_look = {"voice": 0.634, "face": 0.812, "average": 0.844, "5 face + 5 voice": 0.807,
                  "face, 20 raters": 0.839, "7 face + 3 voice": 0.823}
    for row, value in first_look.items():
        assert table[row] == pytest.approx(value, abs=0.0015), row
    happy = found["fusion"].loc["Happy"]
    assert happy["r_face"] == pytest.approx(0.966, abs=1e-3) and happy["measured"] == pytest.approx(0.945, abs=1e-3)
    wide = found["correlations"].loc[["voice", "face", "average"]]
    ratio = (wide["high"] - wide["low"]) / (wide["high_by_clip"] - wide["low_by_clip"])
    assert ratio.between(1.5, 2.6).all()
    kept = people.read(Path(__file__).parents[2] / "book" / "results")
    for name, made in found.items():
        numbers = made.select_dtypes("number")
        np.testing.assert_allclose(kept[name][numbers.columns], numbers, atol=2e-5)
    assert len(crema_d_votes.read(crema_d_files.real()).clips) == 7442
