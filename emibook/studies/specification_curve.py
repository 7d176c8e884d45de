"""The specification curve: every other reading of the paper's words, alone and in random combinations.

    a few hundred simulated clips -> each variant's runs -> the rows' correlations -> what moved, and is the order kept?

At this size it is no statement about the full one: it shows which choices matter to a recipe of this kind at all. Three
ambiguities are not in it, because they are decided before features lie in WORK: how a face is cropped (``--crop box``),
whether OpenFace sees crops or whole videos (``--aus-from``), and whose ViT and wav2vec 2.0 features they are.
Source: Simonsohn, Simmons and Nelson (2020), Nature Human Behaviour 4, 1208-1214.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
from tqdm.auto import tqdm

from emibook import InputError
from emibook.compute import Resources
from emibook.corpus import Corpus, open_corpus
from emibook.evaluation import paired_difference
from emibook.experiments.recipes import ABLATIONS, RECIPES
from emibook.experiments.runs import Run
from emibook.experiments.scoring import fuse
from emibook.experiments.training_run import Experiment, make_run
from emibook.experiments.variants import BASE, Variant
from emibook.features import EXTRACTORS, store
from emibook.metrics import mean_pearson
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.corpus import WEIGHTS, settings_of, write_corpus
from emibook.studies.simulation.features import Simulation
from emibook.training.loop import Recipe

LEVELS = {"resnet18": 0.40, "aus": 0.45, "wav2vec2": 0.60, "resnet18+aus": 0.50}
"""Attainable correlations in the order of the paper's Table 2, but far higher, because clips are few."""
BRANCHES = tuple(LEVELS)
FUSED = tuple(f"{name} & wav2vec2" for name in BRANCHES if name != "wav2vec2")
ORDER = ("resnet18", "aus", "resnet18+aus", "wav2vec2", "resnet18 & wav2vec2", "aus & wav2vec2",
         "resnet18+aus & wav2vec2")  # fmt: skip
"""The paper's rows of its own features, from the lowest value to the highest."""
MOVED = ("moved", "moved_low", "moved_high")
RECIPE = Recipe("curve", learning_rate=6e-4, batch=8, epochs=6, threads=1)
CLIPS = (240, 200, 0)
WIDTHS = {"resnet18": 24, "aus": 12, "wav2vec2": 24}
STEPS, SPEED = 60, 8
"""The most steps of a clip, before a variant shortens it; sequences run so many times as fast as in reality."""
USED_STEPS = 30
GAP_CLIPS, GAP_LENGTH = 0.3, 0.2
"""The share of clips that have a gap without a face, and the gap's share of the clip."""
REDUCED = Variant("reduced", sequence={"steps": USED_STEPS})


@dataclass(frozen=True)
class CurveStudy:
    """``clips`` of the partitions, so many random ``combinations`` of variants, and the ``recipe`` of all runs."""

    clips: tuple[int, int, int] = CLIPS
    combinations: int = 12
    recipe: Recipe = RECIPE
    seed: int = 0


def simulate(root: Path, work: Path, *, clips: tuple[int, int, int] = CLIPS, seed: int = 0) -> None:
    """Write a small simulated corpus with one feature file per clip, at the extractors' own rates, with gaps.

    Variants differ in what they use of it: the sound's own rate, the gaps, which steps.
    """
    rates = {name: EXTRACTORS[name].rate or 30 for name in WIDTHS}
    plans = {rate: _plan(clips, rate, seed) for rate in set(rates.values())}
    write_corpus(plans[30], root)
    for name, rate in rates.items():
        settings = {"extractor": name, "version": "simulated", "simulation": settings_of(plans[rate]),
                    "weights": {"kind": "untrained", "file": "", "sha256": "", "seed": seed}}
        store.feature_folder(work, name).parent.mkdir(parents=True, exist_ok=True)
        folder = store.open_folder(work, name, settings)
        table = simulated_features.clips(plans[rate]).table
        for partition in ("train", "valid"):
            packed = simulated_features.draw(plans[rate], name, partition)
            of_partition = table.loc[table["partition"] == partition, "clip"]
            for index, clip in enumerate(of_partition):
                path = store.clip_path(folder, clip)
                if path.is_file():
                    continue
                values = packed.values[packed.offsets[index] : packed.offsets[index + 1]].astype(np.float32)
                times = np.arange(len(values)) / rate
                if simulated_features.MODALITY[name] == "V":
                    has_face = _face_mask(len(values), seed, int(clip))
                    values, times = values[has_face], times[has_face]
                store.save(store.FeatureSequence(values, times, packed.names, name, WEIGHTS, "simulated"), path)


def _plan(clips: tuple[int, ...], rate: float, seed: int) -> Simulation:
    steps = round(STEPS * rate / 30)
    return best_predictor.plan(LEVELS, widths=WIDTHS, clips=clips, steps=steps, frame_rate=rate / SPEED, seed=seed)


