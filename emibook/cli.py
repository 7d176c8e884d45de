"""The command line: every command is a function of the library, called with what was typed."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

# Threads that wait for each other sleep instead of spinning: where something else has a core, a network is trained
# several times as fast. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from emibook import InputError, __version__  # noqa: E402
from emibook.commands import app, corpora, results, site  # noqa: E402

COMMANDS = (corpora, results, site)
"""Importing them registers what they hold, in the order of --help."""
DESCRIPTION = "From raw video to emotional mimicry intensities: the stages of arXiv 2403.11757, one command each."


def _one_line(report: str) -> str:
    """The parser's boxed complaint as one line: what is wrong, without the help that follows it."""
    words = " ".join(re.sub("[╭╮╰╯│─•]", " ", report).split())
    for follows in ("Argument helptext:", "For full helptext"):
        words = words.partition(follows)[0]
    return words.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0; 1 where the input cannot be used; 2 where the command line was not understood."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(__version__)
        return 0
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command = app.cli(prog="emibook", description=DESCRIPTION, args=arguments)
    except SystemExit as stop:
        if stop.code:
            print(f"emibook: {_one_line(complaint.getvalue())}; see emibook --help", file=sys.stderr)
        return int(stop.code or 0)
    try:
        return command()
    except InputError as error:
        print(f"emibook: {error}", file=sys.stderr)
    except OSError as error:
        print(f"emibook: {_told(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("emibook: stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 1


def _told(error: OSError) -> str:
    """What went wrong with which file; and where a file stands in the way of a folder, which one and what to do."""
    place = f": {error.filename}" if error.filename else ""
    if isinstance(error, (FileExistsError, NotADirectoryError)) and error.filename:
        path = Path(os.fsdecode(error.filename))
        for file in (path, *path.parents):
            if file.is_file():
                return f"{file}: is a file where a folder is wanted; move it or name another folder"
    return f"{error.strerror or error}{place}"


if __name__ == "__main__":
    sys.exit(main())
