"""How far a training is: on disk after every epoch, so that a killed one goes on and ends with the same numbers.

The rate is halved, and the epoch chosen, by somebody who watches validation scores. The paper's watcher sees all
validation clips, which are then reported. Two more each see one half of them, so that the other half can be scored by
a choice that did not see it. As long as all would go on with the same rate there is one training for all of them;
where one would not, a fork of the training is kept for it, and goes on when the first has ended.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from emibook import InputError
from emibook.metrics import pearson
from emibook.models import Branch

WEIGHTS, LOG, HALVES = "weights.safetensors", "log.csv", "halves.csv"
ALL, FIRST, SECOND = WATCHERS = ("all", "first", "second")
SEEN: ContextVar[Callable[[str, list[dict]], None]] = ContextVar("SEEN", default=lambda name, rows: None)
"""Told after every epoch: the name of the line, and its rows so far."""


@dataclass
class Watcher:
    """Somebody who sees the scores of some validation clips and sets the rate and the epoch by them.

    An epoch without a correlation (a constant prediction) is no rise; the first one is kept until there is one.
    """

    rate: float
    best: float | None = None
    waited: int = 0

    def sees(self, score: float, patience: int) -> bool:
        """Take note of an epoch's score; whether the epoch is the one to keep, so far."""
        rises = score > (-math.inf if self.best is None else self.best)
        keep = rises or self.best is None
        if rises:
            self.best, self.waited = score, 0
        else:
            self.best = -math.inf if self.best is None else self.best
            self.waited += 1
            if self.waited == patience:
                self.rate, self.waited = self.rate / 2, 0
        return keep


