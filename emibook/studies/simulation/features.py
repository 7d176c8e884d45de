"""Feature sequences and labels of the paper's full size, simulated from a model whose best predictor is known.

    seed video, participant, clip -> latent strength of six emotions -> a few raters -> labels
                                                |
                       score of each emotion in each feature set: the strength, and irreducible noise
                                                |
                       planted in time (``patterns``) in six of the set's channels
                                                |
                       channels mixed like pretrained features: few strong directions, many weak ones

The scores' noise bounds every predictor; the steps' noise mostly averages out, but a network has to learn to remove it.
Lengths, partitions and participants follow the data set's documented figures. There is no video and no sound.
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
CLIPS_PER_SEED_VIDEO = 25
WIDTHS = {"vit": 384, "resnet18": 512, "aus": 34, "facenet": 512, "official_vit": 384, "wav2vec2": 1024, "mfcc": 40,
          "official_wav2vec2": 768}  # fmt: skip
MODALITY = {"vit": "V", "resnet18": "V", "aus": "V", "facenet": "V", "official_vit": "V", "wav2vec2": "A", "mfcc": "A",
            "official_wav2vec2": "A"}  # fmt: skip
"""As in ``features.EXTRACTORS``, which this module does not import: it would load the encoders."""
BY_FACE = np.array([-1, 1, -1, -1, 1, 1])
"""1 for emotions that the face shows better than the voice, else -1. Source: reports of teams on this data set."""
CROSSING = 0.08
"""How far a modality's correlations lie above their mean for emotions that it shows better, and below for others."""
ABSENT = 0.02
"""The share of clips without a face, and as many without sound."""
SPECTRUM = 1.0
"""The k-th strongest direction of a feature set has 1 / k^SPECTRUM of the first one's variance."""
BULK_SECONDS, BULK_SHAPE = 6.75, 7.0
RARE = 0.0005
"""Lengths are gamma-distributed; this share is far shorter (from 0.064 s), and as many are far longer (to 1,250 s)."""
PARTICIPANT = {"latent": 0.026, "score": 0.045}
"""The participant's share of the variance of the latent strengths, and of the scores' noise.

As in CREMA-D: ``labels.variance_shares`` of the votes on voice and face together over sentence, emotion and level, and
actor, attributes 0.023 of the variance to the actor, 0.026 of what is not rater noise; of the residuals of the votes on
the voice alone and on the face alone, 0.040 and 0.047. ``tests/studies/test_simulation.py`` computes them again.
"""
BETWEEN_PERSON_SD, BETWEEN_PERSON_CORRELATION = 0.24, 0.15
"""Between-person variation of the scores' slope on the latent strength: its standard deviation relative to its mean,
and its correlation from emotion to emotion. In CREMA-D the slope of one rating on another varies by 0.29 for voices and
0.20 for faces from actor to actor."""


@dataclass(frozen=True)
class SimulatedSet:
    """A feature set to simulate: its width, and for each emotion how its score is planted."""

    name: str
    width: int
    correlations: tuple[float, ...]
    """(emotion,) of each score with the latent strength."""
    patterns: tuple[str, ...]
    """(emotion,) how each score lies in time, one of ``patterns.PATTERNS``."""

    @property
    def modality(self) -> str:
        """``V`` or ``A``."""
        return MODALITY[self.name]


