"""Tests see no published weights, whatever the machine has: where they are present they are the default.

Built-in encoders that tests fit are kept in pytest's own cache, not in the user's. Where the code that fits them
changed, they are fitted again.
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOWHERE = Path(__file__).parent / "no-weights"  # never made
FITTED_BY = ("puppet/*.py", "preprocess/*.py", "features/action_units.py", "features/resnet18.py",
             "features/image_encoder.py", "models/ridge.py")

os.environ["HF_HUB_CACHE"] = str(NOWHERE / "hub")
os.environ["TORCH_HOME"] = str(NOWHERE / "torch")
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Name the cache of this code's encoders, and delete those of other code."""
    paths = [path for pattern in FITTED_BY for path in sorted((ROOT / "emibook").glob(pattern))]
    code = sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
    cache = Path(config.cache.mkdir("emibook")) / code
    for other in cache.parent.iterdir():
        if other != cache:
            shutil.rmtree(other, ignore_errors=True)
    os.environ["EMIBOOK_CACHE"] = str(cache)
