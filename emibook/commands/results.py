"""Commands for training, tables and predictions, and for studies of what is attainable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from emibook.commands import SHOWN, Device, Fold, Ratings, Root, Runs, Scheduler, Slurm, Work, command


@command
def train(
    root: Root,
    /,
    *,
    work: Work,
    features: str,
    seed: int = 0,
    recipe: str | None = None,
    variant: str | None = None,
    participants: Path | None = None,
    ratings: Ratings = None,
    fold: Fold = None,
    device: Device = None,
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Train one branch; the last line of the output is the folder of the run.

    Args:
        root: the corpus of WORK
        work: folder of the extracted features
        features: a feature set, or several of one modality joined with +, for example resnet18+aus
        seed: seed of the training; on one machine, the same seed gives the same numbers
        recipe: paper or small (default: small below 1,000 training clips)
        variant: an ablation, or several joined with +, for example no-positions (a wrong name lists all)
        participants: CSV with the columns clip,participant, for a data set that does not name them
        ratings: what the raters of the targets had, for CREMA-D (default: both)
        fold: validate on the K-th of N groups of participants instead of the corpus's own partition
        device: cpu or cuda (default: cuda if there is a GPU)
        tensorboard: write the learning curves as TensorBoard files too
    """
    from emibook.compute import Resources
    from emibook.corpus import open_corpus
    from emibook.experiments import train
    from emibook.experiments.runs import tensorboard_writer, write_tensorboard

    if tensorboard:
        tensorboard_writer()  # reports a missing package before the training, not after it
    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    run = train(corpus, work, features, seed=seed, recipe=recipe, variant=variant, resources=Resources(device=device))
    if tensorboard:
        write_tensorboard(run)
    print(run)
    return 0


