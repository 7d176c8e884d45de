"""``mfcc``: mel-frequency cepstral coefficients and their slopes, by librosa."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emibook.features.store import FeatureSequence
from emibook.features.waveform import as_float
from emibook.features.weights import Weights
from emibook.preprocess.media import SAMPLE_RATE


class MFCC:
    """Mel-frequency cepstral coefficients and their slopes, 20 + 20, every 10 ms.

    Row i is centred on i x 10 ms: 25 ms under a Hann window, 40 mel bands up to 8 kHz.
    """

    name, version, width = "mfcc", "1", 40
    coefficients = 20
    hop = 160
    settings = {"n_fft": 512, "win_length": 400, "hop_length": hop, "n_mels": 40, "n_mfcc": coefficients}
    slope_rows = 9

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        self.label = weights.label

    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        """The features of one clip's sound, int16 (sample,) at 16 kHz, or None."""
        import librosa

        values = np.zeros((0, self.width), np.float32)
        sound = as_float(samples)
        if len(sound):
            # librosa warns of a signal shorter than its window; zeros at the end are what it would pad with anyway.
            padded = np.pad(sound, (0, max(0, self.settings["n_fft"] - len(sound))))
            static = librosa.feature.mfcc(y=padded, sr=SAMPLE_RATE, **self.settings)
            # "nearest", because librosa's default refuses a clip with fewer rows than the slope's window.
            slopes = librosa.feature.delta(static, width=self.slope_rows, mode="nearest")
            values = np.concatenate([static, slopes]).T[: 1 + len(sound) // self.hop].astype(np.float32)
        times = np.arange(len(values)) * self.hop / SAMPLE_RATE
        return FeatureSequence(values, times, self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(f"{kind}_{index:02d}" for kind in ("mfcc", "mfcc_slope") for index in range(self.coefficients))
