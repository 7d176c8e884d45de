"""From runs to the targets of any clip, and to the challenge's submission file.

A clip goes through the stages that made the runs' features: the 30 fps clock, faces, encoders, then each branch; runs
of one branch (its seeds) are averaged, then branches are fused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from emibook import InputError
from emibook.corpus import Corpus, hume_vidmimic2
from emibook.experiments.runs import Run, labels_of
from emibook.experiments.variants import BASELINE
from emibook.features import EXTRACTORS, load_encoder
from emibook.features.base import Clip
from emibook.features.store import FeatureSequence
from emibook.files import replacing, write_text
from emibook.fusion import late_fusion
from emibook.models import Branch
from emibook.preprocess import SAMPLE_RATE, preprocess_clip, read_audio, read_faces
from emibook.sequences.load import feature_names
from emibook.sequences.timeline import SequenceConfig, joined

SENSES = {"V": "face", "A": "sound"}
STRIP = 8  # faces in a picture


def predict(
    clips: Sequence[Path | str],
    runs: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    pictures: Path | str | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """The targets of clips that need not belong to any corpus.

    Args:
        clips: video files; a clip's id is its name without the ending.
        runs: run folders. Runs of the same features are averaged, then the features are fused (``late_fusion``).
        out: CSV to write as well.
        pictures: folder for one picture a clip, ``<clip>.png``: its faces, its sound, its targets.

    Returns:
        One row a clip: ``clip``, the targets, each moved into its range where the regression left it, ``corpus`` (what
        the runs were trained on) and ``note``: what has to be said of it, and of a clip that is empty in a modality. A
        clip without a face is predicted by the sound's runs alone, one without sound by the face's; where nothing is
        left it gets the training mean.

    Raises:
        InputError: no run, runs that do not belong together, a clip that is missing or cannot be decoded.
    """
    branches = _branches(runs)
    paths = _paths(clips)
    first = next(iter(branches.values()))[0].run
    corpus, note = first.config["corpus"], first.config["note"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clip, path in tqdm(paths.items(), desc="predict", disable=not progress or len(paths) == 1):
            seen = _see(clip, path, Path(folder))
            predicted, absent = _fused(branches, seen)
            row = {"clip": clip, **dict(zip(first.targets, predicted, strict=True)), "corpus": corpus}
            rows.append(row | {"note": "; ".join(filter(None, [note, absent, seen.error]))})
            if pictures is not None:
                _draw(Path(pictures) / f"{clip}.png", seen, rows[-1], first.targets, first.ranges)
    table = pandas.DataFrame(rows)
    if out is not None:
        write_text(Path(out), table.to_csv(index=False))
    return table


def submit(corpus: Corpus, runs: Sequence[Path | str], out: Path | str) -> Path:
    """Write the challenge's file, every test clip of ``corpus`` once, from runs that were trained on it; ``out``.

    The columns are ``Filename`` and the corpus's targets. The runs' own predictions of the test clips are averaged and
    fused as in ``predict``; what lies outside a target's range (``Corpus.ranges``) is moved to the nearer end. The file
    is read back and compared before this returns.

    Raises:
        InputError: no run, runs that do not belong together or to this corpus, or a test clip without a prediction.
    """
    groups = _grouped(runs)
    first = next(iter(groups.values()))[0]
    if tuple(first.targets) != tuple(corpus.targets) or first.config["corpus"] != corpus.name:
        raise InputError(f"{first.folder} was trained on {first.config['corpus']} ({', '.join(first.targets)}), "
                         f"not on {corpus.root}; give runs of this corpus")
    clips = list(corpus.partition("test")["clip"])
    if not clips:
        raise InputError(f"{corpus.root} has no test clips to submit")
    if first.config["labels"] != labels_of(corpus):
        raise InputError(f"{first.folder} was trained on a {corpus.name} corpus of other clips, partitions or labels "
                         f"than {corpus.root}; give runs of this one, and fold and ratings as they were trained")
    predictions, present = [], []
    for group in groups.values():
        each = [run.predictions("test", clips) for run in group]
        predictions.append(np.mean([predicted for predicted, _ in each], axis=0))
        present.append(each[0][1])
    fused = late_fusion(*predictions, present=present)
    table = pandas.DataFrame(fused, columns=list(corpus.targets))
    table.insert(0, "clip", clips)
    hume_vidmimic2.write_submission(Path(out), corpus, table)
    written = pandas.read_csv(out, dtype={"Filename": str}, keep_default_na=False).set_index("Filename")
    low, high = np.array(list(corpus.ranges().values())).T
    same = sorted(written.index) == sorted(clips) and list(written.columns) == list(corpus.targets)
    if not same or not np.allclose(written.loc[clips], fused.clip(low, high), rtol=1e-5, atol=1e-5):
        Path(out).unlink()
        raise RuntimeError(f"{out} did not hold what was written into it, and was removed")
    return Path(out)


@dataclass(frozen=True)
class _Member:
    """One run of a branch, ready to be asked."""

    run: Run
    model: Branch
    encoders: dict[str, Callable[..., FeatureSequence]]


@dataclass(frozen=True)
class _Seen:
    """What preprocessing found in a clip: faces (face, 112, 112, 3), their times and landmarks, samples of sound.

    ``error`` says why sound that is there could not be read; ``clip`` is for encoders that read its files themselves.
    """

    images: np.ndarray
    times: np.ndarray
    landmarks: np.ndarray
    samples: np.ndarray | None
    error: str
    clip: Clip


def _grouped(runs: Sequence[Path | str]) -> dict[str, list[Run]]:
    """The runs by branch, in the order given, after a check that they predict the same."""
    opened = [Run.open(folder) for folder in dict.fromkeys(Path(folder).resolve() for folder in runs)]
    if not opened:
        raise InputError("no run given; emibook train prints the folder of one")
    first = opened[0]
    for run in opened:
        for key in ("corpus", "targets", "labels"):
            if run.config[key] != first.config[key]:
                raise InputError(f"{run.folder} and {first.folder} were trained on different corpora ({key} differ); "
                                 "only runs of one corpus can be fused")
    groups: dict[str, list[Run]] = {}
    for run in opened:
        groups.setdefault(run.branch, []).append(run)
    return groups


def _branches(runs: Sequence[Path | str]) -> dict[str, list[_Member]]:
    """Models and encoders of every run; an encoder that several runs share is loaded once."""
    loaded: dict[tuple[str, str], Callable[..., FeatureSequence]] = {}

    def encoder(run: Run, name: str) -> Callable[..., FeatureSequence]:
        key = name, run.config["encoders"][name]
        if key not in loaded:
            loaded[key] = load_encoder(name, run.folder / "encoders")
        return loaded[key]

    def member(run: Run) -> _Member:
        names = feature_names(run.branch.removesuffix(BASELINE))
        if not (run.folder / "encoders").is_dir():
            raise InputError(f"{run.folder} holds no encoders, as a run on simulated features; it knows no clips")
        return _Member(run, run.model(), {name: encoder(run, name) for name in names})

    return {branch: [member(run) for run in group] for branch, group in _grouped(runs).items()}


def _paths(clips: Sequence[Path | str]) -> dict[str, Path]:
    """The files by their clips' ids. Raises ``InputError`` for one that is not there and for two of one id."""
    paths: dict[str, Path] = {}
    for path in map(Path, clips):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give video files")
        if path.stem in paths:
            raise InputError(f"{path} and {paths[path.stem]} would both be clip {path.stem}; rename one")
        paths[path.stem] = path
    if not paths:
        raise InputError("no clip given; give one or more video files")
    return paths