@dataclass(frozen=True)
class Simulation:
    """The settings of a simulation. Equal settings give equal numbers.

    Raises:
        InputError: sizes that cannot be simulated, an unknown feature set, or one too narrow for the emotions.
    """

    sets: tuple[SimulatedSet, ...]
    clips: tuple[int, int, int] = tuple(CLIPS.values())
    steps: int = 300
    frame_rate: float = 30.0
    """Steps per second."""
    noise_correlation: float = 0.0
    """Between the noises of one emotion's scores in two sets of one modality."""
    between_person_sd: float = 0.0
    """See ``BETWEEN_PERSON_SD``. Where it is not 0 there is no formula for what is attainable."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.clips) < 0 or self.clips[0] < 3 or self.steps < 1 or self.frame_rate <= 0:
            raise InputError(f"cannot simulate {self.clips} clips of {self.steps} steps, {self.frame_rate:g} a second")
        for feature_set in self.sets:
            if feature_set.name not in MODALITY:
                raise InputError(f"no simulated feature set {feature_set.name!r}; there are {', '.join(MODALITY)}")
            if feature_set.width < len(EMOTIONS):
                raise InputError(
                    f"{feature_set.name}: {feature_set.width} features cannot hold {len(EMOTIONS)} emotions")

    @property
    def clock(self) -> Clock:
        """The noise process of the channels."""
        return Clock(self.frame_rate)

    def chosen(self, features: str) -> tuple[SimulatedSet, ...]:
        """The sets of a joined name, such as ``resnet18+aus``. Raises ``InputError`` for one that is not simulated."""
        by_name = {feature_set.name: feature_set for feature_set in self.sets}
        if missing := [name for name in features.split("+") if name not in by_name]:
            raise InputError(f"{missing[0]} was not simulated; there are {', '.join(by_name)}")
        return tuple(by_name[name] for name in features.split("+"))


@dataclass(frozen=True)
class SimulatedClips:
    """The clips. ``table``: clip, partition, participant, seed_video, seconds, steps, V, A (bool), and the labels."""

    table: pandas.DataFrame
    latent: np.ndarray
    """(clip, emotion) latent strengths, each of variance 1."""


@dataclass(frozen=True)
class Packed:
    """One partition of a feature set: ``values`` (step of all clips, feature) float16, clip i from ``offsets[i]``."""

    names: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray


@functools.lru_cache(8)
def clips(simulation: Simulation) -> SimulatedClips:
    """Participants, lengths and labels of the clips; they do not depend on the feature sets."""
    return _clips(simulation.clips, simulation.steps, simulation.frame_rate, simulation.seed)


@functools.lru_cache(8)
def _clips(sizes: tuple[int, ...], steps: int, frame_rate: float, seed: int) -> SimulatedClips:
    rng = np.random.default_rng([seed, 0])
    count = sum(sizes)
    people = [max(1, round(PARTICIPANTS * size / sum(CLIPS.values()))) if size else 0 for size in sizes]
    partition = np.repeat(list(CLIPS), sizes)
    first = np.repeat(np.cumsum([0, *people[:-1]]), sizes)
    participant = first + (rng.random(count) * np.repeat(people, sizes)).astype(int)
    seed_video = rng.integers(0, max(1, round(count / CLIPS_PER_SEED_VIDEO)), count)
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
        "steps": np.clip(np.round(seconds * frame_rate), 1, steps).astype(int),
        "V": rng.random(count) >= ABSENT,
        "A": rng.random(count) >= ABSENT,
    })
    table[list(EMOTIONS)] = labels.values
    return SimulatedClips(table, labels.latent)


def labels(simulation: Simulation, partition: str) -> np.ndarray:
    """(clip, emotion) the labels of a partition, test clips included."""
    table = clips(simulation).table
    return table.loc[table["partition"] == partition, list(EMOTIONS)].to_numpy()


def scores(simulation: Simulation, planted: SimulatedSet) -> np.ndarray:
    """(clip, emotion) the scores to plant: the latent strength and noise, of variance 1."""
    simulated = clips(simulation)
    common = _noise(simulated, np.random.default_rng([simulation.seed, 2, *planted.modality.encode()]))
    own = _noise(simulated, np.random.default_rng([simulation.seed, 3, _number(planted.name)]))
    alike = simulation.noise_correlation
    noise = np.sqrt(alike) * common + np.sqrt(1 - alike) * own
    correlations = np.array(planted.correlations)
    if simulation.between_person_sd:
        rng = np.random.default_rng([simulation.seed, 7, *planted.modality.encode()])
        person = pandas.factorize(simulated.table["participant"])[0]
        common, own = rng.standard_normal((person.max() + 1, 1)), rng.standard_normal((person.max() + 1, len(EMOTIONS)))
        deviation = np.sqrt(BETWEEN_PERSON_CORRELATION) * common + np.sqrt(1 - BETWEEN_PERSON_CORRELATION) * own
        factor = 1 + simulation.between_person_sd * deviation
        correlations = np.clip(correlations * factor[person], 0, 0.999)
    return correlations * simulated.latent + np.sqrt(1 - correlations**2) * noise


def _noise(simulated: SimulatedClips, rng: np.random.Generator) -> np.ndarray:
    """(clip, emotion) of variance 1, a part of it the participant's."""
    person = pandas.factorize(simulated.table["participant"])[0]
    of_person = rng.standard_normal((person.max() + 1, len(EMOTIONS)))[person]
    of_clip = rng.standard_normal(simulated.latent.shape)
    return np.sqrt(PARTICIPANT["score"]) * of_person + np.sqrt(1 - PARTICIPANT["score"]) * of_clip


