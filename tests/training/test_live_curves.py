"""Live curves: what a notebook shows while it trains is what ``log.csv`` holds."""

from __future__ import annotations

import re

import feature_corpus
import IPython.display
import numpy as np
import pandas
import pytest

from emibook.compute import Resources
from emibook.evaluation import halves
from emibook.experiments import batch, paper_tables
from emibook.experiments.runs import LOG
from emibook.sequences.load import load
from emibook.training import Partitions, Recipe, TrainingConfig, live_curves, train
from emibook.training.live_curves import LiveCurves, draw

QUICK = Recipe("quick", learning_rate=0.02, batch=8, epochs=8, patience=2, threads=1)


class Notebook:
    """A notebook's page: its displays, and what each has shown one after the other."""

    def __init__(self) -> None:
        self.displays: list[list[str]] = []

    def display(self, output, display_id: bool):
        assert display_id
        shown = [output.data]
        self.displays.append(shown)

        class Handle:
            def update(self, output):
                shown.append(output.data)

        return Handle()


@pytest.fixture
def notebook(monkeypatch) -> Notebook:
    page = Notebook()
    monkeypatch.setattr(live_curves, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", page.display)
    return page


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root", valid=24)
    feature_corpus.write(corpus, work, "aus", signal=1.0)
    return load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid"), corpus, work


def epochs(shown: str) -> int:
    return int(re.search(r"learning rate of (\d+) epochs", shown).group(1))


def run(pair, folder):
    config = TrainingConfig(QUICK, 0, {"kind": "regressor", "transformer_layers": 0, "channels": 16})
    train(Partitions(*pair[:2], halves(pair[1].participants)), config, folder, device="cpu", progress=False)


def test_every_epoch_is_drawn_in_one_display_during_the_training(pair, tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(live_curves, "SECONDS", 0.0)
    drawings = []
    update = LiveCurves.update

    def updated(curves, rows):
        update(curves, rows)
        drawings.append(len(notebook.displays[0]))

    monkeypatch.setattr(LiveCurves, "update", updated)
    with LiveCurves("aus, seed <0>"):
        run(pair, tmp_path)
    (shown,) = notebook.displays
    assert [epochs(each) for each in shown] == list(range(1, 9))
    assert drawings == list(range(1, 9)), "drawn after the training, not during it"
    assert "aus, seed &lt;0&gt;" in shown[0] and "<svg" in shown[-1]
    run(pair, tmp_path / "again")
    assert len(shown) == 8, "the block has ended"


def test_quick_epochs_share_a_drawing_and_the_last_one_is_always_drawn(pair, tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(live_curves, "SECONDS", 1000.0)
    with LiveCurves("aus, seed 0"):
        run(pair, tmp_path)
    drawn = [epochs(shown) for shown in notebook.displays[0]]
    assert drawn[-1] == 8 and len(drawn) <= 2


def test_the_curves_are_the_log(pair, tmp_path):
    run(pair, tmp_path)
    log = pandas.read_csv(tmp_path / LOG)
    for axis, column in zip(draw(log, "title").axes, ("loss", "mean_pearson", "learning_rate"), strict=True):
        np.testing.assert_array_equal(axis.lines[0].get_xdata(), log["epoch"])
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), log[column])
    (diamond,) = draw(log, "title").axes[1].lines[1:]
    assert diamond.get_xydata().tolist() == [[log["epoch"][log["mean_pearson"].idxmax()], log["mean_pearson"].max()]]
    nothing = log.assign(mean_pearson=np.nan)
    assert len(draw(nothing, "title").axes[1].lines) == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_experiments_draw_where_progress_is_wanted(pair, notebook, monkeypatch, wanted):
    _, _, corpus, work = pair
    for name in ("preprocess", "extract"):
        monkeypatch.setattr(batch, name, lambda *_, **__: None)
    recipe = Recipe(f"r{wanted}", learning_rate=0.02, batch=8, epochs=2, threads=1)
    resources = Resources(device="cpu", workers=1, progress=wanted)
    paper_tables.tables(corpus, work, seeds=2, rows=["aus"], recipe=recipe, resources=resources)
    assert len(notebook.displays) == (2 if wanted else 0), "one display per training"
    paper_tables.train(corpus, work, "aus", 0, recipe, resources=resources)
    assert len(notebook.displays) == (2 if wanted else 0), "a finished run has nothing to draw"


def test_outside_a_notebook_nothing_is_drawn(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: pytest.fail("drawn"))
    assert not live_curves.in_notebook()
    with LiveCurves("aus, seed 0"):
        run(pair, tmp_path)
