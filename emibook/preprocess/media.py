"""A clip on the clock: its pictures 30 times a second and its sound at 16 kHz, both counted from the first picture.

                 first picture                       time is what the timestamps say: neither the container's frame
                 | 1/30 s                            rate nor the number of frames is believed
    pictures     |.|.|.|.|.|.|.|.|.|
    sound    xxxx|________________|....              what comes before is cut, a late start is padded with zeros

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

RATE = 30
"""Pictures a second on the clock."""
SAMPLE_RATE = 16000
"""Samples of sound a second."""
PEAK = 32767 * 10 ** (-3 / 20)
"""-3 dB below the largest 16-bit sample."""
SILENCE = 1e-4
"""A peak below this (-80 dB, three steps of 16 bits) is a codec's rounding: it is left as it is."""
GAP_SECONDS = 0.05
"""Sound whose timestamp is this far from the end of what came before is put where its timestamp says."""


def frames(path: Path | str) -> Iterator[np.ndarray]:
    """Yield the pictures of a video on the 30 fps clock, each (height, width, 3) uint8 RGB, upright.

    Frame i is the picture at i/30 s after the first picture's timestamp, as FFmpeg's ``fps`` filter decides it: the
    last one whose timestamp, rounded to the clock, is not later than i. The file's display matrix is applied; where the
    size changes midway, later pictures are scaled to the first one's size. Of a damaged file comes what decodes.
    A picture that stands for several frames is the same array each time: do not write into it.

    Raises ``InputError`` where the file cannot be opened, has no video stream, or no picture of it decodes.
    """
    size = last = image = turn = None
    reformatter = VideoReformatter()  # one for the clip: a picture's own one is set up anew for each
    with _opened(path) as container:
        for picture in _clocked(_decoded(container, _stream(container, "video", path))):
            if last is None or picture.planes[0].buffer_ptr != last.planes[0].buffer_ptr:
                # Asked once: a picture whose side data were read is held until the next garbage collection, and
                # hundreds of megabytes with it.
                turn = _turn(picture) if turn is None else turn
                image = turn(_pixels(reformatter.reformat(picture, format="rgb24", threads=1)))
                size = size or image.shape[1::-1]
                if image.shape[1::-1] != size:
                    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                last = picture  # held, so that its memory is no other picture's
            yield image
    if size is None:
        raise InputError(f"no picture of {path} decodes; the file is damaged, fetch it again")


def audio(path: Path | str) -> np.ndarray | None:
    """The sound of a video or sound file: int16 (sample,), 16 kHz, mono, its peak at -3 dBFS; None where it has none.

    Sample 0 belongs to the video's first picture; a sound file of its own starts with the video that it belongs to.
    Sound is placed by its timestamps: what is earlier is cut, a late start and gaps are zeros. Silence stays silence.

    Raises ``InputError`` where the file cannot be opened, or has a sound stream of which nothing decodes.
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
    sound = np.zeros(max(0, *(at + len(samples) for at, samples in placed)), dtype=np.float32)
    for at, samples in placed:
        kept = samples[max(0, -at):]
        sound[max(0, at):max(0, at) + len(kept)] = kept
    if end is not None and 0 < len(sound) - (kept_to := round((end - zero) * SAMPLE_RATE)) < SAMPLE_RATE // 10:
        sound = sound[:max(0, kept_to)]  # a codec fills its last block up with what was never recorded
    if not len(sound):
        return None
    sound = np.nan_to_num(sound, posinf=0, neginf=0)
    peak = float(np.abs(sound).max())
    return np.rint(sound * (PEAK / peak if peak >= SILENCE else 32767)).astype(np.int16)


@contextmanager
def _opened(path: Path | str) -> Iterator[av.container.InputContainer]:
    """The open file, or FFmpeg's own reason why it is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} has zero bytes; fetch it again")
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # two damaged files in a row are both told their reason
    try:
        with av.logging.Capture() as said:
            container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        reason = said[-1][2].strip() if said else error.strerror
        raise InputError(f"{path} is no video or sound that FFmpeg knows, or is damaged ({reason})") from None
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    with container:
        yield container


def _best(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """The stream that FFmpeg takes for the main one; a cover picture is no video."""
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
    """What decodes of a stream, in order of time: a bad packet is left out, and a file that breaks off ends there."""
    stream.codec_context.thread_count = 1  # a process a clip; see ``cluster``
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
    """Pictures at any times through FFmpeg's ``fps`` filter; the first one is at zero, and at least it is kept."""
    graph = None
    first = last = None
    step = Fraction(1, RATE)
    given = 0
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
            clock, sink = graph.add("fps", str(RATE)), graph.add("buffersink")
            source.link_to(clock)
            clock.link_to(sink)
            graph.configure()
        if not picture.duration:
            picture.duration = round(step / unit)  # at the end the filter asks how long the last picture stays
        picture.pts -= zero
        graph.push(picture)
        for done in _pulled(graph):
            given += 1
            yield done
    if graph is None:
        return
    graph.push(None)
    for done in _pulled(graph):
        given += 1
        yield done
    if not given:
        yield first


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _pixels(picture: av.VideoFrame) -> np.ndarray:
    """The pixels of an RGB picture where they lie, (height, width, 3) uint8, without a copy."""
    plane = picture.planes[0]
    return np.ndarray((picture.height, picture.width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))


def _turn(picture: av.VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """What turns and mirrors an image as the display matrix of ``picture`` asks, in quarter turns.

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
    """When the first picture is shown, in the container's time; None where there is no video in it."""
    with _opened(path) as container:
        stream = _best(container, "video")
        if stream is None:
            return None
        for picture in _decoded(container, stream):
            return (picture.pts or 0) * picture.time_base
    return None


def _runs(pieces: Iterable[av.AudioFrame]) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Sound that hangs together, each run with its start in seconds and float32 (sample,) at 16 kHz, mono."""
    resampler = None
    kind = None
    start = end = Fraction(0)
    run: list[np.ndarray] = []

    def finished() -> tuple[Fraction, np.ndarray]:
        run.extend(piece.to_ndarray()[0] for piece in resampler.resample(None))
        return start, np.concatenate(run) if run else np.zeros(0, np.float32)

    for piece in pieces:
        at = end if piece.pts is None else piece.pts * piece.time_base
        if resampler is None or kind != (piece.format.name, piece.layout.name, piece.sample_rate) \
                or abs(at - end) > GAP_SECONDS:
            if resampler is not None:
                yield finished()
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            kind = (piece.format.name, piece.layout.name, piece.sample_rate)
            start = end = at
            run = []
        end += Fraction(piece.samples, piece.sample_rate)
        piece.pts = None  # the run is placed as a whole
        run.extend(done.to_ndarray()[0] for done in resampler.resample(piece))
    if resampler is not None:
        yield finished()
