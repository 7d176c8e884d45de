"""Feature extraction over a corpus: what is missing, in which settings, and the work of one worker.

An encoder is called with what one clip has: visual ones with ``(images, times, landmarks)``, those of sound with
``(samples)``, and those that read files with a ``Clip``; each returns a ``FeatureSequence``.
"""

from __future__ import annotations

import functools
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emibook import InputError
from emibook.compute import EndRun, Resources, run, workers_on_gpu
from emibook.features import store
from emibook.features.registry import EXTRACTORS, Clip, known, weights_in
from emibook.features.weights import Weights
from emibook.files import lock

if TYPE_CHECKING:
    import pandas

    from emibook.corpus import Corpus

SAMPLE = 5  # clips on which an encoder that has two ways goes both
GPU_WORKER_BYTES = 6 * 2**30  # of a GPU: a worker's networks, and the largest batch in the widest of their layers


def extract(
    corpus: Corpus,
    work: Path | str,
    features: list[str] | tuple[str, ...],
    *,
    weights: dict[str, str] | None = None,
    aus_from: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Write ``WORK/features/<name>/<clip>.safetensors`` for every clip of ``corpus``; the folders, by name.

    ``weights`` maps a name to its source; without one it is what WORK already uses, else the extractor's default, and
    a line on standard error says which. Clips that are done and no older than their faces or sound are skipped;
    features that were made with other settings are moved to ``<name>@<fingerprint>/``. A clip that failed, or has
    nothing in the modality, gets a sequence of no rows.

    ``aus_from``: what OpenFace looks at where it measures the action units, ``crops`` or the whole ``video``; None is
    what WORK already has, else ``crops``. What an encoder tells of all clips together is a line on standard error.

    ``device``: ``cpu`` or ``cuda``, by default ``cuda`` where this machine has one. On ``cuda`` every worker holds its
    encoders on the GPU, reads and decodes while others compute, and takes sound in batches of clips of similar length,
    which are the same whatever is done already; by default there are as many workers as the GPU has room for. A new set
    of image features is computed in the fastest precision that the device has, and a set that WORK has already in its
    own: bfloat16 on a processor without it is emulated, and slow. See ``emibook.compute.run`` for ``workers``,
    ``scheduler`` and ``slurm``.

    Raises ``InputError`` for a name or source that does not exist, or that this corpus has not, for clips that
    ``emibook preprocess`` has not been through, and, after all the others are done, where a clip could not be encoded.
    """
    work, weights = Path(work), weights or {}
    names = list(dict.fromkeys(features))
    for name in [*names, *weights]:
        known(name)
    for name in weights:
        if name not in names:
            raise InputError(f"weights are given for {name}, which is not among the features {', '.join(names)}")
    if aus_from is not None and "aus" not in names:
        raise InputError(f"what aus are made from is given, and they are not among the features {', '.join(names)}")
    clips = _preprocessed(corpus, work)
    cropped = _cropped(work) if any(EXTRACTORS[name].modality == "V" for name in names) else {}

    with lock(work / "features", progress=progress):
        encoders, chosen, folders = work / "encoders", {}, {}
        read = _clips(corpus, clips, work)
        device = device or _device()
        todo: dict[str, list[str]] = {clip: [] for clip in clips["clip"]}
        for name in names:
            _require(name, corpus)
            chosen[name] = _choose(name, weights.get(name), work, device, workers, progress,
                                   aus_from if name == "aus" else None)
            folders[name] = _open(work, name, _settings(name, chosen[name], cropped), progress)
            source = _sources(name, chosen[name], work, read)
            for clip in todo:
                if not _is_done(store.clip_path(folders[name], clip), work, source(clip)):
                    todo[clip].append(name)
            if progress:
                count = sum(name in missing for missing in todo.values())
                print(f"{name}: {_words(chosen[name])}; {count} of {len(todo)} clips to do", file=sys.stderr)
                if name not in weights and (advice := EXTRACTORS[name].without(chosen[name])):
                    print(f"{name}: {advice}", file=sys.stderr)

        items = _tasks(clips, todo, device, read)
        if device == "cuda" and items and workers is scheduler is slurm is None:
            workers = workers_on_gpu(GPU_WORKER_BYTES)
        task = functools.partial(_extract_task, work=work, encoders=encoders, chosen=chosen, device=device)
        resources = Resources(device, workers, scheduler, slurm, progress)
        problems = [
            (item.clips, result)
            for item, result in run(task, items, label="extract", resources=resources)
            if isinstance(result, Exception)
        ]
    if problems:
        batch, error = min(problems, key=lambda problem: problem[0])
        reason = str(error) or type(error).__name__
        first = f"clip {batch[0]}" if len(batch) == 1 else f"one of the clips {', '.join(batch)}"
        others = sum(len(batch) for batch, _ in problems) - len(batch)
        more = f" (and {others} more clips)" if others else ""
        raise InputError(f"{first}: no features: {reason.splitlines()[0]}{more}")
    for name, folder in folders.items():
        if summary := getattr(EXTRACTORS[name].class_of(chosen[name].kind), "summary", None):
            said = summary([store.load_facts(store.clip_path(folder, clip)) for clip in todo])
            if progress:
                print(f"{name}: {said}", file=sys.stderr)
    return folders


def _require(name: str, corpus: Corpus) -> None:
    """Raises ``InputError`` where a feature set is part of a data set, and this corpus has it not."""
    if require := getattr(EXTRACTORS[name].encoder_class, "require", None):
        require(Path(corpus.root))


def _clips(corpus: Corpus, clips: pandas.DataFrame, work: Path) -> dict[str, Clip]:
    """Every clip by its id, as an encoder that reads files gets it; a few, spread over all that have faces, sampled."""
    import pandas

    seen = [clip for clip, faces in zip(clips["clip"], clips["faces"], strict=True) if int(faces) > 0]
    sampled = {seen[round(at)] for at in np.linspace(0, len(seen) - 1, min(SAMPLE, len(seen)))}
    lengths = {column: pandas.to_numeric(clips[column], errors="coerce").fillna(0) for column in
               ("seconds", "audio_seconds")}
    return {
        row.clip: Clip(row.clip, Path(row.path), Path(corpus.root), row.partition, work,
                       float(lengths["seconds"][row.clip]), float(lengths["audio_seconds"][row.clip]),
                       row.clip in sampled, clips["status"][row.clip] == "failed")
        for row in corpus.clips[["clip", "path", "partition"]].itertuples(index=False)
    }


def _sources(name: str, weights: Weights, work: Path, clips: dict[str, Clip]) -> Callable[[str], Path]:
    """Where the file lies that a clip's features are made from."""
    encoder_class = EXTRACTORS[name].class_of(weights.kind)
    if getattr(encoder_class, "reads_clip", False):
        encoder = encoder_class(weights, work / "encoders")
        return lambda clip: encoder.made_from(clips[clip])
    if EXTRACTORS[name].modality == "V":
        return lambda clip: work / "faces" / f"{clip}.csv"
    return lambda clip: work / "audio" / f"{clip}.wav"


def _preprocessed(corpus: Corpus, work: Path) -> pandas.DataFrame:
    """The rows of ``WORK/preprocess.csv`` for the clips of ``corpus``.

    Raises ``InputError`` where some are missing, or WORK holds the clips of another corpus.
    """
    import pandas

    path, command = work / "preprocess.csv", f"run emibook preprocess {corpus.root} --work {work}"
    if not path.is_file():
        raise InputError(f"{work} has no preprocess.csv; {command}")
    if (work / "corpus.json").is_file():
        try:
            owner = json.loads((work / "corpus.json").read_text(encoding="utf-8"))["root"]
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{work / 'corpus.json'} is damaged; {command}") from None
        if owner != str(Path(corpus.root).resolve()):
            raise InputError(f"{work} holds the clips of {owner}, not of {corpus.root}; give another work folder")
    try:
        table = pandas.read_csv(path, dtype={"clip": str}, keep_default_na=False).set_index("clip", drop=False)
        table = table.astype({"status": str, "faces": int, "seconds": object, "audio_seconds": object})
    except (ValueError, KeyError):
        raise InputError(f"{path} is damaged; delete it and {command}") from None
    missing = [clip for clip in corpus.clips["clip"] if clip not in table.index]
    if missing:
        raise InputError(f"clip {missing[0]} is not in {path} ({len(missing)} of {len(corpus.clips)} are not); "
                         f"{command}")
    return table.loc[list(corpus.clips["clip"])]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _choose(name: str, source: str | None, work: Path, device: str, workers: int | None, progress: bool,
            aus_from: str | None = None) -> Weights:
    """The weights for ``source``, or without one those that WORK uses, or else the default.

    Their precision is WORK's where it has the set already, so that another machine can go on with it or use it whole.
    """
    encoders, extractor = work / "encoders", EXTRACTORS[name]
    settings = store.read_settings(work, name)
    if settings is None:
        chosen = extractor.resolve(source, encoders, aus_from=aus_from, workers=workers, progress=progress)
        return replace(chosen, precision=extractor.precision(device))
    used = weights_in(settings, store.feature_folder(work, name))
    if source is None and used.file and used.kind != "builtin":
        used.path(encoders)
        if aus_from is None:
            return used
        from emibook.features import openface

        source = openface.program_of(used, encoders)
    chosen = extractor.resolve(source or used.kind, encoders, aus_from=aus_from, workers=workers, progress=progress)
    return replace(chosen, precision=used.precision)


def _words(weights: Weights) -> str:
    fitted = ", fitted on drawings" if weights.kind == "builtin" else ""
    precision = f", in {weights.precision}" if weights.precision != "float32" else ""
    return f"{weights.label} encoder{fitted}{precision}"


def _is_done(path: Path, work: Path, made_from: Path) -> bool:
    """Whether ``path`` is there and no older than what it was made from.

    A file outside of WORK counts from when it came there, because unpacking keeps the time at which it was written.
    """
    if not path.exists():
        return False
    if not made_from.exists():
        return True
    about = made_from.stat()
    changed = about.st_mtime if made_from.is_relative_to(work) else max(about.st_mtime, about.st_ctime)
    return path.stat().st_mtime >= changed


@functools.lru_cache(maxsize=len(EXTRACTORS))
def _encoder(name: str, weights: Weights, encoders: Path, device: str) -> Callable[..., store.FeatureSequence]:
    """Loaded once a process."""
    return EXTRACTORS[name].class_of(weights.kind)(weights, encoders, device)


@dataclass(frozen=True)
class _Task:
    """What a worker does at a time: the feature sets ``names`` of ``clips``, of which those ``todo`` are written.

    One clip, so that its faces are read once for all feature sets; or, on a GPU, one batch of sounds and one set.
    """

    clips: tuple[str, ...]
    names: tuple[str, ...]
    todo: frozenset[str]
    failed: bool = False
    read: Clip | None = None


def _tasks(
    clips: pandas.DataFrame, todo: dict[str, list[str]], device: str, read: dict[str, Clip]
) -> list[_Task]:
    """The tasks for what is missing; ``todo`` maps a clip to the names that it lacks.

    Batches of sounds are drawn up from the whole corpus, not from what is missing: a row's last digits may depend on
    what is beside it, and a run that was killed has to end with the same bytes.
    """
    import pandas
    import torch

    from emibook.features.acoustic import BATCH, SAMPLE_RATE, batches

    most = BATCH[torch.device(device).type]
    seconds = pandas.to_numeric(clips["audio_seconds"], errors="coerce").fillna(0).sort_index()
    heard = seconds[seconds > 0]
    lengths = (heard * SAMPLE_RATE).astype(int).tolist()
    tasks, names = [], {name for missing in todo.values() for name in missing}
    alone = {clip: list(missing) for clip, missing in todo.items()}
    for name in sorted(names) if most else ():
        if hasattr(EXTRACTORS[name].encoder_class, "together"):
            for batch in batches(lengths, most):
                members = tuple(heard.index[batch])
                missing = frozenset(clip for clip in members if name in todo[clip])
                for clip in missing:
                    alone[clip].remove(name)
                if missing:
                    tasks.append(_Task(members, (name,), missing))
    failed = set(clips.loc[clips["status"] == "failed", "clip"])
    return tasks + [_Task((clip,), tuple(missing), frozenset([clip]), clip in failed, read[clip])
                    for clip, missing in alone.items() if missing]


def _extract_task(task: _Task, *, work: Path, encoders: Path, chosen: dict[str, Weights], device: str) -> None:
    if device != "cuda":
        return _encode(task, work, encoders, chosen, device)
    import torch

    if not torch.cuda.is_available():
        raise EndRun(f"{socket.gethostname()} has no GPU that torch can use; give --device cpu or other workers")
    try:
        _encode(task, work, encoders, chosen, device)
    except torch.OutOfMemoryError:  # the other workers', not the clip's
        raise EndRun(f"the memory of the GPU of {socket.gethostname()} is full; give fewer --workers, or --device cpu"
                     ) from None


def _encode(task: _Task, work: Path, encoders: Path, chosen: dict[str, Weights], device: str) -> None:
    from emibook.preprocess import read_audio, read_faces

    faces: Any = None
    sounds: list[Any] = []
    for name in task.names:
        encoder = _encoder(name, chosen[name], encoders, device)
        if getattr(encoder, "reads_clip", False):
            sequences = [encoder(task.read)]
        elif EXTRACTORS[name].modality == "V":
            if faces is None:
                nothing = np.zeros((0, 112, 112, 3), np.uint8), np.zeros(0), np.zeros((0, 5, 2), np.float32)
                faces = nothing if task.failed else read_faces(work, task.clips[0])
            sequences = [encoder(*faces)]
        else:
            sounds = sounds or [None if task.failed else read_audio(work, clip) for clip in task.clips]
            sequences = [encoder(sounds[0])] if len(sounds) == 1 else encoder.together(sounds)
        for clip, sequence in zip(task.clips, sequences, strict=True):
            if clip in task.todo:
                store.save(sequence, store.clip_path(store.feature_folder(work, name), clip))


def _cropped(work: Path) -> dict[str, Any]:
    """How the faces of WORK were cropped, read before an encoder is fitted, which takes minutes."""
    from emibook.preprocess import read_settings  # with a face detector, which sound need not wait for

    return read_settings(work)


def _settings(name: str, weights: Weights, cropped: dict[str, Any]) -> dict[str, Any]:
    """All that decides a feature set's numbers: the encoder, its weights and, for faces, how the crops were made."""
    settings = {"extractor": name, "version": EXTRACTORS[name].class_of(weights.kind).version,
                "weights": asdict(weights)}
    if cropped and EXTRACTORS[name].modality == "V":
        settings["preprocess"] = cropped
    return settings


def _open(work: Path, name: str, settings: dict[str, Any], progress: bool) -> Path:
    """The folder of these settings; a line on standard error where features with others are moved aside."""
    before = store.read_settings(work, name)
    folder = store.open_folder(work, name, settings)
    if progress and before is not None and before != settings:
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        print(f"{name}: {' and '.join(changed)} changed; the features made before are now in "
              f"{name}@{store.fingerprint(before)}", file=sys.stderr)
    return folder
