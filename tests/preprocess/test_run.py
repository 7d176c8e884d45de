from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import wave
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from video_files import numbered, tone, write_clip

from emibook import InputError
from emibook.cli import main
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.preprocess import (
    clip as clips,
)
from emibook.preprocess import (
    detector,
    frames,
    preprocess,
    preprocess_clip,
    read_audio,
    read_faces,
    read_track,
)
from emibook.preprocess import (
    run as corpora,
)
from emibook.preprocess.alignment import TEMPLATE, align, similarity
from emibook.preprocess.detector import Detector
from emibook.puppet.renderer import UNITS, Identity, Puppet, Scene

COLUMNS = ["clip", "status", "error", "frames", "faces", "seconds", "audio_seconds"]
TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2", "left_eye_x", "left_eye_y", "right_eye_x",
         "right_eye_y", "nose_x", "nose_y", "mouth_left_x", "mouth_left_y", "mouth_right_x", "mouth_right_y"]


@pytest.fixture(scope="module")
def acted():
    """Twelve pictures of somebody who raises the brows and opens the mouth, 240x180."""
    rng = np.random.default_rng(4)
    puppet = Puppet(Identity.random(rng), Scene.random(rng), 240, 180)
    units = np.zeros((12, len(UNITS)))
    for unit in (1, 2, 25, 26):
        units[:, UNITS.index(unit)] = np.linspace(0, 4, 12)
    return [puppet.draw(row) for row in units]


