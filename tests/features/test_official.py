"""The data set's own feature files: arrays of every NumPy and protocol are read, and nothing else is."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emibook import InputError
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.features import EXTRACTORS, extract, extraction, extraction_tasks, official, store
from emibook.features.base import Clip
from emibook.features.official import OfficialViT, OfficialWav2Vec2, read_array
from emibook.features.weights import Weights

QUIET = Resources(progress=False)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def as_numpy_1(content: bytes) -> bytes:
    """A pickle of NumPy 2 as NumPy 1 wrote it: the package's inner name was one character shorter."""
    if b"numpy._core" not in content:
        return content
    for long, short in ((b"numpy._core.multiarray", b"numpy.core.multiarray"),
                        (b"numpy._core.numeric", b"numpy.core.numeric")):
        content = content.replace(b"\x8c" + bytes([len(long)]) + long, b"\x8c" + bytes([len(short)]) + short)
        content = content.replace(b"c" + long + b"\n", b"c" + short + b"\n")
    if content[2:3] == b"\x95":  # a frame, whose length stands before it
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
    return content


@pytest.mark.parametrize("numpy", [1, 2])
@pytest.mark.parametrize("protocol", range(6))
def test_an_array_is_read_whoever_wrote_it(tmp_path, protocol, numpy):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(7, 5)).astype(kind) for kind in ("f4", "f8", "f2", ">f4", ">f8")]
    arrays += [np.asfortranarray(arrays[0]), arrays[0][::2], np.zeros((0, 5), np.float32),
               rng.integers(-9, 9, (3, 2)), arrays[0][None]]
    for array in arrays:
        content = pickle.dumps(array, protocol=protocol)
        if numpy == 1:
            content = as_numpy_1(content)
            assert b"numpy._core" not in content and b"numpy.core" in content
        else:
            assert b"numpy._core" in content
        found = read_array(write(tmp_path / "array.pkl", content))
        expected = array.reshape(array.shape[-2:])
        np.testing.assert_array_equal(found, expected.astype(np.float32))
        assert found.dtype == np.float32


class Harm:
    """What a malicious file would do: call ``does`` when it is read."""

    def __init__(self, does, *given) -> None:
        self.does, self.given = does, given

    def __reduce__(self):
        return self.does, self.given


def harmful(tmp_path: Path) -> dict[str, bytes]:
    mark = str(tmp_path / "harm was done")
    wrapped = np.empty(1, object)
    wrapped[0] = Harm(os.mkdir, mark)
    hidden = np.empty(2, object)
    hidden[:] = [1, "two"]
    plain = pickle.dumps(np.zeros((2, 3), np.float32), protocol=2)
    return {
        "a call": pickle.dumps(Harm(os.mkdir, mark)),
        "a call, as text": pickle.dumps(Harm(os.mkdir, mark), protocol=0),
        "evaluated": pickle.dumps(Harm(eval, f"__import__('os').mkdir({mark!r})")),
        "in a list": pickle.dumps([np.zeros((2, 3)), Harm(os.mkdir, mark)]),
        "in an array": pickle.dumps(wrapped),
        "through an attribute": b"\x80\x04\x8c\x05numpy\x8c\x0bos.path.sepp\x93.",
        "through another module": b"cnumpy.testing._private.utils\nrunstring\n(S'1'\nS'2'\ntR.",
        "objects": pickle.dumps(hidden),
        "a class of ours": b"cemibook.features.official\nread_array\n(S'x'\ntR.",
        "a registered extension": b"\x80\x02\x82\x01.",
        "a changed reader": b"cnumpy\ndtype\n(N}S'_does'\nI1\nstb.",
        "a changed reader's dictionary": b"cnumpy\ndtype\n}S'_does'\nI1\nsb.",
        "a structure": pickle.dumps(np.zeros(2, [("a", "f4")])),
        "text": pickle.dumps(np.array([["a", "b"]])),
        "complex": pickle.dumps(np.zeros((2, 2), complex)),
        "dates": pickle.dumps(np.zeros((2, 2), "M8[s]")),
        "a dictionary": pickle.dumps({"values": np.zeros((2, 3))}),
        "a list": pickle.dumps([np.zeros((2, 3))]),
        "a number": pickle.dumps(3.0),
        "one dimension": pickle.dumps(np.zeros(4)),
        "three": pickle.dumps(np.zeros((2, 3, 4))),
        "not finite": pickle.dumps(np.full((2, 3), np.nan)),
        "cut off": plain[:-20],
        "no bytes": b"",
        "no pickle": b"PK\x03\x04 something else",
        "a shape that does not fit": plain.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"),
        "a shape that is huge": plain.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
        "never complete": b"cnumpy\nndarray\n(tR.",
        "too much memory": b"\x80\x02r\xff\xff\xff\x7f.",
        "a length beyond the end": b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
        "a byte array beyond the end": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
        "an empty array of a huge shape": b"cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftR.",
        "a changed function": b"cnumpy._core.numeric\n_frombuffer\n(N}S'__defaults__'\n(I1\ntstb.",
        "many steps": b"\x80\x02" + b"N0" * 10**6 + b"N.",
    }


