"""The training loop: one branch, one seed.

Source: paper section 3.6 (mean squared error), section 4.2 (Adam; the rate is halved where the validation metric has
not improved for 10 epochs). Rate and epoch are chosen on the validation partition that is then reported, as in the
paper: its validation scores are therefore optimistic. Beside them stands what a choice made on one half of that
partition gives on the other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from tqdm.auto import tqdm

from emibook import InputError
from emibook.device import native_precision, on_device, seeded
from emibook.metrics import pearson
from emibook.models import Branch, describe, rebuild
from emibook.sequences.packed import Feed, Sequences
from emibook.training.checkpoint import ALL, HALVES, LOG, WEIGHTS, Line, finish, lines, replace_whole
from emibook.training.losses import LOSSES, MICROBATCHABLE
from emibook.training.optimizer import adam, running_average

__all__ = ["HALVES", "LOG", "Recipe", "load_model", "predict", "replace_whole", "train"]

ABOUT = "training.json"
FEWEST_CLIPS = 3  # two clips correlate by plus or minus one whatever they are
# So many clips of a batch go through the model together, and on a CPU, which then keeps all of it in its cache, in at
# least so many parts.
PART_CLIPS, PARTS = {"cpu": 16, "cuda": 512}, {"cpu": 4, "cuda": 1}
MULTIPLE = 16  # of steps that a part has: a processor's kernels are compiled anew for each shape, and are kept for few
STEPS_AT_ONCE = {"cpu": 8 * 300, "cuda": 2048 * 300}  # in predictions, padding counted
PRECISIONS = ("float32", "bfloat16", "native")


@dataclass(frozen=True)
class Recipe:
    """How a branch is trained. ``learning_rate`` is Adam's first; ``patience`` epochs without a rise halve it.

    ``threads``: processor threads, so that the sums come out the same on any number of cores; None takes what is there.
    ``loss``: a key of ``LOSSES``. ``precision``: of the matrix products in training, ``float32``, ``bfloat16``, or
    ``native``, which is bfloat16 where the hardware has it; weights, loss and predictions are float32 in any.
    ``standardise``: whether features are put on one scale, by the training partition. ``decay``: the weights of the
    matrix products, not the biases, shrink by ``learning_rate`` times so much in each step (Loshchilov and Hutter
    2019, arXiv 1711.05101). ``average``: predictions are made with a running average of the weights, of which so much
    is kept in each step, less in the first ones; 0 is the weights themselves.
    """

    name: str
    learning_rate: float
    batch: int
    epochs: int
    patience: int = 10
    threads: int | None = None
    loss: str = "mse"
    precision: str = "float32"
    standardise: bool = True
    decay: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        for option, choices in {"loss": tuple(LOSSES), "precision": PRECISIONS}.items():
            if getattr(self, option) not in choices:
                raise InputError(f"{option} {getattr(self, option)!r}: choose one of {', '.join(choices)}")
        for option in ("learning_rate", "batch", "epochs", "patience"):
            if not getattr(self, option) > 0:
                raise InputError(f"{option} {getattr(self, option)}: has to be above 0")
        if not (self.decay >= 0 and self.decay * self.learning_rate < 1):
            raise InputError(f"decay {self.decay}: has to be 0 or more, and less than 1 / learning_rate")
        if not 0 <= self.average < 1:
            raise InputError(f"average {self.average}: has to be 0 or more, and below 1")


def train(
    train: Sequences,
    valid: Sequences,
    recipe: Recipe,
    seed: int,
    folder: Path | str,
    *,
    model: Mapping | None = None,
    halves: np.ndarray | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch and keep the weights of the epoch with the best mean Pearson on ``valid``.

    ``folder`` gets ``weights.safetensors``, ``training.json`` (the recipe, the seed and the numbers that build the
    model) and ``log.csv`` (a row an epoch). Killed and called again, the training goes on after its last whole epoch
    and ends with the same numbers; a finished one is left as it is. Clips without a step are not trained on.

    Args:
        model: kind and options of the model (``models.KINDS``); by default the paper's visual branch.
        halves: (clip,) 0 or 1, the half that each validation clip belongs to. With it ``folder`` gets ``halves.csv``:
            each clip predicted where rate and epoch were chosen by the other half alone. This costs further epochs
            only from where the halves would go on with another rate.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.

    Raises:
        InputError: too few clips, a clip without a label, a label that never varies, nothing to train on, a feature
            that is no number, a loss that is no longer finite, bfloat16 where the hardware has none, or a folder that
            holds a training with other settings.
    """
    require_trainable(train, valid)
    device = on_device(device)
    native = native_precision(device)
    if recipe.precision == "bfloat16" != native:
        raise InputError(f"device {device} has no bfloat16 of its own, so it would be slow; take float32 or native")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    half = np.full(len(valid), -1) if halves is None else np.asarray(halves)
    with _surroundings(recipe.threads, seed, device):
        network = rebuild(
            {"kind": "regressor", **(model or {}), "in_features": len(train.names), "targets": len(train.target_names)}
        )
        _claim(folder, network, train, valid, recipe, seed, half)
        if (folder / WEIGHTS).is_file():
            return folder
        mean, scale, target_mean = (torch.from_numpy(numbers) for numbers in statistics(train, device))
        if not recipe.standardise:
            mean, scale = torch.zeros_like(mean), torch.ones_like(scale)
        network.standardise(mean, scale, target_mean)
        network.to(device)
        optimizer = adam(network, recipe.learning_rate, recipe.decay)
        average = running_average(network, recipe.average)
        feeds = Feed(train, device), Feed(valid, device)
        for line in lines(folder, network, optimizer, average, recipe.learning_rate, halves is not None):
            _follow(line, feeds, train, valid, recipe, seed, half, progress)
        finish(folder, valid.clips, valid.target_names, half)
    return folder


