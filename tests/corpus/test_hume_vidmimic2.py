from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest

from emibook import InputError, corpus
from emibook.corpus import hume_vidmimic2

HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
TRAIN = ["00000,.333,.333,0,0,.333,0", "00003,0,0,0,0,.5,0", "00002,.5,0,0,0,0,0"]
VALID = ["00001,0,0,.5,0,0,0"]


@pytest.fixture
def root(tmp_path):
    """Four labelled clips and one of the test partition; their content is not looked at here."""
    for folder, ids in (("raw", range(4)), ("test_data/raw", [4])):
        (tmp_path / folder).mkdir(parents=True)
        for number in ids:
            (tmp_path / folder / f"{number:05}.mp4").write_bytes(b"video")
    write(tmp_path, TRAIN, VALID)
    return tmp_path


def write(root, train, valid):
    (root / "train_split.csv").write_text("\n".join([HEADER, *train]) + "\n")
    (root / "valid_split.csv").write_text("\n".join([HEADER, *valid]) + "\n")


def test_every_clip_keeps_its_id_partition_and_labels(root):
    found = corpus.open_corpus(root)
    assert found.name == "hume-vidmimic2" and found.note == "" and found.targets == hume_vidmimic2.EMOTIONS
    assert dict(zip(found.clips["clip"], found.clips["partition"], strict=True)) == {
        "00000": "train", "00001": "valid", "00002": "train", "00003": "train", "00004": "test"}
    assert found.clips["clip"].is_monotonic_increasing
    rows = found.clips.set_index("clip")
    for line in TRAIN + VALID:
        clip, *labels = line.split(",")
        np.testing.assert_array_equal(rows.loc[clip, list(hume_vidmimic2.EMOTIONS)].astype(float),
                                      np.array(labels, float))
        assert rows.loc[clip, "path"] == str(root / "raw" / f"{clip}.mp4")
    assert rows.loc["00004", list(hume_vidmimic2.EMOTIONS)].isna().all()
    assert rows.loc["00004", "path"] == str(root / "test_data/raw/00004.mp4")
    assert (rows["audio"] == "").all() and (rows["participant"] == "").all()
    report = corpus.check(root)
    assert report.problems == [] and report.notes == []
    assert report.counts == {"train": 3, "valid": 1, "test": 1, "sound files": 0, "participants": 0}


def test_what_is_optional_and_what_a_puppet_brings_is_no_oddity(root):
    (root / "audio").mkdir()
    for number in range(4):
        (root / "audio" / f"{number:05}.mp3").write_bytes(b"sound")
        (root / "face_images" / f"{number:05}").mkdir(parents=True)  # an empty one is known
    (root / "face_images" / "00001" / "Thumbs.db").write_bytes(b"")
    (root / "face_images" / "Thumbs.db").write_bytes(b"")
    (root / "truth").mkdir()
    (root / "puppet.json").write_text(json.dumps({"name": "puppet"}))
    (root / "participants.csv").write_text(
        "clip,participant,seed_video\n" + "".join(f"0000{i},p{i % 2},s1\n" for i in range(5)))
    report = corpus.check(root)
    assert report.problems == [] and report.notes == []
    assert report.counts["sound files"] == 4 and report.counts["participants"] == 2
    found = corpus.open_corpus(root)
    assert found.name == "puppet" and found.note == "trained on drawings; says nothing about people"
    rows = found.clips.set_index("clip")
    assert rows.loc["00003", "audio"] == str(root / "audio/00003.mp3") and rows.loc["00004", "audio"] == ""
    assert list(rows["participant"]) == ["p0", "p1", "p0", "p1", "p0"]


