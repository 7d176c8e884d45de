"""Features of the sound, at each extractor's own rate; times lie on the clip's zero.

A clip without sound has a sequence of no rows. A clip of any sound at all, however short, has at least one row: where
it is shorter than what an extractor looks at, silence is put after (``wav2vec2``) or around it (``mfcc``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emibook.features import wav2vec2
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, load_state

SAMPLE_RATE = 16_000  # per second, as preprocessing writes it
RECEPTIVE_FIELD, STRIDE = 400, 320  # samples, of the seven convolutions that every wav2vec 2.0 has
BATCH = {"cpu": 0, "cuda": 120 * SAMPLE_RATE}  # samples in one batch, padding included; 0: one at a time


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


def batches(lengths: Sequence[int], most: int, *, equal: bool = False) -> list[list[int]]:
    """Which of the items of these lengths go together: lists of their indices, items of similar length side by side.

    A batch padded to its longest member holds at most ``most``, or is a single item; ``equal`` puts none but equal
    lengths together. It depends on nothing but the lengths and their order.
    """
    grouped: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        length, batch = lengths[index], grouped[-1] if grouped else None
        if batch is None or length * (len(batch) + 1) > most or (equal and lengths[batch[0]] != length):
            grouped.append([index])
        else:
            batch.append(index)
    return grouped


def hidden_states(model: nn.Module, waves: Sequence[Tensor], most: int) -> list[Tensor]:
    """The last hidden states (row, feature) of each wave (sample,), in batches of at most ``most`` samples.

    Where the convolutions have layer norm, a wave that is padded, with an attention mask, has the states that it has
    alone. With group norm, as in the base models, the padding would enter each channel's mean over time and move them
    all, so only waves of one length go together.
    """
    equal = model.config.feat_extract_norm != "layer"
    states: list[Tensor] = [torch.empty(0)] * len(waves)
    for batch in batches([len(wave) for wave in waves], most, equal=equal):
        together = [waves[index] for index in batch]
        lengths = torch.tensor([len(wave) for wave in together])
        values = nn.utils.rnn.pad_sequence(together, batch_first=True).to(model.device)
        mask = None
        if lengths.min() != lengths.max():
            mask = (torch.arange(values.shape[1]) < lengths[:, None]).long().to(model.device)
        hidden = model(values, attention_mask=mask).last_hidden_state.float().cpu()
        for index, each, length in zip(batch, hidden, lengths.tolist(), strict=True):
            states[index] = each[: rows(length)]
    return states


def rows(samples: int) -> int:
    """How many rows wav2vec 2.0's convolutions make of so many samples, at least a receptive field of them."""
    return 1 + (samples - RECEPTIVE_FIELD) // STRIDE