def _follow(
    line: Line, feeds: tuple[Feed, Feed], train: Sequences, valid: Sequences, recipe: Recipe, seed: int,
    half: np.ndarray, progress: bool,
) -> None:
    """Take one line of the training to its last epoch."""
    model, optimizer, device = line.model, line.optimizer, feeds[0].device.type
    trained_on = np.flatnonzero(train.present)
    label = f"{train.features}, seed {seed}" + ("" if line.name == ALL else f", {line.name} half")
    epochs = range(len(line.rows), recipe.epochs)
    for epoch in tqdm(epochs, desc=label, initial=epochs.start, total=recipe.epochs, disable=not progress):
        started = time.perf_counter()
        # Everything random in an epoch comes from (seed, epoch), so an epoch is the same whatever came before it.
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(trained_on)
        torch.manual_seed(int(rng.integers(2**63)))
        model.train()
        total = torch.zeros((), device=device)
        for first in range(0, len(order), recipe.batch):
            clips = order[first : first + recipe.batch]  # the last batch may be smaller; no clip is dropped
            optimizer.zero_grad()
            total += gradient(model, feeds[0], clips, recipe) * len(clips)
            optimizer.step()
            if line.average is not None:
                line.average.update_parameters(model)
        loss = total.item() / len(order)
        if not math.isfinite(loss):
            raise _not_finite(train, f"{label}: the loss is not finite in epoch {epoch + 1}", recipe)
        predicted = predict(line.scored, valid, device, feed=feeds[1])
        if not np.isfinite(predicted).all():
            raise _not_finite(valid, f"{label}: a prediction is not finite in epoch {epoch + 1}", recipe)
        rho = pearson(valid.targets, predicted, names=valid.target_names)
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            "learning_rate": optimizer.param_groups[0]["lr"],
            "mean_pearson": float(np.mean(rho)),
            **{f"pearson {name}": float(value) for name, value in zip(valid.target_names, rho, strict=True)},
            "seconds": round(time.perf_counter() - started, 4),
        }
        line.finish_epoch(row, valid.targets, predicted, half, recipe.patience)


def _not_finite(sequences: Sequences, told: str, recipe: Recipe) -> InputError:
    """What to say of numbers that are none any more: that a feature was none, or else that the steps are too large."""
    found = sequences.first_nonfinite()
    if found:
        return InputError(f"{found}; make the set again")
    return InputError(f"{told}; lower the learning rate {recipe.learning_rate}")