def _see(clip: str, path: Path, work: Path) -> _Seen:
    row = preprocess_clip(clip, path, None, work)
    if row["status"] == "failed":
        raise InputError(f"clip {clip}: {row['error']}")
    files = Clip(clip, path, path.parent, "", work, row.get("seconds") or 0.0, row.get("audio_seconds") or 0.0)
    return _Seen(*read_faces(work, clip), read_audio(work, clip), row["error"], files)


def _fused(branches: dict[str, list[_Member]], seen: _Seen) -> tuple[np.ndarray, str]:
    """(target,) the prediction of one clip, and what has to be said where it lacks a modality."""
    sequences: dict[int, FeatureSequence] = {}

    def encode(name: str, encoder: Callable[..., FeatureSequence]) -> FeatureSequence:
        if id(encoder) not in sequences:
            visual = EXTRACTORS[name].modality == "V"
            inputs = (seen.images, seen.times, seen.landmarks) if visual else (seen.samples,)
            if getattr(encoder, "reads_clip", False):
                inputs = (seen.clip,)
            sequences[id(encoder)] = encoder(*inputs)
        return sequences[id(encoder)]

    predictions, present = [], []
    for members in branches.values():
        each = []
        for member in members:
            parts = [encode(name, encoder) for name, encoder in member.encoders.items()]
            config = SequenceConfig(**member.run.config["sequence"])
            values, _ = joined(parts, member.run.config["modality"], config)
            each.append(_asked(member.model, values, config.packed))
        predictions.append(np.mean(each, axis=0)[None])
        present.append([len(values) > 0])
    fused = late_fusion(*predictions, present=present)[0]
    left = [branch for branch, there in zip(branches, present, strict=True) if there[0]]
    missing = {SENSES[branches[branch][0].run.config["modality"]] for branch in branches if branch not in left}
    low, high = next(iter(branches.values()))[0].run.ranges.T
    return fused.clip(low, high), _said(missing, left)


