"""The training loop: one branch, one seed.

Source: paper section 3.6 (mean squared error), section 4.2 (Adam; the rate is halved where the validation metric has
not improved for 10 epochs). Rate and epoch are chosen on the validation partition that is then reported, as in the
paper: its validation scores are therefore optimistic.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional
from tqdm.auto import tqdm

from emibook import InputError
from emibook.dataset import Sequences
from emibook.metrics import pearson
from emibook.models import Branch, describe, rebuild

WEIGHTS, LOG, ABOUT, STATE = "weights.safetensors", "log.csv", "training.json", "state.safetensors"
FEWEST_CLIPS = 3  # two clips correlate by plus or minus one whatever they are
VALID_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """How a branch is trained. ``rate`` is Adam's first; ``patience`` epochs without a rise halve it.

    ``threads``: processor threads, so that the sums come out the same on any number of cores; None takes what is there.
    """

    name: str
    rate: float
    batch: int
    epochs: int
    patience: int = 10
    threads: int | None = None


def train(
    train: Sequences,
    valid: Sequences,
    recipe: Recipe,
    seed: int,
    folder: Path | str,
    *,
    model: Mapping | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch and keep the weights of the epoch with the best mean Pearson on ``valid``.

    ``folder`` gets ``weights.safetensors``, ``training.json`` (the recipe, the seed and the numbers that build the
    model) and ``log.csv`` (a row an epoch). Killed and called again, the training goes on after its last whole epoch
    and ends with the same numbers; a finished one is left as it is. Clips without a step are not trained on.

    Args:
        model: kind and options of the model (``models.KINDS``); by default the paper's visual branch.
        device: where to compute; by default a GPU where there is one.

    Raises:
        InputError: too few clips, a clip without a label, a label that never varies, nothing to train on, a loss that
            is no longer finite, or a folder that holds a training with other settings.
    """
    require_trainable(train, valid)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _surroundings(recipe.threads, seed):
        network = rebuild(
            {"kind": "regressor", **(model or {}), "in_features": len(train.names), "targets": len(train.target_names)}
        )
        _claim(folder, network, train, valid, recipe, seed)
        if (folder / WEIGHTS).is_file():
            return folder
        network.standardise(*(torch.from_numpy(numbers) for numbers in statistics(train)))
        network.to(device)
        state = _Progress(folder, network, torch.optim.Adam(network.parameters(), lr=recipe.rate))
        _loop(state, train, valid, recipe, seed, device, progress)
    return folder


def _loop(
    state: _Progress, train: Sequences, valid: Sequences, recipe: Recipe, seed: int, device: str, progress: bool
) -> None:
    model, optimizer = state.model, state.optimizer
    trained_on = np.flatnonzero(train.present)
    epochs = range(state.restore(), recipe.epochs)
    label = f"{train.features}, seed {seed}"
    for epoch in tqdm(epochs, desc=label, initial=epochs.start, total=recipe.epochs, disable=not progress):
        started = time.perf_counter()
        # Everything random in an epoch comes from (seed, epoch), so an epoch is the same whatever came before it.
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(trained_on)
        torch.manual_seed(int(rng.integers(2**63)))
        model.train()
        total = 0.0
        for first in range(0, len(order), recipe.batch):
            clips = order[first : first + recipe.batch]  # the last batch may be smaller; no clip is dropped
            values, mask = (torch.from_numpy(array).to(device) for array in train.batch(clips))
            target = torch.from_numpy(train.targets[clips]).to(device)
            loss = functional.mse_loss(model(values, mask), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(clips)
        if not math.isfinite(total):
            raise InputError(f"{label}: the loss is not finite in epoch {epoch + 1}; lower the rate {recipe.rate}")
        rho = pearson(valid.targets, predict(model, valid, device), names=valid.target_names)
        row = {
            "epoch": epoch + 1,
            "loss": total / len(order),
            "rate": optimizer.param_groups[0]["lr"],
            "mean_pearson": float(np.mean(rho)),
            **{f"pearson {name}": float(value) for name, value in zip(valid.target_names, rho, strict=True)},
            "seconds": round(time.perf_counter() - started, 4),
        }
        state.finish_epoch(row, recipe.patience)
    state.finish()


@torch.no_grad()
def predict(model: Branch, sequences: Sequences, device: str = "cpu") -> np.ndarray:
    """(clip, target) float32, every clip once and in its order; a clip without a step gets the training mean."""
    model.eval()
    order = np.argsort(sequences.lengths, kind="stable")  # clips of like length go together: less is padded
    predictions = np.empty(sequences.targets.shape, np.float32)
    for first in range(0, len(order), VALID_BATCH):
        clips = order[first : first + VALID_BATCH]
        values, mask = (torch.from_numpy(array).to(device) for array in sequences.batch(clips))
        predictions[clips] = model(values, mask).cpu().numpy()
    return predictions


def load_model(folder: Path | str) -> Branch:
    """The trained model of a folder that ``train`` wrote. Raises ``InputError`` where it cannot be rebuilt."""
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text())
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return rebuild(about["model"], {name: file.get_tensor(name) for name in file.keys()}).eval()
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no finished run: no {Path(error.filename or WEIGHTS).name}") from None
    except Exception as error:  # a header, a key, a shape: whatever it is, the file is not what was written
        raise InputError(f"{folder} cannot be read as a run ({str(error).splitlines()[0]}); train it again") from None


