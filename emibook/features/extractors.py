"""The registry of feature sets, the weights that their sources mean, and the encoders that a run carries along."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emibook import InputError
from emibook.features import fetching, store
from emibook.features.weights import Weights, file_fingerprint

FILE = "FILE"  # stands for the path of a checkpoint in ``Extractor.sources``
SEED = 0  # of untrained weights


@dataclass(frozen=True)
class Extractor:
    """One feature set: what it is, and where its numbers may come from.

    ``modality`` is ``V`` (one row a face) or ``A`` (``rate`` rows a second of sound). ``sources`` are the texts that
    ``--weights NAME=SOURCE`` takes, the default first; ``FILE`` stands for the path of a checkpoint. ``pretrained`` is
    the name in ``weights.PRETRAINED`` of what the source of that name means; it is the default only where this machine
    has it. ``encoder`` names the class that computes it, as ``module.Class`` within this package. A class that has
    ``FILE`` or ``pretrained`` has ``convert(path)``, which returns the tensors to keep of a checkpoint as it is
    published, by name, and raises ``InputError`` for any other file; it is then made with ``Weights`` that name them.
    """

    name: str
    modality: str
    width: int
    rate: float | None
    sources: tuple[str, ...]
    encoder: str
    about: str
    pretrained: str = ""

    @property
    def encoder_class(self) -> Any:
        """The class; its module, and what that needs, is imported at the first use."""
        module, _, name = self.encoder.partition(".")
        return getattr(importlib.import_module(f"emibook.features.{module}"), name)

    def resolve(
        self, source: str | None, encoders: Path, *, workers: int | None = None, progress: bool = True
    ) -> Weights:
        """The weights that ``source`` means, made ready in the folder ``encoders``; None means the default source.

        Fits a built-in encoder where ``encoders`` has none yet (minutes), and keeps a copy of a checkpoint's
        trunk. Raises ``InputError`` for a source that this feature set does not have.
        """
        source = source or self.default()
        if source not in self.sources or source == FILE:
            if FILE not in self.sources or not Path(source).is_file():
                known = " or ".join("the path of a checkpoint" if each == FILE else each for each in self.sources)
                raise InputError(f"{self.name}: no weights called {source!r}; give {known}")
            return _keep(self.name, "file", self.encoder_class.convert(Path(source)), encoders)
        if source == "pretrained":
            return _keep(self.name, source, self.encoder_class.convert(fetching.verified(self.pretrained)), encoders)
        if source == "builtin":
            from emibook.features import builtin

            return builtin.ready(self.name, encoders) or builtin.fit(
                self.name, encoders, workers=workers, progress=progress)
        return Weights(source, seed=SEED if source in ("untrained", "small") else 0)

    def default(self) -> str:
        """The source that is taken where nothing says another: ``pretrained`` only where this machine has it."""
        return next(source for source in self.sources if source != FILE and (
            source != "pretrained" or fetching.cached(self.pretrained)))

    def precision(self, device: str) -> str:
        """In what a new feature set is computed on ``device``: the fastest that it has, for networks on images."""
        fastest = getattr(self.encoder_class, "precision_on", None)
        return fastest(device) if fastest else "float32"

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


def known(name: str) -> Extractor:
    """The extractor of this name. Raises ``InputError`` with the names that there are."""
    if name not in EXTRACTORS:
        raise InputError(f"no features called {name!r}; there are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def _keep(name: str, kind: str, state: dict[str, Any], encoders: Path) -> Weights:
    """Write a checkpoint's trunk under the fingerprint of its tensors, so that equal weights are the same file."""
    from safetensors.torch import save_file

    encoders.mkdir(parents=True, exist_ok=True)
    temporary = encoders / f".{name}.part"
    save_file(state, temporary)
    digest = file_fingerprint(temporary)
    file = f"{name}-{digest[:12]}.safetensors"
    os.replace(temporary, encoders / file)
    return Weights(kind, file, digest)


def weights_in(settings: dict[str, Any], where: Path) -> Weights:
    """The weights that a feature set's settings name; ``where`` is said in the ``InputError`` where they do not."""
    try:
        return Weights(**settings["weights"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} does not say what its weights are ({error}); move it away") from None


def copy_encoders(work: Path | str, names: list[str] | tuple[str, ...], run_folder: Path | str) -> None:
    """Give a run the encoders that made WORK's features ``names``: ``RUN/encoders/<name>.json`` and its weights' file.

    The file is hard-linked where the file system can, else copied. Raises ``InputError`` where WORK has no such
    features, or the weights that made them are gone.
    """
    work, target = Path(work), Path(run_folder) / "encoders"
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        known(name)
        settings = store.read_settings(work, name)
        if settings is None:
            raise InputError(f"{work} has no features {name}; run emibook extract --features {name}")
        weights = weights_in(settings, store.feature_folder(work, name))
        if weights.file:
            _link(weights.path(work / "encoders"), target / weights.file)
        temporary = target / f".{name}.part"
        temporary.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        os.replace(temporary, target / f"{name}.json")


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # renaming one link of a file onto another leaves both


def load_encoder(name: str, encoders: Path | str, device: str = "cpu") -> Callable[..., store.FeatureSequence]:
    """The encoder that ``copy_encoders`` put into the folder ``encoders``. Raises ``InputError`` without one."""
    extractor, path = known(name), Path(encoders) / f"{name}.json"
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} does not describe an encoder ({type(error).__name__}); train the run again") from None
    if settings.get("version") != extractor.encoder_class.version:
        raise InputError(f"{path} is of version {settings.get('version')} of {name}, this is version "
                         f"{extractor.encoder_class.version}; train the run again")
    return extractor.encoder_class(weights_in(settings, path), Path(encoders), device)
