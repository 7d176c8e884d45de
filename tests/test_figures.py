"""Figures: legible text, controls that look like controls, the paper's value only where it is asked for."""

import base64
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba

from emibook import figures
from emibook.puppet.renderer import UNIT_NAMES

ROWS = pd.DataFrame({
    "features": ["aus", "vit & wav2vec2"], "mean": [0.5, 0.1], "low": [0.4, -0.1], "high": [0.6, 0.3],
    "weights": ["pretrained", "untrained control & untrained control"], "paper": [0.77, 0.66],
})  # fmt: skip


@pytest.fixture(autouse=True)
def styled():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


def drawn_x(axis) -> list[float]:
    return [float(x) for line in axis.lines for x in np.atleast_1d(line.get_xdata())]


def test_no_text_is_small_and_the_papers_values_are_optional():
    figures.show_rows(ROWS)
    figure = plt.gcf()
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 8
    assert figure.get_figwidth() <= 5
    assert 0.77 not in drawn_x(figure.axes[0])
    figures.show_rows(ROWS, paper=True)
    assert 0.77 in drawn_x(plt.gca())


@pytest.mark.parametrize("weights", ["builtin", "builtin+pretrained", "pretrained & small untrained control"])
def test_the_papers_value_is_not_shown_beside_builtin_or_random_weights(weights, tmp_path):
    table = ROWS.assign(weights=["pretrained & file:0123", weights], corpus="hume-vidmimic2", note="")
    figures.show_rows(table, paper=True)
    assert 0.77 in drawn_x(plt.gca()) and 0.66 not in drawn_x(plt.gca())
    figures.write_rows(table, tmp_path, "table2", paper=True)
    page = (tmp_path / "table2.html").read_text()
    assert "0.7700" in page and "0.6600" not in page
    figures.write_rows(table[1:], tmp_path, "none", paper=True)
    assert "<th>paper</th>" in page and "<th>paper</th>" not in (tmp_path / "none.html").read_text()


def test_an_untrained_control_is_hollow():
    figures.show_rows(ROWS)
    dots = [line for line in plt.gca().lines if line.get_marker() == "o"]
    assert [to_rgba(dot.get_markerfacecolor()) == to_rgba("white") for dot in dots] == [False, True]


def test_faces_keep_their_order_and_unused_axes_stay_empty():
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


def test_strips_keep_their_order_and_their_titles():
    tones = np.arange(6, dtype=np.uint8).reshape(2, 3)
    strips = [[np.full((4, 5, 3), 20 * tone, np.uint8) for tone in row] for row in tones]
    figures.show_strips(strips, ["one", "two"])
    axes = plt.gcf().axes
    assert [axis.get_title(loc="left") for axis in axes] == ["one", "two"]
    for axis, row in zip(axes, tones, strict=True):
        drawn = np.asarray(axis.images[0].get_array())
        assert drawn.shape == (4, 3 * 5 + 2 * 3, 3)  # white between two pictures, and nothing of a picture is lost
        assert [int(drawn[0, start, 0]) for start in (0, 8, 16)] == [20 * tone for tone in row]


@pytest.mark.parametrize("hertz", [90, 150, 310])
def test_pitch_is_measured_where_there_is_a_voice_and_nowhere_else(hertz):
    rate = 16_000
    time = np.arange(rate) / rate
    tone = sum(np.sin(2 * np.pi * hertz * harmonic * time) / harmonic for harmonic in range(1, 9))
    hiss = 0.02 * np.random.default_rng(0).standard_normal(rate)
    sound = 0.1 * np.concatenate([tone, np.zeros(rate)]) + np.concatenate([np.zeros(rate), hiss])
    pitch = figures.show_voice(sound, rate, plt.subplots()[1])
    voiced, silent = pitch[10:90], pitch[110:-1]
    assert np.nanmedian(voiced) == pytest.approx(hertz, rel=0.01) and np.isfinite(voiced).mean() > 0.95
    assert np.isnan(silent).all()


def test_a_clip_that_plays_is_the_whole_file_and_its_words_are_text(tmp_path):
    content = bytes(range(256))
    (tmp_path / "clip.mp4").write_bytes(content)
    shown = figures.play(tmp_path / "clip.mp4", alt='a "drawn" <person>', caption="a & b").data
    assert base64.b64decode(re.search(r"base64,([^\"]+)", shown).group(1)) == content
    assert 'aria-label="a &quot;drawn&quot; &lt;person&gt;"' in shown and "a &amp; b" in shown
    assert "controls" in shown and "autoplay" not in shown


def test_every_unit_has_words():
    assert tuple(figures.UNIT_WORDS) == UNIT_NAMES and len(set(figures.UNIT_WORDS.values())) == len(UNIT_NAMES)


def test_seeds_are_dots_of_their_own_and_the_files_hold_the_papers_value_only_where_asked(tmp_path):
    table = ROWS.assign(by_seed=["0.48 0.52", "0.05 0.15"], corpus="made", note="drawn <by hand>")
    figures.show_rows(table)
    dots = drawn_x(plt.gca())
    assert {0.48, 0.52, 0.05, 0.15} <= set(dots)
    figures.write_rows(table, tmp_path, "table2")
    page, picture = ((tmp_path / f"table2.{ending}").read_text() for ending in ("html", "svg"))
    assert "0.7700" not in page and "<svg" in page and picture.startswith("<svg")
    assert "drawn &lt;by hand&gt;" in page and "0.5000" in page and "<script" not in page
    assert not re.search(r"(src|href)=\"http", page)
    figures.write_rows(table, tmp_path, "table2", paper=True)
    assert "0.7700" in (tmp_path / "table2.html").read_text()
    assert not list(tmp_path.glob(".*"))
