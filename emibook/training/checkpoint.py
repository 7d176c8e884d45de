"""The folder of a training: its state after every epoch, from which a killed training resumes, and its results.

A schedule halves the learning rate and chooses the epoch by validation scores. The paper's schedule sees all
validation clips, which are then reported. Two more each see one half of them, so that the other half can be scored by a
choice that did not see it. As long as all three would continue with the same learning rate, one training serves them
all; where they differ, the state is forked, and the fork is continued when the first training has ended.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emibook import InputError
from emibook.files import replacing, write_text
from emibook.metrics import mean_pearson
from emibook.models import Branch, describe, rebuild
from emibook.training.optimizer import Learner
from emibook.training.partitions import Partitions
from emibook.training.recipe import TrainingConfig

SETTINGS, WEIGHTS, LOG, HALVES = "training.json", "weights.safetensors", "log.csv", "halves.csv"
ALL, FIRST, SECOND = SCHEDULES = ("all", "first", "second")


@dataclass
class PlateauSchedule:
    """Halves the learning rate after ``patience`` epochs without a better score, and says which epoch to keep.

    An epoch whose score is NaN (a constant prediction has no correlation) is not better; the first epoch is kept until
    one has a score.
    """

    learning_rate: float
    best: float | None = None
    waited: int = 0

    def update(self, score: float, patience: int) -> bool:
        """Count one epoch's score; whether this epoch is the best so far."""
        better = score > (-math.inf if self.best is None else self.best)
        keep = better or self.best is None
        if better:
            self.best, self.waited = score, 0
        else:
            self.best = -math.inf if self.best is None else self.best
            self.waited += 1
            if self.waited == patience:
                self.learning_rate, self.waited = self.learning_rate / 2, 0
        return keep


