"""The commands in three modules, and what they share; ``cli`` parses the command line and calls them.

The library is imported inside each command, so that --help does not wait for torch and pandas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from emibook import InputError

Root = Annotated[Positional[Path], arg(metavar="ROOT")]
Work = Annotated[Path, arg(metavar="WORK")]
Features = Annotated[tuple[str, ...], arg(metavar="NAME...")]
Runs = Annotated[tuple[Path, ...], arg(metavar="RUN...")]
Scheduler = Annotated[str | None, arg(metavar="ADDRESS")]
Slurm = Annotated[str | None, arg(metavar="PARTITION")]
Device = Annotated[str | None, arg(metavar="cpu|cuda")]
Ratings = Literal["voice", "face", "both"] | None
Fold = Annotated[str | None, arg(metavar="K/N")]

SHOWN = 10
"""Failures that are listed; of the others, the number is given."""

LARGEST_SEED = 2**63 - 1
"""The largest seed of torch; the smallest is 0."""

app = tyro.extras.SubcommandApp()


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Register a command. Parsing returns the call instead of making it, so that their errors can be told apart."""

    @functools.wraps(function)
    def parsed(*values: object, **options: object) -> Callable[[], int]:
        return functools.partial(_checked, function, *values, **options)

    app.command(parsed, name=function.__name__.replace("_", "-"))
    return function


def _checked(function: Callable[..., int], *values: object, **options: object) -> int:
    """Check the options that several commands share, then call the command."""
    seed = options.get("seed", 0)
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed}: give an integer from 0 to {LARGEST_SEED}")
    return function(*values, **options)
