"""The registry, and extraction over a corpus: what is written, skipped, moved aside, refused and carried along."""

from __future__ import annotations

import json
import os
import shutil
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from emibook import InputError
from emibook.compute import EndRun, Resources
from emibook.corpus import Corpus
from emibook.features import (
    EXTRACTORS,
    copy_encoders,
    extract,
    extraction,
    extraction_tasks,
    load_encoder,
    store,
    waveform,
)
from emibook.features.action_units import DESCRIPTION
from emibook.features.weights import Weights, file_fingerprint
from emibook.preprocess import read_audio, read_faces
from emibook.preprocess.alignment import TEMPLATE
from emibook.puppet import builtin

TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2"] + [
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"
]
POINTS = TEMPLATE * 1.5 + [40, 30]  # the five landmarks in the source video
ALL = ["vit", "aus", "wav2vec2", "mfcc"]
QUIET, ONE = Resources(progress=False), Resources(workers=1, progress=False)


def write_clip(work: Path, clip: str, shown: list[int], frames: int, samples: np.ndarray | None) -> dict:
    """What preprocessing leaves of one clip; ``shown`` are the frames with a face."""
    rng = np.random.default_rng(len(clip) + frames)
    (work / "faces" / clip).mkdir(parents=True, exist_ok=True)
    (work / "audio").mkdir(exist_ok=True)
    rows = []
    for frame in range(frames):
        numbers = [0.99, 60, 50, 200, 220, *POINTS.ravel()] if frame in shown else [""] * 15
        rows.append([frame, frame / 30, int(frame in shown), *numbers])
        if frame in shown:
            crop = cv2.resize(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8), (112, 112))
            cv2.imwrite(str(work / "faces" / clip / f"{frame:06}.jpg"), crop)
    pd.DataFrame(rows, columns=TRACK).to_csv(work / "faces" / f"{clip}.csv", index=False)
    if samples is not None:
        with wave.open(str(work / "audio" / f"{clip}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, len(samples), "NONE", ""))
            file.writeframes(samples.astype("<i2").tobytes())
    return {"clip": clip, "status": "ok" if shown else "no_face", "error": "", "frames": frames, "faces": len(shown),
            "seconds": frames / 30, "audio_seconds": 0 if samples is None else len(samples) / 16000}


def make_work(work: Path) -> Corpus:
    """Four clips: 00007 whole, 00008 without face or sound, 00009 of 0.06 s with one face, broken one failed."""
    rng = np.random.default_rng(0)
    rows = [
        write_clip(work, "00007", [0, 1, 4, 5], 7, rng.integers(-9000, 9000, 4000).astype(np.int16)),
        write_clip(work, "00008", [], 5, None),
        write_clip(work, "00009", [1], 2, rng.integers(-9000, 9000, 960).astype(np.int16)),
        {"clip": "broken", "status": "failed", "error": "no video stream", "frames": 0, "faces": 0, "seconds": 0,
         "audio_seconds": 0},
    ]
    pd.DataFrame(rows).to_csv(work / "preprocess.csv", index=False)
    clips = pd.DataFrame({key: [row["clip"] for row in rows] for key in ("clip", "path")})
    clips = clips.assign(partition="", audio="", participant="")[["clip", "partition", "path", "audio", "participant"]]
    plant_action_units(work / "encoders", seed=0)
    return Corpus("folder", work, clips, ())


def plant_action_units(encoders: Path, seed: int) -> None:
    """A built-in estimator that needs no fitting."""
    encoders.mkdir(exist_ok=True)
    rng, path = np.random.default_rng(seed), encoders / "aus-builtin.safetensors"
    slopes = rng.normal(0, 0.01, (DESCRIPTION, 34)).astype(np.float32)
    save_file({"slopes": slopes, "offsets": np.full(34, 0.4, np.float32)}, path)
    weights = {"kind": "builtin", "file": path.name, "sha256": file_fingerprint(path), "seed": 0}
    path.with_suffix(".json").write_text(json.dumps({"version": builtin.VERSION, "weights": weights}))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A work folder with every feature set that needs no fitting."""
    work = tmp_path_factory.mktemp("done") / "w"
    work.mkdir()
    corpus = make_work(work)
    folders = extract(corpus, work, ALL, resources=ONE)
    return work, corpus, folders


@pytest.fixture
def work(done, tmp_path):
    """A copy of it to change."""
    shutil.copytree(done[0], tmp_path / "w")
    return tmp_path / "w"


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_registry_says_what_the_encoders_do():
    assert list(EXTRACTORS) == [extractor.name for extractor in EXTRACTORS.values()]
    for name, extractor in EXTRACTORS.items():
        encoder = extractor.encoder_class
        assert (encoder.name, encoder.width) == (name, extractor.width)
        assert (extractor.modality, extractor.rate is None) in (("V", True), ("A", False))


@pytest.mark.parametrize("name", ALL)
def test_a_file_holds_what_the_encoder_says_of_the_clip(done, name):
    work, corpus, folders = done
    extractor = EXTRACTORS[name]
    weights = Weights(**store.read_settings(work, name)["weights"])
    encoder = extractor.encoder_class(weights, work / "encoders")
    assert folders[name] == work / "features" / name
    assert {path.stem for path in folders[name].glob("*.safetensors")} == set(corpus.clips["clip"])
    for clip in ("00007", "00008", "00009"):
        inputs = read_faces(work, clip) if extractor.modality == "V" else (read_audio(work, clip),)
        expected, found = encoder(*inputs), store.load(folders[name] / f"{clip}.safetensors")
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        np.testing.assert_array_equal(found.times, expected.times)
        assert found.names == expected.names and found.extractor == name
    np.testing.assert_allclose(store.load(folders["vit"] / "00007.safetensors").times, np.array([0, 1, 4, 5]) / 30)
    for clip in ("00008", "broken"):
        empty = store.load(folders[name] / f"{clip}.safetensors")
        assert empty.values.shape == (0, extractor.width)
    assert len(store.load(folders[name] / "00009.safetensors")) >= 1
    assert len(os.listdir(folders[name])) == 1 + len(corpus.clips)


def test_untrained_controls_say_so(done):
    labels = {name: store.load(done[2][name] / "00007.safetensors").weights for name in ALL}
    small = "small untrained control"
    assert labels == {"vit": small, "aus": "builtin", "wav2vec2": small, "mfcc": "formula"}


def test_what_is_done_is_skipped_and_what_is_older_than_its_input_is_not(work, done, capfd):
    corpus = done[1]
    for path in (work / "features").rglob("*.safetensors"):
        os.utime(path, (4e8, 4e8))
    for path in [*(work / "faces").glob("*.csv"), *(work / "audio").glob("*.wav")]:
        os.utime(path, (3e8, 3e8))
    before = times(work / "features")
    extract(corpus, work, ["vit", "aus", "wav2vec2", "mfcc"], resources=Resources(workers=1))
    assert times(work / "features") == before
    assert "mfcc: formula encoder; 0 of 4 clips to do" in capfd.readouterr().err
    os.utime(work / "audio" / "00009.wav", (5e8, 5e8))
    (work / "features" / "aus" / "00007.safetensors").unlink()
    extract(corpus, work, ["aus", "mfcc"], resources=ONE)
    after = times(work / "features")
    changed = {path for path in after if before[path] != after[path]}
    assert changed == {"mfcc/00009.safetensors", "aus/00007.safetensors"}


def test_features_of_other_weights_are_moved_and_not_mixed(work, done, here):
    corpus = done[1]
    before = store.load(work / "features" / "aus" / "00007.safetensors").values
    shutil.copytree(work / "encoders", work / "first")
    plant_action_units(work / "encoders", seed=1)
    extract(corpus, work, ["aus"], resources=ONE)
    assert np.abs(store.load(work / "features" / "aus" / "00007.safetensors").values - before).max() > 0.01
    [aside] = (work / "features").glob("aus@*")
    np.testing.assert_array_equal(store.load(aside / "00007.safetensors").values, before)
    shutil.rmtree(work / "encoders")
    (work / "first").rename(work / "encoders")
    moved = times(aside)
    extract(corpus, work, ["aus"], resources=ONE)
    assert times(work / "features" / "aus") == moved


@pytest.fixture
def here(monkeypatch):
    """Work that is done in this process, and the tasks that were done."""
    tasks = []

    def run(task, items, **_):
        for item in items:
            tasks.append(item)
            yield item, task(item)

    monkeypatch.setattr(extraction, "run", run)
    extraction_tasks.load.cache_clear()
    yield tasks
    extraction_tasks.load.cache_clear()


def test_crops_made_in_another_way_are_not_mixed_with_these(work, done, here, capfd, monkeypatch):
    corpus, before = done[1], times(work / "features")
    settings = work / "preprocess.json"
    settings.write_text(json.dumps({"following": "refined", "version": "1"}))
    extract(corpus, work, ["aus", "mfcc"])
    assert {name for task in here for name in task.names} == {"aus"} and len(here) == 4  # crops are not sound
    [aside] = (work / "features").glob("aus@*")
    assert f"aus: preprocess changed; the features made before are now in {aside.name}" in capfd.readouterr().err
    assert not list((work / "features").glob("mfcc@*"))
    assert store.read_settings(work, "aus")["preprocess"] == {"following": "refined", "version": "1"}
    assert times(aside) == {path.removeprefix("aus/"): made for path, made in before.items() if path[:4] == "aus/"}

    made = times(work / "features" / "aus")
    extract(corpus, work, ["aus"])
    assert len(here) == 4 and "changed" not in capfd.readouterr().err
    settings.write_text(json.dumps({"following": "exhaustive", "version": "1"}))
    extract(corpus, work, ["aus"], resources=QUIET)
    assert len(here) == 8 and len(list((work / "features").glob("aus@*"))) == 2
    settings.write_text(json.dumps({"version": "1", "following": "refined"}))
    extract(corpus, work, ["aus"], resources=QUIET)
    assert len(here) == 8 and times(work / "features" / "aus") == made  # the first ones are back

    settings.write_text("{")
    monkeypatch.setattr(extraction, "_choose", lambda *_: pytest.fail("an encoder was fitted first"))
    assert "preprocess.json" in refused(corpus, work, ["aus"])


def test_a_set_is_finished_in_the_precision_in_which_it_was_begun(work, done, here, monkeypatch):
    corpus, visual = done[1], EXTRACTORS["vit"].encoder_class
    shutil.rmtree(work / "features")
    monkeypatch.setattr(visual, "precision_on", staticmethod(lambda device: "bfloat16"))
    extract(corpus, work, ["vit", "mfcc"], resources=QUIET)
    assert store.read_settings(work, "vit")["weights"]["precision"] == "bfloat16"
    assert store.read_settings(work, "mfcc")["weights"]["precision"] == "float32"
    path = work / "features" / "vit" / "00007.safetensors"
    before = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(visual, "precision_on", staticmethod(lambda device: "float32"))
    extract(corpus, work, ["vit"], weights={"vit": "small"}, resources=QUIET)
    assert path.read_bytes() == before and not list((work / "features").glob("vit@*"))

    shutil.rmtree(work / "features")
    extract(corpus, work, ["vit"], resources=QUIET)
    assert store.read_settings(work, "vit")["weights"]["precision"] == "float32" and path.read_bytes() != before


def sounds(work: Path) -> Corpus:
    """Nine clips of sound of several lengths, one silent film and one that failed."""
    work.mkdir()
    rng = np.random.default_rng(1)
    rows = [write_clip(work, f"{index:05}", [], 3, rng.integers(-9000, 9000, 1000 * seconds).astype(np.int16))
            for index, seconds in enumerate([9, 3, 3, 7, 1, 8, 2, 3, 6])]
    rows.append(write_clip(work, "mute", [], 3, None) | {"audio_seconds": ""})
    rows.append(rows[-1] | {"clip": "broken", "status": "failed"})
    pd.DataFrame(rows).to_csv(work / "preprocess.csv", index=False)
    clips = pd.DataFrame({"clip": [row["clip"] for row in rows]})
    clips = clips.assign(partition="", path="", audio="", participant="")
    return Corpus("folder", work, clips, ())


def test_batches_of_sound_are_the_same_whatever_is_done_already(tmp_path, here, monkeypatch):
    """The way of a GPU, on this processor."""
    corpus = sounds(tmp_path / "w")
    one_by_one = extract(corpus, tmp_path / "w", ["wav2vec2"], resources=QUIET)["wav2vec2"]
    assert all(len(task.clips) == 1 for task in here)
    alone = {path.name: store.load(path).values for path in one_by_one.glob("*.safetensors")}
    shutil.rmtree(one_by_one)
    here.clear()
    extraction_tasks.load.cache_clear()

    monkeypatch.setattr(waveform, "BATCH", {"cpu": 18_000})
    folder = extract(corpus, tmp_path / "w", ["wav2vec2", "mfcc"], resources=QUIET)["wav2vec2"]
    batches = {task.clips for task in here if len(task.clips) > 1}
    assert batches == {("00004", "00006", "00001", "00002", "00007"), ("00008", "00003"), ("00005", "00000")}
    for path in folder.glob("*.safetensors"):
        np.testing.assert_allclose(store.load(path).values, alone.pop(path.name), atol=1e-4)
    assert not alone

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = times(folder)
    for gone in ("00002", "00007", "00000", "mute"):
        (folder / f"{gone}.safetensors").unlink()
    here.clear()
    extract(corpus, tmp_path / "w", ["wav2vec2"], resources=QUIET)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {task.clips for task in here} == {("00004", "00006", "00001", "00002", "00007"), ("00005", "00000"),
                                             ("mute",)}
    changed = {path for path, made in times(folder).items() if kept[path] != made}
    assert changed == {f"{gone}.safetensors" for gone in ("00002", "00007", "00000", "mute")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_used_where_there_is_one(work, done, here):
    shutil.rmtree(work / "features")
    extract(done[1], work, ["vit", "wav2vec2"], resources=QUIET)
    assert any(len(task.clips) > 1 for task in here)
    for name in ("vit", "wav2vec2"):
        found, expected = (store.load(folder / "00007.safetensors").values
                           for folder in (work / "features" / name, done[2][name]))
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_a_gpu_that_is_absent_or_full_ends_the_run(work, done, here, monkeypatch):
    shutil.rmtree(work / "features")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EndRun, match="has no GPU that torch can use; give --device cpu or other workers"):
        extract(done[1], work, ["mfcc"], resources=Resources(device="cuda", progress=False))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * 2**30, 24 * 2**30))

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    with monkeypatch.context() as small:
        small.setattr(extraction_tasks, "encode", full)
        with pytest.raises(EndRun, match="^the memory of the GPU of .* is full; give fewer --workers"):
            extract(done[1], work, ["mfcc"], resources=Resources(device="cuda", progress=False))
    assert not list((work / "features" / "mfcc").glob("*.safetensors"))
    monkeypatch.setattr("dask.system.cpu_count", lambda: 16)
    asked = []
    monkeypatch.setattr(extraction, "run", lambda *_, resources, **__: asked.append(resources.workers) or iter(()))
    for workers in (None, 9):
        extract(done[1], work, ["mfcc"], resources=Resources(device="cuda", workers=workers, progress=False))
    assert asked == [3, 9]


def test_a_given_checkpoint_is_used_kept_and_used_again(work, done, here):
    from emibook.features.resnet18 import resnet18_trunk

    corpus = done[1]
    torch.manual_seed(0)
    torch.save(resnet18_trunk().state_dict(), work / "given.pth")
    extract(corpus, work, ["resnet18"], weights={"resnet18": str(work / "given.pth")}, resources=ONE)
    first = store.load(work / "features" / "resnet18" / "00007.safetensors")
    assert first.values.shape == (4, 512) and first.weights.startswith("file:")
    (work / "given.pth").unlink()
    (work / "features" / "resnet18" / "00007.safetensors").unlink()
    extract(corpus, work, ["resnet18"], resources=ONE)
    again = store.load(work / "features" / "resnet18" / "00007.safetensors")
    np.testing.assert_array_equal(again.values, first.values)
    assert not list((work / "features").glob("resnet18@*"))


def test_a_run_carries_its_encoders(work, done, tmp_path):
    names = ["aus", "mfcc", "vit"]
    for _ in range(2):
        copy_encoders(work, names, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run" / "encoders").iterdir()} == {
        "aus.json", "mfcc.json", "vit.json", "aus-builtin.safetensors"}
    faces, samples = read_faces(work, "00007"), read_audio(work, "00007")
    shutil.rmtree(work)
    for name in names:
        inputs = faces if EXTRACTORS[name].modality == "V" else (samples,)
        found = load_encoder(name, tmp_path / "run" / "encoders")(*inputs)
        expected = store.load(done[2][name] / "00007.safetensors")
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        assert found.weights == expected.weights
    with pytest.raises(InputError, match="wav2vec2.json"):
        load_encoder("wav2vec2", tmp_path / "run" / "encoders")
    path = tmp_path / "run" / "encoders" / "aus-builtin.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(InputError, match="SHA-256"):
        load_encoder("aus", tmp_path / "run" / "encoders")


def test_a_clip_that_cannot_be_encoded_is_named_and_the_others_are_done(work, done):
    shutil.rmtree(work / "features")
    (work / "faces" / "00007" / "000004.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="clip 00007") as caught:
        extract(done[1], work, ["aus"], resources=ONE)
    assert "\n" not in str(caught.value)
    assert {path.stem for path in (work / "features" / "aus").glob("*.safetensors")} == {"00008", "00009", "broken"}


def refused(corpus: Corpus, work: Path, features: list[str], **more) -> str:
    with pytest.raises(InputError) as caught:
        extract(corpus, work, features, **more, resources=QUIET)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_refused_before_anything_is_written(work, done):
    corpus, before = done[1], times(work)
    assert all(name in refused(corpus, work, ["resnet19"]) for name in ["resnet19", *EXTRACTORS])
    assert "vit" in refused(corpus, work, ["mfcc"], weights={"vit": "untrained"})
    assert "nowhere" in refused(corpus, work, ["mfcc"], weights={"nowhere": "untrained"})
    message = refused(corpus, work, ["resnet18"], weights={"resnet18": "pretrained"})
    assert "resnet18: no ResNet-18 trained on AffectNet" in message and "--weights resnet18=FILE" in message
    assert "formula" in refused(corpus, work, ["mfcc"], weights={"mfcc": "builtin"})
    assert "absent.pt" in refused(corpus, work, ["resnet18"], weights={"resnet18": str(work / "absent.pt")})
    assert times(work) == before

    table = pd.read_csv(work / "preprocess.csv", dtype={"clip": str})
    table[table["clip"] != "00008"].to_csv(work / "preprocess.csv", index=False)
    message = refused(corpus, work, ["mfcc"])
    assert "00008" in message and "1 of 4" in message and "emibook preprocess" in message
    whole = (work / "preprocess.csv").read_text()
    for broken in (b"\xc1\n", whole.replace("faces", "seen").encode(), whole.replace(",4,", ",four,").encode()):
        (work / "preprocess.csv").write_bytes(broken)
        assert "preprocess.csv is damaged; delete it and run emibook preprocess" in refused(corpus, work, ["mfcc"])
    for broken in ("{", "[]", "{}"):
        (work / "corpus.json").write_text(broken)
        (work / "preprocess.csv").write_text(whole)
        assert "corpus.json is damaged; run emibook preprocess" in refused(corpus, work, ["mfcc"])
    (work / "corpus.json").write_text(json.dumps({"root": "/somewhere/else"}))
    assert "/somewhere/else" in refused(corpus, work, ["mfcc"])
    (work / "preprocess.csv").unlink()
    assert "emibook preprocess" in refused(corpus, work, ["mfcc"])
    assert "emibook extract" in str(pytest.raises(InputError, copy_encoders, work, ["resnet18"], work / "run").value)


def test_of_two_commands_at_once_the_second_waits_and_finds_all_done(tmp_path, capsys):
    corpus = make_work(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(extract, corpus, tmp_path, ["mfcc"], resources=Resources(workers=1)) for _ in range(2)]
        first, second = (future.result() for future in futures)
    assert first == second and len(list(first["mfcc"].glob("*.safetensors"))) == 4
    assert not list(tmp_path.rglob("*.part"))
    printed = capsys.readouterr().err
    assert f"{tmp_path / 'features'} is being written by another command; waiting for it" in printed
    assert "4 of 4 clips to do" in printed and "0 of 4 clips to do" in printed
