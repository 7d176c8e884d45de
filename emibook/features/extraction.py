"""Feature extraction over a corpus: which features are missing, with which settings, and who computes them.

An encoder is called with what one clip has: visual ones with ``(images, times, landmarks)``, those of sound with
``(samples)``, and those that read files with a ``Clip``. Each returns a ``FeatureSequence``.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emibook import InputError
from emibook.compute import Resources, run, workers_on_gpu
from emibook.features import store
from emibook.features.base import Clip
from emibook.features.extraction_tasks import Plan, make_tasks, run_task
from emibook.features.registry import EXTRACTORS, known, weights_in
from emibook.features.weights import Weights
from emibook.files import lock

if TYPE_CHECKING:
    import pandas

    from emibook.corpus import Corpus

SAMPLE = 5  # clips on which an encoder that has two methods compares them
GPU_WORKER_BYTES = 6 * 2**30  # of a GPU: a worker's networks, and the largest batch in the widest of their layers


@dataclass(frozen=True)
class _Request:
    """The feature sets to extract, where from and where to; ``resources.device`` is decided."""

    corpus: Corpus
    work: Path
    names: tuple[str, ...]
    sources: dict[str, str]
    aus_from: str | None
    resources: Resources


def extract(
    corpus: Corpus,
    work: Path | str,
    features: list[str] | tuple[str, ...],
    *,
    weights: dict[str, str] | None = None,
    aus_from: str | None = None,
    resources: Resources = Resources(),  # noqa: B008 (frozen)
) -> dict[str, Path]:
    """Write ``WORK/features/<name>/<clip>.safetensors`` for every clip of a corpus.

    Clips that are done and no older than their faces or sound are skipped. Features that were made with other settings
    are moved to ``<name>@<fingerprint>/``. A clip that failed, or has nothing in the modality, gets a sequence of no
    rows. Progress, the chosen weights and the encoders' summaries are reported on standard error.

    On ``cuda`` every worker holds its encoders on the GPU, and encodes sound in batches of clips of similar length,
    which do not depend on what is done already; by default there are as many workers as the GPU has memory for. A new
    set of image features is computed in the fastest native precision of the device, and a set that WORK has already in
    its own: bfloat16 on a processor without it is emulated, and slow.

    Args:
        corpus: the corpus that WORK was made from.
        work: folder of the preprocessed clips.
        features: names of the feature sets.
        weights: source of the weights by name; without one it is what WORK already uses, else the extractor's default.
        aus_from: what OpenFace measures the action units on, ``crops`` or the whole ``video``; None is what WORK
            already has, else ``crops``.
        resources: the device and the workers.

    Returns:
        The folder of each feature set, by name.

    Raises:
        InputError: a name or source does not exist, or not in this corpus; a clip is not preprocessed; or, after all
            others are done, a clip could not be encoded.
    """
    from emibook.device import on_device

    names = _checked(features, weights or {}, aus_from)
    device = resources.device or on_device()
    request = _Request(corpus, Path(work), names, weights or {}, aus_from, replace(resources, device=device))
    rows = _preprocessed(corpus, request.work)
    crop_settings = _crop_settings(request.work) if any(EXTRACTORS[name].modality == "V" for name in names) else {}

    with lock(request.work / "features", progress=resources.progress):
        clips = _clips(corpus, rows, request.work)
        plan = Plan(request.work, {}, device)
        folders: dict[str, Path] = {}
        missing: dict[str, list[str]] = {clip: [] for clip in rows["clip"]}
        for name in names:
            _require(name, corpus)
            plan.weights[name] = _choose(name, request)
            folders[name] = _open(request, name, _settings(name, plan.weights[name], crop_settings))
            input_file = _input_file(name, plan, clips)
            for clip, lacking in missing.items():
                if not _is_done(store.clip_path(folders[name], clip), request.work, input_file(clip)):
                    lacking.append(name)
            if resources.progress:
                _report(name, plan.weights[name], missing, chosen=name in request.sources)
        failures = _run(make_tasks(rows, missing, device, clips), plan, resources)
    _raise_first(failures)
    for line in _summaries(plan, folders, list(missing)):
        if resources.progress:
            print(line, file=sys.stderr)
    return folders


def _checked(features: list[str] | tuple[str, ...], sources: dict[str, str], aus_from: str | None) -> tuple[str, ...]:
    """The names of the feature sets. Raises ``InputError`` for unknown names, and for sources of other sets."""
    names = tuple(dict.fromkeys(features))
    for name in [*names, *sources]:
        known(name)
    for name in sources:
        if name not in names:
            raise InputError(f"weights are given for {name}, which is not among the features {', '.join(names)}")
    if aus_from is not None and "aus" not in names:
        raise InputError(f"crops or video is given for aus, which is not among the features {', '.join(names)}")
    return names


def _run(tasks: list, plan: Plan, resources: Resources) -> list[tuple[tuple[str, ...], Exception]]:
    """Do the tasks; the clips of those that failed, each with the error."""
    workers = resources.workers
    if plan.device == "cuda" and tasks and workers is resources.scheduler is resources.slurm is None:
        workers = workers_on_gpu(GPU_WORKER_BYTES)
    results = run(functools.partial(run_task, plan=plan), tasks, label="extract",
                  resources=replace(resources, workers=workers))
    return [(task.clips, result) for task, result in results if isinstance(result, Exception)]


def _raise_first(failures: list[tuple[tuple[str, ...], Exception]]) -> None:
    if not failures:
        return
    clips, error = min(failures, key=lambda failure: failure[0])
    reason = str(error) or type(error).__name__
    first = f"clip {clips[0]}" if len(clips) == 1 else f"one of the clips {', '.join(clips)}"
    others = sum(len(clips) for clips, _ in failures) - len(clips)
    more = f" (and {others} more clips)" if others else ""
    raise InputError(f"{first}: no features: {reason.splitlines()[0]}{more}")


def _report(name: str, weights: Weights, missing: dict[str, list[str]], *, chosen: bool) -> None:
    """The weights and the number of clips to do, and how to get better weights where the reader chose none."""
    fitted = ", fitted on synthetic faces" if weights.kind == "builtin" else ""
    precision = f", in {weights.precision}" if weights.precision != "float32" else ""
    count = sum(name in lacking for lacking in missing.values())
    print(f"{name}: {weights.label} encoder{fitted}{precision}; {count} of {len(missing)} clips to do",
          file=sys.stderr)
    if not chosen and (advice := EXTRACTORS[name].advice(weights)):
        print(f"{name}: {advice}", file=sys.stderr)


def _summaries(plan: Plan, folders: dict[str, Path], clips: list[str]) -> list[str]:
    """A line per encoder that has a summary of all clips. Raises ``InputError`` where that finds the features wrong."""
    lines = []
    for name, folder in folders.items():
        if summary := getattr(EXTRACTORS[name].class_of(plan.weights[name].kind), "summary", None):
            lines.append(f"{name}: {summary([store.load_facts(store.clip_path(folder, clip)) for clip in clips])}")
    return lines


def _require(name: str, corpus: Corpus) -> None:
    """Raises ``InputError`` where a feature set is part of a data set, and this corpus does not have it."""
    if require := getattr(EXTRACTORS[name].encoder_class, "require", None):
        require(Path(corpus.root))


def _clips(corpus: Corpus, rows: pandas.DataFrame, work: Path) -> dict[str, Clip]:
    """Every clip by its id, for encoders that read files; ``SAMPLE`` of those with faces, evenly, are sampled."""
    import pandas

    seen = [clip for clip, faces in zip(rows["clip"], rows["faces"], strict=True) if int(faces) > 0]
    sampled = {seen[round(index)] for index in np.linspace(0, len(seen) - 1, min(SAMPLE, len(seen)))}
    lengths = {column: pandas.to_numeric(rows[column], errors="coerce").fillna(0) for column in
               ("seconds", "audio_seconds")}
    return {
        row.clip: Clip(row.clip, Path(row.path), Path(corpus.root), row.partition, work,
                       float(lengths["seconds"][row.clip]), float(lengths["audio_seconds"][row.clip]),
                       row.clip in sampled, rows["status"][row.clip] == "failed")
        for row in corpus.clips[["clip", "path", "partition"]].itertuples(index=False)
    }


def _input_file(name: str, plan: Plan, clips: dict[str, Clip]) -> Callable[[str], Path]:
    """The file of a clip from which its features are made."""
    encoder_class = EXTRACTORS[name].class_of(plan.weights[name].kind)
    if getattr(encoder_class, "reads_clip", False):
        encoder = encoder_class(plan.weights[name], plan.work / "encoders")
        return lambda clip: encoder.input_file(clips[clip])
    if EXTRACTORS[name].modality == "V":
        return lambda clip: plan.work / "faces" / f"{clip}.csv"
    return lambda clip: plan.work / "audio" / f"{clip}.wav"


def _preprocessed(corpus: Corpus, work: Path) -> pandas.DataFrame:
    """The rows of ``WORK/preprocess.csv`` for the clips of ``corpus``, indexed by clip.

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


