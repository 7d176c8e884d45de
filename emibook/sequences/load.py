"""From feature sequences and labels to what a model trains on: one packed file a partition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emibook import InputError
from emibook.features import EXTRACTORS, store
from emibook.sequences.packed import LARGEST, Sequences, read, write
from emibook.sequences.timeline import PAPER_SEQUENCE, SequenceConfig, joined

if TYPE_CHECKING:
    from emibook.corpus import Corpus


NAMED = 5  # of the columns that differ


def load(
    corpus: Corpus, work: Path | str, features: str, partition: str, config: SequenceConfig = PAPER_SEQUENCE
) -> Sequences:
    """The clips of one partition in one feature set, or in several of one modality joined, as ``resnet18+aus``.

    They are packed into a file under ``WORK/packed``, which is mapped and serves as long as the clips' files are the
    same. Clips that are empty in the modality keep their place with no steps.

    Raises:
        InputError: an unknown feature set, sets of two modalities, clips without a file (how many, and the command),
            sets of two versions mixed, within a partition or across them, a value that is not finite or beyond what it
            is stored in.
    """
    work, names = Path(work), feature_names(features)
    options = config.of(modality(features))
    table = corpus.partition(partition)
    if table.empty:
        raise InputError(f"{corpus.root} has no clips in partition {partition!r}")
    clips = list(table["clip"])
    if is_drawn(work, features):
        values, offsets, about = _drawn(work, features, partition, clips, config)
    else:
        _require_files(corpus, work, names, clips, partition)
        digest = sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
        path = work / "packed" / features / f"{partition}-{digest}.safetensors"
        values, offsets, about = _packed(_Reader(corpus, work, features, config), path, clips)
    return Sequences(
        features=features,
        names=tuple(about["names"]),
        values=values,
        offsets=offsets,
        targets=table[list(corpus.targets)].to_numpy(np.float32),
        target_names=tuple(corpus.targets),
        clips=tuple(clips),
        participants=tuple(table["participant"]),
        weights=tuple(about["weights"]),
    )


def drawn_file(work: Path | str, features: str, partition: str) -> Path:
    """Where a feature set lies that was drawn and not extracted, joined ones as a set of their own.

    It is written by ``packing.write``, its ``about`` with ``names`` (feature,), ``weights`` (what the numbers are, one
    text), ``clips``, the partition's in their order, and all that tells one drawing from another. Such a set needs no
    media, faces or encoders.
    """
    return Path(work) / "packed" / features / f"{partition}.safetensors"


def is_drawn(work: Path | str, features: str) -> bool:
    """Whether WORK has the feature set as one that was drawn; see ``drawn_file``."""
    return drawn_file(work, features, "train").is_file()


def drawn_sets(work: Path | str) -> list[str]:
    """The feature sets in WORK that were drawn, joined ones too."""
    return sorted(path.parent.name for path in (Path(work) / "packed").glob("*/train.safetensors"))


def _drawn(
    work: Path, features: str, partition: str, clips: list[str], config: SequenceConfig
) -> tuple[np.ndarray, np.ndarray, dict]:
    path = drawn_file(work, features, partition)
    kind = modality(features)
    if config.of(kind) != PAPER_SEQUENCE.of(kind):
        raise InputError(f"features {features} were drawn as steps; they can be read in one way only")
    values, offsets, about = read(path)
    if about["clips"] != clips:
        raise InputError(f"{path} holds other clips than the corpus; draw it again")
    training = drawn_file(work, features, "train")
    of_training = read(training)[2]
    for what, key in (("columns", "names"), ("weights", "weights")):
        if about[key] != of_training[key]:
            raise InputError(f"{path} has other {what} than {training.name} beside it; draw it again")
    return values, offsets, about


def _packed(reader: _Reader, path: Path, clips: list[str]) -> tuple[np.ndarray, np.ndarray, dict]:
    """What is packed at ``path``, packed anew where that was not made of these files."""
    state = reader.state(clips)
    try:
        packed = read(path)
        if packed[2].get("state") == state:
            return packed
    except InputError:  # absent, or damaged
        pass
    reader.clip(reader.first)
    about = {"names": reader.columns, "weights": [made[1] for made in reader.made.values()], "state": state}
    write(path, map(reader.clip, clips), len(clips), about, reader.config.packed)
    return read(path)


class _Reader:
    """Reads the clips of a corpus one by one, and sees to it that one and the same extractor made them all.

    A partition is read by itself, so the clips of each are held against one and the same: the corpus's ``first`` that
    has its files.
    """

    def __init__(self, corpus: Corpus, work: Path, features: str, config: SequenceConfig) -> None:
        self.corpus, self.work, self.features, self.config = corpus, work, features, config
        self.first = next(clip for clip in corpus.clips["clip"] if not missing_files(work, features, [clip]))
        self.columns: tuple[str, ...] = ()
        self.made: dict[str, tuple] = {}

    def state(self, clips: list[str]) -> str:
        """Changes with the clips, their order, and any of their files or of the one that they are held against."""
        digest = sha256()
        for name in feature_names(self.features):
            folder = store.feature_folder(self.work, name)
            for clip in dict.fromkeys([self.first, *clips]):
                file = store.clip_path(folder, clip).stat()
                digest.update(f"{name}/{clip}/{file.st_size}/{file.st_mtime_ns}/{file.st_ino}\n".encode())
        return digest.hexdigest()[:16]

    def clip(self, clip: str) -> np.ndarray:
        """(step, feature) float32."""
        parts = [self._part(clip, name) for name in feature_names(self.features)]
        values, self.columns = joined(parts, modality(self.features), self.config)
        beyond, largest = np.fmax.reduce(np.abs(values), axis=None, initial=0.0), LARGEST[self.config.packed]
        if not beyond <= largest:
            raise InputError(f"clip {clip}, features {self.features}: a value of {beyond:g} is beyond "
                             f"{self.config.packed}'s {largest:g}; rescale the features"
                             + (", or take the variant packed-bfloat16" if self.config.packed == "float16" else ""))
        return values

    def _part(self, clip: str, name: str) -> store.FeatureSequence:
        path = store.clip_path(store.feature_folder(self.work, name), clip)
        try:
            part = store.load(path)
        except InputError as error:
            raise InputError(f"clip {clip}, features {name}: {error}") from None
        made = (part.extractor, part.weights, part.version, part.names)
        others = self.made.setdefault(name, made)
        if others != made:
            if made[:3] == others[:3]:
                told = _columns(part.names, others[3])
            else:
                told = (f"made by {part.extractor} {part.version} ({part.weights}), others by {others[0]} {others[2]} "
                        f"({others[1]})")
            raise InputError(f"clip {clip}, features {name}: {told}; delete {path.parent} and run "
                             f"{_extract_command(self.corpus, self.work, [name])}")
        return part


def _columns(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """How a clip's columns differ from those of the clips before it."""
    def listed(columns: list[str]) -> str:
        return ", ".join(columns[:NAMED]) + (f" and {len(columns) - NAMED} more" if len(columns) > NAMED else "")

    added, lacking = [each for each in names if each not in others], [each for each in others if each not in names]
    if not added and not lacking:
        place = next(place for place, pair in enumerate(zip(names, others, strict=True)) if pair[0] != pair[1])
        return f"column {place + 1} is {names[place]}, in others {others[place]}"
    return " and ".join(f"{what} {listed(each)}, which others {do}" for what, each, do in
                        (("has", added, "lack"), ("lacks", lacking, "have")) if each)


