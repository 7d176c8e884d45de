"""Figures: legible text, controls that look like controls, the paper's value only where it is asked for."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba

from emibook import figures

ROWS = pd.DataFrame({
    "features": ["aus", "vit & wav2vec2"], "mean": [0.5, 0.1], "low": [0.4, -0.1], "high": [0.6, 0.3],
    "weights": ["builtin", "untrained control & untrained control"], "paper": [0.77, np.nan],
})  # fmt: skip


@pytest.fixture(autouse=True)
def styled():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


def drawn_x(axis) -> list[float]:
    return [float(x) for line in axis.lines for x in np.atleast_1d(line.get_xdata())]


def test_no_text_is_small_and_the_paper_stays_out():
    figures.show_rows(ROWS)
    figure = plt.gcf()
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 8
    assert figure.get_figwidth() <= 5
    assert 0.77 not in drawn_x(figure.axes[0])
    figures.show_rows(ROWS, paper=True)
    assert 0.77 in drawn_x(plt.gca())


def test_an_untrained_control_is_hollow():
    figures.show_rows(ROWS)
    dots = [line for line in plt.gca().lines if line.get_marker() == "o"]
    assert [to_rgba(dot.get_markerfacecolor()) == to_rgba("white") for dot in dots] == [False, True]


def test_faces_keep_their_order_and_empty_places_stay_empty():
    images = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 20, 30)])
    figures.show_faces(images, ["a", "b", "c"], columns=2)
    axes = plt.gcf().axes
    assert [int(axis.images[0].get_array().mean()) for axis in axes[:3]] == [10, 20, 30]
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", ""] and not axes[3].images


def test_the_same_figure_is_the_same_bytes(tmp_path):
    for name in ("one.svg", "two.svg"):
        figures.show_rows(ROWS)
        plt.savefig(tmp_path / name, metadata={"Date": None})
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
