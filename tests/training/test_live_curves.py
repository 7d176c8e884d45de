"""Live curves: what a notebook shows while it trains is what ``log.csv`` holds."""

from __future__ import annotations

import re

import feature_corpus
import IPython.display
import numpy as np
import pandas
import pytest

from emibook.evaluation import halves
from emibook.experiments import paper_tables
from emibook.experiments.runs import LOG
from emibook.sequences.load import load
from emibook.training import checkpoint, live_curves
from emibook.training.live_curves import LiveCurves, draw
from emibook.training.loop import Recipe, train

QUICK = Recipe("quick", learning_rate=0.02, batch=8, epochs=8, patience=2, threads=1)


class Notebook:
    """Stands for the notebook's page: what is in each place, and how often it was put there."""

    def __init__(self) -> None:
        self.places: list[list[str]] = []

    def display(self, shown, display_id: bool):
        assert display_id
        self.places.append([shown.data])
        place, notebook = len(self.places) - 1, self

        class Handle:
            def update(self, shown):
                notebook.places[place].append(shown.data)

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
    return int(re.search(r"rate of (\d+) epochs", shown).group(1))


def trained(pair, folder, **options):
    train(*pair[:2], QUICK, 0, folder, model={"kind": "regressor", "transformer_layers": 0, "channels": 16},
          halves=halves(pair[1].participants), device="cpu", progress=False)


def test_every_epoch_is_drawn_in_one_place_while_the_training_goes_on(pair, tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(live_curves, "SECONDS", 0.0)
    seen_by_then = []
    finish = checkpoint.Line.finish_epoch

    def finished(line, *arguments):
        finish(line, *arguments)
        seen_by_then.append(len(notebook.places[0]) if line.name == checkpoint.ALL else None)

    monkeypatch.setattr(checkpoint.Line, "finish_epoch", finished)
    with LiveCurves("aus, seed <0>"):
        trained(pair, tmp_path)
    assert len(notebook.places) == 1 and [epochs(shown) for shown in notebook.places[0]] == list(range(1, 9))
    assert seen_by_then[:8] == list(range(1, 9)), "drawn after the training, not while it goes on"
    assert "aus, seed &lt;0&gt;" in notebook.places[0][0] and "<svg" in notebook.places[0][-1]
    trained(pair, tmp_path / "again")
    assert len(notebook.places[0]) == 8, "the block has ended"


def test_quick_epochs_share_a_drawing_and_the_last_is_always_there(pair, tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(live_curves, "SECONDS", 1000.0)
    with LiveCurves("aus, seed 0"):
        trained(pair, tmp_path)
    drawn = [epochs(shown) for shown in notebook.places[0]]
    assert drawn[-1] == 8 and len(drawn) <= 2


def test_the_curves_are_the_log(pair, tmp_path):
    trained(pair, tmp_path)
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
        monkeypatch.setattr(paper_tables, name, lambda *_, **__: None)
    paper_tables.tables(corpus, work, seeds=2, rows=["aus"], recipe=Recipe(f"r{wanted}", 0.02, 8, 2, threads=1),
                       workers=1, device="cpu", progress=wanted)
    assert len(notebook.places) == (2 if wanted else 0), "a place a training"
    paper_tables.train(corpus, work, "aus", 0, Recipe(f"r{wanted}", 0.02, 8, 2, threads=1), device="cpu",
                      progress=wanted)
    assert len(notebook.places) == (2 if wanted else 0), "a finished run has nothing to draw"


def test_outside_a_notebook_nothing_is_drawn(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: pytest.fail("drawn"))
    assert not live_curves.in_notebook()
    with LiveCurves("aus, seed 0"):
        trained(pair, tmp_path)
