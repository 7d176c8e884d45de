"""Action units by OpenFace: its tables in every style, its program run, and what is joined to the clock."""

from __future__ import annotations

import json
import stat
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from made_clips import numbered, write_clip

from emibook import InputError
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.features import copy_encoders, extract, extraction, extraction_tasks, load_encoder, store
from emibook.features.action_units import NAMES, UNITS
from emibook.features.au_alignment import onto_clock
from emibook.features.au_tables import read_table
from emibook.features.base import Clip
from emibook.features.openface import OpenFace, resolve
from emibook.features.openface_tables import ActionUnitTables, describe_tables
from emibook.features.registry import EXTRACTORS
from emibook.preprocess.alignment import TEMPLATE

R, C = [f"AU{unit:02d}_r" for unit in UNITS], [f"AU{unit:02d}_c" for unit in (*UNITS[:-1], 28, 45)]
QUIET = Resources(progress=False)
TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2"] + [
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"]


def intensities(rows: int, seed: int = 0) -> np.ndarray:
    """(row, 35) as OpenFace writes them: 17 intensities on 0..5, 18 presences."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 5, (rows, 17)).round(2), rng.integers(0, 2, (rows, 18))], axis=1)


def expected(written: np.ndarray) -> np.ndarray:
    """The 34 columns of what OpenFace wrote."""
    return np.concatenate([written[:, :17] / 5, np.delete(written[:, 17:], 16, axis=1)], axis=1).astype(np.float32)


def table(path: Path, columns: dict[str, np.ndarray | list], *, space: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)
    if space:
        path.write_text(path.read_text().replace(",", f",{space}"))
    return path


def styles(folder: Path, written: np.ndarray) -> dict[str, Path]:
    """The same rows at 25 a second as several programs and hands leave them."""
    rows = len(written)
    units = dict(zip((*R, *C), written.T, strict=True))
    known = {"confidence": np.full(rows, 0.98), "success": np.ones(rows, int)}
    counted, timed = {"frame": np.arange(1, rows + 1)}, {"timestamp": (np.arange(rows) / 25).round(3)}
    gaze = {f"gaze_{eye}_{axis}": np.zeros(rows) for eye in (0, 1) for axis in "xyz"}
    gaze |= {f"gaze_angle_{axis}": np.zeros(rows) for axis in "xy"}
    gaze |= {f"eye_lmk_{axis}_{point}": np.zeros(rows) for axis in ("x", "y", "X", "Y", "Z") for point in range(56)}
    pose = {f"pose_{name}": np.zeros(rows) for name in ("Tx", "Ty", "Tz", "Rx", "Ry", "Rz")}
    flat = {f"{axis}_{point}": np.full(rows, 100.0 + 2 * point) for axis in "xy" for point in range(68)}
    solid = {f"{axis}_{point}": np.zeros(rows) for axis in "XYZ" for point in range(68)}
    shape = {f"p_{name}": np.zeros(rows) for name in ("scale", "rx", "ry", "rz", "tx", "ty", *range(34))}
    whole = {"face_id": np.zeros(rows, int)} | timed | known | gaze | pose | flat | solid | shape | units
    assert len(counted | whole) == 714
    no_angles = {name: values for name, values in whole.items() if not name.startswith(("face_id", "gaze_angle"))}
    others = {f"FE{number}": np.ones(rows, int) for number in range(1, 22)}
    return {
        "2.0 with spaces and more": table(folder / "a.csv", counted | {"face_id": np.zeros(rows, int)} | timed | known
                                          | units | others, space=" "),
        "cleaned, from 0": table(folder / "b.csv", {"frame": np.arange(rows)} | timed | known | gaze | pose
                                 | {name: units[name] for name in R}),
        "1.x with spaces": table(folder / "c.csv", counted | timed | known | pose | flat | solid
                                 | dict(reversed(units.items())), space=" "),
        "714 columns": table(folder / "d.csv", counted | whole),
        "without face_id": table(folder / "e.csv", counted | no_angles, space=" "),
    }


@pytest.mark.parametrize("style", ["2.0 with spaces and more", "cleaned, from 0", "1.x with spaces", "714 columns",
                                   "without face_id"])
def test_every_style_reads_to_the_same_numbers(tmp_path, style):
    written = intensities(12)
    found = read_table(styles(tmp_path, written)[style])
    columns = 17 if style.startswith("cleaned") else 34
    assert found.columns == NAMES[:columns] and found.program == "OpenFace" and found.success.all()
    np.testing.assert_allclose(found.values[:, :columns], expected(written)[:, :columns], atol=1e-6)
    assert not found.values[:, columns:].any()
    np.testing.assert_array_equal(found.picture, np.arange(12))
    np.testing.assert_allclose(found.seconds, np.arange(12) / 25)
    assert (found.boxes is not None) == (style in ("1.x with spaces", "714 columns", "without face_id"))
    if found.boxes is not None:
        np.testing.assert_allclose(found.boxes, [[100, 100, 234, 234]] * 12)


@pytest.mark.parametrize(("file", "columns", "rows", "failed"), [
    ("act409_clip6_OpenFace206_VidMulti_modified.csv", 34, 251, 2), ("facsvatar_demo_nospace.csv", 17, 490, 0),
    ("pyfeat_OpenFace_Test_v1_spaces.csv", 34, 100, 0)])
def test_real_tables(file, columns, rows, failed):
    path = Path(__file__).parents[3] / "shared" / "openface_csv" / file
    if not path.is_file():
        pytest.skip("no OpenFace tables beside the repository")
    found = read_table(path)
    assert found.columns == NAMES[:columns] and (found.pictures, found.succeeded) == (rows, rows - failed)
    assert found.picture.min() == 0 and (np.diff(found.seconds) > 0).all() and found.seconds[0] < 0.05
    by_hand = pd.read_csv(path, skipinitialspace=True).rename(columns=str.strip)
    np.testing.assert_allclose(found.values[:, 8], by_hand["AU12_r"] / 5, atol=1e-6)
    if columns == 34:
        np.testing.assert_array_equal(found.values[:, -1], by_hand["AU45_c"])


def test_rows_that_failed_are_no_measurements(tmp_path):
    written = intensities(6)
    path = styles(tmp_path, written)["714 columns"]
    rows = pd.read_csv(path)
    rows.loc[[1, 4], "success"] = 0
    rows.loc[[1, 4], [*R, *C]] = 0
    rows.to_csv(path, index=False)
    found = read_table(path)
    np.testing.assert_array_equal(found.success, [True, False, True, True, False, True])
    assert (found.pictures, found.succeeded) == (6, 4)
    there, values, facts = onto_clock(found, np.arange(6) / 30, np.arange(6), None)
    np.testing.assert_array_equal(there, found.success)
    np.testing.assert_allclose(values, expected(written)[found.success], atol=1e-6)
    assert facts["failed"] == 2 and facts["gap_most"] == 0


def test_py_feats_probabilities_are_presences_and_what_it_lacks_is_constant(tmp_path):
    rng = np.random.default_rng(0)
    units = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
    probabilities = rng.uniform(size=(5, 20))
    columns = {"FaceRectX": 10.0, "FaceRectY": 20.0, "FaceRectWidth": 30.0, "FaceRectHeight": 40.0, "FaceScore": 0.99}
    columns = {name: np.full(5, value) for name, value in columns.items()}
    columns |= {f"AU{unit:02d}": probabilities[:, index] for index, unit in enumerate(units)}
    columns |= {"input": ["clip.mp4"] * 5, "frame": [0, 1, 1, 2, 3], "Identity": ["a", "a", "b", "a", "a"]}
    path = table(tmp_path / "x.csv", columns)
    rows = pd.read_csv(path)
    rows.loc[4, [name for name in rows if name.startswith(("AU", "Face"))]] = np.nan  # no face in the last picture
    rows.to_csv(path, index=False)
    found = read_table(path)
    assert found.program == "py-feat" and found.seconds is None
    np.testing.assert_array_equal(found.success, [True, True, True, True, False])
    np.testing.assert_array_equal(found.person, [0, 0, 1, 0, 0])
    np.testing.assert_allclose(found.boxes[0], [10, 20, 40, 60])
    assert found.columns == tuple(f"AU{unit:02d}_c" for unit in UNITS if unit != 45)
    for unit in UNITS[:-1]:
        np.testing.assert_allclose(found.values[:4, NAMES.index(f"AU{unit:02d}_c")],
                                   probabilities[:4, units.index(unit)], atol=1e-6)
    assert not found.values[:, :17].any() and not found.values[:, -1].any()  # no intensity, and closed eyes are AU43


@pytest.mark.parametrize(("content", "words"), [
    ("", "no action units|no table"), ("a,b\n1,2\n", "no action units"),
    ("AU12_r\n1.0\n", "neither a column timestamp nor a column frame"), ("\x00\x01\x02", "no action units|no table")])
def test_other_files_are_refused(tmp_path, content, words):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_table(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30),
                                  Fraction(60)])
def test_a_step_takes_the_picture_that_preprocessing_takes(tmp_path, rate):
    """Read back from a video: the picture that is shown at each frame of the clock is the row that is joined to it."""
    from emibook.preprocess import frames

    count = int(rate * 2)
    path = write_clip(tmp_path / "c.mp4", [numbered(number) for number in range(count)], rate=rate)
    from made_clips import number_in

    shown = np.array([number_in(image) for image in frames(path)])
    written = intensities(count)
    units = dict(zip((*R, *C), written.T, strict=True))
    seconds = [round(float(number / rate), 3) for number in range(count)]  # as OpenFace prints them
    found = read_table(table(tmp_path / "c.csv", {"frame": np.arange(1, count + 1), "timestamp": seconds,
                                                  "success": np.ones(count, int)} | units))
    there, values, facts = onto_clock(found, found.seconds, np.arange(len(shown)), None)
    assert there.all()
    same = np.isclose(values, expected(written)[shown], atol=1e-6).all(axis=1)
    assert same.all() and facts["gap_most"] <= max(1 / 60, float(1 / rate) - 1 / 60) + 0.0011


def faces(folder: Path, rows: list[list[tuple[int, tuple[float, float], float, int]]]) -> tuple[Path, np.ndarray]:
    """A table of pictures at 30 a second: of each the faces as (person, corner, confidence, success)."""
    flat = [(picture, *face) for picture, several in enumerate(rows) for face in several]
    written = intensities(len(flat), seed=5)
    columns = {"frame": [picture + 1 for picture, *_ in flat], "face_id": [person for _, person, *_ in flat],
               "timestamp": [round(picture / 30, 3) for picture, *_ in flat],
               "confidence": [sure for *_, sure, _ in flat], "success": [success for *_, success in flat]}
    corners = np.array([corner for _, _, corner, *_ in flat])
    columns |= {f"{axis}_{point}": corners[:, index] + 0.5 * point for index, axis in enumerate("xy")
                for point in range(68)}
    return table(folder / "faces.csv", columns | dict(zip((*R, *C), written.T, strict=True))), written


HERE, ELSEWHERE = (100.0, 50.0), (300.0, 60.0)


def test_of_two_faces_the_followed_one_is_taken_by_its_box(tmp_path):
    # The other one is always surer, and the numbers of the people change in the middle.
    path, written = faces(tmp_path, [
        [(0, HERE, 0.8, 1), (1, ELSEWHERE, 0.9, 1)], [(1, ELSEWHERE, 0.9, 1), (0, HERE, 0.8, 1)],
        [(0, HERE, 0.3, 0), (1, ELSEWHERE, 0.9, 1)], [(3, ELSEWHERE, 0.9, 1), (2, HERE, 0.8, 1)],
        [(3, ELSEWHERE, 0.9, 1)]])
    boxes = np.array([[95.0, 40, 140, 95]] * 5)
    found = read_table(path)
    there, values, facts = onto_clock(found, found.seconds, np.arange(5), boxes)
    np.testing.assert_array_equal(there, [True, True, False, True, False])
    np.testing.assert_allclose(values, expected(written)[[0, 3, 7]], atol=1e-6)
    assert facts["elsewhere"] == 2 and facts["failed"] == 0


def test_without_boxes_the_surest_person_is_taken(tmp_path):
    path, written = faces(tmp_path, [
        [(0, HERE, 0.8, 1), (1, ELSEWHERE, 0.9, 1)], [(0, HERE, 0.8, 1)], [(1, ELSEWHERE, 0.9, 1)],
        [(0, HERE, 0.8, 1)], [(0, HERE, 0.99, 0)]])
    rows = pd.read_csv(path).drop(columns=[f"{axis}_{point}" for axis in "xy" for point in range(68)])
    rows.to_csv(path, index=False)
    found = read_table(path)
    there, values, facts = onto_clock(found, found.seconds, np.arange(5), np.array([[95.0, 40, 140, 95]] * 5))
    np.testing.assert_array_equal(there, [True, True, False, True, False])
    np.testing.assert_allclose(values, expected(written)[[0, 2, 4]], atol=1e-6)


def test_a_step_is_not_filled_from_a_picture_that_is_gone(tmp_path):
    written = intensities(4)
    units = dict(zip((*R, *C), written.T, strict=True))
    # Pictures 0 1 2 and 12: those between were taken out by hand. Then the table ends.
    path = table(tmp_path / "x.csv", {"frame": [1, 2, 3, 13], "timestamp": [0.0, 0.033, 0.067, 0.4]} | units)
    found = read_table(path)
    there, values, facts = onto_clock(found, found.seconds, np.arange(20), None)
    assert np.flatnonzero(there).tolist() == [0, 1, 2, 12]
    assert facts["absent"] == 20 - there.sum()
    # A picture that stands still is shown as long as it stands: the next one's number follows on its own.
    path = table(tmp_path / "y.csv", {"frame": [1, 2, 3, 4], "timestamp": [0.0, 0.033, 0.067, 0.4]} | units)
    found = read_table(path)
    there, values, facts = onto_clock(found, found.seconds, np.arange(13), None)
    assert there.all() and facts["gap_most"] == pytest.approx(11 / 30 - 0.067, abs=1e-6)
    np.testing.assert_allclose(values[2:12], expected(written)[[2] * 10], atol=1e-6)


# ---- the program, played by a script of the same command line and the same output

PROGRAM = '''#!{python}
"""Plays FeatureExtraction: the number in a picture's first rows is the intensity of every unit."""
import sys, os, csv, time, pathlib
import cv2
arguments = sys.argv[1:]
given = dict(zip(arguments, arguments[1:]))
way = os.environ.get("PLAYED", "")
if way == "slow":
    time.sleep(60)
