"""CREMA-D's votes: how many of those who heard a clip, saw it or had both chose each emotion.

Source: Cao, Cooper, Keutmann, Gur, Nenkova and Verma (2014), IEEE Transactions on Affective Computing 5(4), 377-390;
github.com/CheyneyComputerScience/CREMA-D, ``processedResults/tabulatedVotes.csv`` and ``VideoDemographics.csv``, under
the Open Database License 1.0.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emibook import InputError
from emibook.corpus import RATINGS, tables

LETTERS = "ADFHNS"
EMOTIONS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
"""In the order of the table's columns ``LETTERS``."""
MEANT = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""What the third part of a clip's name says of the emotion that was to be acted, in the order of ``EMOTIONS``."""
NAME = rf"[0-9]{{4}}_[A-Z]{{3}}_(?:{'|'.join(MEANT)})_(?:LO|MD|HI|XX)"
"""Of a clip: actor, sentence, emotion, level."""
VOTES, ACTORS = "tabulatedVotes.csv", "VideoDemographics.csv"
PLACES = {VOTES: ("processedResults/tabulatedVotes.csv", VOTES), ACTORS: (ACTORS,)}
"""Where each table lies in a clone; the votes may lie at the top as well."""
SOURCE = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
SHA256 = {
    VOTES: "774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b",
    ACTORS: "e33ddc8b60bedf98541735801127cbb67098b5957271adbdd5dea8a44294eec3",
}
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, eq=False)
class Votes:
    """``counts`` (ratings, clip, emotion) votes: of those who heard, saw, had both (``RATINGS``), by ``EMOTIONS``."""

    clips: tuple[str, ...]
    counts: np.ndarray

    def __post_init__(self) -> None:
        if self.counts.shape != (len(RATINGS), len(self.clips), len(EMOTIONS)):
            raise ValueError(f"votes of {len(self.clips)} clips have the shape {self.counts.shape}")

    @property
    def raters(self) -> np.ndarray:
        """(ratings, clip) how many people voted."""
        return self.counts.sum(axis=2)

    @property
    def fractions(self) -> np.ndarray:
        """(ratings, clip, emotion) 0..1."""
        return self.counts / self.raters[..., None]

    @property
    def actors(self) -> np.ndarray:
        """(clip,) the actor's number as text."""
        return np.array([clip[:4] for clip in self.clips])

    @property
    def meant(self) -> np.ndarray:
        """(clip,) the place in ``EMOTIONS`` of what was to be acted."""
        return np.array([MEANT.index(clip.split("_")[2]) for clip in self.clips])


def find(root: Path | str, table: str) -> Path | None:
    """Where ``root`` has one of the ``PLACES``'s tables; ``root`` may be the table itself."""
    root = Path(root)
    if root.is_file() and root.name == table:
        return root
    return next((root / place for place in PLACES[table] if (root / place).is_file()), None)


def read(root: Path | str) -> Votes:
    """The votes under ``root``. Raises ``InputError`` naming the first problem, and how many more there are."""
    votes, problems = scan(root)
    tables.stop_at_first(problems, Path(root))
    return votes


