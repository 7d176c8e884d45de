"""Plan of a puppet corpus: participant, seed video, duration, emotions, labels and recording fault of each clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook import InputError
from emibook.corpus import PARTITIONS
from emibook.preprocess import media
from emibook.puppet.labels import Labels, sample_labels

CLIP_LIMITS = (20, 20_000)
"""Fewest and most clips of a corpus: three partitions need the one, ids of five digits limit the other."""
MEAN_SECONDS, LOG_DEVIATION = 2.1, 0.345
"""Mean length of a clip, and the standard deviation of its logarithm.

The real clips have a mean of 6.92 s and a 95th percentile of 11.5 s, as a log-normal distribution with this standard
deviation. Ours are about a third as long, which takes a third of the time to render.
Source: the data set's own files (6th ABAW, emotional mimicry intensity challenge).
"""
MIN_SECONDS, MAX_SECONDS = 1.0, 6.0
"""Limits of the duration, except for traps."""
TRAP_SECONDS = {"short": 0.1, "long": 20.0}
STREAMS = {"labels": 0, "participant": 1, "clip": 2, "still": 3, "order": 4}
"""Second part of a seed: separate random numbers for each purpose."""

TRAPS = (
    "variable_rate",  # irregular times of frames
    "absurd_rate",  # as browsers record H.264: the container claims 1000 frames a second, and is no mp4
    "short",  # 0.1 s
    "no_face",  # an empty room
    "half_face",  # the person is absent in the second half
    "no_sound",  # no sound stream at all
    "silence",  # a sound stream of zeros
    "passer_by",  # a second, small face passes in the background
    "webm",  # VP8 and Opus in WebM under a name that ends in mp4
    "long",  # 20 s, far longer than a model's input
)
"""Recording faults known from the real data set; each is given to one clip in 150 to 300."""


@dataclass(frozen=True)
class ClipPlan:
    """Everything that determines the bytes of one clip."""

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
    """Seed of the corpus."""

    @property
    def video(self) -> str:
        """Path of the video under the corpus's folder."""
        return f"test_data/raw/{self.clip}.mp4" if self.partition == "test" else f"raw/{self.clip}.mp4"


def _people(clips: int) -> tuple[int, int, int]:
    """Numbers of participants in train, valid and test: five clips each in a corpus of 150, more in larger ones."""
    people = max(6, round(clips / (5 * max(1.0, clips / 150) ** (1 / 3))))
    valid, test = max(1, round(people / 3)), max(1, round(people * 2 / 15))
    return people - valid - test, valid, test


def plan(clips: int, seed: int) -> list[ClipPlan]:
    """The clips of a corpus of that size and seed, in the order of ids.

    Raises:
        InputError: ``clips`` is outside ``CLIP_LIMITS``.
    """
    if not CLIP_LIMITS[0] <= clips <= CLIP_LIMITS[1]:
        raise InputError(f"{clips} clips asked for; a corpus has {CLIP_LIMITS[0]:,} to {CLIP_LIMITS[1]:,}")
    people = _people(clips)
    partition_of = np.repeat(np.array(PARTITIONS), people)
    participant = np.sort(np.arange(clips) % sum(people))
    partition = partition_of[participant]
    rng = np.random.default_rng([seed, STREAMS["order"]])
    # Participants mimic different sets of seed videos, and every seed video is mimicked by several participants.
    videos = max(6, sum(people))
    seed_video = np.concatenate(
        [rng.permutation(videos)[: int((participant == person).sum())] % videos for person in range(sum(people))]
        if clips <= videos * sum(people)
        else [rng.integers(0, videos, clips)]
    )
    labels = _sample_labels(seed_video, participant, partition, seed)
    traps = np.full(clips, "", dtype=object)
    candidates = rng.permutation(np.flatnonzero(partition != "test"))
    assigned = (list(TRAPS) * max(1, clips // 150))[: clips // 12]
    traps[candidates[: len(assigned)]] = assigned
    seconds = rng.lognormal(np.log(MEAN_SECONDS) - LOG_DEVIATION**2 / 2, LOG_DEVIATION, clips)
    seconds = np.round(np.clip(seconds, MIN_SECONDS, MAX_SECONDS) * media.FRAME_RATE) / media.FRAME_RATE
    # Ids of train and valid are mixed; those of test follow.
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


def _sample_labels(seed_video: np.ndarray, participant: np.ndarray, partition: np.ndarray, seed: int) -> Labels:
    """Labels in which each emotion occurs in train and in valid: sampled until it does, at most 500 times."""
    best, best_count = None, -1
    for attempt in range(500):
        labels = sample_labels(seed_video, participant, np.random.default_rng([seed, STREAMS["labels"], attempt]))
        counts = [(labels.values[partition == name] > 0).sum(0).min() for name in ("train", "valid")]
        needed = [min(8, int((partition == name).sum()) // 7) for name in ("train", "valid")]
        reached = sum(min(count, need) for count, need in zip(counts, needed, strict=True))
        if reached > best_count:
            best, best_count = labels, reached
        if reached == sum(needed):
            break
    return best
