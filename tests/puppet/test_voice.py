from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import opensmile
import pytest
from scipy.signal import find_peaks

from emibook.preprocess.media import SAMPLE_RATE
from emibook.puppet.voice import Manner, speak

PLAIN = Manner()


def say(manner: Manner, seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    return speak(seconds, manner, rng=np.random.default_rng(seed))


def measured_pitch(sound: np.ndarray) -> np.ndarray:
    pitch, voiced, _ = librosa.pyin(sound, sr=SAMPLE_RATE, fmin=60, fmax=500, frame_length=1024, resolution=0.2)
    return pitch[voiced]


def syllable_rate(sound: np.ndarray) -> float:
    envelope = librosa.feature.rms(y=sound, frame_length=640, hop_length=160)[0]
    envelope = np.convolve(envelope, np.hanning(9) / np.hanning(9).sum(), "same")
    peaks, _ = find_peaks(envelope, prominence=0.25 * envelope.max(), distance=6)
    return len(peaks) / (len(sound) / SAMPLE_RATE)


VOICES = (
    Manner(pitch_hz=115, tilt=-7),
    Manner(pitch_hz=150, tempo=3.6),
    Manner(pitch_hz=190, breathiness=0.2),
    Manner(pitch_hz=230, tempo=4.6, pitch_range=1.6, energy=0.03),
)


@pytest.fixture(scope="module")
def egemaps():
    """Measures a functional of eGeMAPS on every voice, ``(level, voice)``, at each level of a field of the manner."""
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def measure(functional: str, field: str, levels: list[float], relative: bool = False) -> np.ndarray:
        table = []
        for level in levels:
            manners = [replace(v, **{field: level * getattr(v, field) if relative else level}) for v in VOICES]
            sounds = [say(manner, seconds=4.0, seed=seed) for seed, manner in enumerate(manners)]
            table.append([smile.process_signal(sound, SAMPLE_RATE)[functional].iloc[0] for sound in sounds])
        return np.array(table)

    return measure


def loud_frames(sound: np.ndarray) -> np.ndarray:
    """(frame, sample) windowed, vowels only: consonants are the quieter part."""
    frames = librosa.util.frame(sound, frame_length=1024, hop_length=512).T
    return frames[np.sqrt((frames**2).mean(1)) > np.sqrt((sound**2).mean())] * np.hanning(1024)


def fall_of_spectrum(sound: np.ndarray) -> float:
    """dB from below 1 kHz to 2..4 kHz, median over vowels."""
    power = np.abs(np.fft.rfft(loud_frames(sound))) ** 2
    hz = np.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
    high, low = power[:, (hz > 2000) & (hz < 4000)].sum(1), power[:, (hz > 80) & (hz < 1000)].sum(1)
    return float(np.median(10 * np.log10(high / low)))


def harmonicity(sound: np.ndarray) -> float:
    """Median over vowels of the highest autocorrelation at a lag of a pitch period."""
    reach = slice(SAMPLE_RATE // 300, SAMPLE_RATE // 90)
    lag = np.fft.irfft(np.abs(np.fft.rfft(loud_frames(sound), 2048)) ** 2)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(1024), 2048)) ** 2)
    return float(np.median((lag[:, reach] / lag[:, :1] / (window[reach] / window[0])).max(1)))


@pytest.mark.parametrize("pitch_hz", [110.0, 180.0, 290.0])
def test_pitch_is_as_requested(pitch_hz):
    measured = np.median(measured_pitch(say(replace(PLAIN, pitch_hz=pitch_hz))))
    assert abs(12 * np.log2(measured / pitch_hz)) < 1.0


def test_pitch_ranges_as_requested():
    pitches = [measured_pitch(say(replace(PLAIN, pitch_range=value))) for value in (0.5, 2.0, 4.0)]
    deviations = [np.std(12 * np.log2(pitch)) for pitch in pitches]
    assert deviations[0] + 0.4 < deviations[1] < deviations[2] - 0.4


@pytest.mark.parametrize("energy", [0.01, 0.05, 0.12])
def test_energy_is_root_mean_square(energy):
    sound = say(replace(PLAIN, energy=energy))
    assert np.sqrt(np.mean(sound.astype(float) ** 2)) == pytest.approx(energy, rel=0.05)
    assert np.abs(sound).max() <= 1