def feature_names(features: str) -> list[str]:
    """The extractors in ``resnet18+aus``. Raises ``InputError`` for one that does not exist, listing those that do."""
    names = features.split("+")
    for name in names:
        if name not in EXTRACTORS:
            raise InputError(f"no features named {name!r}; there are {', '.join(EXTRACTORS)}")
    if len(set(names)) < len(names):
        raise InputError(f"features {features}: one is named twice")
    return names


def modality(features: str) -> str:
    """``V`` or ``A``. Raises ``InputError`` where sets of both are joined: the two meet in late fusion."""
    found = {EXTRACTORS[name].modality for name in feature_names(features)}
    if len(found) > 1:
        raise InputError(f"features {features} join faces and sound; train a run for each, they are fused afterwards")
    return found.pop()


def missing_files(work: Path | str, features: str, clips: Sequence[str]) -> dict[str, list[str]]:
    """For every extractor in ``features``, the clips that have no file of it; extractors that have all are left out."""
    missing = {}
    for name in feature_names(features):
        folder = store.feature_folder(Path(work), name)
        absent = [clip for clip in clips if not store.clip_path(folder, clip).is_file()]
        if absent:
            missing[name] = absent
    return missing


def _require_files(corpus: Corpus, work: Path, names: list[str], clips: list[str], partition: str) -> None:
    missing = missing_files(work, "+".join(names), clips)
    for name, absent in missing.items():
        raise InputError(
            f"features {name}: {len(absent)} of {len(clips)} {partition} clips have no file in "
            f"{store.feature_folder(work, name)} (first {absent[0]}); "
            f"run {_extract_command(corpus, work, list(missing))}"
        )


def _extract_command(corpus: Corpus, work: Path | str, names: list[str]) -> str:
    return f"emibook extract {corpus.root} --work {work} --features {' '.join(names)}"
