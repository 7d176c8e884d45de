"""Published weights on this machine: what is there, fetching what is not, and holding every file to its SHA-256.

Files of the Hugging Face hub lie in its own cache, others in the torch hub's, so that they are shared with whatever
else uses them. Where ``PRETRAINED`` knows no hash, the first file seen is trusted: its revision and hash are written to
``~/.cache/emibook/weights.json`` and every later file is held to them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emibook import InputError
from emibook.features.weights import PRETRAINED, Pretrained, file_fingerprint

CHUNK = 1 << 20  # bytes
TIMEOUT_SECONDS = 30
SHA256_DIGITS = 64


def cached(name: str) -> Path | None:
    """The file of the weights ``name`` in the usual cache, unchecked; None where there is none. Needs no network."""
    weights = _row(name)
    if not weights.file:
        return None
    if weights.is_url:
        return next((path for path in _torch_places(weights) if path.is_file()), None)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(weights.source, weights.file, revision=_revision(name))
    return Path(found) if isinstance(found, str) else None


def verified(name: str) -> Path:
    """The cached file of the weights ``name`` after a check of its SHA-256.

    Raises ``InputError`` where there is none, with the command that gets it, and where it is another file.
    """
    weights, path = _row(name), cached(name)
    if path is None:
        raise InputError(f"{name}: no {weights.about} on this machine; {remedy(name)}")
    digest, expected = file_fingerprint(path), expected_sha256(name, path)
    if not digest.startswith(expected):
        raise InputError(f"{name}: {path} has SHA-256 {digest[:12]}, expected {expected[:12]}; delete it, then "
                         f"emibook weights get {name}")
    if not weights.sha256 and name not in _trusted():
        _trust(name, path, digest)
    return path


def expected_sha256(name: str, path: Path) -> str:
    """What the SHA-256 of the cached file ``path`` has to be; empty where nobody has said."""
    blob = path.resolve().name  # the hub's cache calls a large file by the SHA-256 that the hub told
    told = blob if len(blob) == SHA256_DIGITS else ""
    return _row(name).sha256 or _trusted().get(name, {}).get("sha256") or told


def get(name: str, *, progress: bool = True) -> Path:
    """Fetch the weights ``name`` unless they are there, check them, and return the cached file.

    A download that stopped goes on where it was; the file appears in the cache when it is whole. Says the licence first
    where it does not allow any use. Raises ``InputError``, in one line, where there is no network, no space, or the
    file is not the one that it should be.
    """
    weights = _row(name)
    if cached(name):
        return verified(name)
    if not weights.file:
        raise InputError(f"{name}: its owners hand it out by hand; {remedy(name)}")
    if weights.restricted:
        print(f"{name}: {weights.licence}: {weights.use} only; see {weights.page}", file=sys.stderr)
    with _in_one_line(name):
        if weights.is_url:
            _from_address(name, weights.source, _torch_places(weights)[0], weights.sha256 or "", progress)
        else:
            _from_hub(name, weights, progress)
    return verified(name)


def remedy(name: str) -> str:
    """What a reader does to have the weights ``name``."""
    weights = PRETRAINED[name]
    if not weights.file:
        return f"take a checkpoint from {weights.page} and give it with --weights {name}=FILE"
    return f"run emibook weights get {name} (needs a network), or give its file with --weights"


def overview() -> list[dict[str, str]]:
    """One row for each of ``PRETRAINED``: text for ``emibook weights`` and for the book."""
    trusted = _trusted()
    rows = []
    for name, weights in PRETRAINED.items():
        revision = weights.revision or trusted.get(name, {}).get("revision", "")
        digest = weights.sha256 or trusted.get(name, {}).get("sha256", "")
        pins = [f"revision {revision[:12]}" if revision else "no revision yet"] * (not weights.is_url)
        pins += [f"SHA-256 {digest[:12]}{'' if weights.sha256 else ' (as first fetched)'}" if digest else
                 "no SHA-256 yet (the first download's is kept)"]
        rows.append({
            "name": name,
            "present": "yes" if cached(name) else "no" if weights.file else "by hand",
            "MB": str(weights.megabytes or "?"),
            "licence": weights.licence,
            "who may use it": weights.use,
            "pinned by": ", ".join(pins) if weights.file else "-",
            "what": weights.about,
            "source": weights.page,
        })
    return rows


def _row(name: str) -> Pretrained:
    if name not in PRETRAINED:
        raise InputError(f"no weights called {name!r}; there are {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def _torch_places(weights: Pretrained) -> list[Path]:
    """Where torch's hub keeps files, and where facenet-pytorch does."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return [home / "hub" / "checkpoints" / weights.file, home / "checkpoints" / weights.file]


