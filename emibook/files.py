"""Files that appear whole or not at all, and a lock for what only one command may write at a time."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path beside ``path`` to write to. It becomes ``path`` when the block ends, and is gone where the block fails.

    Its name holds the process's number, so two processes that write the same file do not write into each other's; the
    folder is made where it is missing. An ``OSError`` that names no file, as that of a full disk, names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8 that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def link_or_copy(source: Path, target: Path) -> None:
    """Put ``source`` at ``target`` too: as a hard link where the file system has them, else as a copy."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def cache_folder() -> Path:
    """Where what every project of this user shares is kept: ``EMIBOOK_CACHE``, else ``emibook`` in the user's cache.

    That is ``XDG_CACHE_HOME`` where it is set, and ``~/.cache``. The folder need not exist yet.
    """
    if own := os.environ.get("EMIBOOK_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "emibook"


@contextmanager
def lock(target: Path, *, progress: bool = True) -> Iterator[None]:
    """Wait until no other command writes ``target``, a folder, and report the wait. The lock ends with its process.

    It is a hidden file beside that folder. Where it cannot be written, nothing else can be, and none is held.
    """
    held = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        held.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"{target} is being written by another command; waiting for it", file=sys.stderr)
        held.acquire()
    except OSError:
        pass
    try:
        yield
    finally:
        held.release()
