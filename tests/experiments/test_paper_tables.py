from __future__ import annotations

import json
import os
import re
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import feature_corpus
import numpy as np
import pandas
import pytest
import torch
from safetensors import safe_open

from emibook import InputError
from emibook.cli import main
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.evaluation import CLIPS, halves, paired_difference
from emibook.experiments import batch, paper_tables, runs
from emibook.experiments.paper_rows import EXTRA_TABLE2, EXTRA_TABLE3, TABLE2, TABLE3, chosen_rows, has_official
from emibook.experiments.paper_tables import tables, train
from emibook.experiments.recipes import ABLATIONS, RECIPES, recipe_for, variant_for
from emibook.experiments.runs import Run
from emibook.experiments.training_run import Experiment, run_folder
from emibook.features import store
from emibook.fusion import FUSION_ALTERNATIVES, cross_fitted_fusion, late_fusion
from emibook.training.loop import Recipe, load_model

QUICK = Recipe("quick", learning_rate=3e-3, batch=10, epochs=8, threads=1)
NO_FACE, NO_SOUND, NEITHER = "00031", "00034", "00037"  # of the validation partition
SIGNAL = {"resnet18": 3.0, "aus": 3.0, "vit": 0.0, "mfcc": 3.0, "wav2vec2": 0.0}


@pytest.fixture(scope="module", autouse=True)
def asked():
    """Preprocessing and extraction have tests of their own; here they are only asked, and that they were is kept."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "preprocess", lambda corpus, work, **options: calls.append("preprocess"))
        patch.setattr(batch, "extract", lambda corpus, work, names, **options: calls.append(tuple(names)))
        yield calls


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A corpus, its WORK with features of signal and of none, and both tables of two seeds."""
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root")
    for name, signal in SIGNAL.items():
        sound = name in ("mfcc", "wav2vec2")
        feature_corpus.write(corpus, work, name, signal=signal, empty=(NEITHER, NO_SOUND if sound else NO_FACE))
    made_tables = tables(corpus, work, seeds=2, recipe=QUICK, resources=feature_corpus.QUIET)
    return corpus, work, made_tables


def files(work) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted((work / "runs").rglob("*")) if path.is_file()}


def test_rows_are_the_papers():
    assert [(row.features, row.modality, row.paper) for row in TABLE2] == [
        ("vit (baseline)", "V", 0.09), ("vit", "V", 0.10), ("resnet18", "V", 0.1236), ("aus", "V", 0.1352),
        ("resnet18+aus", "V", 0.1479), ("wav2vec2 (baseline)", "A", 0.24), ("wav2vec2", "A", 0.2808),
    ]
    assert [(row.features, row.modality, row.paper) for row in TABLE3] == [
        ("vit & wav2vec2 (baseline)", "V+A", 0.25), ("vit & wav2vec2", "V+A", 0.2835),
        ("resnet18 & wav2vec2", "V+A", 0.2983), ("aus & wav2vec2", "V+A", 0.3026),
        ("resnet18+aus & wav2vec2", "V+A", 0.3288),
    ]
    rows = (*TABLE2, *EXTRA_TABLE2, *TABLE3, *EXTRA_TABLE3)
    assert len({row.features for row in rows}) == len(rows)
    unimodal = {row.features for row in (*TABLE2, *EXTRA_TABLE2)}
    assert {branch for row in rows for branch in row.branches} == unimodal
    assert [row.branches for row in EXTRA_TABLE3] == [(row.branches[0], "mfcc") for row in TABLE3[1:]]


def test_paper_recipe_is_the_papers_and_small_is_for_small_corpora(tmp_path):
    paper = RECIPES["paper"]
    assert (paper.learning_rate, paper.batch, paper.patience) == (3e-5, 128, 10)
    assert recipe_for(feature_corpus.corpus(tmp_path, 999, 3, 0)).name == "small"
    assert recipe_for(feature_corpus.corpus(tmp_path, 1000, 3, 0)).name == "paper"
    assert recipe_for(feature_corpus.corpus(tmp_path), "paper") is paper
    with pytest.raises(InputError, match="no recipe named 'big'; there are paper, small"):
        recipe_for(feature_corpus.corpus(tmp_path), "big")


