"""CREMA-D's votes: how many raters chose each emotion, of those shown the voice, the face, or both.

Source: Cao, Cooper, Keutmann, Gur, Nenkova and Verma (2014), IEEE Transactions on Affective Computing 5(4), 377-390;
github.com/CheyneyComputerScience/CREMA-D, ``processedResults/tabulatedVotes.csv`` and ``VideoDemographics.csv``, under
the Open Database License 1.0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emibook import InputError
from emibook.corpus import RATINGS, tables

LETTERS = "ADFHNS"
EMOTIONS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
"""In the order of the table's columns ``LETTERS``."""
INTENDED = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""Codes of the intended emotion, the third part of a clip's name, in the order of ``EMOTIONS``."""
NAME = rf"[0-9]{{4}}_[A-Z]{{3}}_(?:{'|'.join(INTENDED)})_(?:LO|MD|HI|XX)"
"""Pattern of a clip's name: actor, sentence, emotion, level."""
VOTES, ACTORS = "tabulatedVotes.csv", "VideoDemographics.csv"
PATHS = {VOTES: ("processedResults/tabulatedVotes.csv", VOTES), ACTORS: (ACTORS,)}
"""Possible paths of each table in ``root``, that of a clone first."""
SOURCE = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
SHA256 = {
    VOTES: "774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b",
    ACTORS: "e33ddc8b60bedf98541735801127cbb67098b5957271adbdd5dea8a44294eec3",
}


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes by modality, clip and emotion: ``counts`` ``(modality, clip, emotion)``, in the order of ``RATINGS``,
    ``clips`` and ``EMOTIONS``."""

    clips: tuple[str, ...]
    counts: np.ndarray

    def __post_init__(self) -> None:
        if self.counts.shape != (len(RATINGS), len(self.clips), len(EMOTIONS)):
            raise ValueError(f"votes of {len(self.clips)} clips have the shape {self.counts.shape}")

    @property
    def raters(self) -> np.ndarray:
        """(modality, clip) number of raters."""
        return self.counts.sum(axis=2)

    @property
    def fractions(self) -> np.ndarray:
        """(modality, clip, emotion) share of the raters, 0..1."""
        return self.counts / self.raters[..., None]

    @property
    def actors(self) -> np.ndarray:
        """(clip,) the actor's number as text."""
        return np.array([clip[:4] for clip in self.clips])

    @property
    def intended(self) -> np.ndarray:
        """(clip,) index in ``EMOTIONS`` of the intended emotion."""
        return np.array([INTENDED.index(clip.split("_")[2]) for clip in self.clips])


def find(root: Path | str, table: str) -> Path | None:
    """The path of a table of ``PATHS`` in ``root``, or None; ``root`` may be the table itself."""
    root = Path(root)
    if root.is_file() and root.name == table:
        return root
    return next((root / path for path in PATHS[table] if (root / path).is_file()), None)


def read(root: Path | str) -> Votes:
    """The votes under ``root``.

    Raises:
        InputError: the first problem of the table, and the number of further ones.
    """
    votes, problems = scan(root)
    tables.stop_at_first(problems, Path(root))
    return votes


