from __future__ import annotations

from dataclasses import replace

import feature_corpus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emibook import InputError
from emibook.features import store
from emibook.sequences.load import load, missing_files
from emibook.sequences.packed import Feed
from emibook.sequences.timeline import SequenceConfig, joined, on_clock


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def corpus(work):
    corpus = feature_corpus.corpus(work / "root", train=7, valid=4, test=3)
    for name, empty in (("resnet18", ("00003",)), ("aus", ("00003",)), ("mfcc", ("00005",))):
        feature_corpus.write(corpus, work, name, signal=1.0, empty=empty)
    return corpus


def stored(work, name, clip):
    return store.load(store.clip_path(store.feature_folder(work, name), clip))


def test_packs_every_clip_once_in_the_tables_order(corpus, work):
    seen = []
    for partition in ("train", "valid", "test"):
        sequences = load(corpus, work, "aus", partition)
        rows = corpus.partition(partition)
        assert sequences.clips == tuple(rows["clip"]) and sequences.participants == tuple(rows["participant"])
        np.testing.assert_array_equal(sequences.targets, rows[list(feature_corpus.TARGETS)].to_numpy(np.float32))
        for number, clip in enumerate(sequences.clips):
            mine = sequences.values[sequences.offsets[number] : sequences.offsets[number + 1]]
            np.testing.assert_array_equal(mine, stored(work, "aus", clip).values.astype(np.float16))
        seen += sequences.clips
    assert seen == list(corpus.clips["clip"])


def test_a_clip_without_faces_keeps_its_place(corpus, work):
    sequences = load(corpus, work, "resnet18+aus", "train")
    assert [clip for clip, there in zip(sequences.clips, sequences.present, strict=True) if not there] == ["00003"]
    assert len(sequences) == 7 and sequences.lengths[3] == 0


def test_a_batch_is_each_clip_then_padding(corpus, work):
    sequences = load(corpus, work, "aus", "train")
    feed = Feed(sequences, "cpu")
    chosen = np.array([5, 3, 0])
    values, mask = feed.batch(chosen)
    assert values.shape[:2] == mask.shape == (3, sequences.lengths[chosen].max())
    for row, clip in enumerate(chosen):
        length = sequences.lengths[clip]
        expected = stored(work, "aus", sequences.clips[clip]).values
        np.testing.assert_allclose(values[row, :length], expected, rtol=1e-3)
        assert mask[row, :length].all() and not mask[row, length:].any()
    values, mask = feed.batch(np.array([3]))
    assert values.shape[:2] == (1, 1) and not mask.any()


def test_a_batch_does_not_write_into_the_packed_values(corpus, work):
    sequences = load(corpus, work, "aus", "train")
    before = sequences.values.copy()
    for clips in (np.arange(7), np.array([0]), np.array([0, 0])):  # one clip alone could be handed out as it lies
        values, _ = Feed(sequences, "cpu").batch(clips)
        values += 1
        np.testing.assert_array_equal(sequences.values, before)


def test_joined_sets_meet_at_their_common_times_not_at_their_row_numbers():
    rng = np.random.default_rng(0)
    clock = np.arange(20) / 30
    whole = rng.normal(size=(20, 3))
    rows_a, rows_b = np.array([0, 1, 2, 5, 6, 9, 12, 19]), np.array([1, 2, 3, 5, 9, 12, 13, 18, 19])
    a = feature_corpus.sequence("resnet18", whole[rows_a], clock[rows_a])
    b = feature_corpus.sequence("aus", 10 * whole[rows_b], np.round(clock[rows_b], 3))  # as another tool rounds them
    values, names = joined([a, b], "V")
    common = np.intersect1d(rows_a, rows_b)
    np.testing.assert_allclose(values, np.hstack([whole[common], 10 * whole[common]]), rtol=1e-6)
    assert names == a.names + b.names
    swapped, _ = joined([b, a], "V")
    np.testing.assert_array_equal(swapped, np.hstack([values[:, 3:], values[:, :3]]))
    nothing = feature_corpus.sequence("aus", np.zeros((0, 3)))
    assert len(joined([a, nothing], "V")[0]) == len(joined([nothing, a], "V")[0]) == 0
    apart = feature_corpus.sequence("aus", whole[:1], np.array([5.0]))
    assert len(joined([a, apart], "V")[0]) == 0


def test_the_first_300_steps(tmp_path):
    corpus = feature_corpus.corpus(tmp_path, 1, 0, 0)
    ramp = np.arange(700.0)[:, None]
    for name, times in (("aus", None), ("mfcc", np.arange(700) / 50)):
        store.feature_folder(tmp_path, name).mkdir(parents=True)
        store.save(feature_corpus.sequence(name, ramp, times),
                   store.clip_path(store.feature_folder(tmp_path, name), "00000"))
    faces = load(corpus, tmp_path, "aus", "train").values
    np.testing.assert_array_equal(faces[:, 0], np.arange(300))
    sound = load(corpus, tmp_path, "mfcc", "train").values[:, 0]
    assert len(sound) == 300
    times = (np.arange(300) + 0.5) / 30  # ten seconds
    np.testing.assert_allclose(sound[1:], times[1:] * 50, atol=0.05, rtol=1e-3)
    assert len(load(corpus, tmp_path, "mfcc", "train", SequenceConfig(steps=40)).values) == 40


