"""The device of a computation: which there is, the precision that it is fastest in, random numbers from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from emibook import InputError


def on_device(name: str | None = None) -> str:
    """Where to compute: ``name``, or without one a GPU where there is one. Raises ``InputError`` where it is not."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError(f"no device {name!r}; there are cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: this machine has no GPU that torch can use; leave the device out, or give cpu")
    return name


def native_precision(device: str) -> str:
    """The fastest precision that ``device`` computes in natively: ``bfloat16`` where it can, else ``float32``.

    Of GPUs on other machines nothing is known where this one has none.
    """
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
    return "bfloat16" if native else "float32"


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Torch's random numbers from ``seed`` inside; the caller's go on untouched outside."""
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(seed)
        yield
