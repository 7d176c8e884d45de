"""Figures of the chapters: one style, and the plots that take more than one line of matplotlib.

They are 4.8 inches wide with a white background, so that they are readable at phone width and in a dark theme, in the
colours of Okabe and Ito, which readers with colour vision deficiency can tell apart.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from emibook.files import write_text

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#595959"
WIDTH = 4.8  # inches
SMALLEST_TEXT = 9.5  # points; 8 on a phone that shows the figure from edge to edge
NOT_PUBLISHED = ("builtin", "untrained")
"""Words in the labels of weights of encoders that were fitted on the puppet or are random."""

UNIT_WORDS = {
    "AU01": "inner brows raised", "AU02": "outer brows raised", "AU04": "brows lowered", "AU05": "upper lids raised",
    "AU06": "cheeks raised", "AU07": "lids tightened", "AU09": "nose wrinkled", "AU10": "upper lip raised",
    "AU12": "lip corners pulled up", "AU14": "dimples", "AU15": "lip corners pulled down", "AU17": "chin raised",
    "AU20": "lips stretched", "AU23": "lips tightened", "AU25": "lips parted", "AU26": "jaw dropped", "AU45": "blink",
}  # fmt: skip
"""Each action unit in plain words."""


def use_style() -> None:
    """Use the book's style for all following figures; in a notebook they are SVG, the same bytes each time."""
    plt.rcParams.update({
        "figure.figsize": (WIDTH, 3.2), "figure.constrained_layout.use": True, "figure.facecolor": "white",
        "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "legend.fontsize": SMALLEST_TEXT,
        "xtick.labelsize": SMALLEST_TEXT, "ytick.labelsize": SMALLEST_TEXT,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]), "lines.linewidth": 1.8,
        "svg.hashsalt": "emibook", "image.interpolation": "none",
    })  # fmt: skip
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # not in a notebook
        return
    set_matplotlib_formats("svg", metadata={"Date": None})


