"""``vit``: a Vision Transformer on aligned face crops, read at its class token, through transformers.

Source: the paper, section 3.2.1 (384 features); Caron et al., "Emerging Properties in Self-Supervised Vision
Transformers" (2021), for the weights, ``facebook/dino-vits16``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emibook import InputError
from emibook.device import seeded
from emibook.features.image_encoder import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder, matched, plain_state
from emibook.features.weights import Weights, load_state

LAYERS, PIXELS, PATCH = 12, 224, 16
SMALL_LAYERS, SMALL_PIXELS = 2, 112
BILINEAR = 2  # in Pillow's numbering, which the image processor's file uses
# Of an image, where a checkpoint comes without its preprocessor_config.json: as published for DINO.
PREPROCESSING = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "resample": BILINEAR}


def published_layout(width: int = 384) -> dict[str, Tensor]:
    """The names and shapes of the public checkpoint's tensors, without a pooler, which DINO does not train."""
    linear: dict[str, tuple[int, ...]] = {
        "attention.attention.query": (width, width), "attention.attention.key": (width, width),
        "attention.attention.value": (width, width), "attention.output.dense": (width, width),
        "intermediate.dense": (4 * width, width), "output.dense": (width, 4 * width),
        "layernorm_before": (width,), "layernorm_after": (width,),
    }
    weights: dict[str, tuple[int, ...]] = {"embeddings.patch_embeddings.projection": (width, 3, PATCH, PATCH)}
    weights |= {f"encoder.layer.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in linear.items()}
    weights |= {"layernorm": (width,)}
    shapes = {"embeddings.cls_token": (1, 1, width),
              "embeddings.position_embeddings": (1, 1 + (PIXELS // PATCH) ** 2, width)}
    for name, shape in weights.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


class ViT(ImageEncoder):
    """The class token of ViT-S/16's last hidden state, 384 features per face.

    A crop is resized and standardised as the checkpoint's ``preprocessor_config.json`` says, where it lies beside it,
    and else as DINO's does. ``untrained``: random weights from a seed. ``small``: two layers and 112-pixel input
    instead of twelve and 224, the true width and patch, random weights: a control for machines without a GPU.
    """

    name, version, width = "vit", "2", 384

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        from transformers import ViTConfig, ViTImageProcessor, ViTModel

        layers, pixels = (SMALL_LAYERS, SMALL_PIXELS) if weights.kind == "small" else (LAYERS, PIXELS)
        config = ViTConfig(hidden_size=self.width, num_hidden_layers=layers, num_attention_heads=6,
                           intermediate_size=4 * self.width, image_size=pixels)
        prepared: dict[str, Any] = {}
        if weights.file:
            state = load_state(weights.path(folder))
            prepared = {key: state.pop(f"processor.{key}").tolist() for key in PREPROCESSING}
            model = _loaded(config, state)
        else:
            with seeded(weights.seed):
                model = ViTModel(config, add_pooling_layer=False)
        self.processor = ViTImageProcessor(size={"height": pixels, "width": pixels}, **prepared)
        super().__init__(model, self.processed, weights, device)

    def processed(self, images: Tensor) -> Tensor:
        """(face, height, width, 3) bytes as the model's input, with its own size, mean and standard deviation."""
        planes = images.permute(0, 3, 1, 2)
        return self.processor(images=planes, return_tensors="pt", device=self.device)["pixel_values"]

    def pooled(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state[:, 0]

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint in the public layout, and its image preprocessing."""
        state = {key.removeprefix("vit."): value for key, value in plain_state(path, "state_dict").items()}
        kept = matched(state, published_layout(), path, "ViT-S/16 (in the layout of facebook/dino-vits16)")
        config, prepared = path.parent / "preprocessor_config.json", dict(PREPROCESSING)
        if config.is_file():
            try:
                published = json.loads(config.read_text(encoding="utf-8"))
                prepared |= {key: published[key] for key in PREPROCESSING}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{config} does not describe the preprocessing of images ({error})") from None
        return kept | {f"processor.{key}": torch.tensor(value) for key, value in prepared.items()}


def _loaded(config: Any, state: dict[str, Tensor]) -> nn.Module:
    """The model with these weights; transformers renames the tensors of the public layout."""
    from transformers import ViTModel

    model, info = ViTModel.from_pretrained(
        None, config=config, state_dict=state, add_pooling_layer=False, output_loading_info=True)
    if any(info.values()):
        raise RuntimeError(f"transformers does not take the layout of facebook/dino-vits16: {info}")
    return model
