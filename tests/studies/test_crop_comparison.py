"""Warped and boxed faces compared: the same clips and encoders, other crops, no work repeated."""

import numpy as np
import pandas
import pytest

from emibook.experiments.runs import Run
from emibook.preprocess import read_settings
from emibook.studies.crop_comparison import SOUND, CropStudy, compare

pytestmark = pytest.mark.slow
TINY = CropStudy(clips=24, visual=("resnet18",), weights={"resnet18": "untrained"}, epochs=1, seeds=2)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    return folder / "corpus", folder, compare(folder / "corpus", folder, TINY, progress=False)


def test_both_crops_are_scored_on_the_same_clips_pair_by_pair(places):
    _, _, found = places
    assert list(found["features"]) == ["resnet18", f"resnet18 & {SOUND}"]
    np.testing.assert_allclose(found["difference"], found["box"] - found["warp"], atol=1e-12)
    assert (found["low"] <= found["difference"]).all() and (found["difference"] <= found["high"]).all()
    assert (found["difference"] != 0).all() and found["seconds"].is_monotonic_increasing


def test_only_the_crop_differs(places):
    _, work, _ = places
    warp, box = work / "warp", work / "box"
    assert [read_settings(each)["crop"] for each in (warp, box)] == ["warp", "box"]
    pictures = [sorted(path.relative_to(each) for path in (each / "faces").rglob("*.jpg")) for each in (warp, box)]
    assert pictures[0] == pictures[1] and pictures[0]
    assert any((warp / path).read_bytes() != (box / path).read_bytes() for path in pictures[0])
    runs = [[Run.open(path.parent) for path in each.glob("runs/*/metrics.json")] for each in (warp, box)]
    assert [len(each) for each in runs] == [4, 4]  # two branches, two seeds
    sound = [{run.config["seed"]: run.predictions("valid", valid_of(run))[0] for run in each if run.branch == SOUND}
             for each in runs]  # fmt: skip
    for seed in (0, 1):
        np.testing.assert_array_equal(sound[0][seed], sound[1][seed])


def valid_of(run: Run) -> list[str]:
    return list(pandas.read_csv(run.folder / "predictions.csv", dtype={"clip": str})["clip"])


def test_what_is_finished_is_not_made_again(places):
    root, work, found = places
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.suffix in (".jpg", ".safetensors")}
    pandas.testing.assert_frame_equal(compare(root, work, TINY, progress=False), found)
    assert before == {path: path.stat().st_mtime_ns for path in before}
