"""One run: what decides it, its folder, and its training on features that are there."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, __version__
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.device import on_device
from emibook.evaluation import halves
from emibook.experiments.recipes import recipe_for, variant_for
from emibook.experiments.runs import FORMAT, PREDICTIONS, PRESENT, labels_of, write_ledger
from emibook.experiments.variants import BASE, BASELINE, Variant
from emibook.features import copy_encoders, store
from emibook.files import lock, write_text
from emibook.metrics import pearson
from emibook.sequences.load import extracted_sets, load, made_with, modality
from emibook.sequences.packed import Sequences
from emibook.sequences.timeline import SequenceConfig
from emibook.training.loop import LOG, Partitions, Recipe, TrainingConfig, load_model, predict, train


@dataclass(frozen=True)
class Experiment:
    """What all runs of a table share: the corpus, the work folder, and how a branch is trained.

    ``recipe`` has the options of ``variant`` already.
    """

    corpus: Corpus
    work: Path
    recipe: Recipe
    variant: Variant = BASE

    @classmethod
    def of(
        cls, corpus: Corpus, work: Path | str, recipe: Recipe | str | None = None, variant: Variant | str | None = None
    ) -> Experiment:
        """From names of a recipe and a variant. Raises ``InputError`` for names that do not exist."""
        variant = variant_for(variant)
        return cls(corpus, Path(work), replace(recipe_for(corpus, recipe), **variant.recipe), variant)

    @property
    def sequence(self) -> SequenceConfig:
        """How a clip's features become steps."""
        return SequenceConfig(**self.variant.sequence)


def run_folder(experiment: Experiment, branch: str, seed: int) -> Path:
    """Where the run of this branch and seed lies or will lie."""
    digest = _digest(_config(experiment, branch, seed))
    return experiment.work / "runs" / f"{branch.replace(BASELINE, '-baseline')}-seed{seed}-{digest}"


def is_finished(folder: Path) -> bool:
    """Whether a run folder is complete."""
    return (folder / "metrics.json").is_file()


def make_run(experiment: Experiment, branch: str, seed: int, resources: Resources = Resources()) -> Path:  # noqa: B008
    """Train one branch with one seed on features that are there; the run's folder.

    A finished run is not repeated, and one that another command is making is waited for.

    Raises:
        InputError: see ``sequences.load.load`` and ``training.train``.
    """
    folder = run_folder(experiment, branch, seed)
    if is_finished(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, progress=resources.progress):
        if not is_finished(folder):
            _train_and_record(experiment, branch, seed, folder, resources)
    return folder


def _train_and_record(experiment: Experiment, branch: str, seed: int, folder: Path, resources: Resources) -> None:
    """Make the run, and record the result or the failure in the ledger."""
    started = time.perf_counter()
    config = _config(experiment, branch, seed)
    entry = {
        "experiment": branch + ("" if experiment.variant == BASE else f" [{experiment.variant.name}]"),
        "seed": seed,
        "configuration": _digest(config),
        "versions": " ".join(f"{name} {version}" for name, version in _versions().items()),
    }
    try:
        metrics = _train_and_predict(experiment, config, folder, resources)
    except (Exception, KeyboardInterrupt) as error:
        entry["seconds"] = round(time.perf_counter() - started, 3)
        reason = (str(error).splitlines() or [""])[0]
        with suppress(OSError):  # where the disk is full, the error itself says so
            write_ledger(experiment.work, entry | {"result": f"failed: {type(error).__name__}: {reason}"})
        raise
    score = metrics["mean_pearson"]
    result = "no correlation" if score is None else f"mean Pearson {score:.4f}"
    write_ledger(experiment.work, entry | {"seconds": metrics["seconds"], "result": result})
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def _train_and_predict(experiment: Experiment, config: dict, folder: Path, resources: Resources) -> dict:
    """Write all of a run but its last file, whose content is returned."""
    corpus, device = experiment.corpus, on_device(resources.device)
    features = config["features"].removesuffix(BASELINE)
    parts = {
        name: load(corpus, experiment.work, features, name, experiment.sequence)
        for name in ("train", "valid", "test") if name != "test" or len(corpus.partition("test"))
    }
    # In every training, not once where steps are packed: a set may have come packed. All steps are read once, as in an
    # epoch; at the full size and 1,024 features that is 7 GB, two to four seconds where they are in memory.
    for part in parts.values():
        if position := part.first_nonfinite():
            raise InputError(f"{position}; make the set again")
    about = config | {"variant": experiment.variant.name, "versions": _versions()}
    write_text(folder / "config.json", json.dumps(about, indent=1) + "\n")
    partitions = Partitions(parts["train"], parts["valid"], halves(parts["valid"].participants))
    settings = TrainingConfig(experiment.recipe, config["seed"], config["model"])
    train(partitions, settings, folder, device=device, progress=resources.progress)
    if names := extracted_sets(experiment.work, features):
        copy_encoders(experiment.work, names, folder)
    model = load_model(folder).to(device)
    predicted = {name: predict(model, part, device) for name, part in parts.items() if name != "train"}
    for name, values in predicted.items():
        if not np.isfinite(values).all():  # of test clips: training has looked at the others
            raise InputError(f"features {features}: a prediction of a {name} clip is not a finite number; make the "
                             "set again")
        write_text(folder / PREDICTIONS[name], _prediction_table(parts[name], values).to_csv(index=False))
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


def _config(experiment: Experiment, branch: str, seed: int) -> dict:
    """Everything that decides what a run is. Equal configurations are the same run."""
    corpus, features = experiment.corpus, branch.removesuffix(BASELINE)
    kind = modality(features)
    settings = made_with(experiment.work, features)
    return {
        "format": FORMAT,
        "features": branch,
        "modality": kind,
        "model": experiment.variant.model_of(kind + branch[len(features) :]),
        "recipe": asdict(experiment.recipe),
        "seed": seed,
        "corpus": corpus.name,
        "note": corpus.note,
        "targets": list(corpus.targets),
        "labels": labels_of(corpus),
        "halves": sha256(halves(list(corpus.partition("valid")["participant"])).tobytes()).hexdigest()[:16],
        "encoders": {name: store.fingerprint(about) for name, about in settings.items()},
        "sequence": experiment.sequence.of(kind),
    }


def _digest(config: dict) -> str:
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]


def _prediction_table(sequences: Sequences, predicted: np.ndarray) -> pandas.DataFrame:
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
