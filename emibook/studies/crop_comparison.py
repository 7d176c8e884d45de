"""Two ways to crop a face, compared on the puppet: each clip warped upright and cut as a box.

    a puppet corpus -> preprocess and extract, once per crop -> runs -> correlations, pair by pair

Both crops go through the same encoders, as through a pretrained network; the built-in ones were fitted on warped faces.
The results say nothing about people.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas
from tqdm.auto import tqdm

from emibook.compute import Resources
from emibook.corpus import Corpus, open_corpus
from emibook.evaluation import paired_difference
from emibook.experiments.paper_tables import train
from emibook.experiments.recipes import recipe_for
from emibook.experiments.runs import Run
from emibook.experiments.scoring import fuse
from emibook.features import extract
from emibook.metrics import mean_pearson
from emibook.preprocess import preprocess
from emibook.puppet.corpus import make_corpus

WARP, BOX = "warp", "box"
SOUND = "mfcc"
VISUAL = ("resnet18", "aus", "resnet18+aus")


@dataclass(frozen=True)
class CropStudy:
    """``clips`` of a puppet corpus with this ``seed``, the ``visual`` feature sets and so many training ``seeds``.

    ``weights``: as ``extract`` takes them. ``epochs``: the recipe's, unless given.
    """

    clips: int = 240
    visual: tuple[str, ...] = VISUAL
    weights: Mapping[str, str] | None = None
    seeds: int = 3
    seed: int = 0
    epochs: int | None = None


def compare(
    root: Path | str, work: Path | str, study: CropStudy | None = None, *, progress: bool = True
) -> pandas.DataFrame:
    """One row per visual feature set, alone and fused with ``mfcc``: its validation correlation with either crop.

    Finished work is not repeated.

    Args:
        root: folder of the corpus.
        work: gets a work folder per crop.

    Returns:
        Columns ``features``; ``warp``, ``box``, means over seeds and targets; ``difference``, box less warp, with its
        95 % interval over participants and seeds, ``low, high``; ``seconds`` of the trainings.
    """
    root, work, study = Path(root), Path(work), study or CropStudy()
    make_corpus(root, clips=study.clips, seed=study.seed, progress=progress)
    corpus = open_corpus(root)
    runs = {crop: _runs_of_crop(corpus, work, crop, study, progress) for crop in (WARP, BOX)}
    valid = corpus.partition("valid")
    truth = valid[list(corpus.targets)].to_numpy(float)
    rows = []
    for branches in [(name,) for name in study.visual] + [(name, SOUND) for name in study.visual]:
        by_seed = {crop: [[by_name[name][seed] for name in branches] for seed in range(study.seeds)]
                   for crop, by_name in runs.items()}  # fmt: skip
        fused = {crop: [fuse(of_seed, valid["clip"]) for of_seed in seeds] for crop, seeds in by_seed.items()}
        gain = paired_difference(truth, fused[BOX], fused[WARP], valid["participant"], names=corpus.targets)
        scores = {crop: sum(mean_pearson(truth, predicted, names=corpus.targets) for predicted in seeds) / study.seeds
                  for crop, seeds in fused.items()}  # fmt: skip
        seconds = {run.folder: run.metrics["seconds"] for seeds in by_seed.values() for of_seed in seeds
                   for run in of_seed}  # fmt: skip
        rows.append({"features": " & ".join(branches), **scores, "difference": gain.mean, "low": gain.low,
                     "high": gain.high, "seconds": round(sum(seconds.values()), 1)})
    return pandas.DataFrame(rows)


def _runs_of_crop(corpus: Corpus, work: Path, crop: str, study: CropStudy, progress: bool) -> dict[str, list[Run]]:
    """The runs of every feature set on faces cropped in this way, one per seed."""
    recipe = recipe_for(corpus)
    recipe = replace(recipe, epochs=study.epochs or recipe.epochs)
    folder = work / crop
    if crop == BOX and (work / WARP / "encoders").is_dir():  # fitted once, as a published network is
        shutil.copytree(work / WARP / "encoders", folder / "encoders", dirs_exist_ok=True)
    preprocess(corpus, folder, crop=crop, resources=Resources(progress=progress))
    names = [*dict.fromkeys("+".join(study.visual).split("+")), SOUND]
    extract(corpus, folder, names, weights=dict(study.weights or {}), resources=Resources(progress=progress))
    return {
        name: [Run.open(train(corpus, folder, name, seed, recipe, resources=Resources(progress=False)))
               for seed in range(study.seeds)]
        for name in tqdm([*study.visual, SOUND], desc=crop, unit="branch", disable=not progress)
    }
