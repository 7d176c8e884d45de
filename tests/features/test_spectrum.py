"""Deep spectra: what the drawn spectrogram shows, and what goes through the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from safetensors.torch import save_file

from emibook import InputError
from emibook.features.spectrum import DeepSpectrum, alexnet
from emibook.features.weights import Weights, keep_weights

VIRIDIS = (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(int)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return DeepSpectrum(Weights("untrained", seed=0), tmp_path_factory.mktemp("encoders"))


def levels(picture: np.ndarray) -> np.ndarray:
    """(row, column) of the colour map's 256 steps that a picture's colours are nearest to."""
    distances = np.abs(picture[:, :, None].astype(int) - VIRIDIS[::8]).sum(-1)
    return distances.argmin(-1) * 8


def tone(seconds: float, hertz: float, amplitude: float = 0.5, start: float = 0.0, end: float = 99) -> np.ndarray:
    time = np.arange(round(seconds * 16000)) / 16000
    wave = amplitude * np.sin(2 * np.pi * hertz * time) * ((time >= start) & (time < end))
    return np.round(32767 * wave).astype(np.int16)


def test_a_tone_is_a_bright_line_at_its_pitch_and_its_level(encoder):
    pictures = {hertz: levels(encoder.pictures(tone(2, hertz))[10]) for hertz in (300, 3000)}
    rows = {hertz: picture.mean(1).argmax() for hertz, picture in pictures.items()}
    assert rows[300] > 150 > rows[3000]  # low tones at the bottom
    import librosa

    bands = librosa.mel_frequencies(130, fmax=8000)
    for hertz, row in rows.items():
        assert abs((223 - row) / 224 * 128 - np.abs(bands[1:-1] - hertz).argmin()) < 3
    loud, quiet = (encoder.pictures(tone(2, 1000, amplitude))[10] for amplitude in (0.5, 0.005))
    steps = 255 * 40 / 80  # 40 decibels of the 80 that are drawn
    assert levels(loud).max() - levels(quiet).max() == pytest.approx(steps, abs=12)
    assert levels(loud).max() == pytest.approx(255 * (1 - 6 / 80), abs=16)  # half of full scale is -6 dB


def test_time_runs_from_left_to_right_and_the_middle_is_the_rows_time(encoder):
    samples = tone(3, 1000, start=1.0, end=1.02)
    pictures, times = encoder.pictures(samples), encoder(samples[:1]).times
    assert times.tolist() == [0.0]
    for row in (6, 10, 14):
        bright = levels(pictures[row]).max(0)
        at = np.flatnonzero(bright > 100).mean() / 223  # of the picture's second
        assert row / 10 - 0.5 + at == pytest.approx(1.01, abs=0.02)


def test_silence_is_one_colour_and_surrounds_the_sound(encoder):
    silent = encoder.pictures(np.zeros(8000, np.int16))
    assert (silent == VIRIDIS[0]).all() and len(silent) == 6
    first = levels(encoder.pictures(tone(1, 1000))[0]).max(0)
    assert first[:100].max() == 0 and first[124:].min() > 100


def test_a_long_clip_is_drawn_batch_by_batch(encoder, monkeypatch):
    samples, seen = tone(1.1, 700), []
    whole, pictures = encoder(samples).values, encoder.pictures(samples)
    monkeypatch.setattr(encoder, "batch", 5)
    monkeypatch.setattr(encoder.network, "forward", lambda images, inner=encoder.network.forward: (
        seen.append(len(images)), inner(images))[1])
    np.testing.assert_allclose(encoder(samples).values, whole, atol=1e-5)
    assert seen == [5, 5, 2] and np.array_equal(encoder.pictures(samples), pictures)


def test_rows_go_through_the_whole_network_by_hand(encoder):
    samples = tone(0.5, 700)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = alexnet().eval()
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = ((encoder.pictures(samples) / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        x = network.avgpool(network.features(torch.from_numpy(pixels))).flatten(1)
        first, second = network.classifier[1], network.classifier[4]
        expected = torch.relu(second(torch.relu(first(x)))).numpy()
    found = encoder(samples)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    np.testing.assert_allclose(found.times, np.arange(6) / 10)
    assert (found.values >= 0).all() and found.values.std() > 0 and found.weights == "untrained control"


def test_torchvisions_file_is_taken_and_another_refused(encoder, tmp_path):
    from torchvision.models import alexnet as whole

    state = {key: value.clone() for key, value in encoder.network.state_dict().items()}
    last = {key: value for key, value in whole().state_dict().items() if key.startswith("classifier.6.")}
    torch.save(state | last, tmp_path / "alexnet.pth")
    state = DeepSpectrum.convert(tmp_path / "alexnet.pth")
    weights = keep_weights("deepspectrum", "file", state, tmp_path / "encoders")
    samples = tone(0.2, 500)
    np.testing.assert_array_equal(DeepSpectrum(weights, tmp_path / "encoders")(samples).values, encoder(samples).values)
    few = {key: value for key, value in state.items() if key.startswith("features.")}
    save_file(few, tmp_path / "few.safetensors")
    with pytest.raises(InputError, match="no classifier.1.weight"):
        DeepSpectrum.convert(tmp_path / "few.safetensors")
    torch.save(state | {"extra.weight": torch.ones(1)}, tmp_path / "more.pth")
    with pytest.raises(InputError, match="extra.weight is no part"):
        DeepSpectrum.convert(tmp_path / "more.pth")
