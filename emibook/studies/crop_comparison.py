"""How a face is cropped, tried out: the puppet's clips, each warped upright and each boxed, and what that does to rows.

    a puppet corpus -> preprocess and extract, once a crop -> the rows' runs -> correlations, pair by pair

Both go through the same encoders, as a pretrained network would be used; the built-in ones were fitted on warped faces.
What comes of it says nothing about people.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas
from tqdm.auto import tqdm

from emibook.compute import Resources
from emibook.corpus import open_corpus
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


def compare(
    root: Path | str,
    work: Path | str,
    *,
    clips: int = 240,
    visual: Sequence[str] = VISUAL,
    weights: Mapping[str, str] | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """One row for each of ``visual``, alone and with ``mfcc``: its validation correlation with either crop.

    Columns: ``features``; ``warp``, ``box``, means over ``seeds`` and targets; ``difference`` of box from warp with
    its 95 % interval over participants and seeds, ``low, high``; ``seconds`` of the trainings. ``seed`` is the
    corpus's; ``weights`` as ``extract`` takes them; ``epochs`` as the recipe has unless given. ``root`` gets the
    corpus, ``work`` a folder a crop. What is finished is not made again.
    """
    root, work = Path(root), Path(work)
    make_corpus(root, clips=clips, seed=seed, progress=progress)
    corpus = open_corpus(root)
    recipe = recipe_for(corpus)
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    names = [*dict.fromkeys("+".join(visual).split("+")), SOUND]
    of_crop: dict[str, dict[str, list[Run]]] = {}
    for crop in (WARP, BOX):
        place = work / crop
        if crop == BOX and (work / WARP / "encoders").is_dir():  # fitted once, as a published network is
            shutil.copytree(work / WARP / "encoders", place / "encoders", dirs_exist_ok=True)
        preprocess(corpus, place, crop=crop, resources=Resources(progress=progress))
        extract(corpus, place, names, weights=dict(weights or {}), resources=Resources(progress=progress))
        of_crop[crop] = {
            name: [Run.open(train(corpus, place, name, each, recipe,
                                  resources=Resources(progress=False))) for each in range(seeds)]
            for name in tqdm([*visual, SOUND], desc=crop, unit="branch", disable=not progress)
        }
    valid = corpus.partition("valid")
    truth = valid[list(corpus.targets)].to_numpy(float)
    rows = []
    for branches in [(name,) for name in visual] + [(name, SOUND) for name in visual]:
        runs = {crop: [[made[name][each] for name in branches] for each in range(seeds)]
                for crop, made in of_crop.items()}  # fmt: skip
        said = {crop: [fuse(of_seed, valid["clip"]) for of_seed in every] for crop, every in runs.items()}
        gain = paired_difference(truth, said[BOX], said[WARP], valid["participant"], names=corpus.targets)
        scores = {crop: sum(mean_pearson(truth, each, names=corpus.targets) for each in every) / seeds
                  for crop, every in said.items()}  # fmt: skip
        taken = {run.folder: run.metrics["seconds"] for every in runs.values() for of_seed in every for run in of_seed}
        rows.append({"features": " & ".join(branches), **scores, "difference": gain.mean, "low": gain.low,
                     "high": gain.high, "seconds": round(sum(taken.values()), 1)})
    return pandas.DataFrame(rows)
