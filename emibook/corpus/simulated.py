"""A simulated corpus on disk: a table of clips without media, and the settings that it was drawn with.

    <root>/
      simulation.json      what was drawn, ``simulated.Simulation``
      clips.csv            clip, partition, participant and the six emotions; test clips have none
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from emibook import InputError
from emibook.corpus import Corpus, Report
from emibook.corpus.hume_vidmimic2 import EMOTIONS

if TYPE_CHECKING:
    from emibook.studies.simulation.features import Simulation

SETTINGS, TABLE = "simulation.json", "clips.csv"
NAME, NOTE = "simulated", "simulated features; says nothing about people"


def recognises(root: Path) -> bool:
    """Whether ``root`` was written by ``write``."""
    return (Path(root) / SETTINGS).is_file()


def in_memory(simulation: Simulation) -> Corpus:
    """The corpus that ``write`` writes; nothing is written."""
    from emibook.studies.simulation.features import clips  # here, because every corpus is opened through this module

    table = clips(simulation).table.assign(path="", audio="")
    table = table[["clip", "partition", "path", "audio", "participant", *EMOTIONS]].copy()
    table.loc[table["partition"] == "test", list(EMOTIONS)] = float("nan")
    return Corpus(NAME, Path(), table, EMOTIONS, NOTE)


def settings_of(root: Path) -> dict:
    """What ``root`` was drawn with. Raises ``InputError`` where its ``simulation.json`` is damaged."""
    path = Path(root) / SETTINGS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged; delete {root} and draw the corpus again") from None


def simulation_of(root: Path) -> Simulation:
    """What ``write`` wrote there. Raises ``InputError`` where its ``simulation.json`` is damaged."""
    from emibook.studies.simulation.features import Planted, Simulation

    about = settings_of(root)
    try:
        sets = [Planted(**{key: tuple(value) if isinstance(value, list) else value for key, value in each.items()})
                for each in about["sets"]]
        return Simulation(**about | {"sets": tuple(sets), "clips": tuple(about["clips"])})
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{Path(root) / SETTINGS} is damaged; delete {root} and draw the corpus again") from None


def is_drawn_for(root: Path, noted: str) -> bool:
    """Whether a feature set that notes this of its simulation belongs to ``root``."""
    def plain(text: str) -> str:  # in JSON a number is one, whatever library it came from
        return re.sub(r"np\.float64\(([^()]*)\)", r"\1", text)

    return plain(noted) == plain(repr(simulation_of(root)))


def write(simulation: Simulation, root: Path) -> None:
    """Write the corpus, or leave it where it is there. Raises ``InputError`` where ``root`` holds something else."""
    settings = json.loads(json.dumps(asdict(simulation)))
    if root.is_dir() and any(root.iterdir()):
        if not recognises(root) or settings_of(root) != settings:
            raise InputError(f"{root} holds something else than this simulation; give an empty folder")
        return
    root.mkdir(parents=True, exist_ok=True)
    table = in_memory(simulation).clips.drop(columns=["path", "audio"])
    for name, text in ((TABLE, table.to_csv(index=False)), (SETTINGS, json.dumps(settings, indent=1) + "\n")):
        temporary = root / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, root / name)


def read(root: Path, participants: Path | None = None) -> Corpus:
    """The corpus; its clips have no path. Raises ``InputError`` where the table cannot be used."""
    if participants is not None:
        raise InputError(f"{root} is simulated and names its participants itself; leave the table out")
    path = Path(root) / TABLE
    try:
        table = pd.read_csv(path, dtype={"clip": str, "participant": str}, keep_default_na=False,
                            na_values={name: [""] for name in EMOTIONS})
        table = table.assign(path="", audio="")[["clip", "partition", "path", "audio", "participant", *EMOTIONS]]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); draw the corpus again") from None
    return Corpus(NAME, Path(root).resolve(), table, EMOTIONS, NOTE)


def check(root: Path) -> Report:
    """How many clips there are; labels outside [0, 1] are problems."""
    table = read(root).clips
    counts = {name: int(count) for name, count in table["partition"].value_counts(sort=False).items()}
    outside = table[((table[list(EMOTIONS)] < 0) | (table[list(EMOTIONS)] > 1)).any(axis=1)]
    simulation_of(root)
    problems = [f"clip {clip}: a label outside [0, 1]" for clip in outside["clip"]]
    return Report(NAME, {**counts, "participants": table["participant"].nunique()}, problems,
                  ["simulated: numbers without media"])