if way == "crash":
    print("SequenceConfig the landmark detector from: model/main_ceclm_general.txt")
    print("ERROR: could not open the model", file=sys.stderr)
    sys.exit(1)
if way == "mute":
    print("Input had no faces that it liked")
    sys.exit(0)
if "-fdir" in given:
    pictures = [cv2.imread(str(path)) for path in sorted(pathlib.Path(given["-fdir"]).iterdir())]
    rate = 30.0
else:
    video = cv2.VideoCapture(given["-f"])
    rate = video.get(cv2.CAP_PROP_FPS)
    pictures = []
    while True:
        good, picture = video.read()
        if not good:
            break
        pictures.append(picture)
units = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
header = ["frame", " face_id", " timestamp", " confidence", " success"]
if "-2Dfp" in arguments:
    header += [f" {{axis}}_{{point}}" for axis in "xy" for point in range(68)]
header += [f" AU{{unit:02d}}_r" for unit in units]
header += [f" AU{{unit:02d}}_c" for unit in units[:16] + [28, 45]]
with open(os.path.join(given["-out_dir"], given["-of"] + ".csv"), "w") as file:
    file.write(",".join(header) + "\\n")
    for number, picture in enumerate(pictures, 1):
        value = round(float(picture[:8].mean()) / 255 * 5, 2)
        fails = number % {every} == 0
        several = [(1, 300, 0.99), (0, 60, 0.9)] if "-f" in given and number > 3 else [(0, 60, 0.9)]
        for face, corner, sure in several:
            numbers = [number, face, f"{{(number - 1) / rate:.3f}}", 0.1 if fails else sure, int(not fails)]
            if "-2Dfp" in arguments:
                numbers += [corner + point for point in range(68)] + [50 + point for point in range(68)]
            level = 0 if fails else 0.33 if face else value
            numbers += [level] * 17 + [int(level > 1)] * 18
            file.write(", ".join(map(str, numbers)) + "\\n")