def scan(root: Path | str) -> tuple[Votes, list[str]]:
    """The votes of the clips with valid rows, sorted by clip, and the problems of the table, one line each.

    Raises:
        InputError: there is no table, or it cannot be read.
    """
    path = find(root, VOTES)
    if path is None:
        raise InputError(f"{root}: no {' or '.join(PATHS[VOTES])}; give a clone of CREMA-D, or download its votes: "
                         f"emibook people {root} --fetch")
    table = tables.read_text(path, (*LETTERS, "fileName", "numResponses"))
    problems: list[str] = []
    if table.empty:
        raise InputError(f"{path}: has a header and no rows")

    def add_problems(rows: np.ndarray, reason: str) -> None:
        for row in np.flatnonzero(rows):
            problems.append(f"{path.name}, row {table.iloc[row, 0]}, clip {table['fileName'].iloc[row]}: {reason}")

    # The hundred thousands of the row number are the modality that was shown: 1 voice, 2 face, 3 both.
    shown = tables.numbers(table.iloc[:, 0]) // 100_000 - 1
    counts = np.stack([tables.numbers(table[letter]) for letter in LETTERS], axis=1)  # (row, emotion)
    bad_modality = ~np.isin(shown, range(len(RATINGS)))
    bad_count = ~((counts >= 0) & (counts == np.round(counts))).all(axis=1)
    bad_sum = ~bad_count & (counts.sum(axis=1) != tables.numbers(table["numResponses"]))
    no_votes = ~bad_count & (counts.sum(axis=1) == 0)
    bad_name = ~table["fileName"].str.fullmatch(NAME).to_numpy()
    duplicate = pd.DataFrame({"shown": shown, "clip": table["fileName"]}).duplicated().to_numpy()
    add_problems(bad_modality, "its number does not begin with 1 (voice), 2 (face) or 3 (both)")
    add_problems(bad_count, f"votes {', '.join(LETTERS)} are not all counts")
    add_problems(bad_sum, "the votes do not add up to numResponses")
    add_problems(no_votes, "has no votes")
    add_problems(bad_name, "not named actor_sentence_emotion_level as 1001_IEO_HAP_LO")
    add_problems(duplicate & ~bad_modality, "a second row for the same clip shown the same way")

    good = ~(bad_modality | bad_count | no_votes | bad_name | duplicate)
    clips, index = np.unique(table["fileName"].to_numpy(str)[good], return_inverse=True)
    votes = np.zeros((len(RATINGS), len(clips), len(LETTERS)), np.int64)
    votes[shown[good].astype(int), index] = counts[good].astype(np.int64)
    complete = (votes.sum(axis=2) > 0).all(axis=0)
    for index in np.flatnonzero(~complete):
        missing = [name for name, any_votes in zip(RATINGS, votes[:, index].any(axis=1), strict=True) if not any_votes]
        problems.append(f"{path.name}, clip {clips[index]}: no votes from {' and '.join(missing)}")
    return Votes(tuple(clips[complete].tolist()), votes[:, complete]), problems


def read_actors(root: Path | str) -> pd.DataFrame:
    """The actors: index ``actor`` (text), columns ``age`` (years), ``sex``, ``race``, ``ethnicity``.

    Raises:
        InputError: there is no table, or a row of it is invalid.
    """
    path = find(root, ACTORS)
    if path is None:
        raise InputError(f"{root}: no {ACTORS}; give a clone of CREMA-D, or download it: emibook people {root} "
                         "--fetch")
    columns = {"ActorID": "actor", "Age": "age", "Sex": "sex", "Race": "race", "Ethnicity": "ethnicity"}
    table = tables.read_text(path, list(columns)).rename(columns=columns)[list(columns.values())]
    table["age"] = tables.numbers(table["age"])
    invalid = table["age"].isna() | table["actor"].duplicated() | ~table["actor"].str.fullmatch("[0-9]{4}")
    for actor in table["actor"][invalid]:
        raise InputError(f"{path}, actor {actor or '(empty)'}: no age, no number of four digits, or listed twice")
    return table.set_index("actor")


def fetch(folder: Path | str) -> list[Path]:
    """Download the two small tables (4 MB) that ``folder`` lacks. A file that is there is never replaced.

    Returns:
        The paths of the votes and of the actors.

    Raises:
        InputError: a download failed or has another SHA-256 than ``SHA256``, or ``folder`` has another file of that
            name.
    """
    folder = Path(folder)
    paths = []
    for name, sha256 in SHA256.items():
        path = find(folder, name)
        if path is None:
            path = _download(PATHS[name][0], folder, sha256)
        elif (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
            raise InputError(f"{path}: its SHA-256 is {digest}, not {sha256}; it is not replaced: use it "
                             "without --fetch, or give another folder")
        paths.append(path)
    return paths


def _download(name: str, folder: Path, sha256: str) -> Path:
    import pooch  # loads requests, which only a download needs

    url = f"{SOURCE}/{name}"
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, known_hash=sha256, fname=name, path=folder)
    except OSError as error:  # also the base of all errors of requests
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{url} cannot be fetched ({reason}); try again, or give a clone of CREMA-D") from None
    except ValueError:
        raise InputError(f"{url}: its SHA-256 is not {sha256}; the file was changed or the download is incomplete: try "
                         "again, or give a clone of CREMA-D") from None
    return folder / name
