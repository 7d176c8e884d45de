"""CREMA-D: its tables, its pointers, its faults, and the whole way on an imitation of its media."""

from __future__ import annotations

import csv
import hashlib
import http.server
import threading

import crema_d_files
import numpy as np
import pandas as pd
import pytest

from emibook import InputError
from emibook.cli import main
from emibook.corpus import RATINGS, check, crema_d, crema_d_votes, open_corpus

TRAIN, VALID, TEST = ("1001", "1002"), ("1049", "1064"), ("1063", "1076")
CLIPS = [f"{actor}_DFA_{meant}_XX" for actor in (*TRAIN, *VALID, *TEST) for meant in crema_d_files.EMOTIONS]
REAL = pytest.mark.skipif(crema_d_files.real() is None, reason=crema_d_files.ABSENT)


@pytest.fixture
def root(tmp_path):
    """A clone's tables, in their places, without media."""
    counts = crema_d_files.simulated_votes(CLIPS)
    crema_d_files.write_votes(tmp_path / "processedResults" / "tabulatedVotes.csv", CLIPS, counts)
    crema_d_files.write_sentences(tmp_path / "SentenceFilenames.csv", CLIPS)
    crema_d_files.write_actors(tmp_path / "VideoDemographics.csv", [*TRAIN, *VALID, *TEST])
    return tmp_path


def table_of(root):
    return root / "processedResults" / "tabulatedVotes.csv"


