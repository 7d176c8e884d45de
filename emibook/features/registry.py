"""The registry of feature sets, and the encoders that a run carries along."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emibook import InputError
from emibook.features import store
from emibook.features.base import FILE, Extractor
from emibook.features.weights import PRETRAINED, Weights
from emibook.files import link_or_copy, write_text

# Named by the paper's related work or by its successors, and not available here.
NOT_AVAILABLE = {"wav2vec": "the predecessor of wav2vec 2.0", "bert": "models of text", "text": "models of text",
                 "hubert": "models of speech after wav2vec 2.0"}
BUILTIN = "emibook.puppet.builtin"
OPENFACE = {kind: "openface.OpenFace" for kind in ("openface", "openface-video")}
TABLES = {kind: "openface_tables.ActionUnitTables" for kind in ("openface-tables", "py-feat-tables")}

EXTRACTORS: dict[str, Extractor] = {
    extractor.name: extractor
    for extractor in (
        Extractor("resnet18", "V", 512, None, ("pretrained", "builtin", "untrained", FILE), "resnet18.ResNet18",
                  "ResNet-18 before its last layer, global average", "resnet18", fitted_by=BUILTIN),
        Extractor("vit", "V", 384, None, ("pretrained", "small", "untrained", FILE), "vit.ViT",
                  "ViT-S/16, class token", "vit"),
        Extractor("facenet", "V", 512, None, ("pretrained", "untrained", FILE), "facenet.FaceNet",
                  "InceptionResnetV1, face verification", "facenet"),
        Extractor("manet", "V", 1024, None, ("pretrained", "untrained", FILE), "manet.MANet",
                  "MANet, local attention and global features at several scales", "manet"),
        Extractor("official_vit", "V", 384, None, ("official",), "official.OfficialViT",
                  "the data set's own ViT features, about 6 per second", licence="the data set's",
                  origin="the data set"),
        Extractor("aus", "V", 34, None, ("openface", "builtin", FILE), "action_units.ActionUnitEstimator",
                  "17 action units, intensity and presence", others=OPENFACE | TABLES, fitted_by=BUILTIN,
                  program="openface", licence="OpenFace's: academic; the built-in estimator: MIT",
                  origin="OpenFace 2, or this project"),
        Extractor("wav2vec2", "A", 1024, 50.0, ("pretrained", "small", "untrained", FILE), "wav2vec2.Wav2Vec2",
                  "wav2vec 2.0 large, fine-tuned on emotion; last hidden states", "wav2vec2"),
        Extractor("wav2vec2_outputs", "A", 1027, 50.0, ("pretrained", "small", "untrained", FILE),
                  "wav2vec2.Wav2Vec2Outputs", "the same, and its arousal, dominance and valence", "wav2vec2"),
        Extractor("wav2vec2_base", "A", 768, 50.0, ("pretrained", "small", "untrained", FILE), "wav2vec2.Wav2Vec2Base",
                  "wav2vec 2.0 base, last hidden states", "wav2vec2-base"),
        Extractor("official_wav2vec2", "A", 768, 50.0, ("official",), "official.OfficialWav2Vec2",
                  "the data set's own wav2vec 2.0 features", licence="the data set's", origin="the data set"),
        Extractor("mfcc", "A", 40, 100.0, ("formula",), "mfcc.MFCC",
                  "20 mel-frequency cepstral coefficients and their slopes", licence="ISC", origin="librosa"),
        Extractor("egemaps", "A", 25, 100.0, ("formula",), "egemaps.EGeMAPS",
                  "eGeMAPS, 25 low-level descriptors", licence="opensmile's: research only", origin="opensmile"),
        Extractor("egemaps_functionals", "A", 88, 0.0, ("formula",), "egemaps.EGeMAPSFunctionals",
                  "eGeMAPS, 88 functionals of the whole clip", licence="opensmile's: research only",
                  origin="opensmile"),
        Extractor("deepspectrum", "A", 4096, 10.0, ("pretrained", "untrained", FILE), "spectrum.DeepSpectrum",
                  "spectrograms as images through AlexNet, second fully connected layer", "alexnet"),
    )
}


def feature_table() -> list[dict[str, str]]:
    """One row per feature set, as text: the book's table of features."""
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
        return "one per face"
    return f"{extractor.rate:g} per second" if extractor.rate else "one per clip"


def known(name: str) -> Extractor:
    """The extractor of this name. Raises ``InputError`` with the names of all where there is none."""
    if name not in EXTRACTORS:
        reason = f" yet ({NOT_AVAILABLE[name]})" if name in NOT_AVAILABLE else ""
        raise InputError(f"no features called {name!r}{reason}; there are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def weights_in(settings: dict[str, Any], path: Path) -> Weights:
    """The weights in a feature set's settings. Raises ``InputError``, which names ``path``, where they are missing."""
    try:
        return Weights(**settings["weights"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not describe its weights ({error}); move it away") from None


def copy_encoders(work: Path | str, names: list[str] | tuple[str, ...], run_folder: Path | str) -> None:
    """Give a run the encoders that made WORK's features: ``RUN/encoders/<name>.json`` and the file of its weights.

    The file is hard-linked where the file system can, else copied.

    Raises:
        InputError: WORK has no such features, or the weights that made them are gone.
    """
    work, target = Path(work), Path(run_folder) / "encoders"
    for name in names:
        known(name)
        settings = store.read_settings(work, name)
        if settings is None:
            raise InputError(f"{work} has no features {name}; run emibook extract --features {name}")
        weights = weights_in(settings, store.feature_folder(work, name))
        if weights.file:
            link_or_copy(weights.path(work / "encoders"), target / weights.file)
        write_text(target / f"{name}.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")


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
