"""Simulated corpora and feature sets: in memory, or on disk as a training reads them.

    ROOT/clips.csv simulation.json                          what ``corpus.simulated`` reads: no media
    WORK/packed/<features>/<partition>.safetensors          what ``sequences.load`` maps
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from emibook import InputError
from emibook.corpus import PARTITIONS, Corpus, simulated
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.files import write_text
from emibook.sequences.load import packed_file
from emibook.sequences.packed import Sequences, read, write
from emibook.studies.simulation.features import Simulation
from emibook.studies.simulation.features import clips as clips_of
from emibook.studies.simulation.features import draw as simulated_set

WEIGHTS = "simulated"


def settings_of(simulation: Simulation) -> dict:
    """The settings of a simulation as ``simulation.json`` holds them."""
    return json.loads(json.dumps(asdict(simulation)))


def corpus_of(simulation: Simulation) -> Corpus:
    """The corpus that ``write_corpus`` writes; nothing is written."""
    table = clips_of(simulation).table.assign(path="", audio="")
    table = table[["clip", "partition", "path", "audio", "participant", *EMOTIONS]].copy()
    table.loc[table["partition"] == "test", list(EMOTIONS)] = float("nan")
    made_with = simulated.digest(settings_of(simulation))
    return Corpus(simulated.NAME, Path(), table, EMOTIONS, simulated.NOTE, made_with=made_with)


def write_corpus(simulation: Simulation, root: Path | str) -> Path:
    """Write the corpus, or leave it as it is where ``root`` holds it already; returns ``root``.

    Raises:
        InputError: ``root`` holds something else.
    """
    root, settings = Path(root), settings_of(simulation)
    if root.is_dir() and any(root.iterdir()):
        if not simulated.recognises(root) or simulated.settings_of(root) != settings:
            raise InputError(f"{root} holds something else than this simulation; give an empty folder")
        return root
    table = corpus_of(simulation).clips.drop(columns=["path", "audio"])
    write_text(root / simulated.TABLE, table.to_csv(index=False))
    write_text(root / simulated.SETTINGS, json.dumps(settings, indent=1) + "\n")
    return root


def write_features(
    simulation: Simulation, work: Path | str, features: Iterable[str], *, progress: bool = True
) -> None:
    """Simulate ``features`` (joined ones as well) into ``work``; sets that it holds already are left as they are.

    One set of one partition is in memory at a time.
    """
    made_with = simulated.digest(settings_of(simulation))
    items = [(name, partition) for name in features for partition in PARTITIONS]
    for name, partition in tqdm(items, desc="simulate", unit="set", disable=not progress):
        path = packed_file(work, name, partition)
        if path.is_file() and read(path)[2].get("made_with") == made_with:
            continue
        part = sequences(simulation, name, partition)
        about = {"names": part.names, "weights": part.weights, "clips": part.clips, "made_with": made_with}
        bounds = zip(part.offsets[:-1], part.offsets[1:], strict=True)
        write(path, (part.values[first:last] for first, last in bounds), len(part), about)


def sequences(simulation: Simulation, features: str, partition: str, clips: int | None = None) -> Sequences:
    """Simulated features as a training reads them; with ``clips``, so many of them, of as few participants as can be.

    Test clips have their labels too: they are what nothing was chosen on.
    """
    names = features.split("+")
    parts = [simulated_set(simulation, name, partition) for name in names]
    table = clips_of(simulation).table
    table = table[table["partition"] == partition]
    everything = Sequences(
        features=features,
        names=sum((part.names for part in parts), ()),
        # One set as it is: at the full size a copy of it takes gigabytes.
        values=parts[0].values if len(parts) == 1 else np.concatenate([part.values for part in parts], axis=1),
        offsets=parts[0].offsets,
        targets=table[list(EMOTIONS)].to_numpy(np.float32),
        target_names=EMOTIONS,
        clips=tuple(table["clip"]),
        participants=tuple(table["participant"]),
        weights=(WEIGHTS,) * len(names),
    )
    if clips is None or clips >= len(everything):
        return everything
    return subset(everything, np.sort(np.argsort(everything.participants, kind="stable")[:clips]))


def subset(whole: Sequences, indices: np.ndarray) -> Sequences:
    """The clips at ``indices``."""
    steps = np.concatenate([np.arange(whole.offsets[index], whole.offsets[index + 1]) for index in indices])
    return replace(
        whole,
        values=whole.values[steps.astype(int)],
        offsets=np.concatenate([[0], np.cumsum(whole.lengths[indices])]),
        targets=whole.targets[indices],
        clips=tuple(whole.clips[index] for index in indices),
        participants=tuple(whole.participants[index] for index in indices),
    )
