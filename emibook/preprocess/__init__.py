"""From a recorded clip to frames and sound on one clock, and to the main person's aligned faces.

``media`` resamples a clip to the clock; ``detector`` detects faces in an image and ``video_detection`` in a video;
``tracking`` finds the main person; ``alignment`` crops a face; ``clip`` writes and reads the files of one clip, and
``run`` preprocesses every clip of a corpus.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    **dict.fromkeys(("FRAME_RATE", "SAMPLE_RATE", "audio", "frames"), "media"),
    **dict.fromkeys(("CROP_SIZE", "LANDMARKS", "TEMPLATE", "align"), "alignment"),
    **dict.fromkeys(("preprocess_clip", "read_audio", "read_faces", "read_settings", "read_track"), "clip"),
    "preprocess": "run",
}


def __getattr__(name: str) -> Any:
    """The names in ``_HOME``, loaded at first use: reading a clip's sound need not load a face detector."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
