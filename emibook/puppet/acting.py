"""Expression in the puppet corpus: emotions to action units over time and to a manner of speaking.

Some emotions are predicted better from the face and others from the voice, as published for the real data: Amusement,
Excitement and Joy from the face; Admiration, Determination and Empathic Pain from the voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook.puppet.looks import Pose
from emibook.puppet.muscles import INDEX, UNITS
from emibook.puppet.voice import Manner

MOTION_RATE = 60
"""Points per second of a performance."""


def _units(**intensities: float) -> list[float]:
    return [intensities.get(f"AU{unit}", 0.0) for unit in UNITS]


EXPRESSIONS = np.array(
    [
        _units(AU1=3.0, AU2=2.4, AU5=1.2, AU12=2.0, AU25=2.0, AU26=0.8),
        _units(AU6=3.6, AU7=1.6, AU12=3.8, AU25=3.2, AU26=2.6),
        _units(AU4=3.0, AU7=2.4, AU17=2.2, AU23=3.4),
        _units(AU1=3.2, AU4=2.6, AU9=1.0, AU10=1.0, AU15=3.0, AU17=1.4, AU20=1.2),
        _units(AU1=1.6, AU2=3.2, AU5=3.2, AU12=2.2, AU25=2.8, AU26=3.0),
        _units(AU6=2.8, AU12=4.2, AU14=1.6, AU25=1.2),
    ]
)
"""(emotion, unit) intensities 0..5 at felt intensity 1, emotions in the order of ``hume_vidmimic2.EMOTIONS``."""

MANNERS = np.array(
    [
        [0.5, 0.8, -1.0, -0.15, -3.0, 0.60],
        [6.0, 2.6, 0.0, 0.25, -2.5, 0.10],
        [-4.5, -1.3, 5.0, -0.25, 3.4, -0.12],
        [-2.5, -1.2, -9.0, -0.65, 0.0, 0.05],
        [4.0, 0.6, 4.0, 0.55, 1.0, -0.04],
        [6.0, 1.5, 2.0, -0.05, 2.5, -0.08],
    ]
)
"""(emotion, 6) shift of the manner at felt intensity 1: pitch in semitones, its range in semitones, energy in dB, tempo
in octaves, tilt in dB per octave, breathiness. Admiration is breathy and soft, Determination low, pressed and loud,
Empathic Pain quiet and slow; the other three have a high pitch and differ in the other columns."""

FACE_GAIN = np.array([0.58, 1.0, 0.20, 0.23, 1.0, 1.0])
VOICE_GAIN = np.array([1.1, 1.1, 1.2, 0.95, 0.85, 0.9])
"""(emotion,) how strongly face and voice show each emotion: set so that ridge regression, from noisy units and from
MFCCs, predicts each emotion better from the modality that was published as better."""


@dataclass(frozen=True)
class Performer:
    """A participant: expressiveness, and face and voice at rest."""

    expressiveness: float
    rest_units: np.ndarray
    """(17,) intensities of the face at rest."""
    manner: Manner
    unit_noise: float
    """Standard deviation of units from clip to clip without an emotion, in intensities."""
    pose: Pose
    blink_rate: float
    """Blinks per second."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Performer:
        """A random participant."""
        manner = Manner(
            pitch_hz=float(150 * 2 ** (rng.normal(0, 4.0) / 12)),
            pitch_range=float(rng.uniform(1.6, 2.6)),
            energy=float(0.045 * 10 ** (rng.normal(0, 1.2) / 20)),
            tempo=float(rng.uniform(3.6, 4.6)),
            tilt=float(rng.normal(-6.5, 0.4)),
            breathiness=float(rng.uniform(0.08, 0.22)),
        )
        return cls(
            expressiveness=float(np.clip(rng.lognormal(0.0, 0.18), 0.65, 1.4)),
            rest_units=np.clip(rng.normal(-0.1, 0.30, len(UNITS)), 0, 1.0) * (np.array(UNITS) != 45),
            manner=manner,
            unit_noise=float(rng.uniform(0.15, 0.45)),
            pose=Pose.random(rng, amplitude=0.7),
            blink_rate=float(rng.uniform(0.15, 0.5)),
        )


@dataclass(frozen=True)
class Performance:
    """Face and head of one clip over time."""

    units: np.ndarray
    """(time, 17) intensities 0..5, ``MOTION_RATE`` per second."""
    poses: np.ndarray
    """(time, 8): x, y, scale, roll, yaw, pitch, gaze_x and gaze_y, as in ``Pose``."""

    def at(self, seconds: float) -> tuple[np.ndarray, Pose]:
        """Units (17,) and pose at a time, interpolated."""
        position = min(seconds * MOTION_RATE, len(self.units) - 1)
        before = int(position)
        after, share = min(before + 1, len(self.units) - 1), position - before
        units = (1 - share) * self.units[before] + share * self.units[after]
        x, y, scale, roll, yaw, pitch, gaze_x, gaze_y = (1 - share) * self.poses[before] + share * self.poses[after]
        return units, Pose(x, y, scale, roll, yaw, pitch).looking(gaze_x, gaze_y)


