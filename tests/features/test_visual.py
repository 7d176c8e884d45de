"""ResNet-18 and ViT on face crops: what they compute, and which checkpoints they take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_faces import cosines, faces, smooth_faces
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import transforms
from torchvision.models import resnet18

from emibook import InputError
from emibook.device import native_precision
from emibook.features import EXTRACTORS
from emibook.features.facenet import FaceNet
from emibook.features.resnet18 import ResNet18, read_resnet18
from emibook.features.vit import ViT, published_layout
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


def encoder_of(path, device: str = "cpu", **more) -> ResNet18:
    return ResNet18(Weights("file", path.name, file_fingerprint(path), **more), path.parent, device)


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
    sequence = ViT(Weights("small", seed=3), tmp_path)(images, times, landmarks)
    processor = ViTImageProcessor(size={"height": 112, "width": 112})
    with torch.no_grad():
        pixels = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
        expected = by_hand(pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(sequence.values, expected, atol=1e-5)
    other = ViT(Weights("small", seed=4), tmp_path)(images, times, landmarks)
    assert np.abs(other.values - expected).max() > 0.1


PUBLISHED = {"feature_extractor_type": "ViTFeatureExtractor", "image_mean": [0.4, 0.5, 0.6],
             "image_std": [0.2, 0.25, 0.3], "resample": 3, "size": 224, "do_resize": True, "do_normalize": True}


def published_vit(folder: Path) -> None:
    """A checkpoint as the hub has it, random numbers in every tensor."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    config = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    model = ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.02)  # they begin as zeros, which would hide one that is lost
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))


def test_the_published_vit_equals_transformers_run_by_hand(tmp_path):
    from PIL import Image
    from transformers import ViTImageProcessor, ViTModel

    published_vit(tmp_path / "hub")
    file = tmp_path / "hub" / "model.safetensors"
    assert {key: value.shape for key, value in load_file(file).items()} == {
        key: value.shape for key, value in published_layout().items()}
    images = smooth_faces(2)
    found = EXTRACTORS["vit"].load(str(file), tmp_path / "encoders")(*images).values

    by_hand = ViTModel.from_pretrained(tmp_path / "hub", add_pooling_layer=False).eval()
    processor = ViTImageProcessor.from_pretrained(tmp_path / "hub")
    with torch.no_grad():
        pixels = processor(images=[Image.fromarray(image) for image in images[0]], return_tensors="pt")["pixel_values"]
        expected = by_hand(pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)

    state = load_file(file)
    other = {f"vit.{key}": value for key, value in state.items()} | {"vit.pooler.dense.weight": torch.zeros(384, 384)}
    (tmp_path / "bin").mkdir()
    torch.save(other, tmp_path / "bin" / "pytorch_model.bin")
    (tmp_path / "bin" / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))
    for each in (file, tmp_path / "bin" / "pytorch_model.bin"):  # the same weights, whatever the file around them
        assert len({EXTRACTORS["vit"].resolve(str(path), tmp_path / "e").sha256 for path in (file, each)}) == 1
    (tmp_path / "hub" / "preprocessor_config.json").unlink()
    kept = ViT.convert(file)
    assert kept["processor.image_mean"].tolist() == pytest.approx([0.485, 0.456, 0.406])

    for lost in ("encoder.layer.11.output.dense.bias", "embeddings.cls_token", "layernorm.weight"):
        save_file({key: value for key, value in state.items() if key != lost}, tmp_path / "lossy.safetensors")
        with pytest.raises(InputError, match=lost) as caught:
            ViT.convert(tmp_path / "lossy.safetensors")
        assert "\n" not in str(caught.value)


def test_facenet_equals_facenet_pytorch_run_by_hand(tmp_path):
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(2)
    by_hand = InceptionResnetV1(classify=True, num_classes=5)
    with torch.no_grad():
        for key, value in by_hand.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.05)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
    by_hand.classify = False
    torch.save(by_hand.eval().state_dict(), tmp_path / "20180402-114759-vggface2.pt")
    images = smooth_faces(2)
    images[0][1] = 255 - images[0][1]
    encoder = EXTRACTORS["facenet"].load(str(tmp_path / "20180402-114759-vggface2.pt"), tmp_path / "encoders")
    found = encoder(*images).values
    enlarged = np.stack([cv2.resize(image.astype(np.float32), (160, 160)) for image in images[0]])
    with torch.no_grad():
        expected = by_hand((torch.from_numpy(enlarged).permute(0, 3, 1, 2) - 127.5) / 128).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    # Random weights tell faces apart by little, and that little has to agree too.
    assert cosines(found[:1] - found[1:], expected[:1] - expected[1:]).min() > 0.99

    torch.save(resnet18(weights=None).state_dict(), tmp_path / "other.pt")
    with pytest.raises(InputError, match="which InceptionResnetV1 needs"):
        FaceNet.convert(tmp_path / "other.pt")


def test_the_seed_of_an_untrained_model_does_not_touch_the_callers(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ViT(Weights("small", seed=3), tmp_path)
    assert torch.rand(1) == expected


@pytest.fixture(scope="module")
def encoders(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    save_file(model.state_dict(), folder / "plain.safetensors")
    resnet18, vit = folder / "plain.safetensors", Weights("small")
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
