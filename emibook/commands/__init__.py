"""The commands, by what they work on; ``cli`` parses and calls them. What all of them share is here.

The library is imported inside each command, so that --help answers before torch and pandas could load.
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
"""Failures told one by one; the others by their number."""

LARGEST_SEED = 2**63 - 1
"""Torch takes no larger one, and nothing takes one below 0."""

app = tyro.extras.SubcommandApp()


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Register a command. Parsing hands back the call instead of making it, so that complaints of the two differ."""

    @functools.wraps(function)
    def parsed(*values: object, **options: object) -> Callable[[], int]:
        return functools.partial(_checked, function, *values, **options)

    app.command(parsed, name=function.__name__.replace("_", "-"))
    return function


def _checked(function: Callable[..., int], *values: object, **options: object) -> int:
    """Call a command after a look at what several of them have."""
    seed = options.get("seed", 0)
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed}: give a whole number from 0 to {LARGEST_SEED}")
    return function(*values, **options)
