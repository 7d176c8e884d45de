"""A simulated corpus on disk: a table of clips without media, and the settings that it was simulated with.

    <root>/
      simulation.json      the settings that it was simulated with
      clips.csv            clip, partition, participant and the six emotions; test clips have none
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from emibook import InputError
from emibook.corpus import Corpus, Report
from emibook.corpus.hume_vidmimic2 import EMOTIONS

SETTINGS, TABLE = "simulation.json", "clips.csv"
NAME, NOTE = "simulated", "simulated features; says nothing about people"


def recognises(root: Path) -> bool:
    """Whether ``root`` holds a simulated corpus."""
    return (Path(root) / SETTINGS).is_file()


def settings_of(root: Path) -> dict:
    """What ``root`` was simulated with. Raises ``InputError`` where its ``simulation.json`` is damaged."""
    path = Path(root) / SETTINGS
    try:
        settings = dict(json.loads(path.read_text(encoding="utf-8")))
        if not {"sets", "clips", "steps", "seed"} <= settings.keys():
            raise KeyError
        return settings
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path} is damaged; delete {root} and simulate the corpus again") from None


def digest(settings: dict) -> str:
    """Sixteen hexadecimal digits that stand for these settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} cannot be read ({reason}); simulate the corpus again") from None
    return Corpus(NAME, Path(root).resolve(), table, EMOTIONS, NOTE, made_with=digest(settings_of(root)))


def check(root: Path) -> Report:
    """How many clips there are; labels outside [0, 1] are problems."""
    table = read(root).clips
    counts = {name: int(count) for name, count in table["partition"].value_counts(sort=False).items()}
    outside = table[((table[list(EMOTIONS)] < 0) | (table[list(EMOTIONS)] > 1)).any(axis=1)]
    problems = [f"clip {clip}: a label outside [0, 1]" for clip in outside["clip"]]
    return Report(NAME, {**counts, "participants": table["participant"].nunique()}, problems,
                  ["simulated: numbers without media"])