@torch.no_grad()
def _asked(model: Branch, values: np.ndarray, packed: str) -> np.ndarray:
    """(target,) what a model says of one clip, (step, feature), rounded as in training."""
    steps = max(1, len(values))
    batch = torch.zeros(1, steps, values.shape[1])
    batch[0, : len(values)] = torch.from_numpy(values).to(getattr(torch, packed)).float()
    mask = (torch.arange(steps)[None] < len(values)) & ~batch[..., 0].isnan()
    return model(batch, mask)[0].double().numpy()


def _said(missing: set[str], left: list[str]) -> str:
    if not missing:
        return ""
    found = "no " + " and no ".join(sorted(missing))
    return f"{found}: predicted from {' & '.join(left)} alone" if left else f"{found}: the training mean"


def _draw(path: Path, seen: _Seen, row: dict, targets: Sequence[str], ranges: np.ndarray) -> None:
    """Faces over sound over bars of the targets; below them what the runs were trained on."""
    figure = Figure(figsize=(6.4, 3.6 + 0.28 * len(targets)), layout="constrained", facecolor="white")
    strip, wave, bars = figure.subplots(3, 1, height_ratios=[1.2, 1, 0.28 * len(targets) + 0.3])
    figure.suptitle(f"clip {row['clip']}", fontsize=11)

    strip.set_axis_off()
    if len(seen.images):
        chosen = np.unique(np.linspace(0, len(seen.images) - 1, STRIP).round().astype(int))
        strip.imshow(np.concatenate(seen.images[chosen], axis=1))
        for place, face in enumerate(chosen):
            strip.text(112 * (place + 0.5), 120, f"{seen.times[face]:.1f} s", ha="center", va="top", fontsize=8)
    else:
        strip.text(0.5, 0.5, "no face", ha="center", va="center", transform=strip.transAxes)

    if seen.samples is not None and len(seen.samples):
        seconds = np.arange(len(seen.samples)) / SAMPLE_RATE
        wave.plot(seconds, seen.samples / 32768, linewidth=0.4, color="#0072B2")
        wave.set(xlim=(0, seconds[-1]), ylim=(-1, 1), xlabel="seconds", ylabel="sound")
    else:
        wave.set_axis_off()
        wave.text(0.5, 0.5, "no sound", ha="center", va="center", transform=wave.transAxes)

    bars.barh(targets, [row[target] for target in targets], color="#D55E00")
    low, high = min(0.0, *ranges[:, 0]), max(ranges[:, 1])
    bars.set(xlim=(low, high + 0.08 * (high - low)), xlabel="intensity")  # room for the number behind the longest bar
    bars.invert_yaxis()
    for place, target in enumerate(targets):
        bars.text(row[target] + 0.01 * (high - low), place, f"{row[target]:.2f}", va="center", fontsize=8)
    figure.supxlabel("; ".join(filter(None, [f"corpus: {row['corpus']}", row["note"]])), fontsize=8, wrap=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
