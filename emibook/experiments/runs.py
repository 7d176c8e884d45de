"""Runs: one branch trained with one seed, as a folder that tables, figures and predictions read.

In a work folder:

    WORK/runs/ledger.csv    a row for every training that ended, well or not
    WORK/runs/.<id>.lock    held by the command that makes the run
    WORK/runs/<id>/
      config.json           everything that decides what the run is; the id is made from it
      metrics.json          what came of it; written last, so a folder that has it is complete
      predictions.csv       validation clips, every one; predictions_test.csv where the corpus has test clips
      halves.csv            validation clips, each by a choice of learning rate and epoch that did not see it
      weights.safetensors training.json log.csv      see ``training``
      encoders/             what turns new clips into the run's features
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import Corpus
from emibook.files import lock
from emibook.models import Branch
from emibook.training.loop import HALVES, LOG, load_model

FORMAT = 3  # of the run folder
PREDICTIONS = {"valid": "predictions.csv", "test": "predictions_test.csv"}
PRESENT = "modality_present"
LEDGER = "ledger.csv"
REQUIRED = {
    "config.json": ("features", "modality", "recipe", "seed", "corpus", "note", "targets", "labels", "encoders",
                    "sequence"),
    "metrics.json": ("weights", "ranges"),
}
"""What every reader of a run relies on."""
AGAIN = "delete the run's folder and train it again"
LEDGER_COLUMNS = ("when", "experiment", "seed", "configuration", "versions", "seconds", "result")


@dataclass(frozen=True)
class Run:
    """A finished run. ``config`` is what was trained, ``metrics`` what came of it."""

    folder: Path
    config: dict
    metrics: dict

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Raises ``InputError`` where ``folder`` holds no finished run, a damaged one, or one of another version's."""
        folder = Path(folder)
        try:
            contents = {name: json.loads((folder / name).read_text()) for name in REQUIRED}
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no finished run ({type(error).__name__}); give the folder that "
                             "emibook train prints last") from None
        for name, about in contents.items():
            if not isinstance(about, dict):
                raise InputError(f"{folder / name} is damaged: it holds no object; {AGAIN}")
        if contents["config.json"].get("format") != FORMAT:
            raise InputError(f"{folder} was made by another version of emibook; {AGAIN}")
        for name, keys in REQUIRED.items():
            if lacking := [key for key in keys if key not in contents[name]]:
                raise InputError(f"{folder / name} is damaged: it lacks {', '.join(lacking)}; {AGAIN}")
        return cls(folder, *contents.values())

    @property
    def branch(self) -> str:
        """The run's feature sets, with `` (baseline)`` behind where the model is the organisers'."""
        return self.config["features"]

    @property
    def targets(self) -> list[str]:
        """What is predicted, in order."""
        return self.config["targets"]

    @property
    def ranges(self) -> np.ndarray:
        """(target, 2) the least and the greatest that each target can be (``Corpus.ranges``)."""
        return np.array([self.metrics["ranges"][target] for target in self.targets])

    def model(self) -> Branch:
        """The trained model."""
        return load_model(self.folder)

    def predictions(self, partition: str, clips: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (clip, target) of these clips, found by their ids, and (clip,) true where the modality is there.

        ``partition`` is ``valid`` or ``test``. Raises ``InputError`` for clips without a prediction.
        """
        path, clips = self.folder / PREDICTIONS[partition], list(clips)
        if not path.is_file():
            raise InputError(f"{self.folder} has no {path.name}: its corpus {self.config['corpus']} has no such clips")
        table = _indexed(path, clips, [*self.targets, PRESENT])
        return table[self.targets].to_numpy(float), table[PRESENT].to_numpy() == 1

    def unseen(self, clips: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """As ``predictions`` of validation clips, (clip, target), by a choice of learning rate and epoch that did not
        see them.

        With them (clip,) 0 or 1, the half that each belongs to. Raises ``InputError`` for clips without a prediction.
        """
        table = _indexed(self.folder / HALVES, list(clips), [*self.targets, "half"])
        return table[self.targets].to_numpy(float), table["half"].to_numpy(int)


def _indexed(path: Path, clips: list[str], columns: list[str]) -> pandas.DataFrame:
    """These columns of a table of a run, all of them numbers, of these clips and in this order."""
    try:
        table = pandas.read_csv(path, dtype={"clip": str}, keep_default_na=False).set_index("clip")[columns]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); {AGAIN}") from None
    if len(repeated := table.index[table.index.duplicated()]):
        raise InputError(f"{path} has clip {repeated[0]} twice; {AGAIN}")
    if absent := [clip for clip in clips if clip not in table.index]:
        raise InputError(f"{path} lacks {len(absent)} of {len(clips)} clips (first {absent[0]}); {AGAIN}")
    numbers = table.apply(pandas.to_numeric, errors="coerce")
    if len(wrong := np.argwhere(~np.isfinite(numbers.to_numpy(float)))):
        row, column = wrong[0]
        raise InputError(f"{path}, clip {table.index[row]}: {columns[column]} is {table.iat[row, column]}, not a "
                         f"number; {AGAIN}")
    return numbers.loc[clips]


def labels_of(corpus: Corpus) -> str:
    """Sixteen hexadecimal digits that stand for the clips, their partitions and their labels, as a run notes them."""
    labels = corpus.clips[["clip", "partition", *corpus.targets]].to_csv(index=False)
    return sha256(labels.encode()).hexdigest()[:16]


def write_ledger(work: Path, entry: dict) -> None:
    """Add a row to ``WORK/runs/ledger.csv``; two commands that add one at the same time wait for each other."""
    path = work / "runs" / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    row = io.StringIO()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    csv.DictWriter(row, LEDGER_COLUMNS, lineterminator="\n").writerow({"when": now, **entry})
    with lock(path, progress=False), path.open("a", encoding="utf-8") as ledger:
        ledger.write(row.getvalue() if ledger.tell() else ",".join(LEDGER_COLUMNS) + "\n" + row.getvalue())


def tensorboard_writer() -> type:
    """TensorBoard's own writer of files. Raises ``InputError`` where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard's files need the package tensorboard; install it with "
                         "pip install --constraint constraints.txt --editable .[tensorboard]") from None
    return SummaryWriter


def write_tensorboard(run: Path | str) -> Path:
    """A run's curves (loss, learning rate, correlations by epoch) as TensorBoard's files, in ``RUN/tensorboard``.

    Raises ``InputError`` where the package is missing.
    """
    writer_of = tensorboard_writer()
    folder = Path(run) / "tensorboard"
    partial = folder.with_name(f".tensorboard.{os.getpid()}")
    log = pandas.read_csv(Path(run) / LOG).set_index("epoch")
    with writer_of(str(partial)) as writer:
        for curve in log.columns.drop("seconds"):
            for epoch, value in log[curve].items():
                writer.add_scalar(curve.replace(" ", "/"), value, epoch)
    shutil.rmtree(folder, ignore_errors=True)  # a reader adds up all files of a folder
    os.replace(partial, folder)
    return folder
