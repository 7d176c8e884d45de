"""Features of the sound, at each extractor's own rate; times lie on the clip's zero.

A clip without sound has a sequence of no rows. A clip of any sound at all, however short, has at least one row: where
it is shorter than what an extractor looks at, silence is put after (``wav2vec2``) or around it (``mfcc``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights

SAMPLE_RATE = 16_000  # per second, as preprocessing writes it


def as_float(samples: np.ndarray | None) -> np.ndarray:
    """16-bit samples as float32 in -1..1; none where there is no sound."""
    return np.zeros(0, np.float32) if samples is None else samples.astype(np.float32) / 32768


class MFCC:
    """Mel-frequency cepstral coefficients and their slopes, 20 + 20, every 10 ms, by librosa.

    Row i is centred on i x 10 ms: 25 ms under a Hann window, 40 mel bands up to 8 kHz. Called with ``samples``
    (sample,) int16 at 16 kHz, or None.
    """

    name, version, width = "mfcc", "1", 40
    coefficients = 20
    hop = 160
    settings = {"n_fft": 512, "win_length": 400, "hop_length": hop, "n_mels": 40, "n_mfcc": coefficients}
    slope_rows = 9

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        self.label = weights.label

    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        import librosa

        values = np.zeros((0, self.width), np.float32)
        sound = as_float(samples)
        if len(sound):
            # librosa warns of a signal shorter than its window; zeros at the end are what it would pad with anyway.
            padded = np.pad(sound, (0, max(0, self.settings["n_fft"] - len(sound))))
            static = librosa.feature.mfcc(y=padded, sr=SAMPLE_RATE, **self.settings)
            # "nearest" where librosa's default would refuse a clip of fewer rows than the slope looks at.
            slopes = librosa.feature.delta(static, width=self.slope_rows, mode="nearest")
            values = np.concatenate([static, slopes]).T[: 1 + len(sound) // self.hop].astype(np.float32)
        times = np.arange(len(values)) * self.hop / SAMPLE_RATE
        return FeatureSequence(values, times, self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{kind}_{index:02d}" for kind in ("mfcc", "mfcc_slope") for index in range(self.coefficients))


class Wav2Vec2:
    """The last hidden states of wav2vec 2.0, 50 a second, through transformers.

    A row's time is the centre of the 25 ms that its convolutions see; the Transformer above them sees everything within
    a window of ``window_rows``, so a longer clip is read window by window and needs no more memory than one of them.
    Called with ``samples`` (sample,) int16 at 16 kHz, or None.

    ``untrained``: the public speech-emotion model's kind (layer norm in the convolutions and before each block) and its
    width, with two blocks and narrow convolutions, random weights from a seed.
    Source: the paper, section 3.2.2.
    """

    name, version, width = "wav2vec2", "1", 1024
    receptive_field, stride = 400, 320  # samples, of the seven convolutions
    window_rows = 3000  # a minute

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        config = Wav2Vec2Config(
            hidden_size=self.width, num_hidden_layers=2, num_attention_heads=16, intermediate_size=2048,
            conv_dim=(64,) * 7, num_conv_pos_embeddings=32, feat_extract_norm="layer", do_stable_layer_norm=True,
            conv_bias=True, layerdrop=0.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights.seed)
            self.model = Wav2Vec2Model(config).eval().requires_grad_(False).to(device)
        self.processor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE, do_normalize=True)
        self.label, self.device = weights.label, device

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        rows = [np.zeros((0, self.width), np.float32)]
        sound = as_float(samples)
        if len(sound):
            values = self.processor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
            values = torch.nn.functional.pad(values, (0, max(0, self.receptive_field - values.shape[1])))
            count = 1 + (values.shape[1] - self.receptive_field) // self.stride
            for first in range(0, count, self.window_rows):
                last = min(first + self.window_rows, count) - 1
                window = values[:, first * self.stride : last * self.stride + self.receptive_field]
                rows.append(self.model(window.to(self.device)).last_hidden_state[0].float().cpu().numpy())
        hidden = np.concatenate(rows)
        times = (np.arange(len(hidden)) * self.stride + (self.receptive_field - 1) / 2) / SAMPLE_RATE
        return FeatureSequence(hidden, times, self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{index:04d}" for index in range(self.width))
