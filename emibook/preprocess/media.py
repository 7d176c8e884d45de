"""Resampling a clip to one clock: frames at 30 per second and sound at 16 kHz, both from the first frame on.

                 first frame                         times come from the timestamps, never from the container's frame
                 | 1/30 s                            rate or the number of frames
    frames       |.|.|.|.|.|.|.|.|.|
    sound    xxxx|________________|....              earlier sound is cut, a late start is padded with zeros

Source: section 3.2.1 and 3.2.2 of the paper (30 frames a second by FFmpeg; sound at 16 kHz, peak at -3 dB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from emibook import InputError

FRAME_RATE = 30
"""Frames per second of the clock."""
SAMPLE_RATE = 16000
"""Samples of sound per second."""
PEAK = 32767 * 10 ** (-3 / 20)
"""The peak of a sound: -3 dB relative to the largest 16-bit sample."""
SILENCE = 1e-4
"""A peak below this (-80 dB, three steps of 16 bits) is a codec's rounding error and is not amplified."""
GAP_SECONDS = 0.05
"""Sound whose timestamp differs by more than this from the end of the sound before is placed by its timestamp."""


def frames(path: Path | str) -> Iterator[np.ndarray]:
    """Yield the frames of a video on the 30 fps clock, each (height, width, 3) uint8 RGB, upright.

    Frame i is the picture at i/30 s after the first picture's timestamp, as FFmpeg's ``fps`` filter chooses it: the
    last one whose timestamp, rounded to the clock, is not later than i. The file's display matrix is applied; where the
    size changes midway, later pictures are scaled to the first one's size. Of a damaged file, the pictures that decode
    are used. A picture that is used for several frames is the same array each time: do not write into it.

    Raises:
        InputError: the file cannot be opened, has no video stream, or none of its pictures decodes.
    """
    size = last = image = upright = None
    reformatter = VideoReformatter()  # one per clip: setting one up for each picture is slow
    with _opened(path) as container:
        for picture in _clocked(_decoded(container, _stream(container, "video", path))):
            if last is None or picture.planes[0].buffer_ptr != last.planes[0].buffer_ptr:
                # Read once: a picture whose side data were read is kept until the next garbage collection, and
                # hundreds of megabytes with it.
                upright = _display_transform(picture) if upright is None else upright
                image = upright(_pixels(reformatter.reformat(picture, format="rgb24", threads=1)))
                size = size or image.shape[1::-1]
                if image.shape[1::-1] != size:
                    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                last = picture  # kept, so that its memory is not reused for another picture
            yield image
    if size is None:
        raise InputError(f"no picture of {path} decodes; the file is damaged, fetch it again")


def audio(path: Path | str) -> np.ndarray | None:
    """The sound of a video or sound file: int16 (sample,), 16 kHz, mono, its peak at -3 dBFS; None without sound.

    Sample 0 is at the time of the video's first frame; a separate sound file starts with its video. Sound is placed by
    its timestamps: earlier sound is cut, a late start and gaps are zeros. Silence stays silence.

    Raises:
        InputError: the file cannot be opened, or nothing of its sound stream decodes.
    """
    zero = _first_picture_seconds(path)
    with _opened(path) as container:
        stream = _best(container, "audio")
        if stream is None:
            return None
        runs = list(_runs(_decoded(container, stream)))
        end = None if stream.duration is None else ((stream.start_time or 0) + stream.duration) * stream.time_base
    if not runs:
        raise InputError(f"no sound of {path} decodes; the file is damaged, fetch it again")
    zero = runs[0][0] if zero is None else zero
    placed = [(round((start - zero) * SAMPLE_RATE), samples) for start, samples in runs]
    sound = np.zeros(max(0, *(first + len(samples) for first, samples in placed)), dtype=np.float32)
    for first, samples in placed:
        kept = samples[max(0, -first):]
        sound[max(0, first):max(0, first) + len(kept)] = kept
    if end is not None and 0 < len(sound) - (kept_to := round((end - zero) * SAMPLE_RATE)) < SAMPLE_RATE // 10:
        sound = sound[:max(0, kept_to)]  # a codec pads its last block
    if not len(sound):
        return None
    sound = np.nan_to_num(sound, posinf=0, neginf=0)
    peak = float(np.abs(sound).max())
    return np.rint(sound * (PEAK / peak if peak >= SILENCE else 32767)).astype(np.int16)


