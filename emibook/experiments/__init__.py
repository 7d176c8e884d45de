"""From features to the paper's tables: recipes and variants, runs, their scores, Tables 2 and 3.

``recipes`` and ``variants`` say how a branch is trained, ``paper_rows`` which rows there are. ``training_run`` makes
one run, ``batch`` all that are missing, ``runs`` reads them, ``scoring`` makes rows of them, ``paper_tables`` writes
them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULE_OF = {
    **dict.fromkeys(("beside_paper", "tables", "tables_folder", "train"), "paper_tables"),
    **dict.fromkeys(("ABLATIONS", "IMPROVED", "IMPROVEMENTS", "LR_SCALED", "RECIPES", "recipe_for", "variant_for"),
                    "recipes"),
    **dict.fromkeys(("TABLE2", "TABLE3", "chosen_rows"), "paper_rows"),
    **dict.fromkeys(("Experiment", "make_run", "run_folder"), "training_run"),
    "Run": "runs", "Variant": "variants",
}


def __getattr__(name: str) -> Any:
    """What ``_MODULE_OF`` lists, loaded at the first use, so that reading runs loads no encoder."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
