"""A simulated corpus and its features on disk, on which the tables are made as on any other corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emibook import InputError
from emibook.studies.simulation.calibration import LEVELS, calibrate, fit_ridge
from emibook.studies.simulation.corpus import write_corpus, write_features
from emibook.studies.simulation.features import CROSSING
from emibook.studies.simulation.sizes import AVERAGES, Size, size_named

MFCC_LEVEL = 0.2
OFFICIAL = {"official_vit": "vit", "official_wav2vec2": "wav2vec2"}
"""The data set's own features, the other reading of two rows of Table 2."""
ATTAINABLE = {**LEVELS, "mfcc": MFCC_LEVEL, **{official: LEVELS[name] for official, name in OFFICIAL.items()}}
"""The sets that can be simulated, and their attainable correlations: Table 2's, and a weaker one for ``mfcc``."""
SIMULATED_SETS = (*LEVELS, "mfcc")
"""What the tables' rows need."""
CALIBRATIONS = ("attainable", "attained")


@dataclass(frozen=True)
class CorpusPlan:
    """What to simulate.

    ``features``: sets, by default what the tables' rows need. ``size``: a ``Size`` or its name. ``patterns``: one of
    ``patterns.PATTERNS`` or ``mixed``. ``calibration``: what equals the paper's Table 2, the ``attainable``
    correlations or those ``attained`` by ridge regression on time averages, for signals in the mean. ``strength``: the
    attainable correlations as a multiple of these.

    Raises:
        InputError: an unknown size, calibration or feature set, or ``attained`` with other patterns than ``mean``.
    """

    features: Sequence[str] = SIMULATED_SETS
    size: Size | str = "reduced"
    patterns: str = "mixed"
    calibration: str = "attainable"
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        size_named(self.size)
        if self.calibration not in CALIBRATIONS:
            raise InputError(f"no calibration {self.calibration!r}; there are {' and '.join(CALIBRATIONS)}")
        if self.calibration == "attained" and self.patterns != "mean":
            raise InputError(f"attained correlations are those of time averages, in which the patterns {self.patterns} "
                             "are not visible; take the patterns mean, or attainable correlations")
        if unknown := [name for name in self.features if name not in ATTAINABLE]:
            raise InputError(f"no simulated features {unknown[0]!r}; there are {', '.join(ATTAINABLE)}")


def simulate(root: Path | str, work: Path | str, plan: CorpusPlan | None = None, *, progress: bool = True) -> Path:
    """Simulate a corpus without media in ``root`` and its features in ``work``; returns ``root``.

    Features that are there already are left as they are, so sets can be added later.

    Raises:
        InputError: ``root`` holds something else.
    """
    plan = plan or CorpusPlan()
    size = size_named(plan.size)
    levels = dict(ATTAINABLE)  # of all sets, whichever are written, so that others can be added later
    if plan.calibration == "attained":
        averages = replace(AVERAGES, clips=size.clips, width=size.width)
        levels |= calibrate(fit_ridge, CROSSING, averages, plan.seed)[0]
        levels |= {official: levels[name] for official, name in OFFICIAL.items()}
    levels = {name: level * plan.strength for name, level in levels.items()}
    simulation = size.plan(levels, plan.patterns, plan.seed)
    write_corpus(simulation, root)
    write_features(simulation, work, plan.features, progress=progress)
    return Path(root)