@pytest.mark.parametrize("tempo", [2.5, 4.0, 5.5])
def test_tempo_is_syllables_per_second(tempo):
    rates = [syllable_rate(say(replace(PLAIN, tempo=tempo), seconds=6.0, seed=seed)) for seed in range(3)]
    assert np.mean(rates) == pytest.approx(tempo, rel=0.2)


def test_tilt_moves_the_spectrum():
    falls = [fall_of_spectrum(say(replace(PLAIN, tilt=value, breathiness=0.0))) for value in (-10.0, -6.0, -3.0)]
    assert falls[0] + 3 < falls[1] < falls[2] - 3


def test_breath_makes_it_less_periodic():
    periodic = [harmonicity(say(replace(PLAIN, breathiness=value, pitch_range=0.5))) for value in (0.0, 0.4, 0.9)]
    assert periodic[0] > periodic[1] + 0.02 and periodic[1] > periodic[2] + 0.02


def test_same_seed_same_sound_and_length():
    one, two, other = say(PLAIN), say(PLAIN), say(PLAIN, seed=1)
    assert one.dtype == np.float32 and len(one) == 3 * SAMPLE_RATE
    assert np.array_equal(one, two) and not np.array_equal(one, other)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3])
def test_very_short_speech_is_finite(seconds):
    sound = say(PLAIN, seconds=seconds)
    assert len(sound) == round(seconds * SAMPLE_RATE) and np.isfinite(sound).all()


def test_egemaps_hears_an_octave_as_twelve_semitones(egemaps):
    octaves = np.array([-0.25, 0.25, 0.75])
    heard = egemaps("F0semitoneFrom27.5Hz_sma3nz_percentile50.0", "pitch_hz", list(2**octaves), relative=True)
    expected = 12 * (np.log2([voice.pitch_hz / 27.5 for voice in VOICES]) + octaves[:, None])
    assert np.abs(heard - expected).max() < 1.5
    assert np.diff(heard, axis=0) == pytest.approx(6.0, abs=1.0)


def test_egemaps_hears_the_range_of_pitch(egemaps):
    heard = egemaps("F0semitoneFrom27.5Hz_sma3nz_pctlrange0-2", "pitch_range", [0.5, 2.0, 4.0]).mean(1)
    # From the 20th to the 80th percentile a normal distribution has 1.7 standard deviations.
    assert heard[0] + 1 < heard[1] < heard[2] - 1 and heard[2] == pytest.approx(1.7 * 4.0, rel=0.4)


def test_egemaps_hears_twice_the_energy_as_six_decibels_and_as_louder(egemaps):
    levels = [0.25, 0.5, 1.0, 2.0]
    level = egemaps("equivalentSoundLevel_dBp", "energy", levels, relative=True)
    assert np.diff(level, axis=0) == pytest.approx(20 * np.log10(2), abs=0.2)
    loudness = egemaps("loudness_sma3_amean", "energy", levels, relative=True)
    # Its loudness is the cube root of power, band by band: the amplitude to the power of two thirds.
    assert np.diff(np.log2(loudness), axis=0) == pytest.approx(2 / 3, abs=0.07)


def test_egemaps_hears_the_rate_of_syllables(egemaps):
    tempi = [2.5, 3.5, 5.0]
    voiced = egemaps("VoicedSegmentsPerSec", "tempo", tempi).mean(1)
    assert voiced == pytest.approx(tempi, rel=0.15)
    peaks = egemaps("loudnessPeaksPerSec", "tempo", tempi).mean(1)
    assert (np.diff(peaks) > 0.5).all()


def test_egemaps_hears_tilt_and_breath(egemaps):
    bright = egemaps("alphaRatioV_sma3nz_amean", "tilt", [-10.0, -7.0, -4.0])
    assert (np.diff(bright, axis=0) > 0).all() and (bright[2] - bright[0] > 2).all()
    harmonic = egemaps("HNRdBACF_sma3nz_amean", "breathiness", [0.0, 0.15, 0.4])
    assert (np.diff(harmonic.mean(1)) < -1.5).all()
