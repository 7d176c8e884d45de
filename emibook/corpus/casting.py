"""What a puppet corpus consists of: who mimics what for how long, what is felt, and which clips are traps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook import InputError
from emibook.corpus import PARTITIONS
from emibook.corpus.labels import Labels, draw_labels

CLOCK = 30
SECONDS = (1.5, 2.25)
"""Shortest and longest clip, traps left out."""
STREAMS = {"labels": 0, "participant": 1, "clip": 2, "still": 3, "order": 4}
"""Keeps the random numbers of one purpose apart from those of another under the same seed."""

TRAPS = (
    "variable_rate",  # frames come when they come
    "absurd_rate",  # as browsers record H.264: the container claims 1000 frames a second, and is no mp4
    "short",  # a tenth of a second
    "no_face",  # an empty room
    "half_face",  # the person is gone after half the time
    "no_sound",  # no sound stream at all
    "silence",  # a sound stream of zeros
    "passer_by",  # somebody walks by in the background
    "webm",  # VP8 and Opus in WebM under a name that ends in mp4
)
"""What the recordings of the real set are known for; each is given to about one clip in 150."""


@dataclass(frozen=True)
class ClipPlan:
    """All that decides the bytes of one clip."""

    clip: str
    partition: str
    participant: int
    seed_video: int
    seconds: float
    trap: str
    felt: tuple[float, ...]
    raters: int
    labels: tuple[float, ...]
    seed: int
    """Of the corpus."""

    @property
    def video(self) -> str:
        return f"test_data/raw/{self.clip}.mp4" if self.partition == "test" else f"raw/{self.clip}.mp4"


def _people(clips: int) -> tuple[int, int, int]:
    """How many participants train, valid and test have; a participant has five clips of 150, more of more."""
    people = max(6, round(clips / (5 * max(1.0, clips / 150) ** (1 / 3))))
    valid, test = max(1, round(people / 3)), max(1, round(people * 2 / 15))
    return people - valid - test, valid, test


def plan(clips: int, seed: int) -> list[ClipPlan]:
    """What a corpus of that size and seed consists of, in the order of ids."""
    if clips < 12:
        raise InputError(f"{clips} clips asked for; 12 are the fewest that give three partitions something to show")
    people = _people(clips)
    where = np.repeat(np.array(PARTITIONS), people)
    participant = np.sort(np.arange(clips) % sum(people))
    partition = where[participant]
    rng = np.random.default_rng([seed, STREAMS["order"]])
    # Every participant mimics other seed videos, and every seed video is mimicked by several participants.
    videos = max(6, sum(people))
    seed_video = np.concatenate(
        [rng.permutation(videos)[: int((participant == person).sum())] % videos for person in range(sum(people))]
        if clips <= videos * sum(people)
        else [rng.integers(0, videos, clips)]
    )
    labels = _labels_of_all(seed_video, participant, partition, seed)
    traps = np.full(clips, "", dtype=object)
    candidates = rng.permutation(np.flatnonzero(partition != "test"))
    wanted = list(TRAPS) * max(1, round(clips / 150))
    wanted = wanted[: max(0, min(len(wanted), clips // 12 if clips < 120 else len(wanted)))]
    traps[candidates[: len(wanted)]] = wanted
    seconds = np.round(rng.uniform(*SECONDS, clips) * CLOCK) / CLOCK
    # Train and valid are mixed in one run of ids; test goes on where they end.
    order = np.concatenate([rng.permutation(np.flatnonzero(partition != "test")), np.flatnonzero(partition == "test")])
    return [
        ClipPlan(
            clip=f"{number:05d}",
            partition=str(partition[row]),
            participant=int(participant[row]),
            seed_video=int(seed_video[row]),
            seconds=0.1 if traps[row] == "short" else float(seconds[row]),
            trap=str(traps[row]),
            felt=tuple(map(float, labels.felt[row])),
            raters=int(labels.raters[row]),
            labels=tuple(map(float, labels.values[row])),
            seed=seed,
        )
        for number, row in enumerate(order)
    ]


def _labels_of_all(seed_video: np.ndarray, participant: np.ndarray, partition: np.ndarray, seed: int) -> Labels:
    """Labels in which each emotion occurs in train and in valid, drawn again until it does."""
    best, most = None, -1
    for attempt in range(500):
        labels = draw_labels(seed_video, participant, np.random.default_rng([seed, STREAMS["labels"], attempt]))
        counts = [(labels.values[partition == name] > 0).sum(0).min() for name in ("train", "valid")]
        needed = [min(8, int((partition == name).sum()) // 7) for name in ("train", "valid")]
        reached = sum(min(count, need) for count, need in zip(counts, needed, strict=True))
        if reached > most:
            best, most = labels, reached
        if reached == sum(needed):
            break
    return best
