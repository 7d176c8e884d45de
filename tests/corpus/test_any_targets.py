"""Nothing knows how many targets there are, what they are called, or where they lie: the whole way with 2, 4 and 11."""

from __future__ import annotations

from dataclasses import replace

import made
import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import torch

from emibook import InputError, figures
from emibook import predict as prediction
from emibook.cli import main
from emibook.corpus import check, open_corpus
from emibook.experiments import batch
from emibook.experiments.paper_tables import tables
from emibook.experiments.runs import Run
from emibook.experiments.training_run import Experiment, make_run
from emibook.features import EXTRACTORS, store
from emibook.predict import predict, submit
from emibook.studies.human.label_ceiling import from_fractions
from emibook.studies.human.people import rows
from emibook.training.loop import Recipe

QUICK = Recipe("quick", learning_rate=3e-3, batch=8, epochs=2, threads=1)
FEATURES = ("vit", "resnet18", "aus", "wav2vec2", "mfcc")
NAMES = ("Calm", "Very tense", "a, b", "valence -1 to 1", "1", "ß", "mean", "V", "x:y", "Joy 2", "seeds")
PARTITIONS = ["train"] * 18 + ["valid"] * 9 + ["test"] * 4


def write_folder(root, count: int) -> None:
    """A folder of files that are no videos, with a CSV of ``count`` targets, the fourth in -1..1 and others in 0..1."""
    root.mkdir()
    rng = np.random.default_rng(count)
    rows = []
    for number, partition in enumerate(PARTITIONS):
        (root / f"clip {number:02}.mp4").write_bytes(b"video")
        values = rng.integers(0, 6, count) / 5
        if count > 3:
            values[3] = 2 * values[3] - 1
        labels = values if partition != "test" else [""] * count
        rows.append([f"clip {number:02}", partition, f"p{number // 2}", *labels])
    pandas.DataFrame(rows, columns=["clip", "partition", "participant", *NAMES[:count]]).to_csv(root / "about.csv",
                                                                                               index=False)


@pytest.fixture(scope="module", params=[2, 4, 11])
def world(request, tmp_path_factory):
    """A corpus from its folder, WORK with planted features, and one run of the face and one of the sound."""
    place = tmp_path_factory.mktemp("targets")
    write_folder(place / "root", request.param)
    corpus = open_corpus(place / "root")
    for name in FEATURES if request.param == 4 else ("aus", "mfcc"):
        made.write(corpus, place / "work", name, signal=3.0, empty=("clip 19",) if name == "mfcc" else ())
    runs = [make_run(Experiment.of(corpus, place / "work", QUICK), name, 0, made.QUIET) for name in ("aus", "mfcc")]
    return corpus, place / "work", runs


def test_the_folder_is_read_with_all_its_targets(world):
    corpus, _, _ = world
    assert corpus.targets == NAMES[: len(corpus.targets)]
    report = check(corpus.root)
    assert report.problems == [] and report.counts["targets"] == len(corpus.targets)
    assert corpus.ranges()["Calm"] == (0.0, 1.0)
    if len(corpus.targets) > 3:
        assert corpus.ranges()["valence -1 to 1"] == (-1.0, 1.0)


def test_runs_predict_every_target_and_a_submission_reads_back(world, tmp_path):
    corpus, _, runs = world
    valid = corpus.partition("valid")
    predicted, present = Run.open(runs[1]).predictions("valid", valid["clip"])
    assert predicted.shape == (9, len(corpus.targets)) and present.sum() == 8
    assert list(Run.open(runs[0]).metrics["pearson"]) == list(corpus.targets)
    out = submit(corpus, runs, tmp_path / "out.csv")
    table = pandas.read_csv(out, dtype={"Filename": str})
    assert list(table.columns) == ["Filename", *corpus.targets]
    assert list(table["Filename"]) == sorted(corpus.partition("test")["clip"])
    for target, (low, high) in corpus.ranges().items():
        assert table[target].between(low, high).all()
    each = [Run.open(run).predictions("test", table["Filename"])[0] for run in runs]
    low, high = np.array(list(corpus.ranges().values())).T
    np.testing.assert_allclose(table[list(corpus.targets)], np.mean(each, axis=0).clip(low, high), atol=2e-5)


class _Moved(torch.nn.Module):
    """A model whose every answer is ``by`` higher, so that it leaves every range."""

    def __init__(self, network: torch.nn.Module, by: float) -> None:
        super().__init__()
        self.network, self.by = network, by

    def forward(self, values, mask):
        return self.network(values, mask) + self.by


