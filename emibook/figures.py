"""Figures of the chapters: one style, and the drawings that more than one line of matplotlib makes.

Drawn 4.8 inches wide on a white ground of their own, so that they read at phone width and in the dark theme, in the
colours of Okabe and Ito, which readers who do not see all colours tell apart.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#595959"
WIDTH = 4.8  # inches
SMALLEST_TEXT = 9.5  # points; eight where a phone shows a figure from edge to edge
STAND_INS = ("builtin", "untrained")
"""What labels of weights say of encoders that were fitted on drawings or have random numbers."""

UNIT_WORDS = {
    "AU01": "inner brows raised", "AU02": "outer brows raised", "AU04": "brows lowered", "AU05": "upper lids raised",
    "AU06": "cheeks raised", "AU07": "lids tightened", "AU09": "nose wrinkled", "AU10": "upper lip raised",
    "AU12": "lip corners pulled up", "AU14": "dimples", "AU15": "lip corners pulled down", "AU17": "chin raised",
    "AU20": "lips stretched", "AU23": "lips tightened", "AU25": "lips parted", "AU26": "jaw dropped", "AU45": "blink",
}  # fmt: skip
"""What each action unit does, in plain words."""


def use_style() -> None:
    """Make every figure after this one of the book's; in a notebook they are drawn as SVG, the same bytes each time."""
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
    except ImportError:  # no notebook
        return
    set_matplotlib_formats("svg", metadata={"Date": None})


def show_faces(images: np.ndarray, captions: Sequence[str] | None = None, columns: int = 6) -> None:
    """Face crops in reading order, (face, height, width, 3) uint8 RGB, each under its caption."""
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
    """Rows of pictures, (height, width, 3) uint8 RGB and all of one size, each row a strip under its title."""
    gap = np.full((len(strips[0][0]), 3, 3), 255, np.uint8)
    joined = [np.hstack([part for picture in strip for part in (picture, gap)][:-1]) for strip in strips]
    height = WIDTH * len(joined[0]) / joined[0].shape[1] + (0.24 if titles else 0.04)
    figure, axes = plt.subplots(len(joined), 1, figsize=(WIDTH, height * len(joined)), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0.01)
    for index, (axis, strip) in enumerate(zip(axes[:, 0], joined, strict=True)):
        axis.set_axis_off()
        axis.imshow(strip)
        if titles:
            axis.set_title(titles[index], fontsize=SMALLEST_TEXT, loc="left", pad=3)


def show_voice(sound: np.ndarray, rate: int, axis: Axes) -> np.ndarray:
    """Draw the spectrogram of ``sound`` (sample,) up to 4 kHz with its pitch; returns the pitch of each frame in Hz.

    Pitch is measured by the YIN method a hundred times a second, and NaN where there is no voice to speak of.
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
    """A clip that can be played on the page, which then holds the whole file: for short ones."""
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
    """A frame with ``boxes`` (face, 4) and ``landmarks`` (face, 5, 2) in its pixels, and each face's probability."""
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
    """Bars of the ``share`` of the ``best`` correlation that each training reached, of ``recovery.table``.

    Blue for the paper's recipe, green for others; crosses for ``ridge``; a dashed line at nineteen twentieths.
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
    """Rows of Table 2 or 3: mean correlation with its interval, hollow where an encoder is an untrained control.

    ``table`` has the columns ``features``, ``mean``, ``low``, ``high``, ``weights``, ``paper``, and ``by_seed`` where
    each seed is to be a dot of its own; the paper's value is drawn only where ``paper`` is true, because it belongs
    beside results on the paper's own corpus, or on a rehearsal calibrated to it, and no others; and even there not
    beside a row whose encoders were fitted on drawings or have random weights.
    """
    theirs = _papers(table, paper)
    _, axis = plt.subplots(figsize=(WIDTH, 0.7 + 0.46 * len(table)))
    axis.axvline(0, color=GREY, linewidth=1, linestyle=":")
    for place, row in enumerate(table.itertuples()):
        control = "untrained" in str(row.weights)
        color = GREY if control else BLUE
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=2)
        seeds = [float(value) for value in str(getattr(row, "by_seed", "")).split()]
        if seeds:
            axis.plot(seeds, [place - 0.22] * len(seeds), "o", color=color, markersize=3.5, alpha=0.6)
        axis.plot(row.mean, place, "o", color=color, markersize=8, markerfacecolor="white" if control else color)
        if np.isfinite(theirs.iloc[place]):
            axis.plot(theirs.iloc[place], place, "D", color=ORANGE, markersize=6)
    names = [row.features.replace(" & ", "\n& ") for row in table.itertuples()]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("mean Pearson correlation, validation")
    hollow = plt.Line2D([], [], color=GREY, marker="o", markerfacecolor="white", label="untrained control")
    filled = plt.Line2D([], [], color=BLUE, marker="o", label="no untrained encoder")
    diamond = plt.Line2D([], [], color=ORANGE, marker="D", linestyle="", label="the paper")
    marks = [filled, hollow, diamond][: 3 if theirs.notna().any() else 2]
    axis.figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), handletextpad=0.4, columnspacing=1)


def _papers(table: pandas.DataFrame, paper: bool) -> pandas.Series:
    """(row,) the paper's values that may stand beside the table's, NaN in the place of the others."""
    stands_in = table["weights"].astype(str).str.contains("|".join(STAND_INS))
    return pandas.to_numeric(table["paper"]).where(~stands_in & paper)


def write_rows(table: pandas.DataFrame, folder: Path, name: str, *, paper: bool = False) -> None:
    """Rows of Table 2 or 3 as ``<name>.svg`` and, with the figure in it, ``<name>.html``, which loads nothing else.

    As in ``show_rows``, the paper's values are on neither unless ``paper``.
    """
    theirs = _papers(table, paper)
    shown = table.assign(paper=theirs) if theirs.notna().any() else table.drop(columns="paper")
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
        partial = folder / f".{name}.{ending}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / f"{name}.{ending}")