@pytest.mark.parametrize("kind", list(harmful(Path("x"))))
def test_anything_else_is_refused_in_one_line_and_nothing_is_run(tmp_path, kind):
    content = harmful(tmp_path)[kind]
    path = write(tmp_path / "00017.pkl", content)
    with pytest.raises(InputError) as caught:
        read_array(path)
    assert "\n" not in str(caught.value) and "00017.pkl" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["00017.pkl"]
    # The reader is as it was before.
    np.testing.assert_array_equal(
        read_array(write(path, pickle.dumps(np.ones((2, 3), np.float32)))), np.ones((2, 3)))


def test_the_harm_is_real(tmp_path):
    """An ordinary reader does what the files ask for, so that the test above tests something."""
    pickle.load(io.BytesIO(harmful(tmp_path)["a call"]))
    assert (tmp_path / "harm was done").is_dir()


def clip(root: Path, name: str, partition: str = "train", seconds: float = 6.3, audio: float = 6.12) -> Clip:
    return Clip(name, root / "raw" / f"{name}.mp4", root, partition, root / "work", seconds, audio)


def test_rows_lie_in_the_clip_at_the_rate_that_its_length_says(tmp_path):
    rng = np.random.default_rng(0)
    faces, sounds = rng.normal(size=(38, 384)).astype(np.float32), rng.normal(size=(306, 768))
    write(tmp_path / "vit" / "00000.pkl", pickle.dumps(faces))
    write(tmp_path / "test_data" / "wav2vec2" / "12660.pkl", pickle.dumps(sounds))
    vit, wav2vec2 = (encoder(Weights("official"), tmp_path) for encoder in (OfficialViT, OfficialWav2Vec2))

    seen = vit(clip(tmp_path, "00000"))
    np.testing.assert_array_equal(seen.values, faces)
    assert seen.facts == {"files": 1, "rate": pytest.approx(38 / 6.3, abs=1e-4), "fits": 1}
    assert np.allclose(seen.times * 30, np.rint(seen.times * 30), atol=1e-9)  # frames of the clock
    assert np.abs(seen.times - (np.arange(38) + 0.5) * 6.3 / 38).max() <= 1 / 30
    assert 0 <= seen.times[0] and seen.times[-1] < 6.3

    heard = wav2vec2(clip(tmp_path, "12660", "test"))
    np.testing.assert_array_equal(heard.values, sounds.astype(np.float32))
    np.testing.assert_allclose(heard.times, (np.arange(306) * 320 + 199.5) / 16000)
    assert heard.facts["fits"] == 1 and heard.facts["rate"] == pytest.approx(50)
    assert wav2vec2(clip(tmp_path, "12660")).facts == {"files": 0}  # in train there is none of this id

    stretched = wav2vec2(clip(tmp_path, "12660", "test", audio=12.0))
    assert stretched.facts["fits"] == 0 and stretched.times[-1] == pytest.approx(12.0 - 6 / 306)
    assert vit(clip(tmp_path, "00000", seconds=60.0)).facts["fits"] == 0
    for seconds, rows in ((0.064, 1), (0.064, 2), (0.3, 1), (20.0, 120)):
        write(tmp_path / "vit" / "00001.pkl", pickle.dumps(faces[:1].repeat(rows, 0)))
        found = vit(clip(tmp_path, "00001", seconds=seconds))
        assert found.facts["fits"] == 1 and len(found) == rows


