"""Faces from video: the paper's loop, MTCNN on every frame of every clip, beside following a face.

Prints a table for clips of 640x360, 1280x720 and 1920x1080, drawn on the spot, and for the clips of ``--folder``.

    paper     one process, torch with all cores: decode, MTCNN.detect, align, crop, save, frame by frame
    decode    PyAV to RGB arrays and nothing else, by as many workers as cores, one thread each
    ours      emibook's preprocessing of a clip, by the same workers
    ratio     paper / ours;  of decode: ours / decode
    faces     share of frames on which both say the same: the followed face is there, or not
    IoU, marks  medians over frames with a face: of the boxes, and of the landmarks' distance in distances of the eyes
    itself    the same for the cascade on frames resized by 5 %, on every fifth frame: how steady it is

A second table takes the first clip apart: what each step gains, in one process with one thread, decoding left out
except in its last two lines.

Times are milliseconds a frame, all workers together. Start-up (loading MTCNN, starting workers) and each worker's first
clip are left out of them. Private memory is the largest that a worker had.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np

from emibook.doctor import machine

SIZES = ((640, 360), (1280, 720), (1920, 1080))
DIFFERENT, COPIES, SECONDS = 2, 6, 5
SEED = 0
BITS = 2_500_000
"""A second: what browsers record a camera with unless told otherwise."""


def draw(folder: Path, width: int, height: int, seed: int) -> Path:
    """A clip of a drawn person who shows one of the six expressions after the other, with a camera's noise."""
    import av

    from emibook.puppet.acting import EXPRESSIONS
    from emibook.puppet.renderer import Identity, Pose, Puppet, Scene

    rng = np.random.default_rng((SEED, seed))
    puppet = Puppet(Identity.random(rng), Scene.random(rng), width, height)
    path = folder / f"{width}x{height}-{seed}.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.bit_rate = BITS
        for frame in range(30 * SECONDS):
            units = EXPRESSIONS[frame // 35 % 6] * np.sin(np.pi * (frame % 35) / 35)
            pose = Pose(x=0.2 * np.sin(frame / 40), roll=0.1 * np.sin(frame / 25), yaw=0.2 * np.sin(frame / 30))
            picture = av.VideoFrame.from_ndarray(puppet.draw(units, pose=pose, noise_rng=rng), format="rgb24")
            out.mux(video.encode(picture))
        out.mux(video.encode())
    return path


def paper(paths: list[Path], folder: Path) -> tuple[float, float, dict[Path, list]]:
    """Seconds to load, seconds a frame, and the detections of every frame: what a user of facenet-pytorch writes."""
    began = time.perf_counter()
    import cv2
    from facenet_pytorch import MTCNN

    from emibook.preprocess import frames
    from emibook.preprocess.alignment import align
    from emibook.preprocess.detector import NO_FACES, Detections

    cascade = MTCNN(keep_all=True)
    loaded = time.perf_counter() - began
    found: dict[Path, list] = {}
    began = time.perf_counter()
    for path in paths:
        found[path] = []
        for frame, image in enumerate(frames(path)):
            boxes, probabilities, landmarks = cascade.detect(image, landmarks=True)
            if boxes is None:
                found[path].append(NO_FACES)
                continue
            faces = Detections(*(np.asarray(each.tolist(), np.float32) for each in (boxes, probabilities, landmarks)))
            found[path].append(faces)
            crop = align(image, faces.landmarks[0])
            cv2.imwrite(str(folder / f"{frame:06}.jpg"), crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return loaded, (time.perf_counter() - began) / sum(map(len, found.values())), found


def decode(path: Path) -> tuple[int, float, int, float]:
    """The worker, the seconds that the clip took, its frames and the worker's private memory in MiB."""
    import av

    began = time.perf_counter()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        count = sum(picture.to_ndarray(format="rgb24").ndim // 3 for picture in container.decode(video=0))
    return os.getpid(), time.perf_counter() - began, count, 0.0


def ours(path: Path) -> tuple[int, float, int, float]:
    """The same as ``decode`` for preprocessing the clip; the memory is the largest of two looks a second."""
    import psutil

    from emibook.preprocess import preprocess_clip

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            peak[0] = max(peak[0], psutil.Process().memory_full_info().uss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    row = preprocess_clip(path.stem, path, None, path.parent / "work")
    took = time.perf_counter() - began
    done.set()
    watcher.join()
    return os.getpid(), took, int(row["frames"]), peak[0] / 2**20


def spread(task, paths: list[Path], workers: int) -> tuple[float, float, float]:
    """Seconds until the first clip was done, seconds a frame of all workers, largest private memory in MiB."""
    from emibook import compute

    began = time.perf_counter()
    started, seen, spent, count, memory = 0.0, set(), 0.0, 0, 0.0
    resources = compute.Resources(workers=workers, progress=False)
    for path, result in compute.run(task, paths, label=task.__name__, resources=resources):
        if isinstance(result, Exception):
            raise SystemExit(f"{path}: {result}")
        worker, seconds, frames, private = result
        started = started or time.perf_counter() - began - seconds
        memory = max(memory, private)
        if worker in seen:
            spent, count = spent + seconds, count + frames
        seen.add(worker)
    return started, spent / count / workers, memory


def table_row(name: str, originals: list[Path], folder: Path, workers: int) -> str:
    from emibook.preprocess import frames
    from emibook.preprocess.detector import Detector
    from emibook.preprocess.tracking import compare_tracks
    from emibook.preprocess.video_detection import detect_faces

    copies = [path if copy == 0 else Path(shutil.copy(path, folder / f"{path.stem}-{copy}{path.suffix}"))
              for copy in range(max(1, -(-COPIES * DIFFERENT // len(originals)))) for path in originals]
    loaded, loop, truth = paper(originals, folder)
    _, decoding, _ = spread(decode, copies, workers)
    started, following, memory = spread(ours, copies, workers)
    detector = Detector()
    rows = {"ours": [], "itself": []}
    for path in originals:
        rows["ours"].append(compare_tracks(truth[path], [faces for _, faces in detect_faces(frames(path), detector)]))
        smaller = [detector.detect([image], scale=0.95)[0] for image in islice(frames(path), 0, None, 5)]
        rows["itself"].append(compare_tracks(truth[path][::5], smaller))
    agree = " ".join(f"{same:>7.2%} {overlap:.3f} {distance:.3f}" for same, overlap, distance in (
        (each[:, 0].mean(), *np.nanmedian(each[:, 1:], axis=0)) for each in map(np.concatenate, rows.values())))
    return (f"{name:<12} {1e3 * loop:>7.1f} {1e3 * decoding:>7.2f} {1e3 * following:>6.2f} {loop / following:>6.1f} "
            f"{following / decoding:>9.2f}   {agree}   {loaded:>5.1f} {started:>5.1f} {memory:>7.0f}")


def steps(path: Path, count: int = 90) -> str:
    """Milliseconds a frame of finding faces in the first frames of a clip, one improvement after the other."""
    import av
    import cv2
    import torch
    from facenet_pytorch import MTCNN

    from emibook.preprocess import frames, video_detection
    from emibook.preprocess.detector import Detector

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = list(islice(frames(path), count))
    cascade, detector = MTCNN(keep_all=True), Detector()

    def followed(**settings: int) -> None:
        with ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(patch.object(video_detection, name, value))
            list(video_detection.detect_faces(images, detector))

    def decoded() -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            list(islice((picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)), count))

    ways = {
        "the cascade on every frame": lambda: [cascade.detect(image, landmarks=True) for image in images],
        "its networks channels-last": lambda: [detector.detect([image]) for image in images],
        "faces followed, searched every 45 frames": lambda: followed(SKIPPED=0, INTERVAL=45, SHARE_BESIDE=9),
        "searched every 90, beside a face coarsely": lambda: followed(SKIPPED=0),
        "every third picture where all is steady": followed,
        "decoding, a converter for each picture": decoded,
        "decoding on the clock, one converter": lambda: list(islice(frames(path), count)),
    }
    lines = [f"{'step, one thread':<44} {'ms a frame':>10}"]
    for name, way in ways.items():
        way()
        began = time.perf_counter()
        way()
        lines.append(f"{name:<44} {1e3 * (time.perf_counter() - began) / len(images):>10.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder of clips to measure as well")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="worker processes (default: the cores)")
    given = parser.parse_args()
    print(machine())
    print(f"{'clips':<12} {'paper':>7} {'decode':>7} {'ours':>6} {'ratio':>6} {'of decode':>9}   "
          f"{'faces':>7} {'IoU':>5} {'marks':>5} {'itself':>7} {'IoU':>5} {'marks':>5}   "
          f"{'start-up, s':>11} {'MiB':>7}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for width, height in SIZES:
            drawn = [draw(folder, width, height, seed) for seed in range(DIFFERENT)]
            print(table_row(f"{width}x{height}", drawn, folder, given.workers), flush=True)
        if given.folder:
            videos = [Path(shutil.copy(path, folder / f"given-{path.name}")) for path in sorted(given.folder.iterdir())
                      if path.suffix.lower() in {".mp4", ".mov", ".webm", ".mkv", ".avi", ".flv"}]
            print(table_row(given.folder.name, videos, folder, given.workers), flush=True)
        print(f"\n{steps(folder / '640x360-0.mp4')}", flush=True)
