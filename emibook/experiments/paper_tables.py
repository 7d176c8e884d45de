"""Recipes and ablations of the paper's Tables 2 and 3 as data, and the way from a corpus to the tables.

Their rows are in ``rows``. Source: paper section 4.2 (training).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas

from emibook import InputError, compute
from emibook.compute import Resources
from emibook.corpus import Corpus, simulated
from emibook.device import on_device
from emibook.experiments.paper_rows import chosen_rows, has_official
from emibook.experiments.runs import Run, is_finished, make_run, run_folder, write_text
from emibook.experiments.scoring import rivals, score
from emibook.experiments.variants import BASE, BASELINE, Variant
from emibook.features import extract
from emibook.preprocess import preprocess
from emibook.sequences.load import drawn_file, drawn_sets, feature_names, is_drawn, load, modality
from emibook.sequences.packed import read
from emibook.sequences.timeline import SequenceConfig
from emibook.studies.human import people
from emibook.training.live_curves import LiveCurves
from emibook.training.loop import Recipe, require_labels

__all__ = ["ABLATIONS", "LR_SCALED", "IMPROVED", "IMPROVEMENTS", "RECIPES", "recipe_for", "tables", "train"]

# Rate, batch and patience of "paper" are the paper's; it states no number of epochs, no weights to start from (the
# TCN's are He et al.'s), no normalisation (features are standardised by the training partition), no dropout (none).
# "small" is ours: a few clips make less than one batch of 128, and the paper's rate would hardly move the weights.
RECIPES = {
    "paper": Recipe("paper", learning_rate=3e-5, batch=128, epochs=30, precision="native"),
    "small": Recipe("small", learning_rate=1e-3, batch=16, epochs=20, threads=1),
}
SMALL_BELOW = 1000  # training clips
NAMED = 5  # of the clips that lack something
MISSING_FEATURE_POLICY = {"train": "not trained on"} | dict.fromkeys(
    ("valid", "test"), "predicted as the training mean, in fusion by the other branch, and counted")
"""What becomes of a clip that is empty in a feature set."""

# What the paper leaves open, each as its difference from how this project reads it. Where the paper contradicts itself
# the comment says what speaks for the option. What OpenFace looks at, crops or whole videos, is decided before features
# lie in WORK (`emibook extract --aus-from`), so is how a face is cropped (`emibook preprocess --crop`), and whose ViT
# and wav2vec 2.0 features a row has by its name (``rows``).
ABLATIONS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        # Section 3.2.2 averages the final layer into one embedding; section 3.3 has a sequence.
        Variant("sound-mean", sequence={"sound": "mean"}),
        # No rate is given: 300 steps at the network's own 50 a second are the first 6 seconds.
        Variant("sound-own-rate", sequence={"sound": "own"}),
        Variant("uniform-sampling", sequence={"sampling": "uniform"}),
        Variant("gaps-kept", sequence={"gaps": "kept"}),
        # "Encoder has a dimension of 546", "the feature dimension in attention is 128": four heads of 32 out of 546.
        Variant("width-of-input", model={"channels": None, "attention": 128}),
        # The cited networks have residual blocks.
        Variant("residual-tcn", model={"residual": True}),
        Variant("no-positions", model={"positions": False}),
        Variant("last-step", model={"pooling": "last"}),
        Variant("attention-pooling", model={"pooling": "attention"}),
        Variant("dropout", model={"dropout": 0.1}),
        # "3e^{-5}" to the letter: 3 / e^5.
        Variant("rate-to-the-letter", recipe={"learning_rate": 3 * float(np.exp(-5))}),
        Variant("rate-1e-3", recipe={"learning_rate": 1e-3}),
        Variant("rate-3e-4", recipe={"learning_rate": 3e-4}),
        Variant("epochs-100", recipe={"epochs": 100}),
        Variant("features-as-they-come", recipe={"standardise": False}),
        # Not the paper's (section 3.6 states the squared error); what others train on for this metric.
        Variant("loss-pearson", recipe={"loss": "pearson"}),
        Variant("loss-ccc", recipe={"loss": "ccc"}),
    )
}

# Not the paper's either, but what its recipe lacks where the rehearsal (``recovery``) finds it short of what can be
# reached: shorter steps, more of them; blocks that pass on what they get; how much a channel swings beside its mean;
# and two ways to keep a network from learning its clips by heart.
IMPROVEMENTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("more-steps", recipe={"learning_rate": 1e-3, "batch": 32, "epochs": 14}),
        ABLATIONS["residual-tcn"],
        Variant("statistics-pooling", model={"pooling": "statistics"}),
        Variant("weight-decay", recipe={"decay": 1.0}),
        Variant("averaged-weights", recipe={"average": 0.998}),
    )
}
IMPROVED = replace(functools.reduce(Variant.__or__, IMPROVEMENTS.values()), name="mended")

# Neither is this: the paper's rate so many times, which needs fewer epochs. The first is enough where signals lie in
# the mean and are strong.
LR_SCALED: dict[str, Variant] = {
    "ten-times": replace(ABLATIONS["rate-3e-4"] | Variant(recipe={"epochs": 8}), name="ten-times"),
    "thirty-times": replace(ABLATIONS["rate-1e-3"] | Variant(recipe={"epochs": 10}), name="thirty-times"),
}

# Not of the paper's words: features beyond float16's range, or to the eight bits that a GPU multiplies, packed so.
PACKED = Variant("packed-bfloat16", sequence={"packed": "bfloat16"})


def recipe_for(corpus: Corpus, recipe: Recipe | str | None = None) -> Recipe:
    """The recipe of that name; without one ``small`` below 1,000 training clips, else ``paper``."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None:
        recipe = "small" if len(corpus.partition("train")) < SMALL_BELOW else "paper"
    if recipe not in RECIPES:
        raise InputError(f"no recipe named {recipe!r}; there are {', '.join(RECIPES)}")
    return RECIPES[recipe]


