"""Tests see no published weights, whatever the machine has: where they are present they are the default."""

from __future__ import annotations

import os
from pathlib import Path

NOWHERE = Path(__file__).parent / "no-weights"  # never made

os.environ["HF_HUB_CACHE"] = str(NOWHERE / "hub")
os.environ["TORCH_HOME"] = str(NOWHERE / "torch")
os.environ["HF_HUB_OFFLINE"] = "1"