def _choose(name: str, request: _Request) -> Weights:
    """The weights of the given source, or without one those that WORK uses, or else the default.

    Their precision is WORK's where it has the set already, so that another machine can complete it or use it whole.
    """
    encoders, extractor, source = request.work / "encoders", EXTRACTORS[name], request.sources.get(name)
    resolve = functools.partial(extractor.resolve, encoders=encoders, resources=request.resources,
                                aus_from=request.aus_from if name == "aus" else None)
    settings = store.read_settings(request.work, name)
    if settings is None:
        return replace(resolve(source), precision=extractor.precision(request.resources.device))
    used = weights_in(settings, store.feature_folder(request.work, name))
    if source is None and used.file and used.kind != "builtin":
        used.path(encoders)
        if name != "aus" or request.aus_from is None:
            return used
        from emibook.features import openface

        source = openface.program_of(used, encoders)
    return replace(resolve(source or used.kind), precision=used.precision)


def _is_done(path: Path, work: Path, input_file: Path) -> bool:
    """Whether ``path`` exists and is no older than the file that it was made from.

    A file outside of WORK counts from its change time, because unpacking an archive keeps the time of writing.
    """
    if not path.exists():
        return False
    if not input_file.exists():
        return True
    about = input_file.stat()
    changed = about.st_mtime if input_file.is_relative_to(work) else max(about.st_mtime, about.st_ctime)
    return path.stat().st_mtime >= changed


def _crop_settings(work: Path) -> dict[str, Any]:
    """How the faces of WORK were cropped, read before an encoder is fitted, which takes minutes."""
    from emibook.preprocess import read_settings  # loads a face detector, which sound does not need

    return read_settings(work)


def _settings(name: str, weights: Weights, crop_settings: dict[str, Any]) -> dict[str, Any]:
    """All that determines a feature set's numbers: the encoder, its weights and, for faces, the crops' settings."""
    settings = {"extractor": name, "version": EXTRACTORS[name].class_of(weights.kind).version,
                "weights": asdict(weights)}
    if crop_settings and EXTRACTORS[name].modality == "V":
        settings["preprocess"] = crop_settings
    return settings


def _open(request: _Request, name: str, settings: dict[str, Any]) -> Path:
    """The folder of these settings; a line on standard error where features with others are moved aside."""
    before = store.read_settings(request.work, name)
    folder = store.open_folder(request.work, name, settings)
    if request.resources.progress and before is not None and before != settings:
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        print(f"{name}: {' and '.join(changed)} changed; the features made before are now in "
              f"{name}@{store.fingerprint(before)}", file=sys.stderr)
    return folder
