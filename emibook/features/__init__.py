"""Features: from face crops and sound to feature sequences, one file a clip and feature set.

``EXTRACTORS`` is the registry, ``extract`` runs it over a corpus. An encoder is called with what one clip has: visual
ones with ``(images, times, landmarks)``, those of sound with ``(samples)``; each returns a ``FeatureSequence``.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emibook import InputError
from emibook.cluster import run
from emibook.features import store
from emibook.features.weights import Weights, file_fingerprint, parse_weights

if TYPE_CHECKING:
    import pandas

    from emibook.corpus import Corpus

__all__ = ["EXTRACTORS", "Extractor", "copy_encoders", "extract", "load_encoder", "parse_weights"]

FILE = "FILE"  # stands for the path of a checkpoint in ``Extractor.sources``
SEED = 0  # of untrained weights


@dataclass(frozen=True)
class Extractor:
    """One feature set: what it is, and where its numbers may come from.

    ``modality`` is ``V`` (one row a face) or ``A`` (``rate`` rows a second of sound). ``sources`` are the texts that
    ``--weights NAME=SOURCE`` takes, the default first; ``FILE`` stands for the path of a checkpoint. ``encoder`` names
    the class that computes it, as ``module.Class`` within this package.
    """

    name: str
    modality: str
    width: int
    rate: float | None
    sources: tuple[str, ...]
    encoder: str
    about: str

    @property
    def encoder_class(self) -> Any:
        """The class; its module, and what that needs, is imported at the first use."""
        module, _, name = self.encoder.partition(".")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)

    def resolve(
        self, source: str | None, encoders: Path, *, workers: int | None = None, progress: bool = True
    ) -> Weights:
        """The weights that ``source`` means, made ready in the folder ``encoders``; None means the default source.

        Fits a built-in encoder where ``encoders`` has none yet (minutes), and keeps a copy of a checkpoint's
        trunk. Raises ``InputError`` for a source that this feature set does not have.
        """
        source = source or self.sources[0]
        if source not in self.sources or source == FILE:
            if FILE not in self.sources or source == "pretrained" or not Path(source).is_file():
                known = " or ".join("the path of a checkpoint" if each == FILE else each for each in self.sources)
                raise InputError(f"{self.name}: no weights called {source!r}; give {known}")
            return _keep(self.name, self.encoder_class.convert(Path(source)), encoders)
        if source == "builtin":
            from emibook.features import builtin

            return builtin.ready(self.name, encoders) or builtin.fit(
                self.name, encoders, workers=workers, progress=progress)
        return Weights(source, seed=SEED if source == "untrained" else 0)

    def load(self, source: str | None, encoders: Path, device: str = "cpu") -> Callable[..., store.FeatureSequence]:
        """The encoder with the weights that ``source`` means; see ``resolve``."""
        return self.encoder_class(self.resolve(source, Path(encoders)), Path(encoders), device)


EXTRACTORS: dict[str, Extractor] = {
    extractor.name: extractor
    for extractor in (
        Extractor("resnet18", "V", 512, None, ("builtin", FILE), "visual.ResNet18",
                  "ResNet-18 before its last layer, global average"),
        Extractor("vit", "V", 384, None, ("untrained",), "visual.ViT", "Vision Transformer, class token"),
        Extractor("aus", "V", 34, None, ("builtin",), "action_units.ActionUnits",
                  "17 action units, intensity and presence"),
        Extractor("wav2vec2", "A", 1024, 50.0, ("untrained",), "acoustic.Wav2Vec2", "wav2vec 2.0, last hidden states"),
        Extractor("mfcc", "A", 40, 100.0, ("formula",), "acoustic.MFCC",
                  "20 mel-frequency cepstral coefficients and their slopes"),
    )
}


def _known(name: str) -> Extractor:
    if name not in EXTRACTORS:
        raise InputError(f"no features called {name!r}; there are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def _keep(name: str, state: dict[str, Any], encoders: Path) -> Weights:
    """Write a checkpoint's trunk under the fingerprint of its tensors, so that equal weights are the same file."""
    from safetensors.torch import save_file

    encoders.mkdir(parents=True, exist_ok=True)
    temporary = encoders / f".{name}.{os.getpid()}"
    save_file(state, temporary)
    digest = file_fingerprint(temporary)
    file = f"{name}-{digest[:12]}.safetensors"
    os.replace(temporary, encoders / file)
    return Weights("file", file, digest)