class Line:
    """One line of a training and those who watch it; ``name`` is the first of them, whose rate it has.

    ``average``: the running average of the model's weights, where the training keeps one.
    """

    def __init__(
        self, folder: Path, name: str, model: Branch, optimizer: torch.optim.Optimizer, average: AveragedModel | None
    ) -> None:
        self.folder, self.name, self.model, self.optimizer, self.average = folder, name, model, optimizer, average
        self.rows: list[dict] = []
        self.watchers: dict[str, Watcher] = {}
        self.kept: dict[str, dict[str, torch.Tensor]] = {}
        """For each watcher the best epoch's ``predictions`` (clip, target); for ``all`` its weights too."""

    @property
    def scored(self) -> Branch:
        """The model that is scored and kept: with the average of its weights, where there is one."""
        return self.model if self.average is None else self.average.module

    def begin(self, rate: float, halves: bool) -> None:
        """A new training, watched by all."""
        self.watchers = {name: Watcher(rate) for name in (WATCHERS if halves else (ALL,))}

    def restore(self) -> bool:
        """Take up what an earlier call left, where it left anything. Raises ``InputError`` where that is damaged."""
        path = self._path(self.name)
        if not path.is_file():
            return False
        try:
            about, tensors = _read(path)
            self.rows = about["rows"]
            self.watchers = {name: Watcher(**numbers) for name, numbers in about["watchers"].items()}
            self.kept = {name: _under(f"kept {name}", tensors) for name in self.watchers}
            for prefix, module in (("model", self.model), ("average", self.average)):
                if module is not None:
                    weights = _under(prefix, tensors)
                    if weights.keys() != module.state_dict().keys():
                        raise KeyError(prefix)
                    module.load_state_dict(weights)
            for number, parameter in enumerate(self.model.parameters()):
                moments = _under(f"adam {number}", tensors)
                self.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
            self._set_rate()
        except (SafetensorError, ValueError, KeyError, TypeError):  # it is not what was written
            raise InputError(f"{path} is damaged; delete {path.parent} and train again") from None
        return True

    def finish_epoch(
        self, row: dict, truth: np.ndarray, predicted: np.ndarray, half: np.ndarray, patience: int
    ) -> None:
        """Let the watchers see the epoch, and write down all that the next one needs.

        ``half`` (clip,) is 0 or 1. Watchers who would go on with another rate get a fork.
        """
        self.rows.append(row)
        for name, watcher in self.watchers.items():
            seen = slice(None) if name == ALL else half == (0 if name == FIRST else 1)
            score = row["mean_pearson"] if name == ALL else _quietly(truth[seen], predicted[seen])
            if watcher.sees(score, patience):
                weights = self.scored.state_dict() if name == ALL else {}
                self.kept[name] = {"predictions": torch.from_numpy(predicted.copy())} | {
                    f"weights {key}": tensor.detach().cpu().clone() for key, tensor in weights.items()
                }
        rate = self.watchers[self.name].rate
        apart = [name for name, watcher in self.watchers.items() if watcher.rate != rate]
        while apart:
            together = [name for name in apart if self.watchers[name].rate == self.watchers[apart[0]].rate]
            self._write(together)
            apart = [name for name in apart if name not in together]
        self.watchers = {name: watcher for name, watcher in self.watchers.items() if watcher.rate == rate}
        self._set_rate()
        if self.name == ALL:
            replace_whole(self.folder / LOG, lambda path: pandas.DataFrame(self.rows).to_csv(path, index=False))
        self._write(list(self.watchers))
        SEEN.get()(self.name, self.rows)

    def _write(self, names: list[str]) -> None:
        """The line as these watchers have it, under the name of the first."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        for number, parameter in enumerate(self.model.parameters()):
            tensors |= {f"adam {number}/{key}": value for key, value in self.optimizer.state[parameter].items()}
        for name in names:
            tensors |= {f"kept {name}/{key}": value for key, value in self.kept[name].items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        watchers = {name: vars(self.watchers[name]) for name in names}
        about = {"about": json.dumps({"rows": self.rows, "watchers": watchers})}
        replace_whole(self._path(names[0]), lambda path: save_file(tensors, path, metadata=about))

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.watchers[self.name].rate

    def _path(self, name: str) -> Path:
        return self.folder / f"state-{name}.safetensors"


def lines(
    folder: Path, model: Branch, optimizer: torch.optim.Optimizer, average: AveragedModel | None, rate: float,
    halves: bool,
) -> Iterator[Line]:
    """The training that all watch, then its forks; a fork that an earlier one makes comes later."""
    for name in WATCHERS:
        line = Line(folder, name, model, optimizer, average)
        if line.restore():
            yield line
        elif name == ALL:
            line.begin(rate, halves)
            yield line


def finish(folder: Path, clips: tuple[str, ...], targets: tuple[str, ...], half: np.ndarray) -> None:
    """The best weights in their place, and each clip's prediction by the choice that did not see it; states away."""
    states = sorted(folder.glob("state-*.safetensors"))
    kept: dict[str, dict[str, torch.Tensor]] = {}
    rows = []
    for path in states:
        about, tensors = _read(path)
        kept |= {name: _under(f"kept {name}", tensors) for name in about["watchers"]}
        rows = about["rows"] if ALL in about["watchers"] else rows
    replace_whole(folder / LOG, lambda path: pandas.DataFrame(rows).to_csv(path, index=False))
    if FIRST in kept:
        unseen = np.where((half == 0)[:, None], *(kept[name]["predictions"].numpy() for name in (SECOND, FIRST)))
        table = pandas.DataFrame(unseen, columns=list(targets))
        table.insert(0, "clip", clips)
        table.insert(1, "half", half)
        replace_whole(folder / HALVES, lambda path: table.to_csv(path, index=False))
    weights = {name.removeprefix("weights "): t for name, t in kept[ALL].items() if name.startswith("weights ")}
    replace_whole(folder / WEIGHTS, lambda path: save_file(weights, path))
    for path in states:
        path.unlink()


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file under another name beside ``path``, then put it in its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    os.replace(temporary, path)


def _quietly(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean correlation; half of a small partition may have none, and the table says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.mean(pearson(truth, predicted)))


def _read(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["about"]), {name: file.get_tensor(name) for name in file.keys()}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
