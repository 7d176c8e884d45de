"""A training's curves in the notebook that waits for it: loss, validation correlation and rate after every epoch.

The same numbers are in ``log.csv`` in every run's folder, and on request in TensorBoard's files
(``runs.write_tensorboard``).
"""

from __future__ import annotations

import html
import io
import sys
import time
from typing import TYPE_CHECKING, Any

import pandas

from emibook.training import checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS = 1.0  # between two drawings, which cost a small network more than its epochs
PANELS = {"loss": "loss", "mean_pearson": "correlation", "learning_rate": "learning rate"}


class LiveCurves:
    """While its block lasts, a training in this process is drawn under the notebook's cell, and drawn anew as it goes.

    Nothing is drawn outside a notebook, nor where ``wanted`` is false. Epochs that follow each other within ``SECONDS``
    share a drawing; the last one is always drawn. Of a training that forks only the line that all watch is shown.
    """

    def __init__(self, title: str, wanted: bool = True) -> None:
        self.title, self.wanted = title, wanted and in_notebook()
        self.rows: list[dict] = []
        self.place: Any = None
        self.drawn_at, self.drawn = 0.0, 0

    def __enter__(self) -> LiveCurves:
        self.before = checkpoint.SEEN.set(self.sees) if self.wanted else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            checkpoint.SEEN.reset(self.before)
            self._show()

    def sees(self, name: str, rows: list[dict]) -> None:
        """Take note of an epoch: ``rows`` are those of ``log.csv`` so far, ``name`` is the line's (``progress``)."""
        if name == checkpoint.ALL:
            self.rows = list(rows)
            if time.monotonic() - self.drawn_at >= SECONDS:
                self._show()

    def _show(self) -> None:
        if len(self.rows) == self.drawn:
            return
        from IPython.display import HTML, display

        text = io.StringIO()
        draw(pandas.DataFrame(self.rows), self.title).savefig(text, format="svg", metadata={"Date": None})
        picture = text.getvalue()[text.getvalue().index("<svg") :]
        words = html.escape(f"{self.title}: loss, validation correlation and rate of {len(self.rows)} epochs")
        shown = HTML(f'<div role="img" aria-label="{words}">{picture}</div>')
        if self.place is None:
            self.place = display(shown, display_id=True)
        else:
            self.place.update(shown)
        self.drawn_at, self.drawn = time.monotonic(), len(self.rows)


def draw(log: pandas.DataFrame, title: str) -> Figure:
    """Loss, validation correlation with the epoch that is kept (diamond), and rate, from the columns of ``log.csv``."""
    from matplotlib.figure import Figure  # where nothing is drawn nobody waits for it

    from emibook.figures import BLUE, ORANGE, WIDTH

    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axis, (column, label) in zip(axes, PANELS.items(), strict=True):
        axis.plot(log["epoch"], log[column], color=BLUE, marker="o", markersize=3)
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    if log["mean_pearson"].notna().any():
        best = log.loc[log["mean_pearson"].idxmax()]
        axes[1].plot(best["epoch"], best["mean_pearson"], "D", color=ORANGE)
    axes[0].set_title(title)
    axes[-1].set_ylim(0, 1.15 * log["learning_rate"].max())
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
