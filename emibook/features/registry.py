"""The registry of feature sets, the weights that their sources mean, and the encoders that a run carries along."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emibook import InputError
from emibook.features import download, store
from emibook.features.weights import PRETRAINED, Weights, file_fingerprint

FILE = "FILE"  # stands for the path of a checkpoint in ``Extractor.sources``
SEED = 0  # of untrained weights
# Named by the paper's related work or by its successors, and not built.
LATER = {"wav2vec": "the forerunner of wav2vec 2.0", "bert": "models of text", "text": "models of text",
         "hubert": "models of speech after wav2vec 2.0"}
OPENFACE = {kind: "openface.OpenFace" for kind in ("openface", "openface-video")}
TABLES = {kind: "openface.ActionUnitTables" for kind in ("openface-tables", "py-feat-tables")}


@dataclass(frozen=True)
class Clip:
    """A clip for an encoder that reads files: what preprocessing left of it, the video, or what its data set has.

    ``path`` is the video, ``root`` the corpus's folder, ``seconds`` and ``audio_seconds`` the lengths of video and
    sound (0 where there is none). ``sampled``: one of a few clips on which an encoder compares two ways of its own;
    ``failed``: preprocessing left nothing of it.
    """

    id: str
    path: Path
    root: Path
    partition: str
    work: Path
    seconds: float
    audio_seconds: float
    sampled: bool = False
    failed: bool = False

    @property
    def faces(self) -> Path:
        """The folder of its aligned faces."""
        return self.work / "faces" / self.id


@dataclass(frozen=True)
class Extractor:
    """One feature set: what it is, and where its numbers may come from.

    ``modality`` is ``V`` (one row a face) or ``A`` (``rate`` rows a second of sound, 0 for one row a clip).
    ``sources`` are the texts that ``--weights NAME=SOURCE`` takes, the default first; ``FILE`` stands for the path of a
    checkpoint (of ``aus``: OpenFace's program, or a folder of tables). ``pretrained`` is the name in
    ``weights.PRETRAINED`` of what the source of that name means; it is the default only where this machine has it.
    ``encoder`` names the class that computes it, as ``module.Class`` within this package. A class that has
    ``FILE`` or ``pretrained`` has ``convert(path)``, which returns the tensors to keep of a checkpoint as it is
    published, by name, and raises ``InputError`` for any other file; it is then made with ``Weights`` that name them.
    ``licence`` and ``origin`` are what the table of features says where no published weights are the source.

    A class is called with what a clip has in the modality, the faces or the samples, or, where its ``reads_clip`` is
    true, with a ``Clip``; ``of_the_corpus`` is true where it reads files that no other clip has. ``others`` names the
    class where that depends on the kind of the weights.
    """

    name: str
    modality: str
    width: int
    rate: float | None
    sources: tuple[str, ...]
    encoder: str
    about: str
    pretrained: str = ""
    licence: str = "MIT, as this project"
    origin: str = "this project"
    others: dict[str, str] = field(default_factory=dict)

    @property
    def encoder_class(self) -> Any:
        """The class; its module, and what that needs, is imported at the first use."""
        return self.class_of("")

    def class_of(self, kind: str) -> Any:
        """The class that computes it with weights of this kind."""
        module, _, name = self.others.get(kind, self.encoder).partition(".")
        return getattr(importlib.import_module(f"emibook.features.{module}"), name)

    def resolve(
        self, source: str | None, encoders: Path, *, aus_from: str | None = None, workers: int | None = None,
        progress: bool = True,
    ) -> Weights:
        """The weights that ``source`` means, made ready in the folder ``encoders``; None means the default source.

        Fits a built-in encoder where ``encoders`` has none yet (minutes), and keeps a copy of a checkpoint's
        trunk. Raises ``InputError`` for a source that this feature set does not have.
        """
        source = source or self.default()
        if self.name == "aus" and (source == "openface" or source not in self.sources):
            from emibook.features import openface

            return openface.resolve(source, aus_from or openface.WAYS[0], encoders)
        if aus_from is not None:
            raise InputError(f"{self.name}: made by the source {source}; what OpenFace looks at (crops or video) is "
                             "for OpenFace, --weights aus=openface")
        if source not in self.sources or source == FILE:
            if FILE not in self.sources or not Path(source).is_file():
                known = " or ".join("the path of a checkpoint" if each == FILE else each for each in self.sources)
                raise InputError(f"{self.name}: no weights called {source!r}; give {known}")
            return _keep(self.name, "file", self.encoder_class.convert(Path(source)), encoders)
        if source == "pretrained":
            return _keep(self.name, source, self.encoder_class.convert(download.verified(self.pretrained)), encoders)
        if source == "builtin":
            from emibook.puppet import builtin

            return builtin.ready(self.name, encoders) or builtin.fit(
                self.name, encoders, workers=workers, progress=progress)
        return Weights(source, seed=SEED if source in ("untrained", "small") else 0)

    def default(self) -> str:
        """The source that is taken where nothing says another: ``pretrained`` only where this machine has it."""
        return next(source for source in self.sources if self._is_there(source))

    def _is_there(self, source: str) -> bool:
        if source == "openface":
            from emibook.features import openface

            return openface.find_program() is not None
        return source != FILE and (source != "pretrained" or download.cached(self.pretrained) is not None)

    def without(self, weights: Weights) -> str:
        """How to have the published weights, where ``weights`` stand in for them; else nothing."""
        if weights.kind not in ("builtin", "untrained", "small") or not self.pretrained:
            return ""
        return f"in the place of published weights: {download.remedy(self.pretrained)}"

    def precision(self, device: str) -> str:
        """In what a new feature set is computed on ``device``: the fastest that it has, for networks on images."""
        fastest = getattr(self.encoder_class, "precision_on", None)
        return fastest(device) if fastest else "float32"

    def load(self, source: str | None, encoders: Path, device: str = "cpu") -> Callable[..., store.FeatureSequence]:
        """The encoder with the weights that ``source`` means; see ``resolve``."""
        weights = self.resolve(source, Path(encoders))
        return self.class_of(weights.kind)(weights, Path(encoders), device)


EXTRACTORS: dict[str, Extractor] = {
    extractor.name: extractor
    for extractor in (
        Extractor("resnet18", "V", 512, None, ("pretrained", "builtin", "untrained", FILE), "visual.ResNet18",
                  "ResNet-18 before its last layer, global average", "resnet18"),
        Extractor("vit", "V", 384, None, ("pretrained", "small", "untrained", FILE), "vit.ViT",
                  "ViT-S/16, class token", "vit"),
        Extractor("facenet", "V", 512, None, ("pretrained", "untrained", FILE), "visual.FaceNet",
                  "InceptionResnetV1, what tells people apart", "facenet"),
        Extractor("manet", "V", 1024, None, ("pretrained", "untrained", FILE), "manet.MANet",
                  "MANet, local attention and the whole at several scales", "manet"),
        Extractor("official_vit", "V", 384, None, ("official",), "official.OfficialViT",
                  "the data set's own ViT features, about 6 a second", licence="the data set's", origin="the data set"),
        Extractor("aus", "V", 34, None, ("openface", "builtin", FILE), "aus.ActionUnits",
                  "17 action units, intensity and presence", others=OPENFACE | TABLES,
                  licence="OpenFace's: academic; the built-in estimator: MIT", origin="OpenFace 2, or this project"),
        Extractor("wav2vec2", "A", 1024, 50.0, ("pretrained", "small", "untrained", FILE), "acoustic.Wav2Vec2",
                  "wav2vec 2.0 large, fine-tuned on emotion; last hidden states", "wav2vec2"),
        Extractor("wav2vec2_outputs", "A", 1027, 50.0, ("pretrained", "small", "untrained", FILE),
                  "acoustic.Wav2Vec2Outputs", "the same, and its arousal, dominance and valence", "wav2vec2"),
        Extractor("wav2vec2_base", "A", 768, 50.0, ("pretrained", "small", "untrained", FILE), "acoustic.Wav2Vec2Base",
                  "wav2vec 2.0 base, last hidden states", "wav2vec2-base"),
        Extractor("official_wav2vec2", "A", 768, 50.0, ("official",), "official.OfficialWav2Vec2",
                  "the data set's own wav2vec 2.0 features", licence="the data set's", origin="the data set"),
        Extractor("mfcc", "A", 40, 100.0, ("formula",), "acoustic.MFCC",
                  "20 mel-frequency cepstral coefficients and their slopes", licence="ISC", origin="librosa"),
        Extractor("egemaps", "A", 25, 100.0, ("formula",), "egemaps.EGeMAPS",
                  "eGeMAPS, 25 low-level descriptors", licence="opensmile's: research only", origin="opensmile"),
        Extractor("egemaps_functionals", "A", 88, 0.0, ("formula",), "egemaps.EGeMAPSFunctionals",
                  "eGeMAPS, 88 functionals of the whole clip", licence="opensmile's: research only",
                  origin="opensmile"),
        Extractor("deepspectrum", "A", 4096, 10.0, ("pretrained", "untrained", FILE), "spectrum.DeepSpectrum",
                  "drawn spectrograms through AlexNet, second fully connected layer", "alexnet"),
    )
}


def feature_table() -> list[dict[str, str]]:
    """One row a feature set, in words: what the book's table of features shows."""
    rows = []
    for extractor in EXTRACTORS.values():
        published = PRETRAINED.get(extractor.pretrained)
        rows.append({
            "features": extractor.name,
            "from": {"V": "face", "A": "sound"}[extractor.modality],
            "dimension": str(extractor.width),
            "rate": _rate(extractor),
            "model": extractor.about,
            "weights": ", ".join("a file" if source == FILE else source for source in extractor.sources),
            "licence": f"{published.licence} ({published.use})" if published else extractor.licence,
            "source": published.page if published else extractor.origin,
        })
    return rows


def _rate(extractor: Extractor) -> str:
    if extractor.rate is None:
        return "one a face"
    return f"{extractor.rate:g} a second" if extractor.rate else "one a clip"


def known(name: str) -> Extractor:
    """The extractor of this name. Raises ``InputError`` with the names that there are."""
    if name not in EXTRACTORS:
        later = f" yet ({LATER[name]})" if name in LATER else ""
        raise InputError(f"no features called {name!r}{later}; there are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def _keep(name: str, kind: str, state: dict[str, Any], encoders: Path) -> Weights:
    """Write a checkpoint's trunk under the fingerprint of its tensors, so that equal weights are the same file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    encoders.mkdir(parents=True, exist_ok=True)
    temporary = encoders / f".{name}.part"
    try:
        save_file(state, temporary)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{name}: its weights cannot be kept in {encoders} ({str(error).splitlines()[0]}); make room"
                         ) from None
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
    weights = weights_in(settings, path)
    encoder = extractor.class_of(weights.kind)
    if getattr(encoder, "of_the_corpus", False):
        raise InputError(f"{name}: {weights.label}, files that other clips do not have; give a run of other features")
    if settings.get("version") != encoder.version:
        raise InputError(f"{path} is of version {settings.get('version')} of {name}, this is version "
                         f"{encoder.version}; train the run again")
    return encoder(weights, Path(encoders), device)
