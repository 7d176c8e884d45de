"""The models of the branches, and variants: differences from the paper as this project reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from inspect import signature

from emibook import InputError
from emibook.models import IntensityRegressor
from emibook.sequences.timeline import SequenceConfig
from emibook.training.loop import Recipe

BASELINE = " (baseline)"  # behind the feature set: the model is the organisers' kind, not the paper's
MODELS = {
    "V": {"kind": "regressor", "transformer_layers": 2},
    "A": {"kind": "regressor", "transformer_layers": 0},
    "V (baseline)": {"kind": "recurrent"},
    "A (baseline)": {"kind": "linear"},
}
TRANSFORMER_OPTIONS = ("attention", "positions", "dropout")  # the acoustic branch has no Transformer
MODEL_OPTIONS = tuple(signature(IntensityRegressor).parameters)[2:]


@dataclass(frozen=True)
class Variant:
    """A difference from the paper as this project reads it; every option left out is as in the paper.

    ``sequence``: options of ``SequenceConfig``; ``model``: of ``models.IntensityRegressor`` (the organisers'
    baselines have none of them); ``recipe``: of ``training.Recipe``. ``one | other`` is both together.

    Raises:
        InputError: an unknown option, or one that ``one`` and ``other`` both have.
    """

    name: str = "base"
    sequence: Mapping[str, object] = field(default_factory=dict)
    model: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {
            "sequence": [option.name for option in fields(SequenceConfig)],
            "model": MODEL_OPTIONS,
            "recipe": [option.name for option in fields(Recipe)],
        }
        for part, options in known.items():
            if unknown := sorted(set(getattr(self, part)) - set(options)):
                raise InputError(f"variant {self.name}: {part} has no {unknown[0]}; it has {', '.join(options)}")

    def __or__(self, other: Variant) -> Variant:
        joined = {}
        for part in ("sequence", "model", "recipe"):
            one, two = getattr(self, part), getattr(other, part)
            if both := sorted(set(one) & set(two)):
                raise InputError(f"variants {self.name} and {other.name} both change {both[0]}")
            joined[part] = {**one, **two}
        name = "+".join(variant.name for variant in (self, other) if variant != BASE)
        return Variant(name or BASE.name, **joined)

    def model_of(self, kind: str) -> dict:
        """The model of a branch of this ``kind``, a key of ``MODELS``."""
        if kind.endswith(BASELINE):
            return MODELS[kind]
        options = dict(self.model)
        if kind == "A":
            # "As wide as the input" is said of the visual branch.
            visual_only = [*TRANSFORMER_OPTIONS, *(["channels"] if options.get("channels", 0) is None else [])]
            options = {name: value for name, value in options.items() if name not in visual_only}
        return MODELS[kind] | options


BASE = Variant()