def draw(simulation: Simulation, name: str, partition: str) -> Packed:
    """One feature set of one partition, simulated clip by clip straight into float16."""
    planted = simulation.chosen(name)[0]
    rows = clips(simulation).table["partition"].to_numpy() == partition
    table = clips(simulation).table[rows]
    steps = np.where(table[planted.modality], table["steps"], 0)
    offsets = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    values = np.empty((offsets[-1], planted.width), np.float16)
    mixing, centre = _mixing(simulation.seed, name, planted.width)
    for index, series in enumerate(channels(simulation, planted, np.flatnonzero(rows))):
        if series is not None:
            values[offsets[index] : offsets[index + 1]] = series @ mixing + centre
    return Packed(tuple(f"{name}_{number}" for number in range(planted.width)), values, offsets)


def channels(simulation: Simulation, planted: SimulatedSet, rows: np.ndarray) -> Iterator[np.ndarray | None]:
    """For each clip of ``rows`` its channels (step, width) float32, or None where it is empty in the modality."""
    simulated, clock = clips(simulation), simulation.clock
    planted_scores = scores(simulation, planted)
    steps, present = simulated.table["steps"].to_numpy(), simulated.table[planted.modality].to_numpy()
    person = pandas.factorize(simulated.table["participant"])[0]
    share = PARTICIPANT["score"]
    for row in rows:
        if not present[row]:
            yield None
            continue
        key = [simulation.seed, _number(planted.name)]
        rng = np.random.default_rng([*key, 4, row])
        series = clock.noise(steps[row], planted.width, rng)
        face = np.random.default_rng([*key, 5, person[row]]).standard_normal(planted.width, np.float32)
        light = rng.standard_normal(planted.width, np.float32)
        series += np.float32(np.sqrt(OFFSET)) * (np.sqrt(share) * face + np.sqrt(1 - share) * light).astype("f4")
        for emotion, pattern in enumerate(planted.patterns):
            series[:, emotion] += plant(pattern, planted_scores[row, emotion], steps[row], clock, rng)
        yield series


@functools.lru_cache(4)
def _mixing(seed: int, name: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(channel, feature) weights and (feature,) centres: each channel lies in strong and weak directions alike."""
    rng = np.random.default_rng([seed, _number(name), 6])
    turns = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2)]
    variance = np.arange(1, width + 1) ** -SPECTRUM
    size = np.exp(rng.normal(0, 0.5, width))  # each feature has its own scale and centre
    mixing = (turns[0] * np.sqrt(variance / variance.mean())) @ turns[1] * size
    return mixing.astype(np.float32), (2 * size * rng.standard_normal(width)).astype(np.float32)


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
