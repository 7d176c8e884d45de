"""One command at a time where two would write the same files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(made: Path, *, progress: bool = True) -> Iterator[None]:
    """Wait until no other command makes ``made``, a folder, and say so. The lock ends with the process that has it.

    The lock is a hidden file beside that folder. Where it cannot be written, nothing else can be, and none is held.
    """
    lock = FileLock(made.with_name(f".{made.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"{made} is being made by another command; waiting for it", file=sys.stderr)
        lock.acquire()
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()
