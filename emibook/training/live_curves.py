"""The curves of a training in the notebook that waits for it: loss, validation correlation and learning rate.

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

from emibook.training.loop import on_epoch_end

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS = 1.0  # between two drawings, which take longer than a small network's epochs
PANELS = {"loss": "loss", "mean_pearson": "correlation", "learning_rate": "learning rate"}


class LiveCurves:
    """While its block lasts, a training in this process is drawn under the notebook's cell, again after each epoch.

    Nothing is drawn outside a notebook, nor where ``wanted`` is false. Epochs that follow each other within ``SECONDS``
    share a drawing; the last one is always drawn.
    """

    def __init__(self, title: str, wanted: bool = True) -> None:
        self.title, self.wanted = title, wanted and in_notebook()
        self.rows: list[dict] = []
        self.display: Any = None
        self.drawn_at, self.drawn_epochs = 0.0, 0

    def __enter__(self) -> LiveCurves:
        self.token = on_epoch_end.set(self.update) if self.wanted else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.token is not None:
            on_epoch_end.reset(self.token)
            self._show()

    def update(self, rows: list[dict]) -> None:
        """Take over the rows of ``log.csv`` so far, and draw them unless the last drawing has only just been made."""
        self.rows = list(rows)
        if time.monotonic() - self.drawn_at >= SECONDS:
            self._show()

    def _show(self) -> None:
        if len(self.rows) == self.drawn_epochs:
            return
        from IPython.display import HTML, display

        text = io.StringIO()
        draw(pandas.DataFrame(self.rows), self.title).savefig(text, format="svg", metadata={"Date": None})
        picture = text.getvalue()[text.getvalue().index("<svg") :]
        label = html.escape(f"{self.title}: loss, validation correlation and learning rate of {len(self.rows)} epochs")
        output = HTML(f'<div role="img" aria-label="{label}">{picture}</div>')
        if self.display is None:
            self.display = display(output, display_id=True)
        else:
            self.display.update(output)
        self.drawn_at, self.drawn_epochs = time.monotonic(), len(self.rows)


def draw(log: pandas.DataFrame, title: str) -> Figure:
    """Draw the columns of ``log.csv``: loss, validation correlation (a diamond marks the kept epoch), learning rate."""
    from matplotlib.figure import Figure  # slow to import, and needed only in a notebook

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
