"""Feature sequences and labels of the paper's full size, drawn from a model whose best predictor is known.

    seed video, participant, clip -> latent strength of six emotions -> a few raters -> labels
                                                |
                       score of each emotion in each feature set: the strength, and noise that no training removes
                                                |
                       planted in time (``patterns``) in six of as many channels as the set is wide
                                                |
                       channels mixed like pretrained features: few strong directions, many weak ones

The scores' noise is what bounds every predictor; the steps' noise is mostly averaged away, but has to be learnt away.
Lengths, partitions and people: the data set's documented figures. No video, no sound: the corpus is numbers.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.puppet.labels import VARIANCE_SHARES, sample_labels
from emibook.studies.simulation.patterns import OFFSET, Clock, plant

CLIPS = {"train": 8072, "valid": 4588, "test": 4586}
PARTICIPANTS = 557
CLIPS_A_SEED_VIDEO = 25
WIDTHS = {"vit": 384, "resnet18": 512, "aus": 34, "facenet": 512, "official_vit": 384, "wav2vec2": 1024, "mfcc": 40,
          "official_wav2vec2": 768}  # fmt: skip
MODALITY = {"vit": "V", "resnet18": "V", "aus": "V", "facenet": "V", "official_vit": "V", "wav2vec2": "A", "mfcc": "A",
            "official_wav2vec2": "A"}  # fmt: skip
"""Of the feature sets of these names, ``features.EXTRACTORS``, which this module is not to import."""
BY_FACE = np.array([-1, 1, -1, -1, 1, 1])
"""Which emotions the face tells better than the voice. Source: reports of challenge teams on this data set."""
CROSSING = 0.08
"""How far the emotions that a modality tells better lie above its mean correlation, and the others below."""
ABSENT = 0.02
"""The share of clips without a face, and as many without a sound."""
SPECTRUM = 1.0
"""The k-th strongest direction of a feature set has 1 / k^SPECTRUM of the first one's variance."""
BULK_SECONDS, BULK_SHAPE = 6.75, 7.0
RARE = 0.0005
"""Lengths: gamma-distributed; as rare as this, far shorter (from 0.064 s) and far longer (to 1,250 s) ones."""
PARTICIPANT = {"latent": 0.026, "score": 0.045}
"""Of the variance of the latent strengths, and of the scores' noise, what goes with the participant.

As in CREMA-D: ``labels.variance_shares`` of the votes on voice and face together over sentence, emotion and level, and
actor, gives the actor 0.023 of the variance, 0.026 of what is not the luck of a few raters; of what the votes on the
voice alone and on the face alone leave of them, 0.040 and 0.047. ``tests/test_simulated.py`` computes them again.
"""
LEGIBLE, LEGIBLE_ALIKE = 0.24, 0.15
"""How much participants differ in how well they can be read: the relative spread of the slope of one rating on another
from actor to actor, 0.29 for voices and 0.20 for faces in CREMA-D, and how alike it is from emotion to emotion."""


@dataclass(frozen=True)
class Planted:
    """A feature set: how each emotion's score correlates with its latent strength, and where it lies in time."""

    name: str
    width: int
    correlations: tuple[float, ...]
    patterns: tuple[str, ...]

    @property
    def modality(self) -> str:
        """``V`` or ``A``."""
        return MODALITY[self.name]


