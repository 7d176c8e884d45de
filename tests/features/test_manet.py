"""MANet: the published names, what looks at what, and which files it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from face_crops import smooth_faces

from emibook import InputError
from emibook.features import EXTRACTORS
from emibook.features.manet import MANet, Network
from emibook.features.weights import Weights


class RecorderMeter:
    """What the authors' script keeps its curves in, and saves along."""


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def published(network, tmp_path_factory):
    """A checkpoint as its authors' training script writes it: DataParallel's names, two classifiers, counters."""
    heads = {f"fc_{branch}.{part}": torch.zeros(7, 512) if part == "weight" else torch.zeros(7)
             for branch in (1, 2) for part in ("weight", "bias")}
    state = {f"module.{key}": value for key, value in (network.state_dict() | heads).items()}
    path = tmp_path_factory.mktemp("published") / "model_best.pth"
    torch.save({"epoch": 3, "state_dict": state, "best_acc": torch.tensor(88.4), "optimizer": {"state": {}}}, path)
    return path


def test_the_names_are_the_published_ones(network):
    state = network.state_dict()
    assert {key.split(".")[0] for key in state} == {
        "conv1", "bn1", "layer1", "layer2", "layer3_2", "layer4_2",
        *(f"layer{layer}_1_p{part}" for layer in (3, 4) for part in (1, 2, 3, 4))}
    shapes = {key: tuple(state[key].shape) for key in (
        "conv1.weight", "layer3_1_p4.0.conv1.weight", "layer4_1_p2.1.cbam.ChannelGate.mlp.1.weight",
        "layer4_1_p2.1.cbam.ChannelGate.mlp.3.bias", "layer3_1_p1.0.cbam.SpatialGate.spatial.conv.weight",
        "layer3_1_p1.0.cbam.SpatialGate.spatial.bn.running_var", "layer4_2.0.conv1_2_1.weight",
        "layer4_2.1.bn2_2_4.bias", "layer4_2.0.downsample.0.weight", "layer2.0.downsample.1.running_mean")}
    assert list(shapes.values()) == [(64, 3, 7, 7), (256, 128, 3, 3), (32, 512), (512,), (1, 2, 7, 7), (1,),
                                     (128, 128, 3, 3), (128,), (512, 256, 1, 1), (128,)]


def test_a_quarter_is_seen_by_its_own_branch_and_by_the_whole(network):
    """What layer2 says in one quarter of its map reaches one local branch, and the branch for the whole face."""
    torch.manual_seed(1)
    maps, seen = torch.rand(1, 128, 28, 28), {}
    network.layer2.register_forward_hook(lambda *_: seen["maps"])
    for name in [f"layer4_1_p{part}" for part in (1, 2, 3, 4)] + ["layer4_2"]:
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        seen["maps"] = maps
        before = network(torch.zeros(1, 3, 224, 224)), dict(seen)
        changed = maps.clone()
        changed[:, :, 14:, :14] += 1  # below, left: the third
        seen["maps"] = changed
        after = network(torch.zeros(1, 3, 224, 224)), dict(seen)
    network.layer2._forward_hooks.clear()
    differ = {name for name in before[1] if name != "maps" and not torch.equal(before[1][name], after[1][name])}
    assert differ == {"layer4_1_p3", "layer4_2"}
    assert before[0].shape == (1, 1024)
    assert not torch.equal(before[0][:, :512], after[0][:, :512])
    local = torch.cat([torch.cat([after[1]["layer4_1_p1"], after[1]["layer4_1_p2"]], 3),
                       torch.cat([after[1]["layer4_1_p3"], after[1]["layer4_1_p4"]], 3)], 2)
    torch.testing.assert_close(after[0][:, :512], local.mean((2, 3)))  # as published: joined, then averaged


