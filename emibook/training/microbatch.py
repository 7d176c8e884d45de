"""A batch, taken through a model in microbatches of clips of similar length: its gradient, and its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from emibook.device import native_precision
from emibook.models import Branch
from emibook.sequences.packed import Feed, Sequences
from emibook.training.losses import LOSSES, MICROBATCHABLE
from emibook.training.recipe import Recipe

MICROBATCH_CLIPS = {"cpu": 16, "cuda": 512}  # at most; so few stay in a CPU's cache
MIN_MICROBATCHES = {"cpu": 4, "cuda": 1}  # for the threads of a CPU
PAD_MULTIPLE = 16  # of a microbatch's steps: a CPU's kernels are compiled for each shape, and kept for few shapes
PREDICTION_STEPS = {"cpu": 8 * 300, "cuda": 2048 * 300}  # at once in predictions, padding included


def gradient(model: Branch, feed: Feed, clips: np.ndarray, recipe: Recipe) -> Tensor:
    """Add the gradient of the loss over ``clips`` (indices in the partition) to the model's parameters.

    Clips of similar length go through the model together, so that there is little padding. The result is the gradient
    of the whole batch at once, up to the order in which its microbatches are summed.

    Returns:
        The loss, on the device.
    """
    device = feed.device.type
    low = {"float32": False, "bfloat16": True}.get(recipe.precision, native_precision(device) == "bfloat16")
    count = min(len(clips), max(-(-len(clips) // MICROBATCH_CLIPS[device]), MIN_MICROBATCHES[device]))
    by_length = clips[np.argsort(-feed.lengths[clips], kind="stable")]
    microbatches = np.array_split(by_length, count)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss_of = LOSSES[recipe.loss]

    def forward(part: np.ndarray) -> tuple[Tensor, Tensor]:  # outputs and targets, each (clip, target)
        values, mask = feed.batch(part, PAD_MULTIPLE)  # (clip, time, feature), (clip, time)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            output = model(values, mask)
        return output.float(), feed.targets[torch.from_numpy(part).to(feed.device)]

    def backward(loss: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    def one_microbatch(part: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:  # only its own graph is in memory
        return backward(loss_of(*forward(part)) * (len(part) / len(clips)))

    # What samples random numbers has to do so in one order, and what needs the whole batch has one backward pass.
    random = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    total = torch.zeros((), device=feed.device)
    with parallel_map(device, recipe.loss in MICROBATCHABLE and not random) as map_:
        if recipe.loss in MICROBATCHABLE:
            results = map_(one_microbatch, microbatches)
        else:
            results = [backward(loss_of(*map(torch.cat, zip(*map(forward, microbatches), strict=True))))]
        for loss, gradients in results:  # in the order of the microbatches, so that the sums are always the same
            total += loss
            for parameter, addend in zip(parameters, gradients, strict=True):
                if addend is not None:
                    if parameter.grad is None:
                        # In the parameter's own memory layout, which the fused optimizer requires.
                        parameter.grad = torch.zeros_like(parameter)
                    parameter.grad += addend
    return total


def predict(model: Branch, sequences: Sequences, device: str = "cpu", *, feed: Feed | None = None) -> np.ndarray:
    """The model's outputs for every clip of a partition; an empty clip is predicted as the training mean.

    Args:
        feed: that of ``sequences`` on the model's device, where there is one already.

    Returns:
        (clip, target) float32, in the partition's order.
    """
    model.eval()
    feed = feed or Feed(sequences, device)
    lengths = sequences.lengths
    order = np.argsort(-lengths, kind="stable")  # clips of similar length go together: there is less padding
    microbatches = []
    while len(order):
        count = max(1, PREDICTION_STEPS[feed.device.type] // max(1, lengths[order[0]]))
        microbatches.append(order[:count])
        order = order[count:]

    @torch.no_grad()
    def forward(clips: np.ndarray) -> np.ndarray:
        return model(*feed.batch(clips)).cpu().numpy()

    predictions = np.empty(sequences.targets.shape, np.float32)
    with parallel_map(feed.device.type) as map_:
        for clips, outputs in zip(microbatches, map_(forward, microbatches), strict=True):
            predictions[clips] = outputs
    return predictions


@contextmanager
def parallel_map(device: str, allowed: bool = True) -> Iterator[Callable]:
    """``map`` over microbatches; on a CPU as many at once as torch has threads, each of them computed by one thread.

    The matrix products of so small a model are too small to be shared by two threads.
    """
    threads = torch.get_num_threads()
    if device != "cpu" or threads == 1 or not allowed:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
