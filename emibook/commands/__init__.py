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

app = tyro.extras.SubcommandApp()


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Register a command. Parsing hands back the call instead of making it, so that complaints of the two differ."""

    @functools.wraps(function)
    def parsed(*values: object, **options: object) -> Callable[[], int]:
        return functools.partial(function, *values, **options)

    app.command(parsed, name=function.__name__.replace("_", "-"))
    return function
