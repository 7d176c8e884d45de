"""Video and sound files in the formats of browsers and phones.

Every encoder runs in one thread and writes no date, so that the same pictures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from emibook import files
from emibook.preprocess import media

TICK = Fraction(1, 90_000)
"""Time base in seconds: 1/30 s and 1 ms are both multiples of it."""
EXACT = {"fflags": "+bitexact"}
"""Without it FFmpeg's muxers write their version into the file."""

H264 = {"preset": "veryfast", "crf": "24", "x264-params": "mbtree=0"}
"""With x264's macroblock tree the same pictures gave other bytes from call to call on machines with AVX-512."""
VP8 = {"deadline": "good", "cpu-used": "5"}
"""In its real-time mode libvpx adapts its effort to the time that it takes, so bytes would differ."""


def film(
    path: Path,
    pictures: Iterable[np.ndarray],
    times: np.ndarray,
    *,
    sound: np.ndarray | None,
    rate: int = media.FRAME_RATE,
    container: str = "mp4",
) -> None:
    """Write a video file.

    Args:
        path: the file; its ending does not determine the container.
        pictures: (height, width, 3) uint8 RGB each.
        times: (picture,) seconds, rising.
        sound: (sample,) float in -1..1 at 16 kHz, or None for a file without a sound stream.
        rate: frame rate in the container's header, correct or not.
        container: ``mp4`` (H.264, AAC), or the formats of browsers: ``webm`` (VP8, Opus), ``matroska`` (H.264, Opus).
    """
    with files.replacing(path) as temporary, av.open(str(temporary), "w", format=container, options=EXACT) as output:
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
            _encode_sound(output, voice, sound)


def record(path: Path, sound: np.ndarray) -> None:
    """Write ``(sample,)`` float in -1..1 at 16 kHz as mono mp3."""
    options = {**EXACT, "id3v2_version": "0"}
    with files.replacing(path) as temporary, av.open(str(temporary), "w", format="mp3", options=options) as container:
        stream = container.add_stream("libmp3lame", rate=media.SAMPLE_RATE, layout="mono")
        stream.bit_rate = 64_000
        _encode_sound(container, stream, sound)


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    samples = np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.rate, frame.pts, frame.time_base = media.SAMPLE_RATE, 0, Fraction(1, media.SAMPLE_RATE)
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout="mono", rate=stream.rate, frame_size=stream.codec_context.frame_size
    )
    for source in (frame, None):
        for piece in resampler.resample(source):
            container.mux(stream.encode(piece))
    container.mux(stream.encode(None))
