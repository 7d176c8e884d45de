"""Models of one branch: a feature sequence and its mask in, one number per target out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from emibook.models.base import Branch
from emibook.models.baselines import LinearBaseline, RecurrentBaseline
from emibook.models.regressor import IntensityRegressor
from emibook.models.tcn import TCN
from emibook.models.transformer import TransformerEncoder

__all__ = ["KINDS", "TCN", "Branch", "IntensityRegressor", "TransformerEncoder", "describe", "rebuild"]

KINDS: dict[str, type[Branch]] = {
    "regressor": IntensityRegressor,
    "recurrent": RecurrentBaseline,
    "linear": LinearBaseline,
}


def describe(model: Branch) -> dict:
    """The kind of ``model`` and the arguments that build it, as JSON can hold them."""
    kind = next(name for name, cls in KINDS.items() if type(model) is cls)
    return {"kind": kind, **model.config}


def rebuild(description: Mapping, weights: Mapping[str, Tensor] | None = None) -> Branch:
    """A model from what ``describe`` returned; with ``weights``, its ``state_dict``, which has to be complete."""
    options = dict(description)
    model = KINDS[options.pop("kind")](**options)
    if weights is not None:
        model.load_state_dict(dict(weights), strict=True)
    return model
