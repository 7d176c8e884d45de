"""Trainings, tables, predictions, and what they can be held against."""

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
    """Train one branch; the last line printed is the folder of the run.

    Args:
        root: the corpus that WORK was made from
        work: folder of the extracted features
        features: a feature set, or several of one modality joined, as resnet18+aus
        seed: the same seed on the same machine gives the same numbers
        recipe: paper or small (default: small below 1,000 training clips)
        variant: an ablation, or several joined by +, as no-positions (a wrong name lists them)
        participants: CSV with the columns clip,participant, where the data set names none
        ratings: what the raters behind the targets had, where the corpus tells (CREMA-D; default: both)
        fold: validate on the K-th of N groups of participants, not on the corpus's own partition
        device: cpu or cuda (default: a GPU where there is one)
        tensorboard: write the curves as TensorBoard files too
    """
    from emibook.corpus import open_corpus
    from emibook.experiments.paper_tables import train
    from emibook.experiments.runs import tensorboard_writer, write_tensorboard

    if tensorboard:
        tensorboard_writer()  # what is missing is said before the training, not after it
    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    run = train(corpus, work, features, seed=seed, recipe=recipe, variant=variant, device=device)
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
    """Make every run that Tables 2 and 3 need and is missing, then write both tables.

    Args:
        root: a data set in any known layout
        work: folder to write
        seeds: runs for each row
        rows: feature sets instead of the paper's rows, as facenet egemaps; Table 3 has each face with each sound;
            "resnet18 & aus" are trained apart and averaged
        recipe: paper or small (default: small below 1,000 training clips)
        variant: an ablation, or several joined by +, as no-positions (a wrong name lists them)
        participants: CSV with the columns clip,participant, where the data set names none
        ratings: what the raters behind the targets had, where the corpus tells (CREMA-D; default: both)
        fold: validate on the K-th of N groups of participants, not on the corpus's own partition
        device: cpu or cuda (default: a GPU where there is one)
        workers: worker processes (default: one a core; on a GPU one)
    """
    from emibook.corpus import open_corpus
    from emibook.experiments.paper_tables import tables, tables_folder

    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    shown = ["features", "modality", "paper", "mean", "low", "high", "seeds", "honest", "averaged", "difference",
             "difference_low", "difference_high", "against", "weights"]
    for table in tables(corpus, work, seeds=seeds, rows=rows, recipe=recipe, variant=variant, device=device,
                        workers=workers):
        if len(table):
            print(table[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
            for over in sorted(set(table["interval_over"]) - {"participants"}):
                print(f"intervals over {over}; --participants FILE says who is who")
    if corpus.note:
        print(f"{corpus.name}: {corpus.note}")
    print(tables_folder(work, variant))
    return 0


@command
def ceiling(
    root: Root, /, *, participants: Path | None = None, ratings: Ratings = None, seed: int = 0
) -> int:
    """Say how well anything could predict the labels of ROOT, from the labels alone.

    Args:
        root: a data set in any known layout; its videos and sounds are not needed
        participants: CSV with the columns clip,participant, where the data set names none
        ratings: what the raters behind the targets had, where the corpus tells (CREMA-D; default: both)
        seed: the same seed gives the same intervals
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
    """Say how well people who only heard a clip, or only saw it, predict people who had both.

    Args:
        root: a clone of CREMA-D, or a folder with its two small tables; videos and sounds are not needed
        fetch: download the two tables (4 MB) into ROOT where they are not there
        out: folder for all results as CSV files
        seed: the same seed gives the same intervals
    """
    from emibook.corpus import crema_d_votes
    from emibook.studies.human import people

    if fetch:
        crema_d_votes.fetch(root)
    found = people.from_root(root, seed=seed)
    for name in ("correlations", "differences"):
        print(found[name].drop(columns=["low_by_clip", "high_by_clip"], errors="ignore").to_string(
            float_format=lambda value: f"{value:.3f}"))
    if out:
        people.write(found, out)
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
    """Draw a corpus of numbers with features whose best predictor is known; emibook tables then runs on it.

    Args:
        root: folder of the corpus, which has no media
        work: folder of the features
        features: sets to draw (default: all that the tables need); official_vit and official_wav2vec2 are for --rows
        size: full as the real data set (17 GB), reduced with all clips, 64 features and 75 steps, or tiny
        patterns: where in time the emotions are planted
        calibrated: what equals the paper's Table 2: the best that is attainable, or what ridge regression attains
        stronger: attainable correlations, as a multiple of those
        seed: the same seed draws the same numbers
    """
    from emibook.studies.rehearsal import DRAWN, simulate

    folder = simulate(root, work, features=features or DRAWN, size=size, patterns=patterns, calibrated=calibrated,
                      stronger=stronger, seed=seed)  # fmt: skip
    print(folder)
    return 0


@command
def rehearse(
    *,
    out: Path,
    size: Literal["full", "reduced", "tiny"] = "reduced",
    parts: Annotated[tuple[str, ...], arg(metavar="PART...")] = (),
) -> int:
    """Measure on simulated features what real ones cannot tell: how much of what is attainable a recipe reaches.

    Args:
        out: folder for the tables and the trainings; a stopped rehearsal goes on
        size: of the trainings; full wants a GPU, tiny tries all of it in minutes and says nothing
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
    """Predict the corpus's targets for any clip from one run or from several, fused.

    Args:
        clips: video files
        run: folders of runs; runs of one feature set are averaged, then feature sets are fused
        out: CSV to write as well
        pictures: folder for one picture a clip: its faces, its sound, its targets
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
    """Write a submission in the challenge's form: every test clip once, in the range of the targets.

    Args:
        root: the corpus that the runs were trained on
        run: folders of runs; runs of one feature set are averaged, then feature sets are fused
        out: CSV to write
        participants: as the runs were trained
        ratings: as the runs were trained
        fold: as the runs were trained
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
    """Run one notebook many times with other parameters; what ended well is not run again.

    Args:
        notebook: a percent file or an .ipynb with a cell tagged parameters
        parameters: YAML, names of runs with their parameters, or grid with lists of values
        out: folder for one notebook a run, for those that stopped as far as they ran, and for sweep.csv
        workers: worker processes (default: one a core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster to ask for the workers
    """
    from emibook.book.sweeps import sweep

    table = sweep(notebook, parameters, out, workers=workers, scheduler=scheduler, slurm=slurm)
    failed = table[table["status"] == "failed"]
    for row in failed[:SHOWN].itertuples():
        print(f"failed: {row.run}: {row.error}", file=sys.stderr)
    print(f"{len(table) - len(failed)} ok, {len(failed)} failed")
    print(Path(out) / "sweep.csv")
    return 1 if len(failed) else 0
