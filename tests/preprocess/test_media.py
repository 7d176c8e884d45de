from __future__ import annotations

import gc
import tracemalloc
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
import pytest
from made_clips import number_in, numbered, tone, turn, write_clip

from emibook import InputError
from emibook.preprocess import FRAME_RATE, SAMPLE_RATE, audio, frames

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


def seen(path):
    return [number_in(image) for image in frames(path)]


def on_the_clock(times, end):
    """The rule, computed without FFmpeg: at tick i the last picture whose time, rounded to the clock, is not later."""
    ticks = [floor((at - times[0]) * FRAME_RATE + Fraction(1, 2)) for at in times]
    last = floor((end - times[0]) * FRAME_RATE + Fraction(1, 2))
    return [max(k for k, tick in enumerate(ticks) if tick <= i) for i in range(last)]


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60),
                                  Fraction(10), Fraction(120)])
def test_a_constant_rate_gives_what_the_fps_filter_gives(tmp_path, rate):
    count = 50
    path = write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(count)], rate=rate)
    times = [i / rate for i in range(count)]
    assert seen(path) == on_the_clock(times, count / rate)


def test_no_step_of_the_clock_is_further_from_its_picture_than_half_a_picture(tmp_path):
    rate, count = Fraction(50), 80
    for i, number in enumerate(seen(write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(count)], rate=rate))):
        assert abs(number / rate - Fraction(i, FRAME_RATE)) <= 1 / rate


@pytest.mark.parametrize(("name", "claimed"), [("a.mp4", 1000), ("a.mkv", 1000), ("a.mp4", 5)])
def test_timestamps_rule_whatever_the_container_claims(tmp_path, name, claimed):
    rng = np.random.default_rng(3)
    steps = [Fraction(int(step), 1000) for step in rng.integers(5, 90, 60)]
    times = [sum(steps[:i], Fraction(0)) for i in range(60)]
    path = write_clip(tmp_path / name, [numbered(i) for i in range(60)], times, rate=claimed)
    with av.open(str(path)) as container:
        stored = [picture.pts * picture.time_base for picture in container.decode(video=0)]
        last = picture_duration(path)
    assert np.allclose([float(at) for at in stored], [float(at) for at in times], atol=1e-3)
    assert seen(path) == on_the_clock(stored, stored[-1] + last)


def picture_duration(path):
    with av.open(str(path)) as container:
        *_, last = container.decode(video=0)
        return last.duration * last.time_base


def test_a_single_picture_without_duration_is_a_frame(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [numbered(77)], rate=1000)
    assert seen(path) == [77]


def test_the_clock_starts_with_the_first_picture(tmp_path):
    start = Fraction(517, 1000)  # between two ticks of a clock that would start at nought
    times = [start + Fraction(i, 24) for i in range(24)]
    path = write_clip(tmp_path / "a.mkv", [numbered(i) for i in range(24)], times, rate=24, sound=tone(1.5))
    with av.open(str(path)) as container:
        stored = [picture.pts * picture.time_base for picture in container.decode(video=0)]
    assert abs(stored[0] - start) <= Fraction(1, 1000)
    assert seen(path) == on_the_clock(stored, stored[-1] + Fraction(1, 24))


@pytest.mark.parametrize(("name", "codec", "pixels"), [
    ("a.mp4", "libx265", "yuv420p"), ("a.webm", "libvpx", "yuv420p"), ("a.wmv", "wmv2", "yuv420p"),
    ("a.mkv", "libx264", "yuv420p10le"), ("a.avi", "mpeg4", "yuv420p"), ("a.flv", "libx264", "yuv420p"),
    ("a.mov", "libx264", "yuv444p"),
])
def test_codecs_and_containers(tmp_path, name, codec, pixels):
    path = write_clip(tmp_path / name, [numbered(i) for i in range(0, 200, 10)], codec=codec, pixels=pixels)
    numbers = seen(path)
    assert list(dict.fromkeys(numbers)) == list(range(0, 200, 10))
    assert abs(len(numbers) - 20) <= 1


def test_the_name_of_a_file_says_nothing_about_its_content(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(10)], codec="libvpx", container="webm")
    assert seen(path) == list(range(10))


def test_odd_sizes_stay_as_they_are(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [numbered(5, 47, 131)] * 3, pixels="yuv444p")
    assert [image.shape for image in frames(path)] == [(47, 131, 3)] * 3