def scan(root: Path | str) -> tuple[Votes, list[str]]:
    """The votes of the clips that can be used, sorted by clip, and everything that is the matter with the table."""
    path = find(root, VOTES)
    if path is None:
        raise InputError(f"{root}: no {' or '.join(PLACES[VOTES])}; give a clone of CREMA-D, or fetch its votes: "
                         f"emibook people {root} --fetch")
    table = tables.read_text(path, (*LETTERS, "fileName", "numResponses"))
    problems: list[str] = []
    if table.empty:
        raise InputError(f"{path}: has a header and no rows")

    def complain(rows: np.ndarray, what: str) -> None:
        for row in np.flatnonzero(rows):
            problems.append(f"{path.name}, row {table.iloc[row, 0]}, clip {table['fileName'].iloc[row]}: {what}")

    # The row number's hundred thousands say how the clip was shown.
    shown = tables.numbers(table.iloc[:, 0]) // 100_000 - 1
    counts = np.stack([tables.numbers(table[letter]) for letter in LETTERS], axis=1)  # (row, emotion)
    no_way = ~np.isin(shown, range(len(RATINGS)))
    no_count = ~((counts >= 0) & (counts == np.round(counts))).all(axis=1)
    unequal = ~no_count & (counts.sum(axis=1) != tables.numbers(table["numResponses"]))
    nobody = ~no_count & (counts.sum(axis=1) == 0)
    unnamed = ~table["fileName"].str.fullmatch(NAME).to_numpy()
    twice = pd.DataFrame({"shown": shown, "clip": table["fileName"]}).duplicated().to_numpy()
    complain(no_way, "its number does not begin with 1 (voice), 2 (face) or 3 (both)")
    complain(no_count, f"votes {', '.join(LETTERS)} are not all counts")
    complain(unequal, "the votes do not add up to numResponses")
    complain(nobody, "nobody voted")
    complain(unnamed, "not named actor_sentence_emotion_level as 1001_IEO_HAP_LO")
    complain(twice & ~no_way, "a second row for the same clip shown the same way")

    good = ~(no_way | no_count | nobody | unnamed | twice)
    clips, index = np.unique(table["fileName"].to_numpy(str)[good], return_inverse=True)
    votes = np.zeros((len(RATINGS), len(clips), len(LETTERS)), np.int64)
    votes[shown[good].astype(int), index] = counts[good].astype(np.int64)
    complete = (votes.sum(axis=2) > 0).all(axis=0)
    for place in np.flatnonzero(~complete):
        lacking = [name for name, there in zip(RATINGS, votes[:, place].any(axis=1), strict=True) if not there]
        problems.append(f"{path.name}, clip {clips[place]}: no votes from {' and '.join(lacking)}")
    return Votes(tuple(clips[complete].tolist()), votes[:, complete]), problems


def read_actors(root: Path | str) -> pd.DataFrame:
    """Index ``actor`` (text), columns ``age`` (years), ``sex``, ``race``, ``ethnicity``, as the data set names them."""
    path = find(root, ACTORS)
    if path is None:
        raise InputError(f"{root}: no {ACTORS}; it lies in a clone of CREMA-D, or: emibook people {root} --fetch")
    columns = {"ActorID": "actor", "Age": "age", "Sex": "sex", "Race": "race", "Ethnicity": "ethnicity"}
    table = tables.read_text(path, list(columns)).rename(columns=columns)[list(columns.values())]
    table["age"] = tables.numbers(table["age"])
    bad = table["age"].isna() | table["actor"].duplicated() | ~table["actor"].str.fullmatch("[0-9]{4}")
    for actor in table["actor"][bad]:
        raise InputError(f"{path}, actor {actor or '(empty)'}: no age, no number of four digits, or listed twice")
    return table.set_index("actor")


def fetch(folder: Path | str) -> list[Path]:
    """Download the two small tables (4 MB) into ``folder``, where they are not there already; their paths.

    Each is known by its SHA-256 and appears whole or not at all. Raises ``InputError`` without a network, for half a
    download, and for a file that is another than the one that the book was made with.
    """
    folder = Path(folder)
    found = []
    for name, wanted in SHA256.items():
        path = find(folder, name)
        if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            path = folder / PLACES[name][0]
            data = _download(f"{SOURCE}/{PLACES[name][0]}")
            digest = hashlib.sha256(data).hexdigest()
            if digest != wanted:
                raise InputError(f"{SOURCE}/{PLACES[name][0]}: its SHA-256 is {digest}, not {wanted}; it was changed, "
                                 "or cut short on its way: try again, or give a clone of CREMA-D")
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.part")
            temporary.write_bytes(data)
            os.replace(temporary, path)
        found.append(path)
    return found


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            return answer.read()
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise InputError(f"{address} cannot be fetched ({reason}); try again, or give a clone of CREMA-D") from None