class Wav2Vec2:
    """The last hidden states of wav2vec 2.0, 50 a second, through transformers.

    A row's time is the centre of the 25 ms that its convolutions see; the Transformer above them sees everything within
    a window of ``window_rows``, so a longer clip is read window by window and needs no more memory than one of them.
    Sound is standardised first, as the published models want it, so its gain changes nothing.
    Called with ``samples`` (sample,) int16 at 16 kHz, or None.

    ``pretrained``: the public model that was fine-tuned on MSP-Podcast. ``untrained``: its architecture and random
    weights from a seed; ``small``: the same kind (layer norm in the convolutions and before each block) and width,
    with two blocks and narrow convolutions.
    Source: the paper, section 3.2.2.
    """

    name, version, width = "wav2vec2", "2", 1024
    window_rows = 3000  # a minute
    hidden, with_head = 1024, False
    shape = {"hidden_size": 1024, "num_attention_heads": 16, "feat_extract_norm": "layer", "conv_bias": True,
             "do_stable_layer_norm": True, "num_hidden_layers": 12, "intermediate_size": 4096}
    small_shape = {"num_hidden_layers": 2, "intermediate_size": 2048, "conv_dim": (64,) * 7,
                   "num_conv_pos_embeddings": 32}

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        from transformers import Wav2Vec2FeatureExtractor

        if weights.file:
            path = weights.path(folder)
            model, head = wav2vec2.built(load_state(path), path)
        else:
            shape = self.shape | (self.small_shape if weights.kind == "small" else {})
            model, head = wav2vec2.random(shape, weights.seed, head=self.with_head)
        self.model, self.head = (each and each.eval().requires_grad_(False).to(device) for each in (model, head))
        self.processor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE, do_normalize=True)
        self.label, self.batch = weights.label, BATCH[torch.device(device).type]

    @classmethod
    def convert(cls, path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint that is published or given."""
        return wav2vec2.read_wav2vec2(path, cls.hidden, head=cls.with_head)

    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        return self.together([samples])[0]

    @torch.inference_mode()
    def together(self, clips: Sequence[np.ndarray | None]) -> list[FeatureSequence]:
        """One sequence a clip; on a GPU the clips are computed in batches, on a CPU one after the other."""
        windows = [self._windows(samples) for samples in clips]
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 throughout, as on a CPU
            states = iter(hidden_states(self.model, [wave for each in windows for wave in each], self.batch))
        return [self._sequence([self.columns(next(states)).numpy() for _ in each]) for each in windows]

    def columns(self, states: Tensor) -> Tensor:
        """What is kept of a window's hidden states, (row, hidden) to (row, feature)."""
        return states

    def _windows(self, samples: np.ndarray | None) -> list[Tensor]:
        """(sample,) each: the standardised sound, cut where it is longer than ``window_rows``.

        The last one has all that is left, though its last samples make no row: group norm reckons with them.
        """
        sound = as_float(samples)
        if not len(sound):
            return []
        values = self.processor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values[0]
        values = nn.functional.pad(values, (0, max(0, RECEPTIVE_FIELD - len(values))))
        starts = range(0, rows(len(values)), self.window_rows)
        ends = [(start + self.window_rows - 1) * STRIDE + RECEPTIVE_FIELD for start in starts[:-1]]
        return [values[start * STRIDE : end] for start, end in zip(starts, [*ends, len(values)], strict=True)]

    def _sequence(self, states: list[np.ndarray]) -> FeatureSequence:
        values = np.concatenate([np.zeros((0, self.width), np.float32), *states])
        times = (np.arange(len(values)) * STRIDE + (RECEPTIVE_FIELD - 1) / 2) / SAMPLE_RATE
        return FeatureSequence(values, times, self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{index:04d}" for index in range(self.hidden))


class Wav2Vec2Outputs(Wav2Vec2):
    """The same hidden states and, behind them, what the model says of the clip: arousal, dominance and valence.

    The three are the model's own outputs, for the mean over time, and so the same in each row; of a clip longer than
    ``window_rows`` each window has its own.
    """

    name, width, with_head = "wav2vec2_outputs", 1024 + len(wav2vec2.OUTPUTS), True

    def columns(self, states: Tensor) -> Tensor:
        outputs = self.head(states.mean(dim=0, keepdim=True).to(self.model.device)).cpu()
        return torch.cat([states, outputs.expand(len(states), -1)], dim=1)

    @property
    def names(self) -> tuple[str, ...]:
        return (*super().names, *wav2vec2.OUTPUTS)


class Wav2Vec2Base(Wav2Vec2):
    """The last hidden states of the base model, 768 a row: most likely what the data set's own features are.

    ``pretrained``: trained on 960 hours of read speech, with no emotion in it. Its first convolution is normalised over
    the whole window (group norm).
    """

    name, version, width = "wav2vec2_base", "1", 768
    hidden = 768
    shape = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "intermediate_size": 3072}
    small_shape = {"num_hidden_layers": 2, "intermediate_size": 1536, "conv_dim": (64,) * 7,
                   "num_conv_pos_embeddings": 32}
