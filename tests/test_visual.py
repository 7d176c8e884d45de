"""ResNet-18 and ViT on face crops: what they compute, and which checkpoints they take."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import transforms
from torchvision.models import resnet18

from emibook import InputError
from emibook.features import EXTRACTORS
from emibook.features.visual import ResNet18, ViT, native_precision, read_resnet18
from emibook.features.weights import Weights, file_fingerprint

CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def trained_looking() -> nn.Module:
    """A ResNet-18 whose batch normalisation has statistics of its own, as one that was trained."""
    torch.manual_seed(0)
    model = resnet18(weights=None)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained_looking()


def numbered(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """The trunk's tensors as they are called inside ``Sequential(*children)``."""
    trunk = nn.Sequential(*list(model.children())[:-1])
    return {f"{prefix}{key}": value for key, value in trunk.state_dict().items()}


def faces(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    landmarks = rng.uniform(20, 90, (count, 5, 2)).astype(np.float32)
    return rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8), np.arange(count) / 30, landmarks


def smooth_faces(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops with areas and edges, as a face has, each a little different from the one before."""
    images, times, landmarks = faces(count)
    coarse = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (112, 112, 3)).astype(np.float32), (0, 0), 6)
    coarse = (coarse - coarse.min()) / np.ptp(coarse) * 200
    for index, image in enumerate(images):
        image[:] = np.roll(coarse, index, axis=1) + image * 0.1
    return images, times, landmarks


def encoder_of(path, device: str = "cpu", **more) -> ResNet18:
    return ResNet18(Weights("file", path.name, file_fingerprint(path), **more), path.parent, device)


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    rows, others = rows.astype(np.float64), others.astype(np.float64)
    return (rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)


def test_resnet18_equals_torchvision_run_by_hand(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    images, times, landmarks = faces(3)
    sequence = encoder_of(tmp_path / "plain.safetensors")(images, times, landmarks)
    prepare = transforms.Compose([
        transforms.ToTensor(), transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    ])
    captured = {}
    handle = model.fc.register_forward_pre_hook(lambda _, inputs: captured.update(pooled=inputs[0]))
    for image, row in zip(images, sequence.values, strict=True):
        with torch.no_grad():
            model(prepare(image)[None])
        np.testing.assert_allclose(row, captured["pooled"][0].numpy(), atol=1e-5)
    handle.remove()


def test_the_three_published_layouts_give_the_same_features(model, tmp_path):
    head = {"fc.weight": torch.zeros(8, 512), "cat_head0.sa.weight": torch.zeros(3)}
    files = {
        "torchvision.pth": model.state_dict(),
        "dan.pth": {"iter": 7, "model_state_dict": numbered(model, "features.") | head, "optimizer": {"x": 1}},
        "libreface.pt": {"model": numbered(model, "encoder.") | head},
        "parallel.pth": {f"module.{key}": value for key, value in model.state_dict().items()},
    }
    for name, state in files.items():
        torch.save(state, tmp_path / name)
    save_file(numbered(model, "features."), tmp_path / "dan.safetensors")
    images = faces(2)
    expected = encoder_of(tmp_path / "torchvision.pth")(*images).values
    assert expected.std() > 0.1
    weights = set()
    for name in [*files, "dan.safetensors"]:
        encoder = EXTRACTORS["resnet18"].load(str(tmp_path / name), tmp_path / "encoders")
        np.testing.assert_array_equal(encoder(*images).values, expected)
        weights.add(EXTRACTORS["resnet18"].resolve(str(tmp_path / name), tmp_path / "encoders"))
    assert len(weights) == 1  # equal weights are one encoder, whatever the file around them
    assert [path.name for path in (tmp_path / "encoders").iterdir()] == [weights.pop().file]


@pytest.mark.parametrize("lost", ["conv1.weight", "layer4.1.bn2.running_var", "layer2.0.downsample.0.weight"])
@pytest.mark.parametrize("layout", ["torchvision", "dan", "libreface"])
def test_a_checkpoint_without_a_trunk_key_is_refused(model, tmp_path, lost, layout):
    child, _, rest = lost.partition(".")
    if layout == "torchvision":
        state = {key: value for key, value in model.state_dict().items() if key != lost}
    else:
        outer, prefix = {"dan": ("model_state_dict", "features."), "libreface": ("model", "encoder.")}[layout]
        inner = numbered(model, prefix)
        del inner[f"{prefix}{CHILDREN[child]}.{rest}"]
        state = {outer: inner}
    torch.save(state, tmp_path / "lossy.pth")
    with pytest.raises(InputError, match=lost) as caught:
        EXTRACTORS["resnet18"].load(str(tmp_path / "lossy.pth"), tmp_path / "encoders")
    assert "\n" not in str(caught.value) and not (tmp_path / "encoders").exists()


class Thing:
    pass


def test_a_checkpoint_with_anything_but_tensors_is_refused(model, tmp_path):
    for content in (0.5, "text", [torch.ones(1)], {"deeper": torch.ones(1)}, Thing()):
        torch.save({"model": numbered(model, "encoder.") | {"extra": content}}, tmp_path / "odd.pt")
        with pytest.raises(InputError) as caught:
            read_resnet18(tmp_path / "odd.pt")
        assert "\n" not in str(caught.value) and "odd.pt" in str(caught.value)


def test_a_trunk_of_another_shape_is_refused(model, tmp_path):
    torch.save(model.state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    with pytest.raises(InputError, match=r"conv1.weight has shape \(64, 1, 7, 7\)"):
        read_resnet18(tmp_path / "grey.pth")


def test_vit_equals_transformers_run_by_hand(tmp_path):
    from PIL import Image
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(3)
    config = ViTConfig(hidden_size=384, num_hidden_layers=2, num_attention_heads=6, intermediate_size=1536,
                       image_size=112)
    by_hand = ViTModel(config, add_pooling_layer=False).eval()
    images, times, landmarks = faces(2)
    sequence = ViT(Weights("untrained", seed=3), tmp_path)(images, times, landmarks)
    processor = ViTImageProcessor(size={"height": 112, "width": 112})
    with torch.no_grad():
        pixels = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
        expected = by_hand(pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(sequence.values, expected, atol=1e-5)
    other = ViT(Weights("untrained", seed=4), tmp_path)(images, times, landmarks)
    assert np.abs(other.values - expected).max() > 0.1


def test_the_seed_of_an_untrained_model_does_not_touch_the_callers(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ViT(Weights("untrained", seed=3), tmp_path)
    assert torch.rand(1) == expected


@pytest.fixture(scope="module")
def encoders(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    save_file(model.state_dict(), folder / "plain.safetensors")
    resnet18, vit = folder / "plain.safetensors", Weights("untrained")
    return {
        "resnet18": encoder_of(resnet18), "resnet18 bfloat16": encoder_of(resnet18, precision="bfloat16"),
        "vit": ViT(vit, folder), "vit bfloat16": ViT(replace(vit, precision="bfloat16"), folder),
    }


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_bfloat16_batches_give_what_one_face_at_a_time_gives_in_float32(encoders, model, name):
    images, times, landmarks = smooth_faces(34)
    fast = encoders[f"{name} bfloat16"](images, times, landmarks).values
    alone = np.concatenate([encoders[name](images[i : i + 1], times[i : i + 1], landmarks[i : i + 1]).values
                            for i in range(34)])
    assert cosines(fast, alone).min() > 0.999
    assert 0 < np.abs(fast - alone).max() < 0.02 * np.abs(alone).max()  # another precision, so not the same numbers
    centred = alone - alone.mean(0)
    assert cosines(fast - alone.mean(0), centred).min() > 0.95  # what tells the faces apart is kept as well
    for index in (0, 31, 32, 33):
        row = encoders[f"{name} bfloat16"](images[index : index + 1], times[index : index + 1], landmarks[:1]).values[0]
        assert np.abs(row - fast[index]).max() < 0.02 * np.abs(alone).max()


def test_no_batch_normalisation_is_left_to_compute(encoders):
    assert not [each for each in encoders["resnet18"].model.modules() if isinstance(each, nn.BatchNorm2d)]


def test_a_repeated_face_is_encoded_once(encoders, monkeypatch):
    images, _, landmarks = faces(6)
    images, times = images[[0, 0, 0, 1, 2, 2, 1]], np.arange(7) / 30
    expected = encoders["resnet18"](images[[0, 3, 4]], times[:3], landmarks[:3]).values[[0, 0, 0, 1, 2, 2, 1]]
    seen, pooled = [], encoders["resnet18"].pooled
    monkeypatch.setattr(encoders["resnet18"], "pooled", lambda pixels: seen.append(len(pixels)) or pooled(pixels))
    found = encoders["resnet18"](images, times, landmarks[[0, 0, 0, 1, 2, 2, 1]])
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_array_equal(found.times, times)
    assert sum(seen) == 4  # the last is seen again, because it is no repetition of the one before


@pytest.mark.parametrize("able, precision", [({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16"),
                                             ({"avx2": True, "avx512_bf16": False}, "float32"), ({}, "float32")])
def test_the_precision_is_what_the_processor_has(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert native_precision("cpu") == precision == EXTRACTORS["resnet18"].precision("cpu")
    assert EXTRACTORS["mfcc"].precision("cpu") == EXTRACTORS["wav2vec2"].precision("cpu") == "float32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_processor_gives(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    images = smooth_faces(40)
    expected = encoder_of(tmp_path / "plain.safetensors")(*images).values
    for precision in ("float32", native_precision("cuda")):
        found = encoder_of(tmp_path / "plain.safetensors", "cuda", precision=precision)(*images).values
        assert cosines(found, expected).min() > 0.999


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_no_face_one_face_and_several(encoders, name):
    encoder, declared = encoders[name], EXTRACTORS[name]
    assert encoder(*faces(0)).values.shape == (0, declared.width)
    images, times, landmarks = faces(35)  # more than one batch
    together = encoder(images, times, landmarks)
    assert together.values.shape == (35, declared.width) and len(together.names) == declared.width
    assert together.extractor == name and together.names[7].startswith(name)
    np.testing.assert_array_equal(together.times, times)
    np.testing.assert_array_equal(encoder(images, times, landmarks).values, together.values)
    for row in (0, 31, 32, 34):
        alone = encoder(images[row : row + 1], times[row : row + 1], landmarks[row : row + 1])
        np.testing.assert_allclose(alone.values[0], together.values[row], atol=1e-5)
    assert np.abs(together.values[0] - together.values[1]).max() > 1e-3  # and it does look at the face
