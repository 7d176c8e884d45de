"""What an encoder's numbers are and where they come from; reading them without running anything that a file brings.

It imports nothing of the other feature modules.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emibook import InputError
from emibook.files import write_text

if TYPE_CHECKING:
    import torch

KINDS = ("builtin", "formula", "untrained", "small", "pretrained", "file", "official", "openface", "openface-video",
         "openface-tables", "py-feat-tables")
PRECISIONS = ("float32", "bfloat16")
ANYONE = "anyone"


@dataclass(frozen=True)
class Pretrained:
    """Published weights: one row of ``emibook weights``.

    Attributes:
        about: what they are.
        source: a repository of the Hugging Face hub (``owner/name``), the URL of the file itself, or, where ``file`` is
            empty, the page on which the owners distribute them.
        file: name of the file.
        licence: their licence.
        use: who may use them, ``ANYONE`` or fewer.
        megabytes: size of the download.
        revision: the hub's commit, which identifies the bytes.
        sha256: of the file; None where only the revision is known, and the hub's own record is checked instead.
        beside: small files that describe the model, kept next to it.

    Raises:
        ValueError: neither revision nor SHA-256 identifies the bytes.
    """

    about: str
    source: str
    file: str
    licence: str
    use: str
    megabytes: int | None
    revision: str | None = None
    sha256: str | None = None
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.file and not (self.sha256 if self.is_url else self.revision):
            raise ValueError(f"{self.source} needs its {'SHA-256' if self.is_url else 'revision'}")

    @property
    def is_url(self) -> bool:
        """Whether the source is the URL of a file or page, not a repository of the hub."""
        return "://" in self.source

    @property
    def page(self) -> str:
        """Where a reader finds the weights and their licence."""
        return self.source if self.is_url else f"https://huggingface.co/{self.source}"

    @property
    def restricted(self) -> bool:
        """Whether not everyone may use them."""
        return self.use != ANYONE


# Keyed by the name that ``emibook weights get`` takes; an extractor's ``pretrained`` is one of them.
PRETRAINED: dict[str, Pretrained] = {
    "vit": Pretrained(
        "ViT-S/16 trained with DINO on ImageNet", "facebook/dino-vits16", "pytorch_model.bin", "Apache-2.0", ANYONE, 87,
        revision="8a9ba137d5d073e1a47675ec1cb730e24e4f169d", beside=("preprocessor_config.json",)),
    "wav2vec2": Pretrained(
        "wav2vec 2.0 large robust, 12 layers, fine-tuned on MSP-Podcast",
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", "model.safetensors", "CC BY-NC-SA 4.0",
        "non-commercial use", 661, revision="6eba34a2485ea31cb03600241787c3a5edab8626",
        sha256="efa5ac1a13b2d2f42182738e44794b1eb4c0cdd221a8b4ae11304c3a5f5fae95"),
    "wav2vec2-base": Pretrained(
        "wav2vec 2.0 base, 960 h of LibriSpeech", "facebook/wav2vec2-base-960h", "model.safetensors", "Apache-2.0",
        ANYONE, 378, revision="22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
        sha256="8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a"),
    "facenet": Pretrained(
        "InceptionResnetV1 trained on VGGFace2",
        "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
        "20180402-114759-vggface2.pt", "MIT", ANYONE, 112,
        sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"),
    "alexnet": Pretrained(
        "AlexNet trained on ImageNet, torchvision's", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "alexnet-owt-7be5be79.pth", "BSD-3-Clause", ANYONE, 233,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"),
    "resnet18": Pretrained(
        "ResNet-18 trained on AffectNet (DAN's checkpoint, LibreFace's, or torchvision's layout)",
        "https://github.com/yaoing/DAN", "", "MIT", ANYONE, None),
    "manet": Pretrained(
        "MANet trained on RAF-DB (its authors distribute one trained on MS-Celeb)",
        "https://github.com/zengqunzhao/MA-Net", "", "none stated", "ask its authors", None),
}


@dataclass(frozen=True)
class Weights:
    """The identity of an encoder's numbers: equal ``Weights`` and equal input give equal features.

    Attributes:
        kind: ``builtin`` (fitted on synthetic faces), ``formula`` (needs none), ``untrained`` (the true architecture,
            random numbers from ``seed``), ``small`` (the same in a reduced size), ``pretrained`` (see ``PRETRAINED``),
            ``file`` (given by a user) or one of the sources of action units and official features.
        file: name of the file that holds or describes them, or empty.
        sha256: of that file.
        seed: of random numbers.
        precision: of the arithmetic. Rows in ``bfloat16`` differ from those in ``float32`` by up to a hundredth of the
            largest value, so the two are not mixed.
    """

    kind: str
    file: str = ""
    sha256: str = ""
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.precision not in PRECISIONS or Path(self.file).name != self.file:
            raise ValueError(f"no description of weights: {self}")

    @property
    def label(self) -> str:
        """Their name in tables and figures."""
        names = {"untrained": "untrained control", "small": "small untrained control",
                 "file": f"file:{self.sha256[:12]}", "official": "the data set's own", "openface": "OpenFace on crops",
                 "openface-video": "OpenFace on whole videos", "openface-tables": "OpenFace's tables",
                 "py-feat-tables": "py-feat's tables"}
        return names.get(self.kind, self.kind)

    def path(self, folder: Path) -> Path:
        """The file in ``folder``. Raises ``InputError`` where it is missing or its SHA-256 differs."""
        path = Path(folder) / self.file
        if not path.is_file():
            raise InputError(f"{path} is missing; give the weights again with --weights")
        if file_fingerprint(path) != self.sha256:
            raise InputError(f"{path} is not the file that was used (its SHA-256 differs); delete it and its features")
        return path


def parse_weights(texts: Iterable[str]) -> dict[str, str]:
    """``["resnet18=builtin", "vit=/models/vit.pt"]`` as a dictionary from name to source.

    Raises ``InputError`` for a text without a name or a source, and for a name given twice.
    """
    sources: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            raise InputError(f"--weights {text!r}: expected NAME=SOURCE, as in resnet18=builtin")
        if name in sources:
            raise InputError(f"--weights names {name} twice ({sources[name]} and {source})")
        sources[name] = source
    return sources


def file_fingerprint(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_weights(name: str, kind: str, state: dict[str, torch.Tensor], encoders: Path) -> Weights:
    """Write tensors into ``encoders`` under the fingerprint of their file, so that equal weights are the same file.

    Raises:
        InputError: they cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        encoders.mkdir(parents=True, exist_ok=True)
        # In a folder of its own: the final name is known once the file is written.
        with tempfile.TemporaryDirectory(dir=encoders, prefix=f".{name}-") as folder:
            temporary = Path(folder) / name
            save_file(state, temporary)
            digest = file_fingerprint(temporary)
            path = temporary.replace(encoders / f"{name}-{digest[:12]}.safetensors")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{name}: its weights cannot be written to {encoders} ({_one_line(error)}); free disk space"
                         ) from None
    return Weights(kind, path.name, digest)