@pytest.mark.parametrize(("matrix", "undone"), [
    ((1, 0, 0, 1), lambda image: image),
    ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # what a phone held upright writes: turn it clockwise
    ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
])
def test_display_matrices_are_applied(tmp_path, matrix, undone):
    corners = np.full((64, 96, 3), 90, np.uint8)
    corners[:24, :24], corners[:24, -24:], corners[-24:, :24] = (250, 30, 30), (30, 250, 30), (30, 30, 250)
    path = turn(write_clip(tmp_path / "a.mp4", [corners] * 4), matrix)
    shown = list(frames(path))
    assert len(shown) == 4
    assert shown[0].shape == undone(corners).shape
    assert np.abs(shown[0].astype(int) - undone(corners)).mean() < 12


def test_colours_survive(tmp_path):
    """As they do with the matrix and the range of any standard, because the file says which it uses."""
    patches = np.array([(220, 40, 40), (40, 220, 40), (40, 40, 220), (200, 150, 120)], np.uint8)
    image = np.broadcast_to(np.repeat(patches, 24, axis=0), (48, 96, 3)).copy()
    out = next(frames(write_clip(tmp_path / "a.mp4", [image] * 2, pixels="yuv444p")))
    assert np.abs(out[24, 12::24].astype(int) - patches).max() <= 6


def test_a_size_that_changes_midway_is_brought_back_to_the_first(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        stream, offset = None, 0
        for part, (height, width) in enumerate(((48, 128), (96, 256), (48, 128))):
            piece = write_clip(tmp_path / f"{part}.webm", [numbered(10 * part + i, height, width) for i in range(8)],
                               codec="libvpx")
            with av.open(str(piece)) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        out.mux(packet)
            offset += 267
    with av.open(str(tmp_path / "a.webm")) as container:
        assert {(picture.width, picture.height) for picture in container.decode(video=0)} == {(128, 48), (256, 96)}
    images = list(frames(tmp_path / "a.webm"))
    assert {image.shape for image in images} == {(48, 128, 3)}
    assert [number_in(image) for image in images] == [10 * part + i for part in range(3) for i in range(8)]


def test_pictures_come_one_at_a_time(tmp_path):
    """Memory does not grow with the clip: the first picture is there before the second is decoded."""
    path = write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(100)])
    tracemalloc.start()
    for _ in frames(path):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 48 * 128 * 3


