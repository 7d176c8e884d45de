"""eGeMAPS through opensmile: the same numbers, on the clip's time."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from emibook import InputError
from emibook.features.egemaps import EGeMAPS, EGeMAPSFunctionals
from emibook.features.weights import Weights

opensmile = pytest.importorskip("opensmile")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return EGeMAPS(Weights("formula"), folder), EGeMAPSFunctionals(Weights("formula"), folder)


def voice(seconds: float, hertz: float = 150, start: float = 0.0) -> np.ndarray:
    """Pulses of a voice, int16, silent up to ``start``."""
    time = np.arange(round(seconds * 16000)) / 16000
    wave = sum(np.sin(2 * np.pi * hertz * number * time) / number for number in range(1, 12))
    return np.round(6000 * wave * (time >= start)).astype(np.int16)


def by_hand(level, samples: np.ndarray):
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, level)
    return smile.process_signal(samples / np.float32(32768), 16000)


def test_rows_are_opensmiles(encoders):
    samples = voice(1)
    expected = by_hand(opensmile.FeatureLevel.LowLevelDescriptors, samples)
    found = encoders[0](samples)
    assert found.names == tuple(expected.columns) and len(found) >= len(expected)
    np.testing.assert_allclose(found.values[:90], expected.to_numpy()[:90], rtol=1e-5, atol=1e-5)
    starts = expected.index.get_level_values("start").total_seconds().to_numpy()
    np.testing.assert_allclose(found.times[:90], starts[:90] + 0.02, atol=1e-9)
    assert abs(len(found) - 100) <= 2


def test_functionals_are_one_row_a_clip(encoders):
    samples = voice(1)
    found = encoders[1](samples)
    expected = by_hand(opensmile.FeatureLevel.Functionals, samples)
    assert found.values.shape == (1, 88) and found.times.tolist() == [0.0]
    np.testing.assert_allclose(found.values, expected.to_numpy(), rtol=1e-5)
    assert len(encoders[1](None)) == len(encoders[1](np.zeros(0, np.int16))) == 0


def test_pitch_and_loudness_mean_what_they_say(encoders):
    low, high = (encoders[0](voice(1, hertz)) for hertz in (110, 220))
    pitch = low.names.index("F0semitoneFrom27.5Hz_sma3nz")
    # Semitones above 27.5 Hz: 110 Hz is two octaves up, 220 Hz three.
    assert np.median(low.values[10:80, pitch]) == pytest.approx(24, abs=0.3)
    assert np.median(high.values[10:80, pitch]) == pytest.approx(36, abs=0.3)
    late = encoders[0](voice(1, start=0.5))
    loud = late.values[:, late.names.index("Loudness_sma3")]
    assert late.times[np.flatnonzero(loud > 0.5 * loud.max())[0]] == pytest.approx(0.5, abs=1 / 30)


@pytest.mark.parametrize("seconds", [1 / 16000, 0.02, 0.06, 0.3])
def test_short_and_silent_sound_has_rows(encoders, seconds):
    samples = voice(0.3)[: round(seconds * 16000)]
    for each in (samples, np.zeros_like(samples)):
        descriptors, functionals = (encoder(each) for encoder in encoders)
        assert len(descriptors) >= 1 and len(functionals) == 1  # a FeatureSequence refuses what is not finite
        assert descriptors.times[-1] <= seconds + 0.02


def test_without_opensmile_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(InputError, match="pip install opensmile"):
        EGeMAPS(Weights("formula"), tmp_path)(voice(0.2))