def test_tables_have_their_rows_and_columns_on_disk_too(planted):
    corpus, work, (table2, table3) = planted
    for table, rows, file in ((table2, (*TABLE2, *EXTRA_TABLE2), "table2.csv"),
                              (table3, (*TABLE3, *EXTRA_TABLE3), "table3.csv")):
        assert list(table["features"]) == [row.features for row in rows]
        assert list(table.columns[:7]) == ["features", "modality", "paper", "mean", "low", "high", "seeds"]
        assert (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
        assert (table["seeds"] == 2).all() and (table["clips"] == 18).all() and (table["recipe"] == "quick").all()
        assert (table["corpus"] == "made").all() and (table["note"] == "made numbers").all()
        assert (table["interval_over"] == "participants").all()
        columns = [f"pearson {name}" for name in feature_corpus.TARGETS]
        np.testing.assert_allclose(table["mean"], table[columns].mean(axis=1))
        again = pandas.read_csv(work / "tables" / file)
        pandas.testing.assert_frame_equal(again, table, check_dtype=False)
    assert table3.loc[5:, "paper"].isna().all() and table3.loc[:4, "paper"].notna().all()


def test_signal_is_found_where_it_was_planted(planted):
    table2, table3 = (table.set_index("features") for table in planted[2])
    for features in ("resnet18", "aus", "resnet18+aus", "mfcc"):
        assert table2.loc[features, "low"] > 0.1, features
    assert table2.loc["vit", "mean"] < table2.loc["aus", "mean"] - 0.2
    assert table3.loc["resnet18+aus & mfcc", "low"] > 0.1


def test_clips_without_a_modality_count_and_are_counted(planted):
    table2, table3 = (table.set_index("features") for table in planted[2])
    assert (table2["missing"] == 2).all() and (table2["clips"] == 18).all()
    assert (table3["missing"] == 3).all()  # no face, no sound, neither


def test_of_which_clips_a_set_has_nothing_is_said_once_and_what_becomes_of_them(planted, tmp_path, capsys):
    corpus, work = planted[0], tmp_path
    os.symlink(planted[1] / "features", work / "features")
    one = replace(QUICK, epochs=1)
    tables(corpus, work, seeds=2, rows=["aus", "mfcc"], recipe=one, resources=Resources(workers=1))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("features ")]
    fate = "they are predicted as the training mean, in fusion by the other branch, and counted"
    assert said == [f"features aus: 2 of 18 valid clips have none (00031, 00037); {fate}",
                    f"features mfcc: 2 of 18 valid clips have none (00034, 00037); {fate}"]
    train(corpus, work, "aus", 0, one, resources=Resources())
    assert "features aus" not in capsys.readouterr().err, "nothing is trained"


def test_features_are_packed_in_bfloat16_on_request(planted, tmp_path):
    corpus, work = planted[0], tmp_path
    os.symlink(planted[1] / "features", work / "features")
    folder = train(corpus, work, "aus", 0, replace(QUICK, epochs=1), "packed-bfloat16", resources=feature_corpus.QUIET)
    run = Run.open(folder)
    assert run.config["sequence"]["packed"] == "bfloat16" and run.config["variant"] == "packed-bfloat16"
    kinds = set()
    for path in (work / "packed" / "aus").glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            kinds.add(file.get_tensor("values").dtype)
    assert kinds == {torch.bfloat16}
    both = variant_for("packed-bfloat16+last-step")
    assert (both.sequence, both.model) == ({"packed": "bfloat16"}, {"pooling": "last"})
    assert "packed-bfloat16" not in ABLATIONS, "it is no reading of the paper"


def in_numpy(corpus, work, branches) -> float:
    """A row's mean written out again: read the runs' files, carry empty clips, average, correlate."""
    valid = corpus.partition("valid").set_index("clip")
    scores = []
    for seed in range(2):
        parts = []
        for branch in branches:
            (folder,) = (work / "runs").glob(f"{branch.replace(' (baseline)', '-baseline')}-seed{seed}-*")
            parts.append(pandas.read_csv(folder / "predictions.csv", dtype={"clip": str}).set_index("clip"))
        rows = []
        for clip in valid.index:
            able = [part for part in parts if part.loc[clip, "modality_present"] == 1] or parts
            rows.append(np.mean([part.loc[clip, list(feature_corpus.TARGETS)].to_numpy(float) for part in able],
                                axis=0))
        scores += [np.corrcoef(valid[name], np.array(rows)[:, i])[0, 1]
                   for i, name in enumerate(feature_corpus.TARGETS)]
    return float(np.mean(scores))