rates = st.sampled_from([6.0, 25.0, 30.0, 49.95, 50.0, 100.0])


@settings(max_examples=40, deadline=None)
@given(rates, st.integers(1, 400), st.floats(0, 0.0125), st.integers(0, 2**32))
def test_a_constant_stays_constant_and_steps_stay_within_the_range(rate, rows, start, seed):
    times = start + np.arange(rows) / rate
    constant = on_clock(np.full((rows, 2), 3.25), times, 30, 300)
    assert (constant == 3.25).all() and 1 <= len(constant) <= 300
    values = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    made_of = on_clock(values, times, 30, 300)
    assert (made_of.max(axis=0) <= values.max(axis=0)).all() and (made_of.min(axis=0) >= values.min(axis=0)).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([50.0, 60.0, 100.0]), st.integers(1, 9), st.integers(0, 2**32))
def test_the_mean_over_time_is_kept(rate, seconds, seed):
    """Rows that fill a whole number of steps: the mean over time before equals the mean over steps after."""
    rows = int(seconds * rate)
    values = np.random.default_rng(seed).normal(size=(rows, 3)) + 5
    times = (np.arange(rows) + 0.5) / rate  # each row's centre, so that the first begins at 0
    steps = on_clock(values, times, 30, 300)
    assert len(steps) == 30 * seconds
    np.testing.assert_allclose(steps.mean(axis=0), values.mean(axis=0), rtol=1e-5)


def test_equals_an_average_of_the_finely_drawn_staircase():
    rng = np.random.default_rng(3)
    times = np.arange(97) / 50 + 0.0125
    values = rng.normal(size=(97, 1))
    fine = (np.arange(3000 * 2) + 0.5) / 3000
    nearest = np.abs(fine[:, None] - times).argmin(axis=1)
    held = np.where((fine < times[0] - 0.01) | (fine > times[-1] + 0.01), np.nan, values[nearest, 0])
    expected = [np.nanmean(held[step * 100 : (step + 1) * 100]) for step in range(58)]
    np.testing.assert_allclose(on_clock(values, times, 30, 300)[:, 0], expected, atol=0.05)


