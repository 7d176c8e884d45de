"""Packed features: the clips of one partition in one feature set end to end, in one file that is mapped, not read.

    WORK/packed/<features>/<partition>-<reading>.safetensors
      offsets (clip + 1,) int64      clip i holds the rows offsets[i] up to offsets[i + 1]
      values (step of all clips, feature) float16 or bfloat16

Mapped pages are the file's own, so a set that is larger than the memory can be trained on, and several trainings on
one machine share them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from emibook import InputError
from emibook.files import replacing

PRECISIONS = {"float16": "F16", "bfloat16": "BF16"}
"""What steps are stored in, and what the format calls it. NumPy has no bfloat16: here its bits, as ``uint16``."""
LARGEST = {"float16": float(np.finfo(np.float16).max), "bfloat16": float(torch.finfo(torch.bfloat16).max)}
INFINITY = {np.float16: 0x7C00, np.uint16: 0x7F80}
"""Its bits in float16 and in bfloat16."""
SHARE = {"cuda": 0.5, "cpu": 1.0}
"""Of the memory that is free, what a partition's steps may take: on a GPU a model and its batches lie beside them."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """One partition's clips in one feature set, packed.

    ``values`` (step of all clips, feature) float16, or bfloat16 as its bits; clip i holds the rows ``offsets[i]`` up to
    ``offsets[i + 1]``, none where it is empty in the modality. A row of NaN is a gap: a frame without a face, where
    such frames are kept; a clip of nothing else is empty too. ``targets`` (clip, target) float32, NaN where a clip has
    no label. float16 keeps eleven significant bits, so a feature's rounding stays under 0.05 % of its value; bfloat16
    keeps eight.
    """

    features: str
    names: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]
    clips: tuple[str, ...]
    participants: tuple[str, ...]
    weights: tuple[str, ...]
    """What the numbers of each joined extractor are, for example ``builtin`` or ``untrained control``."""

    def __post_init__(self) -> None:
        clips = len(self.clips)
        fits = (
            self.values.shape == (self.offsets[-1], len(self.names))
            and self.values.dtype in (np.float16, np.uint16)
            and self.offsets.shape == (clips + 1,)
            and (np.diff(self.offsets) >= 0).all()
            and self.targets.shape == (clips, len(self.target_names))
            and len(self.participants) == clips
        )
        if not fits:
            raise ValueError(f"sequences of {self.features}: the parts do not fit together")

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def lengths(self) -> np.ndarray:
        """(clip,) steps of each clip."""
        return np.diff(self.offsets)

    @property
    def present(self) -> np.ndarray:
        """(clip,) true where the clip has anything in this modality: a step that is no gap."""
        # A gap is NaN in its first feature as in all.
        present, first = self.lengths > 0, self.tensor()[:, 0]
        # Only last steps, so that not all of the file is read: a clip that was packed here does not end with a gap. A
        # clip that came packed may, and is read through.
        gaps = first[self.offsets[1:][present] - 1].isnan().numpy()
        for clip in np.flatnonzero(present)[gaps]:
            present[clip] = not first[self.offsets[clip] : self.offsets[clip + 1]].isnan().all()
        return present

    def rows(self, first: int, last: int) -> np.ndarray:
        """(step, feature) float32: the packed rows ``first`` up to ``last``."""
        rows = self.values[first:last]
        return (rows.astype(np.uint32) << 16).view(np.float32) if rows.dtype == np.uint16 else rows.astype(np.float32)

    def first_nonfinite(self) -> str:
        """Where the first value that is not finite lies, gaps left out; empty text where all are finite."""
        # But for the sign the bits of every finite number are below those of infinity, and those of NaN above. This is
        # ten times as fast as to ask the numbers themselves; so few rows at once stay in a processor's cache.
        infinity = INFINITY[self.values.dtype.type]
        for start in range(0, len(self.values), 256):
            bits = self.values[start : start + 256].view(np.uint16) & 0x7FFF
            suspect = np.flatnonzero(bits.max(axis=1) >= infinity)
            wrong = suspect[bits[suspect].min(axis=1) <= infinity]  # NaN throughout is a gap
            if len(wrong):
                row = start + int(wrong[0])
                values = self.rows(row, row + 1)[0]
                column = int(np.flatnonzero(~np.isfinite(values))[0])
                clip = int(np.searchsorted(self.offsets, row, side="right")) - 1
                return (f"features {self.features}, clip {self.clips[clip]}, step {row - self.offsets[clip]}: "
                        f"{self.names[column]} is {values[column]}, not a finite number")
        return ""

    def tensor(self) -> torch.Tensor:
        """(step of all clips, feature) float16 or bfloat16, the same memory as ``values``."""
        if self.values.dtype == np.uint16:
            return torch.from_numpy(self.values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(self.values)


class Feed:
    """Batches of a partition on ``device``, where its steps lie as a whole if they fit. No work per clip in Python."""

    def __init__(self, sequences: Sequences, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.values = sequences.tensor()
        cuda = self.device.type == "cuda"
        free = torch.cuda.mem_get_info(self.device)[0] if cuda else psutil.virtual_memory().available
        if fits(sequences.features, self.values.nbytes, free, self.device.type) and cuda:
            self.values = self.values.to(self.device)
        self.starts, self.lengths = sequences.offsets[:-1], sequences.lengths
        self.targets = torch.tensor(sequences.targets, device=self.device)

    def batch(self, clips: np.ndarray, multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """``values (batch, time, feature)`` and ``mask (batch, time)``, true where there is data.

        ``clips`` are positions in the partition; time is the longest among them, and at least one. One that is longer
        than ``multiple`` is rounded up to a multiple of it. What stands outside the mask means nothing.
        """
        device = self.values.device
        starts, lengths = (torch.from_numpy(numbers[clips]).to(device) for numbers in (self.starts, self.lengths))
        longest = max(1, int(self.lengths[clips].max(initial=0)))
        if longest > multiple:
            longest = -(-longest // multiple) * multiple
        steps = torch.arange(longest, device=device)
        mask = steps < lengths[:, None]  # (batch, time)
        if not len(self.values):
            return torch.zeros(*mask.shape, self.values.shape[1], device=self.device), mask.to(self.device)
        rows = torch.where(mask, starts[:, None] + steps, 0)
        values = self.values.index_select(0, rows.flatten()).view(*mask.shape, -1)
        mask = mask & ~values[..., 0].isnan()  # a gap
        return values.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True)


def fits(features: str, bytes_: int, free: int, device: str = "cuda") -> bool:
    """Whether a partition's steps can lie in so much free memory of a device; says on standard error where not.

    What does not fit is streamed: to a GPU batch by batch, on a processor from the mapped file.
    """
    if bytes_ <= SHARE[device] * free:
        return True
    reason = {"cuda": f"{SHARE[device]:.0%} of the {free / 2**30:.1f} GiB free on the GPU; they are sent batch by "
                      "batch",
              "cpu": f"the {free / 2**30:.1f} GiB of free memory; they are read from disk in every epoch"}
    print(f"features {features}: {bytes_ / 2**30:.1f} GiB are more than {reason[device]}, which is slower",
          file=sys.stderr)
    return False


def stored(values: np.ndarray, precision: str) -> np.ndarray:
    """(step, feature) float32 rounded to ``precision``: float16, or the bits of bfloat16."""
    if precision == "bfloat16":
        return torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    return values.astype(np.float16)


def write(path: Path, tables: Iterable[np.ndarray], clips: int, about: Mapping, precision: str = "float16") -> None:
    """Write the clips' (step, feature) tables one behind the other; the file appears whole or not at all.

    ``clips`` is how many there are, ``about`` what JSON can hold and is to travel with them. Only one table is in
    memory at a time.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"no precision {precision!r} to pack in; there are {', '.join(PRECISIONS)}")
    lengths, width = [0], 0
    header_bytes = len(_header(10**12, 10**6, clips, about, precision))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.seek(8 + header_bytes + 8 * (clips + 1))
        for table in tables:
            width = table.shape[1]
            lengths.append(len(table))
            file.write(np.ascontiguousarray(stored(table, precision)).tobytes())
        offsets = np.cumsum(lengths, dtype=np.int64)
        if len(offsets) != clips + 1:
            raise ValueError(f"{clips} clips promised, {len(offsets) - 1} given")
        file.seek(0)
        file.write(header_bytes.to_bytes(8, "little"))
        file.write(_header(int(offsets[-1]), width, clips, about, precision).ljust(header_bytes))
        file.write(offsets.tobytes())


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """``values`` mapped (changing them changes no file), ``offsets`` and ``about`` of a file that ``write`` made.

    Raises:
        InputError: the file is absent or damaged.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            about = json.loads(header["__metadata__"]["about"])
            offsets = np.frombuffer(file.read(8 * header["offsets"]["shape"][0]), np.int64)
        kind = np.float16 if header["values"]["dtype"] == PRECISIONS["float16"] else np.uint16
        shape, start = tuple(header["values"]["shape"]), 8 + size + header["values"]["data_offsets"][0]
        values = np.memmap(path, kind, "c", start, shape) if shape[0] else np.zeros(shape, kind)
    except FileNotFoundError:
        raise InputError(f"no packed features at {path}") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} is no file of packed features ({type(error).__name__}); delete it") from None
    return values.view(np.ndarray), offsets, about


def _header(rows: int, width: int, clips: int, about: Mapping, precision: str) -> bytes:
    """The format's header, with spaces at its end so that what follows lies on a multiple of eight bytes."""
    before, size = 8 * (clips + 1), 2 * rows * width
    header = {
        "__metadata__": {"about": json.dumps(about)},
        "offsets": {"dtype": "I64", "shape": [clips + 1], "data_offsets": [0, before]},
        "values": {"dtype": PRECISIONS[precision], "shape": [rows, width], "data_offsets": [before, before + size]},
    }
    text = json.dumps(header).encode()
    return text.ljust(-(-len(text) // 8) * 8)