def gradient(model: Branch, feed: Feed, clips: np.ndarray, recipe: Recipe) -> Tensor:
    """Add the gradient of the loss over ``clips`` to the model's parameters; the loss, on the device.

    Clips of like length go through the model together, so that little is padded. The gradient is that of the whole
    batch at once, but for the order in which its parts are added up.
    """
    device = feed.device.type
    low = {"float32": False, "bfloat16": True}.get(recipe.precision, native_precision(device) == "bfloat16")
    count = min(len(clips), max(-(-len(clips) // PART_CLIPS[device]), PARTS[device]))
    by_length = clips[np.argsort(-feed.lengths[clips], kind="stable")]
    parts = np.array_split(by_length, count)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss_of = LOSSES[recipe.loss]

    def forward(part: np.ndarray) -> tuple[Tensor, Tensor]:
        values, mask = feed.batch(part, MULTIPLE)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            output = model(values, mask)
        return output.float(), feed.targets[torch.from_numpy(part).to(feed.device)]

    def backward(loss: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    def whole(part: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:  # only this part's graph is in memory
        return backward(loss_of(*forward(part)) * (len(part) / len(clips)))

    random = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    total = torch.zeros((), device=feed.device)
    with _side_by_side(device, recipe.loss in MICROBATCHABLE and not random) as each:
        if recipe.loss in MICROBATCHABLE:
            made = each(whole, parts)
        else:
            made = [backward(loss_of(*map(torch.cat, zip(*map(forward, parts), strict=True))))]
        for loss, gradients in made:  # in the order of the parts, so that the sums are always the same
            total += loss
            for parameter, part in zip(parameters, gradients, strict=True):
                if part is not None:
                    if parameter.grad is None:
                        # In the parameter's own layout, which the fused optimizer takes for granted.
                        parameter.grad = torch.zeros_like(parameter)
                    parameter.grad += part
    return total


@contextmanager
def _side_by_side(device: str, wanted: bool = True) -> Iterator[Callable]:
    """``map`` over parts of a batch: on a processor as many at once as it has threads, each with one.

    The products of so small a model are too small for two threads to share. What draws random numbers has to go one
    after the other.
    """
    threads = torch.get_num_threads()
    if device != "cpu" or threads == 1 or not wanted:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def predict(model: Branch, sequences: Sequences, device: str = "cpu", *, feed: Feed | None = None) -> np.ndarray:
    """(clip, target) float32, every clip once and in its order; a clip without a step gets the training mean.

    ``feed``: that of ``sequences``, where there is one already.
    """
    model.eval()
    feed = feed or Feed(sequences, device)
    lengths = sequences.lengths
    order = np.argsort(-lengths, kind="stable")  # clips of like length go together: less is padded
    parts = []
    while len(order):
        count = max(1, STEPS_AT_ONCE[feed.device.type] // max(1, lengths[order[0]]))
        parts.append(order[:count])
        order = order[count:]

    @torch.no_grad()
    def asked(clips: np.ndarray) -> np.ndarray:
        return model(*feed.batch(clips)).cpu().numpy()

    predictions = np.empty(sequences.targets.shape, np.float32)
    with _side_by_side(feed.device.type) as each:
        for clips, predicted in zip(parts, each(asked, parts), strict=True):
            predictions[clips] = predicted
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


def statistics(train: Sequences, device: str = "cpu") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale of each feature over all steps, mean of each target over all clips, of the training partition.

    The scale is the standard deviation, or 1 for a feature that is constant but for rounding.
    """

    def chunks() -> Iterator[Tensor]:  # not all of it in float64 at once
        for chunk in train.tensor().split(8192):
            chunk = chunk.to(device).double()
            yield chunk[~chunk[:, 0].isnan()]  # without the gaps

    count = sum(len(chunk) for chunk in chunks())
    mean = sum(chunk.sum(dim=0) for chunk in chunks()) / count
    scale = (sum((chunk - mean).square().sum(dim=0) for chunk in chunks()) / count).sqrt()
    scale[scale <= 1e-6 * mean.abs()] = 1.0
    numbers = (each.float().cpu().numpy() for each in (mean, scale))
    return *numbers, train.targets.mean(axis=0, dtype=np.float64)


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


def _claim(
    folder: Path, model: Branch, train: Sequences, valid: Sequences, recipe: Recipe, seed: int, half: np.ndarray
) -> None:
    """Write what is trained here, or check that it is what an earlier call began."""
    digest = sha256(np.asarray(half, np.int8).tobytes())
    for part in (train, valid):
        digest.update(json.dumps([part.features, part.names, part.clips]).encode())
        digest.update(part.offsets.tobytes() + part.targets.tobytes())
    about = {"model": describe(model), "recipe": asdict(recipe), "seed": seed, "data": digest.hexdigest()[:16]}
    path = folder / ABOUT
    if not path.is_file():
        replace_whole(path, lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged; delete {folder} and train again") from None
    if before != about:
        raise InputError(f"{folder} holds a training of other settings or clips; give another folder or delete it")


@contextmanager
def _surroundings(threads: int | None, seed: int, device: str) -> Iterator[None]:
    """The recipe's threads, and torch's random numbers from the seed; both as they were afterwards."""
    before = torch.get_num_threads()
    with seeded(seed, device):
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)
