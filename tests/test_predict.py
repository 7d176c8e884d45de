from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import made
import matplotlib.image
import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure

from emibook import InputError
from emibook import predict as module
from emibook.corpus import hume_vidmimic2
from emibook.experiments import runs
from emibook.experiments.runs import Run
from emibook.experiments.training_run import Experiment, make_run
from emibook.experiments.variants import Variant
from emibook.features import EXTRACTORS, store
from emibook.fusion import late_fusion
from emibook.predict import predict, submit
from emibook.training.loop import Recipe

QUICK = Recipe("quick", learning_rate=3e-3, batch=10, epochs=4, threads=1)
NO_FACE, NO_SOUND, NEITHER = "00031", "00034", "00037"  # of the validation partition
EMOTIONS = list(hume_vidmimic2.EMOTIONS)


@dataclass(frozen=True)
class World:
    """A corpus with features, and runs of it: of the face with two seeds, joined ones, of the sound, a baseline."""

    corpus: object
    work: Path
    runs: dict[str, Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    work = tmp_path_factory.mktemp("work")
    corpus = made.corpus(work / "root", targets=hume_vidmimic2.EMOTIONS)
    for name in ("resnet18", "aus", "mfcc"):
        made.write(corpus, work, name, signal=3.0, empty=(NEITHER, NO_SOUND if name == "mfcc" else NO_FACE))
    made_runs = {
        name: make_run(Experiment.of(corpus, work, QUICK), branch, seed, made.QUIET)
        for name, branch, seed in (("face", "aus", 0), ("face again", "aus", 1), ("both", "resnet18+aus", 0),
                                   ("sound", "mfcc", 0), ("baseline", "mfcc (baseline)", 0))
    }
    short = Variant("short", sequence={"steps": 4, "sampling": "uniform", "packed": "bfloat16"})
    made_runs["otherwise read"] = make_run(Experiment.of(corpus, work, QUICK, short), "aus", 0, made.QUIET)
    return World(corpus, work, made_runs)


@pytest.fixture
def clips(world, monkeypatch, tmp_path) -> dict[str, Path]:
    """The corpus's clips as files; decoding and encoding are replaced by the features that were planted for them.

    A clip's faces carry its number as their times, and its sound as its first sample, so that the encoders know it.
    """
    asked = []

    def preprocess_clip(clip, path, audio_path, work):
        asked.append(clip)
        failed = path.read_bytes() == b"broken"
        error = "no video stream" if failed else "no sound: damaged" if clip == NO_SOUND else ""
        return {"clip": clip, "status": "failed" if failed else "ok", "error": error}

    def read_faces(work, clip):
        count = 0 if clip in (NO_FACE, NEITHER) else 3
        return np.full((count, 112, 112, 3), 200, np.uint8), np.arange(count) + float(clip), np.zeros((count, 5, 2))

    def read_audio(work, clip):
        return None if clip in (NO_SOUND, NEITHER) else np.arange(int(clip), 16000, dtype=np.int16)

    def load_encoder(name, encoders):
        assert (Path(encoders) / f"{name}.json").is_file()
        if EXTRACTORS[name].modality == "V":
            return lambda images, times, landmarks: planted(name, f"{times[0]:05.0f}" if len(times) else NEITHER)
        return lambda samples: planted(name, f"{samples[0]:05}" if samples is not None else NEITHER)

    def planted(name, clip):
        return store.load(store.clip_path(store.feature_folder(world.work, name), clip))

    for function in (preprocess_clip, read_faces, read_audio, load_encoder):
        monkeypatch.setattr(module, function.__name__, function)
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = {}
    for clip in world.corpus.partition("valid")["clip"]:
        paths[clip] = folder / f"{clip}.mp4"
        paths[clip].write_bytes(b"video")
    return paths


def stored(world, *names) -> tuple[np.ndarray, list]:
    """What the runs said of the validation clips when they were made: fused, and the clips."""
    valid = list(world.corpus.partition("valid")["clip"])
    each = [Run.open(world.runs[name]).predictions("valid", valid) for name in names]
    return late_fusion(*(p for p, _ in each), present=[there for _, there in each]).clip(0, 1), valid


@pytest.mark.parametrize("names", [["face"], ["sound"], ["face", "sound"], ["both", "baseline"], ["otherwise read"]],
                         ids="+".join)
def test_a_clip_of_the_corpus_gets_what_the_run_said_of_it(world, clips, names):
    expected, valid = stored(world, *names)
    table = predict(list(clips.values()), [world.runs[name] for name in names], progress=False)
    assert list(table.columns) == ["clip", *EMOTIONS, "corpus", "note"] and list(table["clip"]) == valid
    np.testing.assert_allclose(table[EMOTIONS].to_numpy(float), expected, atol=1e-5)
    assert (table["corpus"] == "made").all() and table["note"].str.startswith("made numbers").all()


def test_any_order_and_any_company_of_clips(world, clips):
    whole = predict(list(clips.values()), [world.runs["face"], world.runs["sound"]], progress=False).set_index("clip")
    some = [clips["00040"], clips[NO_FACE], clips["00033"]]
    table = predict(some, [world.runs["sound"], world.runs["face"]], progress=False)
    assert list(table["clip"]) == ["00040", NO_FACE, "00033"]
    np.testing.assert_allclose(table[EMOTIONS], whole.loc[table["clip"], EMOTIONS], atol=1e-6)


def test_seeds_are_averaged_before_branches_are_fused(world, clips):
    one = [clips["00032"]]
    first, second, sound = (
        predict(one, [world.runs[name]])[EMOTIONS].to_numpy() for name in ("face", "face again", "sound")
    )
    together = predict(one, [world.runs[name] for name in ("face", "sound", "face again")])[EMOTIONS].to_numpy()
    np.testing.assert_allclose(together, ((first + second) / 2 + sound) / 2, atol=1e-6)
    twice = predict(one, [world.runs["face"], world.runs["sound"], world.runs["face"]])[EMOTIONS].to_numpy()
    np.testing.assert_allclose(twice, (first + sound) / 2, atol=1e-6)


def test_a_clip_that_lacks_a_modality_is_carried_by_the_other_and_says_so(world, clips):
    wanted = [clips[clip] for clip in (NO_FACE, NO_SOUND, NEITHER, "00032")]
    fused = predict(wanted, [world.runs["both"], world.runs["sound"]]).set_index("clip")
    face = predict(wanted, [world.runs["both"]]).set_index("clip")
    sound = predict(wanted, [world.runs["sound"]]).set_index("clip")
    mean = world.corpus.partition("train")[EMOTIONS].mean()
    for clip, alone in ((NO_FACE, sound.loc[NO_FACE]), (NO_SOUND, face.loc[NO_SOUND]), (NEITHER, mean)):
        predicted = fused.loc[clip, EMOTIONS].to_numpy(float)
        np.testing.assert_allclose(predicted, alone[EMOTIONS].to_numpy(float), atol=1e-6)
    assert fused["note"].tolist() == [
        "made numbers; no face: predicted from mfcc alone",
        "made numbers; no sound: predicted from resnet18+aus alone; no sound: damaged",
        "made numbers; no face and no sound: the training mean",
        "made numbers",
    ]
    assert face.loc[NO_FACE, "note"] == "made numbers; no face: the training mean"


def test_writes_the_table_and_a_picture_that_says_what_it_is_of(world, clips, tmp_path, monkeypatch):
    said = {}
    savefig = Figure.savefig

    def keep(figure, path, **options):
        savefig(figure, path, **options)
        texts = figure.findobj(match=lambda artist: hasattr(artist, "get_text"))
        said[Path(path).name.split(".png")[0].lstrip(".")] = [text.get_text() for text in texts]

    monkeypatch.setattr(Figure, "savefig", keep)
    wanted = [clips[clip] for clip in ("00032", NO_FACE, NEITHER)]
    out, pictures = tmp_path / "new" / "out.csv", tmp_path / "pictures"
    table = predict(wanted, [world.runs["face"], world.runs["sound"]], out=out, pictures=pictures, progress=False)
    written = pandas.read_csv(out, dtype={"clip": str})
    pandas.testing.assert_frame_equal(written, table)
    assert {path.name for path in pictures.iterdir()} == {"00032.png", f"{NO_FACE}.png", f"{NEITHER}.png"}
    for clip, texts in said.items():
        assert set(EMOTIONS) <= set(texts) and f"clip {clip}" in texts
        assert any("made numbers" in text for text in texts)
        assert ("no face" in texts) == (clip != "00032") and ("no sound" in texts) == (clip == NEITHER)
    shown = matplotlib.image.imread(pictures / "00032.png")[..., :3]
    grey = np.isclose(shown, 200 / 255, atol=0.01).all(axis=2)
    assert grey.mean() > 0.02, "the faces are not in the picture"


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_predicted_is_refused_in_one_line(world, clips, tmp_path):
    one, run = clips["00032"], world.runs["face"]
    assert "no run given" in refusal(predict, [one], [])
    assert "no clip given" in refusal(predict, [], [run])
    assert "nowhere.mp4: no such file" in refusal(predict, [tmp_path / "nowhere.mp4"], [run])
    assert "no finished run" in refusal(predict, [one], [tmp_path])
    (tmp_path / "00032.mov").write_bytes(b"video")
    assert "would both be clip 00032" in refusal(predict, [one, tmp_path / "00032.mov"], [run])
    simulated = shutil.copytree(run, tmp_path / "simulated")
    shutil.rmtree(simulated / "encoders")
    assert "holds no encoders, as a run on simulated features" in refusal(predict, [one], [simulated])
    one.write_bytes(b"broken")
    out = tmp_path / "out.csv"
    assert refusal(predict, [clips["00033"], one], [run], out=out) == "clip 00032: no video stream"
    assert not out.exists()


def test_runs_of_different_corpora_are_not_fused(world, clips, tmp_path):
    other = made.corpus(tmp_path / "root", targets=hume_vidmimic2.EMOTIONS, seed=5)
    shutil.copytree(world.work / "features", tmp_path / "features")
    run = make_run(Experiment.of(other, tmp_path, QUICK), "mfcc", 0, made.QUIET)
    assert "different corpora" in refusal(predict, [clips["00032"]], [world.runs["face"], run])
    assert "different corpora" in refusal(submit, world.corpus, [world.runs["face"], run], tmp_path / "out.csv")


def test_a_submission_is_the_fused_prediction_of_every_test_clip_once(world, tmp_path):
    out = tmp_path / "submission.csv"
    names = ("face", "face again", "sound")
    assert submit(world.corpus, [world.runs[name] for name in names], out) == out
    assert out.read_text().splitlines()[0] == "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    table = pandas.read_csv(out, dtype={"Filename": str})
    clips = list(world.corpus.partition("test")["clip"])
    assert list(table["Filename"]) == clips == [f"{number:05}" for number in range(48, 54)]
    face, again, sound = (Run.open(world.runs[name]).predictions("test", clips)[0] for name in names)
    np.testing.assert_allclose(table[EMOTIONS], (((face + again) / 2 + sound) / 2).clip(0, 1), atol=1e-5)


def test_runs_of_another_corpus_of_the_same_kind_are_not_submitted(world, tmp_path):
    """Another puppet, another simulation: its clips have the same ids and its targets the same names."""
    other = made.corpus(world.corpus.root, targets=hume_vidmimic2.EMOTIONS, seed=5)
    clips = world.corpus.clips
    folded = clips.assign(partition=clips["partition"].map({"train": "valid", "valid": "train", "test": "test"}))
    for corpus in (other, replace(world.corpus, clips=folded)):
        said = refusal(submit, corpus, [world.runs["face"], world.runs["sound"]], tmp_path / "out.csv")
        assert "was trained on a made corpus of other clips, partitions or labels than" in said
    assert not list(tmp_path.iterdir())


def _swapped(table):
    return table.assign(clip=table["clip"].iloc[[1, 0, *range(2, len(table))]].to_numpy())


@pytest.mark.parametrize("spoil", [_swapped, lambda table: table.iloc[1:], lambda table: table.assign(Joy=0.123),
                                   lambda table: table.rename(columns={"Joy": "Excitement", "Excitement": "Joy"})],
                         ids=["rows swapped", "a clip lost", "other numbers", "columns swapped"])
def test_what_was_written_is_read_back_and_a_file_that_differs_is_not_left(world, tmp_path, monkeypatch, spoil):
    def write(path, corpus, table):
        spoil(table).rename(columns={"clip": "Filename"}).to_csv(path, index=False)

    monkeypatch.setattr(hume_vidmimic2, "write_submission", write)
    with pytest.raises(RuntimeError, match="did not hold what was written into it"):
        submit(world.corpus, [world.runs["sound"]], tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


def test_submissions_stay_within_0_and_1_and_bad_ones_are_refused(world, tmp_path):
    run = shutil.copytree(world.runs["sound"], tmp_path / "run")
    path = run / runs.PREDICTIONS["test"]
    table = pandas.read_csv(path, dtype={"clip": str})
    table["Joy"] = [-0.5, 2.0, 0.25, 0.5, 0.75, 1.0]
    table.to_csv(path, index=False)
    written = pandas.read_csv(submit(world.corpus, [run], tmp_path / "out.csv"))
    assert list(written["Joy"]) == [0, 1, 0.25, 0.5, 0.75, 1]
    table.loc[2, "Joy"] = np.nan
    table.to_csv(path, index=False, na_rep="nan")
    assert "clip 00050" in refusal(submit, world.corpus, [run], tmp_path / "nan.csv")
    table.drop(index=1).to_csv(path, index=False)
    assert "lacks 1 of 6 clips" in refusal(submit, world.corpus, [run], tmp_path / "few.csv")
    few = made.corpus(tmp_path, test=0, targets=hume_vidmimic2.EMOTIONS)
    assert "no test clips" in refusal(submit, few, [world.runs["sound"]], tmp_path / "none.csv")
    two = made.corpus(tmp_path)
    assert "not on" in refusal(submit, two, [world.runs["sound"]], tmp_path / "two.csv")
    assert [path.name for path in tmp_path.glob("*.csv")] == ["out.csv"]