def test_another_width_is_refused(tmp_path):
    write(tmp_path / "vit" / "00000.pkl", pickle.dumps(np.zeros((3, 768))))
    with pytest.raises(InputError, match="768 features per row, expected 384"):
        OfficialViT(Weights("official"), tmp_path)(clip(tmp_path, "00000"))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Four clips that are preprocessed, the third failed; files for some. Work is done in this process."""
    root, names = tmp_path / "root", ["00000", "00001", "00002", "12660"]
    partitions = ["train", "valid", "valid", "test"]
    rng = np.random.default_rng(0)
    for name, seconds in zip(names, (2, 3, 4, 2), strict=True):
        folder = root / ("test_data" if name == "12660" else "") / "vit"
        if name != "00001":
            write(folder / f"{name}.pkl", pickle.dumps(rng.normal(size=(6 * seconds, 384)).astype(np.float32)))
    rows = [{"clip": name, "status": "failed" if name == "00002" else "ok", "error": "", "frames": 60, "faces": 0,
             "seconds": seconds, "audio_seconds": ""} for name, seconds in zip(names, (2, 3, 0, 2), strict=True)]
    (tmp_path / "w").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "w" / "preprocess.csv", index=False)
    table = pd.DataFrame({"clip": names, "partition": partitions, "path": "", "audio": "", "participant": ""})
    monkeypatch.setattr(extraction, "run", lambda task, items, **_: ((item, outcome(task, item)) for item in items))
    extraction_tasks.load.cache_clear()
    return Corpus("hume-vidmimic2", root, table, ())


def outcome(task, item):
    try:
        return task(item)
    except InputError as error:
        return error


def test_extraction_reads_them_from_the_corpus_and_counts_what_is_missing(corpus, tmp_path, capfd):
    folder = extract(corpus, tmp_path / "w", ["official_vit"])["official_vit"]
    found = {path.stem: store.load(path) for path in folder.glob("*.safetensors")}
    assert {name: len(sequence) for name, sequence in found.items()} == {
        "00000": 12, "00001": 0, "00002": 24, "12660": 12}
    assert all(sequence.weights == "the data set's own" for sequence in found.values())
    said = capfd.readouterr().err
    assert "official_vit: vit/: 3 of 4 clips have a file; 6.00 rows per second" in said and "do not fit" not in said

    # A file that comes later is taken, though it was written long ago.
    path = write(corpus.root / "vit" / "00001.pkl", pickle.dumps(np.ones((18, 384))))
    os.utime(path, (4e8, 4e8))
    extract(corpus, tmp_path / "w", ["official_vit"])
    assert len(store.load(folder / "00001.safetensors")) == 18
    said = capfd.readouterr().err
    assert "1 of 4 clips to do" in said and "4 of 4 clips have a file" in said
    extract(corpus, tmp_path / "w", ["official_vit"])
    assert "0 of 4 clips to do" in capfd.readouterr().err


def test_files_of_other_clips_are_noticed(corpus, tmp_path, capfd):
    write(corpus.root / "vit" / "00001.pkl", pickle.dumps(np.ones((200, 384))))
    extract(corpus, tmp_path / "w", ["official_vit"])
    assert "in 1 the rows do not fit the clip's length" in capfd.readouterr().err
    for name, below in (("00000", ""), ("12660", "test_data")):
        write(corpus.root / below / "vit" / f"{name}.pkl", pickle.dumps(np.ones((200, 384))))
    with pytest.raises(InputError, match="belong to other clips"):
        extract(corpus, tmp_path / "w", ["official_vit"])


def test_a_corpus_without_them_and_an_evil_file_are_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="no folder wav2vec2"):
        extract(corpus, tmp_path / "w", ["official_wav2vec2"], resources=QUIET)
    assert not (tmp_path / "w" / "features" / "official_wav2vec2").exists()
    write(corpus.root / "vit" / "00000.pkl", harmful(tmp_path)["a call"])
    with pytest.raises(InputError, match="clip 00000: no features: .*00000.pkl asks for") as caught:
        extract(corpus, tmp_path / "w", ["official_vit"], resources=QUIET)
    assert "\n" not in str(caught.value) and not (tmp_path / "harm was done").exists()


def test_the_registry_knows_them():
    for name, encoder in (("official_vit", OfficialViT), ("official_wav2vec2", OfficialWav2Vec2)):
        assert EXTRACTORS[name].encoder_class is encoder and EXTRACTORS[name].sources == ("official",)
    assert set(official.NAMES) == {
        ("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("__builtin__", "bytes"),
        ("builtins", "bytes"), ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
