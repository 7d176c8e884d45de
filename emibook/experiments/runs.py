"""Runs: one branch trained with one seed, as a folder that tables, figures and predictions read.

In a work folder:

    WORK/runs/ledger.csv    a row for every training that ended, well or not
    WORK/runs/.<id>.lock    held by the command that makes the run
    WORK/runs/<id>/
      config.json           all that decides what the run is; the id is made from it
      metrics.json          what came of it; written last, so a folder that has it is complete
      predictions.csv       validation clips, every one; predictions_test.csv where the corpus has test clips
      halves.csv            validation clips, each by a choice of rate and epoch that did not see it
      weights.safetensors training.json log.csv      see ``training``
      encoders/             what turns new clips into the run's features
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, __version__
from emibook.corpus import Corpus
from emibook.device import on_device
from emibook.evaluation import halves
from emibook.experiments.variants import BASE, BASELINE, Variant
from emibook.features import copy_encoders, store
from emibook.files import lock
from emibook.metrics import pearson
from emibook.models import Branch
from emibook.sequences.load import drawn_file, feature_names, is_drawn, load, modality
from emibook.sequences.packed import Sequences, read
from emibook.sequences.timeline import SequenceConfig
from emibook.training.loop import HALVES, LOG, Recipe, load_model, predict, replace_whole, train

FORMAT = 2  # of the run folder
PREDICTIONS = {"valid": "predictions.csv", "test": "predictions_test.csv"}
PRESENT = "modality_present"
LEDGER = "ledger.csv"
NEEDED = {
    "config.json": ("features", "modality", "recipe", "seed", "corpus", "note", "targets", "labels", "encoders",
                    "sequence"),
    "metrics.json": ("weights",),
}
"""What every reader of a run relies on."""
AGAIN = "delete the run's folder and train it again"
COLUMNS = ("when", "experiment", "seed", "configuration", "versions", "seconds", "result")


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
            read = {name: json.loads((folder / name).read_text()) for name in NEEDED}
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no finished run ({type(error).__name__}); give the folder that "
                             "emibook train prints last") from None
        for name, about in read.items():
            if not isinstance(about, dict):
                raise InputError(f"{folder / name} is damaged: it holds no object; {AGAIN}")
        if read["config.json"].get("format") != FORMAT:
            raise InputError(f"{folder} was made by another version of emibook; {AGAIN}")
        for name, keys in NEEDED.items():
            if lacking := [key for key in keys if key not in read[name]]:
                raise InputError(f"{folder / name} is damaged: it lacks {', '.join(lacking)}; {AGAIN}")
        return cls(folder, *read.values())

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
        known = self.metrics.get("ranges", {})  # runs made before there were ranges are of targets in 0..1
        return np.array([known.get(target, (0.0, 1.0)) for target in self.targets])

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
        """As ``predictions`` of validation clips, (clip, target), by a choice of rate and epoch that did not see them.

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
    if len(twice := table.index[table.index.duplicated()]):
        raise InputError(f"{path} has clip {twice[0]} twice; {AGAIN}")
    if absent := [clip for clip in clips if clip not in table.index]:
        raise InputError(f"{path} lacks {len(absent)} of {len(clips)} clips (first {absent[0]}); {AGAIN}")
    numbers = table.apply(pandas.to_numeric, errors="coerce")
    if len(wrong := np.argwhere(~np.isfinite(numbers.to_numpy(float)))):
        row, column = wrong[0]
        raise InputError(f"{path}, clip {table.index[row]}: {columns[column]} is {table.iat[row, column]}, no number; "
                         f"{AGAIN}")
    return numbers.loc[clips]


def run_folder(
    corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe, variant: Variant = BASE
) -> Path:
    """Where the run of this configuration lies or will lie."""
    digest = _digest(_config(corpus, work, branch, seed, recipe, variant))
    return work / "runs" / f"{branch.replace(BASELINE, '-baseline')}-seed{seed}-{digest}"


def is_finished(folder: Path) -> bool:
    """Whether a run folder is complete."""
    return (folder / "metrics.json").is_file()


