"""The work of extraction, cut into tasks, and how a worker does one of them."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emibook.compute import EndRun
from emibook.features import store
from emibook.features.base import Clip
from emibook.features.registry import EXTRACTORS
from emibook.features.weights import Weights

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Plan:
    """What every worker needs: the work folder, the weights of each feature set, and the device."""

    work: Path
    weights: dict[str, Weights]
    device: str


@dataclass(frozen=True)
class Task:
    """What a worker does at a time: the feature sets ``names`` of ``clips``, of which those ``missing`` are written.

    One clip, so that its faces are read once for all feature sets; or, on a GPU, one batch of sounds and one set.
    """

    clips: tuple[str, ...]
    names: tuple[str, ...]
    missing: frozenset[str]
    failed: bool = False
    clip: Clip | None = None


def make_tasks(
    rows: pandas.DataFrame, missing: dict[str, list[str]], device: str, clips: dict[str, Clip]
) -> list[Task]:
    """The tasks for what is missing.

    Batches of sounds are formed from the whole corpus, not from what is missing: the last digits of a row may depend on
    the other sounds of its batch, and a run that was stopped has to end with the same bytes.

    Args:
        rows: of ``WORK/preprocess.csv``, indexed by clip.
        missing: the names of the feature sets that each clip lacks.
        device: ``cpu`` or ``cuda``.
        clips: every clip by its id.
    """
    import pandas
    import torch

    from emibook.features.waveform import BATCH, batches
    from emibook.preprocess.media import SAMPLE_RATE

    most = BATCH[torch.device(device).type]
    seconds = pandas.to_numeric(rows["audio_seconds"], errors="coerce").fillna(0).sort_index()
    with_sound = seconds[seconds > 0]
    lengths = (with_sound * SAMPLE_RATE).astype(int).tolist()
    tasks, names = [], {name for lacking in missing.values() for name in lacking}
    single = {clip: list(lacking) for clip, lacking in missing.items()}
    for name in sorted(names) if most else ():
        if hasattr(EXTRACTORS[name].encoder_class, "encode_batch"):
            for batch in batches(lengths, most):
                members = tuple(with_sound.index[batch])
                lacking = frozenset(clip for clip in members if name in missing[clip])
                for clip in lacking:
                    single[clip].remove(name)
                if lacking:
                    tasks.append(Task(members, (name,), lacking))
    failed = set(rows.loc[rows["status"] == "failed", "clip"])
    return tasks + [Task((clip,), tuple(lacking), frozenset([clip]), clip in failed, clips[clip])
                    for clip, lacking in single.items() if lacking]


def run_task(task: Task, *, plan: Plan) -> None:
    """Do one task. Raises ``EndRun`` where the GPU is missing or full, as no other task could be done either."""
    if plan.device != "cuda":
        return encode(task, plan)
    import torch

    if not torch.cuda.is_available():
        raise EndRun(f"{socket.gethostname()} has no GPU that torch can use; give --device cpu or other workers")
    try:
        encode(task, plan)
    except torch.OutOfMemoryError:  # because of the other workers, not of this clip
        raise EndRun(f"the memory of the GPU of {socket.gethostname()} is full; give fewer --workers, or --device cpu"
                     ) from None


@functools.lru_cache(maxsize=len(EXTRACTORS))
def load(name: str, weights: Weights, encoders: Path, device: str) -> Callable[..., store.FeatureSequence]:
    """An encoder, loaded once per process."""
    return EXTRACTORS[name].class_of(weights.kind)(weights, encoders, device)


def encode(task: Task, plan: Plan) -> None:
    """Compute and write the feature sequences of one task."""
    from emibook.preprocess import CROP_SIZE, read_audio, read_faces

    work, faces, sounds = plan.work, None, []
    for name in task.names:
        encoder: Any = load(name, plan.weights[name], work / "encoders", plan.device)
        if getattr(encoder, "reads_clip", False):
            sequences = [encoder(task.clip)]
        elif EXTRACTORS[name].modality == "V":
            if faces is None:
                empty = np.zeros((0, CROP_SIZE, CROP_SIZE, 3), np.uint8), np.zeros(0), np.zeros((0, 5, 2), np.float32)
                faces = empty if task.failed else read_faces(work, task.clips[0])
            sequences = [encoder(*faces)]
        else:
            sounds = sounds or [None if task.failed else read_audio(work, clip) for clip in task.clips]
            sequences = [encoder(sounds[0])] if len(sounds) == 1 else encoder.encode_batch(sounds)
        for clip, sequence in zip(task.clips, sequences, strict=True):
            if clip in task.missing:
                store.save(sequence, store.clip_path(store.feature_folder(work, name), clip))
