"""What spreading the work costs and brings: clips through preprocessing by one worker and by two, and the engine alone.

Prints two tables. The first: equal drawn clips of 640x360 through preprocessing by one worker of one thread, two such
workers, and one worker of two threads (torch and OpenCV; FFmpeg decodes with one), counted from when every worker has
done its first clip until the first of them finds nothing left, so that starting and loading are left out. The second:
items that do nothing, for what the engine adds to each, and the memory of the process that runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from emibook import compute
from emibook.compute import Resources
from emibook.doctor import machine

CLIPS, SECONDS = 32, 4
WAYS = {"1 worker, 1 thread": (1, 1), "2 workers, 1 thread": (2, 1), "1 worker, 2 threads": (1, 2)}


def draw(folder: Path) -> list[Path]:
    """One drawn clip with sound, ``CLIPS`` times."""
    import av
    import numpy as np

    from emibook.puppet.renderer import UNITS, Identity, Puppet, Scene

    rng = np.random.default_rng(0)
    puppet = Puppet(Identity.random(rng), Scene.random(rng), 640, 360)
    first = folder / "00.mp4"
    with av.open(str(first), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        for frame in range(30 * SECONDS):
            units = 2.5 + 2.5 * np.sin(frame / 10 + np.arange(len(UNITS)))
            picture = av.VideoFrame.from_ndarray(puppet.draw(units), format="rgb24")
            out.mux(video.encode(picture))
        out.mux(video.encode())
    return [first, *(Path(shutil.copy(first, folder / f"{i:02}.mp4")) for i in range(1, CLIPS))]


def work(path: Path, folder: Path, threads: int) -> tuple[int, float, float]:
    """Preprocess one clip: the worker's process, when it began, when it was done."""
    import cv2
    import torch

    from emibook.preprocess import preprocess_clip

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    began = time.time()
    row = preprocess_clip(path.stem, path, None, folder)
    if row["status"] != "ok":
        raise RuntimeError(row["error"])
    return os.getpid(), began, time.time()


def rate(paths: list[Path], folder: Path, workers: int, threads: int) -> float:
    """Clips a second while every worker is busy; a clip that lies partly in that time counts in part."""
    done = [result for _, result in compute.run(partial(work, folder=folder, threads=threads), paths, label="engine",
                                                resources=Resources(workers=workers, progress=False))]
    if failures := [result for result in done if isinstance(result, Exception)]:
        raise failures[0]
    own = [[times for process, *times in done if process == each] for each in {process for process, *_ in done}]
    begin, end = max(min(end for _, end in times) for times in own), min(max(end for _, end in times) for times in own)
    inside = [max(0, min(end, b) - max(begin, a)) / (b - a) for _, a, b in done]
    return sum(inside) / (end - begin)


def nothing(count: int) -> tuple[float, float, float]:
    """Seconds until the first of ``count`` items that do nothing, milliseconds an item after it, and MiB at the end."""
    import psutil

    started, moments = time.perf_counter(), []
    for _ in compute.run(abs, range(count), label="engine", resources=Resources(workers=2, progress=False)):
        moments.append(time.perf_counter())
        resident = psutil.Process().memory_info().rss
    return moments[0] - started, 1000 * (moments[-1] - moments[0]) / (count - 1), resident / 2**20


if __name__ == "__main__" and len(sys.argv) == 2:
    print(*nothing(int(sys.argv[1])))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(machine())
        paths, alone = draw(Path(name)), None
        print(f"{'preprocessing':<22} {'clips/s':>8} {'frames/s':>9} {'ratio':>6}")
        for i, (way, (workers, threads)) in enumerate(WAYS.items()):
            clips = rate(paths, Path(name) / str(i), workers, threads)
            alone = alone or clips
            print(f"{way:<22} {clips:>8.3f} {clips * 30 * SECONDS:>9.1f} {clips / alone:>6.2f}", flush=True)
    print(f"\n{'items that do nothing':<22} {'start s':>8} {'ms/item':>9} {'MiB':>6}")
    for count in (200, 2000):
        told = subprocess.run([sys.executable, __file__, str(count)], check=True, capture_output=True, text=True).stdout
        start, each, memory = map(float, told.split())
        print(f"{count:<22} {start:>8.2f} {each:>9.2f} {memory:>6.1f}", flush=True)