def refusal(*arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        open_corpus(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def media(root, clips, size=5000):
    for clip in clips:
        for folder, ending in crema_d.MEDIA.items():
            path = root / folder / f"{clip}{ending}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"\0" * size)


@pytest.mark.parametrize("ratings", RATINGS)
def test_targets_are_the_fractions_of_those_who_were_asked(root, ratings):
    corpus = open_corpus(root, ratings=ratings, media=False)
    assert corpus.targets == crema_d_votes.EMOTIONS and corpus.name == "crema-d" + ("" if ratings == "both" else
                                                                            f", rated by {ratings}")
    digit = str(RATINGS.index(ratings) + 1)
    with open(table_of(root), newline="") as file:
        for row in csv.DictReader(file):
            if row[""][0] != digit:
                continue
            mine = corpus.clips.set_index("clip").loc[row["fileName"]]
            counts = [int(row[letter]) for letter in "ADFHNS"]
            np.testing.assert_allclose(mine[list(crema_d_votes.EMOTIONS)].astype(float), np.array(counts) / sum(counts))
            assert mine["participant"] == row["fileName"][:4]
    np.testing.assert_allclose(corpus.clips[list(crema_d_votes.EMOTIONS)].sum(axis=1), 1)
    assert set(corpus.unimodal_ratings) == {"both": {"V", "A"}, "face": {"A"}, "voice": {"V"}}[ratings]
    others = {"V": "face", "A": "voice"}
    for modality, predicted in corpus.unimodal_ratings.items():
        other = open_corpus(root, ratings=others[modality], media=False).clips
        np.testing.assert_allclose(predicted, other[list(crema_d_votes.EMOTIONS)])


def test_no_actor_is_in_two_partitions(root):
    corpus = open_corpus(root, media=False)
    people = {name: set(corpus.partition(name)["participant"]) for name in ("train", "valid", "test")}
    assert people == {"train": set(TRAIN), "valid": set(VALID), "test": set(TEST)}
    assert not set(crema_d.SPLIT["valid"].split()) & set(crema_d.SPLIT["test"].split())


@pytest.mark.parametrize("count", [2, 3, 6])
def test_folds_validate_on_every_clip_once_and_share_no_actor(root, count):
    seen = []
    for number in range(1, count + 1):
        corpus = open_corpus(root, fold=f"{number}/{count}", media=False)
        assert corpus.name == f"crema-d, fold {number} of {count}"
        valid, train = corpus.partition("valid"), corpus.partition("train")
        assert not set(valid["participant"]) & set(train["participant"])
        assert len(valid) + len(train) == len(CLIPS) and len(valid) == len(CLIPS) // count
        seen += list(valid["clip"])
    assert sorted(seen) == sorted(CLIPS)


@pytest.mark.parametrize("wrong", ["3", "0/5", "6/5", "1/1", "a/b"])
def test_a_fold_that_is_none_is_refused(root, wrong):
    assert "give K/N" in refusal(root, fold=wrong, media=False)


def test_folds_need_participants_enough_and_known(root, tmp_path_factory):
    assert "6 participants make no 7 folds" in refusal(root, fold="1/7", media=False)
    place = tmp_path_factory.mktemp("folder")
    for name in "abcd":
        (place / f"{name}.mp4").write_bytes(b"video")
    (place / "about.csv").write_text("clip,joy\na,0\nb,1\nc,.5\nd,\n")
    assert "3 of 3 labelled clips name no participant" in refusal(place, fold="1/2")
    (place / "about.csv").write_text("clip,joy,participant\na,0,x\nb,1,y\nc,.5,y\nd,,z\n")
    rows = open_corpus(place, fold="1/2").clips.set_index("clip")
    assert rows.loc["d", "partition"] == "" and rows.loc["b", "partition"] == rows.loc["c", "partition"]
    assert rows.loc["a", "partition"] != rows.loc["b", "partition"] and set(rows["partition"]) == {"", "train", "valid"}
    assert "ratings can be chosen for CREMA-D only" in refusal(place, ratings="face")
    assert "no ratings named 'nose'" in refusal(root, ratings="nose", media=False)


def test_votes_without_media_are_enough_to_check_and_refused_where_media_are_needed(root, capsys):
    report = check(root)
    assert report.layout == "crema-d" and report.problems == []
    assert report.counts["clips"] == 36 and report.counts["participants"] == 6 and report.counts["videos"] == 0
    assert [note for note in report.notes if "votes only" in note and "git clone https://github.com" in note]
    assert "lfs pull --include=VideoFlash,AudioWAV" in refusal(root)
    assert main(["preprocess", str(root), "--work", str(root / "w")]) == 1
    assert "votes only" in capsys.readouterr().err and not (root / "w").exists()


def test_pointers_are_told_from_media_with_the_command_that_fetches_them(root, capsys):
    (root / ".git").mkdir()
    for clip in CLIPS:
        crema_d_files.write_pointer(root / "VideoFlash" / f"{clip}.flv", 2_000_000_000)
        crema_d_files.write_pointer(root / "AudioWAV" / f"{clip}.wav", 500_000_000)
    command = f"git -C {root} lfs pull --include=VideoFlash,AudioWAV"
    said = refusal(root)
    assert "72 of 72 files are pointers of Git LFS (90.00 GB to fetch)" in said and said.endswith(command)
    assert check(root).counts["minutes of sound"] == round(36 * (500_000_000 - 44) / 32_000 / 60)
    assert main(["check", str(root)]) == 1
    listed = capsys.readouterr().out
    assert command in listed and "pointers of Git LFS: 72" in listed and "\n1 problems" in listed
    assert len(open_corpus(root, media=False).clips) == 36


def test_a_mixture_of_media_and_pointers_is_a_list(root):
    media(root, CLIPS)
    for clip in CLIPS[3:5]:
        crema_d_files.write_pointer(root / "VideoFlash" / f"{clip}.flv", 10**6)
    problems = check(root).problems
    assert [line for line in problems if line.startswith("clip ")] == [
        f"clip {clip}: VideoFlash/{clip}.flv is a pointer of Git LFS" for clip in CLIPS[3:5]]
    assert "2 of 72 media files are still pointers" in problems[0] and f"first VideoFlash/{CLIPS[3]}.flv" in problems[0]
    assert "2 of 72 media files" in refusal(root)


def test_files_that_are_nowhere_are_named_and_the_others_used(root):
    media(root, CLIPS)
    (root / "VideoFlash" / f"{CLIPS[0]}.flv").unlink()
    (root / "AudioWAV" / f"{CLIPS[1]}.wav").rename(root / "AudioWAV" / "1040_ITH_SAD_X.wav")
    for folder, ending in crema_d.MEDIA.items():
        (root / folder / f"{CLIPS[2]}{ending}").unlink()
    (root / "AudioWAV" / f"{CLIPS[3]}.wav").write_bytes(b"")
    (root / "VideoFlash" / "Thumbs.db").write_bytes(b"x")
    report = check(root)
    assert report.problems == [
        f"clip {CLIPS[2]}: in neither folder of media; fetch it: {crema_d.fetch_command(root)}",
        f"clip {CLIPS[3]}: AudioWAV/{CLIPS[3]}.wav has zero bytes; fetch it again",
    ]
    assert f"VideoFlash: no file of these clips, taken as clips without a face (1): {CLIPS[0]}" in report.notes
    assert f"AudioWAV: no file of these clips, the sound of their .flv is used (1): {CLIPS[1]}" in report.notes
    assert "AudioWAV: no file of a clip with votes, so left out (1): 1040_ITH_SAD_X.wav" in report.notes
    rows = open_corpus(root).clips.set_index("clip")
    assert rows.loc[CLIPS[0], "path"] == "" and rows.loc[CLIPS[0], "audio"].endswith(f"{CLIPS[0]}.wav")
    assert rows.loc[CLIPS[1], "audio"] == "" and rows.loc[CLIPS[5], "path"].endswith(f"VideoFlash/{CLIPS[5]}.flv")


def test_known_faults_are_named_and_the_clip_that_shows_others_is_in_no_partition(tmp_path):
    clips = [*CLIPS, *crema_d.FAULTS]
    crema_d_files.write_votes(tmp_path / "tabulatedVotes.csv", clips, crema_d_files.simulated_votes(clips))
    report = check(tmp_path)
    for clip, fault in crema_d.FAULTS.items():
        (line,) = [note for note in report.notes if note.startswith(f"clip {clip}, known fault")]
        assert fault in line and ("in no partition" in line) == (clip in crema_d.EXCLUDED)
    assert report.counts["in no partition"] == 1
    for fold in (None, "1/2"):
        rows = open_corpus(tmp_path, fold=fold, media=False).clips.set_index("clip")
        assert list(rows.index[rows["partition"] == ""]) == list(crema_d.EXCLUDED)


def test_every_problem_of_the_votes_is_a_line_and_the_first_stops_a_run(root):
    lines = table_of(root).read_text().splitlines()
    cells = [line.split(",") for line in lines]
    cells[1][1] = "many"
    cells[2][8] = "99"
    cells[3][7] = '"1001-DFA-FEA"'
    cells[4][0] = '"900004"'
    cells[5][1:7] = ["0"] * 6
    cells[5][8] = "0"
    cells.append([*cells[7]])
    table_of(root).write_text("\n".join(",".join(row) for row in cells) + "\n")
    problems = check(root).problems
    for words in ("are not all counts", "do not add up to numResponses", "not named actor_sentence_emotion_level",
                  "does not begin with 1 (voice)", "has no votes", "a second row for the same clip"):
        assert [line for line in problems if words in line], words
    assert f"tabulatedVotes.csv, clip {CLIPS[0]}: no votes from voice" in problems
    assert "and 9 more; `emibook check" in refusal(root, media=False)


@pytest.mark.parametrize("how", ["column", "empty", "no CSV"])
def test_a_table_that_is_none_is_refused_in_one_line(root, how):
    text = table_of(root).read_text()
    if how == "column":
        text = text.replace('"numResponses"', '"answers"')
    elif how == "empty":
        text = text.splitlines()[0] + "\n"
    else:
        text = '"broken\n' + text
    table_of(root).write_text(text)
    assert "tabulatedVotes.csv" in refusal(root, media=False)


def test_a_folder_of_videos_without_votes_says_what_is_missing(tmp_path):
    media(tmp_path, CLIPS[:2])
    said = refusal(tmp_path)
    assert "processedResults/tabulatedVotes.csv" in said and "emibook people" in said


def test_the_lists_of_the_data_set_are_compared(root):
    crema_d_files.write_sentences(root / "SentenceFilenames.csv", [*CLIPS[1:], "1099_DFA_ANG_XX", CLIPS[1]])
    crema_d_files.write_actors(root / "VideoDemographics.csv", ["1001"])
    report = check(root)
    assert f"SentenceFilenames.csv, clip {CLIPS[1]}: listed 2 times" in report.problems
    assert "SentenceFilenames.csv: without votes, so left out (1): 1099_DFA_ANG_XX" in report.notes
    assert f"votes of clips that SentenceFilenames.csv does not list (1): {CLIPS[0]}" in report.notes
    assert "VideoDemographics.csv: these actors are missing (5): 1002, 1049, 1063, 1064, 1076" in report.notes


@pytest.fixture
def server(root, monkeypatch):
    """The two tables on a server of this machine; ``how`` says how it answers."""
    how = {"answer": "whole"}
    files = {"/processedResults/tabulatedVotes.csv": table_of(root).read_bytes(),
             "/VideoDemographics.csv": (root / "VideoDemographics.csv").read_bytes()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            how["asked"] = how.get("asked", 0) + 1
            data = files[self.path]
            self.send_response(404 if how["answer"] == "absent" else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if how["answer"] == "half" else
                             data[:-1] + b"?" if how["answer"] == "changed" else data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        monkeypatch.setattr(crema_d_votes, "SOURCE", f"http://127.0.0.1:{serving.server_port}")
        monkeypatch.setattr(crema_d_votes, "SHA256", {
            "tabulatedVotes.csv": hashlib.sha256(files["/processedResults/tabulatedVotes.csv"]).hexdigest(),
            "VideoDemographics.csv": hashlib.sha256(files["/VideoDemographics.csv"]).hexdigest()})
        yield how
        serving.shutdown()


def test_the_votes_are_fetched_once(server, tmp_path_factory):
    place = tmp_path_factory.mktemp("fetched") / "new"
    paths = crema_d_votes.fetch(place)
    assert [path.is_file() for path in paths] == [True, True] and server["asked"] == 2
    assert len(crema_d_votes.read(place).clips) == 36 and len(crema_d_votes.read_actors(place)) == 6
    assert crema_d_votes.fetch(place) == paths and server["asked"] == 2
    assert sorted(path for path in place.rglob("*") if path.is_file()) == sorted(paths)


def test_a_table_of_the_users_own_is_never_replaced(server, tmp_path, capsys):
    own = crema_d_files.write_actors(tmp_path / "VideoDemographics.csv", ["1001"])
    before = own.read_bytes()
    assert main(["people", str(tmp_path), "--fetch"]) == 1
    complaint = capsys.readouterr().err
    assert "it is not replaced" in complaint and complaint.count("\n") == 1
    assert own.read_bytes() == before


@pytest.mark.parametrize(("answer", "said"), [("half", "cannot be fetched"), ("changed", "its SHA-256 is"),
                                              ("absent", "cannot be fetched")])
def test_what_did_not_arrive_whole_is_not_kept(server, tmp_path_factory, capsys, answer, said):
    place = tmp_path_factory.mktemp("fetched")
    server["answer"] = answer
    assert main(["people", str(place), "--fetch"]) == 1
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_without_a_network_there_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(crema_d_votes, "SOURCE", "http://127.0.0.1:9")
    assert main(["people", str(tmp_path), "--fetch"]) == 1
    complaint = capsys.readouterr().err
    assert "cannot be fetched" in complaint and complaint.count("\n") == 1


@REAL
def test_the_real_tables_are_checked():
    report = check(crema_d_files.real())
    counts = report.counts
    assert (counts["clips"], counts["participants"]) == (7442, 91)
    assert (counts["train"], counts["valid"], counts["test"], counts["in no partition"]) == (4573, 1393, 1475, 1)
    assert (counts["fewest raters of a clip"], counts["most raters of a clip"]) == (4, 12)
    assert not [line for line in report.problems if "media" not in line and "Git LFS" not in line]
    assert len([note for note in report.notes if "known fault" in note]) == 4


@REAL
def test_no_actor_of_the_real_split_or_of_any_fold_is_in_two_partitions():
    corpora = [open_corpus(crema_d_files.real(), media=False)]
    corpora += [open_corpus(crema_d_files.real(), fold=f"{number}/5", media=False) for number in (1, 5)]
    for corpus in corpora:
        rows = corpus.clips[corpus.clips["partition"] != ""]
        assert rows.groupby("participant")["partition"].nunique().max() == 1 and len(rows) == 7441
    assert [corpora[0].partition(name)["participant"].nunique() for name in ("train", "valid", "test")] == [56, 17, 18]
    sizes = [len(corpus.partition("valid")) for corpus in corpora[1:]]
    assert max(sizes) - min(sizes) < 90, "one actor's clips at most"


@REAL
def test_the_tables_are_those_that_fetching_would_bring():
    for name, wanted in crema_d_votes.SHA256.items():
        assert hashlib.sha256(crema_d_votes.find(crema_d_files.real(), name).read_bytes()).hexdigest() == wanted


def test_pandas_reads_what_is_written(root):
    """The made table has the true one's header, so a reader of theirs reads ours."""
    table = pd.read_csv(table_of(root), index_col=0)
    assert list(table.columns[:8]) == [*"ADFHNS", "fileName", "numResponses"]
    if crema_d_files.real() is not None:
        theirs = pd.read_csv(crema_d_votes.find(crema_d_files.real(), crema_d_votes.VOTES), index_col=0, nrows=2)
        assert list(theirs.columns) == list(table.columns)
