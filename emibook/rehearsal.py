"""The rehearsal: everything that is measured on simulated features, each part a table on disk with what it took.

    emibook rehearse --out FOLDER                       every part, reduced: all clips, 64 features, 75 steps
    emibook rehearse --out FOLDER --size full           the recipes at the paper's full width: for a GPU
    emibook rehearse --out FOLDER --parts choices       one part

``book/results/`` keeps the tables that the first of them made, and ``rehearsal.json``: when, where, how long.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, __version__, agreement, recovery, specification, uncertainty
from emibook.agreement import LEVELS, PAIRS, papers
from emibook.corpus.simulated import CROSSING, LEGIBLE
from emibook.doctor import machine
from emibook.drawn import write_corpus
from emibook.recovery import SIZES, Size
from emibook.runs import write_text

SETTINGS = "rehearsal.json"
REPEATS = 60
WEAKER_SOUND = 0.2


@dataclass(frozen=True)
class Part:
    """A table of the rehearsal. ``make(size, out, progress)`` returns it; what takes long is kept under ``out``."""

    name: str
    what: str
    make: Callable[[Size, Path, bool], pandas.DataFrame]


def _recovery(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    return recovery.table(recovery.cases(size), size, out, progress=progress)


def _table3(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    return agreement.table3()


def _choices(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    return specification.curve(out / "choices" / "corpus", out / "choices", progress=progress)


def _widths(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    """Both with participants who are alike in legibility and with such who differ as in CREMA-D."""
    rows = [(name,) for name in LEVELS] + [row.branches for row in PAIRS]
    found = []
    for legible in (0.0, LEGIBLE):
        table = uncertainty.widths(papers(CROSSING, legible=legible), rows, REPEATS)
        found.append(table.reset_index().assign(legible=legible))
    return pandas.concat(found, ignore_index=True)


def _differences(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    return uncertainty.differences(CROSSING, LEGIBLE, REPEATS)


def _optimism(size: Size, out: Path, progress: bool) -> pandas.DataFrame:
    return uncertainty.of_choosing_the_epoch(size, out, progress=progress)


PARTS = {
    part.name: part
    for part in (
        Part("recovery", "how much of what can be reached a recipe reaches", _recovery),
        Part("table3", "Table 3 from branches with Table 2's correlations", _table3),
        Part("widths", "how far a table's value may be off", _widths),
        Part("differences", "which differences in the tables are larger than chance makes them", _differences),
        Part("optimism", "what choosing the epoch on the reported clips adds", _optimism),
        Part("choices", "the specification curve", _choices),
    )
}


def rehearse(
    out: Path | str, *, size: Size | str = "reduced", parts: Sequence[str] | None = None, progress: bool = True
) -> dict[str, pandas.DataFrame]:
    """Make each of ``parts``, all unless given; ``out/rehearsal_<part>.csv`` holds it, ``rehearsal.json`` says how.

    Finished trainings are not repeated, and a stopped rehearsal goes on where it stopped.

    Raises:
        InputError: a part or a size that there is not.
    """
    if isinstance(size, str) and size not in SIZES:
        raise InputError(f"no size {size!r}; there are {', '.join(SIZES)}")
    size = SIZES[size] if isinstance(size, str) else size
    names = list(dict.fromkeys(parts or PARTS))
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    out = Path(out)
    found = {}
    for name in names:
        started = time.process_time()
        found[name] = PARTS[name].make(size, out, progress)
        write_text(out / f"rehearsal_{name}.csv", found[name].round(6).to_csv(index=False))
        seconds = time.process_time() - started
        if "seconds" in found[name]:  # of trainings, some of which may have been made earlier
            seconds = max(seconds, found[name]["seconds"].sum())
        _note(out, name, size, float(seconds))
    return found


def simulate(
    root: Path | str,
    work: Path | str,
    *,
    size: Size | str = "reduced",
    patterns: str = "mixed",
    stronger: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Draw a corpus without media and its feature sets, on which ``experiments.tables`` runs as on any other.

    Attainable correlations are Table 2's times ``stronger``; ``mfcc``, which the paper has not, stands for a weaker
    sound. Raises ``InputError`` where ``root`` holds something else.
    """
    if isinstance(size, str) and size not in SIZES:
        raise InputError(f"no size {size!r}; there are {', '.join(SIZES)}")
    size = SIZES[size] if isinstance(size, str) else size
    levels = {name: level * stronger for name, level in {**LEVELS, "mfcc": WEAKER_SOUND}.items()}
    return write_corpus(size.plan(levels, patterns, seed), root, work, levels, progress=progress)


def _note(out: Path, name: str, size: Size, seconds: float) -> None:
    """Add a part to ``rehearsal.json``."""
    path = out / SETTINGS
    noted = json.loads(path.read_text()) if path.is_file() else {}
    noted[name] = {
        "what": PARTS[name].what,
        "command": f"emibook rehearse --out FOLDER --size {size.name} --parts {name}",
        "size": asdict(size),
        "seconds": round(seconds, 1),
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine().partition(";")[0],  # its versions stand below
        "threads": torch.get_num_threads(),
        "versions": {"emibook": __version__, "python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
    }  # fmt: skip
    write_text(path, json.dumps(noted, indent=1) + "\n")