@contextmanager
def _opened(path: Path | str) -> Iterator[av.container.InputContainer]:
    """The open file; an ``InputError`` holds FFmpeg's own reason."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} has zero bytes; fetch it again")
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # so that each of two damaged files in a row gets its reason
    try:
        with av.logging.Capture() as messages:
            container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        reason = messages[-1][2].strip() if messages else error.strerror
        raise InputError(f"{path} is not a video or sound file that FFmpeg knows, or is damaged ({reason})") from None
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    with container:
        yield container


def _best(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """The stream that FFmpeg takes as the main one; a cover picture is not a video."""
    stream = container.streams.best(kind)
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic or stream.codec_context is None:
        return None
    return stream


def _stream(container: av.container.InputContainer, kind: str, path: Path | str) -> av.stream.Stream:
    stream = _best(container, kind)
    if stream is None:
        raise InputError(f"no {kind} stream in {path}")
    return stream


def _decoded(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.frame.Frame]:
    """The frames of a stream in order of time; a damaged packet is skipped, and a truncated file ends early."""
    stream.codec_context.thread_count = 1  # one process per clip; see ``emibook.compute``
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            packet = None
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            pass
        if packet is None:
            return


def _clocked(pictures: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Pictures resampled to the clock by FFmpeg's ``fps`` filter; the first is at zero and is always kept."""
    graph = None
    first = last = None
    step = Fraction(1, FRAME_RATE)
    count = 0
    for picture in pictures:
        unit = picture.time_base
        if picture.pts is None:
            picture.pts = 0 if last is None else last + round(step / unit)
        elif last is not None and picture.pts > last:
            step = (picture.pts - last) * unit
        last = picture.pts
        if graph is None:
            first = picture
            zero = picture.pts
            graph = av.filter.Graph()
            source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format,
                                      time_base=unit)
            clock, sink = graph.add("fps", str(FRAME_RATE)), graph.add("buffersink")
            source.link_to(clock)
            clock.link_to(sink)
            graph.configure()
        if not picture.duration:
            picture.duration = round(step / unit)  # the filter needs the duration of the last picture
        picture.pts -= zero
        graph.push(picture)
        for output in _pulled(graph):
            count += 1
            yield output
    if graph is None:
        return
    graph.push(None)
    for output in _pulled(graph):
        count += 1
        yield output
    if not count:
        yield first


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _pixels(picture: av.VideoFrame) -> np.ndarray:
    """The pixels of an RGB picture, (height, width, 3) uint8, without a copy."""
    plane = picture.planes[0]
    return np.ndarray((picture.height, picture.width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))


def _display_transform(picture: av.VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """A function that rotates (by quarter turns) and mirrors an image by the display matrix of ``picture``.

    Source: libavutil's display.h; a pixel (x, y) is shown at (a x + c y, b x + d y) for the matrix a b . c d . . . .
    """
    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return lambda image: image
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    sideways = abs(b) > abs(a)
    if sideways:
        a, d = c, b
    rows, columns = -1 if d < 0 else 1, -1 if a < 0 else 1
    return lambda image: np.ascontiguousarray(
        (image.transpose(1, 0, 2) if sideways else image)[::rows, ::columns])


def _first_picture_seconds(path: Path | str) -> Fraction | None:
    """The time of the first picture on the container's clock; None without a video."""
    with _opened(path) as container:
        stream = _best(container, "video")
        if stream is None:
            return None
        for picture in _decoded(container, stream):
            return (picture.pts or 0) * picture.time_base
    return None


def _runs(pieces: Iterable[av.AudioFrame]) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Stretches of sound without a gap, each with its start in seconds and float32 (sample,) at 16 kHz, mono."""
    resampler = None
    layout = None
    start = end = Fraction(0)
    run: list[np.ndarray] = []

    def finished() -> tuple[Fraction, np.ndarray]:
        run.extend(piece.to_ndarray()[0] for piece in resampler.resample(None))
        return start, np.concatenate(run) if run else np.zeros(0, np.float32)

    for piece in pieces:
        time = end if piece.pts is None else piece.pts * piece.time_base
        if resampler is None or layout != (piece.format.name, piece.layout.name, piece.sample_rate) \
                or abs(time - end) > GAP_SECONDS:
            if resampler is not None:
                yield finished()
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            layout = (piece.format.name, piece.layout.name, piece.sample_rate)
            start = end = time
            run = []
        end += Fraction(piece.samples, piece.sample_rate)
        piece.pts = None  # the run is placed as a whole
        run.extend(output.to_ndarray()[0] for output in resampler.resample(piece))
    if resampler is not None:
        yield finished()
