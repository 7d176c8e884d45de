"""How fast a branch is trained: this project's loop beside a plain one, on a set of the paper's size.

The plain loop is the usual one: clips padded to 300 steps in float32, in a ``DataLoader``;
``nn.Conv1d`` and ``nn.TransformerEncoder``; Adam with its defaults. Both have the same first weights and the same
batches. The set is noise, of the paper's 8,072 clips and of resnet18+aus's 546 features, with lengths like the data
set's: 6.9 s on average, 95 % under 11.5 s, cut at 300 steps. A whole epoch is timed, each side in a process of its own,
and the two take turns, because what else a machine does comes and goes.

Prints one table. ``private`` is the process's own memory, without mapped files. On a machine with a GPU the epoch is
measured there too, and what both tables would take (``gpu``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import gpu
import numpy as np
import scipy.stats
import torch
from noise import TARGETS, lengths_like_the_data, opened, packed, sequences
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from emibook.device import native_precision
from emibook.doctor import machine
from emibook.experiments.recipes import RECIPES
from emibook.metrics import mean_pearson
from emibook.models import IntensityRegressor
from emibook.models.transformer import positional_encoding
from emibook.sequences.packed import Feed, Sequences
from emibook.training.loop import Recipe, gradient, predict

CLIPS, WIDTH, BATCH = 8072, 546, 128
SMALL, SMALL_VALID, SMALL_WIDTH, SMALL_STEPS, SIGNAL = 512, 256, 64, 24, 2.0
SEEDS, TURNS = 8, 8
EARLY, COMPARED = 20, 256  # steps after which both loops are compared, and the clips that they then predict


class Plain(nn.Module):
    """The branch built from PyTorch's own modules, with the weights of ours; ``low``: trained in bfloat16."""

    def __init__(self, ours: IntensityRegressor, low: bool = False) -> None:
        super().__init__()
        self.low = low
        widths = [ours.config["in_features"]] + [128] * 5
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], 3, dilation=2**n, padding=2 * 2**n) for n in range(5)
        )
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.ffn = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, TARGETS))
        with torch.no_grad():
            for weight, other in self.pairs(ours):
                weight.copy_(other)

    def pairs(self, ours: IntensityRegressor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every weight beside its counterpart in ours."""
        modules = [*zip(self.convolutions, ours.tcn.convolutions, strict=True), (self.ffn, ours.ffn)]
        for layer, block in zip(self.encoder.layers, ours.transformer.blocks, strict=True):
            attention = layer.self_attn
            yield attention.in_proj_weight, block.attention.project_in.weight
            yield attention.in_proj_bias, block.attention.project_in.bias
            modules += [(attention.out_proj, block.attention.project_out), (layer.norm1, block.attention_norm),
                        (layer.linear1, block.feedforward[0]), (layer.linear2, block.feedforward[2]),
                        (layer.norm2, block.feedforward_norm)]
        for one, other in modules:
            yield from zip(one.parameters(), other.parameters(), strict=True)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        low = self.low and torch.is_grad_enabled()  # as with ours, predictions are float32
        with torch.autocast(values.device.type, torch.bfloat16, enabled=low):
            return self.predict(values, mask).float()

    def predict(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = values.transpose(1, 2)
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden)[..., : values.shape[1]])
        hidden = hidden.transpose(1, 2)
        hidden = self.encoder(hidden + positional_encoding(*hidden.shape[1:]).to(hidden), src_key_padding_mask=~mask)
        return self.ffn((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def padded(part: Sequences) -> TensorDataset:
    """Every clip in float32 in as many steps as the longest has, its mask and its targets."""
    steps = int(part.lengths.max())
    values = torch.zeros(len(part), steps, len(part.names))
    mask = torch.arange(steps) < torch.from_numpy(part.lengths)[:, None]
    for clip in range(len(part)):
        rows = part.rows(part.offsets[clip], part.offsets[clip + 1])
        values[clip, : len(rows)] = torch.from_numpy(rows)
    return TensorDataset(values, mask, torch.from_numpy(part.targets))


def ours_epoch(model: nn.Module, part: Sequences, recipe: Recipe, batches: list[np.ndarray], device: str) -> Iterator:
    """This project's loop; each item is one more batch trained on."""
    feed, model = Feed(part, device), model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    for clips in batches:
        optimizer.zero_grad()
        gradient(model, feed, clips, recipe)
        optimizer.step()
        yield


def plain_epoch(model: nn.Module, part: Sequences, recipe: Recipe, batches: list[np.ndarray], device: str) -> Iterator:
    """The same batches through the plain loop."""
    model = model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    for values, mask, target in DataLoader(padded(part), batch_sampler=[clips.tolist() for clips in batches]):
        loss = functional.mse_loss(model(values.to(device), mask.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


EPOCHS = {"ours": ours_epoch, "plain": plain_epoch}


def take_turns(side: str, path: Path, device: str) -> None:
    """Train one epoch in turns; standard input has the number of batches of each. Prints the seconds of each turn, and
    at the end the private memory in GiB. The warm-up before the first turn is one batch, and on a GPU an epoch."""
    torch.manual_seed(0)
    part = opened(path)
    ours = IntensityRegressor(len(part.names))
    model = ours if side == "ours" else Plain(ours)
    order = np.random.default_rng(2).permutation(len(part))
    all_batches = np.split(order, np.arange(BATCH, len(order), BATCH))
    warm = all_batches if device == "cuda" else all_batches[:1]
    epoch = EPOCHS[side](model, part, RECIPES["paper"], [*warm, *all_batches], device)
    for _ in warm:
        next(epoch)
    gpu.finished(device)
    for batches in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(batches)):
            next(epoch)
        gpu.finished(device)
        print(time.perf_counter() - started, flush=True)
    print(private())


def private() -> float:
    """GiB of this process's anonymous memory; NaN where the system does not report it."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():  # not Linux
        return float("nan")
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.read_text().splitlines()[1:]}
    return sizes["Anonymous"] / 2**20


def side_by_side(path: Path, clips: int, device: str) -> dict[str, tuple[list[float], float]]:
    """The seconds of each turn and the private memory of either loop, in processes of their own that take turns: what
    else the machine does then slows both."""
    batches = np.diff(np.linspace(0, -(-clips // BATCH), TURNS + 1).round().astype(int))
    with ExitStack() as stack:
        loops = {}
        for side in ("plain", "ours"):
            command = [sys.executable, __file__, "--side", side, "--set", str(path), "--device", device]
            loops[side] = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                               text=True, bufsize=1))
        seconds: dict[str, list[float]] = {side: [] for side in loops}
        for number in batches:
            for side, loop in loops.items():
                loop.stdin.write(f"{number}\n")
                seconds[side].append(float(loop.stdout.readline()))
        ends = {side: loop.communicate()[0] for side, loop in loops.items()}
    return {side: (seconds[side], float(ends[side])) for side in loops}


def planted(clips: int, seed: int) -> Sequences:
    """Clips of 64 features whose mean over time carries the targets."""
    rng = np.random.default_rng(seed)
    lengths = lengths_like_the_data(clips, rng, SMALL_STEPS)
    targets = rng.random((clips, TARGETS)).astype(np.float32)
    values = rng.standard_normal((lengths.sum(), SMALL_WIDTH), np.float32)
    values[:, :TARGETS] += SIGNAL * np.repeat(targets, lengths, axis=0)
    return sequences(values.astype(np.float16), np.concatenate([[0], np.cumsum(lengths)]), targets)


@torch.no_grad()
def plain_predictions(model: nn.Module, part: Sequences) -> np.ndarray:
    # In training mode, which changes nothing without dropout, because the encoder's other path is for evaluation only.
    batches = DataLoader(padded(part), batch_size=BATCH)
    return torch.cat([model(values, mask) for values, mask, _ in batches]).numpy()


def same_steps(path: Path) -> tuple[float, float]:
    """After 20 steps of the paper's recipe at the paper's size, from the same weights and with the same batches: the
    cosine of both loops' predictions for other clips, as they are and as deviations from each target's mean."""
    torch.manual_seed(0)
    part = opened(path)
    ours = IntensityRegressor(len(part.names))
    order = np.random.default_rng(2).permutation(np.arange(COMPARED, len(part)))[: EARLY * BATCH]
    compared = sequences(part.values[: part.offsets[COMPARED]], part.offsets[: COMPARED + 1], part.targets[:COMPARED])
    models, predictions = {"ours": ours, "plain": Plain(ours)}, []
    for side, predicted_by in (("ours", predict), ("plain", plain_predictions)):
        for _ in EPOCHS[side](models[side], part, RECIPES["paper"], np.array_split(order, EARLY), "cpu"):
            pass
        predictions.append(predicted_by(models[side], compared).astype(float))
    return cosine(*predictions), cosine(*(predicted - predicted.mean(axis=0) for predicted in predictions))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def gradient_difference(precision: str) -> float:
    """The difference of both loops' gradients on the planted set's first batch, relative to their norm."""
    torch.manual_seed(0)
    part, clips = planted(SMALL, 1), np.arange(BATCH // 4)
    ours = IntensityRegressor(SMALL_WIDTH)
    plain = Plain(ours)
    gradient(ours, Feed(part, "cpu"), clips, Recipe("benchmark", 1e-3, len(clips), 1, precision=precision))
    values, mask, target = next(iter(DataLoader(padded(part), batch_sampler=[clips.tolist()])))
    functional.mse_loss(plain(values, mask), target).backward()
    pairs = list(plain.pairs(ours))
    difference = torch.cat([(one.grad - other.grad).flatten() for one, other in pairs])
    return float(difference.norm() / torch.cat([one.grad.flatten() for one, _ in pairs]).norm())


def alike() -> tuple[list[float], dict[str, list[float]]]:
    """For each seed, at a learning rate 33 times the paper's: cosine of both loops' predictions after 20 steps, and the
    correlation after 3 epochs of the plain loop, of ours, of ours in float32, and where the hardware has bfloat16 of
    the plain loop in it, so that the precision's effect can be told from the loop's."""
    train, valid = planted(SMALL, 1), planted(SMALL_VALID, 2)
    recipe = Recipe("benchmark", learning_rate=1e-3, batch=BATCH // 4, epochs=3, precision="native")
    ways = {"plain": recipe, "ours": recipe, "ours in float32": replace(recipe, precision="float32")}
    if native_precision("cpu") == "bfloat16":
        ways["plain in bfloat16"] = recipe
    scores: dict[str, list[float]] = {way: [] for way in ways}
    cosines = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(SMALL) for _ in range(recipe.epochs)]
        batches = [clips for order in orders for clips in np.split(order, SMALL // recipe.batch)]
        early = {}
        for way, chosen in ways.items():
            torch.manual_seed(seed)
            model, epoch, predicted_by = IntensityRegressor(SMALL_WIDTH), ours_epoch, predict
            if way.startswith("plain"):
                model, epoch, predicted_by = Plain(model, way != "plain"), plain_epoch, plain_predictions
            for number, _ in enumerate(epoch(model, train, chosen, batches, "cpu")):
                if number == EARLY - 1:
                    early[way] = predicted_by(model, valid).astype(float)
            scores[way].append(mean_pearson(valid.targets, predicted_by(model, valid)))
        cosines.append(cosine(early["ours"], early["plain"]))
    return cosines, scores


def paired(ours: list[float], plain: list[float]) -> tuple[float, float, float]:
    """The mean over seeds of the difference between two trainings of one seed, and its interval (95 %, Student's t)."""
    differences = np.subtract(ours, plain)
    low, high = scipy.stats.ttest_1samp(differences, 0).confidence_interval()
    return float(differences.mean()), float(low), float(high)


def on_gpu(path: Path, clips: int) -> Iterator[str]:
    """The lines on an epoch and on both tables on a GPU."""
    if not torch.cuda.is_available():
        yield from gpu.NOT_MEASURED
        return
    measured = side_by_side(path, clips, "cuda")
    ours, plain = (sum(measured[side][0]) for side in ("ours", "plain"))
    yield f"GPU: ours {ours:.2f} s an epoch, plain {plain:.2f} s, {plain / ours:.1f} times"
    yield from gpu.tables_report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--side", choices=EPOCHS, help=argparse.SUPPRESS)
    parser.add_argument("--set", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        take_turns(options.side, options.set, options.device)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "train.safetensors"
        packed(path, options.clips, WIDTH)
        print(f"{options.clips} clips, {WIDTH} features, a whole epoch of {-(-options.clips // BATCH)} batches of at "
              f"most {BATCH}; {torch.get_num_threads()} threads; ours in {RECIPES['paper'].precision} precision")
        print(f"{'loop':<8} {'s a batch':>10} {'s an epoch':>11} {'times':>6} {'private GiB':>12} {'of it':>6}")
        measured = side_by_side(path, options.clips, "cpu")
        plain, memory = measured["plain"]
        for side, (seconds, held) in measured.items():
            print(f"{side:<8} {sum(seconds) * BATCH / options.clips:>10.2f} {sum(seconds):>11.1f} "
                  f"{sum(plain) / sum(seconds):>6.2f} {held:>12.2f} {held / memory:>6.2f}")
        times = np.divide(plain, measured["ours"][0])
        print(f"both in turns, {TURNS} each; times by turn: {' '.join(f'{ratio:.2f}' for ratio in times)}")
        for line in on_gpu(path, options.clips):
            print(line)
        whole, deviations = same_steps(path)
    print(f"same first weights and batches, after {EARLY} steps of the paper's recipe: cosine of the predictions "
          f"{whole:.5f}, of their deviations from each target's mean {deviations:.5f}")
    full, native = gradient_difference("float32"), gradient_difference("native")
    print(f"a batch of {SMALL_WIDTH} features: gradients differ by {full:.0e} of their norm with ours in float32, by "
          f"{native:.0e} in native precision")
    cosines, scores = alike()
    print(f"{SMALL_WIDTH} features at learning rate 1e-3, {SEEDS} seeds: cosine of the predictions after {EARLY} steps "
          f"{np.median(cosines):.5f} (median), {min(cosines):.5f} (least)")
    deviation = np.std(scores["plain"], ddof=1)
    print(f"3 epochs on {SMALL_WIDTH} features, {SEEDS} seeds, mean correlation: plain {np.mean(scores['plain']):.3f}, "
          f"standard deviation over seeds {deviation:.3f}")
    plain_scores = scores.pop("plain")
    for way, ours in scores.items():
        difference, low, high = paired(ours, plain_scores)
        print(f"{way}: {np.mean(ours):.3f}, minus plain {difference:+.3f} [{low:+.3f}, {high:+.3f}] (mean over seeds, "
              f"95 %), by seed {' '.join(f'{one:+.3f}' for one in np.subtract(ours, plain_scores))}")


if __name__ == "__main__":
    main()
