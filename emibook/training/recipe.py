"""What a training is asked to do: the recipe, and with it the seed and the model that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emibook import InputError
from emibook.models import Branch, rebuild
from emibook.sequences.packed import Sequences
from emibook.training.losses import LOSSES

PRECISIONS = ("float32", "bfloat16", "native")


@dataclass(frozen=True)
class Recipe:
    """How a branch is trained.

    Args:
        name: under which its runs are kept.
        learning_rate: Adam's, in the first epoch.
        batch: clips per optimizer step.
        epochs: passes over the training clips.
        patience: so many epochs without a better validation score halve the learning rate.
        threads: CPU threads, so that sums come out the same on any number of cores; None uses torch's own number.
        loss: a key of ``LOSSES``.
        precision: of the matrix products in training: ``float32``, ``bfloat16``, or ``native``, which is bfloat16
            where the hardware computes in it. Weights, loss and predictions are float32 in any case.
        standardise: whether features are standardised by the training partition.
        decay: decoupled weight decay: in each step the weights of the matrix products, not the biases, shrink by
            ``learning_rate * decay`` of themselves. Source: Loshchilov and Hutter (2019), arXiv 1711.05101.
        average: predictions are made with a running average of the weights, of which each step keeps this share (less
            in the first steps); 0 uses the weights themselves.

    Raises:
        InputError: an unknown loss or precision, or a number out of its range.
    """

    name: str
    learning_rate: float
    batch: int
    epochs: int
    patience: int = 10
    threads: int | None = None
    loss: str = "mse"
    precision: str = "float32"
    standardise: bool = True
    decay: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        for option, choices in {"loss": tuple(LOSSES), "precision": PRECISIONS}.items():
            if getattr(self, option) not in choices:
                raise InputError(f"{option} {getattr(self, option)!r}: choose one of {', '.join(choices)}")
        for option in ("learning_rate", "batch", "epochs", "patience"):
            if not getattr(self, option) > 0:
                raise InputError(f"{option} {getattr(self, option)}: has to be above 0")
        if not (self.decay >= 0 and self.decay * self.learning_rate < 1):
            raise InputError(f"decay {self.decay}: has to be 0 or more, and less than 1 / learning_rate")
        if not 0 <= self.average < 1:
            raise InputError(f"average {self.average}: has to be 0 or more, and below 1")


@dataclass(frozen=True)
class TrainingConfig:
    """One training: its recipe, its seed, and the kind and options of its model (``models.KINDS``).

    Without ``model`` it is the paper's visual branch.
    """

    recipe: Recipe
    seed: int = 0
    model: Mapping | None = None

    def build(self, train: Sequences) -> Branch:
        """The untrained model for these features and targets; its weights are torch's next random numbers."""
        sizes = {"in_features": len(train.names), "targets": len(train.target_names)}
        return rebuild({"kind": "regressor", **(self.model or {}), **sizes})