@dataclass(frozen=True)
class Simulation:
    """All that decides what is drawn; equal ones draw the same numbers."""

    sets: tuple[Planted, ...]
    clips: tuple[int, int, int] = tuple(CLIPS.values())
    steps: int = 300
    rate: float = 30.0
    """Steps a second."""
    alike: float = 0.0
    """Correlation between the noises of one emotion's scores in two sets of one modality."""
    legible: float = 0.0
    """See ``LEGIBLE``. Where it is not 0 no formula tells what is attainable, on average over people."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.clips) < 0 or self.clips[0] < 3 or self.steps < 1 or self.rate <= 0:
            raise InputError(f"cannot simulate {self.clips} clips of {self.steps} steps at {self.rate:g} a second")
        for each in self.sets:
            if each.name not in MODALITY:
                raise InputError(f"no simulated feature set {each.name!r}; there are {', '.join(MODALITY)}")
            if each.width < len(EMOTIONS):
                raise InputError(f"{each.name}: {each.width} features cannot hold {len(EMOTIONS)} emotions")

    @property
    def clock(self) -> Clock:
        """The steps' clock."""
        return Clock(self.rate)

    def chosen(self, features: str) -> tuple[Planted, ...]:
        """The sets of ``resnet18+aus``."""
        found = {each.name: each for each in self.sets}
        if missing := [name for name in features.split("+") if name not in found]:
            raise InputError(f"{missing[0]} was not simulated; there are {', '.join(found)}")
        return tuple(found[name] for name in features.split("+"))


@dataclass(frozen=True)
class Clips:
    """What the clips are. ``table``: clip, partition, participant, seed_video, seconds, steps, V, A, the labels."""

    table: pandas.DataFrame
    latent: np.ndarray
    """(clip, emotion), each of variance 1."""


@dataclass(frozen=True)
class Packed:
    """One partition of a feature set: ``values`` (step of all clips, feature) float16, clip i from ``offsets[i]``."""

    names: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray


@functools.lru_cache(8)
def clips(simulation: Simulation) -> Clips:
    """Who is seen, how long, and what raters said; the same whatever feature sets there are."""
    return _clips(simulation.clips, simulation.steps, simulation.rate, simulation.seed)


@functools.lru_cache(8)
def _clips(sizes: tuple[int, ...], steps: int, rate: float, seed: int) -> Clips:
    rng = np.random.default_rng([seed, 0])
    count = sum(sizes)
    people = [max(1, round(PARTICIPANTS * size / sum(CLIPS.values()))) if size else 0 for size in sizes]
    partition = np.repeat(list(CLIPS), sizes)
    first = np.repeat(np.cumsum([0, *people[:-1]]), sizes)
    participant = first + (rng.random(count) * np.repeat(people, sizes)).astype(int)
    seed_video = rng.integers(0, max(1, round(count / CLIPS_A_SEED_VIDEO)), count)
    shares = {**VARIANCE_SHARES, "participant": PARTICIPANT["latent"],
              "clip": 1 - VARIANCE_SHARES["seed_video"] - PARTICIPANT["latent"]}
    labels = sample_labels(seed_video, participant, rng, shares)
    seconds = rng.gamma(BULK_SHAPE, BULK_SECONDS / BULK_SHAPE, count).clip(0.064)
    kind = rng.random(count)
    seconds = np.where(kind < RARE, np.exp(rng.uniform(np.log(0.064), np.log(0.5), count)), seconds)
    seconds = np.where(kind > 1 - RARE, np.exp(rng.uniform(np.log(30), np.log(1250), count)), seconds)
    table = pandas.DataFrame({
        "clip": [f"{number:05}" for number in range(count)],
        "partition": partition,
        "participant": [f"p{number:03}" for number in participant],
        "seed_video": seed_video,
        "seconds": seconds,
        "steps": np.clip(np.round(seconds * rate), 1, steps).astype(int),
        "V": rng.random(count) >= ABSENT,
        "A": rng.random(count) >= ABSENT,
    })
    table[list(EMOTIONS)] = labels.values
    return Clips(table, labels.latent)


