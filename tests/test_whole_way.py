"""The whole way by the command line alone: a drawn corpus, both tables, predictions, and the promises on files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from emibook.corpus import open_corpus
from emibook.experiments.paper_rows import TABLE2, TABLE3

pytestmark = pytest.mark.slow
CLIPS = 24
TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2"] + [
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"
]
REAL_CLIPS = Path(__file__).parents[2] / "shared" / "clips"


def emibook(*arguments) -> str:
    """Run a command as a reader does; returns what it printed."""
    command = [sys.executable, "-m", "emibook.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """ROOT and WORK after every command up to the tables."""
    place = tmp_path_factory.mktemp("whole_way")
    root, work = place / "corpus", place / "work"
    emibook("make-corpus", root, "--clips", CLIPS)
    emibook("preprocess", root, "--work", work)
    emibook("extract", root, "--work", work, "--features", "resnet18", "aus", "mfcc")
    emibook("tables", root, "--work", work, "--seeds", 1)
    return root, work


def test_the_corpus_is_as_documented(made):
    assert "puppet" in emibook("check", made[0])
    corpus = open_corpus(made[0])
    assert len(corpus.clips) == CLIPS and len(corpus.targets) == 6
    train, valid = corpus.partition("train"), corpus.partition("valid")
    assert not set(train["participant"]) & set(valid["participant"])


def test_preprocess_keeps_its_contract(made):
    root, work = made
    table = pd.read_csv(work / "preprocess.csv", dtype={"clip": str})
    assert list(table.columns) == ["clip", "status", "error", "frames", "faces", "seconds", "audio_seconds"]
    assert list(table["clip"]) == sorted(open_corpus(root).clips["clip"])
    assert set(table["status"]) <= {"ok", "no_face", "failed"}
    for row in table.itertuples():
        track = pd.read_csv(work / "faces" / f"{row.clip}.csv")
        assert list(track.columns) == TRACK
        assert len(track) == row.frames and track["face"].sum() == row.faces
        files = sorted(path.name for path in (work / "faces" / row.clip).glob("*"))
        assert files == [f"{frame:06}.jpg" for frame in track.loc[track["face"] == 1, "frame"]]
        assert track.loc[track["face"] == 0, TRACK[3:]].isna().all(axis=None)
    shown = next((work / "faces").rglob("*.jpg"))
    assert cv2.imread(str(shown)).shape == (112, 112, 3)


def test_features_lie_on_rising_times(made):
    root, work = made
    for name, width in (("resnet18", 512), ("aus", 34)):
        for clip in open_corpus(root).clips["clip"]:
            with safe_open(work / "features" / name / f"{clip}.safetensors", "np") as file:
                values, moments = file.get_tensor("values"), file.get_tensor("times")
            assert values.shape == (len(moments), width)
            assert (moments[1:] > moments[:-1]).all()


def test_the_built_in_encoders_read_every_unit_on_people_never_seen(made):
    """Correlation with the drawn truth; ResNet-18 is near .8 in six units, and processors round differently."""
    for name, least in (("aus", 0.8), ("resnet18", 0.7)):
        (path,) = (made[1] / "encoders").glob(f"{name}-builtin*.json")
        about = json.loads(path.read_text())
        scores = about["pearson_on_held_out_identities"]["units"]
        assert len(scores) == 17 and min(scores.values()) >= least, scores
        assert about["stills"]["faces"] >= 0.99 * about["stills"]["drawn"]


def test_both_tables_have_all_their_rows(made):
    for name, rows in (("table2.csv", TABLE2), ("table3.csv", TABLE3)):
        table = pd.read_csv(made[1] / "tables" / name)
        assert list(table.columns[:7]) == ["features", "modality", "paper", "mean", "low", "high", "seeds"]
        assert {row.features for row in rows} <= set(table["features"])
        assert table["features"].is_unique
        assert (table["low"] <= table["high"]).all()
        assert set(table["corpus"]) == {"puppet"}
    paper = pd.read_csv(made[1] / "tables" / "table3.csv").set_index("features")["paper"]
    assert paper["resnet18+aus & wav2vec2"] == 0.3288


def test_nothing_is_made_twice(made):
    root, work = made
    before = times(work)
    emibook("preprocess", root, "--work", work)
    emibook("extract", root, "--work", work, "--features", "resnet18", "aus", "mfcc")
    emibook("tables", root, "--work", work, "--seeds", 1)
    after = times(work)
    assert set(before) == set(after)
    remade = {path for path in before if before[path] != after[path]}
    assert not {path for path in remade if path.parent.parent.name in ("faces", "features", "runs")}


def test_train_ends_with_the_folder_of_its_run(made):
    root, work = made
    line = emibook("train", root, "--work", work, "--features", "mfcc", "--seed", 7).splitlines()[-1]
    assert (Path(line) / "weights.safetensors").exists()
    again = emibook("train", root, "--work", work, "--features", "mfcc", "--seed", 7).splitlines()[-1]
    assert again == line


@pytest.fixture(scope="module")
def carried(made, tmp_path_factory):
    """One visual and one acoustic run, copied to where nothing else of WORK is."""
    root, work = made
    place = tmp_path_factory.mktemp("carried")
    runs = []
    for features in ("resnet18+aus", "mfcc"):
        run = Path(emibook("train", root, "--work", work, "--features", features).splitlines()[-1])
        runs.append(shutil.copytree(run, place / run.name))
    return runs


def test_runs_predict_far_from_their_work_folder(made, carried, tmp_path):
    clip = made[0] / "raw" / "00005.mp4"
    out, pictures = tmp_path / "out.csv", tmp_path / "pictures"
    emibook("predict", clip, "--run", *carried, "--out", out, "--pictures", pictures)
    table = pd.read_csv(out, dtype={"clip": str})
    assert list(table["clip"]) == ["00005"]
    assert set(open_corpus(made[0]).targets) <= set(table.columns)
    assert table["note"].str.contains("says nothing about people").all()
    picture = cv2.imread(str(pictures / "00005.png"))
    assert picture is not None and picture.std() > 10


def test_a_submission_holds_every_test_clip_once(made, carried, tmp_path):
    out = tmp_path / "submission.csv"
    emibook("submit", made[0], "--run", *carried, "--out", out)
    table = pd.read_csv(out, dtype={"Filename": str})
    corpus = open_corpus(made[0])
    assert list(table.columns) == ["Filename", *corpus.targets]
    assert sorted(table["Filename"]) == sorted(corpus.partition("test")["clip"])
    values = table[list(corpus.targets)]
    assert ((values >= 0) & (values <= 1)).all(axis=None)


@pytest.mark.skipif(not REAL_CLIPS.exists(), reason="the real clips are not at hand")
def test_real_clips_go_the_same_way(carried, tmp_path):
    work = tmp_path / "work"
    emibook("preprocess", REAL_CLIPS, "--work", work)
    table = pd.read_csv(work / "preprocess.csv").set_index("clip")
    single = table.loc["single_face"]
    assert 72 <= single["frames"] <= 74 and single["faces"] == single["frames"]
    assert table.loc["no_face", "status"] == "no_face" and table.loc["no_face", "faces"] == 0
    track = pd.read_csv(work / "faces" / "face_noface.csv")
    shown = track.loc[track["face"] == 1, "time"]
    assert len(shown) > 20 and shown.max() < 0.8 * track["time"].max()
    group = pd.read_csv(work / "faces" / "facenet_video.csv").query("face == 1")
    assert len(group) > 40  # she walks out of the picture after that
    assert list(group["frame"]) == list(range(len(group)))
    boxes = group[["x1", "y1", "x2", "y2"]].to_numpy()
    low, high = np.maximum(boxes[1:, :2], boxes[:-1, :2]), np.minimum(boxes[1:, 2:], boxes[:-1, 2:])
    shared = np.prod((high - low).clip(0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    assert (shared / np.minimum(area[1:], area[:-1])).min() > 0.3, "the followed person changed"
    emibook("extract", REAL_CLIPS, "--work", work, "--features", "mfcc")
    out = tmp_path / "out.csv"
    emibook("predict", REAL_CLIPS / "single_face.mp4", REAL_CLIPS / "no_face.mp4", "--run", *carried, "--out", out)
    assert pd.read_csv(out).notna().all(axis=None)