class TrainingState:
    """One training so far, and the schedules that share it. It is named after the first of them."""

    def __init__(self, folder: Path, name: str, learner: Learner) -> None:
        self.folder, self.name, self.learner = folder, name, learner
        self.rows: list[dict] = []
        """The log, one row per epoch."""
        self.schedules: dict[str, PlateauSchedule] = {}
        self.best: dict[str, dict[str, torch.Tensor]] = {}
        """For each schedule the best epoch's ``predictions`` (clip, target); for ``all`` the weights too."""

    def begin(self, learning_rate: float, halves: bool) -> None:
        """Start a new training with all schedules, or without halves with the one that sees all clips."""
        self.schedules = {name: PlateauSchedule(learning_rate) for name in (SCHEDULES if halves else (ALL,))}

    def restore(self) -> bool:
        """Read what an earlier call left; False where it left nothing. Raises ``InputError`` where it is damaged."""
        path = self._path(self.name)
        if not path.is_file():
            return False
        try:
            header, tensors = _read(path)
            self.rows = header["rows"]
            self.schedules = {name: PlateauSchedule(**fields) for name, fields in header["schedules"].items()}
            self.best = {name: _under(f"best {name}", tensors) for name in self.schedules}
            for prefix, module in (("model", self.learner.model), ("average", self.learner.average)):
                if module is not None:
                    weights = _under(prefix, tensors)
                    if weights.keys() != module.state_dict().keys():
                        raise KeyError(prefix)
                    module.load_state_dict(weights)
            for number, parameter in enumerate(self.learner.model.parameters()):
                self.learner.optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in _under(f"adam {number}", tensors).items()
                }
            self._set_learning_rate()
        except (SafetensorError, ValueError, KeyError, TypeError):  # it is not what was written
            raise InputError(f"{path} is damaged; delete {path.parent} and train again") from None
        return True

    def finish_epoch(self, row: dict, predicted: np.ndarray, partitions: Partitions, patience: int) -> None:
        """Update the schedules with an epoch, fork where their learning rates differ, and write the checkpoint.

        Args:
            row: of the log.
            predicted: (clip, target) on the validation clips.
        """
        self.rows.append(row)
        truth, half = partitions.valid.targets, partitions.half
        for name, schedule in self.schedules.items():
            if name == ALL:
                score = row["mean_pearson"]
            else:
                score = _score_of(half == (0 if name == FIRST else 1), truth, predicted)
            if schedule.update(score, patience):
                weights = self.learner.scored.state_dict() if name == ALL else {}
                self.best[name] = {"predictions": torch.from_numpy(predicted.copy())} | {
                    f"weights {key}": tensor.detach().cpu().clone() for key, tensor in weights.items()
                }
        by_rate: dict[float, list[str]] = {}
        for name, schedule in self.schedules.items():
            by_rate.setdefault(schedule.learning_rate, []).append(name)
        own = by_rate.pop(self.schedules[self.name].learning_rate)
        for fork in by_rate.values():
            self._write(fork)
        self.schedules = {name: self.schedules[name] for name in own}
        self._set_learning_rate()
        if self.name == ALL:
            _write_table(self.folder / LOG, pandas.DataFrame(self.rows))
        self._write(own)

    def _write(self, names: list[str]) -> None:
        """Write the state for these schedules, under the name of the first."""
        tensors = {f"model/{name}": tensor for name, tensor in self.learner.model.state_dict().items()}
        if self.learner.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.learner.average.state_dict().items()}
        for number, parameter in enumerate(self.learner.model.parameters()):
            moments = self.learner.optimizer.state[parameter]
            tensors |= {f"adam {number}/{key}": value for key, value in moments.items()}
        for name in names:
            tensors |= {f"best {name}/{key}": value for key, value in self.best[name].items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {"rows": self.rows, "schedules": {name: asdict(self.schedules[name]) for name in names}}
        with replacing(self._path(names[0])) as path:
            save_file(tensors, path, metadata={"header": json.dumps(header)})

    def _set_learning_rate(self) -> None:
        for group in self.learner.optimizer.param_groups:
            group["lr"] = self.schedules[self.name].learning_rate

    def _path(self, name: str) -> Path:
        return self.folder / f"state-{name}.safetensors"


def training_states(folder: Path, learner: Learner, learning_rate: float, halves: bool) -> Iterator[TrainingState]:
    """The training of all schedules, then its forks; one that an earlier fork makes comes later."""
    for name in SCHEDULES:
        state = TrainingState(folder, name, learner)
        if state.restore():
            yield state
        elif name == ALL:
            state.begin(learning_rate, halves)
            yield state


def claim(folder: Path, model: Branch, partitions: Partitions, config: TrainingConfig) -> None:
    """Write the settings of a training into its folder. Raises ``InputError`` where it holds another training."""
    digest = sha256(np.asarray(partitions.half, np.int8).tobytes())
    for part in (partitions.train, partitions.valid):
        digest.update(json.dumps([part.features, part.names, part.clips]).encode())
        digest.update(part.offsets.tobytes() + part.targets.tobytes())
    settings = {"model": describe(model), "recipe": asdict(config.recipe), "seed": config.seed,
                "data": digest.hexdigest()[:16]}  # fmt: skip
    path = folder / SETTINGS
    if not path.is_file():
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged; delete {folder} and train again") from None
    if before != settings:
        raise InputError(f"{folder} holds a training of other settings or clips; give another folder or delete it")


def finish_training(folder: Path, partitions: Partitions) -> None:
    """Write the best weights, and each half's predictions by the choice that did not see it; delete the states."""
    paths = sorted(folder.glob("state-*.safetensors"))
    best: dict[str, dict[str, torch.Tensor]] = {}
    rows = []
    for path in paths:
        header, tensors = _read(path)
        best |= {name: _under(f"best {name}", tensors) for name in header["schedules"]}
        rows = header["rows"] if ALL in header["schedules"] else rows
    _write_table(folder / LOG, pandas.DataFrame(rows))
    if FIRST in best:
        first, second = (best[name]["predictions"].numpy() for name in (FIRST, SECOND))
        unseen = np.where((partitions.half == 0)[:, None], second, first)
        table = pandas.DataFrame(unseen, columns=list(partitions.valid.target_names))
        table.insert(0, "clip", partitions.valid.clips)
        table.insert(1, "half", partitions.half)
        _write_table(folder / HALVES, table)
    weights = {name.removeprefix("weights "): t for name, t in best[ALL].items() if name.startswith("weights ")}
    with replacing(folder / WEIGHTS) as path:
        save_file(weights, path)
    for path in paths:
        path.unlink()


def load_model(folder: Path | str) -> Branch:
    """The trained model of a folder that ``train`` wrote. Raises ``InputError`` where it cannot be rebuilt."""
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return rebuild(settings["model"], {name: file.get_tensor(name) for name in file.keys()}).eval()
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no finished run: no {Path(error.filename or WEIGHTS).name}") from None
    except Exception as error:  # a header, a key, a shape: whatever it is, the file is not what was written
        raise InputError(f"{folder} cannot be read as a run ({str(error).splitlines()[0]}); train it again") from None


def _score_of(seen: Sequence[bool], truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean correlation on some clips, without a warning: half of a small partition may have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return mean_pearson(truth[seen], predicted[seen])


def _write_table(path: Path, table: pandas.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def _read(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["header"]), {name: file.get_tensor(name) for name in file.keys()}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
