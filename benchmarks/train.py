"""How fast a branch is trained: this project's loop beside a plain one, on a set of the paper's size.

The plain loop is what anybody would write first: clips padded to 300 steps in float32, in a ``DataLoader``;
``nn.Conv1d`` and ``nn.TransformerEncoder``; Adam as it comes. Both have the same first weights and take the same
batches. The set is noise, of the paper's 8,072 clips and of resnet18+aus's 546 features, with lengths like the data
set's: 6.9 s on average, 95 % under 11.5 s, cut at 300 steps. Only some batches of an epoch are made, and the epoch is
reckoned from them.

Prints one table. ``private`` is what the process holds for itself, mapped pages left out. On a machine with a GPU the
epoch is measured there too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from emibook.doctor import machine
from emibook.experiments import RECIPES
from emibook.metrics import mean_pearson
from emibook.models import IntensityRegressor
from emibook.models.transformer import positions
from emibook.packing import Feed, Sequences, read, write
from emibook.training import Recipe, gradient, predict

CLIPS, WIDTH, STEPS, TARGETS, BATCH = 8072, 546, 300, 6, 128
BLOCK = 20_000  # steps of noise that are drawn; the set repeats them
BATCHES = 3  # of the 64 of an epoch
SMALL, SMALL_VALID, SMALL_WIDTH, SMALL_STEPS, SIGNAL = 512, 256, 64, 24, 2.0
SEEDS = 3
EARLY, ASKED = 20, 256  # steps after which both loops are compared, and the clips that they are asked about


class Plain(nn.Module):
    """The branch as PyTorch's own modules make it; its weights can be those of ours."""

    def __init__(self, ours: IntensityRegressor) -> None:
        super().__init__()
        widths = [ours.config["in_features"]] + [128] * 5
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], 3, dilation=2**n, padding=2 * 2**n) for n in range(5)
        )
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.ffn = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, TARGETS))
        for convolution, other in zip(self.convolutions, ours.tcn.convolutions, strict=True):
            convolution.load_state_dict(other.state_dict())
        for layer, block in zip(self.encoder.layers, ours.transformer.blocks, strict=True):
            layer.self_attn.in_proj_weight.data.copy_(block.attention.project_in.weight)
            layer.self_attn.in_proj_bias.data.copy_(block.attention.project_in.bias)
            layer.self_attn.out_proj.load_state_dict(block.attention.project_out.state_dict())
            layer.norm1.load_state_dict(block.attention_norm.state_dict())
            layer.linear1.load_state_dict(block.feedforward[0].state_dict())
            layer.linear2.load_state_dict(block.feedforward[2].state_dict())
            layer.norm2.load_state_dict(block.feedforward_norm.state_dict())
        self.ffn.load_state_dict(ours.ffn.state_dict())

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = values.transpose(1, 2)
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden)[..., : values.shape[1]])
        hidden = hidden.transpose(1, 2)
        hidden = self.encoder(hidden + positions(*hidden.shape[1:]).to(hidden), src_key_padding_mask=~mask)
        return self.ffn((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def lengths_like_the_data(clips: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """(clip,) steps: 6.9 s of mean length and 11.5 s at the 95th percentile are a gamma distribution of shape 7."""
    return np.clip(rng.gamma(7, mean / 7, clips).round().astype(int), 2, STEPS)


def made(folder: Path, clips: int) -> Path:
    """The set of noise, packed."""
    rng = np.random.default_rng(0)
    lengths = lengths_like_the_data(clips, 6.92 * 30, rng)
    noise = rng.standard_normal((BLOCK, WIDTH), np.float32)
    tables = (noise[start : start + length] for start, length in
              zip(rng.integers(0, BLOCK - STEPS, clips), lengths, strict=True))
    write(folder / "train.safetensors", tables, clips, {})
    return folder / "train.safetensors"


def opened(path: Path) -> Sequences:
    values, offsets, _ = read(path)
    return sequences(values, offsets, np.random.default_rng(1).random((len(offsets) - 1, TARGETS)).astype(np.float32))


def sequences(values: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> Sequences:
    clips = len(targets)
    return Sequences("noise", tuple(f"f{n}" for n in range(values.shape[1])), values, offsets, targets,
                     tuple(f"t{n}" for n in range(TARGETS)), tuple(f"{n:05}" for n in range(clips)), ("",) * clips,
                     ("noise",))


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
    """One batch each time that it is asked."""
    feed, model = Feed(part, device), model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, fused=True)
    for clips in batches:
        optimizer.zero_grad()
        gradient(model, feed, clips, recipe)
        optimizer.step()
        yield


def plain_epoch(model: nn.Module, part: Sequences, recipe: Recipe, batches: list[np.ndarray], device: str) -> Iterator:
    """The same batches through the plain loop."""
    model = model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    for values, mask, target in DataLoader(padded(part), batch_sampler=[clips.tolist() for clips in batches]):
        loss = functional.mse_loss(model(values.to(device), mask.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


EPOCHS = {"ours": ours_epoch, "plain": plain_epoch}


def measured(side: str, path: Path, batches: int, device: str) -> dict:
    """Seconds of the fastest half of some batches, each, after one that warms up, and private memory in GiB."""
    torch.manual_seed(0)
    part = opened(path)
    ours = IntensityRegressor(len(part.names))
    model = ours if side == "ours" else Plain(ours)
    order = np.random.default_rng(2).permutation(len(part))[: (batches + 1) * BATCH]
    seconds, steps = [], []
    each = np.split(order, np.arange(BATCH, len(order), BATCH))
    epoch = EPOCHS[side](model, part, RECIPES["paper"], each, device)
    for number in range(len(each)):
        started = time.perf_counter()
        next(epoch)
        if device == "cuda":
            torch.cuda.synchronize()
        if number:
            seconds.append(time.perf_counter() - started)
            steps.append(int(part.lengths[each[number]].sum()))
    return {"seconds": float(np.median(seconds)), "private": private(), "steps": float(np.mean(steps))}


def private() -> float:
    """GiB that this process holds for itself alone and that no file on disk backs."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():  # not Linux
        return float("nan")
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.read_text().splitlines()[1:]}
    return sizes["Anonymous"] / 2**20


def apart(side: str, path: Path, batches: int, device: str) -> dict:
    """``measured`` in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--set", str(path), "--batches", str(batches),
               "--device", device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def planted(clips: int, seed: int) -> Sequences:
    """Clips of 64 features whose mean over time carries the targets."""
    rng = np.random.default_rng(seed)
    lengths = lengths_like_the_data(clips, SMALL_STEPS, rng)
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
    order = np.random.default_rng(2).permutation(np.arange(ASKED, len(part)))[: EARLY * BATCH]
    asked = sequences(part.values[: part.offsets[ASKED]], part.offsets[: ASKED + 1], part.targets[:ASKED])
    models, said = {"ours": ours, "plain": Plain(ours)}, []
    for side, answers in (("ours", predict), ("plain", plain_predictions)):
        for _ in EPOCHS[side](models[side], part, RECIPES["paper"], np.split(order, EARLY), "cpu"):
            pass
        said.append(answers(models[side], asked).astype(float))
    return cosine(*said), cosine(*(each - each.mean(axis=0) for each in said))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def alike() -> tuple[list[float], list[float], list[float]]:
    """With some seeds, at a rate 33 times the paper's: cosine of both loops' predictions after 20 steps, and the
    correlations of 3 epochs."""
    train, valid = planted(SMALL, 1), planted(SMALL_VALID, 2)
    recipe = Recipe("benchmark", rate=1e-3, batch=BATCH // 4, epochs=3, precision="native")
    scores: dict[str, list[float]] = {"ours": [], "plain": []}
    cosines = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        ours = IntensityRegressor(SMALL_WIDTH)
        models = {"ours": ours, "plain": Plain(ours)}
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(SMALL) for _ in range(recipe.epochs)]
        batches = [clips for order in orders for clips in np.split(order, SMALL // recipe.batch)]
        asked = {"ours": lambda model: predict(model, valid), "plain": lambda model: plain_predictions(model, valid)}
        early = {}
        for side, model in models.items():
            for number, _ in enumerate(EPOCHS[side](model, train, recipe, batches, "cpu")):
                if number == EARLY - 1:
                    early[side] = asked[side](model)
            scores[side].append(mean_pearson(valid.targets, asked[side](model)))
        cosines.append(cosine(*(each.astype(float) for each in early.values())))
    return cosines, scores["ours"], scores["plain"]


def on_gpu(path: Path, clips: int) -> None:
    """An epoch on the GPU beside the plain one, and what share of the GPU's measured rates it reaches."""
    if not torch.cuda.is_available():
        print("GPU: ours, plain, share of the matrix rate and of the memory bandwidth: not measured yet (no GPU here)")
        return
    found = {side: apart(side, path, 20, "cuda") for side in EPOCHS}
    ours, plain = (found[side]["seconds"] * clips / BATCH for side in EPOCHS)
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    multiply = gpu_seconds(lambda: matrix @ matrix)
    copy = gpu_seconds(lambda: matrix.clone())
    # Multiplications of a step forward (TCN, two blocks without their attention), thrice with the way back.
    work = 6 * found["ours"]["steps"] * (WIDTH * 384 + 4 * 128 * 384 + 2 * 128 * 1536)
    bytes_read = 2 * found["ours"]["steps"] * WIDTH
    print(f"GPU: ours {ours:.2f} s an epoch, plain {plain:.2f} s, {plain / ours:.1f} times; matrix rate "
          f"{work / found['ours']['seconds'] / (2 * 8192**3 / multiply):.1%}, features' bytes "
          f"{bytes_read / found['ours']['seconds'] / (2 * matrix.nbytes / copy):.1%} of the measured bandwidth")


def gpu_seconds(function) -> float:
    function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--side", choices=EPOCHS, help=argparse.SUPPRESS)
    parser.add_argument("--set", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measured(options.side, options.set, options.batches, options.device)))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        path = made(Path(temporary), options.clips)
        print(f"{options.clips} clips, {WIDTH} features, batches of {BATCH}; an epoch from {options.batches} of "
              f"{-(-options.clips // BATCH)} batches; {torch.get_num_threads()} threads; ours in "
              f"{RECIPES['paper'].precision} precision")
        print(f"{'loop':<8} {'s a batch':>10} {'s an epoch':>11} {'times':>6} {'private GiB':>12} {'of it':>6}")
        found = {side: apart(side, path, options.batches, "cpu") for side in ("plain", "ours")}
        plain = found["plain"]
        for side, each in found.items():
            print(f"{side:<8} {each['seconds']:>10.2f} {each['seconds'] * options.clips / BATCH:>11.1f} "
                  f"{plain['seconds'] / each['seconds']:>6.2f} {each['private']:>12.2f} "
                  f"{each['private'] / plain['private']:>6.2f}")
        on_gpu(path, options.clips)
        whole, deviations = same_steps(path)
    print(f"same first weights and batches, after {EARLY} steps of the paper's recipe: cosine of the predictions "
          f"{whole:.5f}, of their deviations from each target's mean {deviations:.5f}")
    cosines, ours, plain_scores = alike()
    print(f"the same on {SMALL_WIDTH} features at rate 1e-3, {SEEDS} seeds: "
          f"{' '.join(f'{each:.5f}' for each in cosines)}")
    print(f"3 epochs on {SMALL_WIDTH} features, mean correlation of {SEEDS} seeds: ours "
          f"{' '.join(f'{score:.3f}' for score in ours)}, plain {' '.join(f'{score:.3f}' for score in plain_scores)}; "
          f"means apart by {abs(np.mean(ours) - np.mean(plain_scores)):.3f}, seeds spread by "
          f"{np.std([ours, plain_scores], axis=1, ddof=1).mean():.3f} (standard deviation)")


if __name__ == "__main__":
    main()
