"""Simulated features on disk: what is mapped is what is drawn, and the whole of training runs on it."""

import numpy as np
import pandas
import pytest

from emibook import InputError, cli, experiments
from emibook.corpus import check, open_corpus, simulated
from emibook.dataset import load
from emibook.drawn import sequences, write_corpus
from emibook.recovery import Size
from emibook.rehearsal import simulate
from emibook.training import Recipe

SIZE = Size("test", (150, 120, 20), 8, 2.0, 8)
LEVELS = {"resnet18": 0.5, "aus": 0.5, "wav2vec2": 0.6, "resnet18+aus": 0.55}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    simulation = SIZE.plan(LEVELS, "mixed")
    write_corpus(simulation, folder / "corpus", folder / "work", LEVELS, progress=False)
    return simulation, folder / "corpus", folder / "work"


def test_what_is_loaded_is_what_was_drawn(places):
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
    made, draw = [], simulated.draw
    monkeypatch.setattr("emibook.drawn.simulated.draw", lambda *of: made.append(draw(*of)) or made[-1])
    alone, joined = (sequences(places[0], name, "valid") for name in ("resnet18", "resnet18+aus"))
    assert alone.values is made[0].values and alone.values.dtype == joined.values.dtype == np.float16


def test_the_corpus_is_checked_and_never_overwritten(places):
    simulation, root, work = places
    report = check(root)
    assert report.counts["train"] == 150 and not report.problems
    before = {path: path.stat().st_mtime_ns for path in [*root.iterdir(), *work.rglob("*.safetensors")]}
    write_corpus(simulation, root, work, LEVELS, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(InputError, match="something else"):
        write_corpus(SIZE.plan(LEVELS, "mixed", seed=1), root, work, LEVELS, progress=False)
    table = pandas.read_csv(root / "clips.csv", dtype={"clip": str})
    (root / "clips.csv").write_text(table.assign(Joy=2.0).to_csv(index=False))
    assert "label outside" in check(root).problems[0]
    (root / "clips.csv").write_text("clip\n1\n")
    with pytest.raises(InputError, match="cannot be read"):
        open_corpus(root)
    (root / "clips.csv").write_text(table.to_csv(index=False))


def test_both_tables_are_made_without_media(places):
    quick = Recipe("quick", rate=3e-3, batch=16, epochs=3, threads=1)
    made = experiments.tables(open_corpus(places[1]), places[2], seeds=2, rows=["resnet18+aus", "wav2vec2"],
                              recipe=quick, workers=1, progress=False)
    rows = pandas.concat(made).set_index("features")
    fused = rows.loc["resnet18+aus & wav2vec2"]
    assert fused["paper"] == 0.3288 and fused["corpus"] == "simulated" and "nothing about people" in fused["note"]
    assert fused["clips"] == 120 and rows.loc["wav2vec2", "mean"] > 0.1


def test_the_command_draws_all_that_the_tables_need(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emibook.rehearsal.SIZES", {"tiny": SIZE})
    where = [str(tmp_path / "corpus"), "--work", str(tmp_path / "work")]
    assert cli.main(["simulate", *where, "--size", "tiny", "--stronger", "2"]) == 0
    capsys.readouterr()
    drawn = {path.parent.name for path in (tmp_path / "work" / "packed").rglob("train.safetensors")}
    table2, _ = experiments.chosen_rows()
    assert {row.branches[0].removesuffix(" (baseline)") for row in table2} <= drawn
    # Others are added to the same corpus.
    assert cli.main(["simulate", *where, "--size", "tiny", "--stronger", "2", "--features", "official_vit",
                     "official_wav2vec2"]) == 0  # fmt: skip
    added = {path.parent.name for path in (tmp_path / "work" / "packed").rglob("train.safetensors")} - drawn
    assert added == {"official_vit", "official_wav2vec2"}
    with pytest.raises(InputError, match="no size 'huge'"):
        simulate(tmp_path / "a", tmp_path / "b", size="huge")
    with pytest.raises(InputError, match="no simulated features 'smell'"):
        simulate(tmp_path / "a", tmp_path / "b", features=["smell"], size="tiny")
