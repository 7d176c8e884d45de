from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emibook import InputError, corpus
from emibook.corpus import folder


@pytest.fixture
def root(tmp_path):
    for name in ("007.mp4", "b c.MOV", "ünï.webm", "d.wmv"):
        (tmp_path / name).write_bytes(b"video")
    return tmp_path


def test_every_video_is_a_clip_and_a_sound_file_of_its_name_its_sound(root):
    (root / "d.wav").write_bytes(b"sound")
    (root / "Thumbs.db").write_bytes(b"")
    (root / ".hidden.mp4").write_bytes(b"video")
    (root / "sub").mkdir()
    found = corpus.open_corpus(root)
    assert found.name == "folder" and found.targets == () and found.root == root.resolve()
    rows = found.clips.set_index("clip")
    assert list(rows.index) == ["007", "b c", "d", "ünï"]
    assert rows.loc["b c", "path"] == str(root / "b c.MOV")
    assert rows["audio"].to_dict() == {"007": "", "b c": "", "d": str(root / "d.wav"), "ünï": ""}
    assert (rows["partition"] == "").all() and (rows["participant"] == "").all()
    report = corpus.check(root)
    assert report.layout == "folder" and report.problems == [] and report.notes == []
    assert report.counts == {"clips": 4, "sound files": 1, "targets": 0, "participants": 0}


def test_a_link_keeps_its_own_name(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("store") / "blob.mp4"
    elsewhere.write_bytes(b"video")
    (root / "named.mp4").symlink_to(elsewhere)
    rows = corpus.open_corpus(root).clips.set_index("clip")
    assert rows.loc["named", "path"] == str(root / "named.mp4")


def test_number_columns_are_targets_of_any_name_and_number(root):
    (root / "about.csv").write_text(
        "clip,partition,Calm,participant,remark,-1..1\nd,valid,2,p1,good,-1\n007,train,,007,bad,.5\nb c,,0.5,p1,,0\n")
    found = corpus.open_corpus(root)
    assert found.targets == ("Calm", "-1..1")
    rows = found.clips.set_index("clip")
    assert list(rows.index) == ["007", "b c", "d"]
    np.testing.assert_array_equal(rows["Calm"], [np.nan, 0.5, 2])
    np.testing.assert_array_equal(rows["-1..1"], [0.5, 0, -1])
    assert list(rows["partition"]) == ["train", "", "valid"] and list(rows["participant"]) == ["007", "p1", "p1"]
    report = corpus.check(root)
    assert report.problems == [] and report.counts["train"] == 1 and report.counts["targets"] == 2
    assert report.notes == ["not in about.csv, so left out (1): ünï.webm",
                            "about.csv: column that holds no target, so left out (1): remark"]


def test_participants_from_a_table_win_over_the_column(root, tmp_path_factory):
    (root / "about.csv").write_text("clip,participant\nd,was\n007,was\n")
    people = tmp_path_factory.mktemp("people") / "people.csv"
    people.write_text("clip,participant\nd,now\n")
    rows = corpus.open_corpus(root, participants=people).clips.set_index("clip")
    assert rows["participant"].to_dict() == {"007": "was", "d": "now"}


def test_all_problems_are_listed_at_once(root):
    (root / "d.avi").write_bytes(b"video")
    (root / "d.mp3").write_bytes(b"")
    (root / "x.csv.mp4").write_bytes(b"video")
    (root / "about.csv").write_text(
        "clip,partition,joy\nd,val,1\nd,train,2\n7,train,1\n../007,train,0\n007,train,none\nb c,train,inf\n")
    report = corpus.check(root)
    assert report.problems == [
        "clip d: two files of that name, d.avi and d.wmv; a clip's id is its file's name without the ending",
        "clip x.csv: its id ends in .csv; rename x.csv.mp4",
        "about.csv, clip d: listed 2 times",
        "about.csv, clip 7: listed, but no video of that name is here",
        "about.csv, clip ../007: listed, but no video of that name is here",
        "about.csv, clip 007: joy is none, not a number",
        "about.csv, clip b c: joy is inf, not a number",
        "about.csv, clip d: partition is val; it may be train, valid, test or empty",
        "clip d: d.mp3 has zero bytes; fetch it again",
    ]
    with pytest.raises(InputError, match="two files of that name.*and 7 more; `emibook check") as caught:
        corpus.open_corpus(root)
    assert "\n" not in str(caught.value)


def test_a_table_without_its_column_or_a_second_table_is_an_error(root):
    (root / "about.csv").write_text("video,joy\nd,1\n")
    with pytest.raises(InputError, match="about.csv: no column clip; it has video, joy"):
        corpus.open_corpus(root)
    (root / "more.csv").write_text("clip,joy\nd,1\n")
    with pytest.raises(InputError, match="2 CSV files.*about.csv, more.csv"):
        corpus.open_corpus(root)


def test_a_damaged_video_keeps_its_place(root):
    (root / "d.wmv").write_bytes(b"")
    assert "d" in set(corpus.open_corpus(root).clips["clip"])
    assert corpus.check(root).problems == ["clip d: d.wmv has zero bytes; fetch it again"]


def test_nothing_to_read_is_said_in_one_line(tmp_path):
    for root, said in ((tmp_path / "absent", "no such folder"), (tmp_path, "no video in it")):
        with pytest.raises(InputError, match=said):
            corpus.open_corpus(root)
        with pytest.raises(InputError, match=said):
            corpus.check(root)
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="is a file; give the folder"):
        corpus.open_corpus(tmp_path / "a.mp4")


def test_the_layout_of_a_folder_is_told_from_the_data_set(root, tmp_path_factory):
    (root / "raw").mkdir()
    (root / "raw" / "00000.mp4").write_bytes(b"video")
    assert corpus.check(root).layout == "folder"
    for path in root.glob("*.*"):
        path.unlink()
    assert corpus.check(root).layout == "hume-vidmimic2"
    assert folder.VIDEO_ENDINGS == tuple(ending.lower() for ending in folder.VIDEO_ENDINGS)
    assert pd.Series(folder.VIDEO_ENDINGS).is_unique