@command
def tables(
    root: Root,
    /,
    *,
    work: Work,
    seeds: int = 3,
    rows: Annotated[tuple[str, ...], arg(metavar="NAME...")] = (),
    recipe: str | None = None,
    variant: str | None = None,
    participants: Path | None = None,
    ratings: Ratings = None,
    fold: Fold = None,
    device: Device = None,
    workers: int | None = None,
) -> int:
    """Make the runs that Tables 2 and 3 need, as far as they are missing, then write both tables.

    Args:
        root: a data set in any known layout
        work: folder to write
        seeds: runs per row
        rows: feature sets instead of the paper's rows, for example facenet egemaps; Table 3 has each visual set with
            each acoustic one; "resnet18 & aus" are trained separately and averaged
        recipe: paper or small (default: small below 1,000 training clips)
        variant: an ablation, or several joined with +, for example no-positions (a wrong name lists all)
        participants: CSV with the columns clip,participant, for a data set that does not name them
        ratings: what the raters of the targets had, for CREMA-D (default: both)
        fold: validate on the K-th of N groups of participants instead of the corpus's own partition
        device: cpu or cuda (default: cuda if there is a GPU)
        workers: worker processes (default: one per core; on a GPU one)
    """
    from emibook.compute import Resources
    from emibook.corpus import open_corpus
    from emibook.experiments import tables, tables_folder
    from emibook.studies.human.people import rows as people_rows

    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    shown = ["features", "modality", "paper", "mean", "low", "high", "seeds", "cross_fitted", "ensemble", "difference",
             "difference_low", "difference_high", "against", "weights"]
    for table in tables(corpus, work, seeds=seeds, rows=rows, recipe=recipe, variant=variant,
                        reference_rows=people_rows(corpus),
                        resources=Resources(device=device, workers=workers)):
        if len(table):
            print(table[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
            for over in sorted(set(table["interval_over"]) - {"participants"}):
                print(f"intervals over {over}; name the participants with --participants FILE")
    if corpus.note:
        print(f"{corpus.name}: {corpus.note}")
    print(tables_folder(work, variant))
    return 0


@command
def ceiling(
    root: Root, /, *, participants: Path | None = None, ratings: Ratings = None, seed: int = 0
) -> int:
    """Estimate from the labels alone how well any model could predict the labels of ROOT (noise ceiling).

    Args:
        root: a data set in any known layout; video and sound are not needed
        participants: CSV with the columns clip,participant, for a data set that does not name them
        ratings: what the raters of the targets had, for CREMA-D (default: both)
        seed: seed of the bootstrap
    """
    from emibook.studies.human.label_ceiling import ceiling, summary

    print(summary(ceiling(root, participants=participants, ratings=ratings, seed=seed)))
    return 0


@command
def people(
    root: Root,
    /,
    *,
    fetch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    out: Path | None = None,
    seed: int = 0,
) -> int:
    """Measure how well raters who only heard a clip, or only saw it, predict raters who had both.

    Args:
        root: a clone of CREMA-D, or a folder with its two small tables; video and sound are not needed
        fetch: download the two tables (4 MB) into ROOT if they are missing
        out: folder for all results as CSV files
        seed: seed of the bootstrap
    """
    from emibook.corpus import crema_d_votes
    from emibook.studies.human import people

    if fetch:
        crema_d_votes.fetch(root)
    results = people.from_root(root, seed=seed)
    for name in ("correlations", "differences"):
        print(results[name].drop(columns=["low_by_clip", "high_by_clip"], errors="ignore").to_string(
            float_format=lambda value: f"{value:.3f}"))
    if out:
        people.write(results, out)
        print(out)
    return 0


@command
def simulate(
    root: Root,
    /,
    *,
    work: Work,
    features: Annotated[tuple[str, ...], arg(metavar="NAME...")] = (),
    size: Literal["full", "reduced", "tiny"] = "reduced",
    patterns: Literal["mixed", "mean", "onset", "rhythm"] = "mixed",
    calibrated: Literal["attainable", "attained"] = "attainable",
    stronger: float = 1.0,
    seed: int = 0,
) -> int:
    """Simulate a corpus and features whose best predictor is known; emibook tables then runs on them.

    Args:
        root: folder of the corpus, which has no media
        work: folder of the features
        features: sets to simulate (default: all that the tables need); for --rows also official_vit and
            official_wav2vec2
        size: full, as the real data set (17 GB); reduced, with all clips, 64 features and 75 steps; or tiny
        patterns: where in time the emotions are encoded
        calibrated: what equals the paper's Table 2, the attainable optimum or the score of ridge regression
        stronger: factor on the attainable correlations
        seed: seed of the simulation
    """
    from emibook.studies.simulation.simulate import SIMULATED_SETS, CorpusPlan, simulate

    plan = CorpusPlan(features or SIMULATED_SETS, size, patterns, calibrated, stronger, seed)
    folder = simulate(root, work, plan)
    print(folder)
    return 0


@command
def rehearse(
    *,
    out: Path,
    size: Literal["full", "reduced", "tiny"] = "reduced",
    parts: Annotated[tuple[str, ...], arg(metavar="PART...")] = (),
) -> int:
    """Measure on simulated features, where the optimum is known, how much of it a recipe reaches.

    Args:
        out: folder for the tables and the trainings; a stopped rehearsal resumes
        size: size of the trainings; full needs a GPU, tiny tests all parts in minutes, without meaningful results
        parts: recovery, table3, tables, widths, differences, optimism, choices, crops (default: all)
    """
    from emibook.studies.rehearsal import rehearse

    for name, table in rehearse(out, size=size, parts=list(parts) or None).items():
        print(f"{name}:\n{table.to_string(index=False, float_format=lambda value: f'{value:.4f}')}")
    print(out)
    return 0


@command
def predict(
    clips: Annotated[Positional[tuple[Path, ...]], arg(metavar="CLIP...")],
    /,
    *,
    run: Runs,
    out: Path | None = None,
    pictures: Path | None = None,
) -> int:
    """Predict the targets of any clip from one run, or from several by late fusion.

    Args:
        clips: video files
        run: folders of runs; runs of one feature set are averaged, then the feature sets are fused
        out: CSV file to write too
        pictures: folder for one figure per clip, with its faces, sound and targets
    """
    from emibook.predict import predict

    table = predict(list(clips), list(run), out=out, pictures=pictures)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    return 0


@command
def submit(
    root: Root,
    /,
    *,
    run: Runs,
    out: Path,
    participants: Path | None = None,
    ratings: Ratings = None,
    fold: Fold = None,
) -> int:
    """Write a submission in the challenge's format: one row per test clip, in the range of the targets.

    Args:
        root: the corpus that the runs were trained on
        run: folders of runs; runs of one feature set are averaged, then the feature sets are fused
        out: CSV file to write
        participants: as in the training of the runs
        ratings: as in the training of the runs
        fold: as in the training of the runs
    """
    from emibook.corpus import open_corpus
    from emibook.predict import submit

    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    print(submit(corpus, list(run), out))
    return 0


@command
def sweep(
    notebook: Annotated[Positional[Path], arg(metavar="NOTEBOOK")],
    /,
    *,
    parameters: Path,
    out: Path,
    workers: int | None = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> int:
    """Run one notebook with many sets of parameters; runs that succeeded before are not repeated.

    Args:
        notebook: a percent file or an .ipynb with a cell tagged parameters
        parameters: YAML file, the name of each run with its parameters, or grid with lists of values
        out: folder for sweep.csv and one executed notebook per run; a failed one holds what ran before the error
        workers: worker processes (default: one per core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster that runs the workers
    """
    from emibook.book.sweeps import sweep
    from emibook.compute import Resources

    table = sweep(notebook, parameters, out, resources=Resources(workers=workers, scheduler=scheduler, slurm=slurm))
    failed = table[table["status"] == "failed"]
    for row in failed[:SHOWN].itertuples():
        print(f"failed: {row.run}: {row.error}", file=sys.stderr)
    print(f"{len(table) - len(failed)} ok, {len(failed)} failed")
    print(Path(out) / "sweep.csv")
    return 1 if len(failed) else 0
