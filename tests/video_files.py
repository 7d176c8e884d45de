"""Small video files: numbered pictures at given times, sound from a given time."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from emibook.preprocess.detector import Detections

UNIT = Fraction(1, 90000)
COARSE = ("mpeg4", "wmv2")  # codecs whose time unit has few bits


def numbered(number: int, height: int = 48, width: int = 128) -> np.ndarray:
    """A picture that holds ``number`` (0..255) as eight columns, dark or bright: any codec leaves it readable."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat([40 + 170 * bit for bit in bits], width // 8).astype(np.uint8)
    row = np.pad(row, (0, width - len(row)), mode="edge")
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_in(image: np.ndarray) -> int:
    """The number that a picture holds."""
    step = image.shape[1] // 8
    columns = image[image.shape[0] // 2, step // 2: 8 * step: step].mean(axis=1)
    return sum(1 << bit for bit in range(8) if columns[bit] > 125)


def write_clip(path: Path, images, times=None, *, rate=30, codec="libx264", pixels="yuv420p", duration=None,
               sound=None, sound_rate=44100, sound_codec="aac", sound_start=Fraction(0), container=None) -> Path:
    """Write ``images`` at ``times`` (seconds; i/rate where not given), and ``sound`` (float, -1..1) at its own start.

    ``rate`` is also what the container claims. ``duration`` (seconds) is how long each picture says that it lasts.
    """
    times = [Fraction(i) / Fraction(rate) for i in range(len(images))] if times is None else times
    with av.open(str(path), "w", format=container) as out:
        video = None
        if len(images):
            video = out.add_stream(codec, rate=Fraction(rate), options={"x265-params": "log-level=none"})
            video.height, video.width = images[0].shape[:2]
            video.pix_fmt = pixels
            video.codec_context.max_b_frames = 0
            video.codec_context.time_base = video.time_base = 1 / Fraction(rate) if codec in COARSE else UNIT
        voice = None if sound is None else out.add_stream(sound_codec, rate=sound_rate, layout="mono")
        packets = []
        for image, at in zip(images, times, strict=True):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.time_base = video.codec_context.time_base
            picture.pts = round(Fraction(at) / picture.time_base)
            if duration is not None:
                picture.duration = round(Fraction(duration) / picture.time_base)
            packets += video.encode(picture)
        if video:
            packets += video.encode()
        if voice:
            block = av.AudioFrame.from_ndarray(np.asarray(sound, np.float32)[None], format="fltp", layout="mono")
            block.rate, block.time_base = sound_rate, Fraction(1, sound_rate)
            block.pts = round(sound_start * sound_rate)
            packets += [*voice.encode(block), *voice.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def tone(seconds: float, rate: int = 44100, hertz: float = 440, start: float = 0.0) -> np.ndarray:
    """A tone of half the full scale that begins ``start`` seconds into the silence."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * t) * (t >= start)).astype(np.float32)


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set the display matrix a b c d of the first track of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags, then 36 bytes before the matrix
    a, b, c, d = (value << 16 for value in matrix)
    data[at:at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def seen(*people):
    """The detections of one frame; each person is (x, y, width) or (x, y, width, probability)."""
    boxes = np.array([(x, y, x + width, y + 1.2 * width) for x, y, width, *_ in people], np.float32).reshape(-1, 4)
    probabilities = np.array([p[0] if p else 0.99 for _, _, _, *p in people], np.float32)
    return Detections(boxes, probabilities, np.zeros((len(people), 5, 2), np.float32))
