from __future__ import annotations

import os
import types
from dataclasses import replace

import feature_corpus
import numpy as np
import pytest
import torch
from safetensors import safe_open

from emibook import InputError
from emibook.features import store
from emibook.sequences import packed as packing
from emibook.sequences.load import extracted_sets, load, packed_file
from emibook.sequences.packed import Feed, Sequences, fits, read, stored, write
from emibook.sequences.timeline import SequenceConfig
from emibook.training import Partitions, Recipe, TrainingConfig, train

RNG = np.random.default_rng(0)
TABLES = [RNG.normal(size=(length, 3)).astype(np.float32) for length in (4, 0, 7, 1)]


def sequences(values, offsets) -> Sequences:
    clips = len(offsets) - 1
    return Sequences("aus", ("a", "b", "c"), values, offsets, np.zeros((clips, 1), np.float32), ("Joy",),
                     tuple(map(str, range(clips))), ("",) * clips, ("builtin",))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_what_is_written_is_read_by_us_and_by_the_formats_own_library(tmp_path, precision):
    path = tmp_path / "deep" / "train.safetensors"
    write(path, iter(TABLES), 4, {"names": ["a", "b", "c"], "text": "ü"}, precision)
    values, offsets, about = read(path)
    assert list(offsets) == [0, 4, 4, 11, 12] and about == {"names": ["a", "b", "c"], "text": "ü"}
    expected = torch.from_numpy(np.concatenate(TABLES)).to(getattr(torch, precision))
    assert torch.equal(sequences(values, offsets).tensor(), expected)
    np.testing.assert_array_equal(sequences(values, offsets).rows(2, 9), expected.float().numpy()[2:9])
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("values"), expected)
        np.testing.assert_array_equal(file.get_tensor("offsets"), offsets)
    assert list(path.parent.iterdir()) == [path]


def test_values_are_mapped_and_writing_into_them_leaves_the_file(tmp_path):
    path = tmp_path / "big.safetensors"
    write(path, (np.ones((1000, 500), np.float32) for _ in range(20)), 20, {})

    def own_megabytes() -> float:
        with open("/proc/self/smaps_rollup") as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous"))

    content = path.read_bytes()
    before = own_megabytes()
    values, _, _ = read(path)
    assert values[::7].astype(np.float32).sum() > 0 and own_megabytes() - before < 8, "20 MB were read, not mapped"
    values[3] = 7
    assert path.read_bytes() == content


