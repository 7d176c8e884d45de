"""The command line: every command is a function of the library, called with what was typed."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from emibook import InputError, __version__

# Threads that wait for each other sleep instead of spinning: where something else has a core, a network is trained
# several times as fast. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The library is imported inside each command, so that --help answers before torch and pandas could load.

DESCRIPTION = "From raw video to emotional mimicry intensities: the stages of arXiv 2403.11757, one command each."

Root = Annotated[Positional[Path], arg(metavar="ROOT")]
Work = Annotated[Path, arg(metavar="WORK")]
Features = Annotated[tuple[str, ...], arg(metavar="NAME...")]
Runs = Annotated[tuple[Path, ...], arg(metavar="RUN...")]
Scheduler = Annotated[str | None, arg(metavar="ADDRESS")]
Slurm = Annotated[str | None, arg(metavar="PARTITION")]
Device = Annotated[str | None, arg(metavar="cpu|cuda")]
Ratings = Literal["voice", "face", "both"] | None
Fold = Annotated[str | None, arg(metavar="K/N")]

SHOWN = 10
"""Failures told one by one; the others by their number."""

app = tyro.extras.SubcommandApp()


def _command(function: Callable[..., int]) -> Callable[..., int]:
    """Register a command. Parsing hands back the call instead of making it, so that complaints of the two differ."""

    @functools.wraps(function)
    def parsed(*values: object, **options: object) -> Callable[[], int]:
        return functools.partial(function, *values, **options)

    app.command(parsed, name=function.__name__.replace("_", "-"))
    return function


@_command
def make_corpus(root: Root, /, *, clips: int = 240, seed: int = 0, workers: int | None = None) -> int:
    """Write a corpus of drawn faces and made voices, as real video files in the data set's layout.

    Args:
        root: folder to write; a run that was stopped goes on
        clips: how many clips
        seed: the same seed gives the same bytes
        workers: worker processes (default: one a core)
    """
    from emibook.corpus.synthetic import make_corpus

    print(make_corpus(root, clips=clips, seed=seed, workers=workers))
    return 0


@_command
def check(root: Root, /) -> int:
    """Say which layout ROOT has and list everything in it that is not as it should be.

    Args:
        root: a data set in any known layout, or any folder of clips
    """
    from emibook.corpus import check

    report = check(root)
    print(f"layout: {report.layout}")
    for what, count in report.counts.items():
        print(f"{what}: {count}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"{len(report.problems)} problems")
    return 1 if report.problems else 0


@_command
def preprocess(
    root: Root,
    /,
    *,
    work: Work,
    exhaustive: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    workers: int | None = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> int:
    """Put every clip on the 30 fps clock: faces found, followed, aligned to 112x112; sound as 16 kHz mono.

    A clip that cannot be used is a row with its reason in WORK/preprocess.csv and stops nothing; the exit code is 1
    where no clip could be used.

    Args:
        root: a data set in any known layout, or any folder of videos
        work: folder to write; a run that was stopped goes on
        exhaustive: the full cascade on every frame, to the letter of the paper, instead of following a face;
            a WORK that was made so stays so
        workers: worker processes (default: one a core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster to ask for the workers
    """
    from emibook.corpus import open_corpus
    from emibook.preprocess import preprocess

    table = preprocess(open_corpus(root), work, exhaustive=exhaustive or None, workers=workers, scheduler=scheduler,
                       slurm=slurm)
    counts = table["status"].value_counts()
    print(", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "no_face", "failed")))
    failed = table[table["status"] == "failed"]
    for row in failed[:SHOWN].itertuples():
        print(f"failed: clip {row.clip}: {row.error}", file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"failed: {len(failed) - SHOWN} more; the reasons are in the table", file=sys.stderr)
    print(Path(work) / "preprocess.csv")
    return 1 if counts.get("failed", 0) == len(table) else 0


@_command
def extract(
    root: Root,
    /,
    *,
    work: Work,
    features: Features,
    weights: Annotated[tuple[str, ...], arg(metavar="NAME=SOURCE...")] = (),
    aus_from: Literal["crops", "video"] | None = None,
    device: Device = None,
    workers: int | None = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
) -> int:
    """Turn faces and sound into feature sequences, one safetensors file a clip and feature set.

    Args:
        root: the corpus that WORK was made from
        work: folder of the preprocessed clips
        features: feature sets, for example resnet18 aus mfcc
        weights: where a set's weights come from: builtin, pretrained, small, untrained or a file; of aus also openface,
            the path of OpenFace's FeatureExtraction, or a folder of its tables (or py-feat's), <clip>.csv each
        aus_from: what OpenFace looks at, the aligned crops (as the paper does) or the whole video
        device: cpu or cuda (default: a GPU where there is one)
        workers: worker processes (default: one a core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster to ask for the workers
    """
    from emibook.corpus import open_corpus
    from emibook.features import extract, parse_weights
    from emibook.training import on_device

    folders = extract(open_corpus(root), work, list(features), weights=parse_weights(weights), aus_from=aus_from,
                      device=device and on_device(device), workers=workers, scheduler=scheduler, slurm=slurm)
    for folder in folders.values():
        print(folder)
    return 0


@_command
def weights(
    action: Annotated[Positional[Literal["list", "get"]], arg(metavar="list|get")] = "list",
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME...")] = (),
    /,
) -> int:
    """List the published weights that encoders can use, or get some of them.

    Args:
        action: list says what there is, under which licence, and what this machine has; get fetches and verifies
        names: which weights to get
    """
    import pandas

    from emibook.features import fetching

    if (action == "get") != bool(names):
        raise InputError("emibook weights lists them; emibook weights get NAME... fetches some")
    for name in names:
        print(fetching.get(name))
    if action == "list":
        table = pandas.DataFrame(fetching.overview())
        print(table.drop(columns=["what", "source"]).to_string(index=False))
        for row in table.to_dict("records"):
            print(f"{row['name']}: {row['what']}; {row['source']}")
    return 0


@_command
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
    from emibook.experiments import train
    from emibook.runs import write_tensorboard

    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    run = train(corpus, work, features, seed=seed, recipe=recipe, variant=variant, device=device)
    if tensorboard:
        write_tensorboard(run)
    print(run)
    return 0


@_command
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
        rows: feature sets instead of the paper's rows, as facenet egemaps; Table 3 has each face with each sound
        recipe: paper or small (default: small below 1,000 training clips)
        variant: an ablation, or several joined by +, as no-positions (a wrong name lists them)
        participants: CSV with the columns clip,participant, where the data set names none
        ratings: what the raters behind the targets had, where the corpus tells (CREMA-D; default: both)
        fold: validate on the K-th of N groups of participants, not on the corpus's own partition
        device: cpu or cuda (default: a GPU where there is one)
        workers: worker processes (default: one a core; on a GPU one)
    """
    from emibook.corpus import open_corpus
    from emibook.experiments import tables, tables_folder

    corpus = open_corpus(root, participants=participants, ratings=ratings, fold=fold)
    shown = ["features", "modality", "paper", "mean", "low", "high", "seeds", "honest", "difference", "difference_low",
             "difference_high", "against", "weights"]
    for table in tables(corpus, work, seeds=seeds, rows=rows, recipe=recipe, variant=variant, device=device,
                        workers=workers):
        if len(table):
            print(table[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    if corpus.note:
        print(f"{corpus.name}: {corpus.note}")
    print(tables_folder(work, variant))
    return 0


@_command
def ceiling(root: Root, /, *, ratings: Ratings = None, seed: int = 0) -> int:
    """Say how well anything could predict the labels of ROOT, from the labels alone.

    Args:
        root: a data set in any known layout; its videos and sounds are not needed
        ratings: what the raters behind the targets had, where the corpus tells (CREMA-D; default: both)
        seed: the same seed gives the same intervals
    """
    from emibook.ceiling import ceiling, in_words

    print(in_words(ceiling(root, ratings=ratings, seed=seed)))
    return 0


@_command
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
    from emibook import people
    from emibook.corpus import votes

    if fetch:
        votes.fetch(root)
    found = people.from_root(root, seed=seed)
    for name in ("correlations", "differences"):
        print(found[name].drop(columns=["low_by_clip", "high_by_clip"], errors="ignore").to_string(
            float_format=lambda value: f"{value:.3f}"))
    if out:
        people.write(found, out)
        print(out)
    return 0


@_command
def simulate(
    root: Root,
    /,
    *,
    work: Work,
    size: Literal["full", "reduced", "tiny"] = "reduced",
    patterns: Literal["mixed", "mean", "onset", "rhythm"] = "mixed",
    stronger: float = 1.0,
    seed: int = 0,
) -> int:
    """Draw a corpus of numbers with features whose best predictor is known; emibook tables then runs on it.

    Args:
        root: folder of the corpus, which has no media
        work: folder of the features
        size: full as the real data set (25 GB), reduced with all clips, 64 features and 75 steps, or tiny
        patterns: where in time the emotions are planted
        stronger: attainable correlations, as a multiple of the paper's Table 2
        seed: the same seed draws the same numbers
    """
    from emibook.rehearsal import simulate

    print(simulate(root, work, size=size, patterns=patterns, stronger=stronger, seed=seed))
    return 0


@_command
def rehearse(
    *,
    out: Path,
    size: Literal["full", "reduced", "tiny"] = "reduced",
    parts: Annotated[tuple[str, ...], arg(metavar="PART...")] = (),
) -> int:
    """Measure on simulated features what real ones cannot tell: how much of what is attainable a recipe reaches.

    Args:
        out: folder for the tables and the trainings; a stopped rehearsal goes on
        size: of the trainings; full wants a GPU
        parts: recovery, table3, widths, differences, optimism, choices (default: all)
    """
    from emibook.rehearsal import rehearse

    for name, table in rehearse(out, size=size, parts=list(parts) or None).items():
        print(f"{name}:\n{table.to_string(index=False, float_format=lambda value: f'{value:.4f}')}")
    print(out)
    return 0


@_command
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


@_command
def submit(
    root: Root, /, *, run: Runs, out: Path, ratings: Ratings = None, fold: Fold = None
) -> int:
    """Write a submission in the challenge's form: every test clip once, in the range of the targets.

    Args:
        root: the corpus that the runs were trained on
        run: folders of runs; runs of one feature set are averaged, then feature sets are fused
        out: CSV to write
        ratings: as the runs were trained
        fold: as the runs were trained
    """
    from emibook.corpus import open_corpus
    from emibook.predict import submit

    print(submit(open_corpus(root, ratings=ratings, fold=fold), list(run), out))
    return 0


@_command
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
    from emibook.sweeps import sweep

    table = sweep(notebook, parameters, out, workers=workers, scheduler=scheduler, slurm=slurm)
    failed = table[table["status"] == "failed"]
    for row in failed[:SHOWN].itertuples():
        print(f"failed: {row.run}: {row.error}", file=sys.stderr)
    print(f"{len(table) - len(failed)} ok, {len(failed)} failed")
    print(Path(out) / "sweep.csv")
    return 1 if len(failed) else 0


@_command
def book(
    *,
    profile: Literal["builtin", "open", "paper"] = "builtin",
    root: Path | None = None,
    work: Path | None = None,
    chapter: Annotated[tuple[str, ...], arg(metavar="NAME...")] = (),
) -> int:
    """Run the chapters and build the site in _build/html.

    Args:
        profile: builtin makes its own corpus; open and paper take theirs from ROOT
        root: the data set (builtin: made where it is missing)
        work: folder to work in
        chapter: only these chapters (default: all)
    """
    from emibook.publish import book

    print(book(profile=profile, root=root, work=work, chapters=list(chapter) or None))
    return 0


@_command
def audit(*, work: Work | None = None) -> int:
    """Check every statement of the paper in book/claims.yml, and say what came of it.

    Args:
        work: a work folder; one that was made from Hume-Vidmimic2 turns what needs these data into verdicts
    """
    from emibook.claims import FIXED, audit, counts, fixed_before, read_claims

    paper = read_claims()
    findings = audit(paper, work)
    for claim in paper.claims:
        finding = findings[claim.id]
        print(f"{finding.verdict:23}  {claim.id}  ({claim.section}) {finding.found}")
    for verdict, count in counts(findings).items():
        print(f"{verdict:23} {count:4}")
    for (count, digest), same in zip(FIXED, fixed_before(paper.claims), strict=True):
        print(f"tolerances of the first {count} claims, before the first run: {digest} "
              f"({'unchanged' if same else 'CHANGED SINCE'})")
    return 0


@_command
def doctor() -> int:
    """Say what this machine has, what it lacks, and the command that mends it."""
    from emibook.doctor import examine

    findings = examine()
    for finding in findings:
        mark = "ok" if finding.good else "MISSING" if finding.needed else "without"
        print(f"{mark:8} {finding.what}: {finding.found}" + (f"  ->  {finding.mend}" if not finding.good else ""))
    return 1 if any(not finding.good and finding.needed for finding in findings) else 0


def _one_line(report: str) -> str:
    """The parser's boxed complaint as one line: what is wrong, without the help that follows it."""
    words = " ".join(re.sub("[╭╮╰╯│─•]", " ", report).split())
    for follows in ("Argument helptext:", "For full helptext"):
        words = words.partition(follows)[0]
    return words.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0; 1 where the input cannot be used; 2 where the command line was not understood."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(__version__)
        return 0
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command = app.cli(prog="emibook", description=DESCRIPTION, args=arguments)
    except SystemExit as stop:
        if stop.code:
            print(f"emibook: {_one_line(complaint.getvalue())}; see emibook --help", file=sys.stderr)
        return int(stop.code or 0)
    try:
        return command()
    except InputError as error:
        print(f"emibook: {error}", file=sys.stderr)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        print(f"emibook: {error.strerror or error}{place}", file=sys.stderr)
    except KeyboardInterrupt:
        print("emibook: stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
