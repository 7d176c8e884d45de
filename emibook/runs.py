"""Runs: one branch trained with one seed, as a folder that tables, figures and predictions read.

    WORK/runs/<id>/
      config.json           all that decides what the run is; the id is made from it
      metrics.json          what came of it; written last, so a folder that has it is complete
      predictions.csv       validation clips, every one; predictions_test.csv where the corpus has test clips
      weights.safetensors training.json log.csv      see ``training``
      encoders/             what turns new clips into the run's features
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, __version__
from emibook.corpus import Corpus
from emibook.dataset import AUDIO_RATE, STEPS, Sequences, feature_names, load, modality
from emibook.features import copy_encoders, store
from emibook.metrics import pearson
from emibook.models import Branch
from emibook.training import LOG, Recipe, load_model, predict, replace_whole, train

FORMAT = 1  # of the run folder
PREDICTIONS = {"valid": "predictions.csv", "test": "predictions_test.csv"}
PRESENT = "modality_present"
BASELINE = " (baseline)"  # behind the feature set: the model is the organisers' kind, not the paper's
MODELS = {
    "V": {"kind": "regressor", "transformer_layers": 2},
    "A": {"kind": "regressor", "transformer_layers": 0},
    "V (baseline)": {"kind": "recurrent"},
    "A (baseline)": {"kind": "linear"},
}


@dataclass(frozen=True)
class Run:
    """A finished run. ``config`` is what was trained, ``metrics`` what came of it."""

    folder: Path
    config: dict
    metrics: dict

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Raises ``InputError`` where ``folder`` holds no finished run, or one of another version's."""
        folder = Path(folder)
        try:
            run = cls(folder, *(json.loads((folder / name).read_text()) for name in ("config.json", "metrics.json")))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no finished run ({type(error).__name__}); give the folder that "
                             "emibook train prints last") from None
        if run.config.get("format") != FORMAT:
            raise InputError(f"{folder} was made by another version of emibook; train it again")
        return run

    @property
    def branch(self) -> str:
        """The run's feature sets, with `` (baseline)`` behind where the model is the organisers'."""
        return self.config["features"]

    @property
    def targets(self) -> list[str]:
        """What is predicted, in order."""
        return self.config["targets"]

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
        table = pandas.read_csv(path, dtype={"clip": str}, keep_default_na=False).set_index("clip")
        absent = [clip for clip in clips if clip not in table.index]
        if absent:
            raise InputError(f"{path} lacks {len(absent)} of {len(clips)} clips (first {absent[0]}); train it again")
        table = table.loc[clips]
        return table[self.targets].to_numpy(float), table[PRESENT].to_numpy() == 1


def run_folder(corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe) -> Path:
    """Where the run of this configuration lies or will lie."""
    config = _config(corpus, work, branch, seed, recipe)
    digest = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    return work / "runs" / f"{branch.replace(BASELINE, '-baseline')}-seed{seed}-{digest}"


def is_finished(folder: Path) -> bool:
    """Whether a run folder is complete."""
    return (folder / "metrics.json").is_file()


def make_run(
    corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe, *, progress: bool = True
) -> Path:
    """Train one branch with one seed on features that are there; the run's folder. A finished run is not repeated.

    Raises ``InputError``: see ``dataset.load`` and ``training.train``.
    """
    folder = run_folder(corpus, work, branch, seed, recipe)
    if is_finished(folder):
        return folder
    config = _config(corpus, work, branch, seed, recipe)
    features = branch.removesuffix(BASELINE)
    parts = {name: load(corpus, work, features, name) for name in ("train", "valid")}
    if len(corpus.partition("test")):
        parts["test"] = load(corpus, work, features, "test")
    write_text(folder / "config.json", json.dumps(config | {"versions": _versions()}, indent=1) + "\n")
    train(parts["train"], parts["valid"], recipe, seed, folder, model=config["model"], progress=progress)
    copy_encoders(work, feature_names(features), folder)
    model = load_model(folder)
    predicted = {partition: predict(model, parts[partition]) for partition in PREDICTIONS if partition in parts}
    for partition, values in predicted.items():
        write_text(folder / PREDICTIONS[partition], _table(parts[partition], values).to_csv(index=False))
    rho = pearson(parts["valid"].targets, predicted["valid"], names=corpus.targets)
    log = pandas.read_csv(folder / LOG)
    metrics = {
        "mean_pearson": _number(rho.mean()),
        "pearson": {target: _number(value) for target, value in zip(corpus.targets, rho, strict=True)},
        "best_epoch": None if log["mean_pearson"].isna().all() else int(log["epoch"][log["mean_pearson"].idxmax()]),
        "seconds": round(float(log["seconds"].sum()), 3),
        "weights": "+".join(dict.fromkeys(parts["train"].weights)),
        "clips": {partition: len(part) for partition, part in parts.items()},
        "empty": {partition: int((~part.present).sum()) for partition, part in parts.items()},
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _config(corpus: Corpus, work: Path, branch: str, seed: int, recipe: Recipe) -> dict:
    """All that decides what a run is. Equal configurations are the same run."""
    features = branch.removesuffix(BASELINE)
    kind = modality(features)
    labels = corpus.clips[["clip", "partition", *corpus.targets]].to_csv(index=False)
    encoders = {name: store.read_settings(work, name) for name in feature_names(features)}
    return {
        "format": FORMAT,
        "features": branch,
        "modality": kind,
        "model": MODELS[kind + branch[len(features) :]],
        "recipe": asdict(recipe),
        "seed": seed,
        "corpus": corpus.name,
        "note": corpus.note,
        "targets": list(corpus.targets),
        "labels": sha256(labels.encode()).hexdigest()[:16],
        "encoders": {name: store.fingerprint(settings or {}) for name, settings in encoders.items()},
        "steps": STEPS,
        "audio_rate": AUDIO_RATE,
    }


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
