"""What an extractor is: one feature set, the sources of its weights, and the clip that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from emibook import InputError
from emibook.compute import Resources
from emibook.features import download, store
from emibook.features.weights import Weights, keep_weights

FILE = "FILE"
"""The path of a checkpoint, in ``Extractor.sources``."""
SEED = 0
"""Of untrained weights."""


@dataclass(frozen=True)
class Clip:
    """A clip for an encoder that reads files: the video, what preprocessing made of it, and its data set.

    Attributes:
        id: the clip's id.
        path: the video.
        root: the corpus's folder.
        partition: ``train``, ``valid``, ``test`` or empty.
        work: the work folder.
        seconds: length of the video, 0 where there is none.
        audio_seconds: length of the sound, 0 where there is none.
        sampled: whether it is one of the few clips on which an encoder with two methods compares them.
        failed: whether preprocessing failed.
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
    """One feature set: what it is, and where its weights may come from.

    An encoder class is called with what a clip has in the modality, the faces or the samples, or, where its
    ``reads_clip`` is true, with a ``Clip``; ``of_the_corpus`` is true where it reads files that no other clip has. A
    class whose sources include ``FILE`` or ``pretrained`` has ``convert(path)``, which returns the tensors to keep of a
    checkpoint as it is published, by name, and raises ``InputError`` for any other file.

    Attributes:
        name: name of the feature set.
        modality: ``V`` (one row per face) or ``A`` (rows of sound).
        width: features per row.
        rate: rows per second of sound, 0 for one row per clip; None for faces.
        sources: the texts that ``--weights NAME=SOURCE`` takes, the default first; ``FILE`` stands for the path of a
            checkpoint (of ``aus``: OpenFace's program, or a folder of tables).
        encoder: the class that computes it, as ``module.Class`` within this package.
        about: description for the table of features.
        pretrained: its name in ``weights.PRETRAINED``; ``pretrained`` is the default only where this machine has it.
        licence: of the feature set, where there are no published weights.
        origin: where it comes from, where there are no published weights.
        others: the class, where that depends on the kind of the weights.
        fitted_by: the module whose ``encoder`` makes its built-in encoder, loaded by this name at the first use.
        program: the module of this package that resolves an external program, with ``find_program`` and ``resolve``.
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
    fitted_by: str = ""
    program: str = ""

    @property
    def encoder_class(self) -> Any:
        """The class; its module, and what that needs, is imported at the first use."""
        return self.class_of("")

    def class_of(self, kind: str) -> Any:
        """The class that computes it with weights of this kind."""
        module, _, name = self.others.get(kind, self.encoder).partition(".")
        return getattr(_module(module), name)

    def resolve(
        self, source: str | None, encoders: Path, *, aus_from: str | None = None, resources: Resources = Resources()  # noqa: B008
    ) -> Weights:
        """The weights of a source, made ready in a folder. A checkpoint's trunk is copied there.

        A built-in encoder is fitted where there is none yet, which takes minutes.

        Args:
            source: one of ``sources``, or None for the default.
            encoders: folder of the weights.
            aus_from: what OpenFace measures, ``crops`` or ``video``.
            resources: for the fit of a built-in encoder.

        Raises:
            InputError: this feature set does not have this source.
        """
        source = source or self.default()
        if self.program and (source == self.program or source not in self.sources):
            return _module(self.program).resolve(source, aus_from, encoders)
        if aus_from is not None:
            raise InputError(f"{self.name}: the source is {source}; crops or video can be chosen for OpenFace only, "
                             "--weights aus=openface")
        if source not in self.sources or source == FILE:
            if FILE not in self.sources or not Path(source).is_file():
                known = " or ".join("the path of a checkpoint" if text == FILE else text for text in self.sources)
                raise InputError(f"{self.name}: no weights called {source!r}; give {known}")
            return keep_weights(self.name, "file", self.encoder_class.convert(Path(source)), encoders)
        if source == "pretrained":
            state = self.encoder_class.convert(download.verified(self.pretrained))
            return keep_weights(self.name, source, state, encoders)
        if source == "builtin":
            return import_module(self.fitted_by).encoder(self.name, encoders, resources=resources)
        return Weights(source, seed=SEED if source in ("untrained", "small") else 0)

    def default(self) -> str:
        """The first source that is available here: ``pretrained`` or a program only where this machine has it."""
        return next(source for source in self.sources if self._is_available(source))

    def _is_available(self, source: str) -> bool:
        if source == self.program:
            return _module(self.program).find_program() is not None
        return source != FILE and (source != "pretrained" or download.cached(self.pretrained) is not None)

    def advice(self, weights: Weights) -> str:
        """How to get the published weights, where ``weights`` replace them; else an empty text."""
        if weights.kind not in ("builtin", "untrained", "small") or not self.pretrained:
            return ""
        return f"instead of published weights: {download.remedy(self.pretrained)}"

    def precision(self, device: str) -> str:
        """The precision of a new feature set on ``device``: the fastest native one, for networks on images."""
        fastest = getattr(self.encoder_class, "precision_on", None)
        return fastest(device) if fastest else "float32"

    def load(self, source: str | None, encoders: Path, device: str = "cpu") -> Callable[..., store.FeatureSequence]:
        """The encoder with the weights of a source; see ``resolve``."""
        weights = self.resolve(source, Path(encoders))
        return self.class_of(weights.kind)(weights, Path(encoders), device)


def _module(name: str) -> Any:
    return import_module(f"emibook.features.{name}")