def _face_mask(steps: int, seed: int, clip: int) -> np.ndarray:
    """(step,) true where there is a face; the same for every visual set of a clip."""
    rng = np.random.default_rng([seed, clip])
    mask = np.ones(steps, bool)
    if rng.random() < GAP_CLIPS and steps > 5:
        first = rng.integers(1, max(2, round(steps * (1 - GAP_LENGTH)) - 1))
        mask[first : first + round(steps * GAP_LENGTH)] = False
    return mask


def variants(combinations: int, seed: int = 0) -> list[Variant]:
    """The base, every ablation alone, and random combinations of two to five that do not contradict each other."""
    chosen_variants = [BASE, *ABLATIONS.values()]
    rng = np.random.default_rng([seed, 1])
    names = set()
    while len(names) < combinations:
        chosen = rng.choice(list(ABLATIONS), rng.integers(2, 6), replace=False)
        try:
            joined = functools.reduce(Variant.__or__, (ABLATIONS[name] for name in sorted(chosen)))
        except InputError:  # two learning rates
            continue
        if joined.name not in names:
            names.add(joined.name)
            chosen_variants.append(joined)
    return chosen_variants


def curve(
    root: Path | str,
    work: Path | str,
    study: CurveStudy | None = None,
    *,
    chosen: Sequence[str] | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """One row per variant: the validation correlation of every row of ``ORDER``, and how the variant changes them.

    A variant whose training diverges, so that its loss is no number, has no correlations and keeps no order. Epochs
    count in units of the recipe: an ablation that asks for e of the paper's 30 gets e / 30 of the recipe's. Finished
    work is not repeated.

    Args:
        root: folder of the corpus, which is simulated where it is missing.
        work: folder of the features and runs.
        chosen: names of variants to make beside the base; by default all of them.

    Returns:
        Columns ``variant``; ``options``, how many differ from the base; ``moved``, the last fused row less the base's,
        and its 95 % interval ``moved_low, moved_high``, both scored on the same participants (of whom ``CLIPS`` has
        six, so it is rough); the rows of ``ORDER``; ``kept``, the share of pairs of rows in the paper's order;
        ``same_order``, whether all are; ``seconds``.
    """
    root, work, study = Path(root), Path(work), study or CurveStudy()
    simulate(root, work, clips=study.clips, seed=study.seed)
    corpus = open_corpus(root)
    valid = corpus.partition("valid")
    truth = valid[list(corpus.targets)].to_numpy(float)
    every = [variant for variant in variants(study.combinations, study.seed)
             if chosen is None or variant == BASE or variant.name in chosen]
    rows, base = [], None
    for variant in tqdm(every, desc="specification curve", unit="variant", disable=not progress):
        runs = _runs(corpus, work, REDUCED | _scaled(variant, study.recipe), study.recipe, study.seed)
        scores, moved = dict.fromkeys(ORDER, float("nan")), dict.fromkeys(MOVED, float("nan"))
        if runs:
            fused = {row: fuse([runs[name] for name in row.split(" & ")], valid["clip"]) for row in ORDER}
            scores = {row: mean_pearson(truth, predicted, names=corpus.targets) for row, predicted in fused.items()}
            base = fused[ORDER[-1]] if variant == BASE else base
            if base is not None:
                gain = paired_difference(truth, [fused[ORDER[-1]]], [base], valid["participant"], names=corpus.targets)
                moved = dict(zip(MOVED, (gain.mean, gain.low, gain.high), strict=True))
        seconds = sum(run.metrics["seconds"] for run in runs.values())
        options = len(variant.name.split("+")) if variant != BASE else 0
        rows.append({"variant": variant.name, "options": options, **moved, **scores,
                     **order_kept(list(scores.values())), "seconds": round(seconds, 1)})
    return pandas.DataFrame(rows)


def _runs(corpus: Corpus, work: Path, variant: Variant, recipe: Recipe, seed: int) -> dict[str, Run]:
    """The run of every branch; none at all where one of them diverges."""
    experiment, resources = Experiment.of(corpus, work, recipe, variant), Resources(device="cpu", progress=False)
    try:
        return {name: Run.open(make_run(experiment, name, seed, resources)) for name in BRANCHES}
    except InputError as error:
        if "not finite" not in str(error):  # divergence is a result too
            raise
        return {}


def _scaled(variant: Variant, recipe: Recipe) -> Variant:
    """The variant with its epochs in the proportion of the recipe's to the paper's."""
    if "epochs" not in variant.recipe:
        return variant
    epochs = round(variant.recipe["epochs"] * recipe.epochs / RECIPES["paper"].epochs)
    return replace(variant, recipe={**variant.recipe, "epochs": epochs})


def order_kept(values: Sequence[float]) -> dict[str, float | bool]:
    """The share of pairs of ``values`` that rise, and whether all do; a NaN is in no rising pair."""
    pairs = [low < high for index, low in enumerate(values) for high in values[index + 1 :]]
    return {"kept": float(np.mean(pairs)), "same_order": bool(all(pairs))}
