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
    if not extracted_sets(work, features):
        values, offsets, about = _given(corpus, work, features, partition, config)
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


def packed_file(work: Path | str, features: str, partition: str) -> Path:
    """Where a feature set lies that came packed instead of as a file per clip; joined ones are sets of their own.

    ``packed.write`` writes it, its ``about`` with ``names`` (feature,), ``weights`` (what the numbers are, one text),
    ``clips``, the partition's in their order, and ``made_with`` where it belongs to a simulated corpus
    (``Corpus.made_with``). Such a set needs no media, faces or encoders.
    """
    return Path(work) / "packed" / features / f"{partition}.safetensors"


def packed_sets(work: Path | str) -> list[str]:
    """The feature sets in WORK that came packed, joined ones too."""
    return sorted(path.parent.name for path in (Path(work) / "packed").glob("*/train.safetensors"))


def extracted_sets(work: Path | str, features: str) -> list[str]:
    """The feature sets with a file per clip that ``features`` is joined from; none where it came packed."""
    return [] if packed_file(work, features, "train").is_file() else feature_names(features)


def made_with(work: Path | str, features: str) -> dict[str, dict]:
    """What a feature set was made with: each extractor's settings, or what a set that came packed says of itself."""
    if names := extracted_sets(work, features):
        return {name: store.read_settings(Path(work), name) or {} for name in names}
    return {features: read(packed_file(work, features, "train"))[2]}


def _given(
    corpus: Corpus, work: Path, features: str, partition: str, config: SequenceConfig
) -> tuple[np.ndarray, np.ndarray, dict]:
    """A partition of a set that came packed, if it is this corpus's and all of it is of one kind."""
    path, kind = packed_file(work, features, partition), modality(features)
    if config.of(kind) != PAPER_SEQUENCE.of(kind):
        raise InputError(f"features {features} came as packed steps; they can be read in one way only")
    values, offsets, about = read(path)
    if about["clips"] != list(corpus.partition(partition)["clip"]):
        raise InputError(f"{path} holds other clips than the corpus; make it again")
    if corpus.made_with and about.get("made_with") != corpus.made_with:
        raise InputError(f"{path} belongs to another simulation than {corpus.root}; give the work folder that was "
                         f"made with it, or run emibook simulate {corpus.root} --work {work} --features {features} "
                         "with its own size and seed")
    training = packed_file(work, features, "train")
    of_training = read(training)[2]
    for what, key in (("columns", "names"), ("weights", "weights")):
        if about[key] != of_training[key]:
            raise InputError(f"{path} has other {what} than {training.name} beside it; make it again")
    return values, offsets, about


def _packed(reader: _Reader, path: Path, clips: list[str]) -> tuple[np.ndarray, np.ndarray, dict]:
    """What is packed at ``path``, packed again where it was not made from these files."""
    state = reader.state(clips)
    try:
        packed = read(path)
        if packed[2].get("state") == state:
            return packed
    except InputError:  # absent, or damaged
        pass
    reader.clip(reader.first)
    about = {"names": reader.columns, "weights": [origin[1] for origin in reader.origins.values()], "state": state}
    write(path, map(reader.clip, clips), len(clips), about, reader.config.packed)
    return read(path)


class _Reader:
    """Reads the clips of a corpus one by one, and refuses clips that another extractor made.

    A partition is read by itself, so the clips of each are compared with the same one: the corpus's ``first`` clip
    that has its files.
    """

    def __init__(self, corpus: Corpus, work: Path, features: str, config: SequenceConfig) -> None:
        self.corpus, self.work, self.features, self.config = corpus, work, features, config
        self.first = next(clip for clip in corpus.clips["clip"] if not missing_files(work, features, [clip]))
        self.columns: tuple[str, ...] = ()
        self.origins: dict[str, tuple] = {}

    def state(self, clips: list[str]) -> str:
        """Changes with the clips, their order, and any of their files or of the one that they are compared with."""
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
        magnitude, largest = np.fmax.reduce(np.abs(values), axis=None, initial=0.0), LARGEST[self.config.packed]
        if not magnitude <= largest:
            raise InputError(f"clip {clip}, features {self.features}: a value of {magnitude:g} is beyond "
                             f"{self.config.packed}'s {largest:g}; rescale the features"
                             + (", or take the variant packed-bfloat16" if self.config.packed == "float16" else ""))
        return values

    def _part(self, clip: str, name: str) -> store.FeatureSequence:
        path = store.clip_path(store.feature_folder(self.work, name), clip)
        try:
            part = store.load(path)
        except InputError as error:
            raise InputError(f"clip {clip}, features {name}: {error}") from None
        origin = (part.extractor, part.weights, part.version, part.names)
        others = self.origins.setdefault(name, origin)
        if others != origin:
            if origin[:3] == others[:3]:
                difference = _columns(part.names, others[3])
            else:
                difference = (f"made by {part.extractor} {part.version} ({part.weights}), others by {others[0]} "
                              f"{others[2]} ({others[1]})")
            raise InputError(f"clip {clip}, features {name}: {difference}; delete {path.parent} and run "
                             f"{_extract_command(self.corpus, self.work, [name])}")
        return part


def _columns(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """How a clip's columns differ from those of the clips before it."""
    def listed(columns: list[str]) -> str:
        return ", ".join(columns[:NAMED]) + (f" and {len(columns) - NAMED} more" if len(columns) > NAMED else "")

    added, lacking = [name for name in names if name not in others], [name for name in others if name not in names]
    if not added and not lacking:
        index = next(index for index, pair in enumerate(zip(names, others, strict=True)) if pair[0] != pair[1])
        return f"column {index + 1} is {names[index]}, in others {others[index]}"
    return " and ".join(f"{verb} {listed(columns)}, which others {others_do}" for verb, columns, others_do in
                        (("has", added, "lack"), ("lacks", lacking, "have")) if columns)


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
    modalities = {EXTRACTORS[name].modality for name in feature_names(features)}
    if len(modalities) > 1:
        raise InputError(f"features {features} join faces and sound; train a run for each, they are fused afterwards")
    return modalities.pop()


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