@pytest.mark.parametrize("row", [TABLE2[4], TABLE3[0], TABLE3[4], EXTRA_TABLE3[3]], ids=lambda row: row.features)
def test_a_row_is_what_its_runs_files_say(planted, row):
    corpus, work, made_tables = planted
    table = pandas.concat(made_tables).set_index("features")
    assert table.loc[row.features, "mean"] == pytest.approx(in_numpy(corpus, work, row.branches), abs=1e-6)


def test_baselines_are_the_organisers_models_and_branches_the_papers(planted):
    def kind(branch):
        (folder,) = (planted[1] / "runs").glob(f"{branch}-seed0-*")
        model = load_model(folder)
        return type(model).__name__, model.config.get("transformer_layers")

    assert kind("vit-baseline") == ("RecurrentBaseline", None)
    assert kind("wav2vec2-baseline") == ("LinearBaseline", None)
    assert kind("resnet18+aus") == ("IntensityRegressor", 2)
    assert kind("mfcc") == ("IntensityRegressor", 0)


def test_a_finished_run_is_not_repeated_and_one_that_lost_its_end_ends_the_same(planted, asked):
    corpus, work, (table2, _) = planted
    before = files(work)
    again, _ = tables(corpus, work, seeds=2, recipe=QUICK, resources=feature_corpus.QUIET)
    assert files(work) == before
    pandas.testing.assert_frame_equal(again, table2)
    assert asked[-2] == "preprocess" and set(asked[-1]) == {"vit", "resnet18", "aus", "wav2vec2", "mfcc"}
    folder = train(corpus, work, "mfcc", 1, QUICK, resources=feature_corpus.QUIET)
    assert files(work) == before and asked[-1] == ("mfcc",)
    weights = (folder / "weights.safetensors").read_bytes()
    shutil.rmtree(folder)
    assert train(corpus, work, "mfcc", 1, QUICK, resources=feature_corpus.QUIET) == folder
    assert (folder / "weights.safetensors").read_bytes() == weights


def test_a_run_folder_holds_what_it_says(planted):
    corpus, work, (table2, _) = planted
    folder = train(corpus, work, "resnet18+aus", 0, QUICK, resources=feature_corpus.QUIET)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "metrics.json", "predictions.csv", "predictions_test.csv", "weights.safetensors",
        "training.json", "log.csv", "halves.csv", "encoders",
    }
    assert {path.name for path in (folder / "encoders").iterdir()} >= {"resnet18.json", "aus.json"}
    run = Run.open(folder)
    assert run.config["corpus"] == "made" and run.config["note"] == "made numbers" and run.config["seed"] == 0
    assert run.targets == list(feature_corpus.TARGETS) and run.config["recipe"]["learning_rate"] == QUICK.learning_rate
    assert set(run.config["versions"]) >= {"emibook", "torch", "numpy"}
    valid = corpus.partition("valid")
    predicted, present = run.predictions("valid", valid["clip"])
    rho = [np.corrcoef(valid[name], predicted[:, i])[0, 1] for i, name in enumerate(feature_corpus.TARGETS)]
    assert run.metrics["mean_pearson"] == pytest.approx(np.mean(rho), abs=1e-6)
    log = pandas.read_csv(folder / "log.csv")
    assert run.metrics["best_epoch"] == log.loc[log["mean_pearson"].idxmax(), "epoch"]
    assert run.metrics["empty"] == {"train": 0, "valid": 2, "test": 0}
    assert list(valid["clip"][~present]) == [NO_FACE, NEITHER]
    assert len(run.predictions("test", corpus.partition("test")["clip"])[0]) == 6
    with pytest.raises(InputError, match="lacks 1 of 2 clips .first 77777."):
        run.predictions("valid", ["00030", "77777"])


