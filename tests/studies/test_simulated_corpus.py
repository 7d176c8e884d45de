"""Simulated features on disk: what is mapped is what was simulated, and the whole of training runs on it."""

import shutil
from dataclasses import replace

import feature_corpus
import numpy as np
import pandas
import pytest

from emibook import InputError, cli
from emibook.corpus import check, open_corpus
from emibook.experiments import paper_rows, paper_tables
from emibook.experiments.runs import Run
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson
from emibook.sequences.load import load, packed_file
from emibook.sequences.packed import read, write
from emibook.studies.simulation import corpus
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.calibration import LEVELS as TABLE_2
from emibook.studies.simulation.corpus import sequences, write_corpus, write_features
from emibook.studies.simulation.simulate import CorpusPlan, simulate
from emibook.studies.simulation.sizes import Size
from emibook.studies.simulation.tuned_ridge import ridge
from emibook.training.loop import Recipe

SIZE = Size("test", (150, 120, 20), 8, 2.0, 8)
LEVELS = {"resnet18": 0.5, "aus": 0.5, "wav2vec2": 0.6, "resnet18+aus": 0.55}


def rewrite(path, values, **changes):
    """The simulated file with other values, or another ``about``."""
    _, offsets, about = read(path)
    tables = [values[first:last].copy() for first, last in zip(offsets[:-1], offsets[1:], strict=True)]
    write(path, tables, len(tables), about | changes)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    simulation = SIZE.plan(LEVELS, "mixed")
    write_corpus(simulation, folder / "corpus")
    write_features(simulation, folder / "work", LEVELS, progress=False)
    return simulation, folder / "corpus", folder / "work"


def test_what_is_loaded_is_what_was_simulated(places):
    simulation, root, work = places
    corpus = open_corpus(root)
    assert corpus.name == "simulated" and "nothing about people" in corpus.note
    for name in ("wav2vec2", "resnet18+aus"):
        for partition in ("train", "valid", "test"):
            loaded, drawn = load(corpus, work, name, partition), sequences(simulation, name, partition)
            assert loaded.clips == drawn.clips and loaded.participants == drawn.participants
            assert np.array_equal(loaded.values, drawn.values) and np.array_equal(loaded.offsets, drawn.offsets)
            if partition == "test":
                assert np.isnan(loaded.targets).all(), "the corpus keeps the test labels to itself"
            else:
                assert loaded.targets == pytest.approx(drawn.targets)
    joined = load(corpus, work, "resnet18+aus", "valid")
    assert np.array_equal(joined.values[:, :8], load(corpus, work, "resnet18", "valid").values)


def test_one_set_is_handed_on_without_a_copy(places, monkeypatch):
    sets, draw = [], simulated_features.draw
    monkeypatch.setattr(corpus, "simulated_set", lambda *of: sets.append(draw(*of)) or sets[-1])
    alone, joined = (sequences(places[0], name, "valid") for name in ("resnet18", "resnet18+aus"))
    assert alone.values is sets[0].values and alone.values.dtype == joined.values.dtype == np.float16


