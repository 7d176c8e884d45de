"""What an encoder's numbers are and where they come from; reading them without running anything that a file brings.

A leaf: anyone may import it, and it imports nothing of ours but ``InputError``.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emibook import InputError

if TYPE_CHECKING:
    import torch

KINDS = ("builtin", "formula", "untrained", "file")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Weights:
    """The identity of an encoder's numbers: equal ``Weights`` and equal input give equal features.

    ``kind`` is ``builtin`` (fitted on drawings), ``formula`` (needs none), ``untrained`` (random, from ``seed``)
    or ``file``. ``file`` is a safetensors file beside the description, with its SHA-256. ``precision`` is that of the
    arithmetic: rows in ``bfloat16`` differ from those in ``float32`` by up to a hundredth of the largest value, so the
    two are not mixed.
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
        """The words that tables and pictures use."""
        return {"untrained": "untrained control", "file": f"file:{self.sha256[:12]}"}.get(self.kind, self.kind)

    def path(self, folder: Path) -> Path:
        """The file in ``folder``, after a check that it is the one described. Raises ``InputError``."""
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


def load_state(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint: safetensors, or a PyTorch file read with ``weights_only``.

    A PyTorch file may nest dictionaries (``{"model": {...}}``); a safetensors file is flat. Raises ``InputError``, in
    one line, for a file that is absent, damaged, no checkpoint, or holds objects that would need code to be run.
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
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise InputError(f"{path} holds more than tensors and is refused: reading it would run code; "
                             "save its state dict as safetensors") from None
        raise InputError(f"{path} is no checkpoint: {_one_line(error)}") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no checkpoint: {_one_line(error)}") from None
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}, expected a dictionary of tensors")
    return state


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def tensors(state: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """``state`` after a check that it holds nothing but tensors under text keys. Raises ``InputError``."""
    import torch

    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, torch.Tensor)):
            raise InputError(f"{path}: {key!r} is a {type(value).__name__}, no tensor; give a plain state dict")
    return state