def test_participants_come_from_a_table_of_ones_own(root, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text("clip,participant\n0,anna\n1.0,ben\n00002,anna\n")
    rows = corpus.open_corpus(root, participants=people).clips.set_index("clip")
    assert list(rows["participant"]) == ["anna", "ben", "anna", "", ""]
    people.write_text("clip,participant\n00000,anna\n00000,ben\n")
    with pytest.raises(InputError, match="clip 00000: belongs to participant anna and to ben"):
        corpus.open_corpus(root, participants=people)
    people.write_text("id,who\n00000,anna\n")
    with pytest.raises(InputError, match=r"people.csv: no column clip, participant; it has id, who"):
        corpus.open_corpus(root, participants=people)


def test_all_problems_are_listed_at_once_by_clip_and_file(root):
    write(root, ["00000,1.2,-0.1,0,0,0,0", "00002,nan,x,,inf,0,0", "00002,0,0,0,0,0,0", "00009,0,0,0,0,0,0",
                 "../../x,0,0,0,0,0,0"],
          ["00001,0,0,0,0,0,0", "00000,0,0,0,0,0,0"])
    (root / "raw" / "00001.mp4").write_bytes(b"")
    (root / "raw" / "00004.mp4").write_bytes(b"video")
    (root / "raw" / "clip.avi").write_bytes(b"video")
    (root / "notes.txt").write_text("x")
    report = corpus.check(root)
    for expected in (
        "train_split.csv, clip 00000: Admiration is 1.2, not a number in [0, 1]",
        "train_split.csv, clip 00000: Amusement is -0.1, not a number in [0, 1]",
        "train_split.csv, clip 00002: Admiration is nan, not a number in [0, 1]",
        "train_split.csv, clip 00002: Amusement is x, not a number in [0, 1]",
        "train_split.csv, clip 00002: Determination is empty, not a number in [0, 1]",
        "train_split.csv, clip 00002: Empathic Pain is inf, not a number in [0, 1]",
        "train_split.csv, clip 00002: listed 2 times",
        "train_split.csv, clip 00009: listed, but raw/00009.mp4 is absent",
        "train_split.csv, clip ../../x: an id has five digits, as 00017",
        "clip 00000: in both train_split.csv and valid_split.csv",
        "clip 00004: in both raw/ and test_data/raw/",
        "clip 00001: raw/00001.mp4 has zero bytes; fetch it again",
    ):
        assert expected in report.problems
    assert len(report.problems) == 12
    assert report.notes == [
        "raw: not named as in this data set, so left out (1): clip.avi",
        "raw: in neither table, so left out (2): 00003, 00004",
        "not part of this data set, so left out (1): notes.txt",
    ]
    with pytest.raises(InputError, match=r"and 10 more; `emibook check .*` lists all"):
        corpus.open_corpus(root)


def test_a_damaged_video_is_reported_but_keeps_its_place(root):
    (root / "raw" / "00001.mp4").write_bytes(b"")
    assert corpus.check(root).problems == ["clip 00001: raw/00001.mp4 has zero bytes; fetch it again"]
    assert "00001" in set(corpus.open_corpus(root).clips["clip"])


def test_ids_that_became_numbers_are_read_where_they_are_unambiguous(root):
    expected = corpus.open_corpus(root).clips
    write(root, [line.replace("0000", "", 1).replace(",", ".0,", 1) for line in TRAIN], ["1" + VALID[0][5:]])
    pd.testing.assert_frame_equal(corpus.open_corpus(root).clips, expected)
    assert corpus.check(root).problems == []
    assert "train_split.csv: ids that were written as numbers, read as five digits (3): " \
           "0.0 is 00000, 2.0 is 00002, 3.0 is 00003" in corpus.check(root).notes
    write(root, [*TRAIN, "3.0,0,0,0,0,0,0"], VALID)
    assert "train_split.csv, clip 00003: listed 2 times" in corpus.check(root).problems


@pytest.mark.parametrize(("text", "expected"), [
    (None, "train_split.csv: no such file; expected a CSV with the columns Filename,Admiration"),
    ("", "train_split.csv: cannot be read as a CSV"),
    (HEADER.replace(",Joy", "").replace("Empathic Pain", "EmpathicPain") + "\n00000,0,0,0,0,0\n",
     "train_split.csv: no column Empathic Pain, Joy; it has Filename, Admiration"),
    (HEADER + "\n", "train_split.csv: has a header and no rows"),
    (HEADER + "\n00000,0,0,0,0,0,0,7\n", "train_split.csv: cannot be read as a CSV"),
    (HEADER + "\n00000,0,0\n", "train_split.csv, clip 00000: Determination is empty, not a number in [0, 1]"),
    (b"\xff\xfe\x00bad", "train_split.csv: cannot be read as a CSV"),
])
def test_a_table_that_cannot_be_used_is_named(root, text, expected):
    path = root / "train_split.csv"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert hume_vidmimic2.recognises(root)
    assert any(problem.startswith(expected) for problem in corpus.check(root).problems)
    with pytest.raises(InputError, match="train_split.csv") as caught:
        corpus.open_corpus(root)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_blanks_change_nothing(root):
    expected = corpus.open_corpus(root).clips
    (root / "train_split.csv").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([HEADER, *(line.replace(",", ", ") for line in TRAIN)]).encode())
    pd.testing.assert_frame_equal(corpus.open_corpus(root).clips, expected)


def test_a_data_set_without_videos_is_refused(tmp_path):
    (tmp_path / "train_split.csv").write_text(HEADER + "\n" + TRAIN[0] + "\n")
    with pytest.raises(InputError, match=r"no .mp4 in raw/ or test_data/raw/"):
        corpus.check(tmp_path)


def test_a_split_that_was_written_is_read_back(root, tmp_path):
    before = corpus.open_corpus(root)
    hume_vidmimic2.write_split(root / "train_split.csv", before.partition("train").sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(corpus.open_corpus(root).clips, before.clips)
    assert (root / "train_split.csv").read_text().splitlines()[:2] == [HEADER, "00000,0.333,0.333,0,0,0.333,0"]
    assert not list(root.glob(".*tmp"))


def test_a_submission_has_each_test_clip_once_and_values_within_bounds(root, tmp_path):
    found, out = corpus.open_corpus(root), tmp_path / "out" / "submission.csv"
    prediction = pd.DataFrame([["00004", -0.2, 0.25, 1.5, 0, 1 / 3, 1]], columns=["clip", *hume_vidmimic2.EMOTIONS])
    hume_vidmimic2.write_submission(out, found, prediction)
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [HEADER.split(","), ["00004", "0", "0.25", "1", "0", "0.333333", "1"]]
    for wrong, said in ((prediction.iloc[:0], "clip 00004 has no prediction"),
                        (pd.concat([prediction, prediction.assign(clip="00003")]), "clip 00003 is no test clip"),
                        (pd.concat([prediction, prediction]), "clip 00004 would be written twice"),
                        (prediction.assign(Joy=np.nan), "clip 00004: Joy is nan, outside")):
        out.unlink(missing_ok=True)
        with pytest.raises(InputError, match=said):
            hume_vidmimic2.write_submission(out, found, wrong)
        assert not out.exists()