def test_a_scale_sees_what_the_one_before_it_gave(network):
    """Equations of the block, step by step, by hand."""
    block = network.layer3_2[1]
    torch.manual_seed(2)
    maps = torch.rand(1, 256, 6, 6)
    with torch.no_grad():
        a, b, c, d = torch.relu(block.bn1(block.conv1(maps))).split(64, 1)

        def step(chain, group, given):
            return getattr(block, f"bn{chain}_2_{group}")(getattr(block, f"conv{chain}_2_{group}")(given))

        up = [step(1, 1, a)]
        up.append(step(1, 2, b + up[0].relu()))
        up.append(step(1, 3, c + up[1].relu()))
        up.append(step(1, 4, d + up[2].relu()))
        down = [step(2, 4, d)]
        down.append(step(2, 3, c + down[0].relu()))
        down.append(step(2, 2, b + down[1].relu()))
        down.append(step(2, 1, a + down[2].relu()))
        expected = torch.relu(torch.cat(up, 1) + torch.cat(down[::-1], 1) + maps)
        torch.testing.assert_close(block(maps), expected)


def test_attention_weighs_channels_and_then_places(network):
    gate = network.layer3_1_p2[0].cbam
    torch.manual_seed(3)
    maps = torch.randn(2, 256, 5, 5)
    with torch.no_grad():
        first, _, second = gate.ChannelGate.mlp[1:]
        hidden = [torch.relu(pooled @ first.weight.T + first.bias) for pooled in (maps.mean((2, 3)), maps.amax((2, 3)))]
        channels = torch.sigmoid(sum(each @ second.weight.T + second.bias for each in hidden))
        weighed = maps * channels[:, :, None, None]
        places = gate.SpatialGate.spatial(torch.stack([weighed.amax(1), weighed.mean(1)], 1))
        torch.testing.assert_close(gate(maps), weighed * places.sigmoid())
    assert places.shape == (2, 1, 5, 5)


def test_a_published_checkpoint_is_taken_and_folded(network, published, tmp_path):
    encoder = EXTRACTORS["manet"].load(str(published), tmp_path)
    images = smooth_faces(2)
    found = encoder(*images)
    with torch.no_grad():
        expected = network(MANet.scaled(torch.from_numpy(images[0]))).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values / scale, expected / scale, atol=1e-4)
    assert found.weights.startswith("file:") and np.abs(found.values[0] - found.values[1]).max() > 1e-3 * scale
    assert not [each for each in encoder.model.modules() if type(each).__name__ == "BatchNorm2d"]
    pixels = MANet.scaled(torch.from_numpy(images[0]))
    assert pixels.shape == (2, 3, 224, 224) and 0 <= pixels.min() and pixels.max() <= 1


def test_a_checkpoint_of_something_else_is_refused(published, tmp_path):
    whole = torch.load(published, weights_only=True)
    lost = "layer3_1_p2.0.cbam.SpatialGate.spatial.conv.weight"
    state = {key: value for key, value in whole["state_dict"].items() if key != f"module.{lost}"}
    torch.save({"state_dict": state}, tmp_path / "lossy.pth")
    with pytest.raises(InputError, match=lost):
        MANet.convert(tmp_path / "lossy.pth")
    torch.save({"state_dict": whole["state_dict"] | {"module.recorder": 3}}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="no tensor"):
        MANet.convert(tmp_path / "odd.pth")


def test_an_object_beside_the_tensors_is_not_made(published, tmp_path):
    torch.save(torch.load(published, weights_only=True) | {"recorder": RecorderMeter()}, tmp_path / "whole.pth")
    with pytest.raises(InputError, match="could run code; save its state dict") as caught:
        MANet.convert(tmp_path / "whole.pth")
    assert "\n" not in str(caught.value)


def test_untrained_weights_are_the_seeds(network, tmp_path):
    images = smooth_faces(1)
    found, other = (MANet(Weights("untrained", seed=seed), tmp_path)(*images).values for seed in (0, 1))
    with torch.no_grad():
        expected = network(MANet.scaled(torch.from_numpy(images[0]))).numpy()  # of seed 0, by hand
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found - other).max() > 0.01 * np.abs(expected).max() and np.isfinite(other).all()
