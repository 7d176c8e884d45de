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

TICK = Fraction(1, 90_000)
"""Seconds that times are kept to: thirtieths and milliseconds are both whole numbers of it."""
EXACT = {"fflags": "+bitexact"}
"""Without it FFmpeg's muxers write their version into the file."""

H264 = {"preset": "veryfast", "crf": "24", "x264-params": "mbtree=0"}
"""With x264's macroblock tree the same pictures gave other bytes from call to call on machines with AVX-512."""
VP8 = {"deadline": "good", "cpu-used": "5"}
"""In its real-time mode libvpx looks at the clock and does less when the machine is busy."""


def film(
    path: Path,
    pictures: Iterable[np.ndarray],
    times: np.ndarray,
    *,
    sound: np.ndarray | None,
    sound_rate: int,
    rate: int = 30,
    container: str = "mp4",
) -> None:
    """Write a video file.

    ``pictures`` are ``(height, width, 3)`` uint8 RGB, shown at ``times`` (seconds, rising, one each). ``rate`` is the
    frame rate that the container claims, true or not. ``sound`` is ``(sample,)`` float in -1..1, or none for a file
    without a sound stream. ``container`` is ``mp4`` (H.264, AAC), or what browsers record: ``webm`` (VP8, Opus) or
    ``matroska`` (H.264, Opus); the path's ending says nothing of it.
    """
    temporary = path.with_name(f".{path.name}.part")
    with av.open(str(temporary), "w", format=container, options=EXACT) as output:
        if container == "webm":
            video = output.add_stream("libvpx", rate=rate, options=VP8)
            video.bit_rate = 600_000
        else:
            video = output.add_stream("libx264", rate=rate, options=H264)
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.time_base = TICK
        voice = None
        if sound is not None:
            voice = output.add_stream("aac" if container == "mp4" else "libopus", rate=48_000, layout="mono")
            voice.bit_rate = 64_000
        for number, (picture, time) in enumerate(zip(pictures, times, strict=True)):
            if number == 0:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time / TICK), TICK
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if voice is not None:
            _encode_sound(output, voice, sound, sound_rate)
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
