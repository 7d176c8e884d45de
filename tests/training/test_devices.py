"""Code for a GPU, on a simulated one: tensors of the two devices never meet, and the numbers are those of a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_gpu import OnGPU, a_gpu  # noqa: F401 (the fixture gpu)

from emibook.features import EXTRACTORS
from emibook.features.weights import Weights
from emibook.models import rebuild
from emibook.preprocess import detector
from emibook.puppet.renderer import UNITS, Identity, Pose, Puppet, Scene
from emibook.sequences import packed
from emibook.training import loop, microbatch
from emibook.training.partitions import Partitions

NETWORKS = {"resnet18": "untrained", "vit": "small", "facenet": "untrained", "manet": "untrained",
            "deepspectrum": "untrained", "wav2vec2": "small", "wav2vec2_outputs": "small", "wav2vec2_base": "small"}


def test_the_pretence_tells_devices_apart(gpu):
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    assert (there.device.type, there.cpu().device.type, type(there + 1)) == ("cuda", "cpu", OnGPU)
    for wrong in (lambda: here + there, lambda: torch.cat([here, there]), lambda: torch.where(here > 0, there, 0),
                  lambda: there.index_select(0, torch.tensor([0])), lambda: here[there > 0]):
        with pytest.raises(RuntimeError, match="cuda"):
            wrong()
    np.testing.assert_array_equal(there[here > 0].cpu().numpy(), np.ones(3))
    with pytest.raises(TypeError, match="cuda"):
        there.numpy()
    np.testing.assert_array_equal(there.cpu().numpy(), np.ones(3))
    layer = torch.nn.Linear(3, 2).to("cuda")
    with pytest.raises(RuntimeError, match="cuda"):
        layer(here)
    layer(there).sum().backward()
    assert isinstance(layer.weight.grad, OnGPU)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_on_a_gpu_what_it_gives_on_a_processor(name, gpu, tmp_path):
    extractor, sequences = EXTRACTORS[name], {}
    for device in ("cuda", "cpu"):
        encoder = extractor.encoder_class(Weights(NETWORKS[name], seed=0), tmp_path, device)
        module = getattr(encoder, "model", None) or encoder.network
        assert all(isinstance(tensor, OnGPU) == (device == "cuda") for tensor in module.state_dict().values())
        if extractor.modality == "V":
            images = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
            sequences[device] = [encoder(images, np.arange(2) / 30, np.zeros((2, 5, 2), np.float32))]
        else:
            sounds = [np.random.default_rng(0).integers(-9999, 9999, size).astype(np.int16) for size in (4000, 5600)]
            batched = getattr(encoder, "encode_batch", lambda sounds, encoder=encoder: [*map(encoder, sounds)])
            sequences[device] = batched(sounds)
    for gpu, cpu in zip(sequences["cuda"], sequences["cpu"], strict=True):
        np.testing.assert_allclose(gpu.values, cpu.values, atol=2e-5 * np.abs(cpu.values).max())


def test_images_are_encoded_in_half_precision(gpu, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    rest = np.arange(2) / 30, np.zeros((2, 5, 2), np.float32)
    resnet = EXTRACTORS["resnet18"].encoder_class
    assert EXTRACTORS["resnet18"].precision("cuda") == "bfloat16"
    low, full = (resnet(Weights("untrained", precision=precision), tmp_path, "cuda")(images, *rest).values
                 for precision in ("bfloat16", "float32"))
    assert 0 < np.abs(low - full).max() < 0.03 * np.abs(full).max()


@pytest.fixture(scope="module")
def partitions() -> list[packed.Sequences]:
    """Two partitions of clips of 0 to 7 steps, one of which is a gap."""
    rng = np.random.default_rng(0)
    parts = []
    for clips in (12, 6):
        lengths = rng.integers(1, 8, clips)
        lengths[3] = 0
        values = rng.normal(size=(lengths.sum(), 6)).astype(np.float16)
        values[2] = np.nan
        parts.append(packed.Sequences(
            "aus", tuple("abcdef"), values, np.concatenate([[0], np.cumsum(lengths)]),
            rng.random((clips, 2), np.float32), ("Joy", "Awe"), tuple(map(str, range(clips))), ("",) * clips,
            ("builtin",)))
    return parts


@pytest.mark.parametrize("share", [packed.SHARE["cuda"], 0], ids=["on the GPU", "sent batch by batch"])
def test_batches_lie_on_the_gpu(share, partitions, gpu, monkeypatch, capsys):
    monkeypatch.setitem(packed.SHARE, "cuda", share)
    clips = np.array([4, 3, 0])
    feeds = {device: packed.Feed(partitions[0], device) for device in ("cuda", "cpu")}
    assert isinstance(feeds["cuda"].values, OnGPU) == (share > 0)
    assert ("batch by batch" in capsys.readouterr().err) == (share == 0)
    batches = {device: feed.batch(clips) for device, feed in feeds.items()}
    for there, here in zip(batches["cuda"], batches["cpu"], strict=True):
        assert isinstance(there, OnGPU) and not isinstance(here, OnGPU)
        np.testing.assert_array_equal(there.cpu().numpy(), here.numpy())


OPTIONS = [{}, {"positions": False, "pooling": "attention", "attention": 8}, {"pooling": "last", "residual": True},
           {"pooling": "statistics"}, {"transformer_layers": 0}, {"kind": "recurrent"}, {"kind": "linear"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_branch_learns_on_a_gpu_what_it_learns_on_a_processor(options, partitions, gpu):
    kind = {"kind": "regressor", "in_features": 6, "targets": 2, **options}
    if kind["kind"] != "linear":
        kind |= {"channels": 8}
    results = {}
    for device in ("cuda", "cpu"):
        torch.manual_seed(0)
        model, feed = rebuild(kind).to(device), packed.Feed(partitions[0], device)
        recipe = loop.Recipe("t", learning_rate=1e-3, batch=8, epochs=1, threads=1)
        loss = microbatch.gradient(model, feed, np.arange(8), recipe)
        assert isinstance(loss, OnGPU) == (device == "cuda")
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(isinstance(tensor, OnGPU) == (device == "cuda") for tensor in gradients)
        results[device] = [loss, *gradients, torch.from_numpy(microbatch.predict(model, partitions[0], device))]
    for gpu, cpu in zip(results["cuda"], results["cpu"], strict=True):
        np.testing.assert_allclose(gpu.cpu().numpy(), cpu.numpy(), atol=1e-5)


def test_a_training_on_a_gpu_resumes_after_it_was_killed(partitions, gpu, tmp_path, monkeypatch):
    recipe = loop.Recipe("t", learning_rate=1e-3, batch=8, epochs=3, patience=1, threads=1, precision="native")
    model, halves = {"channels": 8, "transformer_layers": 1, "heads": 2, "dropout": 0.1}, np.arange(6) % 2

    def trained(name: str) -> dict[str, torch.Tensor]:
        config = loop.TrainingConfig(recipe, 0, model)
        folder = loop.train(Partitions(*partitions, halves), config, tmp_path / name, progress=False)
        weights = loop.load_model(folder).state_dict()
        assert not any(isinstance(tensor, OnGPU) for tensor in weights.values())
        return weights

    whole = trained("whole")
    epochs = iter([loop.predict])

    def killed(*arguments, **options):
        return next(epochs)(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(StopIteration):
        patched.setattr(loop, "predict", killed)
        trained("killed")
    assert (tmp_path / "killed" / loop.LOG).read_text().count("\n") == 2
    for name, tensor in trained("killed").items():
        np.testing.assert_array_equal(tensor.numpy(), whole[name].numpy())


def test_faces_are_found_on_a_gpu_in_batches(gpu):
    rng = np.random.default_rng(0)
    image = Puppet(Identity.random(rng), Scene.random(rng)).draw(np.zeros(len(UNITS)), pose=Pose())
    there, here = detector.Detector("cuda"), detector.Detector("cpu")
    assert there.batch > 1
    boxes = here.detect([image])[0].boxes
    for found, expected in ((there.detect([image, image])[1], here.detect([image])[0]),
                            (there.refine(image, boxes), here.refine(image, boxes))):
        assert len(found) == len(expected) == 1
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1)  # pixels
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1)
