"""From a corpus to its features."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from emibook import InputError
from emibook.commands import SHOWN, Device, Features, Root, Scheduler, Slurm, Work, command


@command
def make_corpus(root: Root, /, *, clips: int = 240, seed: int = 0, workers: int | None = None) -> int:
    """Write a corpus of drawn faces and made voices, as real video files in the data set's layout.

    Args:
        root: folder to write; a run that was stopped goes on
        clips: how many clips
        seed: the same seed gives the same bytes
        workers: worker processes (default: one a core)
    """
    from emibook.puppet.corpus import make_corpus

    print(make_corpus(root, clips=clips, seed=seed, workers=workers))
    return 0


@command
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


@command
def preprocess(
    root: Root,
    /,
    *,
    work: Work,
    exhaustive: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    crop: str | None = None,
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
        crop: warp, which turns a face upright, or box, an upright box about its landmarks (default: as WORK was
            made, else warp)
        workers: worker processes (default: one a core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster to ask for the workers
    """
    from emibook.corpus import open_corpus
    from emibook.preprocess import preprocess

    table = preprocess(open_corpus(root), work, exhaustive=exhaustive or None, crop=crop, workers=workers,
                       scheduler=scheduler, slurm=slurm)
    counts = table["status"].value_counts()
    print(", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "no_face", "failed")))
    failed, path = table[table["status"] == "failed"], Path(work) / "preprocess.csv"
    if len(failed) == len(table):
        first = failed.iloc[0]
        raise InputError(f"none of the {len(table)} clips of {root} can be used: clip {first['clip']}: {first['error']}"
                         + (f", and {len(table) - 1} more; the reasons are in {path}" if len(table) > 1 else ""))
    for row in failed[:SHOWN].itertuples():
        print(f"failed: clip {row.clip}: {row.error}", file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"failed: {len(failed) - SHOWN} more; the reasons are in the table", file=sys.stderr)
    print(path)
    return 0


@command
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
        aus_from: what OpenFace measures, the aligned crops (as in the paper) or the whole video
        device: cpu or cuda (default: a GPU where there is one)
        workers: worker processes (default: one a core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster to ask for the workers
    """
    from emibook.compute import Resources
    from emibook.corpus import open_corpus
    from emibook.device import on_device
    from emibook.features import extract, parse_weights

    if device is not None and not (device == "cuda" and (scheduler or slurm)):  # whose workers may have a GPU
        on_device(device)
    folders = extract(open_corpus(root), work, list(features), weights=parse_weights(weights), aus_from=aus_from,
                      resources=Resources(device, workers, scheduler, slurm))
    for folder in folders.values():
        print(folder)
    return 0


@command
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

    from emibook.features import download

    if (action == "get") != bool(names):
        raise InputError("emibook weights lists them; emibook weights get NAME... fetches some")
    for name in names:
        print(download.get(name))
    if action == "list":
        table = pandas.DataFrame(download.overview())
        print(table.drop(columns=["what", "source"]).to_string(index=False))
        for row in table.to_dict("records"):
            print(f"{row['name']}: {row['what']}; {row['source']}")
    return 0