def show_faces(images: np.ndarray, captions: Sequence[str] | None = None, columns: int = 6) -> None:
    """Show face crops in reading order, (face, height, width, 3) uint8 RGB, each under its caption."""
    rows = -(-len(images) // columns)
    height = WIDTH / columns * rows * (1.25 if captions else 1.0)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    for index, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if index < len(images):
            axis.imshow(images[index])
            if captions:
                axis.set_title(captions[index], fontsize=SMALLEST_TEXT, pad=3)


def show_strips(strips: Sequence[Sequence[np.ndarray]], titles: Sequence[str] | None = None) -> None:
    """Show rows of images, (height, width, 3) uint8 RGB and all of one size, each row as a strip under its title."""
    gap = np.full((len(strips[0][0]), 3, 3), 255, np.uint8)
    joined = [np.hstack([part for image in strip for part in (image, gap)][:-1]) for strip in strips]
    height = WIDTH * len(joined[0]) / joined[0].shape[1] + (0.24 if titles else 0.04)
    figure, axes = plt.subplots(len(joined), 1, figsize=(WIDTH, height * len(joined)), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0.01)
    for index, (axis, strip) in enumerate(zip(axes[:, 0], joined, strict=True)):
        axis.set_axis_off()
        axis.imshow(strip)
        if titles:
            axis.set_title(titles[index], fontsize=SMALLEST_TEXT, loc="left", pad=3)


def show_voice(sound: np.ndarray, rate: int, axis: Axes) -> np.ndarray:
    """Plot the spectrogram of ``sound`` (sample,) at ``rate`` samples per second up to 4 kHz, with its pitch.

    Returns:
        (frame,) the pitch in Hz, by the YIN method, 100 frames per second; NaN where the sound is unvoiced.
    """
    import librosa

    sound = np.asarray(sound, np.float64)
    step = rate // 100
    pitch = librosa.yin(sound, fmin=60, fmax=500, sr=rate, frame_length=8 * step, hop_length=step)
    loudness = librosa.feature.rms(y=sound, frame_length=8 * step, hop_length=step)[0]
    flatness = librosa.feature.spectral_flatness(y=sound, n_fft=512, hop_length=step)[0]
    count = min(map(len, (pitch, loudness, flatness)))
    unvoiced = (loudness[:count] < 0.3 * loudness.max()) | (flatness[:count] > 0.1)
    pitch = np.where(unvoiced, np.nan, pitch[:count])
    axis.specgram(sound + 1e-6, NFFT=512, Fs=rate, noverlap=512 - step, cmap="magma", vmin=-130, vmax=-30)
    axis.plot(np.arange(count) * step / rate, pitch, color="white", linewidth=3.4)
    axis.plot(np.arange(count) * step / rate, pitch, color=BLUE, linewidth=1.8)
    axis.set(ylim=(0, 4000), ylabel="Hz")
    return pitch


def play(path: Path | str, *, alt: str, caption: str) -> Any:
    """A clip that can be played on the page. The page holds the whole file, so it should be short."""
    from IPython.display import HTML

    data = base64.b64encode(Path(path).read_bytes()).decode()
    alt, caption = html.escape(alt), html.escape(caption)
    return HTML(
        f'<figure class="align-default"><video controls preload="auto" width="400" aria-label="{alt}" '
        f'style="max-width: 100%; height: auto"><source src="data:video/mp4;base64,{data}" type="video/mp4">{alt}'
        f'</video><figcaption><p><span class="caption-text">{caption}</span></p></figcaption></figure>'
    )


def show_detections(
    picture: np.ndarray,
    boxes: np.ndarray,
    landmarks: np.ndarray,
    probabilities: Sequence[float] | None = None,
    axis: Axes | None = None,
) -> None:
    """Show a frame with ``boxes`` (face, 4) and ``landmarks`` (face, 5, 2) in its pixels, and the probabilities."""
    axis = axis or plt.subplots(figsize=(WIDTH, WIDTH * picture.shape[0] / picture.shape[1]))[1]
    axis.imshow(picture)
    axis.set_axis_off()
    for index, (box, points) in enumerate(zip(boxes, landmarks, strict=True)):
        color = (BLUE, ORANGE, GREEN, PURPLE)[index % 4]
        corner, size = box[:2], box[2:] - box[:2]
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=3.5))
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=2))
        axis.plot(points[:, 0], points[:, 1], "o", color=color, markeredgecolor="white", markersize=6)
        if probabilities is not None:
            axis.text(box[0], box[1] - 4, f"{probabilities[index]:.3f}", color="white", va="bottom",
                      bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def show_shares(rows: pandas.DataFrame, names: Sequence[str]) -> Axes:
    """Plot the share of the best predictor's correlation that each training reached, as bars.

    Blue bars are the paper's recipe, green ones others; crosses are ridge regression; the dashed line is at 0.95.

    Args:
        rows: columns ``share``, ``best``, ``ridge`` and ``variant``, of ``studies.recipe_recovery.table``.
        names: labels of the rows.
    """
    axis = plt.subplots(figsize=(WIDTH, 0.8 + 0.45 * len(rows)))[1]
    axis.barh(range(len(rows)), rows["share"], color=np.where(rows["variant"] == "base", BLUE, GREEN))
    axis.plot(rows["ridge"] / rows["best"], range(len(rows)), "x", color="black")
    axis.axvline(0.95, color=GREY, linestyle="--", linewidth=1)
    axis.set_yticks(range(len(rows)), names)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.set_xlabel("share of the best's correlation")
    return axis


def show_rows(table: pandas.DataFrame, paper: bool = False) -> None:
    """Plot rows of Table 2 or 3: mean correlation with its interval, hollow for an untrained control.

    Args:
        table: columns ``features``, ``mean``, ``low``, ``high``, ``weights``, ``paper``, and ``by_seed`` to show each
            seed as a dot.
        paper: show the paper's values too. They are comparable only with results on the paper's corpus or on a
            simulation calibrated to it, and never shown beside encoders that were fitted on the puppet or are random.
    """
    published = _paper_values(table, paper)
    _, axis = plt.subplots(figsize=(WIDTH, 0.7 + 0.46 * len(table)))
    axis.axvline(0, color=GREY, linewidth=1, linestyle=":")
    for position, row in enumerate(table.itertuples()):
        control = "untrained" in str(row.weights)
        color = GREY if control else BLUE
        axis.plot([row.low, row.high], [position, position], color=color, linewidth=2)
        seeds = [float(value) for value in str(getattr(row, "by_seed", "")).split()]
        if seeds:
            axis.plot(seeds, [position - 0.22] * len(seeds), "o", color=color, markersize=3.5, alpha=0.6)
        axis.plot(row.mean, position, "o", color=color, markersize=8, markerfacecolor="white" if control else color)
        if np.isfinite(published.iloc[position]):
            axis.plot(published.iloc[position], position, "D", color=ORANGE, markersize=6)
    names = [row.features.replace(" & ", "\n& ") for row in table.itertuples()]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("mean Pearson correlation, validation")
    hollow = plt.Line2D([], [], color=GREY, marker="o", markerfacecolor="white", label="untrained control")
    filled = plt.Line2D([], [], color=BLUE, marker="o", label="no untrained encoder")
    diamond = plt.Line2D([], [], color=ORANGE, marker="D", linestyle="", label="the paper")
    marks = [filled, hollow, diamond][: 3 if published.notna().any() else 2]
    axis.figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), handletextpad=0.4, columnspacing=1)


def _paper_values(table: pandas.DataFrame, paper: bool) -> pandas.Series:
    """(row,) the paper's values that are comparable with the table's; NaN for the others."""
    not_published = table["weights"].astype(str).str.contains("|".join(NOT_PUBLISHED))
    return pandas.to_numeric(table["paper"]).where(~not_published & paper)


def write_rows(table: pandas.DataFrame, folder: Path, name: str, *, paper: bool = False) -> None:
    """Write rows of Table 2 or 3 as ``<name>.svg`` and as ``<name>.html``, a page of its own with that figure.

    The paper's values are shown under the conditions of ``show_rows``.
    """
    published = _paper_values(table, paper)
    shown = table.assign(paper=published) if published.notna().any() else table.drop(columns="paper")
    notes = "; ".join(sorted({f"{row.corpus}: {row.note}" if row.note else row.corpus for row in table.itertuples()}))
    figure = io.StringIO()
    with plt.rc_context():
        use_style()
        show_rows(table, paper)
        plt.savefig(figure, format="svg", metadata={"Date": None})
        plt.close()
    picture = figure.getvalue()[figure.getvalue().index("<svg") :]
    cells = shown.drop(columns=["corpus", "note"]).to_html(index=False, na_rep="", float_format=lambda x: f"{x:.4f}")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        "<style>body{font-family:sans-serif} table{border-collapse:collapse} td,th{padding:2px 6px;text-align:right}"
        f"</style></head><body><h1>{name}</h1><p>{html.escape(notes)}</p>\n"
        f'<div role="img" aria-label="The table\'s means, intervals and seeds as dots and lines">{picture}</div>\n'
        f"{cells}\n</body></html>\n"
    )
    for ending, text in (("svg", picture), ("html", page)):
        write_text(folder / f"{name}.{ending}", text)
