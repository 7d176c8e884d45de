"""emibook: one challenge paper on emotional mimicry intensity, rebuilt from pixels and waveforms to its last table.

Source: Yu, Zhu, Zhu (2024), arXiv 2403.11757. The method, in the order of the data: ``corpus``, ``preprocess``,
``features``, ``sequences``, ``metrics``, ``models``, ``training``, ``fusion``, ``evaluation``, ``experiments``,
``predict``. Four wings use it: ``puppet``, ``studies``, ``audit``, ``book``. Below it lie ``compute``, ``files``,
``device``, ``figures`` and ``doctor``.
"""

from __future__ import annotations

__version__ = "0.1.0"

_MODULE_OF = {
    "Corpus": "corpus", "open_corpus": "corpus",
    "EXTRACTORS": "features", "extract": "features",
    "load": "sequences.load",
    "TCN": "models", "IntensityRegressor": "models",
    "Recipe": "training.recipe",
    "pearson": "metrics", "mean_pearson": "metrics",
    "late_fusion": "fusion",
    "bootstrap_interval": "evaluation", "paired_difference": "evaluation",
    "Run": "experiments", "tables": "experiments", "train": "experiments",
    "submit": "predict",
    "Resources": "compute",
    "make_corpus": "puppet.corpus",
    "check_exercise": "book.exercises",
}
"""The names that most notebooks need, and where each is from."""
__all__ = ["InputError", *_MODULE_OF]


class InputError(ValueError):
    """What was given cannot be used. Its text is one line: what was found, where, and what to do."""


def __getattr__(name: str) -> object:
    """The names of ``_MODULE_OF``, loaded at their first use: ``import emibook`` itself loads nothing."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