def make_run(
    corpus: Corpus,
    work: Path,
    branch: str,
    seed: int,
    recipe: Recipe,
    variant: Variant = BASE,
    *,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch with one seed on features that are there; the run's folder. A finished run is not repeated,
    and one that another command is making is waited for.

    Raises ``InputError``: see ``dataset.load`` and ``training.train``.
    """
    folder = run_folder(corpus, work, branch, seed, recipe, variant)
    if is_finished(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, progress=progress):
        if not is_finished(folder):
            _train_and_enter(corpus, work, branch, seed, recipe, variant, folder, device, progress)
    return folder


def _train_and_enter(
    corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe, variant: Variant, folder: Path,
    device: str | None, progress: bool,
) -> None:
    """Make the run, and note in the ledger what came of it."""
    started = time.perf_counter()
    config = _config(corpus, work, branch, seed, recipe, variant)
    entry = {
        "experiment": branch + ("" if variant == BASE else f" [{variant.name}]"),
        "seed": seed,
        "configuration": _digest(config),
        "versions": " ".join(f"{name} {version}" for name, version in _versions().items()),
    }
    try:
        metrics = _made(corpus, work, config, replace(recipe, **variant.recipe), variant, folder, device, progress)
    except (Exception, KeyboardInterrupt) as error:
        entry["seconds"] = round(time.perf_counter() - started, 3)
        told = str(error).splitlines() or [""]
        with suppress(OSError):  # where the disk is full, the error itself says so
            _enter(work, entry | {"result": f"failed: {type(error).__name__}: {told[0]}"})
        raise
    score = metrics["mean_pearson"]
    result = "no correlation" if score is None else f"mean Pearson {score:.4f}"
    _enter(work, entry | {"seconds": metrics["seconds"], "result": result})
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def _made(
    corpus: Corpus, work: Path, config: dict, recipe: Recipe, variant: Variant, folder: Path, device: str | None,
    progress: bool,
) -> dict:
    """All of a run but its last file, whose content is returned."""
    device = on_device(device)
    features = config["features"].removesuffix(BASELINE)
    sequence = SequenceConfig(**variant.sequence)
    partitions = ["train", "valid", *(["test"] if len(corpus.partition("test")) else [])]
    parts = {name: load(corpus, work, features, name, sequence) for name in partitions}
    # In every training, not once where steps are packed: sets that were drawn come from elsewhere. It reads all steps
    # once, as an epoch does; the full size's are 7 GB at 1,024 features, two to four seconds where they are in memory.
    for part in parts.values():
        if found := part.first_nonfinite():
            raise InputError(f"{found}; make the set again")
    about = config | {"variant": variant.name, "versions": _versions()}
    write_text(folder / "config.json", json.dumps(about, indent=1) + "\n")
    train(parts["train"], parts["valid"], recipe, config["seed"], folder, model=config["model"],
          halves=halves(parts["valid"].participants), device=device, progress=progress)
    if not is_drawn(work, features):
        copy_encoders(work, feature_names(features), folder)
    model = load_model(folder).to(device)
    predicted = {name: predict(model, parts[name], device) for name in partitions[1:]}
    for name, values in predicted.items():
        if not np.isfinite(values).all():  # of test clips: training has looked at the others
            raise InputError(f"features {features}: a prediction of a {name} clip is no number; make the set again")
        write_text(folder / PREDICTIONS[name], _table(parts[name], values).to_csv(index=False))
    rho = pearson(parts["valid"].targets, predicted["valid"], names=corpus.targets)
    log = pandas.read_csv(folder / LOG)
    return {
        "mean_pearson": _number(rho.mean()),
        "pearson": {target: _number(value) for target, value in zip(corpus.targets, rho, strict=True)},
        "best_epoch": None if log["mean_pearson"].isna().all() else int(log["epoch"][log["mean_pearson"].idxmax()]),
        "seconds": round(float(log["seconds"].sum()), 3),
        "device": device,
        "weights": "+".join(dict.fromkeys(parts["train"].weights)),
        "ranges": corpus.ranges(),
        "clips": {partition: len(part) for partition, part in parts.items()},
        "empty": {partition: int((~part.present).sum()) for partition, part in parts.items()},
    }


def tensorboard_writer() -> type:
    """TensorBoard's own writer of files. Raises ``InputError`` where the package is not there."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard's files need the package tensorboard; install it with "
                         "pip install --constraint constraints.txt --editable .[tensorboard]") from None
    return SummaryWriter


def write_tensorboard(run: Path | str) -> Path:
    """A run's curves (loss, rate, correlations by epoch) as TensorBoard's files, in ``RUN/tensorboard``.

    Raises ``InputError`` where the package is not there.
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


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _enter(work: Path, entry: dict) -> None:
    """Add a row to the ledger. One call writes it whole, behind what others write in the same moment."""
    path = work / "runs" / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        header = path.with_name(f".{LEDGER}.{os.getpid()}")
        header.write_text(",".join(COLUMNS) + "\n")
        try:
            os.link(header, path)
        except FileExistsError:  # somebody else was first
            pass
        except OSError:  # a file system without links
            os.replace(header, path)
        header.unlink(missing_ok=True)
    row = io.StringIO()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    csv.DictWriter(row, COLUMNS, lineterminator="\n").writerow({"when": now, **entry})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, row.getvalue().encode())
    finally:
        os.close(descriptor)


def _config(corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe, variant: Variant) -> dict:
    """All that decides what a run is. Equal configurations are the same run."""
    features = branch.removesuffix(BASELINE)
    kind = modality(features)
    if is_drawn(work, features):
        encoders = {features: read(drawn_file(work, features, "train"))[2]}
    else:
        encoders = {name: store.read_settings(work, name) for name in feature_names(features)}
    return {
        "format": FORMAT,
        "features": branch,
        "modality": kind,
        "model": variant.model_of(kind + branch[len(features) :]),
        "recipe": asdict(replace(recipe, **variant.recipe)),
        "seed": seed,
        "corpus": corpus.name,
        "note": corpus.note,
        "targets": list(corpus.targets),
        "labels": labels_of(corpus),
        "halves": sha256(halves(list(corpus.partition("valid")["participant"])).tobytes()).hexdigest()[:16],
        "encoders": {name: store.fingerprint(settings or {}) for name, settings in encoders.items()},
        "sequence": SequenceConfig(**variant.sequence).of(kind),
    }


def labels_of(corpus: Corpus) -> str:
    """Sixteen hexadecimal digits that stand for the clips, their partitions and their labels, as a run notes them."""
    labels = corpus.clips[["clip", "partition", *corpus.targets]].to_csv(index=False)
    return sha256(labels.encode()).hexdigest()[:16]


def _digest(config: dict) -> str:
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]


def _table(sequences: Sequences, predicted: np.ndarray) -> pandas.DataFrame:
    """The columns ``clip``, the targets, and ``modality_present``: 0 where the clip is empty in the modality."""
    table = pandas.DataFrame(predicted, columns=list(sequences.target_names))
    table.insert(0, "clip", sequences.clips)
    return table.assign(**{PRESENT: sequences.present.astype(int)})


def _versions() -> dict[str, str]:
    return {
        "emibook": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _number(value: float) -> float | None:
    """As JSON has it: no NaN."""
    return float(value) if np.isfinite(value) else None