def manner_of(performer: Performer, felt: np.ndarray, rng: np.random.Generator) -> Manner:
    """The performer's manner of speaking at felt intensities ``felt``, ``(6,)`` in 0..1."""
    shift = performer.expressiveness * (felt * VOICE_GAIN) @ MANNERS
    shift = shift + rng.normal(0, [0.6, 0.25, 0.7, 0.06, 0.28, 0.025])
    rest = performer.manner
    return Manner(
        pitch_hz=float(np.clip(rest.pitch_hz * 2 ** (shift[0] / 12), 75, 420)),
        pitch_range=float(np.clip(rest.pitch_range + shift[1], 0.3, 5.0)),
        energy=float(np.clip(rest.energy * 10 ** (shift[2] / 20), 0.006, 0.16)),
        tempo=float(np.clip(rest.tempo * 2 ** shift[3], 1.8, 7.0)),
        tilt=float(np.clip(rest.tilt + shift[4], -12, -2)),
        breathiness=float(np.clip(rest.breathiness + shift[5], 0, 0.9)),
    )


def _drift(rng: np.random.Generator, count: int, width: int, seconds: float) -> np.ndarray:
    """(time, width) smooth noise of standard deviation about 1, interpolated between knots ``seconds`` apart."""
    knots = rng.standard_normal((int(count / MOTION_RATE / seconds) + 3, width))
    position = np.arange(count) / MOTION_RATE / seconds
    before = position.astype(int)
    share = (0.5 - 0.5 * np.cos(np.pi * (position - before)))[:, None]
    return (1 - share) * knots[before] + share * knots[before + 1]


def perform(
    performer: Performer, felt: np.ndarray, seconds: float, loudness: np.ndarray, rng: np.random.Generator
) -> Performance:
    """Units and poses of a clip.

    Args:
        performer: the participant.
        felt: (6,) intensities of the emotions, 0..1.
        seconds: duration.
        loudness: (time,) of the voice, 0..1, ``MOTION_RATE`` per second; it opens the mouth. Empty without a voice.
        rng: source of the random numbers.
    """
    count = max(2, int(np.ceil(seconds * MOTION_RATE)) + 1)
    time = np.arange(count) / MOTION_RATE
    target = performer.expressiveness * (felt * FACE_GAIN) @ EXPRESSIONS
    target = target * rng.lognormal(0, 0.12, len(UNITS)) + performer.unit_noise * np.clip(
        rng.normal(size=len(UNITS)), 0, 2
    )
    # Each unit rises to its apex and falls towards the end, at slightly different times.
    start = rng.uniform(0.0, 0.12) * seconds + rng.uniform(0, 0.06, len(UNITS))
    rise = rng.uniform(0.10, 0.22) * seconds * rng.uniform(0.8, 1.2, len(UNITS))
    fall = seconds * rng.uniform(0.80, 0.95) + rng.uniform(-0.05, 0.05, len(UNITS))
    up = np.clip((time[:, None] - start) / rise, 0, 1)
    down = np.clip((time[:, None] - fall) / (0.25 * seconds), 0, 1)
    apex = (0.5 - 0.5 * np.cos(np.pi * up)) * (0.65 + 0.35 * np.cos(np.pi * down))
    units = performer.rest_units + target * apex * (1 + 0.10 * _drift(rng, count, len(UNITS), 0.35))
    units += 0.10 * _drift(rng, count, len(UNITS), 0.5)
    loud = np.interp(time, np.arange(len(loudness)) / MOTION_RATE, loudness) if len(loudness) else np.zeros(count)
    units[:, INDEX[25]] += 0.9 * loud
    units[:, INDEX[26]] += 0.7 * loud
    units[:, INDEX[45]] = _blinks(performer, time, seconds, rng)
    units = np.clip(units, 0, 5)
    pose = performer.pose
    rest = [pose.x, pose.y, pose.scale, pose.roll, pose.yaw, pose.pitch, pose.gaze_x, pose.gaze_y]
    sway = np.array([0.04, 0.025, 0.01, 0.02, 0.045, 0.03, 0.12, 0.06])
    return Performance(units, np.array(rest) + sway * _drift(rng, count, 8, 0.6))


def _blinks(performer: Performer, time: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    closed = np.zeros(len(time))
    for moment in rng.uniform(0, seconds, rng.poisson(performer.blink_rate * seconds)):
        closed = np.maximum(closed, 5 * np.clip(1.4 - np.abs(time - moment) / 0.09, 0, 1))
    return closed
