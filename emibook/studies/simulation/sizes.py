"""How large a simulation is, and the sizes that have a name."""

from __future__ import annotations

from dataclasses import dataclass

from emibook import InputError
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.features import Simulation


@dataclass(frozen=True)
class Size:
    """The size of a simulation.

    ``clips`` of the training, validation and test partition; ``steps``, the most that a clip has; ``frame_rate``, steps
    per second; ``width``, the most features that a set has, None for as many as the real one.
    """

    name: str
    clips: tuple[int, int, int]
    steps: int
    frame_rate: float
    width: int | None

    def plan(
        self, levels: dict[str, float], patterns: str, seed: int = 0, crossing: float = simulated_features.CROSSING
    ) -> Simulation:
        """A simulation of this size whose attainable correlations are ``levels``; see ``best_predictor.plan``."""
        widths = {name: min(width, self.width or width) for name, width in simulated_features.WIDTHS.items()}
        return best_predictor.plan(levels, patterns=patterns, crossing=crossing, widths=widths, clips=self.clips,
                                   steps=self.steps, frame_rate=self.frame_rate, seed=seed)


PAPER_CLIPS = tuple(simulated_features.CLIPS.values())
TINY = "tiny"
SIZES = {
    size.name: size
    for size in (
        Size("full", PAPER_CLIPS, 300, 30.0, None),
        Size("reduced", PAPER_CLIPS, 75, 7.5, 64),
        Size(TINY, (240, 120, 120), 20, 2.0, 8),
    )
}
"""``full``: as the real set, for a GPU. ``reduced``: all clips, a quarter of the steps, at most 64 features per set."""
AVERAGES = Size("averages", PAPER_CLIPS, 10, 1.0, 64)
"""For studies that only use time averages: few steps are enough."""


def size_named(size: Size | str) -> Size:
    """The size of that name; a ``Size`` as it is. Raises ``InputError`` for an unknown name."""
    if isinstance(size, Size):
        return size
    if size not in SIZES:
        raise InputError(f"no size {size!r}; there are {', '.join(SIZES)}")
    return SIZES[size]