def _ledger() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "emibook" / "weights.json"


def _trusted() -> dict[str, dict[str, Any]]:
    """What the first downloads brought, for the weights as they are listed now."""
    try:
        trusted = json.loads(_ledger().read_text(encoding="utf-8"))
        return {name: row for name, row in trusted.items()
                if name in PRETRAINED and row["source"] == PRETRAINED[name].source}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{_ledger()} is not readable ({error}); delete it to trust the files anew") from None


def _trust(name: str, path: Path, digest: str) -> None:
    weights, ledger = PRETRAINED[name], _ledger()
    revision = weights.revision or (path.parent.name if not weights.is_url else "")  # snapshots/<commit>/<file>
    row = {"source": weights.source, "file": weights.file, "revision": revision, "sha256": digest}
    ledger.parent.mkdir(parents=True, exist_ok=True)
    temporary = ledger.with_name(f".{ledger.name}.part")
    temporary.write_text(json.dumps(_trusted() | {name: row}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, ledger)
    print(f"{name}: first seen with SHA-256 {digest[:12]}; from now on every file is held to it ({ledger})",
          file=sys.stderr)


def _revision(name: str) -> str | None:
    return PRETRAINED[name].revision or _trusted().get(name, {}).get("revision")


def _from_hub(name: str, weights: Pretrained, progress: bool) -> None:
    """Put a model's files into the hub's cache.

    Its client begins a file anew where a download was stopped, so large files are fetched here, to where it keeps what
    it has; the client then does the rest. The hub tells a large file's SHA-256 in the place of an ETag.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{weights.source.replace('/', '--')}" / "blobs"
    for file in (*weights.beside, weights.file):  # the one that is looked for comes last
        address = hf_hub_url(weights.source, file, revision=_revision(name))
        told = get_hf_file_metadata(address).etag or ""
        if len(told) == SHA256_DIGITS and not (blobs / told).exists():
            _from_address(name, address, blobs / told, told, progress)
        hf_hub_download(weights.source, file, revision=_revision(name))


def _from_address(name: str, address: str, target: Path, expected: str, progress: bool) -> None:
    """Download to a file beside ``target``, going on where one stopped, check its SHA-256 and rename it."""
    from tqdm.auto import tqdm

    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    part = target.with_name(f".{target.name}.part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has nothing from there on
            part.unlink()
            raise InputError(f"{name}: what was downloaded is longer than the file, and is thrown away; try again"
                             ) from None
        raise
    with answer:
        have = have if answer.status == 206 else 0  # a server that knows no ranges sends the whole file
        total = have + int(answer.headers.get("Content-Length") or 0)
        if (free := shutil.disk_usage(target.parent).free) < total - have:
            raise InputError(f"{name}: {total - have:,} bytes to come, {free:,} free in {target.parent}; make room")
        with (part.open("ab" if have else "wb") as file,
              tqdm(desc=name, initial=have, total=total, unit="B", unit_scale=True, disable=not progress) as bar):
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            have = file.tell()
    if have < total:
        raise InputError(f"{name}: the download stopped at {have:,} of {total:,} bytes; the same command goes on there")
    digest = file_fingerprint(part)
    if not digest.startswith(expected):
        part.unlink()
        raise InputError(f"{name}: what {address} gave has SHA-256 {digest[:12]}, expected {expected[:12]}; nothing "
                         "was kept")
    os.replace(part, target)


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """What can go wrong on the way, as an ``InputError`` that says what to do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the hub's client and its transport raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{name}: the disk is full; make room, and the same command goes on") from None
        if type(error) is urllib.error.URLError:  # around what really happened
            error = error.reason
        elif isinstance(error, OSError) and error.errno and error.filename:
            raise InputError(f"{name}: it cannot be kept ({error.strerror}: {error.filename}); mend that, or choose "
                             "another folder with XDG_CACHE_HOME") from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{name}: {PRETRAINED[name].page} could not be fetched ({reason}); try again with a network, "
                         "or give the file with --weights") from None