print("Tracking finished")
'''


@pytest.fixture
def program(tmp_path) -> Path:
    """An executable that fails on every fifth picture of a video, and on every third crop."""
    path = tmp_path / "bin" / "FeatureExtraction"
    path.parent.mkdir()
    path.write_text(PROGRAM.format(python=sys.executable, every='(5 if "-f" in given else 3)'))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


LEVELS = [20 + 10 * number for number in range(12)]  # grey of the pictures


def preprocessed(work: Path, root: Path, rate: Fraction = Fraction(30)) -> tuple[Corpus, list[int]]:
    """One clip of twelve grey pictures with a face of ours in all but the second, and one that failed."""
    root.mkdir()
    images = [np.full((120, 400, 3), level, np.uint8) for level in LEVELS]
    write_clip(root / "c.mp4", images, rate=rate)
    (work / "faces" / "c").mkdir(parents=True)
    rows = []
    for frame, level in enumerate(LEVELS):
        numbers = [0.99, 55, 40, 130, 120, *(TEMPLATE + [10, 5]).ravel()] if frame != 1 else [""] * 15
        rows.append([frame, round(frame / 30, 6), int(frame != 1), *numbers])
        if frame != 1:
            cv2.imwrite(str(work / "faces" / "c" / f"{frame:06}.jpg"), np.full((112, 112, 3), level, np.uint8))
    pd.DataFrame(rows, columns=TRACK).to_csv(work / "faces" / "c.csv", index=False)
    seconds = len(LEVELS) / 30
    pd.DataFrame({"clip": ["c", "gone"], "status": ["ok", "failed"], "error": "", "frames": [12, 0], "faces": [11, 0],
                  "seconds": [seconds, 0], "audio_seconds": ""}).to_csv(work / "preprocess.csv", index=False)
    clips = pd.DataFrame({"clip": ["c", "gone"], "partition": "", "path": [str(root / "c.mp4"), ""], "audio": "",
                          "participant": ""})
    return Corpus("folder", root, clips, ()), [frame for frame in range(12) if frame != 1]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    def run(task, items, **_):
        for item in items:
            try:
                yield item, task(item)
            except InputError as error:
                yield item, error

    monkeypatch.setattr(extraction, "run", run)
    extraction_tasks.load.cache_clear()
    yield
    extraction_tasks.load.cache_clear()


def test_the_program_on_our_crops(tmp_path, program, capfd):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(program)})
    found = store.load(tmp_path / "w" / "features" / "aus" / "c.safetensors")
    kept = [frame for number, frame in enumerate(frames, 1) if number % 3]
    np.testing.assert_allclose(found.times, np.array(kept) / 30, atol=1e-6)
    np.testing.assert_allclose(found.values[:, 0] * 255, np.array(LEVELS)[kept], atol=2.5)
    assert found.names == NAMES and found.weights == "OpenFace on crops"
    assert found.values[:, 17:].tolist() == [[float(level > 51)] * 17 for level in np.array(LEVELS)[kept]]
    assert len(store.load(tmp_path / "w" / "features" / "aus" / "gone.safetensors")) == 0
    said = capfd.readouterr().err
    assert "OpenFace succeeded in 72.7% of the crops" in said  # 8 of 11
    assert "on a sample of 1 clips in 72.7% of the crops and 83.3% of the videos' pictures" in said  # 10 of 12
    assert "8 of 11 faces have a row (not measured 3)" in said
    assert "at most 0.0000 s from its step, median 0.0000 s" in said


def test_the_program_on_the_whole_video(tmp_path, program, capfd):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(program)}, aus_from="video")
    path = tmp_path / "w" / "features" / "aus" / "c.safetensors"
    found = store.load(path)
    kept = [frame for frame in frames if (frame + 1) % 5]
    np.testing.assert_allclose(found.times, np.array(kept) / 30, atol=1e-6)
    np.testing.assert_allclose(found.values[:, 0] * 255, np.array(LEVELS)[kept], atol=4)  # the followed face's
    assert found.weights == "OpenFace on whole videos"
    said = capfd.readouterr().err
    assert "OpenFace succeeded in 83.3% of the videos' pictures" in said and "9 of 11 faces have a row" in said

    # The same again does nothing; other crops of the same program are kept apart; and the first come back.
    before = path.stat().st_mtime_ns
    extract(corpus, tmp_path / "w", ["aus"])
    assert path.stat().st_mtime_ns == before and "0 of 2 clips to do" in capfd.readouterr().err
    extract(corpus, tmp_path / "w", ["aus"], aus_from="crops")
    assert store.load(path).weights == "OpenFace on crops"
    extract(corpus, tmp_path / "w", ["aus"], aus_from="video")
    assert path.stat().st_mtime_ns == before


def test_a_container_that_lies_about_its_rate_changes_nothing(tmp_path, program):
    """The pictures lie 1/15 s apart, whatever rate the container tells and OpenFace reckons its timestamps from."""
    corpus, _ = preprocessed(tmp_path / "w", tmp_path / "root")
    images = [np.full((120, 400, 3), level, np.uint8) for level in LEVELS]
    for rate in (15, 90):
        write_clip(tmp_path / "root" / "c.mp4", images, [Fraction(number, 15) for number in range(12)], rate=rate)
        extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(program)}, aus_from="video")
        path = tmp_path / "w" / "features" / "aus" / "c.safetensors"
        found = store.load(path)
        shown = np.rint(found.times * 30).astype(int) // 2
        np.testing.assert_allclose(found.values[:, 0] * 255, np.array(LEVELS)[shown], atol=4)
        assert len(found) > 8 and found.times[-1] > 0.3
        path.unlink()


@pytest.mark.parametrize(("way", "words"), [
    ("crash", r"OpenFace wrote no table for .* \(exit code 1\): ERROR: could not open the model"),
    ("mute", r"\(exit code 0\): Input had no faces that it liked"), ("slow", "did not end within 1 s")])
def test_its_failures_are_one_line_with_its_own_words(tmp_path, program, monkeypatch, way, words):
    from emibook.features import openface

    monkeypatch.setenv("PLAYED", way)
    monkeypatch.setattr(openface, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(openface, "TIMEOUT_PER_FRAME", 0.0 if way == "slow" else 5.0)
    corpus, _ = preprocessed(tmp_path / "w", tmp_path / "root")
    with pytest.raises(InputError, match="clip c: no features: " + ".*" + words) as caught:
        extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(program)}, resources=QUIET)
    assert "\n" not in str(caught.value)


def test_where_the_program_is_looked_for(tmp_path, program, monkeypatch):
    encoders = tmp_path / "encoders"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert EXTRACTORS["aus"].default() == "builtin"
    with pytest.raises(InputError, match="no FeatureExtraction on the path"):
        EXTRACTORS["aus"].resolve("openface", encoders)
    monkeypatch.setenv("PATH", str(program.parent))
    assert EXTRACTORS["aus"].default() == "openface"
    weights = EXTRACTORS["aus"].resolve("openface", encoders)
    assert weights == resolve(str(program), "crops", encoders)
    assert weights.kind == "openface" and EXTRACTORS["aus"].class_of(weights.kind) is OpenFace
    video = EXTRACTORS["aus"].resolve("openface", encoders, aus_from="video")
    assert video.kind == "openface-video" and video.sha256 != weights.sha256
    OpenFace(weights, encoders)
    program.write_text(program.read_text() + "# changed")
    with pytest.raises(InputError, match="has changed"):
        OpenFace(weights, encoders)
    plain = tmp_path / "no program"
    plain.write_text("x")
    for source, words in ((str(plain), "is no program"), (str(tmp_path / "nothing"), "no weights called")):
        with pytest.raises(InputError, match=words):
            EXTRACTORS["aus"].resolve(source, encoders)
    with pytest.raises(InputError, match="can be chosen for OpenFace"):
        EXTRACTORS["aus"].resolve("builtin", encoders, aus_from="video")


# ---- tables that are there already


def test_a_folder_of_tables(tmp_path, capfd):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    written = intensities(10)
    units = dict(zip((*R, *C), written.T, strict=True))
    timed = {"frame": np.arange(1, 11), "timestamp": (np.arange(10) / 25).round(3), "success": [1] * 9 + [0]}
    table(tmp_path / "tables" / "c.csv", timed | units)
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(tmp_path / "tables")})
    path = tmp_path / "w" / "features" / "aus" / "c.safetensors"
    found = store.load(path)
    assert found.weights == "OpenFace's tables" and found.names == NAMES
    shown = np.array([int(np.flatnonzero(np.floor(np.arange(10) / 25 * 30 + 0.5) <= frame)[-1]) for frame in frames])
    np.testing.assert_allclose(found.times, np.array(frames)[shown < 9] / 30, atol=1e-6)
    np.testing.assert_allclose(found.values, expected(written)[shown[shown < 9]], atol=1e-6)
    said = capfd.readouterr().err
    assert "1 of 2 clips have a table" in said and "90.0% of the pictures" in said and "not measured" in said
    gaps = np.abs(np.array(frames) / 30 - shown / 25)[shown < 9]
    assert f"at most {gaps.max():.4f} s from its step, median {np.median(gaps):.4f} s" in said
    table(tmp_path / "tables" / "c.csv", timed | {name: np.zeros(10) for name in units})
    extract(corpus, tmp_path / "w", ["aus"])  # a table that is newer is read again
    assert not store.load(path).values.any()


def test_timestamps_that_do_not_span_the_clip_are_counted_instead(tmp_path, capfd):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    written = intensities(12)
    units = dict(zip((*R, *C), written.T, strict=True))
    timed = {"frame": np.arange(1, 13), "timestamp": (np.arange(12) / 1000).round(3), "success": np.ones(12, int)}
    table(tmp_path / "tables" / "c.csv", timed | units)
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(tmp_path / "tables")})
    found = store.load(tmp_path / "w" / "features" / "aus" / "c.safetensors")
    np.testing.assert_allclose(found.values, expected(written)[frames], atol=1e-6)
    assert "in 1 there are no timestamps that span the clip" in capfd.readouterr().err


def test_tables_that_lack_columns_say_so_and_are_not_mixed(tmp_path, capfd):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    written = intensities(12)
    units = dict(zip((*R, *C), written.T, strict=True))
    known = {"frame": np.arange(12), "timestamp": (np.arange(12) / 30).round(3), "success": np.ones(12, int)}
    path = table(tmp_path / "tables" / "c.csv", known | {name: units[name] for name in R})
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(tmp_path / "tables")})
    found = store.load(tmp_path / "w" / "features" / "aus" / "c.safetensors")
    np.testing.assert_allclose(found.values[:, :17], expected(written)[frames, :17], atol=1e-6)
    assert "lack 17 of the 34 columns, which are 0 in every row" in capfd.readouterr().err
    weights = describe_tables(tmp_path / "tables", tmp_path / "encoders")
    assert json.loads((tmp_path / "encoders" / weights.file).read_text())["columns"] == R
    encoder = ActionUnitTables(weights, tmp_path / "encoders")
    table(path, known | units)
    clip = Clip("c", tmp_path / "root" / "c.mp4", tmp_path / "root", "", tmp_path / "w", 0.4, 0)
    with pytest.raises(InputError, match="other action units than the folder had"):
        encoder(clip)
    table(tmp_path / "tables" / "d.csv", known | {name: units[name] for name in R})
    with pytest.raises(InputError, match="c.csv and d.csv have different action units"):
        describe_tables(tmp_path / "tables", tmp_path / "encoders")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no .csv"):
        describe_tables(tmp_path / "empty", tmp_path / "encoders")


def test_a_run_carries_the_program_and_refuses_tables(tmp_path, program):
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root")
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(program)}, aus_from="video", resources=QUIET)
    copy_encoders(tmp_path / "w", ["aus"], tmp_path / "run")
    encoder = load_encoder("aus", tmp_path / "run" / "encoders")
    found = encoder(Clip("c", tmp_path / "root" / "c.mp4", tmp_path, "", tmp_path / "w", 0.4, 0))
    expected = store.load(tmp_path / "w" / "features" / "aus" / "c.safetensors")
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.times, expected.times)
    units = dict(zip((*R, *C), intensities(3).T, strict=True))
    table(tmp_path / "tables" / "c.csv", {"frame": [1, 2, 3], "timestamp": [0.0, 0.033, 0.067]} | units)
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(tmp_path / "tables")}, resources=QUIET)
    copy_encoders(tmp_path / "w", ["aus"], tmp_path / "run")
    with pytest.raises(InputError, match="OpenFace's tables, files that other clips do not have"):
        load_encoder("aus", tmp_path / "run" / "encoders")


def test_py_feats_tables_are_joined_by_the_count_of_pictures(tmp_path, capfd):
    """They have no timestamps; the video's own are taken, here of pictures 1/15 s apart."""
    corpus, frames = preprocessed(tmp_path / "w", tmp_path / "root", rate=Fraction(15))
    rows = [(picture, left) for picture in range(12) for left in (50, 300)]  # ours, and somebody beside
    probabilities = np.random.default_rng(0).uniform(size=(len(rows), 16))
    columns = {"frame": [picture for picture, _ in rows], "FaceRectX": [left for _, left in rows]}
    columns |= {"FaceRectY": 40.0, "FaceRectWidth": 80.0, "FaceRectHeight": 80.0, "FaceScore": 0.99}
    columns |= {f"AU{unit:02d}": probabilities[:, index] for index, unit in enumerate(UNITS[:-1])}
    table(tmp_path / "tables" / "c.csv", columns)
    extract(corpus, tmp_path / "w", ["aus"], weights={"aus": str(tmp_path / "tables")})
    found = store.load(tmp_path / "w" / "features" / "aus" / "c.safetensors")
    assert found.weights == "py-feat's tables"
    shown = np.array(frames) // 2
    np.testing.assert_allclose(found.times, np.array(frames) / 30, atol=1e-6)
    np.testing.assert_allclose(found.values[:, 17:33], probabilities[2 * shown], atol=1e-6)
    assert not found.values[:, :17].any() and not found.values[:, 33].any()
    said = capfd.readouterr().err
    assert "lack 18 of the 34 columns" in said and "in 1 there are no timestamps that span the clip" in said
