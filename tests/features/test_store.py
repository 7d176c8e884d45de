"""Feature sequences on disk, and the folder that never mixes features made with different settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from emibook import InputError
from emibook.features import store
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, file_fingerprint, load_state, parse_weights


def sequence(rows: int = 3, width: int = 2, seed: int = 0) -> FeatureSequence:
    values = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    names = tuple(f"f{index}" for index in range(width))
    return FeatureSequence(values, np.arange(rows) / 30, names, "resnet18", "builtin", "1")


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_a_sequence_comes_back_as_it_was(tmp_path, rows):
    before = sequence(rows)
    store.save(before, tmp_path / "00017.safetensors")
    after = store.load(tmp_path / "00017.safetensors")
    assert after.values.dtype == np.float32 and after.times.dtype == np.float64
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.times, before.times)
    assert (after.names, after.extractor, after.weights, after.version) == (("f0", "f1"), "resnet18", "builtin", "1")
    assert os.listdir(tmp_path) == ["00017.safetensors"]


def test_equal_sequences_are_equal_bytes(tmp_path):
    for name in "ab":
        store.save(sequence(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros((3, 2))},
        {"values": np.full((3, 2), np.nan, np.float32)},
        {"values": np.zeros((2, 2), np.float32)},
        {"names": ("f0",)},
        {"names": ("f0", "f0")},
        {"times": np.array([0.0, 0.2, 0.1])},
        {"times": np.array([0.0, 0.1, 0.1])},
        {"times": np.array([0.0, 0.1, np.inf])},
    ],
)
def test_a_sequence_checks_itself(change):
    good = {key: getattr(sequence(), key) for key in ("values", "times", "names", "extractor", "weights", "version")}
    FeatureSequence(**good)
    with pytest.raises(ValueError):
        FeatureSequence(**good | change)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    store.save(sequence(seed=1), path)
    before = path.read_bytes()

    def full(half, data):
        with open(half, "wb") as file:
            file.write(data[:len(data) // 2])
        raise OSError(28, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left.*a.safetensors"):  # which a full disk itself does not say
        store.save(sequence(seed=2), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_what_a_killed_write_left_is_gone_in_the_next_run(tmp_path, monkeypatch):
    folder = store.open_folder(tmp_path, "vit", {})

    def killed(half, data):
        half.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", killed)
        broken.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed clears nothing away
        with pytest.raises(KeyboardInterrupt):
            store.save(sequence(), folder / "a.safetensors")
    assert len(os.listdir(folder)) == 2
    monkeypatch.setattr(os, "getpid", lambda: 1)  # the repeated run is another process
    store.save(sequence(), store.open_folder(tmp_path, "vit", {}) / "a.safetensors")
    assert sorted(os.listdir(folder)) == ["a.safetensors", "settings.json"]


def test_absent_and_damaged_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no features at"):
        store.load(path)
    store.save(sequence(), path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-3], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is no feature file") as caught:
            store.load(path)
        assert "\n" not in str(caught.value)


def test_features_of_two_settings_are_kept_apart_and_come_back(tmp_path):
    one, two = {"extractor": "vit", "seed": 1}, {"extractor": "vit", "seed": 2}
    folder = store.open_folder(tmp_path, "vit", one)
    (folder / "a.safetensors").write_text("one")
    assert store.open_folder(tmp_path, "vit", one) == folder and (folder / "a.safetensors").exists()

    assert store.open_folder(tmp_path, "vit", two) == folder
    assert os.listdir(folder) == ["settings.json"]
    aside = tmp_path / "features" / f"vit@{store.fingerprint(one)}"
    assert (aside / "a.safetensors").read_text() == "one"
    (folder / "a.safetensors").write_text("two")

    assert store.open_folder(tmp_path, "vit", one) == folder
    assert (folder / "a.safetensors").read_text() == "one" and not aside.exists()
    assert store.read_settings(tmp_path, "vit") == one
    assert {path.name for path in folder.parent.iterdir()} == {"vit", f"vit@{store.fingerprint(two)}"}


def test_a_move_that_was_killed_halfway_is_finished(tmp_path):
    one, two = {"seed": 1}, {"seed": 2}
    folder = store.open_folder(tmp_path, "vit", one)
    (folder / "a.safetensors").write_text("one")
    folder.rename(folder.with_name(f"vit@{store.fingerprint(one)}"))  # and killed here
    store.open_folder(tmp_path, "vit", two)
    assert (store.open_folder(tmp_path, "vit", one) / "a.safetensors").read_text() == "one"


def test_a_folder_of_unknown_settings_is_left_alone(tmp_path):
    folder = store.feature_folder(tmp_path, "vit")
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="settings.json"):
        store.open_folder(tmp_path, "vit", {})
    (folder / "settings.json").write_text("[1]")
    with pytest.raises(InputError, match="settings.json"):
        store.open_folder(tmp_path, "vit", {})


def test_the_fingerprint_knows_the_settings_and_not_their_order():
    assert store.fingerprint({"a": 1, "b": 2}) == store.fingerprint({"b": 2, "a": 1})
    assert store.fingerprint({"a": 1}) != store.fingerprint({"a": 2})


@pytest.mark.parametrize("clip", ["../up", "/etc/passwd", "a/b", "a\\b", "..", ".", ""])
def test_a_clip_id_cannot_leave_its_folder(tmp_path, clip):
    with pytest.raises(InputError, match="rename the clip"):
        store.clip_path(tmp_path, clip)


def test_sources_are_split_at_the_first_equals_sign():
    assert parse_weights(["vit=untrained", "resnet18=/a/b=c.pt"]) == {"vit": "untrained", "resnet18": "/a/b=c.pt"}
    assert parse_weights([]) == {}
    for texts in (["vit"], ["=x"], ["vit="], ["vit=a", "vit=b"]):
        with pytest.raises(InputError, match="--weights"):
            parse_weights(texts)


def test_weights_name_what_they_are(tmp_path):
    (tmp_path / "w").write_bytes(b"abc")
    digest = file_fingerprint(tmp_path / "w")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert Weights("file", "w", digest).path(tmp_path) == tmp_path / "w"
    assert Weights("file", "w", digest).label == "file:ba7816bf8f01"
    assert Weights("untrained").label == "untrained control"
    (tmp_path / "w").write_bytes(b"abd")
    with pytest.raises(InputError, match="SHA-256 differs"):
        Weights("file", "w", digest).path(tmp_path)
    with pytest.raises(InputError, match="missing"):
        Weights("file", "v", digest).path(tmp_path)
    with pytest.raises(ValueError):
        Weights("file", "../w", digest)


class Planted:
    """Writes a file when it is unpickled by a reader that is not careful."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_checkpoint_with_an_object_is_refused_and_runs_nothing(tmp_path):
    import torch

    torch.save({"model": {"w": torch.ones(2)}, "extra": Planted(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="more than tensors") as caught:
        load_state(tmp_path / "bad.pt")
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works


def test_files_that_are_no_checkpoint_are_refused_in_one_line(tmp_path):
    import torch

    torch.save({"w": torch.ones(1000)}, tmp_path / "good.pt")
    assert torch.equal(load_state(tmp_path / "good.pt")["w"], torch.ones(1000))
    whole = (tmp_path / "good.pt").read_bytes()
    cases = {"empty.pt": b"", "text.pt": b"hello there", "half.pt": whole[: len(whole) // 2], "json.pt": b"{}",
             "video.mp4": b"\0\0\0 ftypisom" + bytes(99),
             "empty.safetensors": b"", "text.safetensors": json.dumps({"a": 1}).encode()}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_state(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value), name
        assert "run code" not in str(caught.value) and "weights_only" not in str(caught.value)  # torch would advise it
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list"):
        load_state(tmp_path / "list.pt")
    with pytest.raises(InputError, match="no weights at"):
        load_state(tmp_path / "absent.pt")
