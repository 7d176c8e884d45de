"""Settings of a study as plain data, which files beside the results record and digests identify."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any


def plain(value: Any, *, defaults: bool = True) -> Any:
    """``value`` as JSON has it: a dataclass by its fields' names, a tuple as a list, any float as a float.

    Args:
        defaults: whether fields at their default are included. Without them, a new option with a default changes
            nothing in what is recorded.
    """
    if is_dataclass(value):
        chosen = [field for field in fields(value)
                  if defaults or getattr(value, field.name) != field.default]  # fmt: skip
        return {field.name: plain(getattr(value, field.name), defaults=defaults) for field in chosen}
    if isinstance(value, Mapping):
        return {str(key): plain(item, defaults=defaults) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, defaults=defaults) for item in value]
    if isinstance(value, float):  # NumPy's as well
        return float(value)
    return value


def digest(*settings: Any) -> str:
    """Twelve hexadecimal digits that identify ``settings``, by the names and values of their fields alone."""
    text = json.dumps([plain(setting) for setting in settings], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]