def half(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    return path


def test_a_truncated_mp4_is_refused_and_a_truncated_webm_is_read_to_its_end(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 128, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="a.mp4 is not a video.*moov atom not found"):
        list(frames(half(write_clip(tmp_path / "a.mp4", noise))))
    count = len(list(frames(half(write_clip(tmp_path / "a.webm", noise, codec="libvpx")))))
    assert 5 < count < 55


def test_damage_in_the_middle_costs_only_what_it_hit(tmp_path):
    path = write_clip(tmp_path / "a.mkv", [numbered(i) for i in range(60)], codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 300] = bytes(300)
    path.write_bytes(data)
    numbers = seen(path)
    assert numbers[:20] == list(range(20)) and numbers[-10:] == list(range(50, 60)) and len(numbers) == 60


@pytest.mark.parametrize(("content", "said"), [
    (None, "no such file"), (b"", "has zero bytes"), (b"no video" * 100, "not a video or sound file")])
@pytest.mark.parametrize("read", [lambda path: next(frames(path)), audio])
def test_a_file_that_is_not_a_video_is_reported(tmp_path, content, said, read):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read(path)
    assert "a.mp4" in str(caught.value) and "\n" not in str(caught.value)


def test_sound_alone_has_no_pictures_and_pictures_alone_no_sound(tmp_path):
    with pytest.raises(InputError, match="no video stream in .*a.mp4"):
        next(frames(write_clip(tmp_path / "a.mp4", [], sound=tone(1))))
    assert audio(write_clip(tmp_path / "b.mp4", [numbered(0)] * 3)) is None


def onset(sound):
    return np.flatnonzero(np.abs(sound.astype(int)) > 2000)[0] / SAMPLE_RATE


@pytest.mark.parametrize(("name", "codec", "sound_codec", "rate"), [
    ("a.mp4", "libx264", "aac", 44100), ("b.mp4", "libx264", "libmp3lame", 48000), ("c.mp4", "libx264", "aac", 8000),
    ("a.webm", "libvpx", "libopus", 48000), ("a.mov", "libx264", "pcm_s16le", 16000)])
def test_sound_keeps_its_length_and_position(tmp_path, name, codec, sound_codec, rate):
    """A codec delays what it encodes and fills its last block up; the timestamps know both."""
    path = write_clip(tmp_path / name, [numbered(0)] * 60, codec=codec, sound=tone(2, rate, start=1),
                      sound_rate=rate, sound_codec=sound_codec)
    sound = audio(path)
    assert sound.dtype == np.int16 and sound.ndim == 1
    assert abs(len(sound) - 2 * SAMPLE_RATE) <= 2
    assert abs(onset(sound) - 1) < 0.003


@pytest.mark.parametrize(("video_start", "sound_start", "expected"), [
    (Fraction(0), Fraction(1, 2), 1.0), (Fraction(1, 2), Fraction(0), 0.0), (Fraction(3, 10), Fraction(0), 0.2)])
def test_sound_counts_from_the_first_picture(tmp_path, video_start, sound_start, expected):
    times = [video_start + Fraction(i, 30) for i in range(30)]
    path = write_clip(tmp_path / "a.mkv", [numbered(0)] * 30, times, sound=tone(2, start=0.5),
                      sound_start=sound_start)
    sound = audio(path)
    assert abs(onset(sound) - expected) < 0.004
    if expected == 1:
        assert not sound[:round(0.45 * SAMPLE_RATE)].any()
    assert abs(len(sound) / SAMPLE_RATE - (2 + float(sound_start - video_start))) < 0.025


def test_a_gap_in_the_sound_is_silence(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 24000):
            samples = (tone(0.5, 16000) * 32767).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            block.rate, block.time_base, block.pts = 16000, Fraction(1, 16000), start
            out.mux(stream.encode(block))
    sound = audio(tmp_path / "a.mkv")
    assert abs(len(sound) - 32000) <= 16
    assert not sound[8200:23800].any() and np.abs(sound[24100:]).max() > 20000


def test_peak_and_mixing_down(tmp_path):
    for level in (0.9, 0.5, 0.002):
        sound = audio(write_clip(tmp_path / "a.mov", [numbered(0)] * 3, sound=2 * level * tone(0.5),
                                 sound_codec="pcm_f32le"))
        assert abs(20 * np.log10(np.abs(sound.astype(float)).max() / 32767) + 3) < 0.01
        crossings = np.count_nonzero((sound[800:7199] < 0) & (sound[801:7200] >= 0))
        assert abs(crossings - 440 * 0.4) <= 1


def test_both_channels_are_heard(tmp_path):
    low, high = tone(1, 16000, 300), tone(1, 16000, 2000)
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="stereo")
        both = (np.stack([low, high], axis=1) * 32767).astype(np.int16).reshape(1, -1)
        block = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        block.rate = 16000
        out.mux([*stream.encode(block), *stream.encode()])
    sound = audio(tmp_path / "a.wav").astype(float)
    assert len(sound) == 16000
    for part in (low, high):
        assert np.corrcoef(sound, part)[0, 1] == pytest.approx(np.sqrt(0.5), abs=0.01)


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "pcm_s16le"])
def test_silence_stays_silence(tmp_path, codec):
    path = write_clip(tmp_path / "a.mov", [numbered(0)] * 30, sound=np.zeros(44100), sound_codec=codec)
    assert len(audio(path)) == pytest.approx(SAMPLE_RATE, abs=2)
    assert not audio(path).any()


def test_the_rounding_error_of_a_codec_is_not_amplified(tmp_path):
    path = write_clip(tmp_path / "a.mov", [numbered(0)] * 30, sound=1e-4 * tone(1), sound_codec="pcm_f32le")
    assert np.abs(audio(path).astype(int)).max() <= 2


@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not at hand")
def test_real_clips():
    counts = {path.name: sum(1 for _ in frames(path)) for path in CLIPS.glob("*.m[po]*")}
    assert counts == {"single_face.mp4": 72, "no_face.mp4": 120, "face_noface.mov": 192, "fer_test.mp4": 138,
                      "facenet_video.mp4": 126}
    assert onset(audio(CLIPS / "face_noface.mov")) > 2.42
    assert audio(CLIPS / "fer_test.mp4") is None


def test_the_reason_is_reported_every_time(tmp_path):
    """A reason does not depend on what was opened before it."""
    write_clip(tmp_path / "whole.mp4", [numbered(number) for number in range(6)])
    torn = tmp_path / "torn.mp4"
    whole = (tmp_path / "whole.mp4").read_bytes()
    torn.write_bytes(whole[: whole.index(b"moov") - 4])
    said = set()
    for _ in range(3):
        with pytest.raises(InputError) as told:
            next(frames(torn))
        said.add(str(told.value))
    assert len(said) == 1 and "moov atom" in said.pop()


def test_pictures_that_were_read_do_not_wait_for_the_garbage_collection(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [numbered(number) for number in range(40)])
    gc.collect()
    gc.disable()
    try:
        for _ in frames(path):
            pass
        held = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert held < 5
