"""Corpora of feature files with a planted signal: no video, no sound, no encoder is needed to learn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas

from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.features import EXTRACTORS, store

QUIET = Resources(device="cpu", workers=1, progress=False)
TARGETS = ("Amusement", "Joy")
WIDTHS = {"resnet18": 6, "aus": 4, "vit": 5, "mfcc": 5, "wav2vec2": 4}


def corpus(
    root: Path, train: int = 30, valid: int = 18, test: int = 6, *, targets: tuple[str, ...] = TARGETS, seed: int = 0
) -> Corpus:
    """A corpus table without files: three clips a participant, labels in fifths."""
    rng = np.random.default_rng(seed)
    partitions = ["train"] * train + ["valid"] * valid + ["test"] * test
    clips = [f"{number:05}" for number in range(len(partitions))]
    table = pandas.DataFrame({
        "clip": clips,
        "partition": partitions,
        "path": [str(root / f"{clip}.mp4") for clip in clips],
        "audio": "",
        "participant": [f"{partition}{number // 3}" for number, partition in enumerate(partitions)],
    })
    for target in targets:
        table[target] = rng.integers(0, 6, len(clips)) / 5
    table.loc[table["partition"] == "test", list(targets)] = np.nan
    return Corpus("made", root, table, targets, note="made numbers")


def truth(corpus: Corpus, seed: int = 0) -> np.ndarray:
    """(clip, target): the labels; for test clips, which have none, numbers drawn for the signal."""
    labels = corpus.clips[list(corpus.targets)].to_numpy()
    return np.where(np.isnan(labels), np.random.default_rng(seed + 1).random(labels.shape), labels)


def sequence(name: str, values: np.ndarray, times: np.ndarray | None = None, **changes) -> store.FeatureSequence:
    """One clip's sequence at the extractor's own rate."""
    if times is None:
        times = np.arange(len(values)) / (EXTRACTORS[name].rate or 30)
    about = {"names": tuple(f"{name}_{i}" for i in range(values.shape[1])), "extractor": name, "weights": "builtin",
             "version": "1"}
    return store.FeatureSequence(values.astype(np.float32), times.astype(np.float64), **(about | changes))


def write(corpus: Corpus, work: Path, name: str, *, signal: float, seed: int = 0, empty: tuple[str, ...] = ()) -> None:
    """Feature files of every clip: noise, and in the first columns the labels, as strong as ``signal``."""
    weights = {"kind": "untrained", "file": "", "sha256": "", "seed": 0}
    settings = {"extractor": name, "version": "1", "weights": weights}
    store.feature_folder(work, name).parent.mkdir(parents=True, exist_ok=True)
    folder = store.open_folder(work, name, settings)
    labels = truth(corpus)
    for number, clip in enumerate(corpus.clips["clip"]):
        rng = np.random.default_rng([seed, number, *name.encode()])
        rate = EXTRACTORS[name].rate or 30
        length = 0 if clip in empty else int(rng.uniform(0.2, 0.5) * rate)
        values = rng.normal(size=(length, WIDTHS[name]))
        columns = min(labels.shape[1], WIDTHS[name])
        values[:, :columns] += signal * labels[number, :columns]
        store.save(sequence(name, values), store.clip_path(folder, clip))
