"""The command line: parses the arguments and calls a function of the library."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

# Waiting threads sleep instead of spinning: where another process uses a core, this makes training several times as
# fast. It has to be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from emibook import InputError, __version__  # noqa: E402
from emibook.commands import app, corpora, results, site  # noqa: E402

COMMANDS = (corpora, results, site)
"""Importing them registers their commands, in the order of --help."""
DESCRIPTION = "From raw video to emotional mimicry intensities: the stages of arXiv 2403.11757, one command each."


def _one_line(report: str) -> str:
    """The parser's boxed message in one line, without the help that follows it."""
    words = " ".join(re.sub("[╭╮╰╯│─•]", " ", report).split())
    for follows in ("Argument helptext:", "For full helptext"):
        words = words.partition(follows)[0]
    return words.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 1 for invalid input or a failure; 2 for an invalid command line; 130 for an interruption.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(__version__)
        return 0
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            command = app.cli(prog="emibook", description=DESCRIPTION, args=arguments)
    except SystemExit as stop:
        if stop.code:
            print(f"emibook: {_one_line(message.getvalue())}; see emibook --help", file=sys.stderr)
        return int(stop.code or 0)
    try:
        return command()
    except InputError as error:
        print(f"emibook: {error}", file=sys.stderr)
    except OSError as error:
        print(f"emibook: {_describe(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("emibook: stopped; repeat the command to resume", file=sys.stderr)
        return 130
    return 1


def _describe(error: OSError) -> str:
    """The error with its file; for a file at the path of a folder, which file it is and what to do."""
    path_text = f": {error.filename}" if error.filename else ""
    if isinstance(error, (FileExistsError, NotADirectoryError)) and error.filename:
        path = Path(os.fsdecode(error.filename))
        for file in (path, *path.parents):
            if file.is_file():
                return f"{file}: is a file where a folder is needed; move it or give another folder"
    return f"{error.strerror or error}{path_text}"


if __name__ == "__main__":
    sys.exit(main())
