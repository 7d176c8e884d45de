"""wav2vec 2.0 from a published checkpoint: its keys, the architecture that their shapes mean, and the emotion head.

A checkpoint is taken as it is published: the model under ``wav2vec2.`` or at the top, the weight-normalised position
convolution under its old or its new names. The architecture is read off the tensors, so a checkpoint needs no file
beside it: what they do not tell is the same in every published model (strides, 64 numbers a head), or goes with
the kind of normalisation in the convolutions (layer norm: also before each block; group norm: after it).
Source: huggingface.co/audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim, facebook/wav2vec2-base-960h.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from emibook import InputError
from emibook.device import seeded
from emibook.features.weights import load_state, tensors

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

OUTPUTS = ("arousal", "dominance", "valence")  # in the order of the head's rows
HEAD = "classifier."
HEAD_WIDTH = 64  # numbers that one attention head sees
POSITIONS = "encoder.pos_conv_embed.conv."
RENAMED = {f"{POSITIONS}weight_g": f"{POSITIONS}parametrizations.weight.original0",
           f"{POSITIONS}weight_v": f"{POSITIONS}parametrizations.weight.original1"}
# What other heads and training leave in a checkpoint, and no feature depends on.
UNUSED = ("lm_head.", "project_q.", "project_hid.", "quantizer.")
MASK = "masked_spec_embed"  # stands for hidden steps in training


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

    ``width`` is the number of hidden features that it has to have; ``head`` asks for the head too, else it is left
    out. Raises ``InputError`` where a key is missing, has another shape, or is none of a wav2vec 2.0.
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
    """The architecture that the tensors' shapes mean. Raises ``InputError`` where they are no wav2vec 2.0's."""
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
    """The model of what ``read_wav2vec2`` gave, and its head where that has one; they use its memory."""
    with torch.device("meta"):
        model = _model(config_of(state, path))
        head = EmotionHead(model.config.hidden_size) if f"{HEAD}dense.weight" in state else None
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith(HEAD)}, assign=True)
    if head is not None:
        head.load_state_dict({key.removeprefix(HEAD): value for key, value in state.items() if key.startswith(HEAD)},
                             assign=True)
    return model, head


def random(config: dict[str, Any], seed: int, *, head: bool) -> tuple[nn.Module, EmotionHead | None]:
    """A model of this architecture with random weights from ``seed``, and a head where one is wanted."""
    from transformers import Wav2Vec2Config

    with seeded(seed):
        model = _model(Wav2Vec2Config(layerdrop=0.0, **config))
        return model, EmotionHead(model.config.hidden_size) if head else None


def _model(config: Wav2Vec2Config) -> nn.Module:
    from transformers import Wav2Vec2Model

    return Wav2Vec2Model(config)
