"""Commands from a corpus to its features."""

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
    """Write a corpus of synthetic faces and voices, as video files in the layout of the challenge's data set.

    Args:
        root: folder to write; a stopped run resumes
        clips: number of clips
        seed: the same seed gives the same bytes
        workers: worker processes (default: one per core)
    """
    from emibook.puppet.corpus import make_corpus

    print(make_corpus(root, clips=clips, seed=seed, workers=workers))
    return 0


@command
def check(root: Root, /) -> int:
    """Report the layout of ROOT, its counts, and every problem in it.

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
    """Resample every clip to 30 frames per second, detect, track and align faces (112x112), extract 16 kHz mono sound.

    A clip that cannot be used does not stop the run: its reason is in WORK/preprocess.csv. The exit code is 1 if no
    clip could be used.

    Args:
        root: a data set in any known layout, or any folder of videos
        work: folder to write; a stopped run resumes
        exhaustive: run the whole cascade on every frame, as in the paper, instead of tracking faces; applies to
            later runs on WORK too
        crop: warp rotates a face upright, box cuts an upright box around its landmarks (default: as in earlier runs on
            WORK, else warp)
        workers: worker processes (default: one per core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster that runs the workers
    """
    from emibook.compute import Resources
    from emibook.corpus import open_corpus
    from emibook.preprocess import preprocess

    table = preprocess(open_corpus(root), work, exhaustive=exhaustive or None, crop=crop,
                       resources=Resources(workers=workers, scheduler=scheduler, slurm=slurm))
    counts = table["status"].value_counts()
    print(", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "no_face", "failed")))
    failed, path = table[table["status"] == "failed"], Path(work) / "preprocess.csv"
    if len(failed) == len(table):
        first = failed.iloc[0]
        raise InputError(f"none of the {len(table)} clips of {root} can be used: clip {first['clip']}: {first['error']}"
                         + (f", and {len(table) - 1} more; see {path} for the reasons" if len(table) > 1 else ""))
    for row in failed[:SHOWN].itertuples():
        print(f"failed: clip {row.clip}: {row.error}", file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"failed: {len(failed) - SHOWN} more; see {path} for the reasons", file=sys.stderr)
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
    """Extract feature sequences from faces and sound, one safetensors file per clip and feature set.

    Args:
        root: the corpus of WORK
        work: folder of the preprocessed clips
        features: feature sets, for example resnet18 aus mfcc
        weights: source of a set's weights: builtin, pretrained, small, untrained or a file; for aus also openface,
            the path of OpenFace's FeatureExtraction, or a folder of its tables (or py-feat's), one <clip>.csv each
        aus_from: input of OpenFace, the aligned crops (as in the paper) or the whole video
        device: cpu or cuda (default: cuda if there is a GPU)
        workers: worker processes (default: one per core)
        scheduler: address of a running Dask scheduler to use instead
        slurm: partition of a SLURM cluster that runs the workers
    """
    from emibook.compute import Resources
    from emibook.corpus import open_corpus
    from emibook.device import on_device
    from emibook.features import extract, parse_weights

    if device is not None and not (device == "cuda" and (scheduler or slurm)):  # those workers may have a GPU
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
    """List the published weights that encoders can use, or download some of them.

    Args:
        action: list shows names, licences and which of them are on this machine; get downloads and verifies
        names: the weights to download
    """
    import pandas

    from emibook.features import download

    if (action == "get") != bool(names):
        raise InputError("give emibook weights to list them, or emibook weights get NAME... to download some")
    for name in names:
        print(download.get(name))
    if action == "list":
        table = pandas.DataFrame(download.overview())
        print(table.drop(columns=["what", "source"]).to_string(index=False))
        for row in table.to_dict("records"):
            print(f"{row['name']}: {row['what']}; {row['source']}")
    return 0
