"""emibook: one challenge paper on emotional mimicry intensity, rebuilt from pixels and waveforms to its last table.

Source: Yu, Zhu, Zhu (2024), arXiv 2403.11757. The data go through the modules in this order: ``corpus``,
``preprocess``, ``features``, ``dataset``, ``models``, ``training``, ``fusion``, ``experiments``, ``predict``.
"""

__version__ = "0.1.0"


class InputError(ValueError):
    """What was given cannot be used. Its text is one line: what was found, where, and what to do."""


def __getattr__(name: str) -> object:
    """``check_exercise``, for the notebooks: loaded at its first use, because this package loads nothing by itself."""
    if name != "check_exercise":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from emibook.book.exercises import check_exercise

    return check_exercise