def test_predictions_are_found_by_id_not_by_row(planted, tmp_path):
    corpus, work, _ = planted
    folder = train(corpus, work, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    copy = shutil.copytree(folder, tmp_path / "copy")
    table = pandas.read_csv(copy / "predictions.csv", dtype=str)
    table.sample(frac=1, random_state=1).to_csv(copy / "predictions.csv", index=False)
    clips = corpus.partition("valid")["clip"]
    for one, other in zip(Run.open(folder).predictions("valid", clips), Run.open(copy).predictions("valid", clips),
                          strict=True):
        np.testing.assert_array_equal(one, other)


def test_test_clips_cannot_reach_training(planted, tmp_path):
    """Other features of the test clips: other predictions of them, and not one other number."""
    corpus, work, _ = planted
    folder = train(corpus, work, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    other = tmp_path / "work"
    shutil.copytree(work / "features" / "mfcc", other / "features" / "mfcc")
    for clip in corpus.partition("test")["clip"]:
        path = store.clip_path(store.feature_folder(other, "mfcc"), clip)
        sequence = store.load(path)
        store.save(replace(sequence, values=sequence.values * np.float32(50)), path)
    again = train(corpus, other, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    for name in ("weights.safetensors", "predictions.csv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    assert (folder / "predictions_test.csv").read_bytes() != (again / "predictions_test.csv").read_bytes()


def test_side_by_side_in_worker_processes_gives_the_same_numbers(planted, tmp_path):
    corpus, work, _ = planted
    os.symlink(work / "features", tmp_path / "features")
    items = [("aus", 0), ("mfcc", 0), ("wav2vec2 (baseline)", 1)]
    in_workers = batch.train_all(Experiment.of(corpus, tmp_path, QUICK), items, Resources(workers=2, progress=False))
    for item, run in in_workers.items():
        here = run_folder(Experiment.of(corpus, work, QUICK), *item)
        assert run.folder.name == here.name
        assert (run.folder / "weights.safetensors").read_bytes() == (here / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(("error", "raised"), [(InputError("one line"), InputError), (OSError("full"), RuntimeError)])
def test_a_training_that_failed_in_a_worker_is_not_passed_over(planted, monkeypatch, error, raised):
    corpus, work, _ = planted
    monkeypatch.setattr(batch.compute, "run", lambda task, items, **_: iter([(item, error) for item in items]))
    with pytest.raises(raised, match="one line|aus, seed 90: .*full"):
        batch.train_all(Experiment.of(corpus, work, QUICK), [("aus", 90), ("aus", 91)],
                        Resources(workers=2, progress=False))


def test_unknown_people_are_labelled(planted):
    corpus, work, (table2, _) = planted
    clips = corpus.clips.assign(participant="")
    nameless = Corpus(corpus.name, corpus.root, clips, corpus.targets, corpus.note)
    again, nothing = tables(nameless, work, seeds=2, rows=["mfcc"], recipe=QUICK, resources=feature_corpus.QUIET)
    known = table2.set_index("features").loc["mfcc"]
    assert len(nothing) == 0 and (again["interval_over"] == CLIPS).all()
    assert again["mean"][0] == pytest.approx(known["mean"])
    assert again["cross_fitted"][0] != known["cross_fitted"]  # clips take the place of participants in the halves
    tables(corpus, work, seeds=2, recipe=QUICK, resources=feature_corpus.QUIET)


def test_other_labels_seeds_recipes_and_encoders_are_other_runs(planted, tmp_path):
    corpus, work, _ = planted
    folder = run_folder(Experiment.of(corpus, work, QUICK), "aus", 0)
    clips = corpus.clips.copy()
    clips.loc[0, "Joy"] = 0.123
    relabelled = Corpus(corpus.name, corpus.root, clips, corpus.targets, corpus.note)
    shutil.copytree(work / "features" / "aus", tmp_path / "features" / "aus")
    assert run_folder(Experiment.of(corpus, tmp_path, QUICK), "aus", 0).name == folder.name
    settings = tmp_path / "features" / "aus" / store.SETTINGS
    settings.write_text(settings.read_text().replace('"version": "1"', '"version": "2"'))
    others = [
        run_folder(Experiment.of(relabelled, work, QUICK), "aus", 0),
        run_folder(Experiment.of(corpus, work, QUICK), "aus", 1),
        run_folder(Experiment.of(corpus, work, replace(QUICK, learning_rate=1e-3)), "aus", 0),
        run_folder(Experiment.of(corpus, tmp_path, QUICK), "aus", 0),
    ]
    assert len({other.name for other in others} | {folder.name}) == 5


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_done_is_refused_in_one_line_before_anything_is_made(tmp_path, asked):
    asked.clear()
    whole = feature_corpus.corpus(tmp_path)
    unlabelled = Corpus("made", tmp_path, whole.clips[list(whole.clips.columns[:5])], ())
    assert "no labels" in refusal(tables, unlabelled, tmp_path)
    assert "valid: 2 clips are too few" in refusal(train, feature_corpus.corpus(tmp_path, 5, 2, 0), tmp_path, "aus")
    assert "train: 0 clips" in refusal(tables, feature_corpus.corpus(tmp_path, 0, 5, 0), tmp_path)
    assert "no features named 'aux'; there are resnet18" in refusal(train, whole, tmp_path, "aux")
    assert "faces and sound" in refusal(train, whole, tmp_path, "aus+mfcc")
    assert "0 seeds" in refusal(tables, whole, tmp_path, seeds=0)
    assert asked == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("partition", ["valid", "test"])
def test_features_of_two_versions_are_refused_before_anything_is_trained(planted, tmp_path, partition):
    corpus, work, _ = planted
    shutil.copytree(work / "features" / "mfcc", tmp_path / "features" / "mfcc")
    for clip in corpus.partition(partition)["clip"]:
        path = store.clip_path(store.feature_folder(tmp_path, "mfcc"), clip)
        store.save(replace(store.load(path), version="0"), path)
    said = refusal(train, corpus, tmp_path, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    assert "features mfcc: made by mfcc 0 (builtin), others by mfcc 1 (builtin); delete" in said
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_no_run_is_refused(planted, tmp_path):
    assert "no finished run" in refusal(Run.open, tmp_path / "nowhere")
    folder = shutil.copytree(train(planted[0], planted[1], "mfcc", 0, QUICK,
                                   resources=feature_corpus.QUIET), tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 0}))
    assert "another version" in refusal(Run.open, folder)
    (folder / "config.json").write_text("{")
    assert "no finished run" in refusal(Run.open, folder)


def test_fused_clips_of_one_modality_are_the_other_branch_alone(planted):
    corpus, work, _ = planted
    face = Run.open(train(corpus, work, "aus", 0, QUICK, resources=feature_corpus.QUIET))
    sound = Run.open(train(corpus, work, "mfcc", 0, QUICK, resources=feature_corpus.QUIET))
    clips = [NO_FACE, NO_SOUND, NEITHER]
    (seen, face_there), (heard, sound_there) = face.predictions("valid", clips), sound.predictions("valid", clips)
    fused = late_fusion(seen, heard, present=[face_there, sound_there])
    mean = corpus.partition("train")[list(feature_corpus.TARGETS)].to_numpy().mean(axis=0)
    np.testing.assert_allclose(fused, [heard[0], seen[1], mean], atol=1e-6)


def test_rows_by_name_are_rows_of_table_2_and_their_pairs_of_table_3(planted, asked):
    corpus, work, (table2, table3) = planted
    names = ["resnet18", "vit (baseline)", "mfcc", "wav2vec2 (baseline)"]
    some2, some3 = tables(corpus, work, seeds=2, rows=names, recipe=QUICK, resources=feature_corpus.QUIET)
    assert list(some2["features"]) == names and set(asked[-1]) == {"resnet18", "vit", "mfcc", "wav2vec2"}
    assert list(some3["features"]) == [
        "resnet18 & mfcc", "resnet18 & wav2vec2 (baseline)", "vit (baseline) & mfcc", "vit & wav2vec2 (baseline)"
    ]
    for some, whole in ((some2, table2), (some3, table3)):
        for row in some.to_dict("records"):
            same = whole[whole["features"] == row["features"]]
            if len(same):
                assert row["mean"] == same["mean"].iloc[0] and row["paper"] == pytest.approx(same["paper"].iloc[0],
                                                                                              nan_ok=True)
    assert some3["paper"].notna().sum() == 1
    for wrong, said in ((["resnet18", "resnet18"], "named twice"), (["resnet"], "no features named 'resnet'")):
        with pytest.raises(InputError, match=said):
            tables(corpus, work, rows=wrong, recipe=QUICK, resources=feature_corpus.QUIET)
    tables(corpus, work, seeds=2, recipe=QUICK, resources=feature_corpus.QUIET)


def test_sets_of_one_modality_can_be_branches_of_their_own(planted):
    corpus, work, _ = planted
    names = ["resnet18+aus", "resnet18 & aus", "mfcc"]
    table2, table3 = tables(corpus, work, seeds=2, rows=names, recipe=QUICK, resources=feature_corpus.QUIET)
    apart, both = table2.iloc[1], table3.iloc[1]
    assert (apart["features"], apart["modality"], apart["against"]) == ("resnet18 & aus", "V", "resnet18+aus")
    assert (both["features"], both["modality"], both["against"]) == ("resnet18 & aus & mfcc", "V+A", "mfcc")
    valid = corpus.partition("valid")
    told = {(name, seed): Run.open(train(corpus, work, name, seed, QUICK, resources=feature_corpus.QUIET)).predictions(
            "valid", valid["clip"]) for name in ("resnet18", "aus", "mfcc") for seed in (0, 1)}  # fmt: skip
    for row, branches in ((apart, ("resnet18", "aus")), (both, ("resnet18", "aus", "mfcc"))):
        scores = []
        for seed in (0, 1):
            each, there = zip(*(told[name, seed] for name in branches), strict=True)
            there = np.where(np.any(there, axis=0), there, True)
            fused = np.average(each, axis=0, weights=np.broadcast_to(there[..., None], np.shape(each)))
            scores.append(np.mean([np.corrcoef(valid[name], column)[0, 1]
                                   for name, column in zip(feature_corpus.TARGETS, fused.T, strict=True)]))
        assert row["mean"] == pytest.approx(np.mean(scores), abs=1e-6), branches
    assert apart["difference"] == pytest.approx(apart["mean"] - table2["mean"].iloc[0])
    for wrong, said in (("aus & mfcc", "has both modalities"), ("aus & aus", "a branch is named twice")):
        with pytest.raises(InputError, match=said):
            tables(corpus, work, rows=[wrong], recipe=QUICK, resources=feature_corpus.QUIET)
    tables(corpus, work, seeds=2, recipe=QUICK, resources=feature_corpus.QUIET)


def test_each_row_is_compared_with_the_row_that_the_paper_compares_it_with(planted):
    corpus, work, made_tables = planted
    table = pandas.concat(made_tables).set_index("features")
    for features, against in (("vit", "vit (baseline)"), ("resnet18", "vit (baseline)"), ("resnet18+aus", "aus"),
                              ("wav2vec2", "wav2vec2 (baseline)"), ("aus & wav2vec2", "vit & wav2vec2 (baseline)"),
                              ("aus & mfcc", "mfcc")):
        row = table.loc[features]
        assert row["against"] == against
        assert row["difference"] == pytest.approx(row["mean"] - table.loc[against, "mean"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert table.loc["resnet18", "difference_low"] > 0, "a planted signal beats noise"
    # Seed against the seed of the same number, on the same participants.
    valid = corpus.partition("valid")
    made_runs = {name: [Run.open(train(corpus, work, name, seed, QUICK,
                                       resources=feature_corpus.QUIET)) for seed in (0, 1)]
                 for name in ("aus", "resnet18+aus")}
    told = {name: [run.predictions("valid", valid["clip"])[0] for run in each] for name, each in made_runs.items()}
    gain = paired_difference(valid[list(feature_corpus.TARGETS)].to_numpy(), told["resnet18+aus"], told["aus"],
                             list(valid["participant"]))
    found = table.loc["resnet18+aus", ["difference_low", "difference_high"]].astype(float)
    assert list(found) == pytest.approx([gain.low, gain.high], abs=1e-9)
    assert table.loc[["vit (baseline)", "mfcc"], ["difference", "against"]].isna().all(axis=None)
    assert [len(text.split()) for text in table["by_seed"]] == [2] * len(table)
    means = [np.mean([float(value) for value in text.split()]) for text in table["by_seed"]]
    np.testing.assert_allclose(means, table["mean"], atol=1e-4)
    averaged, truth = np.mean(told["resnet18+aus"], axis=0), valid[list(feature_corpus.TARGETS)].to_numpy()
    scores = [np.corrcoef(*each)[0, 1] for each in zip(truth.T, averaged.T, strict=True)]
    assert table.loc["resnet18+aus", "ensemble"] == pytest.approx(np.mean(scores), abs=1e-9)
    assert (table["ensemble"] != table["mean"]).all(), "predictions are averaged, not scores"


@pytest.mark.parametrize("row", [TABLE2[4], TABLE3[4]], ids=lambda row: row.features)
def test_the_honest_estimate_is_the_mean_of_two_halves_never_pooled(planted, row):
    """Written out: each half fused, correlated by itself, and the two correlations averaged."""
    corpus, work, made_tables = planted
    valid = corpus.partition("valid").set_index("clip")
    scores = []
    for seed in range(2):
        parts = []
        for branch in row.branches:
            (folder,) = (work / "runs").glob(f"{branch}-seed{seed}-*")
            unseen = pandas.read_csv(folder / "halves.csv", dtype={"clip": str}).set_index("clip")
            present = pandas.read_csv(folder / "predictions.csv", dtype={"clip": str}).set_index("clip")
            parts.append(unseen.join(present["modality_present"]))
        half = parts[0]["half"]
        assert all((part["half"] == half).all() for part in parts)
        by_half = [set(valid["participant"][half == number]) for number in (0, 1)]
        assert not by_half[0] & by_half[1] and all(by_half)
        fused = pandas.DataFrame(index=valid.index, columns=list(feature_corpus.TARGETS), dtype=float)
        for clip in valid.index:
            able = [part for part in parts if part.loc[clip, "modality_present"] == 1] or parts
            fused.loc[clip] = np.mean([part.loc[clip, list(feature_corpus.TARGETS)].to_numpy(float) for part in able],
                                      axis=0)
        for number in (0, 1):
            rows = half[half == number].index
            scores += [np.corrcoef(valid.loc[rows, name], fused.loc[rows, name])[0, 1]
                       for name in feature_corpus.TARGETS]
    table = pandas.concat(made_tables).set_index("features")
    assert table.loc[row.features, "cross_fitted"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_tables_are_pages_and_pictures_too_without_the_papers_value_on_any_corpus_but_its_own(planted):
    corpus, work, _ = planted
    for name in ("table2", "table3"):
        page = (work / "tables" / f"{name}.html").read_text()
        assert "made numbers" in page and "<svg" in page and "0.1479" not in page and "0.3288" not in page
        assert (work / "tables" / f"{name}.svg").stat().st_size > 1000
    real = Corpus("hume-vidmimic2", corpus.root, corpus.clips, corpus.targets)
    assert paper_tables.beside_paper(real) and not paper_tables.beside_paper(corpus)
    assert not paper_tables.beside_paper(replace(real, note="drawn"))


def test_the_averages_rivals_are_beside_the_tables_scored_where_they_were_not_fitted(planted):
    corpus, work, (_, table3) = planted
    table = pandas.read_csv(work / "tables" / "fusion.csv")
    assert list(dict.fromkeys(table["features"])) == list(table3["features"])
    assert list(table["fusion"][:3]) == list(FUSION_ALTERNATIVES) and len(table) == 3 * len(table3)
    valid = corpus.partition("valid")
    truth, half = valid[list(feature_corpus.TARGETS)].to_numpy(), halves(list(valid["participant"]))
    found = table[(table["features"] == "aus & mfcc") & (table["fusion"] == "per-emotion least squares")].iloc[0]
    means = {"mean": [], "average": []}
    for seed in (0, 1):
        branches = [Run.open(train(corpus, work, name, seed, QUICK,
                                   resources=feature_corpus.QUIET)) for name in ("aus", "mfcc")]
        told, present = zip(*(run.predictions("valid", valid["clip"]) for run in branches), strict=True)
        weighted = cross_fitted_fusion("per-emotion least squares", *told, truth=truth, half=half, present=present)
        for name, fused in (("mean", weighted), ("average", late_fusion(*told, present=present))):
            means[name] += [np.corrcoef(truth[half == number, i], fused[half == number, i])[0, 1]
                            for number in (0, 1) for i in range(2)]
    for name, values in means.items():
        assert found[name] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["difference"] == pytest.approx(found["mean"] - found["average"])
    assert (table["difference_low"] <= table["difference"]).all() and (table["seeds"] == 2).all()


def test_a_variants_tables_lie_apart(planted):
    corpus, work, _ = planted
    before = (work / "tables" / "table2.csv").read_bytes()
    tables(corpus, work, seeds=1, rows=["mfcc"], recipe=replace(QUICK, epochs=1),
           variant="last-step", resources=feature_corpus.QUIET)
    assert (work / "tables" / "table2.csv").read_bytes() == before
    folder = paper_tables.tables_folder(work, "last-step")
    assert folder == work / "tables" / "last-step" and len(pandas.read_csv(folder / "table2.csv")) == 1


def test_curves_as_tensorboards_files(planted, monkeypatch):
    corpus, work, _ = planted
    folder = train(corpus, work, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    written = {}

    class Writer:
        def __init__(self, log_dir):
            Path(log_dir).mkdir()
            (Path(log_dir) / "events").touch()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            written["closed"] = True

        def add_scalar(self, curve, value, step):
            written.setdefault(curve, {})[step] = value

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    for _ in range(2):
        assert runs.write_tensorboard(folder) == folder / "tensorboard" and written["closed"]
        assert [path.name for path in (folder / "tensorboard").iterdir()] == ["events"]
    assert not list(folder.glob(".tensorboard*"))
    log = pandas.read_csv(folder / "log.csv").set_index("epoch")
    assert written["loss"] == log["loss"].to_dict() and written["learning_rate"] == log["learning_rate"].to_dict()
    assert written["mean_pearson"] == log["mean_pearson"].to_dict() and written["pearson/Joy"]
    shutil.rmtree(folder / "tensorboard")


def test_tensorboards_files_as_tensorboard_reads_them(planted):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    corpus, work, _ = planted
    folder = train(corpus, work, "mfcc", 0, QUICK, resources=feature_corpus.QUIET)
    runs.write_tensorboard(folder)
    events = reader.EventAccumulator(str(runs.write_tensorboard(folder)))  # the second time in the first one's place
    events.Reload()
    log = pandas.read_csv(folder / "log.csv").set_index("epoch").drop(columns="seconds")
    log.columns = log.columns.str.replace(" ", "/")
    assert set(events.Tags()["scalars"]) == set(log.columns)
    for curve in log.columns:
        read = {event.step: event.value for event in events.Scalars(curve)}
        assert list(read) == list(log.index)
        np.testing.assert_allclose(list(read.values()), log[curve], rtol=1e-6)  # they are float32
    shutil.rmtree(folder / "tensorboard")


def test_tensorboard_that_is_not_there_is_one_line_before_any_training(planted, monkeypatch, capsys):
    corpus, work, _ = planted
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    before = files(work)
    code = main(["train", str(corpus.root), "--work", str(work), "--features", "mfcc", "--tensorboard"])
    said = capsys.readouterr()
    assert code == 1 and said.out == "" and said.err.count("\n") == 1
    assert "package tensorboard; install it with pip install" in said.err and ".[tensorboard]" in said.err
    assert files(work) == before


def test_the_data_sets_own_features_stand_for_the_papers_rows_of_that_name():
    names = ["official_vit (baseline)", "official_vit", "resnet18+aus", "aus", "official_wav2vec2"]
    table2, table3 = chosen_rows(names)
    assert [row.paper for row in table2] == [0.09, 0.10, 0.1479, 0.1352, 0.2808]
    assert [row.against for row in table2] == [None, "official_vit (baseline)", "aus", "official_vit (baseline)",
                                               "official_wav2vec2 (baseline)"]
    by_name = {row.features: row for row in table3}
    assert by_name["resnet18+aus & official_wav2vec2"].paper == 0.3288
    assert by_name["official_vit & official_wav2vec2"].against == "official_vit & official_wav2vec2 (baseline)"
    assert by_name["official_vit (baseline) & official_wav2vec2"].paper is None
    assert chosen_rows(["resnet18"])[0][0].against == "vit (baseline)"


def test_where_the_official_features_are_there_they_stand_in_the_papers_rows_and_ours_beside_them(tmp_path):
    corpus = feature_corpus.corpus(tmp_path)
    (tmp_path / "vit").mkdir()
    assert not has_official(corpus), "one of two is not enough"
    (tmp_path / "wav2vec2").mkdir()
    assert has_official(corpus)
    for rows, papers, extra in zip(chosen_rows(official=True), (TABLE2, TABLE3),
                                   (EXTRA_TABLE2, EXTRA_TABLE3), strict=True):
        names = [row.features for row in rows]
        assert len(set(names)) == len(names) and {row.features for row in extra} < set(names)
        assert [row.paper for row in rows if row.paper is not None] == [row.paper for row in papers]
        assert not any(re.search(r"\b(vit|wav2vec2)\b", row.features) for row in rows if row.paper is not None)
        ours = {row.features for row in papers if "vit" in row.features or "wav2vec2" in row.features}
        assert {name for name in ours if "baseline" not in name} < set(names)
        assert all(row.against is None or row.against in {*names, "mfcc"} for row in rows)


def test_tables_take_the_official_features_where_they_are_there(planted, tmp_path, monkeypatch):
    """Which rows are made; the files themselves are read by ``test_official``."""
    corpus, work, _ = planted
    asked = []

    def stop(experiment, branches, *_):
        asked.extend(branches)
        raise InputError("far enough")

    monkeypatch.setattr(paper_tables, "trained_runs", stop)
    for folder in ("vit", "wav2vec2"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match="far enough"):
        tables(replace(corpus, root=tmp_path), work, seeds=1)
    assert {"official_vit", "official_vit (baseline)", "official_wav2vec2 (baseline)", "vit", "wav2vec2"} < set(asked)
    assert "vit (baseline)" not in asked