def statistics(train: Sequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale of each feature over all steps, mean of each target over all clips, of the training partition.

    The scale is the standard deviation, or 1 for a feature that is constant but for rounding.
    """
    count, total = len(train.values), 0.0
    chunks = [slice(first, first + 65536) for first in range(0, count, 65536)]  # not all of it in float64 at once
    total = sum(train.values[chunk].sum(axis=0, dtype=np.float64) for chunk in chunks)
    mean = total / count
    squares = sum(np.square(train.values[chunk] - mean).sum(axis=0) for chunk in chunks)
    scale = np.sqrt(squares / count)
    scale[scale <= 1e-6 * np.abs(mean)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32), train.targets.mean(axis=0, dtype=np.float64)


def require_trainable(train: Sequences, valid: Sequences) -> None:
    """Raise ``InputError`` where these partitions cannot be trained and scored on."""
    if train.names != valid.names or train.target_names != valid.target_names:
        raise InputError(f"features {train.features}: train and valid have other columns; extract them again")
    for partition, sequences in (("train", train), ("valid", valid)):
        require_labels(partition, sequences.clips, sequences.targets, sequences.target_names)
        if not sequences.present.any():
            raise InputError(f"features {train.features}: all {len(sequences)} {partition} clips are empty")


def require_labels(
    partition: str, clips: tuple[str, ...] | list[str], targets: np.ndarray, names: tuple[str, ...]
) -> None:
    """Raise ``InputError`` where no correlation with these labels, (clip, target), can be computed."""
    if not names:
        raise InputError(f"{partition}: the corpus has no labels; give it a CSV with a column a target")
    if len(clips) < FEWEST_CLIPS:
        raise InputError(f"{partition}: {len(clips)} clips are too few to correlate; {FEWEST_CLIPS} are the least")
    unlabelled = np.flatnonzero(~np.isfinite(targets).all(axis=1))
    if len(unlabelled):
        first = clips[unlabelled[0]]
        raise InputError(f"{partition}: {len(unlabelled)} of {len(clips)} clips lack a label (first {first}); add them")
    for name, column in zip(names, targets.T, strict=True):
        if column.min() == column.max():
            raise InputError(f"{partition}: {name} is {column[0]:g} in all {len(clips)} clips; "
                             "a constant label has no correlation")


class _Progress:
    """A training on disk: after each epoch one file holds all that the next one needs, and replaces the one before."""

    def __init__(self, folder: Path, model: Branch, optimizer: torch.optim.Adam) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self.rows: list[dict] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_score, self.waited = -math.inf, 0

    def restore(self) -> int:
        """Take up what an earlier call left; returns the number of whole epochs there are."""
        path = self.folder / STATE
        if not path.is_file():
            return 0
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        self.rows, self.best_score, self.waited = about["rows"], about["best_score"], about["waited"]
        self.model.load_state_dict(_under("model", tensors))
        self.best = _under("best", tensors)
        for number, parameter in enumerate(self.model.parameters()):
            moments = _under(f"adam {number}", tensors)
            self.optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
            }
        self.optimizer.param_groups[0]["lr"] = about["rate"]
        return len(self.rows)

    def finish_epoch(self, row: dict, patience: int) -> None:
        """Keep the weights where they are the best so far, halve the rate where it is time, and write it all down."""
        self.rows.append(row)
        # An epoch without a correlation (a constant prediction) is no rise; the first one is kept until there is one.
        if row["mean_pearson"] > self.best_score or not self.best:
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        if row["mean_pearson"] > self.best_score:
            self.best_score, self.waited = row["mean_pearson"], 0
        else:
            self.waited += 1
            if self.waited == patience:
                self.optimizer.param_groups[0]["lr"] /= 2
                self.waited = 0
        self._write_log()
        self._write_state()

    def finish(self) -> None:
        """The best weights in their place, then away with the state."""
        self._write_log()
        replace_whole(self.folder / WEIGHTS, lambda path: save_file(self.best, path))
        (self.folder / STATE).unlink(missing_ok=True)

    def _write_state(self) -> None:
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for number, parameter in enumerate(self.model.parameters()):
            moments = self.optimizer.state[parameter]
            tensors |= {f"adam {number}/{key}": value for key, value in moments.items()}
        about = {
            "rows": self.rows,
            "best_score": self.best_score,
            "waited": self.waited,
            "rate": self.optimizer.param_groups[0]["lr"],
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        replace_whole(self.folder / STATE, lambda path: save_file(tensors, path, metadata={"about": json.dumps(about)}))

    def _write_log(self) -> None:
        replace_whole(self.folder / LOG, lambda path: pandas.DataFrame(self.rows).to_csv(path, index=False))


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def _claim(
    folder: Path, model: Branch, train: Sequences, valid: Sequences, recipe: Recipe, seed: int
) -> None:
    """Write what is trained here, or check that it is what an earlier call began."""
    digest = sha256()
    for part in (train, valid):
        digest.update(json.dumps([part.features, part.names, part.clips]).encode())
        digest.update(part.offsets.tobytes() + part.targets.tobytes())
    about = {"model": describe(model), "recipe": asdict(recipe), "seed": seed, "data": digest.hexdigest()[:16]}
    path = folder / ABOUT
    if not path.is_file():
        replace_whole(path, lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
    elif json.loads(path.read_text()) != about:
        raise InputError(f"{folder} holds a training of other settings or clips; give another folder or delete it")


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file under another name beside ``path``, then put it in its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    os.replace(temporary, path)


@contextmanager
def _surroundings(threads: int | None, seed: int) -> Iterator[None]:
    """The recipe's threads, and torch's random numbers from the seed; both as they were afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.set_num_threads(threads or before)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(before)
