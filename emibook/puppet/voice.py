"""The puppet's voice: glottal pulses and noise through the formants of a few vowels, in syllables without words.

Source: the source-filter theory of speech (Fant, Acoustic Theory of Speech Production, 1960); formants are rounded
averages for men and women.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from emibook.preprocess.media import SAMPLE_RATE

VOWELS = {
    "a": (780, 1300, 2550, 3500),
    "e": (540, 1900, 2550, 3500),
    "i": (310, 2250, 2950, 3600),
    "o": (510, 950, 2450, 3400),
    "u": (340, 850, 2350, 3400),
}
"""Formant frequencies in Hz."""
HIGHER_FORMANTS = (4500, 5500, 6500, 7500)
"""The same for every vowel, in Hz: those of a tube of 17.5 cm. Without them nothing would remain above 4 kHz."""
BANDWIDTHS = (80.0, 100.0, 140.0, 200.0, 300.0, 350.0, 400.0, 450.0)
"""Bandwidth of each formant in Hz."""
HIGHEST_HARMONIC_HZ = 7500.0
BREATH = 0.7
"""Root mean square of breath in the source, relative to glottal pulses of 1."""


@dataclass(frozen=True)
class Manner:
    """Manner of speaking: prosody and voice quality."""

    pitch_hz: float = 150.0
    """Median fundamental frequency of the voiced parts."""
    pitch_range: float = 2.0
    """Standard deviation of pitch from syllable to syllable, in semitones."""
    energy: float = 0.05
    """Root mean square of the whole, as a share of full scale."""
    tempo: float = 4.0
    """Syllables per second."""
    tilt: float = -6.0
    """Spectral tilt of the glottal source in dB per octave; nearer to 0 is a pressed, bright voice."""
    breathiness: float = 0.1
    """Share 0..1 of breath noise in the source of the voiced parts."""


@dataclass(frozen=True)
class _Syllables:
    starts: np.ndarray
    """Seconds."""
    lengths: np.ndarray
    vowels: np.ndarray
    """Index in ``VOWELS``."""
    semitones: np.ndarray
    """Pitch relative to the manner's."""
    consonants: np.ndarray
    """Strength of the noise before the vowel, 0 for none."""


def _plan(seconds: float, manner: Manner, rng: np.random.Generator) -> _Syllables:
    period = 1 / manner.tempo
    count = max(1, round((seconds - 0.1) / period))
    starts = 0.05 + period * (np.arange(count) + rng.uniform(-0.12, 0.12, count))
    semitones = rng.standard_normal(count)
    if count > 1:
        semitones = (semitones - np.median(semitones)) / max(float(semitones.std()), 0.3)
    return _Syllables(
        starts=starts,
        lengths=period * rng.uniform(0.62, 0.78, count),
        vowels=rng.integers(0, len(VOWELS), count),
        semitones=manner.pitch_range * semitones,
        consonants=rng.uniform(0.3, 1.0, count) * (rng.uniform(size=count) < 0.7),
    )


def _envelope(time: np.ndarray, start: float, length: float, edge: float) -> np.ndarray:
    """0 outside a syllable, 1 inside, raised cosines of ``edge`` seconds between."""
    up = np.clip((time - start) / edge, 0, 1)
    down = np.clip((start + length - time) / edge, 0, 1)
    return 0.25 * (1 - np.cos(np.pi * up)) * (1 - np.cos(np.pi * down))


def _during(start: float, length: float, rate: int) -> slice:
    """The samples of that time, with one more at each end."""
    return slice(max(0, int(start * rate) - 1), max(0, int((start + length) * rate) + 2))


def _harmonics(pitch: np.ndarray, tilt: float, rate: int) -> np.ndarray:
    """A train of glottal pulses: all harmonics below a limit, falling by ``tilt`` dB per octave."""
    phasor = np.exp(2j * np.pi * np.cumsum(pitch) / rate)
    harmonic = np.ones_like(phasor)
    source = np.zeros_like(pitch)
    for number in range(1, int(HIGHEST_HARMONIC_HZ / pitch.min()) + 1):
        harmonic *= phasor  # a product is several times faster than a sine
        wave = 10 ** (tilt * np.log2(number) / 20) * harmonic.imag
        if number * pitch.max() > HIGHEST_HARMONIC_HZ - 400:
            wave *= np.clip((HIGHEST_HARMONIC_HZ - number * pitch) / 400, 0, 1)
        source += wave
    return source / (source.std() + 1e-9)


def _vowel(sound: np.ndarray, formants: tuple[int, ...], rate: int) -> np.ndarray:
    """Filter the sound by the formants, resonators in series."""
    for frequency, width in zip((*formants, *HIGHER_FORMANTS), BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * width / rate)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    return sound


def speak(seconds: float, manner: Manner, *, rng: np.random.Generator, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Synthesise speech-like sound.

    Its root mean square is ``manner.energy``, or less where peaks near full scale are compressed.

    Args:
        seconds: duration.
        manner: prosody and voice quality.
        rng: source of the random numbers.
        rate: samples per second.

    Returns:
        (sample,) float32 in -1..1.
    """
    count = round(seconds * rate)
    time = np.arange(count) / rate
    syllables = _plan(seconds, manner, rng)
    middle = syllables.starts + syllables.lengths / 2
    semitones = np.interp(time, middle, syllables.semitones) + 0.6 * (0.5 - time / max(seconds, 1e-3))
    wobble = lfilter([0.02], [1, -0.98], rng.standard_normal(count)) * 0.12
    pitch = np.clip(manner.pitch_hz * 2 ** ((semitones + wobble) / 12), 55, 600)

    voiced = np.zeros(count)
    weights = np.zeros((len(VOWELS), count))
    hiss = np.zeros(count)
    for start, length, vowel, consonant in zip(
        syllables.starts, syllables.lengths, syllables.vowels, syllables.consonants, strict=True
    ):
        during = _during(start, length, rate)
        shape = _envelope(time[during], start, length, min(0.045, length / 3))
        voiced[during] += shape
        weights[vowel, during] += shape
        before = _during(start - 0.05, 0.06, rate)
        hiss[before] += consonant * _envelope(time[before], start - 0.05, 0.06, 0.02)

    share = np.clip(manner.breathiness, 0, 1)
    source = np.sqrt(1 - share) * _harmonics(pitch, manner.tilt, rate)
    breath = sosfilt(butter(2, 500, "highpass", fs=rate, output="sos"), rng.standard_normal(count))
    source += BREATH * np.sqrt(share) * breath
    mixture = weights / (weights.sum(0) + 1e-6)
    speech = np.zeros(count)
    for index, formants in enumerate(VOWELS.values()):
        if mixture[index].any():
            sound = _vowel(source, formants, rate)
            speech += mixture[index] * sound / (sound.std() + 1e-9)
    speech *= voiced
    consonants = sosfilt(butter(2, (2500, 6500), "bandpass", fs=rate, output="sos"), rng.standard_normal(count))
    speech += 0.35 * hiss * consonants / (consonants.std() + 1e-9)
    speech *= manner.energy / (np.sqrt(np.mean(speech**2)) + 1e-9)
    over = np.abs(speech) > 0.8
    speech[over] = np.sign(speech[over]) * (0.8 + 0.2 * np.tanh((np.abs(speech[over]) - 0.8) / 0.2))
    return speech.astype(np.float32)