@pytest.mark.parametrize("rate", [30.0, 50.0, 100.0])
def test_an_event_stays_within_a_step_of_its_time(rate):
    rows = int(4 * rate)
    times = np.arange(rows) / rate
    for event in (0, 7, rows // 2, rows - 3):
        values = np.zeros((rows, 1))
        values[event] = 1
        steps = on_clock(values, times, 30, 300)[:, 0]
        where = (np.flatnonzero(steps) + 0.5) / 30
        assert len(where) and np.abs(where - times[event]).max() <= 1 / 30 + 1e-9


def test_a_gap_is_left_out_and_sound_starts_at_zero():
    times = np.concatenate([np.arange(50), np.arange(150, 200)]) / 100
    steps = on_clock(np.arange(100.0)[:, None], times, 30, 300)
    assert len(steps) == pytest.approx(30, abs=2)
    late = on_clock(np.ones((100, 1)), 0.5 + np.arange(100) / 100, 30, 300)
    assert len(late) == pytest.approx(30, abs=2)
    first = on_clock(np.arange(100.0)[:, None], np.arange(100) / 100, 30, 300)[0, 0]
    assert first == pytest.approx(np.average([0, 1, 2, 3], weights=[0.5, 1, 1, 0.833333]), abs=1e-4)


def test_two_sets_of_sound_are_as_long_as_the_shorter():
    a = feature_corpus.sequence("mfcc", np.ones((100, 2)))
    b = feature_corpus.sequence("wav2vec2", np.full((40, 3), 2.0))
    values, _ = joined([a, b], "A")
    assert values.shape == (24, 5) and (values == [1, 1, 2, 2, 2]).all()


def refusal(corpus, work, features="aus", partition="train") -> str:
    with pytest.raises(InputError) as error:
        load(corpus, work, features, partition)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_clips_without_a_file_are_counted_and_the_command_is_named(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 4, 2, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    for clip in ("00001", "00002"):
        store.clip_path(store.feature_folder(tmp_path, "aus"), clip).unlink()
    text = refusal(corpus, tmp_path)
    assert "2 of 4 train clips" in text and "00001" in text
    assert f"emibook extract {corpus.root} --work {tmp_path} --features aus" in text
    load(corpus, tmp_path, "aus", "valid")
    assert missing_files(tmp_path, "aus", corpus.clips["clip"]) == {"aus": ["00001", "00002"]}
    assert "4 of 4" in refusal(corpus, tmp_path, "resnet18")


def test_bad_values_and_mixed_versions_name_the_clip_and_the_set(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 3, 2, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    path = store.clip_path(store.feature_folder(tmp_path, "aus"), "00002")
    good = store.load(path)

    store.save(replace(good, version="2"), path)
    text = refusal(corpus, tmp_path)
    assert "clip 00002" in text and "aus 2" in text and "emibook extract" in text

    store.save(replace(good, values=good.values * np.float32(1e6)), path)
    assert "clip 00002" in refusal(corpus, tmp_path) and "float16" in refusal(corpus, tmp_path)

    values = good.values.copy()
    object.__setattr__(good, "values", values)
    values[1, 1] = np.nan
    store.save(good, path)
    text = refusal(corpus, tmp_path)
    assert "clip 00002" in text and "features aus" in text and "finite" in text

    path.write_bytes(path.read_bytes()[:50])
    assert "clip 00002" in refusal(corpus, tmp_path)


OTHERWISE = [
    ({"version": "0"}, "made by aus 0 (builtin), others by aus 1 (builtin)"),
    ({"weights": "formula"}, "made by aus 1 (formula), others by aus 1 (builtin)"),
    ({"names": ("aus_0", "brow", "aus_2", "aus_3")}, "has brow, which others lack and lacks aus_1, which others have"),
]


@pytest.mark.parametrize("partition", ["train", "valid", "test"])
@pytest.mark.parametrize(("changes", "said"), OTHERWISE, ids=["version", "weights", "names"])
def test_a_partition_that_was_made_otherwise_than_the_others_is_refused(tmp_path, partition, changes, said):
    """Each of them is of one kind. That the others were packed before, when they were right, is no matter."""
    corpus = feature_corpus.corpus(tmp_path / "root", 3, 3, 3)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    for each in ("train", "valid", "test"):
        load(corpus, tmp_path, "aus", each)
    clips = list(corpus.partition(partition)["clip"])
    for clip in clips:
        path = store.clip_path(store.feature_folder(tmp_path, "aus"), clip)
        store.save(replace(store.load(path), **changes), path)
    if partition != "train":
        text = refusal(corpus, tmp_path, "aus", partition)
        assert f"clip {clips[0]}, features aus: {said}; delete {path.parent} and run emibook extract" in text
        load(corpus, tmp_path, "aus", "train")
    else:
        assert all("features aus" in refusal(corpus, tmp_path, "aus", each) for each in ("valid", "test"))


def test_a_partition_is_read_where_the_clips_of_another_have_no_files_yet(tmp_path):
    corpus = feature_corpus.corpus(tmp_path / "root", 3, 3, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    files = [store.clip_path(store.feature_folder(tmp_path, "aus"), clip) for clip in corpus.partition("train")["clip"]]
    training = [store.load(path) for path in files]
    for path in files:
        path.unlink()
    assert len(load(corpus, tmp_path, "aus", "valid")) == 3
    for path, sequence in zip(files, training, strict=True):
        store.save(replace(sequence, version="2"), path)
    load(corpus, tmp_path, "aus", "train")
    assert "clip 00003, features aus: made by aus 1 (builtin), others by aus 2" in refusal(
        corpus, tmp_path, partition="valid")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("aus_0", "brow", "aus_2", "aus_3"), "has brow, which others lack and lacks aus_1, which others have"),
        (("aus_0", "aus_1", "aus_2"), "lacks aus_3, which others have"),
        (("aus_1", "aus_0", "aus_2", "aus_3"), "column 1 is aus_1, in others aus_0"),
        (tuple(f"aus_{i}" for i in range(11)), "has aus_4, aus_5, aus_6, aus_7, aus_8 and 2 more, which others lack"),
    ],
    ids=["renamed", "fewer", "another order", "more"],
)
def test_of_clips_whose_columns_alone_differ_the_columns_are_named(tmp_path, names, said):
    corpus = feature_corpus.corpus(tmp_path / "root", 3, 2, 0)
    feature_corpus.write(corpus, tmp_path, "aus", signal=1)
    path = store.clip_path(store.feature_folder(tmp_path, "aus"), "00002")
    good = store.load(path)
    values = np.resize(good.values, (len(good), len(names)))
    store.save(replace(good, names=names, values=values), path)
    assert f"clip 00002, features aus: {said}; delete {path.parent} and run" in refusal(corpus, tmp_path)


def test_names_that_cannot_be_loaded(corpus, work):
    assert "resnet18" in refusal(corpus, work, "resnet") and "no features" in refusal(corpus, work, "resnet")
    assert "twice" in refusal(corpus, work, "aus+aus")
    assert "faces and sound" in refusal(corpus, work, "aus+mfcc")
    assert "no clips in partition 'dev'" in refusal(corpus, work, "aus", "dev")