@pytest.fixture(scope="module")
def root(tmp_path_factory, acted):
    """Clips of every kind: good ones, one without a face, and four that are damaged in ways of their own."""
    root = tmp_path_factory.mktemp("clips")
    blank = [numbered(i, 90, 120) for i in range(6)]
    write_clip(root / "acted.mp4", acted, sound=tone(0.4))
    write_clip(root / "half a face.mov", [*acted[:6], *[np.full_like(acted[0], 90)] * 6])
    write_clip(root / "blank.webm", blank, codec="libvpx")
    write_clip(root / "silent.mp4", blank, sound=np.zeros(8820))
    write_clip(root / "dubbed.mp4", blank, sound=tone(0.2, hertz=300))
    write_clip(root / "dubbed.wav", [], sound=tone(0.3, hertz=900), sound_codec="pcm_s16le")
    write_clip(root / "misdubbed.mp4", blank)
    (root / "misdubbed.mp3").write_bytes(b"no sound at all")
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.avi").write_text("no video")
    write_clip(root / "voice.mkv", [], sound=tone(0.2))
    whole = write_clip(root / "torn.mp4", acted).read_bytes()
    (root / "torn.mp4").write_bytes(whole[:len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return work, preprocess(open_corpus(root), work, resources=Resources(workers=2, progress=False))


@pytest.fixture
def in_this_process(monkeypatch):
    """The tasks run one after the other without worker processes; records which clips were done."""
    done = []

    def run(function, items, **_):
        for item in items:
            done.append(item[0])
            yield item, function(item)

    monkeypatch.setattr(corpora.compute, "run", run)
    return done


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_clip_has_a_row_and_the_bad_ones_a_reason(root, made):
    work, table = made
    assert list(table.columns) == COLUMNS
    assert list(table["clip"]) == sorted(open_corpus(root).clips["clip"])
    rows = table.set_index("clip")
    assert rows["status"].to_dict() == {
        "acted": "ok", "half a face": "ok", "blank": "no_face", "silent": "no_face", "dubbed": "no_face",
        "misdubbed": "no_face", "empty": "failed", "text": "failed", "voice": "failed", "torn": "failed"}
    for clip, said in (("empty", "has zero bytes"), ("text", "not a video or sound file that FFmpeg knows"),
                       ("voice", f"no video stream in {root / 'voice.mkv'}"), ("torn", "moov atom not found"),
                       ("misdubbed", "no sound: .*misdubbed.mp3")):
        assert pd.Series([rows.loc[clip, "error"]]).str.contains(said).all()
    assert (rows.drop(index=["empty", "text", "voice", "torn", "misdubbed"])["error"] == "").all()
    assert not rows["error"].str.contains("\n").any()
    assert rows.loc["acted", ["frames", "faces"]].tolist() == [12, 12]
    assert rows.loc["half a face", ["frames", "faces"]].tolist() == [12, 6]
    assert rows.loc["acted", "seconds"] == 0.4 and rows.loc["acted", "audio_seconds"] == pytest.approx(0.4, abs=1e-3)
    assert rows.loc[["empty", "torn"], ["seconds", "audio_seconds"]].isna().all(axis=None)
    assert rows.loc[["half a face", "blank", "misdubbed"], "audio_seconds"].isna().all()
    pd.testing.assert_frame_equal(table, corpora.read_table(work))


def test_files_follow_the_contract(root, made):
    work, table = made
    for row in table.itertuples():
        folder, track, sound = work / "faces" / row.clip, work / "faces" / f"{row.clip}.csv", \
            work / "audio" / f"{row.clip}.wav"
        if row.status == "failed":
            assert not folder.exists() and not track.exists() and not sound.exists()
            continue
        found = pd.read_csv(track)
        assert list(found.columns) == TRACK and list(found["frame"]) == list(range(row.frames))
        np.testing.assert_allclose(found["time"], np.arange(row.frames) / 30, atol=1e-6)
        assert found["face"].sum() == row.faces
        seen = found["face"] == 1
        assert found.loc[~seen, TRACK[3:]].isna().all(axis=None) and found.loc[seen].notna().all(axis=None)
        assert [path.name for path in sorted(folder.iterdir())] == [f"{i:06}.jpg" for i in found.loc[seen, "frame"]]
        assert sound.exists() == (row.audio_seconds == row.audio_seconds)
    assert [path.name for path in work.rglob(".*")] == [".faces.lock"]
    first = track_lines(work, "half a face")
    assert first[7].startswith("6,0.200000,0,,,") and first[7].count(",") == len(TRACK) - 1
    about = json.loads((work / "corpus.json").read_text())
    assert about == {"root": str(root.resolve()), "name": "folder", "targets": [], "note": ""}


def track_lines(work, clip):
    return (work / "faces" / f"{clip}.csv").read_text().splitlines()


def test_faces_are_read_back_as_they_were(made, acted):
    work, _ = made
    images, times, landmarks = read_faces(work, "acted")
    assert images.shape == (12, 112, 112, 3) and images.dtype == np.uint8
    assert landmarks.shape == (12, 5, 2) and landmarks.dtype == np.float32
    np.testing.assert_allclose(times, np.arange(12) / 30, atol=1e-6)
    assert np.abs(landmarks - TEMPLATE).max() < 8
    # Looked for in the crop itself, the landmarks are where they are said to be; the colours are RGB.
    for image, points in zip(images[::5], landmarks[::5], strict=True):
        again = Detector().detect([image])[0]
        assert np.abs(again.landmarks[0] - points).max() < 4
        assert image[56, 56, 0] > image[56, 56, 2]
    # Crop and source have one shape: distances between landmarks keep their proportions.
    source = read_track(work, "acted")[TRACK[8:]].to_numpy().reshape(-1, 5, 2)
    ratio = np.linalg.norm(landmarks[:, 1:] - landmarks[:, :1], axis=2) \
        / np.linalg.norm(source[:, 1:] - source[:, :1], axis=2)
    assert (ratio.std(axis=1) / ratio.mean(axis=1)).max() < 1e-4
    empty = read_faces(work, "blank")
    assert [part.shape for part in empty] == [(0, 112, 112, 3), (0,), (0, 5, 2)]


def test_sound_is_16_kHz_mono_16_bit_and_a_separate_file_has_priority(made):
    work, _ = made
    with wave.open(str(work / "audio" / "dubbed.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert file.getnframes() == 4800
    sound = read_audio(work, "dubbed")
    assert sound.dtype == np.int16 and len(sound) == 4800
    assert np.argmax(np.abs(np.fft.rfft(sound))) * 16000 / 4800 == pytest.approx(900, abs=5)
    assert np.abs(sound.astype(int)).max() == 23197
    assert not read_audio(work, "silent").any() and len(read_audio(work, "silent")) == 3200
    assert read_audio(work, "blank") is None


def test_finished_clips_are_skipped_and_failed_ones_retried(root, made, in_this_process, tmp_path):
    work, table = made
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    again = preprocess(open_corpus(root), work, resources=Resources(progress=False))
    assert sorted(in_this_process) == ["empty", "text", "torn", "voice"]
    pd.testing.assert_frame_equal(again, table)
    after = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after.get(path)} <= {"preprocess.csv"}
    assert set(before) == set(after)


def test_repaired_replaced_or_deleted_files_are_processed_again(acted, in_this_process, tmp_path):
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    blank = [numbered(i, 90, 120) for i in range(3)]
    for name in ("a", "b", "c"):
        write_clip(root / f"{name}.mp4", blank)
    (root / "d.mp4").write_bytes(b"")
    table = preprocess(open_corpus(root), work, resources=Resources(progress=False))
    assert list(table["status"]) == ["no_face"] * 3 + ["failed"]
    in_this_process.clear()
    later = time.time() + 5
    os.utime(write_clip(root / "a.mp4", acted[:3]), (later, later))
    (work / "faces" / "b.csv").unlink()
    os.utime(write_clip(root / "c.wav", [], sound=tone(0.1), sound_codec="pcm_s16le"), (later, later))
    write_clip(root / "d.mp4", blank)
    table = preprocess(open_corpus(root), work, resources=Resources(progress=False)).set_index("clip")
    assert sorted(in_this_process) == ["a", "b", "c", "d"]
    assert table["status"].to_dict() == {"a": "ok", "b": "no_face", "c": "no_face", "d": "no_face"}
    assert table.loc["c", "audio_seconds"] == 0.1
    # Once good, then damaged: nothing of the good one stays.
    (root / "a.mp4").write_bytes(b"")
    os.utime(root / "a.mp4", (later + 5, later + 5))
    table = preprocess(open_corpus(root), work, resources=Resources(progress=False)).set_index("clip")
    assert table.loc["a", "status"] == "failed" and not list((work / "faces").glob("a*"))
    # A clip that left the corpus leaves the table.
    (root / "b.mp4").unlink()
    assert list(preprocess(open_corpus(root), work, resources=Resources(progress=False))["clip"]) == ["a", "c", "d"]


def test_an_incomplete_row_is_ignored(in_this_process, tmp_path):
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    for name in ("a", "b"):
        write_clip(root / f"{name}.mp4", [numbered(0, 90, 120)] * 2)
    preprocess(open_corpus(root), work, resources=Resources(progress=False))
    whole = (work / "preprocess.csv").read_text()
    (work / "preprocess.csv").write_text(whole[:-6])
    in_this_process.clear()
    preprocess(open_corpus(root), work, resources=Resources(progress=False))
    assert in_this_process == ["b"] and (work / "preprocess.csv").read_text() == whole


def test_damaged_tables_and_settings_are_reported_or_rewritten(in_this_process, tmp_path):
    write_clip(tmp_path / "a.mp4", [numbered(0, 90, 120)] * 2)
    corpus, work = open_corpus(tmp_path), tmp_path / "work"
    whole = preprocess(corpus, work, resources=Resources(progress=False))
    table, settings = work / "preprocess.csv", work / "preprocess.json"
    text = table.read_text()
    table.write_bytes(b"\xc1\xff" * 9)  # not one whole line: as if killed before the first
    assert preprocess(corpus, work, resources=Resources(progress=False)).equals(whole) and table.read_text() == text
    for broken in (b"\xc1\n", text.replace("frames", "pictures").encode(), text.replace("2,", "two,").encode()):
        table.write_bytes(broken)
        with pytest.raises(InputError, match="preprocess.csv (has other columns|is damaged)") as caught:
            preprocess(corpus, work, resources=Resources(progress=False))
        assert "\n" not in str(caught.value)
    for broken in ("{", "[1]", "3"):
        settings.write_text(broken)
        with pytest.raises(InputError, match="preprocess.json is damaged; delete it"):
            preprocess(corpus, work, resources=Resources(progress=False))


def test_a_gpu_that_the_cascade_uses_is_shared_by_few(root, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(corpora.compute, "run", lambda *_, resources, **__: asked.append(resources.workers) or iter(()))
    monkeypatch.setattr("dask.system.cpu_count", lambda: 16)
    monkeypatch.setattr(corpora.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(corpora.torch.cuda, "mem_get_info", lambda: (10 * 2**30, 24 * 2**30))
    for exhaustive, workers in ((True, None), (True, 5), (False, None)):
        resources = Resources(workers=workers, progress=False)
        preprocess(open_corpus(root), tmp_path, exhaustive=exhaustive, resources=resources)
    assert asked == [3, 5, None]


def test_a_worker_that_died_gives_a_failed_row_and_leaves_no_files(in_this_process, tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4", [numbered(0, 90, 120)] * 2)

    def died(function, items, *, failed, **_):
        (tmp_path / "work" / "faces" / ".a.part").mkdir(parents=True)
        error = corpora.compute.WorkerDied("the process died")
        assert failed(error)
        yield items[0], error

    monkeypatch.setattr(corpora.compute, "run", died)
    row = preprocess(open_corpus(tmp_path), tmp_path / "work", resources=Resources(progress=False)).iloc[0]
    assert row["status"] == "failed" and row["error"] == "the process died"
    assert not list((tmp_path / "work" / "faces").iterdir())


def test_a_work_folder_belongs_to_one_corpus(in_this_process, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "a.mp4", [numbered(0, 90, 120)] * 2)
    work = tmp_path / "work"
    preprocess(open_corpus(tmp_path / "one"), work, resources=Resources(progress=False))
    before = tree(work)
    with pytest.raises(InputError, match="holds the clips of .*one, not of .*two; give another work folder"):
        preprocess(open_corpus(tmp_path / "two"), work, resources=Resources(progress=False))
    assert tree(work) == before
    (work / "corpus.json").write_text("{")
    with pytest.raises(InputError, match="corpus.json is damaged"):
        preprocess(open_corpus(tmp_path / "one"), work, resources=Resources(progress=False))


def test_an_id_cannot_leave_its_folder(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [numbered(0, 90, 120)] * 2)
    for clip in ("../a", "..", "", "a/b", "a.csv"):
        row = preprocess_clip(clip, path, None, tmp_path / "in" / "work")
        assert row["status"] == "failed" and "this id" in row["error"]
        for read in (read_track, read_faces, read_audio):
            with pytest.raises(InputError, match="this id"):
                read(tmp_path / "in" / "work", clip)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_clip_that_was_not_preprocessed_is_named(made, tmp_path):
    with pytest.raises(InputError, match="clip empty: no .*empty.csv; see .*preprocess.csv for the reason"):
        read_faces(made[0], "empty")
    with pytest.raises(InputError, match="run emibook preprocess first"):
        corpora.read_table(tmp_path)


PROGRAM = """
import sys
from emibook.corpus import open_corpus
from emibook.compute import Resources
from emibook.preprocess import preprocess
if __name__ == "__main__":
    preprocess(open_corpus(sys.argv[1]), sys.argv[2], resources=Resources(workers=1, progress=False))
"""


def rows_in(work: Path) -> set[str]:
    """The clips whose rows are whole and tell of success."""
    table = work / "preprocess.csv"
    lines = table.read_text().split("\n")[1:-1] if table.is_file() else []
    return {line.split(",")[0] for line in lines if line.split(",")[1] != "failed"}


@pytest.mark.slow
def test_a_run_that_is_killed_several_times_ends_like_an_uninterrupted_one(root, made, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    work = tmp_path / "work"
    command = [sys.executable, str(program), str(root), str(work)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    moments = random.Random(11)
    written = {}  # when the files of the clips that were done at a kill had been written
    for rows in (None, 1, 3):  # at any moment of the start; then in the middle of a clip, when so many are done
        running = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 600
        if rows is None:
            time.sleep(moments.uniform(0, 2))
        while rows is not None and not (len(rows_in(work)) >= rows and list(work.rglob(".*.part"))):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(moments.uniform(0, 0.01))
        running.send_signal(signal.SIGKILL)
        running.wait()
        time.sleep(0.5)
        for clip in rows_in(work):
            written.setdefault(clip, (work / "faces" / f"{clip}.csv").stat().st_mtime_ns)
    assert 3 <= len(written) < sum(made[1]["status"] != "failed")
    subprocess.run(command, env=environment, check=True)
    uninterrupted, resumed = tree(made[0]), tree(work)
    assert set(resumed) == set(uninterrupted)
    assert not [name for name in resumed if resumed[name] != uninterrupted[name]]
    assert {clip: (work / "faces" / f"{clip}.csv").stat().st_mtime_ns for clip in written} == written


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 KB, and how to give it room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_reported_and_with_space_the_run_resumes(root, made, small_disk):
    disk, make_room = small_disk
    with pytest.raises(InputError, match=f"No space left on device: {disk}.*repeat the command to resume") as caught:
        preprocess(open_corpus(root), disk / "work", resources=Resources(workers=1, progress=False))
    assert "\n" not in str(caught.value)
    assert "No space" not in (disk / "work" / "preprocess.csv").read_text()
    make_room()
    preprocess(open_corpus(root), disk / "work", resources=Resources(workers=1, progress=False))
    about = {"corpus.json", "preprocess.csv"}
    full, whole = tree(disk / "work"), tree(made[0])
    assert set(full) == set(whole) and not [name for name in whole if full[name] != whole[name] and name not in about]


def test_a_full_disk_is_not_reported_as_a_failed_clip(root, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(clips, "_write_sound", full)
    with pytest.raises(OSError, match="No space left"):
        preprocess_clip("dubbed", root / "dubbed.mp4", root / "dubbed.wav", tmp_path)
    assert not tree(tmp_path)
    monkeypatch.setattr(corpora, "_as_csv", full)
    monkeypatch.setattr(corpora.compute, "run", lambda function, items, **_: iter([(items[0], {"clip": "dubbed"})]))
    with pytest.raises(InputError, match="preprocess.csv: No space left on device; fix this, then repeat"):
        preprocess(open_corpus(root), tmp_path / "work", resources=Resources(progress=False))


def test_a_folder_without_write_permission_is_reported_here_and_on_a_worker(root, tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    monkeypatch.setattr(corpora.os, "access", lambda path, _: Path(path).name != "faces")
    with pytest.raises(InputError, match="faces cannot be written into; give another work folder, or make this"):
        preprocess(open_corpus(root), tmp_path, resources=Resources(progress=False))
    item = ("dubbed", str(root / "dubbed.mp4"), "")
    for work, said in ((tmp_path, "faces cannot be written into on"), (tmp_path / "other", "other cannot be seen on")):
        with pytest.raises(corpora.compute.EndRun, match=said):
            corpora._preprocess_item(item, work=work, exhaustive=False, crop="warp")
    assert not (tmp_path / "other").exists()


def test_many_files_that_are_not_videos_give_a_table_and_one_message(in_this_process, tmp_path, capsys):
    (tmp_path / "root").mkdir()
    for i in range(300):
        (tmp_path / "root" / f"{i:03}.mp4").write_text(f"no video {i}")
    assert main(["preprocess", str(tmp_path / "root"), "--work", str(tmp_path / "work")]) == 1
    lines = capsys.readouterr().err.splitlines()
    table = tmp_path / "work" / "preprocess.csv"
    assert len(lines) == 1 and "clip 000: " in lines[0]
    assert lines[0].endswith(f"and 299 more; see {table} for the reasons")
    assert (corpora.read_table(tmp_path / "work")["error"] != "").sum() == 300
    write_clip(tmp_path / "root" / "good.mp4", [numbered(0, 90, 120)] * 2)
    assert main(["preprocess", str(tmp_path / "root"), "--work", str(tmp_path / "work")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and lines[-1] == f"failed: 290 more; see {table} for the reasons"


@pytest.mark.parametrize("seen", [0, 1, 2])
def test_a_long_clip_takes_no_more_memory_than_a_short_one(tmp_path, monkeypatch, seen):
    """No more than a few pictures are alive at once, however many the clip has and however many people are in it."""
    boxes = np.array([[20, 20, 80, 90], [120, 20, 180, 90]], np.float32)
    landmarks = boxes[:, None, :2] + np.array([[20, 25], [40, 25], [30, 40], [22, 55], [38, 55]], np.float32)
    everybody = detector.Detections(boxes[:seen], np.full(seen, 0.99, np.float32), landmarks[:seen])

    class Detector:
        def search(self, image, smallest, within=None):
            return everybody

        def refine(self, image, boxes):
            return everybody

    monkeypatch.setattr(clips, "_detector", lambda exhaustive: Detector())
    picture = 180 * 240 * 3
    peaks = []
    for count in (40, 160):
        path = write_clip(tmp_path / f"{count}.mp4", [numbered(i % 200, 180, 240) for i in range(count)])
        tracemalloc.start()
        row = preprocess_clip("a", path, None, tmp_path / "work")
        assert (row["frames"], row["faces"]) == (count, count if seen else 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * picture


def test_a_crop_is_the_picture_of_its_own_frame(made, root):
    """Each face file belongs to the frame that its name says: brows and mouth are where that frame has them."""
    images, _, _ = read_faces(made[0], "acted")
    track = read_track(made[0], "acted")
    for i, image in enumerate(frames(root / "acted.mp4")):
        crop = align(image, track[TRACK[8:]].to_numpy()[i].reshape(5, 2)).astype(int)
        differences = [np.abs(crop - other).mean() for other in images.astype(int)]
        assert int(np.argmin(differences)) == i and differences[i] < 2
    assert cv2.imread(str(made[0] / "faces" / "acted" / "000011.jpg")).shape == (112, 112, 3)


def test_faces_of_two_settings_never_mix(tmp_path, acted, in_this_process, capsys):
    """Another way of finding faces does every clip again, and what WORK has been made with stays the default."""
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    write_clip(root / "one.mp4", acted)
    write_clip(root / "two.mp4", acted[:5])
    corpus = open_corpus(root)
    preprocess(corpus, work, resources=Resources(progress=False))
    followed = tree(work)
    assert json.loads((work / "preprocess.json").read_text())["faces"] == "followed"
    in_this_process.clear()
    preprocess(corpus, work)
    assert in_this_process == [] and capsys.readouterr().err == ""
    preprocess(corpus, work, exhaustive=True)
    assert sorted(in_this_process) == ["one", "two"] and "other settings" in capsys.readouterr().err
    exhaustive = tree(work)
    assert exhaustive["faces/one.csv"] != followed["faces/one.csv"]
    in_this_process.clear()
    preprocess(corpus, work)
    assert in_this_process == []
    # Killed after the table was emptied: no clip of the other way is taken for done.
    (work / "preprocess.csv").write_text(",".join(COLUMNS) + "\n")
    preprocess(corpus, work, exhaustive=False, resources=Resources(progress=False))
    assert sorted(in_this_process) == ["one", "two"]
    assert tree(work)["faces/one.csv"] == followed["faces/one.csv"]
    (work / "preprocess.json").write_text("{")
    with pytest.raises(InputError, match=r"preprocess\.json is damaged; delete it"):
        preprocess(corpus, work)


def test_a_box_around_the_landmarks_instead_of_a_warp(tmp_path, acted, in_this_process):
    """All clips are done again, the landmarks stay on the face, and the work folder stays so."""
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    size = acted[0].shape[1::-1]
    tilted = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), 12, 1)
    write_clip(root / "one.mp4", [cv2.warpAffine(image, tilted, size, borderMode=cv2.BORDER_REPLICATE)
                                  for image in acted[:4]])
    corpus = open_corpus(root)
    preprocess(corpus, work, resources=Resources(progress=False))
    warped, _, upright = read_faces(work, "one")
    for _ in range(2):
        preprocess(corpus, work, crop="box", resources=Resources(progress=False))
    preprocess(corpus, work, resources=Resources(progress=False))
    assert in_this_process == ["one", "one"]
    images, _, points = read_faces(work, "one")
    tilt = np.degrees(np.arctan2(*(points[:, 1] - points[:, 0]).T[::-1]))
    assert np.abs(np.degrees(np.arctan2(*(upright[:, 1] - upright[:, 0]).T[::-1]))).max() < 5 < np.abs(tilt).min()
    back = cv2.warpAffine(images[0], similarity(points[0], upright[0]), (112, 112)).astype(int)
    assert np.abs(back - warped[0])[30:90, 30:80].mean() < 10, "not the same face, or its landmarks lie elsewhere"
    with pytest.raises(InputError, match="no crop 'round'; there are warp, box"):
        preprocess(corpus, work, crop="round")
