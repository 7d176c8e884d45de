"""Simulated feature sets as a training reads them: in memory, or on disk beside their corpus.

    ROOT/clips.csv simulation.json                          what ``corpus.numbers`` reads: no media
    WORK/packed/<features>/<partition>.safetensors          what ``dataset.load`` maps
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from emibook.corpus import PARTITIONS, simulated
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.sequences.load import drawn_file
from emibook.sequences.packed import Sequences, read, write
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.features import Simulation

WEIGHTS = "simulated"


def write_corpus(
    simulation: Simulation, root: Path | str, work: Path | str, features: Iterable[str], *, progress: bool = True
) -> Path:
    """Write the corpus of ``simulation`` under ``root`` and its ``features`` (joined ones as well) under ``work``.

    One set of one partition is in memory at a time. What is there already is not drawn again. Returns ``root``.

    Raises:
        InputError: ``root`` holds another simulation, or something else.
    """
    simulated.write(simulation, Path(root))
    items = [(name, partition) for name in features for partition in PARTITIONS]
    for name, partition in tqdm(items, desc="simulate", unit="set", disable=not progress):
        path = drawn_file(work, name, partition)
        if path.is_file() and read(path)[2]["simulation"] == repr(simulation):
            continue
        drawn = sequences(simulation, name, partition)
        about = {"names": drawn.names, "weights": drawn.weights, "clips": drawn.clips, "simulation": repr(simulation)}
        bounds = zip(drawn.offsets[:-1], drawn.offsets[1:], strict=True)
        write(path, (drawn.values[first:last] for first, last in bounds), len(drawn), about)
    return Path(root)


def sequences(simulation: Simulation, features: str, partition: str, clips: int | None = None) -> Sequences:
    """Simulated features as a training reads them; with ``clips``, so many of them, of as few participants as can be.

    Test clips have their labels too: they are what nothing was chosen on.
    """
    names = features.split("+")
    drawn = [simulated_features.draw(simulation, name, partition) for name in names]
    table = simulated_features.clips(simulation).table
    table = table[table["partition"] == partition]
    all_of_them = Sequences(
        features=features,
        names=sum((each.names for each in drawn), ()),
        # One set as it is: at the full size a copy of it takes gigabytes.
        values=drawn[0].values if len(drawn) == 1 else np.concatenate([each.values for each in drawn], axis=1),
        offsets=drawn[0].offsets,
        targets=table[list(EMOTIONS)].to_numpy(np.float32),
        target_names=EMOTIONS,
        clips=tuple(table["clip"]),
        participants=tuple(table["participant"]),
        weights=(WEIGHTS,) * len(names),
    )
    if clips is None or clips >= len(all_of_them):
        return all_of_them
    return subset(all_of_them, np.sort(np.argsort(all_of_them.participants, kind="stable")[:clips]))


def subset(whole: Sequences, places: np.ndarray) -> Sequences:
    """The clips at ``places``."""
    steps = np.concatenate([np.arange(whole.offsets[place], whole.offsets[place + 1]) for place in places])
    return replace(
        whole,
        values=whole.values[steps.astype(int)],
        offsets=np.concatenate([[0], np.cumsum(whole.lengths[places])]),
        targets=whole.targets[places],
        clips=tuple(whole.clips[place] for place in places),
        participants=tuple(whole.participants[place] for place in places),
    )
