"""Published weights: what this machine has, download of what is missing, and a check of every file's SHA-256.

Files of the Hugging Face hub lie in its own cache, others in torch hub's, so that they are shared with other programs.
A file of the hub is identified by the commit in ``PRETRAINED``; the hub's cache names a large file by its SHA-256, and
that is checked where ``PRETRAINED`` has none.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from emibook import InputError
from emibook.doctor import Finding
from emibook.features.weights import PRETRAINED, Pretrained, file_fingerprint

SHA256_DIGITS = 64


def cached(name: str) -> Path | None:
    """The file of the weights ``name`` in its cache, unchecked; None where there is none. Needs no network."""
    weights = _row(name)
    if not weights.file:
        return None
    if weights.is_url:
        return next((path for path in _torch_paths(weights) if path.is_file()), None)
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(weights.source, weights.file, revision=weights.revision)
    return Path(path) if isinstance(path, str) else None


def verified(name: str) -> Path:
    """The cached file of the weights ``name``, after a check of its SHA-256.

    Raises:
        InputError: there is none, or it is another file.
    """
    path = cached(name)
    if path is None:
        raise InputError(f"{name}: no {PRETRAINED[name].about} on this machine; {remedy(name)}")
    digest, expected = file_fingerprint(path), expected_sha256(name, path)
    if not digest.startswith(expected):
        raise InputError(f"{name}: {path} has SHA-256 {digest[:12]}, expected {expected[:12]}; delete it, then "
                         f"emibook weights get {name}")
    return path


def expected_sha256(name: str, path: Path | None) -> str:
    """The SHA-256 that the cached file ``path`` should have; empty where it is unknown."""
    blob = path.resolve().name if path else ""
    return PRETRAINED[name].sha256 or (blob if len(blob) == SHA256_DIGITS else "")


def get(name: str, *, progress: bool = True) -> Path:
    """Download the weights ``name`` unless this machine has them, check them, and return the cached file.

    The file appears in the cache when it is complete. A licence that restricts the use is printed first.

    Raises:
        InputError: the name is unknown, the weights are not available for download, there is no network or no disk
            space, or the file has another SHA-256 than expected.
    """
    weights = _row(name)
    if cached(name):
        return verified(name)
    if not weights.file:
        raise InputError(f"{name}: not available for download; {remedy(name)}")
    if weights.restricted:
        print(f"{name}: {weights.licence}: {weights.use} only; see {weights.page}", file=sys.stderr)
    try:
        _download(weights, progress)
    except Exception as error:  # whatever the two libraries and their transport raise
        raise _explained(name, error) from None
    return verified(name)


def remedy(name: str) -> str:
    """How to get the weights ``name``."""
    weights = PRETRAINED[name]
    if not weights.file:
        return f"get a checkpoint from {weights.page} and give it with --weights {name}=FILE"
    return f"run emibook weights get {name} (needs a network), or give its file with --weights"


def overview() -> list[dict[str, str]]:
    """One row for each of ``PRETRAINED``: text for ``emibook weights`` and for the book."""
    rows = []
    for name, weights in PRETRAINED.items():
        path = cached(name)
        digest = expected_sha256(name, path)
        pins = [f"revision {weights.revision[:12]}"] if weights.revision else []
        pins += [f"SHA-256 {digest[:12]}{'' if weights.sha256 else ' (as downloaded)'}"] if digest else []
        rows.append({
            "name": name,
            "present": "yes" if path else "no" if weights.file else "by hand",
            "MB": str(weights.megabytes or "?"),
            "licence": weights.licence,
            "who may use it": weights.use,
            "pinned by": ", ".join(pins) or "-",
            "what": weights.about,
            "source": weights.page,
        })
    return rows


def findings() -> list[Finding]:
    """Each of the published weights for ``emibook doctor``, checked where its SHA-256 is known. Needs no network."""
    results = []
    for name, weights in PRETRAINED.items():
        what, path = f"weights {name}", cached(name)
        if path is None:
            size = f", {weights.megabytes} MB" if weights.megabytes else ""
            results.append(Finding(what, f"missing: {weights.about}{size}", False, False,
                                   f"emibook weights get {name}" if weights.file else remedy(name)))
            continue
        expected = expected_sha256(name, path)
        if file_fingerprint(path).startswith(expected):
            checked = "SHA-256 as expected" if expected else f"revision {weights.revision[:12]}, SHA-256 unknown"
            results.append(Finding(what, f"{path}, {checked}", True, False))
        else:
            results.append(Finding(what, f"{path} is another file than was published (its SHA-256 differs)", False,
                                   False, f"delete it, then emibook weights get {name}"))
    return results


def _row(name: str) -> Pretrained:
    if name not in PRETRAINED:
        raise InputError(f"no weights called {name!r}; there are {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def _torch_paths(weights: Pretrained) -> list[Path]:
    """Where torch hub keeps a file, and where facenet-pytorch does."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return [home / "hub" / "checkpoints" / weights.file, home / "checkpoints" / weights.file]


def _download(weights: Pretrained, progress: bool) -> None:
    if weights.is_url:
        import pooch

        pooch.get_logger().setLevel("WARNING")
        target = _torch_paths(weights)[0]
        pooch.retrieve(weights.source, f"sha256:{weights.sha256}", fname=target.name, path=target.parent,
                       progressbar=progress)
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    (enable_progress_bars if progress else disable_progress_bars)()
    try:
        for file in (*weights.beside, weights.file):  # the one that ``cached`` looks for comes last
            hf_hub_download(weights.source, file, revision=weights.revision)
    finally:
        (enable_progress_bars if shown else disable_progress_bars)()


def _explained(name: str, error: Exception) -> InputError:
    """The reason of a failed download in one line, with what to do."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"{name}: the disk is full; free disk space and repeat the command")
    if isinstance(error, OSError) and error.errno and error.filename:
        return InputError(f"{name}: it cannot be written ({error.strerror}: {error.filename}); correct that, or choose "
                          "another folder with XDG_CACHE_HOME")
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, ValueError) and "hash" in reason:
        return InputError(f"{name}: {PRETRAINED[name].page} gave another file than was published ({reason}); nothing "
                          "was kept")
    return InputError(f"{name}: {PRETRAINED[name].page} could not be downloaded ({reason[:200]}); try again with a "
                      "network, or give the file with --weights")