def test_new_clips_are_predicted_in_the_range_of_their_targets(world, tmp_path, monkeypatch):
    corpus, work, runs = world

    def planted(name):
        return lambda *_: store.load(store.clip_path(store.feature_folder(work, name), "clip 20"))

    monkeypatch.setattr(prediction, "preprocess_clip", lambda clip, *_: {"clip": clip, "status": "ok", "error": ""})
    monkeypatch.setattr(prediction, "read_faces", lambda *_: (np.zeros((2, 112, 112, 3), np.uint8), np.arange(2.0),
                                                              np.zeros((2, 5, 2))))
    monkeypatch.setattr(prediction, "read_audio", lambda *_: np.ones(1600, np.int16))
    monkeypatch.setattr(prediction, "load_encoder", lambda name, _: planted(name))
    whole = Run.model
    for shift in (0.0, 5.0, -5.0):
        monkeypatch.setattr(Run, "model", lambda self, by=shift: _Moved(whole(self), by))
        table = predict([corpus.root / "clip 20.mp4"], runs, progress=False, pictures=tmp_path)
        assert (tmp_path / "clip 20.png").is_file() and table["corpus"].iloc[0] == "folder"
        for target, (low, high) in corpus.ranges().items():
            assert low <= table[target].iloc[0] <= high
            if shift:
                assert table[target].iloc[0] == (high if shift > 0 else low)


def test_runs_of_other_targets_are_refused(world, tmp_path):
    corpus, _, runs = world
    write_folder(tmp_path / "root", 3)
    with pytest.raises(InputError, match="was trained on folder"):
        submit(open_corpus(tmp_path / "root"), runs, tmp_path / "out.csv")


def test_both_tables_and_their_figure(world, monkeypatch):
    corpus, work, _ = world
    if len(corpus.targets) != 4:
        pytest.skip("once is enough; the tables ask for five feature sets")
    monkeypatch.setattr(batch, "preprocess", lambda *_, **__: None)
    monkeypatch.setattr(batch, "extract", lambda *_, **__: None)
    made_tables = tables(corpus, work, seeds=1, recipe=QUICK, resources=made.QUIET)
    for table in made_tables:
        columns = [f"pearson {target}" for target in corpus.targets]
        assert [name for name in table.columns if name.startswith("pearson ")] == columns
        scored = table[columns].dropna()
        assert len(scored) and not set(table["features"]) & {"people who saw", "people who heard"}
        np.testing.assert_allclose(scored.mean(axis=1), table.loc[scored.index, "mean"])
        figures.show_rows(table)
        plt.close()
    labels = corpus.clips[list(corpus.targets)].fillna(0).to_numpy()
    rng = np.random.default_rng(0)
    people = {"V": labels + rng.normal(0, 0.1, labels.shape), "A": labels + rng.normal(0, 0.1, labels.shape)}
    asked = replace(corpus, people=people)
    with_people = tables(asked, work, seeds=1, recipe=QUICK, reference_rows=rows(asked), resources=made.QUIET)
    for before, table, count in zip(made_tables, with_people, (2, 1), strict=True):
        assert len(table) == len(before) + count and (table["weights"].iloc[-count:] == "people").all()
        assert list(table["features"].iloc[:-count]) == list(before["features"])
        assert table["mean"].iloc[-1] > 0.9
        figures.show_rows(table)
        plt.close()
    truth = labels[(corpus.clips["partition"] == "valid").to_numpy()]
    average = (people["V"] + people["A"])[(corpus.clips["partition"] == "valid").to_numpy()] / 2
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(truth.T, average.T, strict=True)])
    assert with_people[1]["mean"].iloc[-1] == pytest.approx(expected)


def test_the_ceiling_of_targets_that_are_fractions(world, capsys):
    corpus, _, _ = world
    if len(corpus.targets) < 4:
        found = from_fractions(corpus)
        assert list(found.table.index) == [*corpus.targets, "mean"] and found.raters[0] <= 5
        assert main(["ceiling", str(corpus.root)]) == 0
        assert "Calm" in capsys.readouterr().out
        return
    assert main(["ceiling", str(corpus.root)]) == 1
    assert "no fractions" in capsys.readouterr().err


def test_every_feature_set_that_is_used_here_exists():
    assert set(FEATURES) <= set(EXTRACTORS)
