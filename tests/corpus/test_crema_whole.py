"""The whole way on an imitation of CREMA-D: its names, codecs, layout and faults, joined to votes in its format."""

from __future__ import annotations

import wave

import made
import made_crema
import numpy as np
import pandas as pd
import pytest

from emibook.compute import Resources
from emibook.corpus import check, crema_d_votes, open_corpus
from emibook.experiments.paper_tables import train
from emibook.experiments.runs import Run
from emibook.features import extract, store
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.predict import submit
from emibook.preprocess import preprocess, read_audio
from emibook.studies.human import people
from emibook.training.loop import Recipe

pytestmark = pytest.mark.slow
TRAIN = [f"1001_DFA_{meant}_XX" for meant in ("ANG", "DIS", "FEA")] + [
    f"1002_DFA_{meant}_XX" for meant in ("HAP", "NEU", "SAD")]
VALID = [f"1049_DFA_{meant}_XX" for meant in made_crema.EMOTIONS]
TEST = ["1063_DFA_ANG_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX"]
OTHERS = ["1064_IEO_DIS_MD", "1064_TIE_SAD_XX"]
ONLY_HEARD = TRAIN[0]
QUICK = Recipe("quick", learning_rate=1e-3, batch=4, epochs=2, threads=1)
WEIGHTS = {"resnet18": "untrained"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """ROOT, WORK after both stages, and a run of the face and one of the sound."""
    place = tmp_path_factory.mktemp("crema")
    root, work = place / "CREMA-D", place / "work"
    clips = [*TRAIN, *VALID, *TEST, *OTHERS]
    made_crema.imitation(root, clips, made_crema.drawn_votes(clips))
    if made_crema.real() is not None:
        made_crema.cut_votes(root / "processedResults" / "tabulatedVotes.csv", clips)
    (root / "VideoFlash" / f"{ONLY_HEARD}.flv").unlink()
    corpus = open_corpus(root)
    preprocess(corpus, work, resources=Resources(workers=1, progress=False))
    extract(corpus, work, ["resnet18", "mfcc"], weights=WEIGHTS, resources=Resources(workers=1, progress=False))
    runs = [train(corpus, work, name, 0, QUICK, resources=made.QUIET) for name in ("resnet18", "mfcc")]
    return corpus, work, runs


def test_check_names_what_is_odd_and_finds_nothing_wrong(world):
    report = check(world[0].root)
    assert report.problems == [] and report.counts["videos"] == 16 and report.counts["sound files"] == 17
    assert any(ONLY_HEARD in note for note in report.notes)
    assert sum("known fault" in note for note in report.notes) == 4


def test_every_clip_goes_through_whatever_is_the_matter_with_it(world):
    corpus, work, _ = world
    table = pd.read_csv(work / "preprocess.csv").set_index("clip")
    assert sorted(table.index) == sorted(corpus.clips["clip"]) and (table["status"] != "failed").all()
    assert table.loc["1076_MTI_SAD_XX", "status"] == "no_face" and table.loc["1076_MTI_SAD_XX", "audio_seconds"] > 0.25
    assert table.loc["1076_MTI_NEU_XX", "frames"] == 3 and table.loc["1076_MTI_NEU_XX", "audio_seconds"] > 0.25
    assert table.loc[ONLY_HEARD, ["status", "frames"]].tolist() == ["no_face", 0]
    assert table.loc["1064_TIE_SAD_XX", ["status", "frames"]].tolist() == ["ok", 9]
    others = table.drop([ONLY_HEARD, *TEST[1:]])
    assert (others["frames"] == 9).all() and (others["faces"] >= 7).all()


def test_the_sound_is_that_of_the_wave_file(world):
    corpus, work, _ = world
    for clip in (VALID[0], ONLY_HEARD):
        with wave.open(str(corpus.root / "AudioWAV" / f"{clip}.wav")) as file:
            written = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        heard = read_audio(work, clip).astype(float)
        assert len(heard) == len(written) and np.corrcoef(heard, written)[0, 1] > 0.999


def test_clips_without_a_modality_keep_their_place(world):
    corpus, work, runs = world
    folder = store.feature_folder(work, "resnet18")
    assert len(store.load(store.clip_path(folder, ONLY_HEARD))) == 0
    assert len(store.load(store.clip_path(folder, VALID[0]))) >= 7
    assert Run.open(runs[0]).metrics["clips"] == {"train": 6, "valid": 7, "test": 3}
    assert Run.open(runs[0]).metrics["empty"] == {"train": 1, "valid": 0, "test": 1}
    assert Run.open(runs[1]).metrics["empty"]["train"] == 0


def test_six_fractions_are_predicted_fused_and_submitted(world, tmp_path):
    corpus, _, runs = world
    valid = corpus.partition("valid")
    assert "1064_IEO_DIS_MD" not in set(valid["clip"]) and "1064_TIE_SAD_XX" in set(valid["clip"])
    told, present = zip(*(Run.open(run).predictions("valid", valid["clip"]) for run in runs), strict=True)
    fused = late_fusion(*told, present=present)
    assert fused.shape == (7, 6) and np.isfinite(fused).all()
    table = pd.read_csv(submit(corpus, runs, tmp_path / "out.csv"))
    assert list(table.columns) == ["Filename", *crema_d_votes.EMOTIONS] and list(table["Filename"]) == sorted(TEST)
    assert table[list(crema_d_votes.EMOTIONS)].stack().between(0, 1).all()


def test_the_peoples_row_is_about_the_same_clips(world):
    corpus, _, _ = world
    rows = people.rows(corpus)
    found = crema_d_votes.read(corpus.root)
    inside = np.isin(found.clips, corpus.partition("valid")["clip"])
    voice, face, both = found.fractions[:, inside]
    (seen, heard), (fused,) = rows["table2.csv"], rows["table3.csv"]
    for row, prediction in ((seen, face), (heard, voice), (fused, (face + voice) / 2)):
        assert row["mean"] == pytest.approx(pearson(both, prediction).mean()) and row["clips"] == 7
    assert [row["features"] for row in (seen, heard, fused)] == [
        "people who saw", "people who heard", "people who saw & people who heard"]
    by_voice = people.rows(open_corpus(corpus.root, ratings="voice"))
    assert [row["modality"] for row in by_voice["table2.csv"]] == ["V"] and by_voice["table3.csv"] == []
