"""What a puppet corpus consists of: who mimics what for how long, what is felt, and which clips are traps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook import InputError
from emibook.corpus import PARTITIONS
from emibook.puppet.labels import Labels, draw_labels

CLOCK = 30
CLIPS = (20, 20_000)
"""Fewest and most clips of a corpus: fewer give three partitions nothing to show, more have no id of five digits."""
MEAN_SECONDS, SPREAD = 2.1, 0.345
"""Mean length of a clip, and the standard deviation of its logarithm.

The real clips have a mean of 6.92 s and 95 % of them are under 11.5 s, as the lengths of a log-normal law of that
spread; ours are about a third as long, to be drawn in a third of the time.
Source: the data set's own files (6th ABAW, emotional mimicry intensity challenge).
"""
SHORTEST, LONGEST = 1.0, 6.0
"""Seconds, traps left out."""
TRAP_SECONDS = {"short": 0.1, "long": 20.0}
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
    "long",  # twenty seconds, far longer than what a model looks at
)
"""What the recordings of the real set are known for; each is given to one clip in 150 to 300."""


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
    if not CLIPS[0] <= clips <= CLIPS[1]:
        raise InputError(f"{clips} clips asked for; a corpus has {CLIPS[0]:,} to {CLIPS[1]:,}")
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
    wanted = (list(TRAPS) * max(1, clips // 150))[: clips // 12]
    traps[candidates[: len(wanted)]] = wanted
    seconds = rng.lognormal(np.log(MEAN_SECONDS) - SPREAD**2 / 2, SPREAD, clips)
    seconds = np.round(np.clip(seconds, SHORTEST, LONGEST) * CLOCK) / CLOCK
    # Train and valid are mixed in one run of ids; test goes on where they end.
    order = np.concatenate([rng.permutation(np.flatnonzero(partition != "test")), np.flatnonzero(partition == "test")])
    return [
        ClipPlan(
            clip=f"{number:05d}",
            partition=str(partition[row]),
            participant=int(participant[row]),
            seed_video=int(seed_video[row]),
            seconds=TRAP_SECONDS.get(traps[row], float(seconds[row])),
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
