"""A run's folder that somebody edited, or a disk lost a part of: one line says what is wrong with which file."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import feature_corpus
import numpy as np
import pytest

from emibook import InputError
from emibook.experiments import training_run
from emibook.experiments.runs import Run
from emibook.experiments.training_run import Experiment, is_finished, make_run
from emibook.predict import predict, submit
from emibook.sequences.load import load
from emibook.sequences.packed import read, write
from emibook.training.loop import Recipe

QUICK = Recipe("quick", learning_rate=3e-3, batch=10, epochs=2, threads=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus, its work folder and a run on it."""
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root")
    feature_corpus.write(corpus, work, "mfcc", signal=3.0)
    return corpus, work, make_run(Experiment.of(corpus, work, QUICK), "mfcc", 0, feature_corpus.QUIET)


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return shutil.copytree(trained[2], tmp_path / "run")


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", "[1]", "config.json is damaged: it holds no object"),
        ("config.json", '{"format": 3}', "config.json is damaged: it lacks features, modality, recipe, seed, corpus"),
        ("config.json", "{}", "another version of emibook"),
        ("config.json", "{", "holds no finished run"),
        ("metrics.json", "{}", "metrics.json is damaged: it lacks weights"),
        ("metrics.json", "3", "metrics.json is damaged: it holds no object"),
    ],
)
def test_what_is_known_of_a_run(trained, copy, tmp_path, name, text, said):
    (copy / name).write_text(text)
    (tmp_path / "clip.mp4").touch()
    for asked in (lambda: Run.open(copy), lambda: submit(trained[0], [copy], tmp_path / "out.csv"),
                  lambda: predict([tmp_path / "clip.mp4"], [copy])):
        found = refusal(asked)
        assert said in found and str(copy) in found
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["predictions.csv", "predictions_test.csv", "halves.csv"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: [*lines, lines[-1]], "has clip {last} twice"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",abc"],
         "clip {last}: {column} is abc, not a number"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",nan"],
         "clip {last}: {column} is nan, not a number"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ","], "clip {last}: {column} is , not a number"),
        (lambda lines: lines[:-1], "clips (first {last})"),
        (lambda lines: [line.rsplit(",", 1)[0] for line in lines], "cannot be read (KeyError)"),
        (lambda lines: [], "cannot be read (EmptyDataError)"),
    ],
    ids=["doubled row", "text", "nan", "nothing", "lost row", "lost column", "empty file"],
)
def test_what_a_run_predicted(trained, copy, name, spoil, said):
    lines = (copy / name).read_text().splitlines()
    (copy / name).write_text("\n".join(spoil(lines)) + "\n" if spoil(lines) else "")
    clips = [line.split(",")[0] for line in lines[1:]]
    run = Run.open(copy)
    asked = {"predictions.csv": lambda: run.predictions("valid", clips), "halves.csv": lambda: run.unseen(clips),
             "predictions_test.csv": lambda: run.predictions("test", clips)}[name]
    found = refusal(asked)
    assert said.format(last=clips[-1], column=lines[0].rsplit(",", 1)[1]) in found and str(copy / name) in found


@pytest.mark.parametrize("partition", ["train", "valid", "test"])
def test_a_packed_number_that_is_none_is_named_before_there_is_a_folder(trained, tmp_path, partition):
    corpus, work, _ = trained
    shutil.copytree(work / "features", tmp_path / "features")
    load(corpus, tmp_path, "mfcc", partition)
    (packed,) = (tmp_path / "packed" / "mfcc").glob(f"{partition}-*")
    values, offsets, about = read(packed)
    tables = [values[first:last].copy() for first, last in zip(offsets[:-1], offsets[1:], strict=True)]
    tables[2][1] = np.nan  # a gap
    tables[2][2, 3] = -np.inf
    write(packed, tables, len(tables), about)
    clip = corpus.partition(partition)["clip"].iloc[2]
    said = f"features mfcc, clip {clip}, step 2: mfcc_3 is -inf, not a finite number; make the set again"
    assert refusal(make_run, Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0) == said
    assert not [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]


def test_predictions_that_are_no_numbers_are_not_written(trained, tmp_path, monkeypatch):
    corpus, work, _ = trained
    shutil.copytree(work / "features", tmp_path / "features")
    monkeypatch.setattr(training_run, "predict", lambda model, part, device: np.full(part.targets.shape, np.inf))
    assert "features mfcc: a prediction of a valid clip is not a finite number" in refusal(
        make_run, Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0)
    assert not list(tmp_path.glob("runs/*/predictions*.csv"))


@pytest.mark.parametrize("text", ["{", ""])
def test_a_training_that_goes_on_from_damaged_notes(trained, tmp_path, text):
    corpus, work, folder = trained
    shutil.copytree(work / "features", tmp_path / "features")
    stopped = shutil.copytree(folder, tmp_path / "runs" / folder.name)
    (stopped / "metrics.json").unlink()
    assert not is_finished(stopped)
    (stopped / "training.json").write_text(text)
    weights = (stopped / "weights.safetensors").read_bytes()
    found = refusal(make_run, Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0)
    assert "training.json" in found and str(stopped) in found
    assert (stopped / "weights.safetensors").read_bytes() == weights and (stopped / "training.json").read_text() == text


@pytest.mark.parametrize("how", ["cut", "text", "lacks"])
def test_a_training_that_goes_on_from_a_damaged_state(trained, tmp_path, monkeypatch, how):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from emibook.training import loop

    corpus, work, _ = trained
    shutil.copytree(work / "features", tmp_path / "features")
    monkeypatch.setattr(loop, "finish_training", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_run(Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0, feature_corpus.QUIET)
    (state,) = (tmp_path / "runs").glob("*/state-all.safetensors")
    if how == "cut":
        state.write_bytes(state.read_bytes()[:100])
    elif how == "text":
        state.write_text("no tensors")
    else:
        with safe_open(state, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("model/")}
            save_file(tensors, state, metadata=file.metadata())
    monkeypatch.undo()
    assert f"{state} is damaged; delete {state.parent} and train again" in refusal(
        make_run, Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0)
    shutil.rmtree(state.parent)
    assert json.loads((make_run(Experiment.of(corpus, tmp_path, QUICK), "mfcc", 0,
                                feature_corpus.QUIET) / "metrics.json").read_text())


def test_two_commands_at_once_make_a_run_once_and_both_have_it(trained, tmp_path, capsys):
    corpus, work, folder = trained
    shutil.copytree(work / "features", tmp_path / "features")
    quick = replace(QUICK, epochs=12)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(make_run, Experiment.of(corpus, tmp_path, quick), "mfcc", 0) for _ in range(2)]
        first, second = (each.result() for each in asked)
    assert first == second and is_finished(first) and not list(first.glob("state-*"))
    assert f"{first} is being written by another command; waiting for it" in capsys.readouterr().err
    assert len((tmp_path / "runs" / "ledger.csv").read_text().splitlines()) == 2, "a header and one training"
