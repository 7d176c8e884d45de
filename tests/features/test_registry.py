"""A walk over the registry: what every entry declares is what it gives, whatever a clip has or lacks.

Networks have random weights in their true architecture, so that what is declared is what the published weights give.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emibook.features import EXTRACTORS, feature_table
from emibook.features.action_units import DESCRIPTION, NAMES
from emibook.features.base import FILE, Clip, Extractor
from emibook.features.store import FeatureSequence
from emibook.features.weights import KINDS, PRETRAINED, Weights, file_fingerprint
from emibook.preprocess.clip import preprocess_clip, read_audio, read_faces
from emibook.puppet import corpus

SHORT = 960  # samples: 0.06 s
MOST_FACES = 300


@pytest.fixture(scope="module")
def puppet(tmp_path_factory) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The faces and the sound of one drawn clip that has both, through preprocessing."""
    root, work = (tmp_path_factory.mktemp("puppet") / name for name in ("corpus", "work"))
    item = next(item for item in corpus.plan(30, 0) if item.partition == "train" and not item.trap)
    for folder in ("raw", "audio", "truth"):
        (root / folder).mkdir(parents=True)
    corpus._write_clip(replace(item, seconds=0.6), root=root)
    row = preprocess_clip(item.clip, root / item.video, None, work)
    assert row["status"] == "ok" and row["faces"] > 10
    sound = read_audio(work, item.clip)
    assert sound is not None
    return read_faces(work, item.clip), sound


def weights_of(extractor: Extractor, folder: Path) -> Weights:
    """Random weights in the true architecture, or what needs none."""
    if "untrained" in extractor.sources:
        return extractor.resolve("untrained", folder)
    if "builtin" in extractor.sources:  # the linear models of the action units
        path = folder / "aus-builtin.safetensors"
        slopes = np.random.default_rng(0).normal(0, 0.01, (DESCRIPTION, len(NAMES))).astype(np.float32)
        save_file({"slopes": slopes, "offsets": np.full(len(NAMES), 0.4, np.float32)}, path)
        return Weights("builtin", path.name, file_fingerprint(path))
    return extractor.resolve(None, folder)


def check(extractor: Extractor, encoder, sequence: FeatureSequence, rows: int | None = None) -> None:
    """What is declared, of a sequence that has ``rows`` rows."""
    assert sequence.values.shape[1] == extractor.width == len(sequence.names) == len(set(sequence.names))
    assert sequence.extractor == extractor.name and sequence.version == encoder.version
    assert rows is None or len(sequence) == rows
    if extractor.modality == "A" and extractor.rate and len(sequence) > 1:
        np.testing.assert_allclose(np.diff(sequence.times), 1 / extractor.rate, rtol=1e-9)


def of_faces(extractor: Extractor, encoder, faces: tuple[np.ndarray, ...]) -> None:
    images, times, landmarks = faces
    some = np.arange(4)
    whole = encoder(images[some], times[some], landmarks[some])
    check(extractor, encoder, whole, 4)
    np.testing.assert_array_equal(whole.times, times[some])
    np.testing.assert_array_equal(encoder(images[some], times[some], landmarks[some]).values, whole.values)
    assert np.abs(whole.values - whole.values[:1]).max() > 0  # it looks at the face
    check(extractor, encoder, encoder(images[:0], times[:0], landmarks[:0]), 0)
    one = encoder(images[:1], times[:1], landmarks[:1])
    check(extractor, encoder, one, 1)
    np.testing.assert_allclose(one.values[0], whole.values[0], atol=1e-3 * np.abs(whole.values).max())
    many = np.repeat(some[:3], MOST_FACES // 3)
    found = encoder(images[many], np.arange(MOST_FACES) / 30, landmarks[many])
    check(extractor, encoder, found, MOST_FACES)
    np.testing.assert_allclose(found.values, whole.values[many], atol=1e-3 * np.abs(whole.values).max())


def of_sound(extractor: Extractor, encoder, sound: np.ndarray) -> None:
    whole = encoder(sound)
    seconds = len(sound) / 16000
    check(extractor, encoder, whole, None if extractor.rate else 1)
    if extractor.rate:
        assert abs(len(whole) - seconds * extractor.rate) <= 3
        assert 0 <= whole.times[0] <= 2 / extractor.rate and whole.times[-1] <= seconds + 1 / extractor.rate
    np.testing.assert_array_equal(encoder(sound).values, whole.values)
    for short in (sound[:SHORT], sound[:1], np.zeros(len(sound), np.int16), np.zeros(SHORT, np.int16)):
        sequence = encoder(short)
        check(extractor, encoder, sequence)
        assert len(sequence) >= 1  # sound, however short or silent, is not nothing
    assert np.abs(encoder(np.zeros(len(sound), np.int16)).values[0] - whole.values[0]).max() > 0
    for nothing in (None, sound[:0]):
        check(extractor, encoder, encoder(nothing), 0)


def of_files(extractor: Extractor, encoder, folder: Path) -> None:
    """Entries that the data set brings: its files, as it has them."""
    clip = Clip("00007", folder / "raw" / "00007.mp4", folder, "train", folder / "work", 6.0, 6.0)
    path = encoder.file(clip)
    path.parent.mkdir()
    check(extractor, encoder, encoder(clip), 0)
    for rows in (0, 1, MOST_FACES):
        values = np.random.default_rng(0).normal(size=(rows, extractor.width)).astype(np.float32)
        path.write_bytes(pickle.dumps(values))
        sequence = encoder(clip)
        check(extractor, encoder, sequence, rows)
        np.testing.assert_array_equal(sequence.values, values)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_entry_gives_what_it_declares(name, puppet, tmp_path):
    extractor = EXTRACTORS[name]
    weights = weights_of(extractor, tmp_path)
    encoder = extractor.class_of(weights.kind)(weights, tmp_path)
    if weights.kind == "untrained":
        assert encoder.label == "untrained control"
    if getattr(encoder, "reads_clip", False):
        of_files(extractor, encoder, tmp_path)
    elif extractor.modality == "V":
        of_faces(extractor, encoder, puppet[0])
    else:
        of_sound(extractor, encoder, puppet[1])


def test_a_source_is_one_that_weights_know():
    for extractor in EXTRACTORS.values():
        assert set(extractor.sources) - {FILE} <= set(KINDS), extractor.name
        assert extractor.sources[-1] == FILE or FILE not in extractor.sources
        assert extractor.default() in extractor.sources
        if "pretrained" in extractor.sources:  # what has weights of its own has a control
            assert "untrained" in extractor.sources, extractor.name


def test_the_table_of_features_is_the_registry():
    rows = {row["features"]: row for row in feature_table()}
    assert list(rows) == list(EXTRACTORS)
    assert len({tuple(row) for row in rows.values()}) == 1
    for name, row in rows.items():
        assert all(isinstance(value, str) and value for value in row.values()), name
        assert row["dimension"] == str(EXTRACTORS[name].width)
    assert rows["vit"]["rate"] == "one per face" and rows["mfcc"]["rate"] == "100 per second"
    assert rows["wav2vec2"]["licence"] == "CC BY-NC-SA 4.0 (non-commercial use)"
    assert rows["facenet"]["source"] == PRETRAINED["facenet"].source and rows["mfcc"]["from"] == "sound"
    assert (rows["mfcc"]["source"], rows["official_vit"]["source"]) == ("librosa", "the data set")
