"""Pictures and sound to a file, as browsers and phones write them, with their faults where asked for.

Every encoder runs in one thread and writes no date, so that the same pictures give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
EXACT = {"fflags": "+bitexact"}
"""Without it FFmpeg's muxers write their version into the file."""

H264 = {"preset": "veryfast", "crf": "24", "x264-params": "mbtree=0"}
"""With x264's macroblock tree the same pictures gave other bytes from call to call on machines with AVX-512."""


def film(
    path: Path,
    pictures: Iterable[np.ndarray],
    times: np.ndarray,
    *,
    sound: np.ndarray | None,
    sound_rate: int,
    rate: int = 30,
    webm: bool = False,
) -> None:
    """Write a video file.

    ``pictures`` are ``(height, width, 3)`` uint8 RGB, shown at ``times`` (seconds, rising, one each, kept to the
    millisecond). ``rate`` is only what the container claims. ``sound`` ``(sample,)`` float in -1..1, or none for a
    file without a sound stream. H.264 and AAC in mp4, or VP8 and Opus in WebM whatever the path's ending.
    """
    temporary = path.with_name(f".{path.name}.part")
    with av.open(str(temporary), "w", format="webm" if webm else "mp4", options=EXACT) as container:
        if webm:
            video = container.add_stream("libvpx", rate=rate, options={"deadline": "realtime", "cpu-used": "8"})
            video.bit_rate = 600_000
        else:
            video = container.add_stream("libx264", rate=rate, options=H264)
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.time_base = MILLISECOND
        voice = None
        if sound is not None:
            voice = container.add_stream("libopus" if webm else "aac", rate=48_000, layout="mono")
            voice.bit_rate = 64_000
        for number, (picture, time) in enumerate(zip(pictures, times, strict=True)):
            if number == 0:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), MILLISECOND
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if voice is not None:
            _encode_sound(container, voice, sound, sound_rate)
    os.replace(temporary, path)


def record(path: Path, sound: np.ndarray, sound_rate: int) -> None:
    """Write ``(sample,)`` float in -1..1 as mono mp3 at 16 kHz."""
    temporary = path.with_name(f".{path.name}.part")
    options = {**EXACT, "id3v2_version": "0"}
    with av.open(str(temporary), "w", format="mp3", options=options) as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        stream.bit_rate = 64_000
        _encode_sound(container, stream, sound, sound_rate)
    os.replace(temporary, path)


def _encode_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray, sound_rate: int
) -> None:
    samples = np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.rate, frame.pts, frame.time_base = sound_rate, 0, Fraction(1, sound_rate)
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout="mono", rate=stream.rate, frame_size=stream.codec_context.frame_size
    )
    for source in (frame, None):
        for piece in resampler.resample(source):
            container.mux(stream.encode(piece))
    container.mux(stream.encode(None))