def scores(simulation: Simulation, planted: Planted) -> np.ndarray:
    """(clip, emotion) what is planted: the latent strength and noise, of variance 1."""
    drawn = clips(simulation)
    common = _noise(drawn, np.random.default_rng([simulation.seed, 2, *planted.modality.encode()]))
    own = _noise(drawn, np.random.default_rng([simulation.seed, 3, _number(planted.name)]))
    noise = np.sqrt(simulation.alike) * common + np.sqrt(1 - simulation.alike) * own
    correlations = np.array(planted.correlations)
    if simulation.legible:
        rng = np.random.default_rng([simulation.seed, 7, *planted.modality.encode()])
        person = pandas.factorize(drawn.table["participant"])[0]
        alike, own = rng.standard_normal((person.max() + 1, 1)), rng.standard_normal((person.max() + 1, len(EMOTIONS)))
        factor = 1 + simulation.legible * (np.sqrt(LEGIBLE_ALIKE) * alike + np.sqrt(1 - LEGIBLE_ALIKE) * own)
        correlations = np.clip(correlations * factor[person], 0, 0.999)
    return correlations * drawn.latent + np.sqrt(1 - correlations**2) * noise


def _noise(drawn: Clips, rng: np.random.Generator) -> np.ndarray:
    """(clip, emotion) of variance 1, a part of it the participant's."""
    person = pandas.factorize(drawn.table["participant"])[0]
    of_person = rng.standard_normal((person.max() + 1, len(EMOTIONS)))[person]
    of_clip = rng.standard_normal(drawn.latent.shape)
    return np.sqrt(PARTICIPANT["score"]) * of_person + np.sqrt(1 - PARTICIPANT["score"]) * of_clip


def draw(simulation: Simulation, name: str, partition: str) -> Packed:
    """One feature set of one partition, drawn clip by clip straight into float16."""
    planted = simulation.chosen(name)[0]
    rows = clips(simulation).table["partition"].to_numpy() == partition
    table = clips(simulation).table[rows]
    steps = np.where(table[planted.modality], table["steps"], 0)
    offsets = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    values = np.empty((offsets[-1], planted.width), np.float16)
    mixing, centre = _mixing(simulation.seed, name, planted.width)
    for place, series in enumerate(channels(simulation, planted, np.flatnonzero(rows))):
        if series is not None:
            values[offsets[place] : offsets[place + 1]] = series @ mixing + centre
    return Packed(tuple(f"{name}_{number}" for number in range(planted.width)), values, offsets)


def channels(simulation: Simulation, planted: Planted, places: np.ndarray) -> Iterator[np.ndarray | None]:
    """For each clip its channels (step, width) float32, or None where it is empty in the modality."""
    drawn, clock = clips(simulation), simulation.clock
    planted_scores = scores(simulation, planted)
    steps, there = drawn.table["steps"].to_numpy(), drawn.table[planted.modality].to_numpy()
    person = pandas.factorize(drawn.table["participant"])[0]
    share = PARTICIPANT["score"]
    for place in places:
        if not there[place]:
            yield None
            continue
        key = [simulation.seed, _number(planted.name)]
        rng = np.random.default_rng([*key, 4, place])
        series = clock.noise(steps[place], planted.width, rng)
        face = np.random.default_rng([*key, 5, person[place]]).standard_normal(planted.width, np.float32)
        light = rng.standard_normal(planted.width, np.float32)
        series += np.float32(np.sqrt(OFFSET)) * (np.sqrt(share) * face + np.sqrt(1 - share) * light).astype("f4")
        for emotion, pattern in enumerate(planted.patterns):
            series[:, emotion] += plant(pattern, planted_scores[place, emotion], steps[place], clock, rng)
        yield series


@functools.lru_cache(4)
def _mixing(seed: int, name: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(channel, feature) and (feature,): every channel is spread over strong and weak directions alike."""
    rng = np.random.default_rng([seed, _number(name), 6])
    turns = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2)]
    variance = np.arange(1, width + 1) ** -SPECTRUM
    size = np.exp(rng.normal(0, 0.5, width))  # features have sizes and centres of their own
    mixing = (turns[0] * np.sqrt(variance / variance.mean())) @ turns[1] * size
    return mixing.astype(np.float32), (2 * size * rng.standard_normal(width)).astype(np.float32)


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