def keep_description(name: str, kind: str, about: dict[str, Any], encoders: Path) -> Weights:
    """Write the description of a program or of tables into ``encoders``, under the fingerprint of its text."""
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = encoders / f"{name}-{kind}-{digest[:12]}.json"
    write_text(path, text)
    return Weights(kind, path.name, digest)


def read_description(weights: Weights, encoders: Path) -> dict[str, Any]:
    """The description that ``keep_description`` wrote."""
    return json.loads(weights.path(encoders).read_text())


def load_state(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint: safetensors, or a PyTorch file read with ``weights_only``.

    A PyTorch file may nest dictionaries (``{"model": {...}}``); a safetensors file is flat.

    Raises:
        InputError: the file is absent, damaged, no checkpoint, or holds objects that would need code to be run.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is no safetensors file: {_one_line(error)}") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if _is_pickle(path):
            raise InputError(f"{path} holds more than tensors, or is damaged, and is refused: reading it could run "
                             "code; save its state dict as safetensors") from None
        raise InputError(f"{path} is no checkpoint; give a safetensors file, or one of torch.save's") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_one_line(error)}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        raise InputError(f"{path} is no checkpoint, or half of one; fetch it again") from None
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}, expected a dictionary of tensors")
    return state


def _is_pickle(path: Path) -> bool:
    """Whether PyTorch may have written the file. PyTorch reports of any other file too that reading it runs code."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == b"\x80"  # which pickles begin with


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def tensors(state: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """``state`` after a check that it holds nothing but tensors under text keys. Raises ``InputError``."""
    import torch

    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, torch.Tensor)):
            raise InputError(f"{path}: {key!r} is a {type(value).__name__}, no tensor; give a plain state dict")
    return state
