"""From a clip as it was recorded to pictures and sound on one clock, and to the followed person's aligned faces.

``media`` puts a clip on the clock, ``detector`` finds, follows and aligns, ``clip`` writes one clip's files into a work
folder and reads them back, ``run`` does that for every clip of a corpus.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    **dict.fromkeys(("RATE", "SAMPLE_RATE", "audio", "frames"), "media"),
    **dict.fromkeys(("preprocess_clip", "read_audio", "read_faces", "read_settings", "read_track"), "clip"),
    "CROP": "detector",
    "preprocess": "run",
}


def __getattr__(name: str) -> Any:
    """What ``_HOME`` lists, from its module at the first use: reading a clip's sound need not load a face detector."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