def test_damaged_and_absent_files_are_one_line(tmp_path):
    path = tmp_path / "train.safetensors"
    with pytest.raises(InputError, match="no packed features"):
        read(path)
    write(path, iter(TABLES), 4, {})
    whole = path.read_bytes()
    for spoilt in (whole[:30], whole[:-10], b"", b"\xff" * 40, whole[:8] + b"{}" + whole[10:]):
        path.write_bytes(spoilt)
        with pytest.raises(InputError, match="delete it") as error:
            read(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no precision 'float8'"):
        write(path, iter(TABLES), 4, {}, "float8")
    with pytest.raises(ValueError, match="5 clips promised"):
        write(tmp_path / "few.safetensors", iter(TABLES), 5, {})
    assert [file.name for file in tmp_path.iterdir()] == ["train.safetensors"]


def test_a_batch_leaves_gaps_out_and_an_empty_partition_has_nothing(tmp_path):
    tables = [table.copy() for table in TABLES]
    tables[2][[1, 4]] = np.nan
    values, offsets = np.concatenate(tables).astype(np.float16), np.array([0, 4, 4, 11, 12])
    batch, mask = Feed(sequences(values, offsets), "cpu").batch(np.array([2, 1, 3]))
    assert mask.tolist() == [[True, False, True, True, False, True, True], [False] * 7, [True] + [False] * 6]
    torch.testing.assert_close(batch[mask].float().numpy()[0], values[4].astype(np.float32))
    batch, mask = Feed(sequences(values[:0], np.zeros(3, int)), "cpu").batch(np.array([0, 1]))
    assert batch.shape == (2, 1, 3) and not mask.any()


def test_bfloat16_keeps_what_float16_cannot_hold(tmp_path):
    large = np.array([[1e6, -3e9, 1.0]], np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(stored(large, "float16")[0, :2]).all()
    kept = sequences(stored(large, "bfloat16"), np.array([0, 1])).rows(0, 1)
    np.testing.assert_allclose(kept, large, rtol=2**-8)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_clip_has_something_where_one_step_is_no_gap(precision):
    table = np.ones((12, 3), np.float32)
    table[[0, 3, 8, 9, 10]] = np.nan  # the first clip's ends, all of the third, one in the last
    part = sequences(stored(table, precision), np.array([0, 4, 4, 8, 8, 10, 12]))
    assert list(part.present) == [True, False, True, False, False, True]
    assert not sequences(part.values[:0], np.zeros(3, int)).present.any()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_none_is_found_wherever_it_lies_and_gaps_are_none_of_them(precision, wrong):
    table = RNG.normal(size=(20_000, 3)).astype(np.float32) * np.float32([1, 1e4, -1e-7])
    table[::7] = np.nan
    offsets = np.array([0, 9_000, 20_000])
    assert not sequences(stored(table, precision), offsets).first_nonfinite()
    table[[15_003, 17_003], 1] = wrong
    assert sequences(stored(table, precision), offsets).first_nonfinite() == (
        f"features aus, clip 1, step 6003: b is {wrong}, not a finite number")
    table[1] = np.inf
    assert "clip 0, step 1: a is inf" in sequences(stored(table, precision), offsets).first_nonfinite()


@pytest.fixture
def work(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 4, 3, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    return corpus, tmp_path


def test_a_packed_file_serves_until_a_clips_file_changes(work, monkeypatch):
    corpus, folder = work
    first = load(corpus, folder, "aus", "train")
    loaded = []
    whole = store.load
    monkeypatch.setattr(store, "load", lambda path: loaded.append(path) or whole(path))
    again = load(corpus, folder, "aus", "train")
    np.testing.assert_array_equal(again.values, first.values)
    assert not loaded and (again.names, again.weights) == (first.names, first.weights)
    path = store.clip_path(store.feature_folder(folder, "aus"), "00002")
    other = whole(path)
    store.save(replace(other, values=other.values + 1), path)
    changed = load(corpus, folder, "aus", "train")
    assert loaded and np.abs(changed.values.astype(float) - first.values.astype(float)).max() > 0.5
    (packed,) = (folder / "packed" / "aus").glob("train-*")
    expected = changed.values.copy()  # what is mapped changes with its file
    packed.write_bytes(packed.read_bytes()[:99])
    np.testing.assert_array_equal(load(corpus, folder, "aus", "train").values, expected)


def test_each_reading_and_partition_is_a_file_of_its_own(work):
    corpus, folder = work
    lengths = {options: load(corpus, folder, "aus", "train",
                             SequenceConfig(steps=options)).lengths for options in (300, 5)}
    assert lengths[5].max() == 5 < lengths[300].max()
    load(corpus, folder, "aus", "valid")
    load(corpus, folder, "aus", "train", SequenceConfig(sound="mean"))  # says nothing of faces
    assert len(os.listdir(folder / "packed" / "aus")) == 3


def test_a_packed_set_needs_no_clips_files(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 4, 3, 0)
    clips = list(corpus.partition("train")["clip"])
    about = {"names": ["a", "b", "c"], "weights": ["simulated"], "clips": clips}
    assert extracted_sets(tmp_path, "aus") == ["aus"]
    write(packed_file(tmp_path, "aus", "train"), iter(TABLES), 4, about)
    assert extracted_sets(tmp_path, "aus") == []
    part = load(corpus, tmp_path, "aus", "train")
    assert list(part.lengths) == [4, 0, 7, 1] and part.weights == ("simulated",) and part.clips == tuple(clips)
    with pytest.raises(InputError, match="one way only"):
        load(corpus, tmp_path, "aus", "train", SequenceConfig(steps=3))
    write(packed_file(tmp_path, "aus", "train"), iter(TABLES), 4, about | {"clips": clips[::-1]})
    with pytest.raises(InputError, match="other clips"):
        load(corpus, tmp_path, "aus", "train")


def test_a_set_too_large_for_the_gpu_is_sent_batch_by_batch_and_that_is_said(capsys):
    assert fits("aus", 10, 1000) and not capsys.readouterr().err
    assert not fits("resnet18+aus", 3 * 2**30, 4 * 2**30)
    said = capsys.readouterr().err
    assert "resnet18+aus: 3.0 GiB" in said and "4.0 GiB free" in said and "batch by batch" in said
    assert said.count("\n") == 1


def test_a_set_larger_than_the_memory_is_trained_on_from_its_file_and_that_is_said(work, capsys, monkeypatch):
    corpus, folder = work
    parts = load(corpus, folder, "aus", "train"), load(corpus, folder, "aus", "valid")
    recipe = Recipe("quick", learning_rate=3e-3, batch=10, epochs=2, threads=1)
    made_weights = []
    for name, free in (("enough", 2**40), ("little", 100)):
        monkeypatch.setattr(packing.psutil, "virtual_memory", lambda free=free: types.SimpleNamespace(available=free))
        train(Partitions(*parts), TrainingConfig(recipe), folder / name, device="cpu", progress=False)
        made_weights.append((folder / name / "weights.safetensors").read_bytes())
        said = capsys.readouterr().err.splitlines()
        assert len(said) == (0 if name == "enough" else 2), "a line a partition"
    assert all("features aus" in line and "read from disk in every epoch" in line for line in said)
    assert made_weights[0] == made_weights[1]


def test_a_batch_is_as_long_as_asked_and_holds_the_same():
    values = np.arange(114, dtype=np.float16).reshape(-1, 3)
    feed = Feed(sequences(values, np.array([0, 3, 20, 38])), "cpu")
    exact, mask = feed.batch(np.array([1, 2]))
    assert exact.shape == (2, 18, 3)
    longer, longer_mask = feed.batch(np.array([1, 2]), multiple=16)
    assert longer.shape == (2, 32, 3) and longer_mask.sum() == mask.sum() and not longer_mask[:, 18:].any()
    assert torch.equal(longer[:, :18][mask], exact[mask])
    assert feed.batch(np.array([0]), multiple=16)[1].shape == (1, 3)  # a short one stays as it is
    assert feed.batch(np.array([1]), multiple=17)[1].shape == (1, 17)