def test_the_corpus_is_checked_and_never_overwritten(places):
    simulation, root, work = places
    report = check(root)
    assert report.counts["train"] == 150 and not report.problems
    before = {path: path.stat().st_mtime_ns for path in [*root.iterdir(), *work.rglob("*.safetensors")]}
    write_corpus(simulation, root)
    write_features(simulation, work, LEVELS, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(InputError, match="something else"):
        write_corpus(SIZE.plan(LEVELS, "mixed", seed=1), root)
    table = pandas.read_csv(root / "clips.csv", dtype={"clip": str})
    (root / "clips.csv").write_text(table.assign(Joy=2.0).to_csv(index=False))
    assert "label outside" in check(root).problems[0]
    (root / "clips.csv").write_text("clip\n1\n")
    with pytest.raises(InputError, match="cannot be read"):
        open_corpus(root)
    (root / "clips.csv").write_text(table.to_csv(index=False))


def test_both_tables_are_made_without_media(places):
    quick = Recipe("quick", learning_rate=3e-3, batch=16, epochs=3, threads=1)
    tables = paper_tables.tables(open_corpus(places[1]), places[2], seeds=2, rows=["resnet18+aus", "wav2vec2"],
                                 recipe=quick, resources=feature_corpus.QUIET)
    found = pandas.concat(tables).set_index("features")
    fused = found.loc["resnet18+aus & wav2vec2"]
    assert fused["paper"] == 0.3288 and fused["corpus"] == "simulated" and "nothing about people" in fused["note"]
    assert fused["clips"] == 120 and found.loc["wav2vec2", "mean"] > 0.1


def test_the_command_simulates_all_that_the_tables_need(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emibook.studies.simulation.sizes.SIZES", {"tiny": SIZE})
    where = [str(tmp_path / "corpus"), "--work", str(tmp_path / "work")]
    assert cli.main(["simulate", *where, "--size", "tiny", "--stronger", "2"]) == 0
    capsys.readouterr()
    drawn = {path.parent.name for path in (tmp_path / "work" / "packed").rglob("train.safetensors")}
    table2, _ = paper_rows.chosen_rows()
    assert {row.branches[0].removesuffix(" (baseline)") for row in table2} <= drawn
    # Others are added to the same corpus.
    assert cli.main(["simulate", *where, "--size", "tiny", "--stronger", "2", "--features", "official_vit",
                     "official_wav2vec2"]) == 0  # fmt: skip
    added = {path.parent.name for path in (tmp_path / "work" / "packed").rglob("train.safetensors")} - drawn
    assert added == {"official_vit", "official_wav2vec2"}
    with pytest.raises(InputError, match="no size 'huge'"):
        CorpusPlan(size="huge")
    with pytest.raises(InputError, match="no simulated features 'smell'"):
        CorpusPlan(["smell"], "tiny")


def test_a_set_can_be_simulated_so_that_ridge_regression_attains_table_2(tmp_path):
    size = Size("some", (1500, 1000, 20), 6, 0.5, 8)
    where = tmp_path / "corpus", tmp_path / "work"
    simulate(*where, CorpusPlan(["aus", "wav2vec2"], size, "mean", "attained"), progress=False)
    corpus = open_corpus(where[0])
    for name in ("aus", "wav2vec2"):
        training, valid = (load(corpus, where[1], name, partition) for partition in ("train", "valid"))
        reached = mean_pearson(valid.targets, ridge(training, valid)[0])
        assert reached == pytest.approx(TABLE_2[name], abs=0.01), name
    simulate(tmp_path / "a", tmp_path / "b", CorpusPlan(["wav2vec2"], size, "mean"), progress=False)
    corpus = open_corpus(tmp_path / "a")
    training, valid = (load(corpus, tmp_path / "b", "wav2vec2", partition) for partition in ("train", "valid"))
    assert mean_pearson(valid.targets, ridge(training, valid)[0]) < TABLE_2["wav2vec2"] - 0.015, "uncalibrated"
    with pytest.raises(InputError, match="in which the patterns mixed are not visible"):
        CorpusPlan(calibration="attained")
    with pytest.raises(InputError, match="no calibration 'hoped'; there are attainable and attained"):
        CorpusPlan(calibration="hoped")


def test_features_that_were_not_simulated_are_not_looked_for_in_media_that_there_are_not(places, tmp_path):
    simulation, root, work = places
    sets = "aus, resnet18, resnet18+aus, wav2vec2"
    for where, asked, absent, there in ((tmp_path / "wrong", ["aus"], "aus", "none"),
                                        (work, ["aus", "facenet", "wav2vec2"], "facenet", sets)):
        before = sorted(where.rglob("*"))
        with pytest.raises(InputError) as error:
            paper_tables.tables(open_corpus(root), where, seeds=1, rows=asked, resources=feature_corpus.QUIET)
        assert str(error.value) == (
            f"features {absent} are not in {where}, which has {there}, and {root} has no media to extract them from; "
            f"emibook simulate {root} --work {where} --features {absent} makes those that can be simulated, with its "
            "own size and seed")
        assert sorted(where.rglob("*")) == before


@pytest.mark.parametrize("partition", ["train", "valid", "test"])
def test_features_of_another_simulation_are_not_taken_for_this_ones(places, tmp_path, partition):
    """Its clips have the same ids."""
    simulation, root, work = places
    other = tmp_path / "work"
    write_features(SIZE.plan(LEVELS, "mixed", seed=1), other, ["aus"], progress=False)
    mixed = tmp_path / "mixed"
    shutil.copytree(work / "packed" / "aus", mixed / "packed" / "aus")
    path = shutil.copy(packed_file(other, "aus", partition), packed_file(mixed, "aus", partition))
    with pytest.raises(InputError, match=f"^{path} belongs to another simulation than {root}; give the") as error:
        paper_tables.train(open_corpus(root), mixed, "aus", resources=feature_corpus.QUIET)
    assert "\n" not in str(error.value) and not (mixed / "runs").exists()


@pytest.mark.parametrize("partition", ["valid", "test"])
@pytest.mark.parametrize("changes", [{"names": [f"other_{n}" for n in range(8)]}, {"weights": ["other"]}])
def test_a_partition_with_other_columns_or_weights_than_the_training_clips_is_refused(
    places, tmp_path, partition, changes
):
    simulation, root, work = places
    shutil.copytree(work / "packed" / "aus", tmp_path / "packed" / "aus")
    path = packed_file(tmp_path, "aus", partition)
    rewrite(path, read(path)[0], **changes)
    with pytest.raises(InputError, match=f"^{path} has other (columns|weights) than train.safetensors .*; make it again"
                       ) as error:
        paper_tables.train(open_corpus(root), tmp_path, "aus", resources=feature_corpus.QUIET)
    assert "\n" not in str(error.value) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_damaged_settings_of_a_simulation(places, tmp_path, text):
    simulation, root, work = places
    copy = shutil.copytree(root, tmp_path / "corpus")
    (copy / "simulation.json").write_text(text)
    asked = [lambda: paper_tables.train(open_corpus(copy), work, "aus",
                                        resources=feature_corpus.QUIET), lambda: check(copy)]
    if text != "{}":
        asked.append(lambda: write_corpus(simulation, copy))
    for each in asked:
        with pytest.raises(InputError, match="simulation.json is damaged; delete .* and simulate the corpus again"):
            each()
    assert (copy / "simulation.json").read_text() == text


@pytest.mark.parametrize("partition", ["train", "valid", "test"])
def test_one_number_that_is_none_is_named_whichever_partition_it_is_in(places, tmp_path, partition):
    simulation, root, work = places
    shutil.copytree(work / "packed" / "aus", tmp_path / "packed" / "aus")
    path = packed_file(tmp_path, "aus", partition)
    values, offsets, about = read(path)
    values[offsets[3] + 1, 2] = np.nan
    rewrite(path, values)
    quick = Recipe("quick", learning_rate=3e-3, batch=16, epochs=1, threads=1)
    clip = about["clips"][3]
    with pytest.raises(InputError, match=f"^features aus, clip {clip}, step 1: aus_2 is nan, not a finite number"):
        paper_tables.train(open_corpus(root), tmp_path, "aus", 0, quick, resources=feature_corpus.QUIET)
    assert not [path for path in (tmp_path / "runs").iterdir() if path.is_dir()], "a run folder without a run"


def test_a_simulated_clip_of_gaps_alone_is_empty_and_left_to_the_other_branch(places, tmp_path, capsys):
    simulation, root, work = places
    corpus, empty = open_corpus(root), {}
    for name in ("resnet18", "wav2vec2"):
        shutil.copytree(work / "packed" / name, tmp_path / "packed" / name)
    for partition in ("test", "train", "valid"):
        face, sound = (load(corpus, work, name, partition) for name in ("resnet18", "wav2vec2"))
        empty[partition] = int((face.lengths == 0).sum()) + 1
        gone, other = np.flatnonzero((face.lengths > 0) & (sound.lengths > 0))[:2]
        face.values[face.offsets[gone] : face.offsets[gone + 1]] = np.nan
        rewrite(packed_file(tmp_path, "resnet18", partition), face.values)
    missing = int(((face.lengths == 0) | (sound.lengths == 0)).sum()) + 1
    clips, quick = [face.clips[gone], face.clips[other]], Recipe("quick", learning_rate=3e-3,
                                                                 batch=16, epochs=2, threads=1)
    _, table3 = paper_tables.tables(corpus, tmp_path, seeds=1, rows=["resnet18", "wav2vec2"],
                                    recipe=quick, resources=replace(feature_corpus.QUIET, progress=True))
    said = next(line for line in capsys.readouterr().err.splitlines() if "valid clips have none" in line)
    assert said.startswith(f"features resnet18: {empty['valid']} of 120 valid") and clips[0] in said
    assert list(table3["missing"]) == [missing] and list(table3["clips"]) == [120]
    face, sound = (Run.open(paper_tables.train(corpus, tmp_path, name, 0, quick, resources=feature_corpus.QUIET))
                   for name in ("resnet18", "wav2vec2"))
    assert face.metrics["empty"] == empty
    (seen, face_there), (heard, sound_there) = face.predictions("valid", clips), sound.predictions("valid", clips)
    assert list(face_there) == [False, True] and sound_there.all()
    fused = late_fusion(seen, heard, present=[face_there, sound_there])
    assert fused == pytest.approx(np.array([heard[0], (seen[1] + heard[1]) / 2]))