def variant_for(variant: Variant | str | None = None) -> Variant:
    """The ablation or mend of that name, or several joined by ``+``; without one the paper as this project reads it."""
    if isinstance(variant, Variant) or variant is None:
        return variant or BASE
    every = (BASE, *ABLATIONS.values(), *LR_SCALED.values(), *IMPROVEMENTS.values(), IMPROVED, PACKED)
    known = {each.name: each for each in every}
    parts = variant.split("+")
    if unknown := [name for name in parts if name not in known]:
        raise InputError(f"no variant named {unknown[0]!r}; there are {', '.join(known)}")
    return functools.reduce(Variant.__or__, (known[name] for name in parts))


def train(
    corpus: Corpus,
    work: Path | str,
    features: str,
    seed: int = 0,
    recipe: Recipe | str | None = None,
    variant: Variant | str | None = None,
    *,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch with one seed; the folder of its run, ``WORK/runs/<id>`` (``runs`` says what is in it).

    Clips that are not preprocessed or lack features are seen to first. A finished run is not repeated.

    ``features``: a feature set, several of one modality joined by ``+``, or a row of ``TABLE2`` as ``vit (baseline)``.
    ``variant``: one of ``ABLATIONS``, ``LR_SCALED`` or ``IMPROVEMENTS``, several joined by ``+``,
    ``mended``, which is all of
    ``IMPROVEMENTS``, or one of your own.

    Raises:
        InputError: fewer than three clips or no labels in a partition, a label that never varies, features, a recipe, a
            variant or a device that do not exist.
    """
    variant = variant_for(variant)
    chosen = _ready(corpus, Path(work), [features], recipe, device, workers, progress)
    return _runs(corpus, Path(work), [(features, seed)], chosen, variant, device, workers, progress)[
        features, seed].folder


def tables(
    corpus: Corpus,
    work: Path | str,
    *,
    seeds: int = 3,
    rows: Sequence[str] | None = None,
    recipe: Recipe | str | None = None,
    variant: Variant | str | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Tables 2 and 3 on ``corpus``: makes what is missing, then writes ``WORK/tables/table2.csv`` and ``table3.csv``.

    ``rows``: feature sets, see ``chosen_rows``. With a ``variant`` the tables go to ``WORK/tables/<variant>``.

    Columns: ``features, modality``; ``paper``, the paper's value, empty for rows that it has not; ``mean`` over seeds
    and targets; ``low, high``, its interval (95 %, ``evaluation.bootstrap_interval``); ``seeds``; ``weights``, what the
    encoders' numbers are; ``recipe``; ``corpus``; ``note``; ``clips``, validation clips, all of which count;
    ``missing``, those among them that are empty in a modality of the row (in a fused row the other branch carries
    them); ``interval_over``; ``dropped_draws``; each target's correlation, mean over seeds; ``honest``, the mean where
    rate and epoch were chosen on participants that were not scored (``scoring.honest``); ``averaged``, of the
    predictions averaged over the seeds, as ``predict.submit`` does; ``difference`` from the row ``against`` with its
    interval (``evaluation.paired_difference``); ``by_seed``, each seed's mean. But for ``honest`` all of it is of the
    validation partition on which the epoch was chosen as well. Where the corpus tells what people predicted who saw or
    heard less than those behind its labels, they have the last rows (``people.rows``).
    ``fusion.csv`` beside them holds for each row of Table 3 what could stand in the average's place, with weights that
    were fitted on other participants than they are scored on (``scoring.rivals``).

    Raises:
        InputError: as ``train``.
    """
    if seeds < 1:
        raise InputError(f"{seeds} seeds asked for; give 1 or more")
    work, variant = Path(work), variant_for(variant)
    wanted = dict(zip(("table2.csv", "table3.csv"), chosen_rows(rows, official=has_official(corpus)), strict=True))
    branches = list(dict.fromkeys(branch for table in wanted.values() for row in table for branch in row.branches))
    chosen = _ready(corpus, work, branches, recipe, device, workers, progress)
    items = [(branch, seed) for branch in branches for seed in range(seeds)]
    runs = _runs(corpus, work, items, chosen, variant, device, workers, progress)
    of_row = {
        row.features: [[runs[branch, seed] for branch in row.branches] for seed in range(seeds)]
        for table in wanted.values() for row in table
    }
    from emibook.figures import write_rows  # matplotlib, which the worker processes need not load

    made, folder = [], tables_folder(work, variant)
    for name, table in wanted.items():
        lines = []
        for row in table:
            against = row.against if row.against in of_row else None
            scored = score(of_row[row.features], of_row.get(against), corpus)
            lines.append({"features": row.features, "modality": row.modality, "paper": row.paper, **scored,
                          "against": against})
        lines += people.rows(corpus)[name] if lines else []
        made.append(pandas.DataFrame(lines))
        write_text(folder / name, made[-1].to_csv(index=False))
        if lines:
            write_rows(made[-1], folder, name.removesuffix(".csv"), paper=beside_paper(corpus))
    fused = [row.features for row in wanted["table3.csv"]]
    lines = [{"features": features, **line} for features in fused for line in rivals(of_row[features], corpus)]
    write_text(folder / "fusion.csv", pandas.DataFrame(lines).to_csv(index=False))
    return made[0], made[1]


def tables_folder(work: Path | str, variant: Variant | str | None = None) -> Path:
    """Where ``tables`` writes: ``WORK/tables``, and for a variant a folder of its own in it."""
    variant = variant_for(variant)
    return Path(work) / "tables" / ("" if variant == BASE else variant.name)


def beside_paper(corpus: Corpus) -> bool:
    """Whether the paper's values may be drawn beside results on ``corpus``: on the paper's own, and on no other."""
    return corpus.name == "hume-vidmimic2" and not corpus.note


def _ready(
    corpus: Corpus, work: Path, branches: list[str], recipe: Recipe | str | None, device: str | None,
    workers: int | None, progress: bool,
) -> Recipe:
    """The recipe, which is said, once nothing is left that would stop a long run at its end; features are all there."""
    chosen = recipe_for(corpus, recipe)
    on_device(device)
    features = [branch.removesuffix(BASELINE) for branch in branches]
    for each in features:
        modality(each)
    for partition in ("train", "valid"):
        rows = corpus.partition(partition)
        labels = rows[list(corpus.targets)].to_numpy(float)
        require_labels(f"{corpus.root}: {partition}", list(rows["clip"]), labels, corpus.targets)
    if (corpus.clips["path"] == "").all():
        _require_drawn(corpus, work, features)
    elif any(not is_drawn(work, each) for each in features):
        preprocess(corpus, work, workers=workers, progress=progress)
        names = list(dict.fromkeys(name for each in features for name in feature_names(each)))
        extract(corpus, work, names, resources=Resources(workers=workers, progress=progress))
    if progress:
        print(
            f"recipe {chosen.name} for {len(corpus.partition('train'))} training clips: rate {chosen.learning_rate:g}, "
            f"batch {chosen.batch}, {chosen.epochs} epochs",
            file=sys.stderr,
        )
    return chosen


def _require_drawn(corpus: Corpus, work: Path, features: list[str]) -> None:
    """Raise ``InputError`` where WORK lacks features of a corpus without media, or has another simulation's."""
    there = drawn_sets(work)
    command = f"emibook simulate {corpus.root} --work {work} --features"
    if absent := [each for each in dict.fromkeys(features) if each not in there]:
        raise InputError(f"features {', '.join(absent)} were not drawn in {work}; "
                         f"there are {', '.join(there) or 'none'}; "
                         f"{command} {' '.join(absent)} draws what can be simulated, with its own size and seed")
    if not simulated.recognises(corpus.root):  # drawn in memory
        return
    for path in (drawn_file(work, each, partition) for each in features for partition in MISSING_FEATURE_POLICY):
        if path.is_file() and not simulated.is_drawn_for(corpus.root, read(path)[2].get("simulation", "")):
            raise InputError(f"{path} was drawn for another simulation than {corpus.root}; give the work folder that "
                             f"was drawn with it, or draw it again: {command} {path.parent.name}, with "
                             "its own size and seed")


def _runs(
    corpus: Corpus, work: Path, items: list[tuple[str, int]], recipe: Recipe, variant: Variant, device: str | None,
    workers: int | None, progress: bool,
) -> dict[tuple[str, int], Run]:
    """The run of every (branch, seed). Trainings of one thread go side by side, others one after the other.

    On a GPU they go side by side where ``workers`` are asked for: one small network leaves most of it idle.
    """
    folders = {item: run_folder(corpus, work, *item, recipe, variant) for item in items}
    todo = [item for item, folder in folders.items() if not is_finished(folder)]
    for features in dict.fromkeys(branch.removesuffix(BASELINE) for branch, _ in todo):
        _pack(corpus, work, features, variant, progress)
    beside = (workers or 1) > 1 if on_device(device) == "cuda" else workers != 1 and recipe.threads == 1
    if len(todo) > 1 and beside:
        task = functools.partial(_make_run, corpus=corpus, work=work, recipe=recipe, variant=variant, device=device)
        results = list(compute.run(task, todo, label="train", unit="run", workers=workers, progress=progress,
                                   limits=compute.Limits(seconds=None, memory=None)))
        for (branch, seed), result in results:
            if isinstance(result, InputError):
                raise result
            if isinstance(result, Exception):
                raise RuntimeError(f"{branch}, seed {seed}: the training failed: {result}") from result
    else:
        for branch, seed in todo:
            with LiveCurves(f"{branch}, seed {seed}", progress):
                make_run(corpus, work, branch, seed, recipe, variant, device=device, progress=progress)
    return {item: Run.open(folder) for item, folder in folders.items()}


def _pack(corpus: Corpus, work: Path, features: str, variant: Variant, progress: bool) -> None:
    """Pack a feature set once for all its trainings, and say of which clips it has nothing and what becomes of them."""
    for partition, fate in MISSING_FEATURE_POLICY.items():
        if corpus.partition(partition).empty:
            continue
        part = load(corpus, work, features, partition, SequenceConfig(**variant.sequence))
        empty = [clip for clip, there in zip(part.clips, part.present, strict=True) if not there]
        if empty and progress:
            named = ", ".join(empty[:NAMED]) + (", ..." if len(empty) > NAMED else "")
            print(f"features {features}: {len(empty)} of {len(part)} {partition} clips have none ({named}); they are "
                  f"{fate}", file=sys.stderr)


def _make_run(
    item: tuple[str, int], *, corpus: Corpus, work: Path, recipe: Recipe, variant: Variant, device: str | None
) -> Path:
    """``make_run`` as a worker process calls it."""
    return make_run(corpus, work, *item, recipe, variant, device=device, progress=False)
