"""How a branch is trained.

``recipe`` says what to do, ``partitions`` with which clips; ``loop`` trains, a batch at a time (``microbatch``,
``losses``, ``optimizer``), and after every epoch writes a ``checkpoint`` from which a killed training resumes.
``live_curves`` draws the log in a notebook that waits.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    **dict.fromkeys(("Recipe", "TrainingConfig"), "recipe"),
    "Partitions": "partitions",
    **dict.fromkeys(("train", "predict", "load_model"), "loop"),
}


def __getattr__(name: str) -> Any:
    """What ``_MODULE_OF`` lists, from its module at the first use: this package alone loads no torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