def _settings(name: str, weights: Weights) -> dict[str, Any]:
    return {"extractor": name, "version": EXTRACTORS[name].encoder_class.version, "weights": asdict(weights)}


def _weights_in(settings: dict[str, Any], where: Path) -> Weights:
    try:
        return Weights(**settings["weights"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} does not say what its weights are ({error}); move it away") from None


def extract(
    corpus: Corpus,
    work: Path | str,
    features: list[str] | tuple[str, ...],
    *,
    weights: dict[str, str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Path]:
    """Write ``WORK/features/<name>/<clip>.safetensors`` for every clip of ``corpus``; the folders, by name.

    ``weights`` maps a name to its source; without one it is what WORK already uses, else the extractor's default, and
    a line on standard error says which. Clips that are done and no older than their faces or sound are skipped;
    features that were made with other settings are moved to ``<name>@<fingerprint>/``. A clip that failed, or has
    nothing in the modality, gets a sequence of no rows.

    Raises ``InputError`` for a name or source that does not exist, for clips that ``emibook preprocess`` has not been
    through, and, after all the others are done, where a clip could not be encoded.
    """
    work, weights = Path(work), weights or {}
    names = list(dict.fromkeys(features))
    for name in [*names, *weights]:
        _known(name)
    for name in weights:
        if name not in names:
            raise InputError(f"weights are given for {name}, which is not among the features {', '.join(names)}")
    clips = _preprocessed(corpus, work)

    encoders, chosen, folders = work / "encoders", {}, {}
    todo: dict[str, list[str]] = {clip: [] for clip in clips["clip"]}
    for name in names:
        chosen[name] = _choose(name, weights.get(name), work, workers, progress)
        folders[name] = store.open_folder(work, name, _settings(name, chosen[name]))
        for clip in todo:
            if not _is_done(store.clip_path(folders[name], clip), work, clip, EXTRACTORS[name].modality):
                todo[clip].append(name)
        if progress:
            count = sum(name in missing for missing in todo.values())
            print(f"{name}: {_words(chosen[name])}; {count} of {len(todo)} clips to do", file=sys.stderr)

    failed = set(clips.loc[clips["status"] == "failed", "clip"])
    items = [(clip, tuple(missing), clip in failed) for clip, missing in todo.items() if missing]
    task = functools.partial(_extract_clip, work=work, encoders=encoders, chosen=chosen, device=device)
    problems = [
        (item[0], result)
        for item, result in run(task, items, label="extract", workers=workers, scheduler=scheduler, progress=progress)
        if isinstance(result, Exception)
    ]
    if problems:
        clip, error = min(problems, key=lambda problem: problem[0])
        reason = str(error) or type(error).__name__
        more = f" (and {len(problems) - 1} more clips)" if len(problems) > 1 else ""
        raise InputError(f"clip {clip}: no features: {reason.splitlines()[0]}{more}")
    return folders


def _preprocessed(corpus: Corpus, work: Path) -> pandas.DataFrame:
    """The rows of ``WORK/preprocess.csv`` for the clips of ``corpus``.

    Raises ``InputError`` where some are missing, or WORK holds the clips of another corpus.
    """
    import pandas

    path, command = work / "preprocess.csv", f"run emibook preprocess {corpus.root} --work {work}"
    if not path.is_file():
        raise InputError(f"{work} has no preprocess.csv; {command}")
    if (work / "corpus.json").is_file():
        owner = json.loads((work / "corpus.json").read_text(encoding="utf-8")).get("root")
        if owner != str(Path(corpus.root).resolve()):
            raise InputError(f"{work} holds the clips of {owner}, not of {corpus.root}; give another work folder")
    table = pandas.read_csv(path, dtype={"clip": str}, keep_default_na=False).set_index("clip", drop=False)
    missing = [clip for clip in corpus.clips["clip"] if clip not in table.index]
    if missing:
        raise InputError(f"clip {missing[0]} is not in {path} ({len(missing)} of {len(corpus.clips)} are not); "
                         f"{command}")
    return table.loc[list(corpus.clips["clip"])]


def _choose(name: str, source: str | None, work: Path, workers: int | None, progress: bool) -> Weights:
    """The weights for ``source``, or without one those that WORK uses, or else the default."""
    encoders = work / "encoders"
    settings = store.read_settings(work, name)
    if source is None and settings is not None:
        used = _weights_in(settings, store.feature_folder(work, name))
        if used.kind == "file":
            used.path(encoders)
            return used
        source = used.kind
    return EXTRACTORS[name].resolve(source, encoders, workers=workers, progress=progress)


def _words(weights: Weights) -> str:
    return f"{weights.label} encoder" + (", fitted on drawings" if weights.kind == "builtin" else "")


def _is_done(path: Path, work: Path, clip: str, modality: str) -> bool:
    """Whether ``path`` is there and no older than what it was made from."""
    made_from = work / "faces" / f"{clip}.csv" if modality == "V" else work / "audio" / f"{clip}.wav"
    if not path.exists():
        return False
    return not made_from.exists() or path.stat().st_mtime >= made_from.stat().st_mtime


@functools.lru_cache(maxsize=len(EXTRACTORS))
def _encoder(name: str, weights: Weights, encoders: Path, device: str) -> Callable[..., store.FeatureSequence]:
    """Loaded once a process."""
    return EXTRACTORS[name].encoder_class(weights, encoders, device)


def _extract_clip(
    item: tuple[str, tuple[str, ...], bool], *, work: Path, encoders: Path, chosen: dict[str, Weights], device: str
) -> None:
    """Every missing feature set of one clip, so that its faces are read once."""
    from emibook.preprocess import read_audio, read_faces

    clip, names, failed = item
    inputs: dict[str, tuple[Any, ...]] = {}
    for name in names:
        modality = EXTRACTORS[name].modality
        if modality not in inputs and modality == "V":
            nothing = np.zeros((0, 112, 112, 3), np.uint8), np.zeros(0), np.zeros((0, 5, 2), np.float32)
            inputs["V"] = nothing if failed else read_faces(work, clip)
        elif modality not in inputs:
            inputs["A"] = (None if failed else read_audio(work, clip),)
        sequence = _encoder(name, chosen[name], encoders, device)(*inputs[modality])
        store.save(sequence, store.clip_path(store.feature_folder(work, name), clip))


def copy_encoders(work: Path | str, names: list[str] | tuple[str, ...], run_folder: Path | str) -> None:
    """Give a run the encoders that made WORK's features ``names``: ``RUN/encoders/<name>.json`` and its weights' file.

    The file is hard-linked where the file system can, else copied. Raises ``InputError`` where WORK has no such
    features, or the weights that made them are gone.
    """
    work, target = Path(work), Path(run_folder) / "encoders"
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        _known(name)
        settings = store.read_settings(work, name)
        if settings is None:
            raise InputError(f"{work} has no features {name}; run emibook extract --features {name}")
        weights = _weights_in(settings, store.feature_folder(work, name))
        if weights.file:
            _link(weights.path(work / "encoders"), target / weights.file)
        temporary = target / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        os.replace(temporary, target / f"{name}.json")


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # renaming one link of a file onto another leaves both


def load_encoder(name: str, encoders: Path | str, device: str = "cpu") -> Callable[..., store.FeatureSequence]:
    """The encoder that ``copy_encoders`` put into the folder ``encoders``. Raises ``InputError`` without one."""
    extractor, path = _known(name), Path(encoders) / f"{name}.json"
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} does not describe an encoder ({type(error).__name__}); train the run again") from None
    if settings.get("version") != extractor.encoder_class.version:
        raise InputError(f"{path} is of version {settings.get('version')} of {name}, this is version "
                         f"{extractor.encoder_class.version}; train the run again")
    return extractor.encoder_class(_weights_in(settings, path), Path(encoders), device)
