"""``wav2vec2``: the last hidden states of wav2vec 2.0, through transformers, from random or published weights.

A checkpoint is taken as it is published: the model under ``wav2vec2.`` or at the top, the weight-normalised position
convolution under its old or its new names. The architecture is read off the tensors, so a checkpoint needs no file
beside it. What the tensors do not determine is the same in every published model (strides, 64 numbers per head), or
goes with the normalisation of the convolutions (layer norm: also before each block; group norm: after it).
Source: the paper, section 3.2.2; huggingface.co/audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim,
facebook/wav2vec2-base-960h.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from emibook import InputError
from emibook.device import seeded
from emibook.features.store import FeatureSequence
from emibook.features.waveform import BATCH, as_float, batches
from emibook.features.weights import Weights, load_state, tensors
from emibook.preprocess.media import SAMPLE_RATE

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

RECEPTIVE_FIELD, STRIDE = 400, 320  # samples, of the seven convolutions that every wav2vec 2.0 has
OUTPUTS = ("arousal", "dominance", "valence")  # in the order of the head's rows
HEAD = "classifier."
HEAD_WIDTH = 64  # width of one attention head
POSITIONS = "encoder.pos_conv_embed.conv."
RENAMED = {f"{POSITIONS}weight_g": f"{POSITIONS}parametrizations.weight.original0",
           f"{POSITIONS}weight_v": f"{POSITIONS}parametrizations.weight.original1"}
# Of other heads and of training; no feature depends on them.
UNUSED = ("lm_head.", "project_q.", "project_hid.", "quantizer.")
MASK = "masked_spec_embed"  # replaces masked steps in training


class Wav2Vec2:
    """The last hidden states of wav2vec 2.0, 50 rows per second.

    A row's time is the centre of the 25 ms that are the convolutions' receptive field. The Transformer above them sees
    everything within a window of ``window_rows``, so a longer clip is encoded window by window and needs no more memory
    than one of them. Sound is standardised first, as the published models expect, so its gain changes nothing.

    ``pretrained``: the public model that was fine-tuned on MSP-Podcast. ``untrained``: its architecture and random
    weights from a seed. ``small``: the same kind (layer norm in the convolutions and before each block) and width, with
    two blocks and narrow convolutions.
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
            model, head = built(load_state(path), path)
        else:
            shape = self.shape | (self.small_shape if weights.kind == "small" else {})
            model, head = random(shape, weights.seed, head=self.with_head)
        self.model, self.head = (part and part.eval().requires_grad_(False).to(device) for part in (model, head))
        self.processor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE, do_normalize=True)
        self.label, self.batch = weights.label, BATCH[torch.device(device).type]

    @classmethod
    def convert(cls, path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint that is published or given."""
        return read_wav2vec2(path, cls.hidden, head=cls.with_head)

    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        """The features of one clip's sound, int16 (sample,) at 16 kHz, or None."""
        return self.encode_batch([samples])[0]

    @torch.inference_mode()
    def encode_batch(self, clips: Sequence[np.ndarray | None]) -> list[FeatureSequence]:
        """One sequence per clip; on a GPU the clips are computed in batches, on a CPU one after the other."""
        windows = [self._windows(samples) for samples in clips]
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 throughout, as on a CPU
            states = iter(hidden_states(self.model, [wave for waves in windows for wave in waves], self.batch))
        return [self._sequence([self.columns(next(states)).numpy() for _ in waves]) for waves in windows]

    def columns(self, states: Tensor) -> Tensor:
        """The features of a window's hidden states: (row, hidden) to (row, feature)."""
        return states

    def _windows(self, samples: np.ndarray | None) -> list[Tensor]:
        """The standardised sound, cut into windows (sample,) where it is longer than ``window_rows``.

        The last window has all that is left, though its last samples make no row, because group norm depends on them.
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
        """The names of the features."""
        return tuple(f"{self.name}_{index:04d}" for index in range(self.hidden))


class Wav2Vec2Outputs(Wav2Vec2):
    """The same hidden states, followed by the model's outputs for the clip: arousal, dominance and valence.

    The three are the outputs for the mean over time, and so the same in each row; in a clip longer than
    ``window_rows`` each window has its own.
    """

    name, width, with_head = "wav2vec2_outputs", 1024 + len(OUTPUTS), True

    def columns(self, states: Tensor) -> Tensor:
        outputs = self.head(states.mean(dim=0, keepdim=True).to(self.model.device)).cpu()
        return torch.cat([states, outputs.expand(len(states), -1)], dim=1)

    @property
    def names(self) -> tuple[str, ...]:
        return (*super().names, *OUTPUTS)


class Wav2Vec2Base(Wav2Vec2):
    """The last hidden states of the base model, 768 per row: most likely the source of the data set's own features.

    ``pretrained``: trained on 960 hours of read speech, without emotion labels. Its first convolution is normalised
    over the whole window (group norm).
    """

    name, version, width = "wav2vec2_base", "1", 768
    hidden = 768
    shape = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "intermediate_size": 3072}
    small_shape = {"num_hidden_layers": 2, "intermediate_size": 1536, "conv_dim": (64,) * 7,
                   "num_conv_pos_embeddings": 32}


def hidden_states(model: nn.Module, waves: Sequence[Tensor], most: int) -> list[Tensor]:
    """The last hidden states (row, feature) of each wave (sample,), in batches of at most ``most`` samples.

    Where the convolutions have layer norm, a wave that is padded, with an attention mask, has the states that it has
    alone. With group norm, as in the base models, the padding would enter each channel's mean over time and change
    every state, so only waves of one length go together.
    """
    equal = model.config.feat_extract_norm != "layer"
    states: list[Tensor] = [torch.empty(0)] * len(waves)
    for batch in batches([len(wave) for wave in waves], most, equal=equal):
        members = [waves[index] for index in batch]
        lengths = torch.tensor([len(wave) for wave in members])
        values = nn.utils.rnn.pad_sequence(members, batch_first=True).to(model.device)
        mask = None
        if lengths.min() != lengths.max():
            mask = (torch.arange(values.shape[1]) < lengths[:, None]).long().to(model.device)
        hidden = model(values, attention_mask=mask).last_hidden_state.float().cpu()
        for index, padded, length in zip(batch, hidden, lengths.tolist(), strict=True):
            states[index] = padded[: rows(length)]
    return states


def rows(samples: int) -> int:
    """The number of rows that wav2vec 2.0's convolutions make of so many samples, at least a receptive field."""
    return 1 + (samples - RECEPTIVE_FIELD) // STRIDE


class EmotionHead(nn.Module):
    """(clip, hidden), the mean of the last hidden states over time, to (clip, 3): arousal, dominance, valence.

    The values are about 0..1. Trained on MSP-Podcast's ratings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, len(OUTPUTS))

    def forward(self, mean: Tensor) -> Tensor:
        return self.out_proj(torch.tanh(self.dense(mean)))


def read_wav2vec2(path: Path, width: int, *, head: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint under ``Wav2Vec2Model``'s keys, and the head's under ``classifier.``, float32.

    ``width`` is the expected number of hidden features; without ``head`` the head is left out.

    Raises:
        InputError: a key is missing, has another shape, or does not belong to wav2vec 2.0.
    """
    published, state = tensors(load_state(path), path), {}
    inner = "wav2vec2." if any(key.startswith("wav2vec2.") for key in published) else ""
    for key, value in published.items():
        key = key.removeprefix(inner)
        key = RENAMED.get(key, key)
        if not key.startswith(UNUSED) and (head or not key.startswith(HEAD)):
            state[key] = value.float().contiguous()
    config = config_of(state, path)
    if config.hidden_size != width:
        raise InputError(f"{path} is a wav2vec 2.0 of {config.hidden_size} features, expected {width}")
    state.setdefault(MASK, torch.zeros(width))
    with torch.device("meta"):
        expected = _model(config).state_dict()
        if head:
            expected |= EmotionHead(width).state_dict(prefix=HEAD)
    if missing := sorted(set(expected) - set(state)):
        raise InputError(f"{path}: no {missing[0]} ({len(missing)} tensors of a wav2vec 2.0 are missing)")
    if unknown := sorted(set(state) - set(expected)):
        raise InputError(f"{path}: {unknown[0]} is no part of wav2vec 2.0 ({len(unknown)} such tensors)")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise InputError(f"{path}: {key} has shape {tuple(value.shape)}, expected {tuple(expected[key].shape)}")
    return state


def config_of(state: dict[str, Tensor], path: Path) -> Wav2Vec2Config:
    """The architecture that the tensors' shapes imply. Raises ``InputError`` where they are not wav2vec 2.0's."""
    from transformers import Wav2Vec2Config

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise InputError(f"{path}: no {key}, which wav2vec 2.0 needs; expected a checkpoint of transformers")
        return tuple(state[key].shape)

    count, blocks = 0, 0
    while f"feature_extractor.conv_layers.{count}.conv.weight" in state:
        count += 1
    while f"encoder.layers.{blocks}.attention.q_proj.weight" in state:
        blocks += 1
    convolutions = [shape(f"feature_extractor.conv_layers.{index}.conv.weight") for index in range(max(count, 1))]
    if count != 7 or [kernel for *_, kernel in convolutions] != [10, 3, 3, 3, 3, 2, 2]:
        raise InputError(f"{path}: {count} convolutions, of which wav2vec 2.0 has seven")
    hidden, grouped, kernel = shape(RENAMED[f"{POSITIONS}weight_v"])
    layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    return Wav2Vec2Config(
        hidden_size=hidden, num_hidden_layers=blocks, num_attention_heads=max(1, hidden // HEAD_WIDTH),
        intermediate_size=shape("encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        conv_dim=tuple(out for out, *_ in convolutions), conv_bias="feature_extractor.conv_layers.0.conv.bias" in state,
        feat_extract_norm="layer" if layer_norm else "group", do_stable_layer_norm=layer_norm,
        num_conv_pos_embeddings=kernel, num_conv_pos_embedding_groups=hidden // grouped, layerdrop=0.0,
    )


def built(state: dict[str, Tensor], path: Path) -> tuple[nn.Module, EmotionHead | None]:
    """The model with the tensors of ``read_wav2vec2``, and its head where they have one; both share their memory."""
    with torch.device("meta"):
        model = _model(config_of(state, path))
        head = EmotionHead(model.config.hidden_size) if f"{HEAD}dense.weight" in state else None
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith(HEAD)}, assign=True)
    if head is not None:
        head.load_state_dict({key.removeprefix(HEAD): value for key, value in state.items() if key.startswith(HEAD)},
                             assign=True)
    return model, head


def random(config: dict[str, Any], seed: int, *, head: bool) -> tuple[nn.Module, EmotionHead | None]:
    """A model of this architecture with random weights from ``seed``, and its head if ``head``."""
    from transformers import Wav2Vec2Config

    with seeded(seed):
        model = _model(Wav2Vec2Config(layerdrop=0.0, **config))
        return model, EmotionHead(model.config.hidden_size) if head else None


def _model(config: Wav2Vec2Config) -> nn.Module:
    from transformers import Wav2Vec2Model

    return Wav2Vec2Model(config)
